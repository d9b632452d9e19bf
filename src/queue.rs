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
//! slot and signals their workers. An offer reserves the slot for `PROGRESS_TIMEOUT`; after
//! that the job is skipped until its worker answers.
//!
//! The first [few](MAX_WATCHERS) waiting workers are watchers: they run the dispatch whenever a
//! job leaves or joins the queue or a worker dies. The watcher that holds the
//! [leader lock](Queue::open_leader_lock) does so at once, the others a moment later, when there
//! is usually nothing left to do. All other workers sleep until they are offered a slot.
//!
//! A [pause](PauseScope) is a file that each decision reads: it holds waiting jobs back.
//!
//! `model.rs` is a model of this protocol alone, and checked exhaustively.

mod dispatch;
mod files;
mod limits;
mod offers;
mod paused;
mod queue_lock;
mod scheduling;
mod snapshot;
mod ticket;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{JobId, Login, QueueOptions};
use crate::process::{ProcessHandle, own_pid};
use crate::store::{notify, open_wake_fifo};

pub(crate) use dispatch::DispatchResult;
use files::open_or_create;
pub(crate) use limits::Limit;
use offers::Offer;
pub(crate) use paused::{PauseScope, PauseSet};
pub(crate) use queue_lock::{QueueBusy, QueueLock, QueueLockPoll};
use scheduling::Decision;
pub(crate) use scheduling::slot_holders;
use snapshot::QueueSnapshot;
pub(crate) use ticket::Ticket;

/// How long a worker waits for the queue's lock while other events need its attention.
pub(crate) const SHORT_LOCK_WAIT: Duration = Duration::from_millis(20);
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
/// How long jobs that have not met a limit themselves wait after its end: the job that met it goes
/// first and finds out whether it is over.
const LIMIT_GRACE: Duration = Duration::from_secs(1);
/// How often a ticket is read again while its worker's process id is unknown.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Difference between two clocks that does not mean that one of them was set.
const MAX_CLOCK_DRIFT: Duration = Duration::from_secs(2);

/// The queue of a jobs directory.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    jobs: PathBuf,
    path: PathBuf,
}

/// Result of [`Queue::enter`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EnterResult {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TicketState {
    /// The job waits for a slot.
    Waiting,
    /// The job has a slot.
    Running,
    /// There is no ticket, or it was removed.
    Gone,
}

impl Queue {
    /// Returns the queue of the jobs directory at this path.
    pub(crate) fn for_jobs_dir(jobs: &Path) -> Self {
        Self { jobs: jobs.to_owned(), path: jobs.join(QUEUE_DIR) }
    }

    /// Asks for a slot for a job whose lock the caller holds. `earlier` is the ticket number that
    /// the job got before and keeps. `login` is the login that its claude will use.
    ///
    /// Returns `None` if others decided meanwhile, with a later generation of the lock: the caller
    /// tries again with that one.
    pub(crate) fn enter(
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
        let own = Ticket {
            priority: admission.priority,
            number,
            options: admission.clone(),
            job_id: job_id.clone(),
            login: login.clone(),
        };
        let mut snapshot = self.load_snapshot_for(lock, &own);
        let admitted = self.is_next(&mut snapshot, &own);
        let text = own.content(own_pid(), None);
        if !lock.is_latest() {
            return Ok(None);
        }
        fault_point("queue:entering");
        if admitted {
            self.write_ticket(RUNNING, &own, &text)?;
            let worker = Some(own_pid());
            self.begin_probe(&own, worker, &mut snapshot.limits, true);
            self.record_admission(snapshot.now_ms);
            // Others may have decided since the last check.
            return Ok(Some(if lock.is_latest() {
                EnterResult::Admitted(own)
            } else {
                EnterResult::Unconfirmed(own)
            }));
        }
        if admission.no_queue
            && let Some(why) = self.refusal_reason(&mut snapshot, &own)
        {
            return Ok(Some(EnterResult::NoSlot(why)));
        }
        self.write_ticket(WAITING, &own, &text)?;
        fault_point("queue:waiting");
        self.notify();
        Ok(Some(EnterResult::Waiting(own)))
    }

