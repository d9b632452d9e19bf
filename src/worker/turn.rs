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

use super::ends::Ends;
use super::wakeup::{Wakeup, wakeup};
use crate::claude::{self, Surroundings};
use crate::clock;
use crate::job::{Admission, JobId, Login, Obstacle, Record, Spec, Status};
use crate::queue::{AT_ONCE, Busy, Desk, DeskPoll, Dispatched, Entered, Place, Queue, Ticket};
use crate::settle::settle;
use crate::store::{JobDir, LoadError};
use crate::supervisor::FailedDependency;

/// How long somebody else may take to write the end of a lost job, and the pause between two looks.
const END_TAKES: Duration = Duration::from_secs(2);
const END_PAUSE: Duration = Duration::from_millis(10);
/// How often is looked where nobody can be told that a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How soon is looked again where the queue could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a watcher that is not at the head leaves it to that one to act.
const HEAD_TAKES: Duration = Duration::from_millis(100);
/// How long the queue's lock is waited for before `start` is answered: longer than one holder that
/// makes no progress is waited for.
const FIRST_WAITS: Duration = Duration::from_secs(4);

/// The worker's part in the queue.
pub(super) struct Turn {
    jobs: PathBuf,
    queue: Queue,
    stage: Stage,
    /// The number that the job drew.
    number: Option<u64>,
    head: Head,
    /// The queue's lock, as long as it is tried for.
    poll: DeskPoll,
    /// It is being tried for: nothing else is waited for.
    polls: bool,
    /// Nobody but the caller of `start` waits for an answer.
    begins: bool,
    bell: Option<pipe::Receiver>,
    /// Changes among those who have a slot.
    changes: Option<pipe::Receiver>,
    watched: Vec<Watched>,
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
enum Stage {
    /// Nothing was asked for, or it has gone without a slot.
    Outside,
    /// Its time has not come.
    Delayed(Instant),
    /// Others have not ended.
    Behind(Ends),
    /// It asks for a slot as soon as it has the queue's lock.
    Entering(Box<(Admission, Login)>),
    /// It waits for a slot.
    Queued(Ticket),
    /// It has one that is to be confirmed.
    LetIn(Ticket),
    /// It has one.
    Inside(Ticket),
}

/// A worker that has a slot, and whose end is to be seen.
struct Watched {
    job: JobId,
    pid: i32,
    #[cfg(target_os = "linux")]
    end: pipe::Receiver,
}

impl Watched {
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
pub(super) enum Step {
    /// It is its turn.
    Admitted,
    /// The same, but without a slot, because the queue cannot be used.
    AdmittedWithout(String),
    /// It waits.
    Waits(Obstacle),
    /// A job that it waited for did not complete.
    DependencyFailed(FailedDependency),
    /// It did not want to wait.
    NoSlot(String),
    /// The queue's lock cannot be had.
    Busy(String),
}

impl Turn {
    pub(super) fn of(job: &JobDir) -> Self {
        let jobs = job.root().to_owned();
        Self {
            queue: Queue::of(&jobs),
            jobs,
            stage: Stage::Outside,
            number: None,
            head: Head::default(),
            poll: DeskPoll::default(),
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
    pub(super) fn begin(&mut self, record: &Record) -> Step {
        let delay = Duration::from_millis(record.spec.start_delay_ms);
        let left = record.starts_at().map(|at| at.since(clock::now())).unwrap_or_default();
        // Never longer than was asked for, should the clock have been set back.
        let left = left.min(delay);
        // A job that ran before has waited for all but a slot.
        if !record.had_turn && !left.is_zero() {
            self.queue.forget(&record.job_id);
            self.stage = Stage::Delayed(Instant::now() + left);
            return Step::Waits(Obstacle::Time);
        }
        self.begins = true;
        let step = self.behind_others(record);
        self.begins = false;
        step
    }

    fn behind_others(&mut self, record: &Record) -> Step {
        if record.had_turn {
            return self.enter(record);
        }
        match self.others(record) {
            Others::Done => self.enter(record),
            Others::Failed(other) => Step::DependencyFailed(other),
            Others::Open(open) => {
                self.queue.forget(&record.job_id);
                self.stage = match Ends::new() {
                    Ok(mut ends) => {
                        ends.watch(open);
                        Stage::Behind(ends)
                    }
                    Err(_) => Stage::Delayed(Instant::now() + LOOK_AGAIN),
                };
                Step::Waits(Obstacle::Jobs)
            }
        }
    }

    /// How the jobs stand that this one waits for.
    fn others(&mut self, record: &Record) -> Others {
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
                    return Others::Failed(FailedDependency { error, cut_off: false });
                }
            };
            if other.status.is_live() && !dir.may_live() {
                other = settle(&dir, other, None);
            }
            match other.status {
                status if status.is_live() => open.push((id.clone(), dir)),
                status if must_complete && status != Status::Completed => {
                    let reason = other.reason.map(|why| format!(" ({why})")).unwrap_or_default();
                    let error = format!("job {id}, for which it waited, is {status}{reason}");
                    let cut_off = other.is_cut_off();
                    return Others::Failed(FailedDependency { error, cut_off });
                }
                _ => {
                    self.met.insert(id.clone());
                }
            }
        }
        if open.is_empty() { Others::Done } else { Others::Open(open) }
    }

