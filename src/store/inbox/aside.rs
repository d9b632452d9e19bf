//! Messages that claude has accepted, and those whose turn has ended.
//!
//! The worker of a job without an engine renames the first and removes the others. The inbox of a job
//! with an engine is shared by its successive owners, and one of them may act too late. So its files
//! stay, and each owner marks them in a directory of its own, which its successor copies.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;

use super::super::{JobDir, files};
use super::{INBOX, InboxItem, file_name, items_in, numbers_in};

/// Directory in the inbox of the messages that a turn has accepted which has not ended. The name is a
/// protocol.
const ASIDE_DIR: &str = ".taken";
/// Directory of an owner with the names of these messages.
const OWN_ASIDE_DIR: &str = "inbox.taken";
/// Directory of an owner with the names of messages and requests whose work is over.
const OWN_DONE_DIR: &str = "inbox.done";

impl JobDir {
    /// Removes an item that the holder of the job's lock has received. Returns false if it is still
    /// there, because another process has created a directory with its name.
    pub(crate) fn remove_message(&self, number: u64) -> bool {
        let (inbox, name) = (self.file(INBOX), file_name(number));
        if self.has_owner() {
            let is_marked = self.mark(OWN_DONE_DIR, &name);
            let _ = fs::remove_file(self.aside_dir().join(&name));
            return is_marked;
        }
        let mut is_gone = true;
        for path in [inbox.join(&name), inbox.join(ASIDE_DIR).join(&name)] {
            if let Err(error) = fs::remove_file(path) {
                is_gone &= error.kind() == io::ErrorKind::NotFound;
            }
        }
        is_gone
    }

    /// Sets a message aside that claude has accepted.
    pub(crate) fn set_aside(&self, number: u64) {
        let (inbox, name) = (self.file(INBOX), file_name(number));
        if self.has_owner() {
            if !self.mark(OWN_ASIDE_DIR, &name) {
                self.remove_message(number);
            }
            return;
        }
        let aside = inbox.join(ASIDE_DIR);
        // If the directory cannot be created, the next step fails.
        let _ = files::create_directory(&aside, false);
        if fs::rename(inbox.join(&name), aside.join(&name)).is_err() {
            // To deliver it twice would be worse than not to send it again if its conversation gets
            // lost.
            self.remove_message(number);
        }
    }

    /// Returns the numbers of the messages that were set aside, in the order of arrival.
    pub(crate) fn aside_numbers(&self) -> Vec<u64> {
        numbers_in(&self.aside_dir()).unwrap_or_default()
    }

    /// Returns the messages that were set aside, in the order of arrival.
    pub(crate) fn aside_items(&self) -> Vec<InboxItem> {
        if self.has_owner() {
            let taken = self.aside_numbers();
            let mut items = items_in(&self.file(INBOX), &BTreeSet::new()).unwrap_or_default();
            items.retain(|item| taken.contains(&item.number));
            return items;
        }
        items_in(&self.aside_dir(), &BTreeSet::new()).unwrap_or_default()
    }

    /// Moves the messages that were set aside back into the inbox: their conversation is lost.
    pub(crate) fn restore_aside(&self) {
        let inbox = self.file(INBOX);
        for name in self.aside_numbers().into_iter().map(file_name) {
            let aside = self.aside_dir().join(&name);
            let _ = if self.has_owner() {
                fs::remove_file(aside)
            } else {
                fs::rename(aside, inbox.join(&name))
            };
        }
    }

    /// Returns the directory of the messages that were set aside.
    pub(super) fn aside_dir(&self) -> PathBuf {
        match self.has_owner() {
            true => self.file(OWN_ASIDE_DIR),
            false => self.file(INBOX).join(ASIDE_DIR),
        }
    }

    /// Returns the numbers of the files in the inbox that need no more work, or were set aside.
    pub(super) fn handled_numbers(&self) -> BTreeSet<u64> {
        if !self.has_owner() {
            return BTreeSet::new();
        }
        let mut handled = BTreeSet::new();
        for name in [OWN_ASIDE_DIR, OWN_DONE_DIR] {
            handled.extend(numbers_in(&self.file(name)).unwrap_or_default());
        }
        handled
    }

    /// Creates an empty file in one of the owner's directories, and returns whether it is there.
    fn mark(&self, directory: &str, name: &str) -> bool {
        let directory = self.file(directory);
        // If the directory cannot be created, the next step fails.
        let _ = files::create_directory(&directory, false);
        let mut options = OpenOptions::new();
        match files::open(&directory.join(name), options.write(true).create_new(true)) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
        }
    }
}
