//! `inbox/`: what a running job is told, a file each, numbered in the order of arrival.
//!
//! Nobody holds a lock meanwhile, so that a process that is stopped (SIGSTOP, a frozen control
//! group) is in nobody's way. The protocol has two sides.
//!
//! A sender
//! 1. writes the message, durably, under a name of its own ([`Draft`]),
//! 2. renames it so that its name reserves the next number,
//! 3. reads the [state]: the inbox is open, and the number was not used meanwhile,
//! 4. links it to `<number>.json`. This step accepts the message. It fails if the number is taken
//!    or the reservation is gone, and the sender begins again.
//!
//! The holder of the job's lock (its worker, or whoever writes the end of a lost job)
//! 1. writes into the state which numbers it will free, or closes the inbox,
//! 2. removes the reservations of these numbers, or all,
//! 3. then frees the numbers, or reads what the inbox holds for the last time.
//!
//! A sender whose third step came before the first one here had made its reservation before that,
//! so that the second finds it: the sender has linked it by then, or never can. So no number is
//! given twice, and what was accepted is delivered or reported as undelivered.
//!
//! When claude has taken a message in, the worker sets its file aside, and removes it with the end
//! of the turn: until then the conversation that holds it may get lost, and it is told anew.

mod draft;
mod legacy;
mod state;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::flock::Mode;
use super::{Context, Identity, JobDir, StoreError, TURNS, files, open_bell, ring_bell};
use crate::checkpoint::checkpoint;
use crate::job::{Directive, Undelivered};
use crate::text::one_line;
use draft::{Draft, Published};
use legacy::Desk;
use state::State;

/// The directory's name in that of the job.
const INBOX: &str = "inbox";
/// Where those lie that were taken in by a turn that has not ended.
const ASIDE: &str = ".taken";
/// Rung when something was put in.
const BELL: &str = ".bell";
/// Bytes of a directive that are read at most: a message may have ten million, and be escaped.
const DIRECTIVE_READ: u64 = 64 << 20;
/// Messages that a result names at most; the others stay in the inbox like these.
const UNDELIVERED_TOLD: usize = 100;
/// Digits of a number in a file's name at least, so that names sort as numbers do.
const DIGITS: usize = 10;
/// The highest number: programs that read JSON numbers as doubles know it exactly.
const HIGHEST: u64 = 999_999_999_999_999;
/// The highest number that a worker of an earlier version reads.
const LEGACY_HIGHEST: u64 = 9_999_999_999;

/// Something that lies in the inbox.
#[derive(Debug)]
pub struct Item {
    /// Its place in the order of arrival.
    pub number: u64,
    /// What it says, or why it cannot be understood.
    pub directive: Result<Directive, String>,
}

/// How an attempt to post ended.
enum Attempt {
    Accepted(u64),
    Closed,
    /// The draft was removed: the inbox was closed, and may be open again.
    Revoked,
}

impl JobDir {
    /// The inbox's bell, to be listened to: it rings when something was put in.
    pub fn open_inbox_bell(&self) -> io::Result<File> {
        open_bell(&self.make_inbox().map_err(io::Error::other)?.join(BELL))
    }

    /// Wakes the worker up, should a sender have died before it did so.
    pub fn ring_inbox_bell(&self) {
        ring_bell(&self.file(INBOX).join(BELL));
    }

    /// The path of the inbox, which is made where it is missing.
    fn make_inbox(&self) -> Result<PathBuf, StoreError> {
        let path = self.file(INBOX);
        files::make_directory(&path, false)?;
        Ok(path)
    }

    /// Puts something into the inbox of this very job, durably, and returns its number; `None` if
    /// the job has ended, or is gone and another one has its path.
    pub fn post(&self, directive: &Directive, to: &Identity) -> Result<Option<u64>, StoreError> {
        let text = serde_json::to_vec(directive).context("write", &self.file(INBOX))?;
        loop {
            match self.try_post(&text, to)? {
                Attempt::Accepted(number) => return Ok(Some(number)),
                Attempt::Closed => return Ok(None),
                Attempt::Revoked => {}
            }
        }
    }

