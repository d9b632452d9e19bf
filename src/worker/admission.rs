//! Admission of the job: waits for its start time, for other jobs, and for a slot in the
//! [queue](crate::queue).

mod leader_lock;
mod updates;
mod watcher;

use std::collections::BTreeSet;
use std::future::pending;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::exit_watch::ExitWatch;
use super::sleep_to;
use crate::claude::{self, Env};
use crate::clock;
use crate::finalize::finalize_lost;
use crate::job::{JobId, Login, QueueOptions, Record, Spec, Status, WaitReason, milliseconds};
use crate::queue::{
    EnterResult, Limit, Queue, QueueBusy, QueueLock, QueueLockPoll, SHORT_LOCK_WAIT, Ticket,
    TicketState,
};
use crate::store::{JobDir, Liveness, LoadError};
use crate::supervisor::FailedDependency;

use leader_lock::LeaderLock;
use updates::TicketUpdates;
use watcher::QueueWatch;

/// How often to check for the end of a process that cannot be watched.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Pause after the queue could not be read.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the first request waits for the queue's lock before `start` is answered: longer than the
/// queue waits for one holder that makes no progress.
const FIRST_LOCK_TIMEOUT: Duration = Duration::from_secs(4);

/// The worker's part in the queue.
pub(super) struct AdmissionControl {
    jobs: PathBuf,
    queue: Queue,
    stage: AdmissionStage,
    /// Number of the job's ticket, once it has one.
    number: Option<u64>,
    leader: LeaderLock,
    /// Attempts to take the queue's lock.
    lock_poll: QueueLockPoll,
    /// The queue's lock is polled, and nothing else is waited for.
    polls_lock: bool,
    /// Only the caller of `start` waits for an answer.
    is_first_request: bool,
    watch: QueueWatch,
    /// When to check again although nothing happens.
    poll_at: Option<Instant>,
    /// Jobs that were waited for and have ended. If they are resumed, they are not waited for again.
    ended_jobs: BTreeSet<JobId>,
    /// Names of the tickets of lost jobs whose verdicts are being written.
    finalizing: BTreeSet<String>,
    updates: TicketUpdates,
}

enum AdmissionStage {
    /// There was no request yet, or the job runs without a slot, or it has left the queue.
    Outside,
    /// The job's start time has not come.
    Delayed(Instant),
    /// Other jobs have not ended.
    AwaitingJobs(ExitWatch),
    /// The job requests a slot as soon as its worker has the queue's lock.
    Entering(Box<(QueueOptions, Login)>),
    /// The job waits for a slot.
    Queued(Ticket),
    /// The job has a slot that must be confirmed.
    Unconfirmed(Ticket),
    /// The job has a slot.
    Admitted(Ticket),
}

/// Result of a request for a slot, or of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AdmissionStep {
    /// The job is admitted.
    Admitted,
    /// The job is admitted without a slot, because the queue cannot be used, for this reason.
    AdmittedWithout(String),
    /// The job waits.
    Waits(WaitReason),
    /// A job that this one waited for did not complete.
    DependencyFailed(FailedDependency),
    /// There is no slot, for this reason, and the job does not want to wait.
    NoSlot(String),
    /// The queue's lock cannot be taken, for this reason.
    Busy(String),
}

/// Why the job has not entered the queue.
enum EnterError {
    /// The queue is in use.
    Step(AdmissionStep),
    /// The queue cannot be used.
    Io(std::io::Error),
}

enum DependencyState {
    Done,
    Open(Vec<JobDir>),
    Failed(FailedDependency),
}

impl AdmissionControl {
    pub(super) fn for_job(job: &JobDir) -> Self {
        let jobs = job.root().to_owned();
        Self {
            queue: Queue::for_jobs_dir(&jobs),
            jobs,
            stage: AdmissionStage::Outside,
            number: None,
            leader: LeaderLock::default(),
            lock_poll: QueueLockPoll::default(),
            polls_lock: false,
            is_first_request: false,
            watch: QueueWatch::default(),
            poll_at: None,
            ended_jobs: BTreeSet::new(),
            finalizing: BTreeSet::new(),
            updates: TicketUpdates::default(),
        }
    }

