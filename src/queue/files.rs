//! The queue's files: tickets and short texts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ticket::TicketContent;
use super::{LAST_ADMISSION, LAST_NUMBER, LOST, Queue, RUNNING, Ticket, WAITING};
use crate::job::JobId;
use crate::process::{JobMarker, machine};
use crate::store::{JobDir, StoreError, create_directory, open_ordinary, open_to_read};

/// Longest file of the queue.
const MAX_FILE_BYTES: u64 = 512;

impl Queue {
    fn job_dir(&self, job: &JobId) -> JobDir {
        JobDir::new(&self.jobs, job)
    }

    pub(super) fn marker(&self, job: &JobId) -> JobMarker {
        JobMarker::new(self.job_dir(job).path())
    }

    /// Returns whether the job has a live worker, or one on another machine may be alive.
    pub(super) fn is_live(&self, job: &JobId) -> bool {
        self.job_dir(job).may_live()
    }

    pub(super) fn ticket_path(&self, dir: &str, ticket: &Ticket) -> PathBuf {
        self.path.join(dir).join(ticket.name())
    }

    /// Returns the content of a ticket; unknown if it does not exist.
    pub(super) fn read_ticket(&self, dir: &str, ticket: &Ticket) -> TicketContent {
        let text = fs::read_to_string(self.ticket_path(dir, ticket)).unwrap_or_default();
        TicketContent::parse(&text)
    }

    pub(super) fn write_ticket(&self, dir: &str, ticket: &Ticket, text: &str) -> io::Result<()> {
        let mut file = create_file(&self.ticket_path(dir, ticket))?;
        // The name is sufficient: a full disk may not take the content.
        let _ = file.write_all(text.as_bytes());
        Ok(())
    }

    pub(super) fn remove_ticket(&self, dir: &str, ticket: &Ticket) {
        let _ = fs::remove_file(self.ticket_path(dir, ticket));
    }

    pub(super) fn move_ticket(&self, ticket: &Ticket, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.ticket_path(from, ticket), self.ticket_path(to, ticket))
    }

    pub(super) fn move_to_lost(&self, dir: &str, ticket: &Ticket) {
        self.remove_offer(ticket);
        if self.move_ticket(ticket, dir, LOST).is_ok() {
            return;
        }
        // An earlier version has not created the directory.
        let created = create_dir(&self.path.join(LOST));
        if created.is_err() || self.move_ticket(ticket, dir, LOST).is_err() {
            self.remove_ticket(dir, ticket);
        }
    }

    /// Returns the process ids of the worker and the claude of a ticket.
    pub(super) fn pids(&self, dir: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        let content = self.read_ticket(dir, ticket);
        (self.worker_of(ticket, &content), content.claude)
    }

    /// Returns the process id of the worker of a ticket with this content.
    pub(super) fn worker_of(&self, ticket: &Ticket, content: &TicketContent) -> Option<i32> {
        if content.worker.is_some() {
            return content.worker;
        }
        // On a full disk the content could not be written.
        Some(self.marker(&ticket.job_id).worker().ok()??.pid)
    }

    /// Returns the tickets in a directory, in order. Tickets of other machines are left out: slots
    /// are for the memory of one machine, and their workers cannot be woken from here.
    pub(super) fn tickets(&self, dir: &str) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        for name in self.file_names(dir) {
            tickets.extend(Ticket::parse(&name));
        }
        if machine::is_shared(&self.jobs) {
            tickets.retain(|ticket| !self.job_dir(&ticket.job_id).may_live_elsewhere());
        }
        tickets.sort_unstable();
        tickets
    }

    /// Returns the names of the files in a directory; none if it does not exist.
    pub(super) fn file_names(&self, dir: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path.join(dir)).into_iter().flatten().flatten() {
            names.extend(entry.file_name().into_string());
        }
        names
    }

    /// Returns an error of changing the queue.
    pub(crate) fn error(&self, source: io::Error) -> StoreError {
        StoreError { operation: "change", path: self.path.clone(), source }
    }

    pub(super) fn create_dirs(&self) -> io::Result<()> {
        for dir in ["", WAITING, RUNNING, LOST] {
            create_dir(&self.path.join(dir))?;
        }
        Ok(())
    }

    pub(super) fn allocate_number(&self) -> io::Result<u64> {
        let last = match self.read_number(LAST_NUMBER) {
            Some(last) => last,
            None => self.highest_number(),
        };
        self.overwrite(LAST_NUMBER, &(last + 1).to_string())?;
        Ok(last + 1)
    }

    fn highest_number(&self) -> u64 {
        let mut highest = 0;
        for dir in [WAITING, RUNNING] {
            for ticket in self.tickets(dir) {
                highest = highest.max(ticket.number);
            }
        }
        highest
    }

    pub(super) fn record_admission(&self, at_ms: u64) {
        let _ = self.overwrite(LAST_ADMISSION, &at_ms.to_string());
    }

    /// Returns the number in a file; `None` if there is none.
    pub(super) fn read_number(&self, name: &str) -> Option<u64> {
        read_text(&self.path.join(name)).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// Overwrites a file with a text that is short enough to be written at once.
    pub(super) fn overwrite(&self, name: &str, text: &str) -> io::Result<()> {
        overwrite(&open_or_create(&self.path.join(name))?, text)
    }
}

/// Overwrites a file with a text, padded so that it covers a longer one.
pub(super) fn overwrite(file: &File, text: &str) -> io::Result<()> {
    file.write_all_at(format!("{text:<40}\n").as_bytes(), 0)
}

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    create_directory(path, true).map_err(|error| error.source)
}

/// Opens a file of the queue for locking or writing, and creates it if it is missing.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    open_ordinary(path, OpenOptions::new().write(true).create(true).truncate(false))
}

/// Opens an empty file of the queue for writing.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    open_ordinary(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Reads a short file of the queue.
pub(super) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_to_read(path)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a short text file of the queue.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