    /// Asks for a slot.
    pub(super) fn enter(&mut self, record: &Record) -> Step {
        let mut admission = record.spec.admission.clone();
        // Whoever has met a limit has waited for its end, and finds out whether it is over.
        if self.number.is_some() {
            admission.limit_wait_ms = 0;
        }
        admission.no_queue &= self.number.is_none();
        let login = self.login(&record.spec);
        self.ask(record, &admission, &login)
    }

    /// The login that claude would use now.
    pub(super) fn login(&self, spec: &Spec) -> Login {
        let salt = self.queue.salt().ok();
        claude::account(&Surroundings::own(), spec, salt.as_deref())
    }

    fn ask(&mut self, record: &Record, admission: &Admission, login: &Login) -> Step {
        self.polls = false;
        let most = if self.begins { FIRST_WAITS } else { AT_ONCE };
        let entered = loop {
            let desk = match self.queue.desk_within(most, &mut self.poll) {
                Ok(Some(desk)) => desk,
                Ok(None) if self.begins && admission.no_queue => {
                    return Step::Busy("the lock of the queue was not free in time".to_owned());
                }
                Ok(None) => {
                    self.stage = Stage::Entering(Box::new((admission.clone(), login.clone())));
                    self.poll_again();
                    return Step::Waits(Obstacle::Slot);
                }
                // Nothing is lost where nothing has begun.
                Err(error) if Busy::is_in(&error) && self.begins && record.attempt == 1 => {
                    return Step::Busy(error.to_string());
                }
                Err(error) if Busy::is_in(&error) => {
                    self.stage = Stage::Entering(Box::new((admission.clone(), login.clone())));
                    self.again = Some(Instant::now() + AFTER_ERROR);
                    return Step::Waits(Obstacle::Slot);
                }
                Err(error) => break Err(error),
            };
            match self.queue.enter(&desk, &record.job_id, admission, self.number, login) {
                Ok(None) => {}
                Ok(Some(entered)) => break Ok(entered),
                Err(error) => break Err(error),
            }
        };
        let burial = self.bury_lost();
        match entered {
            Ok(Entered::Admitted(ticket)) => {
                self.inside(ticket);
                Step::Admitted
            }
            Ok(Entered::LetIn(ticket)) => {
                self.number = Some(ticket.number);
                self.confirm(record, ticket).unwrap_or(Step::Waits(Obstacle::Slot))
            }
            Ok(Entered::Waiting(ticket)) => {
                self.number = Some(ticket.number);
                self.stage = Stage::Queued(ticket);
                // Whoever comes has to look for all: perhaps nobody else can.
                self.look(record, true).unwrap_or(Step::Waits(Obstacle::Slot))
            }
            Ok(Entered::NoSlot(why)) => {
                // This process is about to end.
                let _ = burial.map(JoinHandle::join);
                Step::NoSlot(why)
            }
            Err(error) => {
                self.stage = Stage::Outside;
                Step::AdmittedWithout(error.to_string())
            }
        }
    }

    /// The queue's lock is tried for again after a pause.
    fn poll_again(&mut self) {
        self.polls = true;
        self.again = Some(Instant::now() + self.poll.pause());
    }

    /// Takes the queue's lock if that takes no time; else it is tried for again.
    fn desk(&mut self) -> Option<Desk> {
        self.polls = false;
        match self.queue.try_desk(&mut self.poll) {
            Ok(Some(desk)) => return Some(desk),
            Ok(None) => self.poll_again(),
            Err(_) => self.again = Some(Instant::now() + AFTER_ERROR),
        }
        None
    }

