//! Dispatch: admits the jobs that are next, or offers them slots.

use std::io;
use std::time::Duration;

use super::offers::Offer;
use super::queue_lock::PROGRESS_TIMEOUT;
use super::scheduling::Decision;
use super::{MAX_WATCHERS, POLL_INTERVAL, Queue, QueueLock, RUNNING, Ticket, WAITING};
use crate::job::JobId;

/// How often a watcher dispatches although nothing has happened.
const WATCHER_POLL_INTERVAL: Duration = Duration::from_secs(600);
/// The same for the first worker that is not a watcher. The interval doubles for each further one.
const FIRST_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Result of [`Queue::dispatch`], with what the worker has to watch from then on.
#[derive(Debug, Default)]
pub(crate) struct DispatchResult {
    /// The worker's own job has a slot.
    pub is_admitted: bool,
    /// That slot must be [confirmed](Queue::confirm) before it is used.
    pub needs_confirmation: bool,
    /// The worker is one of the watchers.
    pub is_watcher: bool,
    /// The other watchers, as job and process id of its worker.
    pub other_watchers: Vec<(JobId, i32)>,
    /// When to dispatch again although nothing has happened.
    pub poll_after: Duration,
    /// Jobs that have a slot or were offered one, as job and process id of its worker.
    pub running: Vec<(JobId, i32)>,
    /// Jobs that met a limit of the API and have no slot, likewise: when one ends, another job may
    /// find out whether the limit is over.
    pub witnesses: Vec<(JobId, i32)>,
    /// When a watcher has to dispatch again: a job may start then, or an offer expires.
    pub retry_after: Option<Duration>,
}

impl Queue {
    /// Admits the caller's job if it is next, and offers a slot to other jobs that are next as
    /// well.
    ///
    /// Returns `None` if others decided meanwhile, with a later generation of the lock: the caller
    /// tries again with that one.
    pub(crate) fn dispatch(
        &self,
        lock: &QueueLock,
        own: &Ticket,
    ) -> io::Result<Option<DispatchResult>> {
        let mut snapshot = self.load_snapshot(lock);
        let is_own = |ticket: &Ticket| ticket.number == own.number && ticket.job_id == own.job_id;
        if self.remove_offer(own) {
            snapshot.offers.remove(&own.name());
        }
        let mut done =
            DispatchResult { poll_after: FIRST_POLL_INTERVAL, ..DispatchResult::default() };
        // Names of the tickets that hold an offer: their jobs have no slot yet.
        let mut offered = Vec::new();
        let mut queued = snapshot.waiting.clone();
        queued.retain(|ticket| self.offer_of(ticket, &snapshot.offers) != Offer::Expired);
        loop {
            match snapshot.next() {
                Decision::Admit(next) => {
                    let next = next.clone();
                    snapshot.waiting.retain(|ticket| *ticket != next);
                    let offer = self.offer_of(&next, &snapshot.offers);
                    if !self.is_live(&next.job_id) {
                        self.move_to_lost(WAITING, &next);
                        continue;
                    }
                    if offer == Offer::Expired {
                        continue;
                    }
                    if !lock.is_latest() {
                        return Ok(None);
                    }
                    let (worker, _) = self.pids(WAITING, &next);
                    let mut writes = true;
                    if is_own(&next) {
                        self.admit(&next)?;
                        done.is_admitted = true;
                        done.needs_confirmation = !lock.is_latest();
                    } else if !self.answers_offers(&next) {
                        self.admit(&next)?;
                    } else {
                        // Its worker records this itself when it is admitted.
                        writes = false;
                        offered.push(next.name());
                        done.running.extend(worker.map(|worker| (next.job_id.clone(), worker)));
                        let remaining = match offer {
                            Offer::Pending(remaining) => remaining,
                            _ => {
                                self.offer(&next, worker);
                                PROGRESS_TIMEOUT
                            }
                        };
                        done.retry_after =
                            Some(done.retry_after.map_or(remaining, |wait| wait.min(remaining)));
                    }
                    if !snapshot.limits.is_empty() {
                        self.begin_probe(&next, worker, &mut snapshot.limits, writes);
                        snapshot.known = self.known_limits(&snapshot);
                    }
                    snapshot.admitted_ms = Some(snapshot.now_ms);
                    snapshot.running.push(next);
                }
                Decision::RetryInMs(ms) => {
                    let wait = Duration::from_millis(ms);
                    done.retry_after = Some(done.retry_after.map_or(wait, |least| least.min(wait)));
                    break;
                }
                Decision::WaitForChange => break,
            }
        }
        // Workers that were admitted before may not have received the signal.
        snapshot.running.retain(|ticket| !offered.contains(&ticket.name()));
        for ticket in &snapshot.running {
            let (worker, claude) = self.pids(RUNNING, ticket);
            let Some(worker) = worker else {
                // The worker has just started.
                done.retry_after =
                    Some(done.retry_after.map_or(POLL_INTERVAL, |wait| wait.min(POLL_INTERVAL)));
                continue;
            };
            if claude.is_none() && !is_own(ticket) {
                self.wake(&ticket.job_id, worker);
            }
            done.running.push((ticket.job_id.clone(), worker));
        }
        done.witnesses = self.witnesses(&snapshot.limits);
        let position = queued.iter().position(is_own).unwrap_or(queued.len());
        done.is_watcher = position < MAX_WATCHERS;
        if done.is_watcher {
            done.poll_after = WATCHER_POLL_INTERVAL;
        } else {
            let doublings = u32::try_from(position - MAX_WATCHERS).unwrap_or(u32::MAX).min(12);
            done.poll_after = FIRST_POLL_INTERVAL * (1 << doublings);
        }
        for ticket in queued.iter().filter(|ticket| !is_own(ticket)).take(MAX_WATCHERS) {
            if let (Some(worker), _) = self.pids(WAITING, ticket) {
                done.other_watchers.push((ticket.job_id.clone(), worker));
            }
        }
        Ok(Some(done))
    }
}
