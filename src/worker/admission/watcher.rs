//! Waiting in the queue. The worker may be a watcher, which runs the dispatch for all jobs whenever
//! a job leaves or joins the queue or a worker ends.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::future::pending;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;

use super::{AdmissionControl, AdmissionStep, ERROR_RETRY_DELAY, POLL_INTERVAL};
use crate::finalize::finalize_lost;
use crate::job::{JobId, Record};
use crate::queue::{DispatchResult, QueueLockPoll, Ticket, TicketState};
use crate::store::JobDir;
use crate::worker::sleep_to;

/// How long to wait until another process has written the verdict of a lost job, and how often to
/// check.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(2);
const VERDICT_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a watcher that is not the leader waits for the leader to act.
const LEADER_TIMEOUT: Duration = Duration::from_millis(100);

/// A worker that has a slot, and whose end is watched.
pub(super) struct WatchedWorker {
    job: JobId,
    pid: i32,
    /// The pidfd of the process, which becomes readable when the process ends.
    #[cfg(target_os = "linux")]
    exit: pipe::Receiver,
}

impl WatchedWorker {
    #[cfg(target_os = "linux")]
    fn has_ended(&self) -> bool {
        crate::process::readable_within(self.exit.as_fd(), Duration::ZERO)
    }

    #[cfg(not(target_os = "linux"))]
    fn has_ended(&self) -> bool {
        false
    }
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
            && self.is_watcher
            && self.defers_to_leader()
        {
            return None;
        }
        let result = loop {
            let is_listening = self.listen();
            self.check_at = None;
            self.poll_at = None;
            let lock = self.queue_lock()?;
            let result = match self.queue.dispatch(&lock, &ticket) {
                Ok(Some(result)) => result,
                Ok(None) => continue,
                Err(_) => {
                    self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return None;
                }
            };
            drop(lock);
            self.is_watcher = result.is_watcher;
            // A new watcher checks again once it listens: an event may have come before.
            let must_listen = self.is_watcher || self.leader.is_held();
            if result.is_admitted || is_listening || !must_listen {
                break result;
            }
        };
        if result.is_admitted {
            self.notify_watchers(&result);
            if result.needs_confirmation {
                return self.confirm(record, ticket);
            }
            self.note_admitted(ticket);
            return Some(AdmissionStep::Admitted);
        }
        let mut wait = result.poll_after;
        if self.is_watcher || self.leader.is_held() {
            wait = wait.min(result.retry_after.unwrap_or(wait));
            self.poll_at = Some(Instant::now() + wait);
            self.notify_watchers(&result);
            self.watch_workers(result);
        } else {
            self.watched.clear();
            self.notified.clear();
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

    /// Returns whether the leader still has time to act before this worker does.
    fn defers_to_leader(&mut self) -> bool {
        let now = Instant::now();
        let check_at = *self.check_at.get_or_insert(now + LEADER_TIMEOUT);
        check_at > now
    }

    /// Listens to the queue's events if this worker is a watcher or the leader, and discards earlier
    /// ones. Returns whether it listens.
    fn listen(&mut self) -> bool {
        if !self.is_watcher && !self.leader.is_held() {
            self.is_listening = false;
            self.wake_fifo = None;
            self.running_watch = None;
            return false;
        }
        if self.wake_fifo.is_none() {
            self.wake_fifo =
                self.queue.open_wake_fifo().and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        if self.running_watch.is_none() {
            let watch = self.queue.open_running_watch();
            self.running_watch = watch.and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        // Large enough for one event of inotify(7) at least.
        let mut discarded = [0; 1024];
        for source in [&self.wake_fifo, &self.running_watch].into_iter().flatten() {
            while source.try_read(&mut discarded).is_ok_and(|length| length > 0) {}
        }
        self.is_listening = true;
        true
    }

    pub(super) fn stop_watching(&mut self) {
        self.leader.release();
        self.lock_poll = QueueLockPoll::default();
        self.polls_lock = false;
        self.is_watcher = false;
        self.is_listening = false;
        self.wake_fifo = None;
        self.running_watch = None;
        self.watched.clear();
        self.notified.clear();
        self.check_at = None;
        self.poll_at = None;
    }

    /// Wakes the workers that have become watchers.
    fn notify_watchers(&mut self, result: &DispatchResult) {
        self.notified.retain(|watcher| result.other_watchers.contains(watcher));
        for (job, worker) in &result.other_watchers {
            if self.notified.insert((job.clone(), *worker)) {
                self.queue.wake(job, *worker);
            }
        }
    }

    /// Watches for the ends of workers that have a slot.
    fn watch_workers(&mut self, result: DispatchResult) {
        let mut workers = result.running;
        workers.extend(result.witnesses);
        self.watched.retain(|watched| {
            // A process that writes the verdict may hold the job's lock for long.
            !watched.has_ended()
                && workers.iter().any(|(job, pid)| *job == watched.job && *pid == watched.pid)
        });
        for (job, pid) in workers {
            let is_own = pid == std::process::id() as i32;
            let is_watched =
                self.watched.iter().any(|watched| watched.job == job && watched.pid == pid);
            if !is_own && !is_watched {
                self.watch(job, pid);
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
        let finalize = move || {
            for ticket in lost {
                let dir = JobDir::new(&jobs, &ticket.job_id);
                // The lock of a worker that has just died is held for a short time. If it is held
                // for longer, another process writes the verdict, and may be stopped: then the
                // ticket is left for the next worker that checks.
                let until = Instant::now() + VERDICT_TIMEOUT;
                let mut is_live = true;
                while is_live && Instant::now() < until {
                    let record = dir.load().map(|record| finalize_lost(&dir, record, None));
                    is_live = record.is_ok_and(|record| record.status.is_live());
                    if is_live {
                        std::thread::sleep(VERDICT_POLL_INTERVAL);
                    }
                }
                if !is_live {
                    queue.remove_lost_ticket(&ticket);
                }
            }
        };
        std::thread::Builder::new().spawn(finalize).ok()
    }

    #[cfg(target_os = "linux")]
    fn watch(&mut self, job: JobId, pid: i32) {
        let exit = crate::process::ProcessHandle::open(pid).and_then(|process| {
            // Not a pipe, but a pidfd becomes readable as a pipe does, and is never read.
            pipe::Receiver::from_file_unchecked(File::from(std::os::fd::OwnedFd::from(process)))
        });
        // The worker may have died before, and its process id been given to another process.
        let may_live = JobDir::new(&self.jobs, &job).may_live();
        match exit {
            Ok(exit) if may_live => self.watched.push(WatchedWorker { job, pid, exit }),
            _ => self.poll_soon(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn watch(&mut self, job: JobId, pid: i32) {
        self.watched.push(WatchedWorker { job, pid });
        self.poll_soon();
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
        if self.leader.is_held() && !self.is_listening {
            return;
        }
        if self.check_at.is_some() {
            return sleep_to(self.check_at).await;
        }
        tokio::select! {
            () = self.leader.changed(), if !self.leader.is_held() => {}
            () = readable(self.wake_fifo.as_ref()) => {}
            () = readable(self.running_watch.as_ref()) => {}
            () = self.worker_ended() => {}
            () = sleep_to(self.poll_at) => {}
        }
    }

    #[cfg(target_os = "linux")]
    async fn worker_ended(&self) {
        use std::task::Poll;
        let mut exits: Vec<_> =
            self.watched.iter().map(|watched| Box::pin(watched.exit.readable())).collect();
        std::future::poll_fn(|context| {
            let has_ended = exits.iter_mut().any(|exit| exit.as_mut().poll(context).is_ready());
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[cfg(not(target_os = "linux"))]
    async fn worker_ended(&self) {
        pending().await
    }
}

async fn readable(source: Option<&pipe::Receiver>) {
    match source {
        Some(source) if source.readable().await.is_ok() => {}
        _ => pending().await,
    }
}