    /// Has a slot that the latest decision about slots may not have seen; it is kept if the limits
    /// hold with it.
    fn confirm(&mut self, record: &Record, ticket: Ticket) -> Option<Step> {
        self.stop_watching();
        self.stage = Stage::LetIn(ticket.clone());
        let desk = self.desk()?;
        let place = self.queue.confirm(&desk, &ticket);
        drop(desk);
        match place {
            Ok(Place::Running) => {
                self.inside(ticket);
                Some(Step::Admitted)
            }
            Ok(Place::Waiting) => {
                self.stage = Stage::Queued(ticket);
                self.look(record, true)
            }
            Ok(Place::Gone) => Some(self.ask_again(record, &ticket)),
            Err(_) => {
                self.again = Some(Instant::now() + AFTER_ERROR);
                None
            }
        }
    }

    /// Somebody has taken the ticket away: it is put there again.
    fn ask_again(&mut self, record: &Record, ticket: &Ticket) -> Step {
        let admission = Admission { no_queue: false, ..ticket.admission.clone() };
        self.ask(record, &admission, &ticket.login)
    }

    fn inside(&mut self, ticket: Ticket) {
        self.number = Some(ticket.number);
        self.stage = Stage::Inside(ticket);
        self.stop_watching();
    }

    fn stop_watching(&mut self) {
        self.head.let_go();
        self.poll = DeskPoll::default();
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
        if let Stage::Inside(ticket) = &self.stage {
            self.queue.occupy(ticket, claude);
        }
    }

