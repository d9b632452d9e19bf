//! The queue: gives jobs the slots in which their claudes may run, in order.
//!
//! There is no daemon. Each job has a [`Ticket`]: a small file in `.queue/waiting` or
//! `.queue/running` of the jobs directory, with everything that the order depends on in its name.
//! A ticket is valid while its job's lock is held. The ticket of a dead worker is moved to
//! `.queue/lost`, where it stays until the job's verdict is written; its slot is free once the
//! job's claude has ended.
//!
//! Only a live worker moves its own ticket, so that a stopped worker neither takes a slot nor
//! keeps one from others. It does so while it holds the [queue's lock](QueueLock), when
//! [`Queue::dispatch`] finds that it is next. To other jobs that are next as well it offers a
//! slot and signals their workers. An offer reserves the slot for [`PROGRESS_TIMEOUT`]; after
//! that the job is skipped until its worker answers.
//!
//! The first [few](MAX_WATCHERS) waiting workers are watchers: they run the dispatch whenever a
//! job leaves or joins the queue or a worker dies. The watcher that holds the
//! [leader lock](Queue::open_leader_lock) does so at once, the others a moment later, when there
//! is usually nothing left to do. All other workers sleep until they are offered a slot.
//! `model.rs` is a model of this protocol alone, and checked exhaustively.

mod limits;
mod queue_lock;
mod scheduling;
mod ticket;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{JobId, Login, QueueOptions};
use crate::process::{self, JobMarker, Orphans, ProcessHandle, machine};
use crate::store::{
    JobDir, create_directory, is_independent, notify, open_ordinary, open_wake_fifo,
};

pub use limits::Limit;
use queue_lock::PROGRESS_TIMEOUT;
pub use queue_lock::{QueueBusy, QueueLock, QueueLockPoll};
use scheduling::{Decision, KnownLimit, SchedulingView, decide};
pub use ticket::Ticket;

/// How long a worker waits for the queue's lock while other events need its attention.
pub const SHORT_LOCK_WAIT: Duration = Duration::from_millis(20);
// The names of these files and directories are a protocol between versions of the program that
// share a jobs directory: they never change. A job id cannot begin with a dot.
const QUEUE_DIR: &str = ".queue";
const QUEUE_LOCK: &str = "desk";
const LEADER_LOCK: &str = "head";
const WAKE_FIFO: &str = "bell";
const LAST_NUMBER: &str = "number";
const LAST_ADMISSION: &str = "admitted";
/// The only limit that earlier versions know.
const LEGACY_LIMIT: &str = "limit";
const LIMITS: &str = "limits";
const SALT: &str = "salt";
const WAITING: &str = "waiting";
const RUNNING: &str = "running";
const LOST: &str = "lost";
/// Directory of the offers: files with a ticket's name and the time of the offer, in milliseconds
/// of the monotonic clock.
const OFFERS: &str = "called";
/// Number of waiting workers that watch the queue. If all of them are stopped at once, the next
/// free slot is found only when another worker [polls](Queue::dispatch), minutes later.
const MAX_WATCHERS: usize = 4;
/// How often a watcher dispatches although nothing has happened.
const WATCHER_POLL_INTERVAL: Duration = Duration::from_secs(600);
/// The same for the first worker that is not a watcher. The interval doubles for each further one.
const FIRST_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// How long jobs that have not met a limit themselves wait after its end: the job that met it goes
/// first and finds out whether it is over.
const LIMIT_GRACE: Duration = Duration::from_secs(1);
/// How often a ticket is read again while its worker's process id is unknown.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Difference between two clocks that does not mean that one of them was set.
const MAX_CLOCK_DRIFT: Duration = Duration::from_secs(2);
/// How long to wait for the end of a dead worker's claude, to which the kernel has sent SIGKILL.
const CLAUDE_EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for any other process that the worker was starting when it died.
const ORPHANS_EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue of a jobs directory.
#[derive(Clone, Debug)]
pub struct Queue {
    jobs: PathBuf,
    path: PathBuf,
}

/// Result of [`Queue::enter`].
#[derive(Debug, PartialEq, Eq)]
pub enum EnterResult {
    /// The job has a slot.
    Admitted(Ticket),
    /// The job has a slot that must be [confirmed](Queue::confirm) before it is used.
    Unconfirmed(Ticket),
    /// The job waits for a slot.
    Waiting(Ticket),
    /// There is no slot, for this reason, and the job does not want to wait.
    NoSlot(String),
}