    /// Reads the state of the queue for a job that enters it.
    fn load_snapshot_for(&self, lock: &QueueLock, own: &Ticket) -> QueueSnapshot {
        self.remove_offer(own);
        let mut snapshot = self.load_snapshot(lock);
        snapshot.waiting.retain(|ticket| Offer::of(ticket, &snapshot.offers) != Offer::Expired);
        // The caller holds the job's lock: any other ticket of the job belongs to a dead worker.
        for (dir, tickets) in [(RUNNING, &mut snapshot.running), (WAITING, &mut snapshot.waiting)] {
            tickets.retain(|ticket| {
                let is_stale = ticket.job_id == own.job_id;
                if is_stale {
                    self.remove_ticket(dir, ticket);
                }
                !is_stale
            });
        }
        if let Err(at) = snapshot.waiting.binary_search(own) {
            snapshot.waiting.insert(at, own.clone());
        }
        snapshot
    }

    /// Returns whether the job gets the next slot.
    fn is_next(&self, snapshot: &mut QueueSnapshot, own: &Ticket) -> bool {
        while let Decision::Admit(next) = snapshot.next() {
            if next == own {
                return true;
            }
            if self.is_live(&next.job_id) {
                return false;
            }
            let next = next.clone();
            self.move_to_lost(WAITING, &next);
            snapshot.waiting.retain(|ticket| *ticket != next);
        }
        false
    }

    /// Returns why a job that does not want to wait is refused. It accepts the pause between two
    /// starts.
    fn refusal_reason(&self, snapshot: &mut QueueSnapshot, own: &Ticket) -> Option<String> {
        // Waiting jobs whose worker is dead need no slot.
        snapshot.waiting.retain(|ticket| {
            let is_valid = ticket == own || self.is_live(&ticket.job_id);
            if !is_valid {
                self.move_to_lost(WAITING, ticket);
            }
            is_valid
        });
        if let Some(pause) = snapshot.pause_of(own) {
            return Some(pause.why());
        }
        if snapshot.is_limited(own) {
            return Some("a limit of the API has not ended".to_owned());
        }
        snapshot.no_slot_reason(own)
    }

    /// Returns the present state of a ticket.
    pub(crate) fn ticket_state(&self, ticket: &Ticket) -> TicketState {
        // A ticket moves from `waiting` to `running`: checked in this order it is found also on the
        // way.
        if self.ticket_path(WAITING, ticket).exists() {
            TicketState::Waiting
        } else if self.ticket_path(RUNNING, ticket).exists() {
            TicketState::Running
        } else {
            TicketState::Gone
        }
    }

    /// Removes the tickets that a dead worker of the job has left; its next worker gets its own.
    /// The caller must hold the job's lock, which would make these tickets valid again. The queue's
    /// lock is not needed to remove one's own ticket.
    pub(crate) fn remove_stale_tickets(&self, job: &JobId) {
        let mut removed = false;
        // In the order in which tickets move.
        for dir in [WAITING, RUNNING] {
            for ticket in self.tickets(dir) {
                if ticket.job_id == *job {
                    self.remove_ticket(dir, &ticket);
                    self.remove_offer(&ticket);
                    removed = true;
                }
            }
        }
        if removed {
            self.notify();
        }
    }

    /// Removes a ticket: gives up the slot, or stops waiting for one.
    pub(crate) fn leave(&self, ticket: &Ticket) {
        // The slot first: if this worker is stopped now, others can use it.
        self.remove_ticket(RUNNING, ticket);
        fault_point("queue:left");
        // A worker of an earlier version may move the ticket of a waiting job at any time.
        self.remove_ticket(WAITING, ticket);
        self.remove_ticket(RUNNING, ticket);
        self.remove_offer(ticket);
        self.notify();
    }

    /// Gives a waiting job another ticket with the same number. Returns it; `None` if others decided
    /// meanwhile, with a later generation of the lock: the caller tries again with that one.
    pub(crate) fn replace_ticket(
        &self,
        lock: &QueueLock,
        own: &Ticket,
        new: Ticket,
    ) -> io::Result<Option<Ticket>> {
        if !lock.is_latest() {
            return Ok(None);
        }
        let paths = (self.ticket_path(WAITING, own), self.ticket_path(WAITING, &new));
        fault_point("queue:replacing");
        fs::rename(paths.0, paths.1)?;
        self.remove_offer(own);
        self.notify();
        Ok(Some(new))
    }

    /// Records the process id of the claude that runs in a slot: the slot is free when it has
    /// ended.
    pub(crate) fn record_claude_pid(&self, ticket: &Ticket, claude: i32) {
        let text = ticket.content(own_pid(), Some(claude));
        let path = self.ticket_path(RUNNING, ticket);
        if let Ok(file) = OpenOptions::new().write(true).open(path) {
            let _ = file.write_all_at(text.as_bytes(), 0);
        }
    }