    /// Admits the job at once, or begins to wait.
    pub(super) fn begin(&mut self, record: &Record) -> AdmissionStep {
        let delay = Duration::from_millis(record.spec.start_delay_ms);
        let left = record.starts_at().map(|at| at.since(clock::now())).unwrap_or_default();
        // Never longer than requested, even if the clock has been set back.
        let left = left.min(delay);
        // A job that ran before has waited for everything but a slot.
        if !record.attempt.was_admitted && !left.is_zero() {
            self.queue.remove_stale_tickets(&record.job_id);
            self.stage = AdmissionStage::Delayed(Instant::now() + left);
            return AdmissionStep::Waits(WaitReason::Time);
        }
        self.is_first_request = true;
        let step = self.wait_for_dependencies(record);
        self.is_first_request = false;
        step
    }

    fn wait_for_dependencies(&mut self, record: &Record) -> AdmissionStep {
        if record.attempt.was_admitted {
            return self.enter_queue(record);
        }
        match self.check_dependencies(record) {
            DependencyState::Done => self.enter_queue(record),
            DependencyState::Failed(other) => AdmissionStep::DependencyFailed(other),
            DependencyState::Open(open) => {
                self.queue.remove_stale_tickets(&record.job_id);
                self.stage = match ExitWatch::new() {
                    Ok(mut exits) => {
                        exits.watch(open);
                        AdmissionStage::AwaitingJobs(exits)
                    }
                    Err(_) => AdmissionStage::Delayed(Instant::now() + POLL_INTERVAL),
                };
                AdmissionStep::Waits(WaitReason::Jobs)
            }
        }
    }

    /// Returns the state of the jobs that this one waits for.
    fn check_dependencies(&mut self, record: &Record) -> DependencyState {
        let mut open = Vec::new();
        let after = record.spec.after.iter().map(|id| (id, true));
        for (id, must_complete) in after.chain(record.spec.after_any.iter().map(|id| (id, false))) {
            if self.ended_jobs.contains(id) {
                continue;
            }
            let dir = JobDir::new(&self.jobs, id);
            let mut other = match dir.load() {
                Ok(other) => other,
                Err(LoadError::NotFound(_)) if !must_complete => continue,
                Err(error) => {
                    let error = format!("job {id}: {error}");
                    return DependencyState::Failed(FailedDependency { error, cut_off: false });
                }
            };
            if matches!(dir.liveness(&other), Ok(Liveness::Lost)) {
                other = finalize_lost(&dir, other, None);
            }
            match other.status {
                status if status.is_live() => open.push(dir),
                status if must_complete && status != Status::Completed => {
                    let reason = other.reason.map(|why| format!(" ({why})")).unwrap_or_default();
                    let error = format!("job {id}, for which it waited, is {status}{reason}");
                    let cut_off = other.is_cut_off();
                    return DependencyState::Failed(FailedDependency { error, cut_off });
                }
                _ => {
                    self.ended_jobs.insert(id.clone());
                }
            }
        }
        if open.is_empty() { DependencyState::Done } else { DependencyState::Open(open) }
    }

    /// Requests a slot.
    pub(super) fn enter_queue(&mut self, record: &Record) -> AdmissionStep {
        if record.spec.engine.is_some() {
            return self.admit_on_engine(record);
        }
        let mut options = record.spec.queue_options.clone();
        // A job that met a limit has waited for its end, and now finds out whether it is over.
        if self.number.is_some() {
            options.limit_wait_ms = 0;
        }
        options.no_queue &= self.number.is_none();
        let login = self.login(&record.spec);
        self.request_slot(record, &options, &login)
    }

    /// Admits a job to which an engine has given its place: the queue's locks are those of one machine.
    /// Only limits of the API are waited for, which the machines share.
    fn admit_on_engine(&mut self, record: &Record) -> AdmissionStep {
        let login = self.login(&record.spec);
        let mut limits = self.queue.recorded_limits();
        limits.retain(|limit| limit.applies_to(&login));
        let left = limits.iter().map(Limit::left_anywhere).max().unwrap_or_default();
        if !left.is_zero() && record.spec.queue_options.waits_for_limit(milliseconds(left)) {
            self.stage = AdmissionStage::Delayed(Instant::now() + left);
            return AdmissionStep::Waits(WaitReason::Slot);
        }
        self.stage = AdmissionStage::Outside;
        AdmissionStep::Admitted
    }

