//! `inbox/`: what a running job is told, a file each, numbered in the order of arrival.
//!
//! Whoever tells a job something writes a complete file under a temporary name and renames it in,
//! holding the inbox's own lock, under which the numbers are given out and the worker closes the
//! inbox at the job's end: what was accepted is delivered or reported, and nothing comes too late
//! unseen. When claude has taken a message in, the worker sets its file aside, and removes it with
//! the end of the turn: until then the conversation that holds it may get lost, and it is told anew.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Context, JobDir, StoreError, files, open_bell, ring_bell};
use crate::checkpoint::checkpoint;
use crate::job::{Directive, Undelivered};
use crate::text::one_line;

/// The directory's name in that of the job.
const INBOX: &str = "inbox";
/// Whether it is open, and the next number. Its own lock, too.
const DESK: &str = ".desk";
/// Where those lie that were taken in by a turn that has not ended.
const ASIDE: &str = ".taken";
/// Rung when something was put in.
const BELL: &str = ".bell";
/// Bytes of a directive that are read at most: a message may have ten million, and be escaped.
const DIRECTIVE_READ: u64 = 64 << 20;
/// Messages that a result names at most; the others stay in the inbox like these.
const UNDELIVERED_TOLD: usize = 100;
/// Digits of a number in a file's name, so that names sort as numbers do.
const DIGITS: usize = 10;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Desk {
    last: u64,
    closed: bool,
}

/// Something that lies in the inbox.
#[derive(Debug)]
pub struct Item {
    /// Its place in the order of arrival.
    pub number: u64,
    /// What it says, or why it cannot be understood.
    pub directive: Result<Directive, String>,
}

/// The inbox, locked.
struct Open {
    path: PathBuf,
    desk: File,
    state: Desk,
}

impl Open {
    fn save(&mut self) -> Result<(), StoreError> {
        use std::os::unix::fs::FileExt;
        // Short enough to be written at once; a torn one is made up for by the names.
        let text = format!("{:<60}\n", serde_json::to_string(&self.state).unwrap_or_default());
        self.desk.write_all_at(text.as_bytes(), 0).context("write", &self.path.join(DESK))
    }
}

impl JobDir {
    /// The inbox's bell, to be listened to: it rings when something was put in.
    pub fn open_inbox_bell(&self) -> io::Result<File> {
        open_bell(&self.make_inbox().map_err(io::Error::other)?.join(BELL))
    }

    /// The path of the inbox, which is made where it is missing.
    fn make_inbox(&self) -> Result<PathBuf, StoreError> {
        let path = self.file(INBOX);
        files::make_directory(&path, false)?;
        Ok(path)
    }

    /// Puts something in, durably, and gives its number; `None` if the inbox is closed because
    /// the job has come to its end.
    pub fn post(&self, directive: &Directive) -> Result<Option<u64>, StoreError> {
        let mut open = self.open_inbox()?;
        if open.state.closed {
            return Ok(None);
        }
        let number = open.state.last + 1;
        let temporary = open.path.join(format!(".{number}.tmp"));
        let text = serde_json::to_vec(directive).context("write", &temporary)?;
        files::write_durably(&temporary, &text)?;
        checkpoint("send:written");
        open.state.last = number;
        open.save()?;
        let path = open.path.join(name_of(number));
        fs::rename(&temporary, &path).context("create", &path)?;
        ring_bell(&open.path.join(BELL));
        files::sync_directory(&open.path)?;
        checkpoint("send:posted");
        Ok(Some(number))
    }

    /// What lies in the inbox, in the order of arrival, but for these numbers.
    pub fn pending(&self, known: &BTreeSet<u64>) -> Result<Vec<Item>, StoreError> {
        items_in(&self.file(INBOX), known)
    }

    /// Takes something out for good.
    pub fn take_out(&self, number: u64) {
        let inbox = self.file(INBOX);
        for path in [inbox.join(name_of(number)), inbox.join(ASIDE).join(name_of(number))] {
            let _ = fs::remove_file(path);
        }
    }

    /// Takes back something that was put in and that nobody will read; false if somebody has: the
    /// worker has acted upon it, or closed the inbox and reported it as undelivered.
    pub fn take_back(&self, number: u64) -> bool {
        // Under the lock under which the inbox is closed.
        match self.open_inbox() {
            Ok(open) if open.state.closed => false,
            Ok(open) => fs::remove_file(open.path.join(name_of(number))).is_ok(),
            // It is gone with its inbox.
            Err(_) => true,
        }
    }