    /// Decides whether the job keeps a slot that it took without the latest generation of the lock.
    /// If there is one too many, the job waits again. Returns the ticket's new state.
    pub(crate) fn confirm(&self, lock: &QueueLock, own: &Ticket) -> io::Result<TicketState> {
        let mut snapshot = self.load_snapshot(lock);
        let before = snapshot.running.len();
        snapshot.running.retain(|ticket| !ticket.is_same(own));
        if snapshot.running.len() == before {
            return Ok(self.ticket_state(own));
        }
        if snapshot.has_slot_for(own) {
            return Ok(TicketState::Running);
        }
        self.move_ticket(own, RUNNING, WAITING)?;
        // Another job may have found no slot because of this one.
        self.notify();
        Ok(TicketState::Waiting)
    }

    /// Signals a worker to dispatch.
    pub(crate) fn wake(&self, job: &JobId, worker: i32) {
        if worker == own_pid() {
            return;
        }
        if let Ok(target) = ProcessHandle::open(worker)
            && self.marker(job).is_on(worker)
        {
            let _ = target.signal(Signal::SIGUSR2);
        }
    }

    /// Returns the tickets of jobs whose worker is dead and whose verdict is not written yet.
    pub(crate) fn lost_tickets(&self) -> Vec<Ticket> {
        self.tickets(LOST)
    }

    /// Removes the ticket of a lost job whose verdict was written.
    pub(crate) fn remove_lost_ticket(&self, ticket: &Ticket) {
        self.remove_ticket(LOST, ticket);
    }

    /// Gives a waiting job its slot. A worker that admitted itself checks afterwards whether its
    /// generation of the lock is still the latest: if so, all later decisions see its ticket.
    fn admit(&self, ticket: &Ticket) -> io::Result<()> {
        fault_point("queue:admitting");
        self.move_ticket(ticket, WAITING, RUNNING)?;
        fault_point("queue:admitted");
        self.record_admission(clock::monotonic_ms());
        Ok(())
    }

    /// Opens the file whose lock (flock(2)) makes a watcher the leader: it dispatches at once.
    pub(crate) fn open_leader_lock(&self) -> io::Result<File> {
        open_or_create(&self.path.join(LEADER_LOCK))
    }

    /// Opens a descriptor that becomes readable when a job gets or gives up a slot. It is seen even
    /// if the job's worker was stopped before it could notify anybody.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_running_watch(&self) -> io::Result<File> {
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
    pub(crate) fn open_running_watch(&self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens the wake FIFO, which becomes readable when a job joins or leaves the queue.
    pub(crate) fn open_wake_fifo(&self) -> io::Result<File> {
        open_wake_fifo(&self.path.join(WAKE_FIFO))
    }

    fn notify(&self) {
        notify(&self.path.join(WAKE_FIFO));
    }

    /// Returns the directories whose files change when jobs join or leave the queue, get a slot, or
    /// when limits and pauses begin or end.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let mut directories = vec![self.path.clone()];
        for name in [WAITING, RUNNING, LIMITS, paused::PAUSED] {
            directories.push(self.path.join(name));
        }
        directories
    }

    /// Returns the tickets of the jobs that have a slot.
    pub(crate) fn running_tickets(&self) -> Vec<Ticket> {
        self.tickets(RUNNING)
    }

    /// Returns whether the job has a slot.
    pub(crate) fn has_slot(&self, job: &JobId) -> bool {
        self.tickets(RUNNING).iter().any(|ticket| ticket.job_id == *job)
    }

    /// Returns the tickets of the waiting jobs in order, and the limits that have not ended. The
    /// logins of the jobs are read only if there are limits.
    pub(crate) fn waiting_tickets(&self) -> (Vec<Ticket>, Vec<Limit>) {
        let mut waiting = self.tickets(WAITING);
        let limits = self.limits();
        if !limits.is_empty() {
            for ticket in &mut waiting {
                ticket.login = self.read_ticket(WAITING, ticket).login;
            }
        }
        (waiting, limits)
    }

    /// Returns the tickets of the jobs that have a slot.
    pub(crate) fn slot_tickets(&self) -> Vec<Ticket> {
        self.tickets(RUNNING)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
