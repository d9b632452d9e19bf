//! The queue: whose claude may run, and who is next.
//!
//! No daemon decides. A job's place is an empty-handed file whose name says all ([`Ticket`]), in
//! `.queue/waiting` or `.queue/running` of the jobs directory. A ticket counts for as long as its
//! job's lock is held: one whose worker died is worth nothing, and its slot is free once its
//! claude is gone. It then lies in `.queue/lost` until somebody has written the job's end.
//!
//! A live worker moves its own ticket and nobody else does, so that one that is stopped takes no
//! slot and keeps none from others. It does so with the [lock](Desk) of the queue, when it finds
//! that it is next ([`Queue::dispatch`]); whom it finds to be next as well it calls. One that was
//! called keeps its turn for [`PATIENCE`]; then it is passed over until it comes by itself.
//!
//! The first few of those who wait [watch](WATCHERS): they look when somebody leaves, rings the
//! bell or dies. One of them, who holds the [head of the line](Queue::open_head), does so at once
//! and the others a moment later, when there is mostly nothing left to do. The rest sleep until
//! they are called. `model.rs` is the protocol without the rest, and checked exhaustively.

mod choice;
mod desk;
mod limits;
mod ticket;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::checkpoint::checkpoint;
use crate::clock;
use crate::job::{Admission, JobId, Login};
use crate::process::{self, Mark, Orphans, Target, machine};
use crate::store::{JobDir, is_independent, make_directory, open_bell, open_ordinary, ring_bell};

use choice::{Choice, KnownLimit, Standing, choose};
use desk::PATIENCE;
pub use desk::{Busy, Desk, DeskPoll};
pub use limits::Limit;
pub use ticket::Ticket;

/// How long a worker may wait for the queue's lock while other events wait for it.
pub const AT_ONCE: Duration = Duration::from_millis(20);
/// Its name in the jobs directory. No job's name: it begins with a dot.
const QUEUE: &str = ".queue";
const DESK: &str = "desk";
const HEAD: &str = "head";
const BELL: &str = "bell";
const NUMBER: &str = "number";
const ADMITTED: &str = "admitted";
const LIMIT: &str = "limit";
const LIMITS: &str = "limits";
const SALT: &str = "salt";
const WAITING: &str = "waiting";
const RUNNING: &str = "running";
const LOST: &str = "lost";
/// Those who were called to take a slot, and when: milliseconds on a clock that never jumps.
const CALLED: &str = "called";
/// How many of those who wait watch for all. More of them stopped at once than this, and it is
/// found when another [looks](Queue::dispatch) after minutes.
const WATCHERS: usize = 4;
/// After which time a watcher looks although nothing happens, and the first of the others. Each
/// further one does so after twice the time.
const WATCHER_LOOKS: Duration = Duration::from_secs(600);
const OTHER_LOOKS: Duration = Duration::from_secs(60);
/// How long those who have not met a limit themselves stay away after it: whoever met it goes
/// first, and finds out whether it is over.
const LIMIT_GRACE: Duration = Duration::from_secs(1);
/// How often is looked where a worker cannot be told by its number.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// As far as two clocks may differ by themselves.
const CLOCK_DRIFT: Duration = Duration::from_secs(2);
/// How long the claude of a dead worker may take to be gone: the kernel has sent it SIGKILL.
const CLAUDE_TAKES: Duration = Duration::from_secs(2);
/// The same of whatever else it may have been starting when it died.
const SWEEP_TAKES: Duration = Duration::from_secs(1);

/// The queue of a jobs directory.
#[derive(Clone, Debug)]
pub struct Queue {
    jobs: PathBuf,
    path: PathBuf,
}

/// What became of a job that wants to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered {
    /// It has a slot.
    Admitted(Ticket),
    /// It has one that is to be [confirmed](Queue::confirm).
    LetIn(Ticket),
    /// It waits.
    Waiting(Ticket),
    /// It wanted to run at once or not at all, and there is no slot.
    NoSlot(String),
}

/// Where a ticket lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It waits.
    Waiting,
    /// It has a slot.
    Running,
    /// Somebody took it away.
    Gone,
}

