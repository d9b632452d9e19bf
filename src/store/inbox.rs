//! `inbox/`: messages and requests to a running job, one file each, numbered in the order of arrival.
//!
//! Neither side holds a lock of the inbox, so a process that is stopped (SIGSTOP, a frozen control
//! group) blocks no other. The protocol has two sides.
//!
//! A sender
//! 1. writes the message, durably, under a name of its own ([`Draft`]),
//! 2. renames it so that its name reserves the next number,
//! 3. reads the [state]: the inbox is open, and the number was not used meanwhile,
//! 4. links it to `<number>.json`. This step accepts the message. It fails if the number is taken
//!    or the reservation is gone, and the sender begins again.
//!
//! The holder of the job's lock (its worker, or the process that finalizes a lost job)
//! 1. writes into the state which numbers it will free, or closes the inbox,
//! 2. removes the reservations of these numbers, or all,
//! 3. then frees the numbers, or reads what the inbox holds for the last time.
//!
//! A sender whose third step came before the first step of the holder had made its reservation before
//! that, so the holder's second step finds it: the sender has linked it by then, or never can. So no
//! number is used twice, and an accepted message is delivered or reported as undelivered.
//!
//! When claude has accepted a message, the worker sets its file aside, and removes it at the end of
//! the turn: until then the conversation with the message may get lost, and it is sent again.

mod aside;
mod draft;
mod legacy;
mod state;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::flock::LockMode;
use super::{Context, DirIdentity, JobDir, StoreError, TURNS, files, notify, open_wake_fifo};
use crate::fault_point::fault_point;
use crate::job::{InboxMessage, UndeliveredMessage};
use crate::json;
use crate::text::one_line;
use draft::{Draft, Published};
use legacy::LegacyState;
use state::InboxState;

/// Name of the directory in the job's directory.
pub(super) const INBOX: &str = "inbox";
/// Wakes the worker when an item was added. The name is a protocol.
const WAKE_FIFO: &str = ".bell";
/// A message may have ten million bytes, and be escaped.
const MAX_MESSAGE_FILE_BYTES: u64 = 64 << 20;
/// Messages listed in a result. All of them stay in the inbox.
const MAX_UNDELIVERED_SHOWN: usize = 100;
/// Minimum number of digits in a file's name, so that names sort as numbers do.
const MIN_NUMBER_DIGITS: usize = 10;
/// Programs that read JSON numbers as doubles represent it exactly.
const MAX_NUMBER: u64 = 999_999_999_999_999;
/// The highest number that a worker of an earlier version reads.
const LEGACY_MAX_NUMBER: u64 = 9_999_999_999;

/// A file of the inbox.
#[derive(Debug)]
pub(crate) struct InboxItem {
    /// Index in the order of arrival.
    pub number: u64,
    /// The content, or the reason why it cannot be read.
    pub content: Result<InboxMessage, String>,
}

enum PostResult {
    Accepted(u64),
    Closed,
    /// The draft was removed: the inbox was closed, and may be open again.
    Revoked,
}

impl JobDir {
    /// Opens the inbox's FIFO for waiting: it becomes readable when an item was added.
    pub(crate) fn open_inbox_fifo(&self) -> io::Result<File> {
        open_wake_fifo(&self.create_inbox().map_err(io::Error::other)?.join(WAKE_FIFO))
    }

    /// Wakes the worker, because a sender may have died before it did so.
    pub(crate) fn notify_inbox(&self) {
        notify(&self.file(INBOX).join(WAKE_FIFO));
    }

    /// Creates the inbox if it is missing, and returns its path.
    fn create_inbox(&self) -> Result<PathBuf, StoreError> {
        let path = self.file(INBOX);
        files::create_directory(&path, false)?;
        Ok(path)
    }

    /// Adds a message durably to the inbox of the job with this identity, and returns its number.
    /// Returns `None` if the job has ended, or was removed and another one has its path.
    pub(crate) fn post(
        &self,
        message: &InboxMessage,
        to: &DirIdentity,
    ) -> Result<Option<u64>, StoreError> {
        let text = serde_json::to_vec(message).context("write", &self.file(INBOX))?;
        loop {
            match self.try_post(&text, to)? {
                PostResult::Accepted(number) => return Ok(Some(number)),
                PostResult::Closed => return Ok(None),
                PostResult::Revoked => {}
            }
        }
    }

