//! Waiting for the job's turn: for its time, for other jobs, and for a slot in the
//! [queue](crate::queue).

use std::collections::BTreeSet;
use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::time::sleep_until;

use super::exit_watch::ExitWatch;
use super::waker::{Waker, create_waker};
use crate::claude::{self, Env};
use crate::clock;
use crate::finalize::finalize_lost;
use crate::job::{JobId, Login, QueueOptions, Record, Spec, Status, WaitReason};
use crate::queue::{
    DispatchResult, EnterResult, Queue, QueueBusy, QueueLock, QueueLockPoll, SHORT_LOCK_WAIT,
    Ticket, TicketState,
};
use crate::store::{JobDir, LoadError};
use crate::supervisor::FailedDependency;

/// How long somebody else may take to write the end of a lost job, and the pause between two looks.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const END_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often is looked where nobody can be told that a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How soon is looked again where the queue could not be read.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a watcher that is not at the head leaves it to that one to act.
const LEADER_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the queue's lock is waited for before `start` is answered: longer than one holder that
/// makes no progress is waited for.
const FIRST_LEADER_DELAY: Duration = Duration::from_secs(4);

/// The worker's part in the queue.
pub(super) struct AdmissionControl {
    jobs: PathBuf,
    queue: Queue,
    stage: AdmissionStage,
    /// The number that the job drew.
    number: Option<u64>,
    head: LeaderLock,
    /// The queue's lock, as long as it is tried for.
    poll: QueueLockPoll,
    /// It is being tried for: nothing else is waited for.
    polls: bool,
    /// Nobody but the caller of `start` waits for an answer.
    begins: bool,
    bell: Option<pipe::Receiver>,
    /// Changes among those who have a slot.
    changes: Option<pipe::Receiver>,
    watched: Vec<WatchedWorker>,
    /// This worker is one of those who watch for all.
    watches: bool,
    /// It has looked since it listens.
    attends: bool,
    /// Something has happened, at which it looks at this time.
    due: Option<Instant>,
    /// The other watchers, who were told that they are.
    told: BTreeSet<(JobId, i32)>,
    /// When to look again although nothing happens.
    again: Option<Instant>,
    /// Jobs that have ended as it was waited for: whatever becomes of them, that is over.
    met: BTreeSet<JobId>,
    /// The names of lost jobs' tickets whose end is being written.
    burying: BTreeSet<String>,
}

/// How far the job has come.
enum AdmissionStage {
    /// Nothing was asked for, or it has gone without a slot.
    Outside,
    /// Its time has not come.
    Delayed(Instant),
    /// Others have not ended.
    Behind(ExitWatch),
    /// It asks for a slot as soon as it has the queue's lock.
    Entering(Box<(QueueOptions, Login)>),
    /// It waits for a slot.
    Queued(Ticket),
    /// It has one that is to be confirmed.
    LetIn(Ticket),
    /// It has one.
    Inside(Ticket),
}

/// A worker that has a slot, and whose end is to be seen.
struct WatchedWorker {
    job: JobId,
    pid: i32,
    #[cfg(target_os = "linux")]
    end: pipe::Receiver,
}

impl WatchedWorker {
    #[cfg(target_os = "linux")]
    fn has_ended(&self) -> bool {
        crate::process::readable_within(self.end.as_fd(), Duration::ZERO)
    }

    #[cfg(not(target_os = "linux"))]
    fn has_ended(&self) -> bool {
        false
    }
}

/// How the job stands in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AdmissionStep {
    /// It is its turn.
    Admitted,
    /// The same, but without a slot, because the queue cannot be used.
    AdmittedWithout(String),
    /// It waits.
    Waits(WaitReason),
    /// A job that it waited for did not complete.
    DependencyFailed(FailedDependency),
    /// It did not want to wait.
    NoSlot(String),
    /// The queue's lock cannot be had.
    Busy(String),
}