/// What came of a look at the queue, and what there is to watch.
#[derive(Debug, Default)]
pub struct Dispatched {
    /// The job that looked has a slot.
    pub let_in: bool,
    /// Its slot has to be [confirmed](Queue::confirm).
    pub unconfirmed: bool,
    /// It is one of the first, which watch for all.
    pub watches: bool,
    /// The others of the first, with the process ids of their workers.
    pub watchers: Vec<(JobId, i32)>,
    /// When a job that is no watcher looks again.
    pub slow_look: Duration,
    /// Those who have a slot, with the process ids of their workers.
    pub running: Vec<(JobId, i32)>,
    /// Jobs that met a limit and do not run, likewise: when one ends, another may find out whether
    /// the limit is over.
    pub witnesses: Vec<(JobId, i32)>,
    /// When to look again although nothing happens.
    pub again_in: Option<Duration>,
}

/// How many have a slot, and how many wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Those who have a slot.
    pub running: usize,
    /// Those who wait for one.
    pub waiting: usize,
}

impl Queue {
    /// Of the jobs directory at this path.
    pub fn of(jobs: &Path) -> Self {
        Self { jobs: jobs.to_owned(), path: jobs.join(QUEUE) }
    }

    /// Asks for a slot, on behalf of a worker that holds its job's lock. `earlier` is the number
    /// that the job drew before, which it keeps. `login` is the one that its claude will use.
    ///
    /// `None`: others decided meanwhile; ask again with another `desk`.
    pub fn enter(
        &self,
        desk: &Desk,
        job_id: &JobId,
        admission: &Admission,
        earlier: Option<u64>,
        login: &Login,
    ) -> io::Result<Option<Entered>> {
        let number = match earlier {
            Some(number) => number,
            None => self.draw_number()?,
        };
        let (priority, admission) = (admission.priority, admission.clone());
        let no_queue = admission.no_queue;
        let (job_id, login) = (job_id.clone(), login.clone());
        let own = Ticket { priority, number, admission, job_id, login };
        self.answer_call(&own);
        let mut standing = self.stand(desk);
        standing.waiting.retain(|ticket| self.call_of(ticket, &standing.called) != Call::Silent);
        // The caller holds the job's lock: any other ticket of the job is that of a dead worker.
        for (room, tickets) in [(RUNNING, &mut standing.running), (WAITING, &mut standing.waiting)]
        {
            tickets.retain(|ticket| {
                let stale = ticket.job_id == own.job_id;
                if stale {
                    self.remove(room, ticket);
                }
                !stale
            });
        }
        if let Err(at) = standing.waiting.binary_search(&own) {
            standing.waiting.insert(at, own.clone());
        }
        let admitted = loop {
            match standing.next() {
                Choice::Admit(next) if *next == own => break true,
                // Somebody who is not there any more is in the way.
                Choice::Admit(next) if !self.lives(&next.job_id) => {
                    let next = next.clone();
                    self.lose(WAITING, &next);
                    standing.waiting.retain(|ticket| *ticket != next);
                }
                _ => break false,
            }
        };
        let text = own.content(std::process::id() as i32, None);
        if !desk.is_latest() {
            return Ok(None);
        }
        checkpoint("queue:entering");
        if admitted {
            self.put(RUNNING, &own, &text)?;
            self.note_probe(&own, Some(std::process::id() as i32), &mut standing.limits);
            self.note_admission(standing.now_ms);
            // Others may have decided since the last look.
            let confirmed = desk.is_latest();
            return Ok(Some(if confirmed { Entered::Admitted(own) } else { Entered::LetIn(own) }));
        }
        // A pause between two starts is no queue.
        if no_queue {
            // The dead among those who wait need no slot.
            standing.waiting.retain(|ticket| {
                let counts = *ticket == own || self.lives(&ticket.job_id);
                if !counts {
                    self.lose(WAITING, ticket);
                }
                counts
            });
            let limit =
                standing.is_limited(&own).then(|| "the API's limit is being waited for".to_owned());
            if let Some(why) = limit.or_else(|| standing.obstacle(&own)) {
                return Ok(Some(Entered::NoSlot(why)));
            }
        }
        self.put(WAITING, &own, &text)?;
        checkpoint("queue:waiting");
        self.ring();
        Ok(Some(Entered::Waiting(own)))
    }