    fn try_post(&self, text: &[u8], to: &DirIdentity) -> Result<PostResult, StoreError> {
        let inbox = self.file(INBOX);
        let mode = match state::read(&inbox)? {
            InboxState::Open { .. } => LockMode::Shared,
            InboxState::Closed => return Ok(PostResult::Closed),
            InboxState::Legacy => LockMode::Exclusive,
        };
        fault_point("send:looked");
        let draft = match self.create_inbox() {
            Ok(inbox) => Draft::write(&inbox, text),
            Err(error) => Err(error),
        };
        fault_point("send:written");
        // The job may have been removed, and another one may have its path. A draft in the directory
        // of the right job is removed with the job, so one check is enough.
        if self.identity().as_ref() != Some(to) {
            return Ok(PostResult::Closed);
        }
        let draft = draft?;
        let lock = match legacy::lock(&inbox, mode) {
            // The lock only excludes senders of earlier versions. One of them may be stopped.
            Err(_) if mode == LockMode::Shared => None,
            lock => Some(lock?),
        };
        fault_point("send:locked");
        let result = self.publish(draft, mode, lock.is_some())?;
        if !matches!(result, PostResult::Accepted(_)) {
            return Ok(result);
        }
        notify(&inbox.join(WAKE_FIFO));
        match files::sync_directory(&inbox) {
            // The job has ended and was removed.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
        fault_point("send:posted");
        Ok(result)
    }

    /// Reserves a number for the draft and accepts it, until that succeeds or is refused.
    fn publish(
        &self,
        mut draft: Draft,
        mode: LockMode,
        is_locked: bool,
    ) -> Result<PostResult, StoreError> {
        let inbox = self.file(INBOX);
        let mut taken = 0;
        loop {
            let state = state::read(&inbox)?;
            if let Some(refused) = refusal(state, mode) {
                return Ok(refused);
            }
            let Some(number) = self.next_number(state, taken, is_locked)? else {
                return Ok(PostResult::Closed);
            };
            fault_point("send:numbered");
            if mode == LockMode::Exclusive {
                LegacyState { last: number, closed: false }.write(&inbox);
            }
            if !draft.reserve(number)? {
                return Ok(PostResult::Revoked);
            }
            fault_point("send:reserved");
            let state = state::read(&inbox)?;
            if let Some(refused) = refusal(state, mode) {
                return Ok(refused);
            }
            if let InboxState::Open { last } = state
                && last >= number
            {
                continue;
            }
            fault_point("send:checked");
            match draft.publish(number)? {
                Published::Accepted => {
                    fault_point("send:linked");
                    return Ok(PostResult::Accepted(number));
                }
                Published::Taken => taken = number,
                Published::Revoked => return Ok(PostResult::Revoked),
            }
        }
    }

    /// Returns an unused number above `taken`; `None` if the inbox is closed.
    fn next_number(
        &self,
        state: InboxState,
        taken: u64,
        is_locked: bool,
    ) -> Result<Option<u64>, StoreError> {
        let inbox = self.file(INBOX);
        let (last, highest) = match state {
            InboxState::Open { last } => (last, MAX_NUMBER),
            InboxState::Closed => return Ok(None),
            InboxState::Legacy => {
                let legacy = LegacyState::read(&inbox);
                if legacy.closed {
                    return Ok(None);
                }
                (legacy.last.max(highest_in(&self.aside_dir())?), LEGACY_MAX_NUMBER)
            }
        };
        let mut number = last.max(highest_in(&inbox)?).max(taken) + 1;
        if number > highest {
            // A foreign file may have the highest number, and need not be counted.
            number = last.max(highest_of(&self.pending(&BTreeSet::new())?)).max(taken) + 1;
        }
        if !is_locked {
            // The holder of the lock may replace the file with the next number of its own count.
            number = number.max(LegacyState::read(&inbox).last + 1) + 1;
        }
        if number > highest {
            return Err(numbers_exhausted(highest)).context("number a message in", &inbox);
        }
        Ok(Some(number))
    }

    /// Returns the items of the inbox except `known` numbers, in the order of arrival.
    pub(crate) fn pending(&self, known: &BTreeSet<u64>) -> Result<Vec<InboxItem>, StoreError> {
        let handled = self.handled_numbers();
        let mut items = items_in(&self.file(INBOX), known)?;
        items.retain(|item| !handled.contains(&item.number));
        Ok(items)
    }

    /// As [`pending`](Self::pending), for the holder of the job's lock, which may then remove these
    /// items: no other message gets their numbers.
    pub(crate) fn receive(&self, known: &BTreeSet<u64>) -> Result<Vec<InboxItem>, StoreError> {
        let items = self.pending(known)?;
        self.mark_numbers_used(highest_of(&items));
        Ok(items)
    }

    /// Makes sure that no message gets a number up to this one.
    fn mark_numbers_used(&self, last: u64) {
        let inbox = self.file(INBOX);
        if self.has_owner() {
            // Its files stay, so that no number becomes free.
            return;
        }
        // Needed even if the state has this number: the process that wrote it may have died then.
        if last > 0 {
            state::advance(&inbox, last);
            fault_point("inbox:advanced");
            draft::revoke(&inbox, Some(last));
            fault_point("inbox:revoked");
            LegacyState { last: state::last(&inbox), closed: false }.write(&inbox);
        }
    }

    /// Removes a message from the inbox of a job that has ended. Returns false if another process has
    /// closed the inbox and so reported its messages, or will do so.
    pub(crate) fn withdraw(&self, number: u64) -> Result<bool, StoreError> {
        // A process that gets this lock later reads the inbox or closes it.
        let Some(_lock) = self.try_lock()? else { return Ok(false) };
        let Ok(record) = self.load() else { return Ok(false) };
        let inbox = self.file(INBOX);
        if record.status.is_live() || state::read(&inbox)? == InboxState::Closed {
            return Ok(false);
        }
        self.mark_numbers_used(number);
        Ok(fs::remove_file(inbox.join(file_name(number))).is_ok())
    }

    /// Returns the numbers of the messages in the inbox that no completed turn has answered, in the
    /// order of arrival.
    pub(crate) fn unanswered_messages(&self) -> Vec<u64> {
        // The pending ones are read first: a message that is set aside meanwhile is found either way.
        let mut items = self.pending(&BTreeSet::new()).unwrap_or_default();
        items.extend(self.aside_items());
        items.retain(InboxItem::is_message);
        items.iter().map(|item| item.number).collect()
    }

    /// Closes the inbox; the caller holds the job's lock. From now on no message is accepted. Returns
    /// the messages that were not delivered. Requests to the worker are removed.
    pub(crate) fn close_inbox(&self) -> Result<Vec<InboxItem>, StoreError> {
        let inbox = self.create_inbox()?;
        // If this fails, the record still says that the job has ended.
        let _ = state::close(&inbox);
        fault_point("inbox:closed");
        draft::revoke(&inbox, None);
        fault_point("inbox:emptied");
        if !self.has_owner() {
            let _ = fs::remove_file(inbox.join(WAKE_FIFO));
        }
        let items = self.pending(&BTreeSet::new())?;
        state::advance(&inbox, highest_of(&items));
        LegacyState { last: state::last(&inbox), closed: true }.write(&inbox);
        let mut messages = Vec::new();
        for item in items {
            if item.is_message() {
                messages.push(item);
            } else if item.content.is_ok() {
                self.remove_message(item.number);
            }
        }
        Ok(messages)
    }

    /// Opens the inbox for an attempt; the caller holds the job's lock.
    pub(crate) fn open_inbox(&self) -> Result<(), StoreError> {
        let inbox = self.create_inbox()?;
        let legacy = LegacyState::read(&inbox);
        // After a power failure some of these may be missing: the highest one counts.
        let used = [
            state::last(&inbox),
            legacy.last,
            highest_in(&inbox)?,
            self.aside_numbers().last().copied().unwrap_or_default(),
            self.highest_accepted(),
        ];
        let last = used.into_iter().max().unwrap_or_default();
        state::open(&inbox, last)?;
        if last > legacy.last || legacy.closed {
            LegacyState { last, closed: false }.write(&inbox);
        }
        Ok(())
    }

    /// Opens the inbox again if an earlier owner of the job has closed it, which owned the job no
    /// more.
    pub(crate) fn keep_inbox_open(&self) {
        if self.is_claimed() && matches!(state::read(&self.file(INBOX)), Ok(InboxState::Closed)) {
            let _ = self.open_inbox();
        }
    }

    /// Returns the highest number of a message that a completed turn has accepted.
    fn highest_accepted(&self) -> u64 {
        #[derive(Deserialize)]
        struct TurnLine {
            messages: Vec<u64>,
        }
        let mut highest = 0;
        for turn in self.json_lines::<TurnLine>(TURNS, 0) {
            highest = turn.messages.into_iter().fold(highest, u64::max);
        }
        highest
    }
}

impl InboxItem {
    fn is_message(&self) -> bool {
        matches!(self.content, Ok(InboxMessage::Message { .. }))
    }
}

/// Returns why an inbox in this state accepts nothing from a sender with this lock.
fn refusal(state: InboxState, mode: LockMode) -> Option<PostResult> {
    match state {
        InboxState::Closed => Some(PostResult::Closed),
        // Its worker relies on the lock, which has to be held exclusively.
        InboxState::Legacy if mode == LockMode::Shared => Some(PostResult::Revoked),
        InboxState::Open { .. } | InboxState::Legacy => None,
    }
}

/// Returns the items in a directory except `known` numbers, in the order of arrival.
fn items_in(path: &Path, known: &BTreeSet<u64>) -> Result<Vec<InboxItem>, StoreError> {
    let mut items = Vec::new();
    for number in numbers_in(path)? {
        if !known.contains(&number) {
            let content = read_message(&path.join(file_name(number)));
            items.push(InboxItem { number, content });
        }
    }
    Ok(items)
}

fn read_message(path: &Path) -> Result<InboxMessage, String> {
    let text = files::read_bounded(path, MAX_MESSAGE_FILE_BYTES);
    let text = text.map_err(|error| error.to_string())?;
    json::from_bytes(&text).map_err(|error| error.to_string())
}

/// Returns the numbers of the files in a directory, in order.
fn numbers_in(path: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("read", path)?,
    };
    let mut numbers = Vec::new();
    for entry in entries.flatten() {
        numbers.extend(number_of_file(&entry.file_name().to_string_lossy()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the messages of a closed inbox in the form of a result.
pub(crate) fn undelivered_messages(items: Vec<InboxItem>) -> Vec<UndeliveredMessage> {
    let mut messages = Vec::new();
    for item in items {
        if let Ok(InboxMessage::Message { text, .. }) = item.content
            && messages.len() < MAX_UNDELIVERED_SHOWN
        {
            messages.push(UndeliveredMessage { number: item.number, text: one_line(&text, 200) });
        }
    }
    messages
}

/// Returns the highest number of an item that can be read, 0 if there is none. The number of a foreign
/// file does not count: it may be the maximum.
fn highest_of(items: &[InboxItem]) -> u64 {
    let last = items.iter().rfind(|item| item.content.is_ok());
    last.map_or(0, |item| item.number)
}

/// Returns the highest number of the files in a directory, 0 if there is none.
fn highest_in(path: &Path) -> Result<u64, StoreError> {
    Ok(numbers_in(path)?.last().copied().unwrap_or_default())
}

fn numbers_exhausted(last: u64) -> io::Error {
    io::Error::other(format!(
        "no number is left after {last}; a copy of the conversation accepts messages (start \
         --resume-job)"
    ))
}

fn file_name(number: u64) -> String {
    format!("{number:0MIN_NUMBER_DIGITS$}.json")
}

fn number_of_file(name: &str) -> Option<u64> {
    let number = parse_number(name.strip_suffix(".json")?)?;
    // Each number has one name.
    if file_name(number) == name { Some(number) } else { None }
}

/// Parses a number that a message can have.
fn parse_number(text: &str) -> Option<u64> {
    // `parse` accepts a sign.
    if !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = text.parse().ok()?;
    if number <= MAX_NUMBER { Some(number) } else { None }
}

#[cfg(test)]
mod tests;
