//! Waiting in the queue. The worker may be a watcher, which runs the dispatch for all jobs whenever
//! a job leaves or joins the queue or a worker ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{AdmissionControl, AdmissionStep, ERROR_RETRY_DELAY, POLL_INTERVAL};
use crate::finalize::finalize_lost;
use crate::job::{JobId, Record};
use crate::process::ProcessHandle;
use crate::queue::{DispatchResult, Queue, QueueLockPoll, Ticket, TicketState};
use crate::store::JobDir;
use crate::worker::process_exit::ProcessExit;
use crate::worker::sleep_to;
use crate::worker::wake_source::{WakeSource, woken};

/// How long to wait until another process has written the verdict of a lost job, and how often to
/// check.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(2);
const VERDICT_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a watcher that is not the leader waits for the leader to act.
const LEADER_TIMEOUT: Duration = Duration::from_millis(100);

/// What this worker watches while it waits in the queue.
#[derive(Default)]
pub(super) struct QueueWatch {
    /// This worker is a watcher of the queue.
    is_watcher: bool,
    /// The queue was checked since this worker listens to its events.
    is_listening: bool,
    wake_fifo: Option<WakeSource>,
    /// Watch of the tickets of jobs that have a slot.
    running_watch: Option<WakeSource>,
    watched: Vec<WatchedWorker>,
    /// When to check the queue because of an event, unless the leader does so before.
    check_at: Option<Instant>,
    /// The other watchers that were notified that they are watchers.
    notified: BTreeSet<(JobId, i32)>,
}

/// A worker that has a slot, and whose end is watched.
struct WatchedWorker {
    job: JobId,
    pid: i32,
    exit: ProcessExit,
}

impl AdmissionControl {
    pub(super) fn check_queue(
        &mut self,
        record: &Record,
        ticket: Ticket,
        was_signalled: bool,
    ) -> Option<AdmissionStep> {
        let is_leader_requested = self.leader.request(&self.queue);
        if !was_signalled
            && !self.polls_lock
            && !self.leader.is_held()
            && self.watch.is_watcher
            && self.defers_to_leader()
        {
            return None;
        }
        let result = self.dispatch(&ticket)?;
        if result.is_admitted {
            self.notify_watchers(&result);
            if result.needs_confirmation {
                return self.confirm(record, ticket);
            }
            self.note_admitted(ticket);
            return Some(AdmissionStep::Admitted);
        }
        let mut wait = result.poll_after;
        if self.watch.is_watcher || self.leader.is_held() {
            wait = wait.min(result.retry_after.unwrap_or(wait));
            self.poll_at = Some(Instant::now() + wait);
            self.notify_watchers(&result);
            self.watch_workers(result);
        } else {
            self.watch.watched.clear();
            self.watch.notified.clear();
            self.poll_at = Some(Instant::now() + wait);
        }
        if !is_leader_requested {
            self.poll_soon();
        }
        self.finalize_lost_jobs();
        match self.queue.ticket_state(&ticket) {
            // A worker of an earlier version has admitted the job.
            TicketState::Running => self.confirm(record, ticket),
            TicketState::Waiting => None,
            TicketState::Gone => Some(self.request_slot_again(record, &ticket)),
        }
    }

    /// Runs the dispatch for all jobs; `None` if the queue cannot be used now.
    fn dispatch(&mut self, ticket: &Ticket) -> Option<DispatchResult> {
        loop {
            let is_listening = self.listen();
            self.watch.check_at = None;
            self.poll_at = None;
            let lock = self.queue_lock()?;
            let result = match self.queue.dispatch(&lock, ticket) {
                Ok(Some(result)) => result,
                Ok(None) => continue,
                Err(_) => {
                    self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return None;
                }
            };
            drop(lock);
            self.watch.is_watcher = result.is_watcher;
            // A new watcher checks again once it listens: an event may have come before.
            let must_listen = self.watch.is_watcher || self.leader.is_held();
            if result.is_admitted || is_listening || !must_listen {
                return Some(result);
            }
        }
    }

    /// Returns whether the leader still has time to act before this worker does.
    fn defers_to_leader(&mut self) -> bool {
        let now = Instant::now();
        let check_at = *self.watch.check_at.get_or_insert(now + LEADER_TIMEOUT);
        check_at > now
    }

    /// Listens to the queue's events if this worker is a watcher or the leader, and discards earlier
    /// ones. Returns whether it listens.
    fn listen(&mut self) -> bool {
        if !self.watch.is_watcher && !self.leader.is_held() {
            self.watch.is_listening = false;
            self.watch.wake_fifo = None;
            self.watch.running_watch = None;
            return false;
        }
        if self.watch.wake_fifo.is_none() {
            self.watch.wake_fifo = self.queue.open_wake_fifo().and_then(WakeSource::from_file).ok();
        }
        if self.watch.running_watch.is_none() {
            self.watch.running_watch =
                self.queue.open_running_watch().and_then(WakeSource::from_file).ok();
        }
        for source in [&self.watch.wake_fifo, &self.watch.running_watch].into_iter().flatten() {
            source.drain();
        }
        self.watch.is_listening = true;
        true
    }