    /// Where the ticket lies now.
    pub fn place(&self, ticket: &Ticket) -> Place {
        let name = ticket.name();
        let there = |room: &str| self.path.join(room).join(&name).exists();
        // In the order in which it moves, so that it is found also while it does.
        if there(WAITING) {
            Place::Waiting
        } else if there(RUNNING) {
            Place::Running
        } else {
            Place::Gone
        }
    }

    /// Takes away what places a dead worker of the job has left: its next one asks for its own.
    /// Only for the holder of the job's lock, by which a place would come to life again. One's own
    /// place is given up without the queue's lock.
    pub fn forget(&self, job: &JobId) {
        let mut rings = false;
        // In the order in which it moves.
        for room in [WAITING, RUNNING] {
            for ticket in self.tickets(room).iter().filter(|ticket| ticket.job_id == *job) {
                self.remove(room, ticket);
                self.answer_call(ticket);
                rings = true;
            }
        }
        if rings {
            self.ring();
        }
    }

    /// Gives up a slot, or the place in the line.
    pub fn leave(&self, ticket: &Ticket) {
        // The slot first: one that is stopped now keeps it from nobody.
        self.remove(RUNNING, ticket);
        checkpoint("queue:left");
        // A worker of an earlier version may move the ticket of one that waits.
        self.remove(WAITING, ticket);
        self.remove(RUNNING, ticket);
        self.answer_call(ticket);
        self.ring();
    }

