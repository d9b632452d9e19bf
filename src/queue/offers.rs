//! Offers of slots to jobs that are next, for which their own workers move the tickets.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::queue_lock::PROGRESS_TIMEOUT;
use super::{OFFERS, Queue, Ticket, create_dir};
use crate::clock;
use crate::fault_point::fault_point;

/// Offer of a slot to a waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    None,
    /// The slot is reserved for this much longer.
    Pending(Duration),
    /// The job's worker did not answer in time: the job is skipped until it does.
    Expired,
}

impl Queue {
    /// Offers a slot to a job that is next, and signals its worker.
    pub(super) fn offer(&self, ticket: &Ticket, worker: Option<i32>) {
        let offers = self.path.join(OFFERS);
        let path = offers.join(ticket.name());
        let write = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
            file?.write_all(clock::monotonic_ms().to_string().as_bytes())
        };
        if write().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let _ = create_dir(&offers).and_then(|()| write());
        }
        fault_point("queue:offered");
        if let Some(worker) = worker {
            self.wake(&ticket.job_id, worker);
        }
    }

    /// Removes the offer to a job that has answered it or left. Returns whether there was one.
    pub(super) fn remove_offer(&self, ticket: &Ticket) -> bool {
        fs::remove_file(self.path.join(OFFERS).join(ticket.name())).is_ok()
    }

    /// Returns the names of the tickets that hold an offer, with the time of the offer; without it
    /// where it could not be written.
    pub(super) fn load_offers(&self) -> HashMap<String, Option<u64>> {
        let entries = fs::read_dir(self.path.join(OFFERS)).into_iter().flatten().flatten();
        let offered = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let at = self.read_number(&format!("{OFFERS}/{name}"));
            Some((name, at))
        });
        offered.collect()
    }

    pub(super) fn offer_of(
        &self,
        ticket: &Ticket,
        offered: &HashMap<String, Option<u64>>,
    ) -> Offer {
        if offered.is_empty() {
            return Offer::None;
        }
        let Some(at) = offered.get(&ticket.name()) else { return Offer::None };
        // The monotonic clock restarts at a reboot.
        let age = at.and_then(|at| clock::monotonic_ms().checked_sub(at));
        match age.and_then(|ms| PROGRESS_TIMEOUT.checked_sub(Duration::from_millis(ms))) {
            Some(left) if !left.is_zero() => Offer::Pending(left),
            _ => Offer::Expired,
        }
    }
}