/// State of a ticket, by the directory in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// The job waits for a slot.
    Waiting,
    /// The job has a slot.
    Running,
    /// The ticket was removed.
    Gone,
}

/// Result of [`Queue::dispatch`], with what the worker has to watch from then on.
#[derive(Debug, Default)]
pub struct DispatchResult {
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

/// Number of jobs that have a slot or wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotUsage {
    pub running: usize,
    pub waiting: usize,
}

impl Queue {
    /// Returns the queue of the jobs directory at this path.
    pub fn for_jobs_dir(jobs: &Path) -> Self {
        Self { jobs: jobs.to_owned(), path: jobs.join(QUEUE_DIR) }
    }

    /// Asks for a slot for a job whose lock the caller holds. `earlier` is the ticket number that
    /// the job got before and keeps. `login` is the login that its claude will use.
    ///
    /// Returns `None` if others decided meanwhile, with a later generation of the lock: the caller
    /// tries again with that one.
    pub fn enter(
        &self,
        lock: &QueueLock,
        job_id: &JobId,
        admission: &QueueOptions,
        earlier: Option<u64>,
        login: &Login,
    ) -> io::Result<Option<EnterResult>> {
        let number = match earlier {
            Some(number) => number,
            None => self.allocate_number()?,
        };
        let (priority, admission) = (admission.priority, admission.clone());
        let no_queue = admission.no_queue;
        let (job_id, login) = (job_id.clone(), login.clone());
        let own = Ticket { priority, number, options: admission, job_id, login };
        self.remove_offer(&own);
        let mut snapshot = self.load_snapshot(lock);
        snapshot.waiting.retain(|ticket| self.offer_of(ticket, &snapshot.offers) != Offer::Expired);
        // The caller holds the job's lock: any other ticket of the job belongs to a dead worker.
        for (dir, tickets) in [(RUNNING, &mut snapshot.running), (WAITING, &mut snapshot.waiting)] {
            tickets.retain(|ticket| {
                let stale = ticket.job_id == own.job_id;
                if stale {
                    self.remove_ticket(dir, ticket);
                }
                !stale
            });
        }
        if let Err(at) = snapshot.waiting.binary_search(&own) {
            snapshot.waiting.insert(at, own.clone());
        }
        let admitted = loop {
            match snapshot.next() {
                Decision::Admit(next) if *next == own => break true,
                // The next job has lost its worker.
                Decision::Admit(next) if !self.is_live(&next.job_id) => {
                    let next = next.clone();
                    self.move_to_lost(WAITING, &next);
                    snapshot.waiting.retain(|ticket| *ticket != next);
                }
                _ => break false,
            }
        };
        let text = own.content(std::process::id() as i32, None);
        if !lock.is_latest() {
            return Ok(None);
        }
        fault_point("queue:entering");
        if admitted {
            self.write_ticket(RUNNING, &own, &text)?;
            self.record_probe(&own, Some(std::process::id() as i32), &mut snapshot.limits);
            self.record_admission(snapshot.now_ms);
            // Others may have decided since the last check.
            let confirmed = lock.is_latest();
            return Ok(Some(if confirmed {
                EnterResult::Admitted(own)
            } else {
                EnterResult::Unconfirmed(own)
            }));
        }
        // `--no-queue` accepts the pause between two starts: only a missing slot refuses the job.
        if no_queue {
            // Waiting jobs whose worker is dead need no slot.
            snapshot.waiting.retain(|ticket| {
                let is_valid = *ticket == own || self.is_live(&ticket.job_id);
                if !is_valid {
                    self.move_to_lost(WAITING, ticket);
                }
                is_valid
            });
            let limit =
                snapshot.is_limited(&own).then(|| "a limit of the API has not ended".to_owned());
            if let Some(why) = limit.or_else(|| snapshot.no_slot_reason(&own)) {
                return Ok(Some(EnterResult::NoSlot(why)));
            }
        }
        self.write_ticket(WAITING, &own, &text)?;
        fault_point("queue:waiting");
        self.notify();
        Ok(Some(EnterResult::Waiting(own)))
    }

