//! Waiting for the job's turn: for its time, for other jobs, and for a slot in the
//! [queue](crate::queue).

use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::time::sleep_until;

use super::wakeup::{Wakeup, wakeup};
use crate::clock;
use crate::job::{JobId, Obstacle, Record, Status};
use crate::queue::{Entered, Place, Queue, Ticket};
use crate::settle::settle;
use crate::store::{JobDir, LoadError};

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
}

/// How far the job has come.
enum Stage {
    /// Nothing was asked for, or it has gone without a slot.
    Outside,
    /// Its time has not come.
    Delayed(Instant),
    /// Others have not ended.
    Behind(Wakeup),
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
    DependencyFailed(String),
    /// It did not want to wait.
    NoSlot(String),
}

impl Turn {
    pub(super) fn of(job: &JobDir) -> Self {
        let jobs = job.path().parent().unwrap_or(job.path()).to_owned();
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
        }
    }

    /// Begins to wait, or is let in at once.
    pub(super) fn begin(&mut self, record: &Record) -> Step {
        let left = record.starts_at().map(|at| at.since(clock::now())).unwrap_or_default();
        // A job that ran before has waited for all but a slot.
        if !record.had_turn && !left.is_zero() {
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
            Others::Failed(error) => Step::DependencyFailed(error),
            Others::Open(open) => {
                self.stage = match watch_ends(open) {
                    Ok(wakeup) => Stage::Behind(wakeup),
                    Err(_) => {
                        self.again = Some(Instant::now() + LOOK_AGAIN);
                        Stage::Delayed(Instant::now() + LOOK_AGAIN)
                    }
                };
                Step::Waits(Obstacle::Jobs)
            }
        }
    }

    /// How the jobs stand that this one waits for.
    fn others(&self, record: &Record) -> Others {
        let mut open = Vec::new();
        let after = record.spec.after.iter().map(|id| (id, true));
        for (id, must_complete) in after.chain(record.spec.after_any.iter().map(|id| (id, false))) {
            let dir = JobDir::at(self.jobs.join(id.as_str()));
            let mut other = match dir.load() {
                Ok(other) => other,
                Err(LoadError::NotFound) if !must_complete => continue,
                Err(error) => return Others::Failed(format!("job {id}: {error}")),
            };
            if other.status.is_live() && !dir.is_held().unwrap_or(false) {
                other = settle(&dir, other, None);
            }
            match other.status {
                Status::Completed => {}
                status if status.is_live() => open.push(dir),
                status if must_complete => {
                    let reason = other.reason.map(|why| format!(" ({why})")).unwrap_or_default();
                    let error = format!("job {id}, for which it waited, is {status}{reason}");
                    return Others::Failed(error);
                }
                _ => {}
            }
        }
        if open.is_empty() { Others::Done } else { Others::Open(open) }
    }

    /// Asks for a slot.
    pub(super) fn enter(&mut self, record: &Record) -> Step {
        let mut admission = record.spec.admission.clone();
        // Whoever has met a limit has waited for its end, and finds out whether it is over.
        admission.ignores_limit |= self.number.is_some();
        admission.no_queue &= self.number.is_none();
        match self.queue.enter(&record.job_id, &admission, self.number) {
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
            Ok(Entered::NoSlot(why)) => Step::NoSlot(why),
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
            Stage::Behind(wakeup) => {
                wakeup.drain();
                match self.others(record) {
                    Others::Open(_) => None,
                    Others::Done => Some(self.enter(record)),
                    Others::Failed(error) => Some(Step::DependencyFailed(error)),
                }
            }
            Stage::Queued(ticket) => {
                let ticket = ticket.clone();
                self.hear_bell();
                if self.head.is_ours() {
                    self.watch_over();
                }
                match self.queue.place(&ticket) {
                    Place::Running => {
                        self.inside(ticket);
                        Some(Step::Admitted)
                    }
                    Place::Waiting => None,
                    // Somebody has taken it away: it is put there again.
                    Place::Gone => Some(self.enter(record)),
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
        self.watched.retain(|watched| {
            done.running.iter().any(|(job, pid)| *job == watched.job && *pid == watched.pid)
        });
        for (job, pid) in done.running {
            if !self.watched.iter().any(|watched| watched.job == job && watched.pid == pid) {
                self.watch(job, pid);
            }
        }
        if !done.dead.is_empty() {
            // Their end is written beside this, which others wait for.
            let dead: Vec<JobDir> =
                done.dead.iter().map(|id| JobDir::at(self.jobs.join(id.as_str()))).collect();
            std::thread::spawn(move || {
                for dir in dead {
                    if let Ok(record) = dir.load() {
                        settle(&dir, record, None);
                    }
                }
            });
        }
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
            let lives = JobDir::at(self.jobs.join(job.as_str())).is_held().unwrap_or(false);
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
            Stage::Behind(wakeup) => wakeup.wait().await,
            Stage::Queued(_) if !self.head.is_ours() => self.head.news().await,
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
    Open(Vec<JobDir>),
    Failed(String),
}

/// A thread each that sleeps until the job's lock is let go.
fn watch_ends(jobs: Vec<JobDir>) -> io::Result<Wakeup> {
    let (wakeup, waker) = wakeup()?;
    for job in jobs {
        let mut waker = waker.try_clone()?;
        let watch = move || {
            let _ = job.wait_released();
            let _ = waker.write(b"!");
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(watch)?;
    }
    Ok(wakeup)
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
    held: Option<File>,
}

impl Head {
    fn claim(&self) -> std::sync::MutexGuard<'_, Claim> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self) -> bool {
        self.claim().held.is_some()
    }

    /// Stands in line for it; takes it at once where nobody holds it.
    fn want(&mut self, queue: &Queue) {
        let mut claim = self.claim();
        claim.wanted = true;
        if claim.waits || claim.held.is_some() {
            return;
        }
        let Ok(file) = queue.open_head() else { return };
        if file.try_lock().is_ok() {
            claim.held = Some(file);
            return;
        }
        let Ok((wakeup, mut waker)) = wakeup() else { return };
        claim.waits = true;
        drop(claim);
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
            if locked && claim.wanted {
                claim.held = Some(file);
                drop(claim);
                let _ = waker.write(b"!");
            }
        };
        if std::thread::Builder::new().stack_size(64 << 10).spawn(wait).is_err() {
            self.claim().waits = false;
        }
        self.wakeup = Some(wakeup);
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
