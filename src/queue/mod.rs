//! The queue: whose claude may run, and who is next.
//!
//! No daemon decides. A job's place is an empty-handed file whose name says all ([`Ticket`]), in
//! `.queue/waiting` or `.queue/running` of the jobs directory; whoever moves one holds the desk
//! (flock(2)), for a moment. A ticket counts for as long as its job's lock is held: one whose
//! worker died is worth nothing, and its slot is free once its claude is gone. It then lies in
//! `.queue/lost` until somebody has written the job's end.
//!
//! Of those who wait, one stands at the [head of the line](Queue::open_head) and watches for the
//! others: it lets in whoever is next when somebody leaves, rings the bell or dies. The kernel
//! gives that place to another when its holder dies, so that nothing is missed and nobody polls.

mod choice;
mod limits;
mod ticket;

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
pub use limits::Limit;
pub use ticket::Ticket;

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

/// What whoever stands at the head of the line has done, and has to watch.
#[derive(Debug, Default)]
pub struct Dispatched {
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
    pub fn enter(
        &self,
        job_id: &JobId,
        admission: &Admission,
        earlier: Option<u64>,
        login: &Login,
    ) -> io::Result<Entered> {
        let _desk = self.desk()?;
        let number = match earlier {
            Some(number) => number,
            None => self.draw_number()?,
        };
        let (priority, admission) = (admission.priority, admission.clone());
        let no_queue = admission.no_queue;
        let (job_id, login) = (job_id.clone(), login.clone());
        let own = Ticket { priority, number, admission, job_id, login };
        let mut standing = self.stand();
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
        if admitted {
            self.put(RUNNING, &own, &text)?;
            self.note_probe(&own, Some(std::process::id() as i32), &mut standing.limits);
            self.note_admission(standing.now_ms);
            return Ok(Entered::Admitted(own));
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
                return Ok(Entered::NoSlot(why));
            }
        }
        self.put(WAITING, &own, &text)?;
        checkpoint("queue:waiting");
        self.ring();
        Ok(Entered::Waiting(own))
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
    /// Only for the holder of the job's lock, by which a place would come to life again.
    pub fn forget(&self, job: &JobId) {
        let left = || {
            [WAITING, RUNNING].into_iter().flat_map(|room| {
                let tickets = self.tickets(room).into_iter();
                tickets.filter(|ticket| ticket.job_id == *job).map(move |ticket| (room, ticket))
            })
        };
        // Seldom is there any.
        if left().next().is_none() {
            return;
        }
        let Ok(_desk) = self.desk() else { return };
        for (room, ticket) in left() {
            self.remove(room, &ticket);
        }
        self.ring();
    }

    /// Gives up a slot, or the place in the line.
    pub fn leave(&self, ticket: &Ticket) {
        self.remove(RUNNING, ticket);
        self.remove(WAITING, ticket);
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

    /// Lets in whoever is next, one after the other. Only who stands at the head of the line may
    /// do so for others.
    pub fn dispatch(&self) -> io::Result<Dispatched> {
        let _desk = self.desk()?;
        let mut standing = self.stand();
        let mut again_in = None;
        loop {
            match standing.next() {
                Choice::Admit(next) => {
                    let next = next.clone();
                    standing.waiting.retain(|ticket| *ticket != next);
                    if self.lives(&next.job_id) {
                        self.let_in(&next)?;
                        if !standing.limits.is_empty() {
                            let worker = self.pids(&next).0;
                            self.note_probe(&next, worker, &mut standing.limits);
                            standing.known = self.all_known(&standing);
                        }
                        standing.admitted_ms = Some(standing.now_ms);
                        standing.running.push(next);
                    } else {
                        self.lose(WAITING, &next);
                    }
                }
                Choice::Later(ms) => {
                    again_in = Some(Duration::from_millis(ms));
                    break;
                }
                Choice::Nobody => break,
            }
        }
        // Also those who were let in before and may not have been told.
        let mut running = Vec::new();
        for ticket in &standing.running {
            let (worker, claude) = self.pids(ticket);
            let Some(worker) = worker else {
                // It came to life a moment ago.
                again_in = Some(again_in.map_or(LOOK_AGAIN, |wait| wait.min(LOOK_AGAIN)));
                continue;
            };
            if claude.is_none() {
                self.wake(&ticket.job_id, worker);
            }
            running.push((ticket.job_id.clone(), worker));
        }
        let witnesses = self.witnesses(&standing.limits);
        Ok(Dispatched { running, witnesses, again_in })
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

    fn let_in(&self, ticket: &Ticket) -> io::Result<()> {
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
    fn stand(&self) -> Stood {
        let mut running = self.tickets(RUNNING);
        running.retain(|ticket| {
            let lives = self.lives(&ticket.job_id);
            if !lives {
                self.end_claude(ticket);
                self.lose(RUNNING, ticket);
            }
            lives
        });
        let now_ms = clock::monotonic_ms();
        // After a reboot the clock begins anew.
        let admitted_ms = self.read(ADMITTED).filter(|at| *at <= now_ms);
        let (waiting, limits) = self.line();
        let mut standing =
            Stood { waiting, running, now_ms, admitted_ms, limits, known: Vec::new() };
        standing.known = self.all_known(&standing);
        standing
    }

    fn all_known(&self, standing: &Stood) -> Vec<KnownLimit> {
        standing.limits.iter().map(|limit| self.known(limit, standing.now_ms)).collect()
    }

    /// The login of a job that waits.
    fn login(&self, ticket: &Ticket) -> Login {
        let text = fs::read_to_string(self.path.join(WAITING).join(ticket.name()));
        Ticket::login_in(&text.unwrap_or_default())
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
    fn end_claude(&self, ticket: &Ticket) {
        let dir = self.jobs.join(ticket.job_id.as_str());
        let mark = Mark::new(&dir);
        let gone = match self.pids(ticket).1 {
            Some(claude) => process::end_and_wait(claude, &mark, CLAUDE_TAKES),
            None => false,
        };
        if !gone {
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

    fn lives(&self, job: &JobId) -> bool {
        JobDir::at(self.jobs.join(job.as_str())).may_live()
    }

    /// The worker and the claude of a ticket.
    fn pids(&self, ticket: &Ticket) -> (Option<i32>, Option<i32>) {
        let text = fs::read_to_string(self.path.join(RUNNING).join(ticket.name()));
        let text = text.unwrap_or_default();
        let mut pids = text.split_whitespace().map(|pid| pid.parse().ok());
        let (worker, claude) = (pids.next().flatten(), pids.next().flatten());
        // On a full disk there was no room to write it down.
        let found = || {
            let worker = Mark::new(&self.jobs.join(ticket.job_id.as_str())).worker().ok()??;
            Some(worker.pid)
        };
        (worker.or_else(found), claude)
    }

    /// Wakes the worker that has been let in.
    fn wake(&self, job: &JobId, worker: i32) {
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

    fn desk(&self) -> io::Result<File> {
        let path = self.path.join(DESK);
        let open = || open_own(&path);
        let desk = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for room in ["", WAITING, RUNNING, LOST] {
                    make_room(&self.path.join(room))?;
                }
                open()?
            }
            desk => desk?,
        };
        desk.lock()?;
        Ok(desk)
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