impl AdmissionControl {
    pub(super) fn of(job: &JobDir) -> Self {
        let jobs = job.root().to_owned();
        Self {
            queue: Queue::for_jobs_dir(&jobs),
            jobs,
            stage: AdmissionStage::Outside,
            number: None,
            head: LeaderLock::default(),
            poll: QueueLockPoll::default(),
            polls: false,
            begins: false,
            bell: None,
            changes: None,
            watched: Vec::new(),
            watches: false,
            attends: false,
            due: None,
            told: BTreeSet::new(),
            again: None,
            met: BTreeSet::new(),
            burying: BTreeSet::new(),
        }
    }

    /// Begins to wait, or is let in at once.
    pub(super) fn begin(&mut self, record: &Record) -> AdmissionStep {
        let delay = Duration::from_millis(record.spec.start_delay_ms);
        let left = record.starts_at().map(|at| at.since(clock::now())).unwrap_or_default();
        // Never longer than was asked for, should the clock have been set back.
        let left = left.min(delay);
        // A job that ran before has waited for all but a slot.
        if !record.was_admitted && !left.is_zero() {
            self.queue.remove_stale_tickets(&record.job_id);
            self.stage = AdmissionStage::Delayed(Instant::now() + left);
            return AdmissionStep::Waits(WaitReason::Time);
        }
        self.begins = true;
        let step = self.wait_for_dependencies(record);
        self.begins = false;
        step
    }

    fn wait_for_dependencies(&mut self, record: &Record) -> AdmissionStep {
        if record.was_admitted {
            return self.enter_queue(record);
        }
        match self.check_dependencies(record) {
            DependencyState::Done => self.enter_queue(record),
            DependencyState::Failed(other) => AdmissionStep::DependencyFailed(other),
            DependencyState::Open(open) => {
                self.queue.remove_stale_tickets(&record.job_id);
                self.stage = match ExitWatch::new() {
                    Ok(mut ends) => {
                        ends.watch(open);
                        AdmissionStage::Behind(ends)
                    }
                    Err(_) => AdmissionStage::Delayed(Instant::now() + POLL_INTERVAL),
                };
                AdmissionStep::Waits(WaitReason::Jobs)
            }
        }
    }

    /// How the jobs stand that this one waits for.
    fn check_dependencies(&mut self, record: &Record) -> DependencyState {
        let mut open = Vec::new();
        let after = record.spec.after.iter().map(|id| (id, true));
        for (id, must_complete) in after.chain(record.spec.after_any.iter().map(|id| (id, false))) {
            if self.met.contains(id) {
                continue;
            }
            let dir = JobDir::at(self.jobs.join(id.as_str()));
            let mut other = match dir.load() {
                Ok(other) => other,
                Err(LoadError::NotFound) if !must_complete => continue,
                Err(error) => {
                    let error = format!("job {id}: {error}");
                    return DependencyState::Failed(FailedDependency { error, cut_off: false });
                }
            };
            if other.status.is_live() && !dir.may_live() {
                other = finalize_lost(&dir, other, None);
            }
            match other.status {
                status if status.is_live() => open.push((id.clone(), dir)),
                status if must_complete && status != Status::Completed => {
                    let reason = other.reason.map(|why| format!(" ({why})")).unwrap_or_default();
                    let error = format!("job {id}, for which it waited, is {status}{reason}");
                    let cut_off = other.is_cut_off();
                    return DependencyState::Failed(FailedDependency { error, cut_off });
                }
                _ => {
                    self.met.insert(id.clone());
                }
            }
        }
        if open.is_empty() { DependencyState::Done } else { DependencyState::Open(open) }
    }

    /// Asks for a slot.
    pub(super) fn enter_queue(&mut self, record: &Record) -> AdmissionStep {
        let mut admission = record.spec.queue_options.clone();
        // Whoever has met a limit has waited for its end, and finds out whether it is over.
        if self.number.is_some() {
            admission.limit_wait_ms = 0;
        }
        admission.no_queue &= self.number.is_none();
        let login = self.login(&record.spec);
        self.request_slot(record, &admission, &login)
    }

    /// The login that claude would use now.
    pub(super) fn login(&self, spec: &Spec) -> Login {
        let salt = self.queue.salt().ok();
        claude::account(&Env::own(), spec, salt.as_deref())
    }