    /// Gives up the slot, or the place in the line.
    pub(super) fn leave(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Outside);
        if let Stage::Inside(ticket) | Stage::LetIn(ticket) | Stage::Queued(ticket) = &stage {
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
    pub(super) fn look(&mut self, record: &Record, called: bool) -> Option<Step> {
        match &mut self.stage {
            Stage::Outside | Stage::Inside(_) => None,
            Stage::Delayed(until) if Instant::now() < *until => None,
            Stage::Delayed(_) => Some(self.behind_others(record)),
            Stage::Behind(_) => match self.others(record) {
                Others::Open(open) => {
                    if let Stage::Behind(ends) = &mut self.stage {
                        ends.watch(open);
                    }
                    None
                }
                Others::Done => Some(self.enter(record)),
                Others::Failed(other) => Some(Step::DependencyFailed(other)),
            },
            Stage::Entering(asks) => {
                let (admission, login) = (**asks).clone();
                match self.ask(record, &admission, &login) {
                    Step::Waits(_) => None,
                    step => Some(step),
                }
            }
            Stage::LetIn(ticket) => {
                let ticket = ticket.clone();
                self.confirm(record, ticket)
            }
            Stage::Queued(ticket) => {
                let ticket = ticket.clone();
                self.look_from_queue(record, ticket, called)
            }
        }
    }

    fn look_from_queue(&mut self, record: &Record, ticket: Ticket, called: bool) -> Option<Step> {
        let has_head = self.head.want(&self.queue);
        if !called && !self.polls && !self.head.is_ours() && self.watches && self.leaves_it() {
            return None;
        }
        let done = loop {
            let listens = self.listen();
            self.due = None;
            self.again = None;
            let desk = self.desk()?;
            let done = match self.queue.dispatch(&desk, &ticket) {
                Ok(Some(done)) => done,
                Ok(None) => continue,
                Err(_) => {
                    self.again = Some(Instant::now() + AFTER_ERROR);
                    return None;
                }
            };
            drop(desk);
            self.watches = done.watches;
            // Who is to watch looks once more when it listens: something may have happened before.
            if done.let_in || listens || !(self.watches || self.head.is_ours()) {
                break done;
            }
        };
        if done.let_in {
            self.tell_watchers(&done);
            if done.unconfirmed {
                return self.confirm(record, ticket);
            }
            self.inside(ticket);
            return Some(Step::Admitted);
        }
        let mut wait = done.slow_look;
        if self.watches || self.head.is_ours() {
            wait = wait.min(done.again_in.unwrap_or(wait));
            self.again = Some(Instant::now() + wait);
            self.tell_watchers(&done);
            self.watch_workers(done);
        } else {
            self.watched.clear();
            self.told.clear();
            self.again = Some(Instant::now() + wait);
        }
        if !has_head {
            let soon = Instant::now() + LOOK_AGAIN;
            self.again = Some(self.again.map_or(soon, |at| at.min(soon)));
        }
        self.bury_lost();
        match self.queue.place(&ticket) {
            // By a worker of an earlier version.
            Place::Running => self.confirm(record, ticket),
            Place::Waiting => None,
            Place::Gone => Some(self.ask_again(record, &ticket)),
        }
    }

    /// Whether this is left to the head for a moment.
    fn leaves_it(&mut self) -> bool {
        let now = Instant::now();
        let due = *self.due.get_or_insert(now + HEAD_TAKES);
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
            self.bell = self.queue.open_bell().and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        if self.changes.is_none() {
            let changes = self.queue.open_changes();
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
    fn tell_watchers(&mut self, done: &Dispatched) {
        self.told.retain(|watcher| done.watchers.contains(watcher));
        for (job, worker) in &done.watchers {
            if self.told.insert((job.clone(), *worker)) {
                self.queue.wake(job, *worker);
            }
        }
    }

    /// Watches for the ends of workers that have a slot.
    fn watch_workers(&mut self, done: Dispatched) {
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
    fn bury_lost(&mut self) -> Option<JoinHandle<()>> {
        let mut lost = self.queue.lost();
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
                let until = Instant::now() + END_TAKES;
                let mut is_live = true;
                while is_live && Instant::now() < until {
                    let record = dir.load().map(|record| match record.status.is_live() {
                        true => settle(&dir, record, None),
                        false => record,
                    });
                    is_live = record.is_ok_and(|record| record.status.is_live());
                    if is_live {
                        std::thread::sleep(END_PAUSE);
                    }
                }
                if !is_live {
                    queue.found(&ticket);
                }
            }
        };
        std::thread::Builder::new().spawn(bury).ok()
    }

    fn watch(&mut self, job: JobId, pid: i32) {
        let soon = Instant::now() + LOOK_AGAIN;
        #[cfg(target_os = "linux")]
        {
            let end = crate::process::Target::open(pid).and_then(|target| {
                // No pipe, but it becomes readable as one does, and nothing is read from it.
                pipe::Receiver::from_file_unchecked(File::from(std::os::fd::OwnedFd::from(target)))
            });
            // It may have died, and its number passed on, before it was opened.
            let lives = JobDir::at(self.jobs.join(job.as_str())).may_live();
            match end {
                Ok(end) if lives => self.watched.push(Watched { job, pid, end }),
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
    pub(super) async fn news(&self) {
        match &self.stage {
            Stage::Outside | Stage::Inside(_) => pending().await,
            Stage::Delayed(until) => sleep_until((*until).into()).await,
            Stage::Behind(ends) => ends.news().await,
            Stage::Entering(_) | Stage::LetIn(_) => at(self.again).await,
            Stage::Queued(_) if self.polls => at(self.again).await,
            // It has become so since the last look.
            Stage::Queued(_) if self.head.is_ours() && !self.attends => {}
            Stage::Queued(_) if self.due.is_some() => at(self.due).await,
            Stage::Queued(_) => {
                tokio::select! {
                    () = self.head.news(), if !self.head.is_ours() => {}
                    () = heard(self.bell.as_ref()) => {}
                    () = heard(self.changes.as_ref()) => {}
                    () = self.somebody_ended() => {}
                    () = at(self.again) => {}
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    async fn somebody_ended(&self) {
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
    async fn somebody_ended(&self) {
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

enum Others {
    Done,
    Open(Vec<(JobId, JobDir)>),
    Failed(FailedDependency),
}

/// The head of the line: held, or waited for by a thread that sleeps in flock(2).
#[derive(Default)]
struct Head {
    shared: Arc<Mutex<Claim>>,
    wakeup: Option<Wakeup>,
}

#[derive(Default)]
struct Claim {
    /// It is wanted, also by the time at which it is got.
    wanted: bool,
    /// A thread waits for it.
    waits: bool,
    /// A thread could not wait for it.
    failed: bool,
    held: Option<File>,
}

impl Head {
    fn claim(&self) -> std::sync::MutexGuard<'_, Claim> {
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
        !failed && self.stand_in_line(queue).is_ok()
    }

    fn stand_in_line(&mut self, queue: &Queue) -> io::Result<()> {
        let file = queue.open_head()?;
        if file.try_lock().is_ok() {
            self.claim().held = Some(file);
            return Ok(());
        }
        let (wakeup, mut waker) = wakeup()?;
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

    fn let_go(&mut self) {
        let mut claim = self.claim();
        claim.wanted = false;
        claim.held = None;
    }

    /// Sleeps until it is ours.
    async fn news(&self) {
        match &self.wakeup {
            Some(wakeup) => wakeup.wait().await,
            None => pending().await,
        }
    }
}