    /// Says which claude runs in a slot, so that the slot is not given away before it is gone.
    pub fn occupy(&self, ticket: &Ticket, claude: i32) {
        let text = ticket.content(std::process::id() as i32, Some(claude));
        let path = self.path.join(RUNNING).join(ticket.name());
        let _ = OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.write_all_at(text.as_bytes(), 0));
    }

    /// Lets in the job that looks, if it is its turn, and calls others whose turn it is. `None`:
    /// others decided meanwhile; look again with another `desk`.
    pub fn dispatch(&self, desk: &Desk, own: &Ticket) -> io::Result<Option<Dispatched>> {
        let mut standing = self.stand(desk);
        let is_own = |ticket: &Ticket| ticket.number == own.number && ticket.job_id == own.job_id;
        if self.answer_call(own) {
            standing.called.remove(&own.name());
        }
        let mut done = Dispatched { slow_look: OTHER_LOOKS, ..Dispatched::default() };
        // They have no slot yet, which is kept for them.
        let mut called = Vec::new();
        let mut line = standing.waiting.clone();
        line.retain(|ticket| self.call_of(ticket, &standing.called) != Call::Silent);
        loop {
            match standing.next() {
                Choice::Admit(next) => {
                    let next = next.clone();
                    standing.waiting.retain(|ticket| *ticket != next);
                    let call = self.call_of(&next, &standing.called);
                    if !self.lives(&next.job_id) {
                        self.lose(WAITING, &next);
                        continue;
                    }
                    if call == Call::Silent {
                        continue;
                    }
                    if !desk.is_latest() {
                        return Ok(None);
                    }
                    let (worker, _) = self.pids(WAITING, &next);
                    let mut writes = true;
                    if is_own(&next) {
                        self.let_in(&next)?;
                        done.let_in = true;
                        done.unconfirmed = !desk.is_latest();
                    } else if !self.moves_itself(&next) {
                        self.let_in(&next)?;
                    } else {
                        // It notes that itself when it comes.
                        writes = false;
                        called.push(next.name());
                        done.running.extend(worker.map(|worker| (next.job_id.clone(), worker)));
                        let left = match call {
                            Call::Pending(left) => left,
                            _ => {
                                self.call(&next, worker);
                                PATIENCE
                            }
                        };
                        done.again_in = Some(done.again_in.map_or(left, |wait| wait.min(left)));
                    }
                    if !standing.limits.is_empty() {
                        self.probe(&next, worker, &mut standing.limits, writes);
                        standing.known = self.all_known(&standing);
                    }
                    standing.admitted_ms = Some(standing.now_ms);
                    standing.running.push(next);
                }
                Choice::Later(ms) => {
                    let wait = Duration::from_millis(ms);
                    done.again_in = Some(done.again_in.map_or(wait, |least| least.min(wait)));
                    break;
                }
                Choice::Nobody => break,
            }
        }
        // Also those who were let in before and may not have been told.
        standing.running.retain(|ticket| !called.contains(&ticket.name()));
        for ticket in &standing.running {
            let (worker, claude) = self.pids(RUNNING, ticket);
            let Some(worker) = worker else {
                // It came to life a moment ago.
                done.again_in = Some(done.again_in.map_or(LOOK_AGAIN, |wait| wait.min(LOOK_AGAIN)));
                continue;
            };
            if claude.is_none() && !is_own(ticket) {
                self.wake(&ticket.job_id, worker);
            }
            done.running.push((ticket.job_id.clone(), worker));
        }
        done.witnesses = self.witnesses(&standing.limits);
        let place = line.iter().position(is_own).unwrap_or(line.len());
        done.watches = place < WATCHERS;
        if done.watches {
            done.slow_look = WATCHER_LOOKS;
        } else {
            let doublings = u32::try_from(place - WATCHERS).unwrap_or(u32::MAX).min(12);
            done.slow_look = OTHER_LOOKS * (1 << doublings);
        }
        for ticket in line.iter().filter(|ticket| !is_own(ticket)).take(WATCHERS) {
            if let (Some(worker), _) = self.pids(WAITING, ticket) {
                done.watchers.push((ticket.job_id.clone(), worker));
            }
        }
        Ok(Some(done))
    }

    /// Looks whether a slot, which the job was given without the latest lock, is its own: one too
    /// many gives it back and waits again. Says which it is.
    pub fn confirm(&self, desk: &Desk, own: &Ticket) -> io::Result<Place> {
        let mut standing = self.stand(desk);
        let before = standing.running.len();
        standing.running.retain(|ticket| ticket.name() != own.name());
        if standing.running.len() == before {
            return Ok(self.place(own));
        }
        if standing.has_room_for(own) {
            return Ok(Place::Running);
        }
        let name = own.name();
        fs::rename(self.path.join(RUNNING).join(&name), self.path.join(WAITING).join(&name))?;
        // Another may have found no slot because of this one.
        self.ring();
        Ok(Place::Waiting)
    }

    /// Wakes a worker up, to look at the queue.
    pub fn wake(&self, job: &JobId, worker: i32) {
        if worker == std::process::id() as i32 {
            return;
        }
        let mark = Mark::new(&self.jobs.join(job.as_str()));
        if let Ok(target) = Target::open(worker)
            && mark.is_on(worker)
        {
            let _ = target.signal(Signal::SIGUSR2);
        }
    }

    /// Calls a job that is next.
    fn call(&self, ticket: &Ticket, worker: Option<i32>) {
        let folder = self.path.join(CALLED);
        let path = folder.join(ticket.name());
        let note = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
            file?.write_all(clock::monotonic_ms().to_string().as_bytes())
        };
        if note().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let _ = make_room(&folder).and_then(|()| note());
        }
        checkpoint("queue:called");
        if let Some(worker) = worker {
            self.wake(&ticket.job_id, worker);
        }
    }

    /// The job has come by itself, or left: it is called no more. Says whether it was.
    fn answer_call(&self, ticket: &Ticket) -> bool {
        fs::remove_file(self.path.join(CALLED).join(ticket.name())).is_ok()
    }

    /// The tickets that were called, with when that was; nothing but names where it could not be
    /// written.
    fn called(&self) -> HashMap<String, Option<u64>> {
        let entries = fs::read_dir(self.path.join(CALLED)).into_iter().flatten().flatten();
        let called = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let at = self.read(&format!("{CALLED}/{name}"));
            Some((name, at))
        });
        called.collect()
    }

    fn call_of(&self, ticket: &Ticket, called: &HashMap<String, Option<u64>>) -> Call {
        if called.is_empty() {
            return Call::None;
        }
        let Some(at) = called.get(&ticket.name()) else { return Call::None };
        // After a reboot the clock begins anew.
        let age = at.and_then(|at| clock::monotonic_ms().checked_sub(at));
        match age.and_then(|ms| PATIENCE.checked_sub(Duration::from_millis(ms))) {
            Some(left) if !left.is_zero() => Call::Pending(left),
            _ => Call::Silent,
        }
    }

    /// The tickets of jobs whose worker died, and whose end is still to be written.
    pub fn lost(&self) -> Vec<Ticket> {
        self.tickets(LOST)
    }

    /// The end of a lost job was written.
    pub fn found(&self, ticket: &Ticket) {
        self.remove(LOST, ticket);
    }

    fn lose(&self, room: &str, ticket: &Ticket) {
        self.answer_call(ticket);
        let name = ticket.name();
        let (from, to) = (self.path.join(room).join(&name), self.path.join(LOST).join(name));
        let moved = fs::rename(&from, &to).or_else(|_| {
            // An earlier version has made no room for them.
            make_room(&self.path.join(LOST))?;
            fs::rename(&from, &to)
        });
        if moved.is_err() {
            let _ = fs::remove_file(from);
        }
    }

    /// Gives a waiting job its slot. Whoever did so for itself looks afterwards whether its lock is
    /// still the latest: if it is, all who decide later have seen its ticket.
    fn let_in(&self, ticket: &Ticket) -> io::Result<()> {
        checkpoint("queue:letting-in");
        let name = ticket.name();
        let (from, to) = (self.path.join(WAITING).join(&name), self.path.join(RUNNING).join(&name));
        fs::rename(from, to)?;
        checkpoint("queue:let-in");
        self.note_admission(clock::monotonic_ms());
        Ok(())
    }

    /// The head of the line: whoever holds this file's lock (flock(2)) watches for all who wait.
    pub fn open_head(&self) -> io::Result<File> {
        open_own(&self.path.join(HEAD))
    }

    /// Changes in the room of those who have a slot, to be listened to: a place that was given up
    /// is seen also where who did so was stopped before it could ring.
    #[cfg(target_os = "linux")]
    pub fn open_changes(&self) -> io::Result<File> {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        use std::os::fd::AsFd;
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        let come = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        changes.add_watch(&self.path.join(RUNNING), gone | come)?;
        Ok(File::from(changes.as_fd().try_clone_to_owned()?))
    }

    /// There is no such thing here: the bell has to do.
    #[cfg(not(target_os = "linux"))]
    pub fn open_changes(&self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bell, to be listened to: something can be read when somebody came or left.
    pub fn open_bell(&self) -> io::Result<File> {
        open_bell(&self.path.join(BELL))
    }

    fn ring(&self) {
        ring_bell(&self.path.join(BELL));
    }

    /// Whether the job has a slot.
    pub fn has_slot(&self, job: &JobId) -> bool {
        self.tickets(RUNNING).iter().any(|ticket| ticket.job_id == *job)
    }

    /// How many run and wait, as far as the names tell.
    pub fn crowd(&self) -> Crowd {
        let count = |room| self.tickets(room).len();
        Crowd { running: count(RUNNING), waiting: count(WAITING) }
    }

    /// Those who have a slot and those who wait, without the dead.
    fn stand(&self, desk: &Desk) -> Stood {
        let mut running = self.tickets(RUNNING);
        running.retain(|ticket| {
            let lives = self.lives(&ticket.job_id);
            if lives && !self.has_lost_worker(ticket, desk) {
                return true;
            }
            if !lives {
                // It may take a while.
                desk.progress();
                self.end_claude(ticket, desk);
            }
            self.lose(RUNNING, ticket);
            desk.progress();
            false
        });
        let now_ms = clock::monotonic_ms();
        // After a reboot the clock begins anew.
        let admitted_ms = self.read(ADMITTED).filter(|at| *at <= now_ms);
        let (waiting, limits) = self.line();
        let called = self.called();
        let mut standing =
            Stood { waiting, running, now_ms, admitted_ms, limits, known: Vec::new(), called };
        standing.known = self.all_known(&standing);
        standing
    }

    fn all_known(&self, standing: &Stood) -> Vec<KnownLimit> {
        standing.limits.iter().map(|limit| self.known(limit, standing.now_ms)).collect()
    }

    /// The login of a job that waits.
    fn login(&self, ticket: &Ticket) -> Login {
        Ticket::login_in(&self.content(WAITING, ticket))
    }

    /// The tickets of those who wait, in order: the first is next. Their logins are read where
    /// there are limits.
    pub fn line(&self) -> (Vec<Ticket>, Vec<Limit>) {
        let mut waiting = self.tickets(WAITING);
        let limits = self.limits();
        if !limits.is_empty() {
            for ticket in &mut waiting {
                ticket.login = self.login(ticket);
            }
        }
        (waiting, limits)
    }

    /// Makes sure that nothing of a dead worker's job uses the slot any more.
    fn end_claude(&self, ticket: &Ticket, desk: &Desk) {
        let dir = self.jobs.join(ticket.job_id.as_str());
        let mark = Mark::new(&dir);
        let gone = match self.pids(RUNNING, ticket).1 {
            Some(claude) => process::end_and_wait(claude, &mark, CLAUDE_TAKES),
            None => false,
        };
        if !gone {
            desk.progress();
            // What is left is reported by whoever writes the job's end.
            let orphans = Orphans {
                mark: &mark,
                worker_start: None,
                is_locked: false,
                is_independent: &is_independent,
            };
            orphans.end(Instant::now() + SWEEP_TAKES);
        }
    }

    /// Whether the worker and the claude of a ticket are gone although the lock of its job is held:
    /// somebody writes the job's end, and may be stopped.
    fn has_lost_worker(&self, ticket: &Ticket, desk: &Desk) -> bool {
        let content = self.content(RUNNING, ticket);
        if !Ticket::is_of_our_namespace(&content) {
            return false;
        }
        let (Some(worker), Some(claude)) = self.pids_in(&content, ticket) else { return false };
        let mark = Mark::new(&self.jobs.join(ticket.job_id.as_str()));
        if worker == std::process::id() as i32 || mark.is_on(worker) {
            return false;
        }
        desk.progress();
        process::end_and_wait(claude, &mark, CLAUDE_TAKES)
    }

    fn lives(&self, job: &JobId) -> bool {
        JobDir::at(self.jobs.join(job.as_str())).may_live()
    }

    /// Whether the worker moves its ticket itself when it is called, which those of earlier
    /// versions do not.
    fn moves_itself(&self, ticket: &Ticket) -> bool {
        Ticket::moves_itself(&self.content(WAITING, ticket))
    }

    /// What a ticket's file holds; nothing where there is none.
    fn content(&self, room: &str, ticket: &Ticket) -> String {
        fs::read_to_string(self.path.join(room).join(ticket.name())).unwrap_or_default()
    }

    /// The worker and the claude of a ticket.
    fn pids(&self, room: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        self.pids_in(&self.content(room, ticket), ticket)
    }

    /// The same, of the content of its file.
    fn pids_in(&self, content: &str, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        let mut pids = content.split_whitespace().map(|pid| pid.parse().ok());
        let (worker, claude) = (pids.next().flatten(), pids.next().flatten());
        // On a full disk there was no room to write it down.
        let found = || {
            let worker = Mark::new(&self.jobs.join(ticket.job_id.as_str())).worker().ok()??;
            Some(worker.pid)
        };
        (worker.or_else(found), claude)
    }

    fn make_rooms(&self) -> io::Result<()> {
        for room in ["", WAITING, RUNNING, LOST] {
            make_room(&self.path.join(room))?;
        }
        Ok(())
    }

    fn draw_number(&self) -> io::Result<u64> {
        let highest = || {
            let tickets = self.tickets(WAITING).into_iter().chain(self.tickets(RUNNING));
            tickets.map(|ticket| ticket.number).max()
        };
        let last = self.read(NUMBER).or_else(highest).unwrap_or_default();
        self.replace(NUMBER, &(last + 1).to_string())?;
        Ok(last + 1)
    }

    fn note_admission(&self, at_ms: u64) {
        let _ = self.replace(ADMITTED, &at_ms.to_string());
    }

    fn read(&self, name: &str) -> Option<u64> {
        self.words(name).first().and_then(|number| u64::try_from(*number).ok())
    }

    /// The numbers in a file; none where there is no such file.
    fn words(&self, name: &str) -> Vec<i64> {
        let mut text = String::new();
        let file = open_ordinary(&self.path.join(name), OpenOptions::new().read(true));
        let read = file.map(|file| file.take(64));
        let _ = read.and_then(|mut file| file.read_to_string(&mut text));
        text.split_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        // Short enough to be there as a whole; padded, so that nothing of a longer one stays.
        let file = open_own(&self.path.join(name))?;
        file.write_all_at(format!("{text:<40}\n").as_bytes(), 0)
    }

    fn put(&self, room: &str, ticket: &Ticket, text: &str) -> io::Result<()> {
        let path = self.path.join(room).join(ticket.name());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        // The name is what counts: a full disk may have no room for more.
        let _ = file?.write_all(text.as_bytes());
        Ok(())
    }

    fn remove(&self, room: &str, ticket: &Ticket) {
        let _ = fs::remove_file(self.path.join(room).join(ticket.name()));
    }

    /// The tickets in a room, in order. Those of other machines do not count: slots are for the
    /// memory of one machine, and nobody here can wake a worker of another.
    fn tickets(&self, room: &str) -> Vec<Ticket> {
        let entries = fs::read_dir(self.path.join(room)).into_iter().flatten().flatten();
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

fn make_room(path: &Path) -> io::Result<()> {
    make_directory(path, true).map_err(|error| error.source)
}

/// A file of the queue, to be locked or written to; it is made where it is missing.
fn open_own(path: &Path) -> io::Result<File> {
    open_ordinary(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o600))
}

/// How things stand, read from the files.
struct Stood {
    waiting: Vec<Ticket>,
    running: Vec<Ticket>,
    now_ms: u64,
    admitted_ms: Option<u64>,
    limits: Vec<Limit>,
    /// The same limits, as the choice sees them.
    known: Vec<KnownLimit>,
    /// The names of the tickets that were called, and when.
    called: HashMap<String, Option<u64>>,
}

/// Whether a job was called to take a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    None,
    /// It was, and its slot is kept for it for so long.
    Pending(Duration),
    /// It did not come, and is passed over.
    Silent,
}

