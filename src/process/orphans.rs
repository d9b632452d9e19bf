//! The end of the processes of a job whose worker is gone: they are found by the job's marker in
//! their environment, by its scope, and by their parents.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::descendants::IsIndependent;
use super::marker::JobMarker;
use super::proc::{self, Pids, Process, ProcessId};
use super::survivors::Survivors;
use super::{MAX_ANCESTORS, ProcessHandle, TOO_FAST, boot_ticks, cgroup};
use crate::job::Leftovers;

/// How long a search goes on that has found nothing for as long, where processes ended before they
/// could be looked at. On a busy machine there are always some.
const VANISHED_TAKES: Duration = Duration::from_millis(300);
/// How long the end of a process is waited for before the next search.
const DYING_PAUSE: Duration = Duration::from_millis(10);
/// How often the list of all marked processes is read anew where some ended meanwhile.
const SNAPSHOT_TRIES: usize = 5;
/// How long that may take.
const SNAPSHOT_TAKES: Duration = Duration::from_millis(300);
/// How long the newest processes are looked at before the next pass over all.
const CHASE_TAKES: Duration = Duration::from_millis(20);
/// After how many others they are looked at during such a pass.
const CHASE_EVERY: usize = 32;
/// How many of the newest processes are looked at.
const CHASED: i32 = 8;

/// What a dead worker has left behind.
pub struct Orphans<'a> {
    /// The job's mark.
    pub mark: &'a JobMarker,
    /// When the worker was started, in clock ticks since the system booted.
    pub worker_start: Option<u64>,
    /// This process holds the job's lock, so that the job has no worker.
    pub is_locked: bool,
    /// The processes that are spared, with all below them.
    pub is_independent: IsIndependent<'a>,
}

impl Orphans<'_> {
    /// Ends these processes until none is found or the time is over. Gives how many were ended, and
    /// what is left.
    pub fn end(&self, until: Instant) -> (usize, Leftovers) {
        let scope = self.mark.scope.as_deref();
        let has_scope = scope.is_some_and(|scope| !cgroup::is_empty(scope));
        if !has_scope && has_none(self.mark, self.worker_start) {
            return (0, Leftovers::default());
        }
        let mut search = Search {
            orphans: self,
            strangers: HashSet::new(),
            vanished: HashSet::new(),
            seen: HashMap::new(),
            survivors: Survivors::default(),
            living: Vec::new(),
            newest: 0,
        };
        let is_over = search.run(until);
        let processes = search.survivors.left(&search.living);
        let unlisted = match is_over {
            Ok(false) if processes.is_empty() => Some(TOO_FAST.to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        (search.survivors.ended, Leftovers { processes, unlisted })
    }
}

/// Whether a process is independent or below one that is.
pub fn is_below_any(pid: i32, is_independent: IsIndependent<'_>) -> bool {
    let mut at = pid;
    for _ in 0..MAX_ANCESTORS {
        let Some(process) = Process::living(at) else { return false };
        if process.markers().iter().any(|marker| is_independent(marker, process.id)) {
            return true;
        }
        if process.parent <= 1 {
            return false;
        }
        at = process.parent;
    }
    false
}

/// All markers of this machine's processes at one time.
struct Snapshot {
    /// When it was begun, in clock ticks since the system booted.
    began: u64,
    markers: HashSet<PathBuf>,
}

/// The last one of this process: who looks at many lost jobs reads it once for all of them.
static SNAPSHOT: Mutex<Option<Snapshot>> = Mutex::new(None);

/// Whether no process bears the mark. The worker and all that it started would be in every list
/// that is younger than the worker.
fn has_none(mark: &JobMarker, worker_start: Option<u64>) -> bool {
    let (Some(worker_start), Ok(mut last)) = (worker_start, SNAPSHOT.lock()) else { return false };
    let is_younger = |snapshot: &Snapshot| snapshot.began > worker_start;
    if last.as_ref().is_none_or(|snapshot| !is_younger(snapshot)) {
        *last = Snapshot::take();
    }
    let Some(snapshot) = last.as_ref() else { return false };
    is_younger(snapshot) && !snapshot.markers.contains(&mark.job_dir)
}

impl Snapshot {
    /// Gives none where processes ended before they could be looked at, again and again.
    fn take() -> Option<Self> {
        let began = boot_ticks()?;
        let until = Instant::now() + SNAPSHOT_TAKES;
        let mut markers = HashSet::new();
        let mut seen = HashSet::new();
        for _ in 0..SNAPSHOT_TRIES {
            let mut has_vanished = false;
            let Pids { pids, is_whole } = proc::pids().ok()?;
            has_vanished |= !is_whole;
            for pid in pids {
                if !seen.insert(pid) {
                    continue;
                }
                match Process::living(pid) {
                    Some(process) => markers.extend(process.markers()),
                    None => has_vanished = true,
                }
            }
            if !has_vanished {
                return Some(Self { began, markers });
            }
            if Instant::now() >= until {
                break;
            }
        }
        None
    }
}

struct Search<'a> {
    orphans: &'a Orphans<'a>,
    /// Numbers that are not looked at again before the search is otherwise over.
    strangers: HashSet<i32>,
    /// Numbers of processes that had ended before they could be looked at.
    vanished: HashSet<i32>,
    /// The processes of one pass with their markers.
    seen: HashMap<i32, Option<(Process, Vec<PathBuf>)>>,
    survivors: Survivors,
    living: Vec<ProcessId>,
    /// The newest process that was looked at.
    newest: i32,
}

