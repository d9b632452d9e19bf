//! Dispatch: admits the jobs that are next, or offers them slots.

use std::io;
use std::time::Duration;

use super::offers::Offer;
use super::queue_lock::PROGRESS_TIMEOUT;
use super::scheduling::Decision;
use super::snapshot::QueueSnapshot;
use super::{MAX_WATCHERS, POLL_INTERVAL, Queue, QueueLock, RUNNING, Ticket, WAITING};
use crate::job::JobId;

/// How often a watcher dispatches although nothing has happened.
const WATCHER_POLL_INTERVAL: Duration = Duration::from_secs(600);
/// The same for the first worker that is not a watcher. The interval doubles for each further one.
const FIRST_POLL_INTERVAL: Duration = Duration::from_secs(60);

const MAX_DOUBLINGS: usize = 12;

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

impl DispatchResult {
    fn retry_within(&mut self, wait: Duration) {
        if self.retry_after.is_none_or(|earlier| wait < earlier) {
            self.retry_after = Some(wait);
        }
    }
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
        if self.remove_offer(own) {
            snapshot.offers.remove(&own.name());
        }
        let mut done = DispatchResult::default();
        // Names of the tickets that hold an offer: their jobs have no slot yet.
        let mut offered = Vec::new();
        let mut queued = snapshot.waiting.clone();
        queued.retain(|ticket| Offer::of(ticket, &snapshot.offers) != Offer::Expired);
        loop {
            let next = match snapshot.next() {
                Decision::Admit(next) => next.clone(),
                Decision::RetryInMs(ms) => {
                    done.retry_within(Duration::from_millis(ms));
                    break;
                }
                Decision::WaitForChange => break,
            };
            snapshot.waiting.retain(|ticket| *ticket != next);
            if !self.is_live(&next.job_id) {
                self.move_to_lost(WAITING, &next);
                continue;
            }
            let offer = Offer::of(&next, &snapshot.offers);
            if offer == Offer::Expired {
                continue;
            }
            if !lock.is_latest() {
                return Ok(None);
            }
            let is_own = next.is_same(own);
            if !self.admit_or_offer(&next, is_own, offer, &mut snapshot, &mut done)? {
                offered.push(next.name());
            }
            if is_own {
                done.is_admitted = true;
                done.needs_confirmation = !lock.is_latest();
            }
            snapshot.admitted_ms = Some(snapshot.now_ms);
            snapshot.running.push(next);
        }
        snapshot.running.retain(|ticket| !offered.contains(&ticket.name()));
        self.wake_admitted(&snapshot.running, own, &mut done);
        done.witnesses = self.witnesses(&snapshot.limits);
        self.choose_watchers(&queued, own, &mut done);
        Ok(Some(done))
    }

    /// Admits a job, or offers a slot to it. Returns whether it was admitted.
    fn admit_or_offer(
        &self,
        next: &Ticket,
        is_own: bool,
        offer: Offer,
        snapshot: &mut QueueSnapshot,
        done: &mut DispatchResult,
    ) -> io::Result<bool> {
        let content = self.read_ticket(WAITING, next);
        let worker = self.worker_of(next, &content);
        let is_admitted = is_own || !content.answers_offers();
        if is_admitted {
            self.admit(next)?;
        } else {
            self.offer_unless_pending(next, worker, offer, done);
        }
        if !snapshot.limits.is_empty() {
            self.begin_probe(next, worker, &mut snapshot.limits, is_admitted);
            snapshot.known = self.known_limits(&snapshot.limits, snapshot.now_ms);
        }
        Ok(is_admitted)
    }

    /// Offers a slot to a job, and notes when the offer expires.
    fn offer_unless_pending(
        &self,
        next: &Ticket,
        worker: Option<i32>,
        offer: Offer,
        done: &mut DispatchResult,
    ) {
        let expires_after = match offer {
            Offer::Pending(remaining) => remaining,
            Offer::None | Offer::Expired => {
                self.offer(next, worker);
                PROGRESS_TIMEOUT
            }
        };
        done.retry_within(expires_after);
        if let Some(worker) = worker {
            done.running.push((next.job_id.clone(), worker));
        }
    }

    /// Wakes the workers that were admitted before: they may not have received the signal.
    fn wake_admitted(&self, running: &[Ticket], own: &Ticket, done: &mut DispatchResult) {
        for ticket in running {
            let (worker, claude) = self.pids(RUNNING, ticket);
            let Some(worker) = worker else {
                // The worker has just started.
                done.retry_within(POLL_INTERVAL);
                continue;
            };
            if claude.is_none() && !ticket.is_same(own) {
                self.wake(&ticket.job_id, worker);
            }
            done.running.push((ticket.job_id.clone(), worker));
        }
    }

    fn choose_watchers(&self, queued: &[Ticket], own: &Ticket, done: &mut DispatchResult) {
        let position = queued.iter().position(|ticket| ticket.is_same(own));
        let position = position.unwrap_or(queued.len());
        done.is_watcher = position < MAX_WATCHERS;
        done.poll_after = if done.is_watcher {
            WATCHER_POLL_INTERVAL
        } else {
            FIRST_POLL_INTERVAL * (1 << (position - MAX_WATCHERS).min(MAX_DOUBLINGS))
        };
        let others = queued.iter().filter(|ticket| !ticket.is_same(own));
        for ticket in others.take(MAX_WATCHERS) {
            if let (Some(worker), _) = self.pids(WAITING, ticket) {
                done.other_watchers.push((ticket.job_id.clone(), worker));
            }
        }
    }
}