    pub(super) fn stop_watching(&mut self) {
        self.leader.release();
        self.lock_poll = QueueLockPoll::default();
        self.polls_lock = false;
        self.watch = QueueWatch::default();
        self.poll_at = None;
    }

    /// Wakes the workers that have become watchers.
    fn notify_watchers(&mut self, result: &DispatchResult) {
        self.watch.notified.retain(|watcher| result.other_watchers.contains(watcher));
        for (job, worker) in &result.other_watchers {
            if self.watch.notified.insert((job.clone(), *worker)) {
                self.queue.wake(job, *worker);
            }
        }
    }

    /// Watches for the ends of workers that have a slot.
    fn watch_workers(&mut self, result: DispatchResult) {
        let mut workers = result.running;
        workers.extend(result.witnesses);
        self.watch.watched.retain(|watched| {
            // A process that writes the verdict may hold the job's lock for long.
            !watched.exit.has_ended()
                && workers.iter().any(|(job, pid)| *job == watched.job && *pid == watched.pid)
        });
        for (job, pid) in workers {
            let is_own = pid == crate::process::own_pid();
            let is_watched =
                self.watch.watched.iter().any(|watched| watched.job == job && watched.pid == pid);
            if !is_own && !is_watched {
                self.watch_worker(job, pid);
            }
        }
    }

    /// Writes, in a thread, the verdicts of lost jobs that other jobs wait for. Without a thread the
    /// next worker that checks does so.
    pub(super) fn finalize_lost_jobs(&mut self) -> Option<JoinHandle<()>> {
        let mut lost = self.queue.lost_tickets();
        lost.retain(|ticket| self.finalizing.insert(ticket.name()));
        if lost.is_empty() {
            return None;
        }
        let (jobs, queue) = (self.jobs.clone(), self.queue.clone());
        std::thread::Builder::new().spawn(move || finalize_tickets(&jobs, &queue, lost)).ok()
    }

    fn watch_worker(&mut self, job: JobId, pid: i32) {
        let exit = ProcessHandle::open(pid).and_then(ProcessExit::of);
        // The worker may have died before, and its process id been given to another process.
        let may_live = JobDir::new(&self.jobs, &job).may_live();
        match exit {
            Ok(exit) if may_live => self.watch.watched.push(WatchedWorker { job, pid, exit }),
            _ => self.poll_soon(),
        }
    }

    fn poll_soon(&mut self) {
        let soon = Instant::now() + POLL_INTERVAL;
        self.poll_at = Some(self.poll_at.map_or(soon, |at| at.min(soon)));
    }

    /// Sleeps until a [check](Self::check_queue) may find a change.
    pub(super) async fn queue_changed(&self) {
        if self.polls_lock {
            return sleep_to(self.poll_at).await;
        }
        // This worker has become the leader since its last check.
        if self.leader.is_held() && !self.watch.is_listening {
            return;
        }
        if self.watch.check_at.is_some() {
            return sleep_to(self.watch.check_at).await;
        }
        tokio::select! {
            () = self.leader.changed(), if !self.leader.is_held() => {}
            () = woken(self.watch.wake_fifo.as_ref()) => {}
            () = woken(self.watch.running_watch.as_ref()) => {}
            () = self.worker_ended() => {}
            () = sleep_to(self.poll_at) => {}
        }
    }

    async fn worker_ended(&self) {
        let mut exits: Vec<_> =
            self.watch.watched.iter().map(|watched| Box::pin(watched.exit.ended())).collect();
        std::future::poll_fn(|context| {
            let has_ended = exits.iter_mut().any(|exit| exit.as_mut().poll(context).is_ready());
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Writes the verdicts of the lost jobs of these tickets, and removes the tickets.
fn finalize_tickets(jobs: &Path, queue: &Queue, lost: Vec<Ticket>) {
    for ticket in lost {
        if finalize_job(&JobDir::new(jobs, &ticket.job_id)) {
            queue.remove_lost_ticket(&ticket);
        }
    }
}

/// Writes the verdict of a lost job. Returns whether the job has one.
///
/// The lock of a worker that has just died is held for a short time. If it is held for longer,
/// another process writes the verdict, and may be stopped: then the ticket is left for the next
/// worker that checks.
fn finalize_job(dir: &JobDir) -> bool {
    let until = Instant::now() + VERDICT_TIMEOUT;
    while Instant::now() < until {
        let Ok(mut record) = dir.load() else { return true };
        if record.status.is_live() {
            record = finalize_lost(dir, record, None);
        }
        if !record.status.is_live() {
            return true;
        }
        std::thread::sleep(VERDICT_POLL_INTERVAL);
    }
    false
}