    /// Returns the login that claude would use now.
    pub(super) fn login(&self, spec: &Spec) -> Login {
        let salt = self.queue.salt().ok();
        claude::account(&Env::own(), spec, salt.as_deref())
    }

    fn request_slot(
        &mut self,
        record: &Record,
        options: &QueueOptions,
        login: &Login,
    ) -> AdmissionStep {
        self.polls_lock = false;
        let entered = match self.enter_with_lock(record, options, login) {
            Ok(entered) => Ok(entered),
            Err(EnterError::Step(step)) => return step,
            Err(EnterError::Io(error)) => Err(error),
        };
        let finalizing = self.finalize_lost_jobs();
        match entered {
            Ok(EnterResult::Admitted(ticket)) => {
                self.note_admitted(ticket);
                AdmissionStep::Admitted
            }
            Ok(EnterResult::Unconfirmed(ticket)) => {
                self.number = Some(ticket.number);
                self.confirm(record, ticket).unwrap_or(AdmissionStep::Waits(WaitReason::Slot))
            }
            Ok(EnterResult::Waiting(ticket)) => {
                self.number = Some(ticket.number);
                self.stage = AdmissionStage::Queued(ticket);
                // A new worker checks for all jobs: perhaps no other worker can.
                self.check(record, true).unwrap_or(AdmissionStep::Waits(WaitReason::Slot))
            }
            Ok(EnterResult::NoSlot(why)) => {
                // This process is about to end.
                let _ = finalizing.map(JoinHandle::join);
                AdmissionStep::NoSlot(why)
            }
            Err(error) => {
                self.stage = AdmissionStage::Outside;
                AdmissionStep::AdmittedWithout(error.to_string())
            }
        }
    }

    /// Takes the queue's lock and enters the queue.
    fn enter_with_lock(
        &mut self,
        record: &Record,
        options: &QueueOptions,
        login: &Login,
    ) -> Result<EnterResult, EnterError> {
        let timeout = if self.is_first_request { FIRST_LOCK_TIMEOUT } else { SHORT_LOCK_WAIT };
        loop {
            let lock = match self.queue.lock_within(timeout, &mut self.lock_poll) {
                Ok(Some(lock)) => lock,
                Ok(None) if self.is_first_request && options.no_queue => {
                    let why = "the lock of the queue was not free in time".to_owned();
                    return Err(EnterError::Step(AdmissionStep::Busy(why)));
                }
                Ok(None) => {
                    self.schedule_lock_poll();
                    return Err(self.enter_later(options, login));
                }
                // Nothing is lost, because the job has not begun.
                Err(error)
                    if QueueBusy::is_in(&error)
                        && self.is_first_request
                        && record.attempt.number == 1 =>
                {
                    return Err(EnterError::Step(AdmissionStep::Busy(error.to_string())));
                }
                Err(error) if QueueBusy::is_in(&error) => {
                    self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return Err(self.enter_later(options, login));
                }
                Err(error) => return Err(EnterError::Io(error)),
            };
            let entered = self.queue.enter(&lock, &record.job_id, options, self.number, login);
            if let Some(entered) = entered.map_err(EnterError::Io)? {
                return Ok(entered);
            }
        }
    }

    /// Waits until the queue's lock may be free.
    fn enter_later(&mut self, options: &QueueOptions, login: &Login) -> EnterError {
        self.stage = AdmissionStage::Entering(Box::new((options.clone(), login.clone())));
        EnterError::Step(AdmissionStep::Waits(WaitReason::Slot))
    }

    /// Tries to take the queue's lock again after a pause.
    fn schedule_lock_poll(&mut self) {
        self.polls_lock = true;
        self.poll_at = Some(Instant::now() + self.lock_poll.pause());
    }

