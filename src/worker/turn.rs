//! Waiting for the job's turn: for its time, for other jobs, and for a slot in the
//! [queue](crate::queue).

use std::collections::BTreeSet;
use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
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
use crate::queue::{Entered, Place, Queue, Ticket};
use crate::settle::settle;
use crate::store::{JobDir, LoadError};
use crate::supervisor::FailedDependency;

/// How often is looked where nobody can be told that a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How soon is looked again where the queue could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The worker's part in the queue.
pub(super) struct Turn {
    jobs: PathBuf,
    queue: Queue,
    stage: Stage,
    /// The number that the job drew.
    number: Option<u64>,
    head: Head,
    bell: Option<pipe::Receiver>,
    watched: Vec<Watched>,
    /// The head of the line is ours, and this worker has looked since it is.
    attends: bool,
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
    /// It waits for a slot.
    Queued(Ticket),
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
            bell: None,
            watched: Vec::new(),
            attends: false,
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
        self.behind_others(record)
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
        let entered = self.queue.enter(&record.job_id, admission, self.number, login);
        let burial = self.bury_lost();
        match entered {
            Ok(Entered::Admitted(ticket)) => {
                self.inside(ticket);
                Step::Admitted
            }
            Ok(Entered::Waiting(ticket)) => {
                self.number = Some(ticket.number);
                self.stage = Stage::Queued(ticket);
                self.head.want(&self.queue);
                // Whoever finds nobody at the head has to look for all.
                self.look(record).unwrap_or(Step::Waits(Obstacle::Slot))
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

    fn inside(&mut self, ticket: Ticket) {
        self.number = Some(ticket.number);
        self.stage = Stage::Inside(ticket);
        self.head.let_go();
        self.attends = false;
        self.bell = None;
        self.watched.clear();
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
        if let Stage::Inside(ticket) | Stage::Queued(ticket) = &stage {
            self.queue.leave(ticket);
        }
        self.head.let_go();
        self.attends = false;
        self.bell = None;
        self.watched.clear();
        self.again = None;
    }

    /// Whether it is not the job's turn yet.
    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Delayed(_) | Stage::Behind(_) | Stage::Queued(_))
    }

    /// The queue, for what else is to be told there.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Looks how the job stands now; `None` where nothing has changed for it.
    pub(super) fn look(&mut self, record: &Record) -> Option<Step> {
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
            Stage::Queued(ticket) => {
                let ticket = ticket.clone();
                self.hear_bell();
                if !self.head.want(&self.queue) {
                    self.again = Some(Instant::now() + LOOK_AGAIN);
                } else if self.head.is_ours() {
                    self.watch_over();
                } else {
                    self.again = None;
                }
                match self.queue.place(&ticket) {
                    Place::Running => {
                        self.inside(ticket);
                        Some(Step::Admitted)
                    }
                    Place::Waiting => None,
                    // Somebody has taken it away: it is put there again.
                    Place::Gone => {
                        let admission = Admission { no_queue: false, ..ticket.admission };
                        Some(self.ask(record, &admission, &ticket.login))
                    }
                }
            }
        }
    }

    fn hear_bell(&mut self) {
        let mut rings = [0; 512];
        while self.bell.as_ref().is_some_and(|bell| bell.try_read(&mut rings).is_ok_and(|n| n > 0))
        {
        }
    }

    /// What is to be done at the head of the line.
    fn watch_over(&mut self) {
        self.again = None;
        self.attends = true;
        if self.bell.is_none() {
            // Before the first look, so that nobody rings unheard.
            self.bell = self.queue.open_bell().and_then(pipe::Receiver::from_file_unchecked).ok();
        }
        let done = match self.queue.dispatch() {
            Ok(done) => done,
            Err(_) => {
                self.again = Some(Instant::now() + AFTER_ERROR);
                return;
            }
        };
        self.again = done.again_in.map(|wait| Instant::now() + wait);
        let mut workers = done.running;
        workers.extend(done.witnesses);
        self.watched.retain(|watched| {
            workers.iter().any(|(job, pid)| *job == watched.job && *pid == watched.pid)
        });
        for (job, pid) in workers {
            if !self.watched.iter().any(|watched| watched.job == job && watched.pid == pid) {
                self.watch(job, pid);
            }
        }
        self.bury_lost();
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
                if let Ok(record) = dir.load()
                    && record.status.is_live()
                {
                    settle(&dir, record, None);
                }
                queue.found(&ticket);
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
            Stage::Queued(_) if !self.head.is_ours() => {
                tokio::select! {
                    () = self.head.news() => {}
                    () = at(self.again) => {}
                }
            }
            // It has become so since the last look.
            Stage::Queued(_) if !self.attends => {}
            Stage::Queued(_) => {
                tokio::select! {
                    () = self.rung() => {}
                    () = self.somebody_ended() => {}
                    () = at(self.again) => {}
                }
            }
        }
    }

    async fn rung(&self) {
        match &self.bell {
            Some(bell) if bell.readable().await.is_ok() => {}
            _ => pending().await,
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