    fn request_slot(
        &mut self,
        record: &Record,
        admission: &QueueOptions,
        login: &Login,
    ) -> AdmissionStep {
        self.polls = false;
        let most = if self.begins { FIRST_LEADER_DELAY } else { SHORT_LOCK_WAIT };
        let entered = loop {
            let desk = match self.queue.lock_within(most, &mut self.poll) {
                Ok(Some(desk)) => desk,
                Ok(None) if self.begins && admission.no_queue => {
                    return AdmissionStep::Busy(
                        "the lock of the queue was not free in time".to_owned(),
                    );
                }
                Ok(None) => {
                    self.stage =
                        AdmissionStage::Entering(Box::new((admission.clone(), login.clone())));
                    self.schedule_poll();
                    return AdmissionStep::Waits(WaitReason::Slot);
                }
                // Nothing is lost where nothing has begun.
                Err(error) if QueueBusy::is_in(&error) && self.begins && record.attempt == 1 => {
                    return AdmissionStep::Busy(error.to_string());
                }
                Err(error) if QueueBusy::is_in(&error) => {
                    self.stage =
                        AdmissionStage::Entering(Box::new((admission.clone(), login.clone())));
                    self.again = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return AdmissionStep::Waits(WaitReason::Slot);
                }
                Err(error) => break Err(error),
            };
            match self.queue.enter(&desk, &record.job_id, admission, self.number, login) {
                Ok(None) => {}
                Ok(Some(entered)) => break Ok(entered),
                Err(error) => break Err(error),
            }
        };
        let burial = self.finalize_lost_jobs();
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
                // Whoever comes has to look for all: perhaps nobody else can.
                self.check(record, true).unwrap_or(AdmissionStep::Waits(WaitReason::Slot))
            }
            Ok(EnterResult::NoSlot(why)) => {
                // This process is about to end.
                let _ = burial.map(JoinHandle::join);
                AdmissionStep::NoSlot(why)
            }
            Err(error) => {
                self.stage = AdmissionStage::Outside;
                AdmissionStep::AdmittedWithout(error.to_string())
            }
        }
    }

    /// The queue's lock is tried for again after a pause.
    fn schedule_poll(&mut self) {
        self.polls = true;
        self.again = Some(Instant::now() + self.poll.pause());
    }

    /// Takes the queue's lock if that takes no time; else it is tried for again.
    fn queue_lock(&mut self) -> Option<QueueLock> {
        self.polls = false;
        match self.queue.try_lock(&mut self.poll) {
            Ok(Some(desk)) => return Some(desk),
            Ok(None) => self.schedule_poll(),
            Err(_) => self.again = Some(Instant::now() + ERROR_RETRY_DELAY),
        }
        None
    }

    /// Has a slot that the latest decision about slots may not have seen; it is kept if the limits
    /// hold with it.
    fn confirm(&mut self, record: &Record, ticket: Ticket) -> Option<AdmissionStep> {
        self.stop_watching();
        self.stage = AdmissionStage::LetIn(ticket.clone());
        let desk = self.queue_lock()?;
        let place = self.queue.confirm(&desk, &ticket);
        drop(desk);
        match place {
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
                self.again = Some(Instant::now() + ERROR_RETRY_DELAY);
                None
            }
        }
    }

    /// Somebody has taken the ticket away: it is put there again.
    fn request_slot_again(&mut self, record: &Record, ticket: &Ticket) -> AdmissionStep {
        let admission = QueueOptions { no_queue: false, ..ticket.options.clone() };
        self.request_slot(record, &admission, &ticket.login)
    }

    fn note_admitted(&mut self, ticket: Ticket) {
        self.number = Some(ticket.number);
        self.stage = AdmissionStage::Inside(ticket);
        self.stop_watching();
    }

    fn stop_watching(&mut self) {
        self.head.release();
        self.poll = QueueLockPoll::default();
        self.polls = false;
        self.watches = false;
        self.attends = false;
        self.bell = None;
        self.changes = None;
        self.watched.clear();
        self.told.clear();
        self.due = None;
        self.again = None;
    }

    /// Claude runs in the slot.
    pub(super) fn occupy(&self, claude: i32) {
        if let AdmissionStage::Inside(ticket) = &self.stage {
            self.queue.record_claude_pid(ticket, claude);
        }
    }

    /// Gives up the slot, or the place in the line.
    pub(super) fn leave_queue(&mut self) {
        let stage = std::mem::replace(&mut self.stage, AdmissionStage::Outside);
        if let AdmissionStage::Inside(ticket)
        | AdmissionStage::LetIn(ticket)
        | AdmissionStage::Queued(ticket) = &stage
        {
            self.queue.leave(ticket);
        }
        self.stop_watching();
    }

    /// The queue, for what else is to be told there.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Looks how the job stands now; `None` where nothing has changed for it. `called`: somebody has
    /// signalled that it is to look, else something has happened to which others listen as well.
    pub(super) fn check(&mut self, record: &Record, called: bool) -> Option<AdmissionStep> {
        match &mut self.stage {
            AdmissionStage::Outside | AdmissionStage::Inside(_) => None,
            AdmissionStage::Delayed(until) if Instant::now() < *until => None,
            AdmissionStage::Delayed(_) => Some(self.wait_for_dependencies(record)),
            AdmissionStage::Behind(_) => match self.check_dependencies(record) {
                DependencyState::Open(open) => {
                    if let AdmissionStage::Behind(ends) = &mut self.stage {
                        ends.watch(open);
                    }
                    None
                }
                DependencyState::Done => Some(self.enter_queue(record)),
                DependencyState::Failed(other) => Some(AdmissionStep::DependencyFailed(other)),
            },
            AdmissionStage::Entering(asks) => {
                let (admission, login) = (**asks).clone();
                match self.request_slot(record, &admission, &login) {
                    AdmissionStep::Waits(_) => None,
                    step => Some(step),
                }
            }
            AdmissionStage::LetIn(ticket) => {
                let ticket = ticket.clone();
                self.confirm(record, ticket)
            }
            AdmissionStage::Queued(ticket) => {
                let ticket = ticket.clone();
                self.check_queue(record, ticket, called)
            }
        }
    }

    fn check_queue(
        &mut self,
        record: &Record,
        ticket: Ticket,
        called: bool,
    ) -> Option<AdmissionStep> {
        let has_head = self.head.want(&self.queue);
        if !called && !self.polls && !self.head.is_ours() && self.watches && self.leaves_it() {
            return None;
        }
        let done = loop {
            let listens = self.listen();
            self.due = None;
            self.again = None;
            let desk = self.queue_lock()?;
            let done = match self.queue.dispatch(&desk, &ticket) {
                Ok(Some(done)) => done,
                Ok(None) => continue,
                Err(_) => {
                    self.again = Some(Instant::now() + ERROR_RETRY_DELAY);
                    return None;
                }
            };
            drop(desk);
            self.watches = done.is_watcher;
            // Who is to watch looks once more when it listens: something may have happened before.
            if done.is_admitted || listens || !(self.watches || self.head.is_ours()) {
                break done;
            }
        };
        if done.is_admitted {
            self.notify_watchers(&done);
            if done.needs_confirmation {
                return self.confirm(record, ticket);
            }
            self.note_admitted(ticket);
            return Some(AdmissionStep::Admitted);
        }
        let mut wait = done.poll_after;
        if self.watches || self.head.is_ours() {
            wait = wait.min(done.retry_after.unwrap_or(wait));
            self.again = Some(Instant::now() + wait);
            self.notify_watchers(&done);
            self.watch_workers(done);
        } else {
            self.watched.clear();
            self.told.clear();
            self.again = Some(Instant::now() + wait);
        }
        if !has_head {
            let soon = Instant::now() + POLL_INTERVAL;
            self.again = Some(self.again.map_or(soon, |at| at.min(soon)));
        }
        self.finalize_lost_jobs();
        match self.queue.ticket_state(&ticket) {
            // By a worker of an earlier version.
            TicketState::Running => self.confirm(record, ticket),
            TicketState::Waiting => None,
            TicketState::Gone => Some(self.request_slot_again(record, &ticket)),
        }
    }

    /// Whether this is left to the head for a moment.
    fn leaves_it(&mut self) -> bool {
        let now = Instant::now();
        let due = *self.due.get_or_insert(now + LEADER_LOCK_TIMEOUT);
        due > now
    }

    /// Listens to what happens in the queue, if this worker watches; forgets what has happened
    /// before. Says whether it listens.
    fn listen(&mut self) -> bool {
        if !self.watches && !self.head.is_ours() {
            self.attends = false;
            self.bell = None;
            self.changes = None;
            return false;
        }
        if self.bell.is_none() {
            self.bell =
                self.queue.open_wake_fifo().and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        if self.changes.is_none() {
            let changes = self.queue.open_running_watch();
            self.changes = changes.and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        // Room for an event of inotify(7) at least.
        let mut heard = [0; 1024];
        for source in [&self.bell, &self.changes].into_iter().flatten() {
            while source.try_read(&mut heard).is_ok_and(|length| length > 0) {}
        }
        self.attends = true;
        true
    }

    /// Wakes up those who have become watchers.
    fn notify_watchers(&mut self, done: &DispatchResult) {
        self.told.retain(|watcher| done.other_watchers.contains(watcher));
        for (job, worker) in &done.other_watchers {
            if self.told.insert((job.clone(), *worker)) {
                self.queue.wake(job, *worker);
            }
        }
    }

    /// Watches for the ends of workers that have a slot.
    fn watch_workers(&mut self, done: DispatchResult) {
        let mut workers = done.running;
        workers.extend(done.witnesses);
        self.watched.retain(|watched| {
            // Somebody may hold the lock of its job, and write its end, for long.
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

    /// Has the ends of lost jobs written, beside this, which others wait for. Where there is no
    /// thread to do so, it is left to whoever comes next.
    fn finalize_lost_jobs(&mut self) -> Option<JoinHandle<()>> {
        let mut lost = self.queue.lost_tickets();
        lost.retain(|ticket| self.burying.insert(ticket.name()));
        if lost.is_empty() {
            return None;
        }
        let (jobs, queue) = (self.jobs.clone(), self.queue.clone());
        let bury = move || {
            for ticket in lost {
                let dir = JobDir::at(jobs.join(ticket.job_id.as_str()));
                // The lock of a worker that has just died is held for a moment longer. One that is
                // held on is that of somebody who writes the end, and may be stopped: the ticket
                // stays, for whoever comes next.
                let until = Instant::now() + END_TIMEOUT;
                let mut is_live = true;
                while is_live && Instant::now() < until {
                    let record = dir.load().map(|record| match record.status.is_live() {
                        true => finalize_lost(&dir, record, None),
                        false => record,
                    });
                    is_live = record.is_ok_and(|record| record.status.is_live());
                    if is_live {
                        std::thread::sleep(END_POLL_INTERVAL);
                    }
                }
                if !is_live {
                    queue.remove_lost_ticket(&ticket);
                }
            }
        };
        std::thread::Builder::new().spawn(bury).ok()
    }

    fn watch(&mut self, job: JobId, pid: i32) {
        let soon = Instant::now() + POLL_INTERVAL;
        #[cfg(target_os = "linux")]
        {
            let end = crate::process::ProcessHandle::open(pid).and_then(|target| {
                // No pipe, but it becomes readable as one does, and nothing is read from it.
                pipe::Receiver::from_file_unchecked(File::from(std::os::fd::OwnedFd::from(target)))
            });
            // It may have died, and its number passed on, before it was opened.
            let lives = JobDir::at(self.jobs.join(job.as_str())).may_live();
            match end {
                Ok(end) if lives => self.watched.push(WatchedWorker { job, pid, end }),
                _ => self.again = Some(self.again.map_or(soon, |at| at.min(soon))),
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            self.watched.push(Watched { job, pid });
            self.again = Some(self.again.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Sleeps until it is worth a [look](Self::look).
    pub(super) async fn changed(&self) {
        match &self.stage {
            AdmissionStage::Outside | AdmissionStage::Inside(_) => pending().await,
            AdmissionStage::Delayed(until) => sleep_until((*until).into()).await,
            AdmissionStage::Behind(ends) => ends.news().await,
            AdmissionStage::Entering(_) | AdmissionStage::LetIn(_) => at(self.again).await,
            AdmissionStage::Queued(_) if self.polls => at(self.again).await,
            // It has become so since the last look.
            AdmissionStage::Queued(_) if self.head.is_ours() && !self.attends => {}
            AdmissionStage::Queued(_) if self.due.is_some() => at(self.due).await,
            AdmissionStage::Queued(_) => {
                tokio::select! {
                    () = self.head.changed(), if !self.head.is_ours() => {}
                    () = heard(self.bell.as_ref()) => {}
                    () = heard(self.changes.as_ref()) => {}
                    () = self.worker_ended() => {}
                    () = at(self.again) => {}
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    async fn worker_ended(&self) {
        use std::task::Poll;
        let mut ends: Vec<_> =
            self.watched.iter().map(|watched| Box::pin(watched.end.readable())).collect();
        std::future::poll_fn(|context| {
            let ended = ends.iter_mut().any(|end| end.as_mut().poll(context).is_ready());
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[cfg(not(target_os = "linux"))]
    async fn worker_ended(&self) {
        pending().await
    }
}

async fn heard(source: Option<&pipe::Receiver>) {
    match source {
        Some(source) if source.readable().await.is_ok() => {}
        _ => pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

enum DependencyState {
    Done,
    Open(Vec<(JobId, JobDir)>),
    Failed(FailedDependency),
}

/// The head of the line: held, or waited for by a thread that sleeps in flock(2).
#[derive(Default)]
struct LeaderLock {
    shared: Arc<Mutex<LeaderClaim>>,
    wakeup: Option<Waker>,
}

#[derive(Default)]
struct LeaderClaim {
    /// It is wanted, also by the time at which it is got.
    wanted: bool,
    /// A thread waits for it.
    waits: bool,
    /// A thread could not wait for it.
    failed: bool,
    held: Option<File>,
}

impl LeaderLock {
    fn claim(&self) -> std::sync::MutexGuard<'_, LeaderClaim> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self) -> bool {
        self.claim().held.is_some()
    }

    /// Stands in line for it; takes it at once where nobody holds it. Says whether it is ours or
    /// will be told of; else it has to be asked for again in a while.
    fn want(&mut self, queue: &Queue) -> bool {
        let mut claim = self.claim();
        claim.wanted = true;
        if claim.waits || claim.held.is_some() {
            return true;
        }
        let failed = std::mem::take(&mut claim.failed);
        drop(claim);
        self.wakeup = None;
        !failed && self.claim_lead(queue).is_ok()
    }

    fn claim_lead(&mut self, queue: &Queue) -> io::Result<()> {
        let file = queue.open_leader_lock()?;
        if file.try_lock().is_ok() {
            self.claim().held = Some(file);
            return Ok(());
        }
        let (wakeup, mut waker) = create_waker()?;
        let shared = Arc::clone(&self.shared);
        let wait = move || {
            let locked = loop {
                match file.lock() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    locked => break locked.is_ok(),
                }
            };
            let mut claim = shared.lock().unwrap_or_else(PoisonError::into_inner);
            claim.waits = false;
            claim.failed = !locked;
            if locked && claim.wanted {
                claim.held = Some(file);
            }
            drop(claim);
            let _ = waker.write(b"!");
        };
        self.claim().waits = true;
        let spawned = std::thread::Builder::new().stack_size(64 << 10).spawn(wait);
        if spawned.is_err() {
            self.claim().waits = false;
        }
        self.wakeup = Some(wakeup).filter(|_| spawned.is_ok());
        spawned.map(drop)
    }

    fn release(&mut self) {
        let mut claim = self.claim();
        claim.wanted = false;
        claim.held = None;
    }

    /// Sleeps until it is ours.
    async fn changed(&self) {
        match &self.wakeup {
            Some(wakeup) => wakeup.wait().await,
            None => pending().await,
        }
    }
}