    /// Takes the queue's lock if it is free; else schedules another try.
    fn queue_lock(&mut self) -> Option<QueueLock> {
        self.polls_lock = false;
        match self.queue.try_lock(&mut self.lock_poll) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => self.schedule_lock_poll(),
            Err(_) => self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY),
        }
        None
    }

    /// Confirms a slot that the latest scheduling decision may not have counted. The job keeps it if
    /// the limits allow that.
    fn confirm(&mut self, record: &Record, ticket: Ticket) -> Option<AdmissionStep> {
        self.stop_watching();
        self.stage = AdmissionStage::Unconfirmed(ticket.clone());
        let lock = self.queue_lock()?;
        let state = self.queue.confirm(&lock, &ticket);
        drop(lock);
        match state {
            Ok(TicketState::Running) => {
                self.note_admitted(ticket);
                Some(AdmissionStep::Admitted)
            }
            Ok(TicketState::Waiting) => {
                self.stage = AdmissionStage::Queued(ticket);
                self.check(record, true)
            }
            Ok(TicketState::Gone) => Some(self.request_slot_again(record, &ticket)),
            Err(_) => {
                self.poll_at = Some(Instant::now() + ERROR_RETRY_DELAY);
                None
            }
        }
    }

    /// Creates the ticket again after another process has removed it.
    fn request_slot_again(&mut self, record: &Record, ticket: &Ticket) -> AdmissionStep {
        let options = QueueOptions { no_queue: false, ..ticket.options.clone() };
        self.request_slot(record, &options, &ticket.login)
    }

    fn note_admitted(&mut self, ticket: Ticket) {
        self.number = Some(ticket.number);
        self.stage = AdmissionStage::Admitted(ticket);
        self.stop_watching();
    }

    /// Records that claude, with this process id, runs in the slot.
    pub(super) fn record_claude(&self, pid: i32) {
        if let AdmissionStage::Admitted(ticket) = &self.stage {
            self.queue.record_claude_pid(ticket, pid);
        }
    }

    /// Gives up the slot, or leaves the queue.
    pub(super) fn leave_queue(&mut self) {
        let stage = std::mem::replace(&mut self.stage, AdmissionStage::Outside);
        if let AdmissionStage::Admitted(ticket)
        | AdmissionStage::Unconfirmed(ticket)
        | AdmissionStage::Queued(ticket) = &stage
        {
            self.queue.leave(ticket);
        }
        self.stop_watching();
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Checks whether the job can proceed; `None` if nothing has changed for it. `was_signalled`:
    /// another worker has signalled this one, while any other event may be handled by other workers
    /// as well.
    pub(super) fn check(&mut self, record: &Record, was_signalled: bool) -> Option<AdmissionStep> {
        if !self.apply_updates(record) {
            return None;
        }
        match &mut self.stage {
            AdmissionStage::Outside | AdmissionStage::Admitted(_) => None,
            AdmissionStage::Delayed(until) if Instant::now() < *until => None,
            AdmissionStage::Delayed(_) => Some(self.wait_for_dependencies(record)),
            AdmissionStage::AwaitingJobs(_) => match self.check_dependencies(record) {
                DependencyState::Open(open) => {
                    if let AdmissionStage::AwaitingJobs(exits) = &mut self.stage {
                        exits.watch(open);
                    }
                    None
                }
                DependencyState::Done => Some(self.enter_queue(record)),
                DependencyState::Failed(other) => Some(AdmissionStep::DependencyFailed(other)),
            },
            AdmissionStage::Entering(request) => {
                let (options, login) = (**request).clone();
                match self.request_slot(record, &options, &login) {
                    AdmissionStep::Waits(_) => None,
                    step => Some(step),
                }
            }
            AdmissionStage::Unconfirmed(ticket) => {
                let ticket = ticket.clone();
                self.confirm(record, ticket)
            }
            AdmissionStage::Queued(ticket) => {
                let ticket = ticket.clone();
                self.check_queue(record, ticket, was_signalled)
            }
        }
    }

    /// Sleeps until a [check](Self::check) may find a change.
    pub(super) async fn changed(&self) {
        match &self.stage {
            AdmissionStage::Outside | AdmissionStage::Admitted(_) => pending().await,
            AdmissionStage::Delayed(until) => sleep_until((*until).into()).await,
            AdmissionStage::AwaitingJobs(exits) => exits.ended().await,
            AdmissionStage::Entering(_) | AdmissionStage::Unconfirmed(_) => {
                sleep_to(self.poll_at).await;
            }
            AdmissionStage::Queued(_) => self.queue_changed().await,
        }
    }
}