    /// Sets something aside that was taken in.
    pub fn set_aside(&self, number: u64) {
        let (inbox, name) = (self.file(INBOX), name_of(number));
        let aside = inbox.join(ASIDE);
        let moved = files::make_directory(&aside, false)
            .is_ok_and(|()| fs::rename(inbox.join(&name), aside.join(&name)).is_ok());
        if !moved {
            // Heard twice would be worse than not told again should its conversation get lost.
            self.take_out(number);
        }
    }

    /// The numbers of what was set aside, in the order of arrival.
    pub fn aside(&self) -> Vec<u64> {
        numbers_in(&self.file(INBOX).join(ASIDE)).unwrap_or_default()
    }

    /// What was set aside, in the order of arrival.
    pub fn items_aside(&self) -> Vec<Item> {
        items_in(&self.file(INBOX).join(ASIDE), &BTreeSet::new()).unwrap_or_default()
    }

    /// The numbers of the messages that were accepted, and that no turn which has ended has taken
    /// in, in the order of arrival, as far as the inbox tells.
    pub fn open_messages(&self) -> Vec<u64> {
        // First those that claude has not taken in: one that is set aside meanwhile is in either.
        let mut items = self.pending(&BTreeSet::new()).unwrap_or_default();
        items.extend(self.items_aside());
        let is_message = |item: &Item| matches!(item.directive, Ok(Directive::Message { .. }));
        items.iter().filter(|item| is_message(item)).map(|item| item.number).collect()
    }

    /// Puts back what was set aside: nobody knows of it any more.
    pub fn give_back(&self) {
        let inbox = self.file(INBOX);
        for name in self.aside().into_iter().map(name_of) {
            let _ = fs::rename(inbox.join(ASIDE).join(&name), inbox.join(&name));
        }
    }

    /// Closes the inbox: from now on nothing can be put in, and what is still in there was not
    /// delivered.
    pub fn close_inbox(&self) -> Result<Vec<Item>, StoreError> {
        if !self.file(INBOX).is_dir() {
            return Ok(Vec::new());
        }
        let mut open = self.open_inbox()?;
        open.state.closed = true;
        // On a full disk it may stay open: the record says all the same that the job has ended.
        let _ = open.save();
        let _ = fs::remove_file(open.path.join(BELL));
        self.pending(&BTreeSet::new())
    }

    /// Opens it again, for another attempt.
    pub fn reopen_inbox(&self) -> Result<(), StoreError> {
        let mut open = self.open_inbox()?;
        open.state.closed = false;
        open.save()
    }

    fn open_inbox(&self) -> Result<Open, StoreError> {
        let path = self.make_inbox()?;
        let at = path.join(DESK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let desk = files::open(&at, &mut options).context("open", &at)?;
        desk.lock().context("lock", &at)?;
        let text = files::read_bounded(&at, 1_000).context("read", &at)?;
        let mut state: Desk = serde_json::from_slice(&text).unwrap_or_default();
        // A number that was given out is not given again, whatever became of the desk.
        let there = numbers_in(&path).unwrap_or_default().into_iter().chain(self.aside());
        state.last = state.last.max(there.max().unwrap_or_default());
        Ok(Open { path, desk, state })
    }
}

/// What lies in a directory, in the order of arrival, but for these numbers.
fn items_in(path: &Path, known: &BTreeSet<u64>) -> Result<Vec<Item>, StoreError> {
    let mut numbers = numbers_in(path)?;
    numbers.retain(|number| !known.contains(number));
    let read = |number| {
        let text = files::read_bounded(&path.join(name_of(number)), DIRECTIVE_READ);
        let directive = text
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        Item { number, directive }
    };
    Ok(numbers.into_iter().map(read).collect())
}

/// The numbers of the files in a directory, in order.
fn numbers_in(path: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("read", path)?,
    };
    let mut numbers: Vec<u64> =
        entries.flatten().filter_map(|entry| number_of(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Of what lies in a closed inbox: the messages, as they are reported.
pub fn undelivered(items: Vec<Item>) -> Vec<Undelivered> {
    let message = |item: Item| match item.directive {
        Ok(Directive::Message { text, .. }) => {
            Some(Undelivered { number: item.number, text: one_line(&text, 200) })
        }
        _ => None,
    };
    items.into_iter().filter_map(message).take(UNDELIVERED_TOLD).collect()
}

fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}.json")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