    /// Returns the present state of a ticket.
    pub fn ticket_state(&self, ticket: &Ticket) -> TicketState {
        let name = ticket.name();
        let exists_in = |dir: &str| self.path.join(dir).join(&name).exists();
        // A ticket moves from `waiting` to `running`: checked in this order it is found also on the
        // way.
        if exists_in(WAITING) {
            TicketState::Waiting
        } else if exists_in(RUNNING) {
            TicketState::Running
        } else {
            TicketState::Gone
        }
    }

    /// Removes the tickets that a dead worker of the job has left; its next worker gets its own.
    /// The caller must hold the job's lock, which would make these tickets valid again. The queue's
    /// lock is not needed to remove one's own ticket.
    pub fn remove_stale_tickets(&self, job: &JobId) {
        let mut removed = false;
        // In the order in which tickets move.
        for dir in [WAITING, RUNNING] {
            for ticket in self.tickets(dir).iter().filter(|ticket| ticket.job_id == *job) {
                self.remove_ticket(dir, ticket);
                self.remove_offer(ticket);
                removed = true;
            }
        }
        if removed {
            self.notify();
        }
    }

    /// Removes a ticket: gives up the slot, or stops waiting for one.
    pub fn leave(&self, ticket: &Ticket) {
        // The slot first: if this worker is stopped now, others can use it.
        self.remove_ticket(RUNNING, ticket);
        fault_point("queue:left");
        // A worker of an earlier version may move the ticket of a waiting job at any time.
        self.remove_ticket(WAITING, ticket);
        self.remove_ticket(RUNNING, ticket);
        self.remove_offer(ticket);
        self.notify();
    }

