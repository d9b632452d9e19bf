//! The queue's files: tickets and numbers.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::{
    LAST_ADMISSION, LAST_NUMBER, LOST, Queue, RUNNING, Ticket, WAITING, create_dir, open_or_create,
};
use crate::job::Login;
use crate::process::{JobMarker, machine};
use crate::store::{JobDir, open_ordinary};

impl Queue {
    /// Returns the content of a ticket; empty if it does not exist.
    pub(super) fn read_ticket(&self, dir: &str, ticket: &Ticket) -> String {
        fs::read_to_string(self.path.join(dir).join(ticket.name())).unwrap_or_default()
    }

    pub(super) fn write_ticket(&self, dir: &str, ticket: &Ticket, text: &str) -> io::Result<()> {
        let path = self.path.join(dir).join(ticket.name());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        // The name is sufficient: a full disk may not take the content.
        let _ = file?.write_all(text.as_bytes());
        Ok(())
    }

    pub(super) fn remove_ticket(&self, dir: &str, ticket: &Ticket) {
        let _ = fs::remove_file(self.path.join(dir).join(ticket.name()));
    }

    pub(super) fn move_to_lost(&self, dir: &str, ticket: &Ticket) {
        self.remove_offer(ticket);
        let name = ticket.name();
        let (from, to) = (self.path.join(dir).join(&name), self.path.join(LOST).join(name));
        let moved = fs::rename(&from, &to).or_else(|_| {
            // An earlier version has not created the directory.
            create_dir(&self.path.join(LOST))?;
            fs::rename(&from, &to)
        });
        if moved.is_err() {
            let _ = fs::remove_file(from);
        }
    }

    /// Returns whether the worker answers offers; workers of earlier versions do not.
    pub(super) fn answers_offers(&self, ticket: &Ticket) -> bool {
        Ticket::answers_offers(&self.read_ticket(WAITING, ticket))
    }

    /// Reads the login of a waiting job.
    pub(super) fn read_login(&self, ticket: &Ticket) -> Login {
        Ticket::parse_login(&self.read_ticket(WAITING, ticket))
    }

    /// Returns the process ids of the worker and the claude of a ticket.
    pub(super) fn pids(&self, dir: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        self.parse_pids(&self.read_ticket(dir, ticket), ticket)
    }

    /// The same, from the ticket's content.
    pub(super) fn parse_pids(&self, content: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        let mut pids = content.split_whitespace().map(|pid| pid.parse().ok());
        let (worker, claude) = (pids.next().flatten(), pids.next().flatten());
        // On a full disk the content could not be written.
        let found = || {
            let worker =
                JobMarker::new(&self.jobs.join(ticket.job_id.as_str())).worker().ok()??;
            Some(worker.pid)
        };
        (worker.or_else(found), claude)
    }

    /// Returns the tickets in a directory, in order. Tickets of other machines are left out: slots
    /// are for the memory of one machine, and their workers cannot be woken from here.
    pub(super) fn tickets(&self, dir: &str) -> Vec<Ticket> {
        let entries = fs::read_dir(self.path.join(dir)).into_iter().flatten().flatten();
        let tickets = entries.filter_map(|entry| Ticket::parse(entry.file_name().to_str()?));
        let mut tickets: Vec<Ticket> = tickets.collect();
        if machine::is_shared(&self.jobs) {
            tickets.retain(|ticket| {
                let job = JobDir::new(&self.jobs, &ticket.job_id);
                !job.may_live_elsewhere()
            });
        }
        tickets.sort_unstable();
        tickets
    }

    pub(super) fn create_dirs(&self) -> io::Result<()> {
        for dir in ["", WAITING, RUNNING, LOST] {
            create_dir(&self.path.join(dir))?;
        }
        Ok(())
    }

    pub(super) fn allocate_number(&self) -> io::Result<u64> {
        let highest = || {
            let tickets = self.tickets(WAITING).into_iter().chain(self.tickets(RUNNING));
            tickets.map(|ticket| ticket.number).max()
        };
        let last = self.read_number(LAST_NUMBER).or_else(highest).unwrap_or_default();
        self.replace(LAST_NUMBER, &(last + 1).to_string())?;
        Ok(last + 1)
    }

    pub(super) fn record_admission(&self, at_ms: u64) {
        let _ = self.replace(LAST_ADMISSION, &at_ms.to_string());
    }

    pub(super) fn read_number(&self, name: &str) -> Option<u64> {
        self.read_numbers(name).first().and_then(|number| u64::try_from(*number).ok())
    }

    /// Returns the numbers in a file; empty if it does not exist.
    pub(super) fn read_numbers(&self, name: &str) -> Vec<i64> {
        let mut text = String::new();
        let file = open_ordinary(&self.path.join(name), OpenOptions::new().read(true));
        let read = file.map(|file| file.take(64));
        let _ = read.and_then(|mut file| file.read_to_string(&mut text));
        text.split_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    pub(super) fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        // Short enough to be written at once, and padded to overwrite a longer text.
        let file = open_or_create(&self.path.join(name))?;
        file.write_all_at(format!("{text:<40}\n").as_bytes(), 0)
    }
}
