//! Changes of the job's place in the queue (`claudejob update`).

use std::io::ErrorKind;
use std::time::Instant;

use super::{AdmissionControl, AdmissionStage, ERROR_RETRY_DELAY};
use crate::job::{AppliedTo, QueueOptions, Record};
use crate::queue::Ticket;

/// Requests to change the job's ticket, by the numbers of their messages.
#[derive(Default)]
pub(super) struct TicketUpdates {
    /// Not applied yet.
    open: Vec<u64>,
    /// Applied, and not reported yet.
    applied: Vec<(u64, AppliedTo)>,
}

impl AdmissionControl {
    /// Notes a request; the next [check](Self::check) applies it.
    pub(in crate::worker) fn note_update(&mut self, number: u64) {
        self.updates.open.push(number);
    }

    /// Returns the requests that were applied since the last call.
    pub(in crate::worker) fn take_applied(&mut self) -> Vec<(u64, AppliedTo)> {
        std::mem::take(&mut self.updates.applied)
    }

    /// Applies the open requests. Returns whether none is open any more: otherwise the queue's lock
    /// is not free, and the next check tries again.
    pub(super) fn apply_updates(&mut self, record: &Record) -> bool {
        if self.updates.open.is_empty() {
            return true;
        }
        let options = &record.spec.queue_options;
        let applied = match &mut self.stage {
            AdmissionStage::Queued(ticket) => {
                let ticket = ticket.clone();
                match self.replace_ticket(&ticket, options) {
                    Some(applied) => applied,
                    None => return false,
                }
            }
            AdmissionStage::Entering(request) => {
                request.0 = changed(&request.0, options);
                AppliedTo::Later
            }
            _ => AppliedTo::Later,
        };
        let open = std::mem::take(&mut self.updates.open);
        self.updates.applied.extend(open.into_iter().map(|number| (number, applied)));
        true
    }

    fn replace_ticket(&mut self, own: &Ticket, options: &QueueOptions) -> Option<AppliedTo> {
        let options = changed(&own.options, options);
        let new = Ticket { priority: options.priority, options, ..own.clone() };
        loop {
            let lock = self.queue_lock()?;
            match self.queue.replace_ticket(&lock, own, new.clone()) {
                Ok(Some(ticket)) => {
                    self.stage = AdmissionStage::Queued(ticket);
                    return Some(AppliedTo::Queue);
                }
                Ok(None) => {}
                // A worker of an earlier version has admitted the job.
                Err(error) if error.kind() == ErrorKind::NotFound => return Some(AppliedTo::Later),
                Err(_) => {
                    self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return None;
                }
            }
        }
    }
}

/// Returns the options of a ticket after a change of those in the record.
fn changed(ticket: &QueueOptions, record: &QueueOptions) -> QueueOptions {
    QueueOptions {
        priority: record.priority,
        max_parallel: record.max_parallel,
        group: record.group.clone(),
        group_limit: record.group_limit,
        ..ticket.clone()
    }
}