    /// Records the process id of the claude that runs in a slot: the slot is free when it has
    /// ended.
    pub fn record_claude_pid(&self, ticket: &Ticket, claude: i32) {
        let text = ticket.content(std::process::id() as i32, Some(claude));
        let path = self.path.join(RUNNING).join(ticket.name());
        let _ = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.write_all_at(text.as_bytes(), 0));
    }

    /// Admits the caller's job if it is next, and offers a slot to other jobs that are next as
    /// well.
    ///
    /// Returns `None` if others decided meanwhile, with a later generation of the lock: the caller
    /// tries again with that one.
    pub fn dispatch(&self, lock: &QueueLock, own: &Ticket) -> io::Result<Option<DispatchResult>> {
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

    /// Decides whether the job keeps a slot that it took without the latest generation of the lock.
    /// If there is one too many, the job waits again. Returns the ticket's new state.
    pub fn confirm(&self, lock: &QueueLock, own: &Ticket) -> io::Result<TicketState> {
        let mut snapshot = self.load_snapshot(lock);
        let before = snapshot.running.len();
        snapshot.running.retain(|ticket| ticket.name() != own.name());
        if snapshot.running.len() == before {
            return Ok(self.ticket_state(own));
        }
        if snapshot.has_slot_for(own) {
            return Ok(TicketState::Running);
        }
        let name = own.name();
        fs::rename(self.path.join(RUNNING).join(&name), self.path.join(WAITING).join(&name))?;
        // Another job may have found no slot because of this one.
        self.notify();
        Ok(TicketState::Waiting)
    }

    /// Signals a worker to dispatch.
    pub fn wake(&self, job: &JobId, worker: i32) {
        if worker == std::process::id() as i32 {
            return;
        }
        let mark = JobMarker::new(&self.jobs.join(job.as_str()));
        if let Ok(target) = ProcessHandle::open(worker)
            && mark.is_on(worker)
        {
            let _ = target.signal(Signal::SIGUSR2);
        }
    }

    /// Offers a slot to a job that is next, and signals its worker.
    fn offer(&self, ticket: &Ticket, worker: Option<i32>) {
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
    fn remove_offer(&self, ticket: &Ticket) -> bool {
        fs::remove_file(self.path.join(OFFERS).join(ticket.name())).is_ok()
    }

    /// Returns the names of the tickets that hold an offer, with the time of the offer; without it
    /// where it could not be written.
    fn load_offers(&self) -> HashMap<String, Option<u64>> {
        let entries = fs::read_dir(self.path.join(OFFERS)).into_iter().flatten().flatten();
        let offered = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let at = self.read_number(&format!("{OFFERS}/{name}"));
            Some((name, at))
        });
        offered.collect()
    }

    fn offer_of(&self, ticket: &Ticket, offered: &HashMap<String, Option<u64>>) -> Offer {
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

    /// Returns the tickets of jobs whose worker is dead and whose verdict is not written yet.
    pub fn lost_tickets(&self) -> Vec<Ticket> {
        self.tickets(LOST)
    }

    /// Removes the ticket of a lost job whose verdict was written.
    pub fn remove_lost_ticket(&self, ticket: &Ticket) {
        self.remove_ticket(LOST, ticket);
    }

    fn move_to_lost(&self, dir: &str, ticket: &Ticket) {
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

    /// Gives a waiting job its slot. A worker that admitted itself checks afterwards whether its
    /// generation of the lock is still the latest: if so, all later decisions see its ticket.
    fn admit(&self, ticket: &Ticket) -> io::Result<()> {
        fault_point("queue:admitting");
        let name = ticket.name();
        let (from, to) = (self.path.join(WAITING).join(&name), self.path.join(RUNNING).join(&name));
        fs::rename(from, to)?;
        fault_point("queue:admitted");
        self.record_admission(clock::monotonic_ms());
        Ok(())
    }

    /// Opens the file whose lock (flock(2)) makes a watcher the leader: it dispatches at once.
    pub fn open_leader_lock(&self) -> io::Result<File> {
        open_or_create(&self.path.join(LEADER_LOCK))
    }

    /// Opens a descriptor that becomes readable when a job gets or gives up a slot. It is seen even
    /// if the job's worker was stopped before it could notify anybody.
    #[cfg(target_os = "linux")]
    pub fn open_running_watch(&self) -> io::Result<File> {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        use std::os::fd::AsFd;
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let removed = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        let added = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        changes.add_watch(&self.path.join(RUNNING), removed | added)?;
        Ok(File::from(changes.as_fd().try_clone_to_owned()?))
    }

    /// Not supported on this system: the wake FIFO has to suffice.
    #[cfg(not(target_os = "linux"))]
    pub fn open_running_watch(&self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens the wake FIFO, which becomes readable when a job joins or leaves the queue.
    pub fn open_wake_fifo(&self) -> io::Result<File> {
        open_wake_fifo(&self.path.join(WAKE_FIFO))
    }

    fn notify(&self) {
        notify(&self.path.join(WAKE_FIFO));
    }

    /// Returns whether the job has a slot.
    pub fn has_slot(&self, job: &JobId) -> bool {
        self.tickets(RUNNING).iter().any(|ticket| ticket.job_id == *job)
    }

    /// Returns the number of tickets, including those of dead workers.
    pub fn slot_usage(&self) -> SlotUsage {
        let count = |dir| self.tickets(dir).len();
        SlotUsage { running: count(RUNNING), waiting: count(WAITING) }
    }

    /// Reads the state of the queue. Tickets of dead workers in `running` are moved to `lost`, once
    /// their claude has ended.
    fn load_snapshot(&self, lock: &QueueLock) -> QueueSnapshot {
        let mut running = self.tickets(RUNNING);
        running.retain(|ticket| {
            let lives = self.is_live(&ticket.job_id);
            if lives && !self.has_lost_worker(ticket, lock) {
                return true;
            }
            if !lives {
                // Ending it may take a while.
                lock.report_progress();
                self.end_claude(ticket, lock);
            }
            self.move_to_lost(RUNNING, ticket);
            lock.report_progress();
            false
        });
        let now_ms = clock::monotonic_ms();
        // The monotonic clock restarts at a reboot.
        let admitted_ms = self.read_number(LAST_ADMISSION).filter(|at| *at <= now_ms);
        let (waiting, limits) = self.waiting_tickets();
        let offers = self.load_offers();
        let mut snapshot = QueueSnapshot {
            waiting,
            running,
            now_ms,
            admitted_ms,
            limits,
            known: Vec::new(),
            offers,
        };
        snapshot.known = self.known_limits(&snapshot);
        snapshot
    }

    fn known_limits(&self, snapshot: &QueueSnapshot) -> Vec<KnownLimit> {
        snapshot.limits.iter().map(|limit| self.to_known_limit(limit, snapshot.now_ms)).collect()
    }

    /// Reads the login of a waiting job.
    fn read_login(&self, ticket: &Ticket) -> Login {
        Ticket::parse_login(&self.read_ticket(WAITING, ticket))
    }

    /// Returns the tickets of the waiting jobs in order, and the limits that have not ended. The
    /// logins of the jobs are read only if there are limits.
    pub fn waiting_tickets(&self) -> (Vec<Ticket>, Vec<Limit>) {
        let mut waiting = self.tickets(WAITING);
        let limits = self.limits();
        if !limits.is_empty() {
            for ticket in &mut waiting {
                ticket.login = self.read_login(ticket);
            }
        }
        (waiting, limits)
    }

    /// Ends the processes of a dead worker's job, which still use the slot.
    fn end_claude(&self, ticket: &Ticket, lock: &QueueLock) {
        let job_dir = self.jobs.join(ticket.job_id.as_str());
        let mark = JobMarker::new(&job_dir);
        let gone = match self.pids(RUNNING, ticket).1 {
            Some(claude) => process::end_and_wait(claude, &mark, CLAUDE_EXIT_TIMEOUT),
            None => false,
        };
        if !gone {
            lock.report_progress();
            // Processes that cannot be ended are reported with the job's verdict.
            let orphans = Orphans {
                mark: &mark,
                worker_start: None,
                is_locked: false,
                is_independent: &is_independent,
            };
            orphans.end(Instant::now() + ORPHANS_EXIT_TIMEOUT);
        }
    }

    /// Returns whether the worker and the claude of a ticket have ended although its job's lock is
    /// held: by a process that writes the verdict, and that may be stopped.
    fn has_lost_worker(&self, ticket: &Ticket, lock: &QueueLock) -> bool {
        let content = self.read_ticket(RUNNING, ticket);
        if !Ticket::is_in_own_pid_namespace(&content) {
            return false;
        }
        let (Some(worker), Some(claude)) = self.parse_pids(&content, ticket) else { return false };
        let mark = JobMarker::new(&self.jobs.join(ticket.job_id.as_str()));
        if worker == std::process::id() as i32 || mark.is_on(worker) {
            return false;
        }
        lock.report_progress();
        process::end_and_wait(claude, &mark, CLAUDE_EXIT_TIMEOUT)
    }

    fn is_live(&self, job: &JobId) -> bool {
        JobDir::at(self.jobs.join(job.as_str())).may_live()
    }

    /// Returns whether the worker answers offers; workers of earlier versions do not.
    fn answers_offers(&self, ticket: &Ticket) -> bool {
        Ticket::answers_offers(&self.read_ticket(WAITING, ticket))
    }

    /// Returns the content of a ticket; empty if it does not exist.
    fn read_ticket(&self, dir: &str, ticket: &Ticket) -> String {
        fs::read_to_string(self.path.join(dir).join(ticket.name())).unwrap_or_default()
    }

    /// Returns the process ids of the worker and the claude of a ticket.
    fn pids(&self, dir: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        self.parse_pids(&self.read_ticket(dir, ticket), ticket)
    }

    /// The same, from the ticket's content.
    fn parse_pids(&self, content: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
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

    fn create_dirs(&self) -> io::Result<()> {
        for dir in ["", WAITING, RUNNING, LOST] {
            create_dir(&self.path.join(dir))?;
        }
        Ok(())
    }

    fn allocate_number(&self) -> io::Result<u64> {
        let highest = || {
            let tickets = self.tickets(WAITING).into_iter().chain(self.tickets(RUNNING));
            tickets.map(|ticket| ticket.number).max()
        };
        let last = self.read_number(LAST_NUMBER).or_else(highest).unwrap_or_default();
        self.replace(LAST_NUMBER, &(last + 1).to_string())?;
        Ok(last + 1)
    }

    fn record_admission(&self, at_ms: u64) {
        let _ = self.replace(LAST_ADMISSION, &at_ms.to_string());
    }

    fn read_number(&self, name: &str) -> Option<u64> {
        self.read_numbers(name).first().and_then(|number| u64::try_from(*number).ok())
    }

    /// Returns the numbers in a file; empty if it does not exist.
    fn read_numbers(&self, name: &str) -> Vec<i64> {
        let mut text = String::new();
        let file = open_ordinary(&self.path.join(name), OpenOptions::new().read(true));
        let read = file.map(|file| file.take(64));
        let _ = read.and_then(|mut file| file.read_to_string(&mut text));
        text.split_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        // Short enough to be written at once, and padded to overwrite a longer text.
        let file = open_or_create(&self.path.join(name))?;
        file.write_all_at(format!("{text:<40}\n").as_bytes(), 0)
    }

    fn write_ticket(&self, dir: &str, ticket: &Ticket, text: &str) -> io::Result<()> {
        let path = self.path.join(dir).join(ticket.name());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        // The name is sufficient: a full disk may not take the content.
        let _ = file?.write_all(text.as_bytes());
        Ok(())
    }

    fn remove_ticket(&self, dir: &str, ticket: &Ticket) {
        let _ = fs::remove_file(self.path.join(dir).join(ticket.name()));
    }

    /// Returns the tickets in a directory, in order. Tickets of other machines are left out: slots
    /// are for the memory of one machine, and their workers cannot be woken from here.
    fn tickets(&self, dir: &str) -> Vec<Ticket> {
        let entries = fs::read_dir(self.path.join(dir)).into_iter().flatten().flatten();
        let tickets = entries.filter_map(|entry| Ticket::parse(entry.file_name().to_str()?));
        let mut tickets: Vec<Ticket> = tickets.collect();
        if machine::is_shared(&self.jobs) {
            tickets.retain(|ticket| {
                let job = JobDir::at(self.jobs.join(ticket.job_id.as_str()));
                !job.may_live_elsewhere()
            });
        }
        tickets.sort_unstable();
        tickets
    }
}

fn create_dir(path: &Path) -> io::Result<()> {
    create_directory(path, true).map_err(|error| error.source)
}

/// Opens a file of the queue for locking or writing, and creates it if it is missing.
fn open_or_create(path: &Path) -> io::Result<File> {
    open_ordinary(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o600))
}

/// State of the queue, as read from its files.
struct QueueSnapshot {
    waiting: Vec<Ticket>,
    running: Vec<Ticket>,
    now_ms: u64,
    admitted_ms: Option<u64>,
    limits: Vec<Limit>,
    /// The same limits, as input for [`decide`].
    known: Vec<KnownLimit>,
    /// Names of the tickets that hold an offer, with the time of the offer.
    offers: HashMap<String, Option<u64>>,
}

/// Offer of a slot to a waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    None,
    /// The slot is reserved for this much longer.
    Pending(Duration),
    /// The job's worker did not answer in time: the job is skipped until it does.
    Expired,
}

impl QueueSnapshot {
    fn next(&self) -> Decision<'_> {
        decide(&SchedulingView {
            waiting: &self.waiting,
            running: &self.running,
            now_ms: self.now_ms,
            admitted_ms: self.admitted_ms,
            limits: &self.known,
        })
    }

    /// Returns whether there is a slot for this job beside the running ones.
    fn has_slot_for(&self, own: &Ticket) -> bool {
        let QueueOptions { max_parallel, group_limit, group, .. } = &own.options;
        if *max_parallel > 0 && self.running.len() >= *max_parallel as usize {
            return false;
        }
        let Some(group) = group else { return true };
        let in_group = self.running.iter().filter(|other| other.is_in_group(group)).count();
        in_group < *group_limit as usize
    }

    /// Returns whether the job has to wait for a limit.
    fn is_limited(&self, own: &Ticket) -> bool {
        scheduling::limit_delay_ms(own, &self.known) > 0
    }

    /// Returns why a waiting job gets no slot; `None` if it only has to wait for some time.
    fn no_slot_reason(&mut self, own: &Ticket) -> Option<String> {
        self.admitted_ms = None;
        self.known.clear();
        // Jobs ahead of it take their slots first.
        while let Decision::Admit(next) = self.next() {
            if next == own {
                return None;
            }
            let next = next.clone();
            self.waiting.retain(|ticket| *ticket != next);
            self.running.push(next);
        }
        let QueueOptions { max_parallel, group_limit, group, .. } = &own.options;
        let taken = self.running.len();
        if *max_parallel > 0 && taken >= *max_parallel as usize {
            return Some(format!("{taken} taken, and --max-parallel is {max_parallel}"));
        }
        let Some(group) = group else { return Some("other jobs wait for a slot".to_owned()) };
        let in_group = self.running.iter().filter(|other| other.is_in_group(group)).count();
        Some(format!("{in_group} taken by group {group}, and --group-limit is {group_limit}"))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