    fn try_post(&self, text: &[u8], to: &Identity) -> Result<Attempt, StoreError> {
        let inbox = self.file(INBOX);
        let mode = match state::read(&inbox)? {
            State::Open { .. } => Mode::Shared,
            State::Closed => return Ok(Attempt::Closed),
            State::Legacy => Mode::Exclusive,
        };
        checkpoint("send:looked");
        let draft = self.make_inbox().and_then(|inbox| Draft::write(&inbox, text));
        checkpoint("send:written");
        // The job may have been removed, and its path taken by another. A draft in the directory
        // of the right one is gone with that, so that this is asked only once.
        if self.identity().as_ref() != Some(to) {
            return Ok(Attempt::Closed);
        }
        let mut draft = draft?;
        let lock = match legacy::lock(&inbox, mode) {
            // It keeps senders of earlier versions away, of which one may be stopped.
            Err(_) if mode == Mode::Shared => None,
            lock => Some(lock?),
        };
        checkpoint("send:locked");
        let mut taken = 0;
        let number = loop {
            let (last, highest) = match state::read(&inbox)? {
                State::Open { last } => (last, HIGHEST),
                State::Closed => return Ok(Attempt::Closed),
                State::Legacy if mode == Mode::Shared => return Ok(Attempt::Revoked),
                State::Legacy => {
                    let desk = Desk::read(&inbox);
                    if desk.closed {
                        return Ok(Attempt::Closed);
                    }
                    (desk.last.max(highest_in(&inbox.join(ASIDE))?), LEGACY_HIGHEST)
                }
            };
            let mut number = last.max(highest_in(&inbox)?).max(taken) + 1;
            if number > highest {
                // Somebody else's file may have the highest number, and need not be counted.
                number = last.max(highest_of(&self.pending(&BTreeSet::new())?)).max(taken) + 1;
            }
            if lock.is_none() {
                // The one that holds it may replace whatever gets the next number of its own count.
                number = number.max(Desk::read(&inbox).last + 1) + 1;
            }
            if number > highest {
                return Err(no_number_after(highest)).context("number a message in", &inbox);
            }
            checkpoint("send:numbered");
            if mode == Mode::Exclusive {
                Desk { last: number, closed: false }.write(&inbox);
            }
            if !draft.reserve(number)? {
                return Ok(Attempt::Revoked);
            }
            checkpoint("send:reserved");
            match state::read(&inbox)? {
                State::Open { last } if last >= number => continue,
                State::Open { .. } => {}
                State::Closed => return Ok(Attempt::Closed),
                State::Legacy if mode == Mode::Shared => return Ok(Attempt::Revoked),
                State::Legacy => {}
            }
            checkpoint("send:checked");
            match draft.publish(number)? {
                Published::Accepted => break number,
                Published::Taken => taken = number,
                Published::Revoked => return Ok(Attempt::Revoked),
            }
        };
        checkpoint("send:linked");
        drop(draft);
        ring_bell(&inbox.join(BELL));
        match files::sync_directory(&inbox) {
            // The job has ended, and was removed.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
        checkpoint("send:posted");
        Ok(Attempt::Accepted(number))
    }

    /// What lies in the inbox, in the order of arrival, but for these numbers.
    pub fn pending(&self, known: &BTreeSet<u64>) -> Result<Vec<Item>, StoreError> {
        items_in(&self.file(INBOX), known)
    }

    /// The same for the holder of the job's lock, who may take these items out then: no other
    /// message gets their numbers.
    pub fn receive(&self, known: &BTreeSet<u64>) -> Result<Vec<Item>, StoreError> {
        let items = self.pending(known)?;
        self.use_up(highest_of(&items));
        Ok(items)
    }

    /// Sees to it that no message gets a number up to this one.
    fn use_up(&self, last: u64) {
        let inbox = self.file(INBOX);
        // Also where the state knows this number: it may have been noted by one that died then.
        if last > 0 {
            state::advance(&inbox, last);
            checkpoint("inbox:advanced");
            draft::revoke(&inbox, Some(last));
            checkpoint("inbox:revoked");
            Desk { last: state::last(&inbox), closed: false }.write(&inbox);
        }
    }

    /// Takes something out for good; false if it is still there, as a directory that somebody else
    /// has put there. The holder of the job's lock has received it.
    pub fn take_out(&self, number: u64) -> bool {
        let inbox = self.file(INBOX);
        let remove = |path: PathBuf| match fs::remove_file(path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        let places = [inbox.join(name_of(number)), inbox.join(ASIDE).join(name_of(number))];
        places.map(remove) == [true, true]
    }

    /// Takes back something that was put into the inbox of a job that has ended, if nobody has
    /// closed it and so reported what it held; false if somebody has, or will.
    pub fn take_back(&self, number: u64) -> Result<bool, StoreError> {
        // Whoever else gets this lock reads the inbox, or closes it.
        let Some(_lock) = self.try_lock()? else { return Ok(false) };
        let has_ended = self.load().is_ok_and(|record| !record.status.is_live());
        let inbox = self.file(INBOX);
        if !has_ended || state::read(&inbox)? == State::Closed {
            return Ok(false);
        }
        self.use_up(number);
        Ok(fs::remove_file(inbox.join(name_of(number))).is_ok())
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
        items.iter().filter(|item| item.is_message()).map(|item| item.number).collect()
    }

    /// Puts back what was set aside: nobody knows of it any more.
    pub fn give_back(&self) {
        let inbox = self.file(INBOX);
        for name in self.aside().into_iter().map(name_of) {
            let _ = fs::rename(inbox.join(ASIDE).join(&name), inbox.join(&name));
        }
    }

    /// Closes the inbox, for the holder of the job's lock: from now on nothing is accepted, and the
    /// messages in it, which are returned, were not delivered. Requests to the worker end with it.
    pub fn close_inbox(&self) -> Result<Vec<Item>, StoreError> {
        let inbox = self.make_inbox()?;
        // Where this fails the record says all the same that the job has ended.
        let _ = state::close(&inbox);
        checkpoint("inbox:closed");
        draft::revoke(&inbox, None);
        checkpoint("inbox:emptied");
        let _ = fs::remove_file(inbox.join(BELL));
        let items = self.pending(&BTreeSet::new())?;
        state::advance(&inbox, highest_of(&items));
        Desk { last: state::last(&inbox), closed: true }.write(&inbox);
        let (messages, others): (Vec<_>, Vec<_>) = items.into_iter().partition(Item::is_message);
        for request in others.iter().filter(|item| item.directive.is_ok()) {
            self.take_out(request.number);
        }
        Ok(messages)
    }

    /// Opens the inbox for another attempt, or as its first worker; for the holder of the job's
    /// lock.
    pub fn open_inbox(&self) -> Result<(), StoreError> {
        let inbox = self.make_inbox()?;
        let desk = Desk::read(&inbox);
        // After a power failure some of them may be missing: the highest one counts.
        let used = [
            state::last(&inbox),
            desk.last,
            highest_in(&inbox)?,
            highest_in(&inbox.join(ASIDE))?,
            self.highest_taken_in(),
        ];
        let last = used.into_iter().max().unwrap_or_default();
        state::open(&inbox, last)?;
        if last > desk.last || desk.closed {
            Desk { last, closed: false }.write(&inbox);
        }
        Ok(())
    }

    /// The highest number of a message that a turn has taken in.
    fn highest_taken_in(&self) -> u64 {
        #[derive(Deserialize)]
        struct Line {
            messages: Vec<u64>,
        }
        let Ok(Some(turns)) = self.open(TURNS) else { return 0 };
        let lines = BufReader::new(turns).split(b'\n').map_while(Result::ok);
        let turns = lines.filter_map(|line| serde_json::from_slice::<Line>(&line).ok());
        turns.flat_map(|turn| turn.messages).max().unwrap_or_default()
    }
}

impl Item {
    fn is_message(&self) -> bool {
        matches!(self.directive, Ok(Directive::Message { .. }))
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

/// The highest number of what can be understood; 0 if nothing can. The number of a file that
/// somebody else has put there is not used up: it may be the highest one that there is.
fn highest_of(items: &[Item]) -> u64 {
    let last = items.iter().rfind(|item| item.directive.is_ok());
    last.map_or(0, |item| item.number)
}

/// The highest number of the files in a directory; 0 where there is none.
fn highest_in(path: &Path) -> Result<u64, StoreError> {
    Ok(numbers_in(path)?.last().copied().unwrap_or_default())
}

fn no_number_after(last: u64) -> io::Error {
    io::Error::other(format!(
        "no number is left after {last}; a copy of its conversation takes messages again (start \
         --resume-job)"
    ))
}

fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}.json")
}

fn number_of(name: &str) -> Option<u64> {
    let number = number_in(name.strip_suffix(".json")?)?;
    // Each number has one name.
    if name_of(number) == name { Some(number) } else { None }
}

/// The number that the text is, if it is one that a message can have.
fn number_in(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { text.parse().ok().filter(|&number| number <= HIGHEST) } else { None }
}

#[cfg(test)]
mod tests;