impl Stood {
    fn next(&self) -> Choice<'_> {
        choose(&Standing {
            waiting: &self.waiting,
            running: &self.running,
            now_ms: self.now_ms,
            admitted_ms: self.admitted_ms,
            limits: &self.known,
        })
    }

    /// Whether there is a slot for this one, beside those who have one.
    fn has_room_for(&self, own: &Ticket) -> bool {
        let Admission { max_parallel, group_limit, group, .. } = &own.admission;
        if *max_parallel > 0 && self.running.len() >= *max_parallel as usize {
            return false;
        }
        let Some(group) = group else { return true };
        let inside = self.running.iter().filter(|other| other.is_in(group)).count();
        inside < *group_limit as usize
    }

    /// Whether a limit that it would wait for stands in its way.
    fn is_limited(&self, own: &Ticket) -> bool {
        choice::limited_for_ms(own, &self.known) > 0
    }

    /// What stands between this one, which waits, and a slot; `None` if it is nothing but time.
    fn obstacle(&mut self, own: &Ticket) -> Option<String> {
        self.admitted_ms = None;
        self.known.clear();
        // Those before it come first, and take their slots.
        while let Choice::Admit(next) = self.next() {
            if next == own {
                return None;
            }
            let next = next.clone();
            self.waiting.retain(|ticket| *ticket != next);
            self.running.push(next);
        }
        let Admission { max_parallel, group_limit, group, .. } = &own.admission;
        let taken = self.running.len();
        if *max_parallel > 0 && taken >= *max_parallel as usize {
            return Some(format!("{taken} taken, and --max-parallel is {max_parallel}"));
        }
        let Some(group) = group else { return Some("others wait for one, too".to_owned()) };
        let inside = self.running.iter().filter(|other| other.is_in(group)).count();
        Some(format!("{inside} taken by group {group}, and --group-limit is {group_limit}"))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
