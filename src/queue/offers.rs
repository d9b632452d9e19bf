//! Offers of slots to jobs that are next, for which their own workers move the tickets.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use super::files::{create_dir, create_file};
use super::queue_lock::PROGRESS_TIMEOUT;
use super::{OFFERS, Queue, Ticket};
use crate::clock;
use crate::fault_point::fault_point;

/// Names of the tickets that hold an offer, with the time of the offer; without it where it could
/// not be written.
pub(super) type Offers = HashMap<String, Option<u64>>;

/// Offer of a slot to a waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    None,
    /// The slot is reserved for this much longer.
    Pending(Duration),
    /// The job's worker did not answer in time: the job is skipped until it does.
    Expired,
}

impl Offer {
    pub(super) fn of(ticket: &Ticket, offers: &Offers) -> Self {
        if offers.is_empty() {
            return Self::None;
        }
        let at = match offers.get(&ticket.name()) {
            None => return Self::None,
            Some(None) => return Self::Expired,
            Some(Some(at)) => *at,
        };
        // The monotonic clock restarts at a reboot.
        let Some(age_ms) = clock::monotonic_ms().checked_sub(at) else { return Self::Expired };
        let left = PROGRESS_TIMEOUT.saturating_sub(Duration::from_millis(age_ms));
        if left.is_zero() { Self::Expired } else { Self::Pending(left) }
    }
}

impl Queue {
    /// Offers a slot to a job that is next, and signals its worker.
    pub(super) fn offer(&self, ticket: &Ticket, worker: Option<i32>) {
        if let Err(error) = self.write_offer(ticket)
            && error.kind() == io::ErrorKind::NotFound
            && create_dir(&self.path.join(OFFERS)).is_ok()
        {
            let _ = self.write_offer(ticket);
        }
        fault_point("queue:offered");
        if let Some(worker) = worker {
            self.wake(&ticket.job_id, worker);
        }
    }

    fn write_offer(&self, ticket: &Ticket) -> io::Result<()> {
        let mut file = create_file(&self.ticket_path(OFFERS, ticket))?;
        file.write_all(clock::monotonic_ms().to_string().as_bytes())
    }

    /// Removes the offer to a job that has answered it or left. Returns whether there was one.
    pub(super) fn remove_offer(&self, ticket: &Ticket) -> bool {
        fs::remove_file(self.ticket_path(OFFERS, ticket)).is_ok()
    }

    pub(super) fn load_offers(&self) -> Offers {
        let mut offers = Offers::new();
        for name in self.file_names(OFFERS) {
            let at = self.read_number(&format!("{OFFERS}/{name}"));
            offers.insert(name, at);
        }
        offers
    }
}
