//! Whether the inbox accepts messages, and which numbers have been used: `.open` or `.closed`.
//!
//! Only the holder of the job's lock writes here. Closing is one rename, which needs no space on the
//! disk and waits for no other process.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::super::files::{self, exists};
use super::super::{Context, StoreError};

/// File of an inbox that accepts messages. It contains the highest number that has left the inbox, and
/// is empty if none has.
const OPEN: &str = ".open";
/// Name of the same file after the job has ended.
const CLOSED: &str = ".closed";
/// Name of the same file until it is complete.
const OPEN_TEMPORARY: &str = ".open.new";
/// How often the file is read again when it was read during a write.
const MAX_TORN_READS: usize = 100;

/// The state of an inbox for a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InboxState {
    /// Messages are accepted under numbers above this one.
    Open { last: u64 },
    /// The job has ended: no message is accepted.
    Closed,
    /// No worker of this version has opened the inbox yet. The worker may be of an earlier version,
    /// which relies on the lock (see [`super::legacy`]).
    Legacy,
}

/// Reads the state of an inbox.
pub(super) fn read(inbox: &Path) -> Result<InboxState, StoreError> {
    loop {
        match read_last(&inbox.join(OPEN)) {
            Ok(last) => return Ok(InboxState::Open { last }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("read", &inbox.join(OPEN)),
        }
        if exists(&inbox.join(CLOSED)) {
            return Ok(InboxState::Closed);
        }
        // It may have been renamed between the two checks.
        if !exists(&inbox.join(OPEN)) {
            return Ok(InboxState::Legacy);
        }
    }
}

/// Returns the highest number that is known to have left the inbox.
pub(super) fn last(inbox: &Path) -> u64 {
    let open = read_last(&inbox.join(OPEN)).unwrap_or_default();
    open.max(read_last(&inbox.join(CLOSED)).unwrap_or_default())
}

/// Opens the inbox for numbers above `last`.
pub(super) fn open(inbox: &Path, last: u64) -> Result<(), StoreError> {
    let (unfinished, path) = (inbox.join(OPEN_TEMPORARY), inbox.join(OPEN));
    files::write(&unfinished, encode(last).as_bytes())?;
    fs::rename(&unfinished, &path).context("create", &path)?;
    let _ = fs::remove_file(inbox.join(CLOSED));
    Ok(())
}

/// Closes the inbox.
pub(super) fn close(inbox: &Path) -> Result<(), StoreError> {
    let path = inbox.join(CLOSED);
    match fs::rename(inbox.join(OPEN), &path) {
        // The inbox is closed, or was never opened.
        Err(error) if error.kind() == io::ErrorKind::NotFound && exists(&path) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => files::write(&path, &[]).map(drop),
        renamed => renamed.context("create", &path),
    }
}

/// Records that numbers up to this one leave the inbox.
pub(super) fn advance(inbox: &Path, to: u64) {
    for path in [OPEN, CLOSED].map(|name| inbox.join(name)) {
        if matches!(read_last(&path), Ok(last) if last >= to) {
            continue;
        }
        // Overwritten in place, which needs no space on a full disk. A reader recognizes a torn number
        // by its two copies.
        if let Ok(file) = files::open(&path, OpenOptions::new().write(true)) {
            let _ = file.write_all_at(encode(to).as_bytes(), 0);
        }
    }
}

fn read_last(path: &Path) -> io::Result<u64> {
    for _ in 0..MAX_TORN_READS {
        if let Some(last) = decode(&files::read_bounded(path, 100)?) {
            return Ok(last);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it does not contain the number of a message"))
}

fn encode(last: u64) -> String {
    // An empty file occupies no block of the disk, and most jobs never get a message.
    if last == 0 { String::new() } else { format!("{last:020}\n{last:020}\n") }
}

fn decode(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let (first, second) = std::str::from_utf8(text).ok()?.split_once('\n')?;
    if second.strip_suffix('\n')? == first { first.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_torn_numbers() {
        for last in [0, 1, 9_999_999_999, u64::MAX] {
            assert_eq!(decode(encode(last).as_bytes()), Some(last));
        }
        let (old, new) = (encode(99), encode(100));
        for torn in 1..new.len() {
            let mixed = [&new.as_bytes()[..torn], &old.as_bytes()[torn..]].concat();
            let read = decode(&mixed);
            assert!(matches!(read, None | Some(99 | 100)), "{torn}: {read:?}");
        }
        for damaged in ["5", "5\n", "5\n6\n", "x\nx\n", "\n\n"] {
            assert_eq!(decode(damaged.as_bytes()), None, "{damaged:?}");
        }
    }
}