/// What one pass over all processes has found.
#[derive(Clone, Copy)]
struct Pass {
    /// Some were sent SIGKILL now.
    is_new: bool,
    /// Some had ended before they could be looked at.
    has_vanished: bool,
}

impl Search<'_> {
    /// Passes without pauses over the processes that are new, as a chain of processes that each
    /// start the next one and end is caught by nothing else, until two whole passes find nothing.
    /// Says whether they did, or only processes are left that may not be signalled.
    fn run(&mut self, until: Instant) -> io::Result<bool> {
        let mut found_at = Instant::now();
        let mut empty = 0;
        loop {
            if empty > 0 {
                self.strangers.clear();
            }
            let pass = self.pass()?;
            if !self.living.is_empty() || pass.is_new {
                empty = 0;
                found_at = Instant::now();
            } else if !pass.has_vanished || found_at.elapsed() >= VANISHED_TAKES {
                empty += 1;
            }
            if empty >= 2 {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            if pass.is_new || pass.has_vanished {
                self.chase();
            } else if !self.living.is_empty() {
                if self.living.iter().all(|id| self.survivors.is_refused(*id)) {
                    return Ok(true);
                }
                self.survivors.wait(&self.living, DYING_PAUSE);
            }
        }
    }

    fn pass(&mut self) -> io::Result<Pass> {
        self.seen.clear();
        self.living.clear();
        let own = std::process::id() as i32;
        let Pids { pids, is_whole } = proc::pids()?;
        let mut pass = Pass { is_new: false, has_vanished: !is_whole };
        // The newest first, unless the numbers have begun anew: those that may end soon.
        for (index, pid) in pids.into_iter().rev().enumerate() {
            if index % CHASE_EVERY == 0 {
                self.kill_newest();
            }
            if pid == own || self.strangers.contains(&pid) {
                continue;
            }
            let is_killed = self.kill_at_once(pid);
            let Some((process, _)) = self.look(pid) else {
                self.survivors.ended += usize::from(is_killed);
                pass.is_new |= is_killed;
                // A zombie stays one until its parent reaps it.
                pass.has_vanished |= self.vanished.insert(pid);
                self.strangers.insert(pid);
                continue;
            };
            let id = process.id;
            if !self.belongs(pid) {
                self.strangers.insert(pid);
                continue;
            }
            pass.is_new |= self.survivors.kill(id, || id.is_alive());
            self.living.push(id);
        }
        self.survivors.forget_ended(&self.living);
        Ok(pass)
    }

    /// Looks at the newest processes alone for a while.
    fn chase(&mut self) {
        let until = Instant::now() + CHASE_TAKES;
        while Instant::now() < until {
            self.kill_newest();
        }
    }

    /// Ends those of the newest processes that are the job's: one that is about to start another
    /// and end will have done so before a pass over all comes to it.
    fn kill_newest(&mut self) {
        let own = std::process::id() as i32;
        let Some(newest) = proc::newest() else { return };
        for pid in (newest - CHASED..=newest).rev() {
            // The two newest are looked at again: they may just have been started.
            let was_seen = pid <= self.newest && pid < newest - 1;
            if was_seen || pid <= 1 || pid == own || self.kill_at_once(pid) {
                continue;
            }
            self.seen.remove(&pid);
            if !self.orphans.is_locked
                && self.belongs(pid)
                && let Some(id) = self.look(pid).map(|(process, _)| process.id)
            {
                self.survivors.kill(id, || id.is_alive());
            }
        }
        self.newest = newest;
    }

    /// Sends SIGKILL to a process that is marked as the job's and as nothing else, with as few
    /// steps as there can be between its start and its end.
    ///
    /// The process is held first: if it lives when the signal is sent, the environment was its own.
    fn kill_at_once(&self, pid: i32) -> bool {
        let Orphans { mark, is_locked, .. } = *self.orphans;
        let Ok(target) = ProcessHandle::open(pid) else { return false };
        is_locked
            && proc::markers(pid).as_slice() == [mark.job_dir.as_path()]
            && target.signal(Signal::SIGKILL).is_ok()
    }

    fn look(&mut self, pid: i32) -> Option<&(Process, Vec<PathBuf>)> {
        let look = || {
            let process = Process::living(pid)?;
            let markers = process.markers();
            Some((process, markers))
        };
        self.seen.entry(pid).or_insert_with(look).as_ref()
    }

    /// Whether a process or one above it is the job's, and none of them independent.
    fn belongs(&mut self, pid: i32) -> bool {
        let own = std::process::id() as i32;
        let Orphans { mark, is_locked, is_independent, .. } = *self.orphans;
        let mut belongs = mark.scope.as_deref().is_some_and(|scope| cgroup::holds(scope, pid));
        let mut at = pid;
        for _ in 0..MAX_ANCESTORS {
            let Some((process, markers)) = self.look(at) else { break };
            belongs |= markers.contains(&mark.job_dir);
            // This process is none that is to be ended, and what is above it is another matter.
            if at == own {
                break;
            }
            // Whoever holds the job's lock need not ask whether it has a worker.
            let goes_on = |marker: &PathBuf| {
                !(is_locked && *marker == mark.job_dir) && is_independent(marker, process.id)
            };
            if markers.iter().any(goes_on) {
                return false;
            }
            match process.parent {
                parent if parent > 1 => at = parent,
                _ => break,
            }
        }
        belongs
    }
}
