//! Killing the processes of a job whose worker is gone: they are found by the job's marker in their
//! environment, by its control group, and by their parents.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::descendants::IsIndependent;
use super::marker::JobMarker;
use super::proc::{self, MAX_ANCESTORS, Pids, Process, ProcessId, with_ancestors};
use super::survivors::Survivors;
use super::{ProcessHandle, TOO_FAST, boot_ticks, cgroup, own_pid};
use crate::job::Leftovers;

/// How long a search continues without finding any process while other processes end before they can
/// be read. On a busy machine there are always some.
const VANISHED_TIMEOUT: Duration = Duration::from_millis(300);
/// How long to wait for the end of a process before the next pass.
const EXIT_TIMEOUT: Duration = Duration::from_millis(10);
/// How often the list of all markers is read again if processes ended meanwhile.
const MAX_SNAPSHOT_TRIES: usize = 5;
/// Time limit of these tries.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long only the newest processes are checked before the next pass over all.
const CHASE_TIME: Duration = Duration::from_millis(20);
/// Number of processes in a pass after which the newest ones are checked again.
const CHASE_INTERVAL: usize = 32;
/// Number of newest processes that are checked.
const NEWEST_COUNT: i32 = 8;

/// The processes that dead workers have left. One search ends those of several jobs.
pub(crate) struct Orphans<'a> {
    /// The markers of the jobs.
    pub markers: &'a [JobMarker],
    /// Start of the first of the workers in clock ticks since boot.
    pub worker_start: Option<u64>,
    /// Whether this process holds the jobs' locks, so that they have no workers.
    pub is_locked: bool,
    /// The processes to spare, with their descendants.
    pub is_independent: IsIndependent<'a>,
}

impl Orphans<'_> {
    /// Kills these processes until none is found, or until the deadline. Returns how many have ended,
    /// and those that are left.
    pub(crate) fn end(&self, until: Instant) -> (usize, Leftovers) {
        if self.markers.iter().all(|marker| self.has_no_process(marker)) {
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
        let is_done = search.run(until);
        let processes = search.survivors.left(&search.living);
        let unlisted = match is_done {
            Ok(false) if processes.is_empty() => Some(TOO_FAST.to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        (search.survivors.ended, Leftovers { processes, unlisted })
    }

    fn has_no_process(&self, marker: &JobMarker) -> bool {
        let has_scope = matches!(&marker.scope, Some(scope) if !cgroup::is_empty(scope));
        !has_scope && no_process_has(marker, self.worker_start)
    }

    /// Whether the marker of a process is one of these jobs.
    fn has_marker(&self, job_dir: &Path) -> bool {
        self.markers.iter().any(|marker| marker.job_dir == job_dir)
    }

    /// Whether the process is in the control group of one of these jobs.
    fn has_in_scope(&self, pid: i32) -> bool {
        let mut scopes = self.markers.iter().filter_map(|marker| marker.scope.as_deref());
        scopes.any(|scope| cgroup::contains(scope, pid))
    }
}

/// Returns whether a process or one of its ancestors is independent.
pub(crate) fn is_below_any(pid: i32, is_independent: IsIndependent<'_>) -> bool {
    with_ancestors(pid)
        .any(|process| process.markers().iter().any(|marker| is_independent(marker, process.id)))
}

/// The markers of all processes of this machine at one time.
struct MarkerSnapshot {
    /// Start of the snapshot in clock ticks since boot.
    began: u64,
    markers: HashSet<PathBuf>,
}

/// The last snapshot of this process: a command that reads many lost jobs takes it once for all of
/// them.
static SNAPSHOT: Mutex<Option<MarkerSnapshot>> = Mutex::new(None);

/// Returns whether no process has the marker. The worker and the processes that it started would be
/// in every snapshot that is younger than the worker.
fn no_process_has(marker: &JobMarker, worker_start: Option<u64>) -> bool {
    let (Some(worker_start), Ok(mut last)) = (worker_start, SNAPSHOT.lock()) else { return false };
    if !matches!(&*last, Some(snapshot) if snapshot.began > worker_start) {
        *last = MarkerSnapshot::take();
    }
    match &*last {
        Some(snapshot) if snapshot.began > worker_start => {
            !snapshot.markers.contains(&marker.job_dir)
        }
        _ => false,
    }
}

impl MarkerSnapshot {
    /// Returns `None` if processes ended before they could be read in each try.
    fn take() -> Option<Self> {
        let began = boot_ticks()?;
        let until = Instant::now() + SNAPSHOT_TIMEOUT;
        let mut markers = HashSet::new();
        let mut seen = HashSet::new();
        for _ in 0..MAX_SNAPSHOT_TRIES {
            let mut has_vanished = false;
            let Pids { pids, is_complete } = proc::pids().ok()?;
            has_vanished |= !is_complete;
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

/// A search for the processes of [`Orphans`].
struct Search<'a> {
    orphans: &'a Orphans<'a>,
    /// Process ids that are not checked again before the search has found all others.
    strangers: HashSet<i32>,
    /// Process ids of processes that had ended before they could be read.
    vanished: HashSet<i32>,
    /// The processes of one pass, with their markers.
    seen: HashMap<i32, Option<(Process, Vec<PathBuf>)>>,
    survivors: Survivors,
    living: Vec<ProcessId>,
    /// The newest process id that was checked.
    newest: i32,
}

/// Result of one pass over all processes.
#[derive(Clone, Copy)]
struct Pass {
    /// Some were sent SIGKILL for the first time.
    is_new: bool,
    /// Some had ended before they could be read.
    has_vanished: bool,
}

impl Search<'_> {
    /// Repeats passes over the processes until two complete ones find nothing. While there are new
    /// processes it makes no pauses: nothing else catches a chain of processes that each start the
    /// next one and end. Returns whether nothing is left but processes that may not be signalled.
    fn run(&mut self, until: Instant) -> io::Result<bool> {
        let mut found_at = Instant::now();
        let mut empty_passes = 0;
        loop {
            if empty_passes > 0 {
                self.strangers.clear();
            }
            let pass = self.pass()?;
            if !self.living.is_empty() || pass.is_new {
                empty_passes = 0;
                found_at = Instant::now();
            } else if !pass.has_vanished || found_at.elapsed() >= VANISHED_TIMEOUT {
                empty_passes += 1;
            }
            if empty_passes >= 2 {
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
                self.survivors.wait(&self.living, EXIT_TIMEOUT);
            }
        }
    }

    fn pass(&mut self) -> io::Result<Pass> {
        self.seen.clear();
        self.living.clear();
        let own = own_pid();
        let Pids { pids, is_complete } = proc::pids()?;
        let mut pass = Pass { is_new: false, has_vanished: !is_complete };
        // The newest first, unless the process ids have wrapped around: those may end soon.
        for (index, pid) in pids.into_iter().rev().enumerate() {
            if index % CHASE_INTERVAL == 0 {
                self.kill_newest();
            }
            if pid == own || self.strangers.contains(&pid) {
                continue;
            }
            let killed = self.kill_at_once(pid);
            let is_killed = killed.is_some();
            let Some((process, _)) = self.read(pid) else {
                self.survivors.ended += usize::from(is_killed);
                pass.is_new |= is_killed;
                // A zombie stays one until its parent reaps it.
                pass.has_vanished |= self.vanished.insert(pid);
                self.strangers.insert(pid);
                continue;
            };
            let id = process.id;
            pass.is_new |= is_killed;
            // While it ends, its environment is gone before its files are closed.
            let is_ending = self.survivors.contain(id)
                || killed.is_some_and(|handle| self.survivors.add_killed(id, handle));
            if !is_ending && !self.belongs(pid) {
                self.strangers.insert(pid);
                continue;
            }
            pass.is_new |= self.survivors.kill(id, || id.is_alive());
            self.living.push(id);
        }
        self.survivors.add_ending(&mut self.living);
        self.survivors.forget_ended(&self.living);
        Ok(pass)
    }

    /// Checks only the newest processes for a while.
    fn chase(&mut self) {
        let until = Instant::now() + CHASE_TIME;
        while Instant::now() < until {
            self.kill_newest();
        }
    }

    /// Kills the newest processes if they are the job's: a process that is about to start another one
    /// and end will have done so before a pass over all reaches it.
    fn kill_newest(&mut self) {
        let own = own_pid();
        let Some(newest) = proc::newest() else { return };
        for pid in (newest - NEWEST_COUNT..=newest).rev() {
            // The two newest are checked again: they may just have been started.
            let was_seen = pid <= self.newest && pid < newest - 1;
            if was_seen || pid <= 1 || pid == own {
                continue;
            }
            if let Some(handle) = self.kill_at_once(pid) {
                if let Some(id) = ProcessId::from_pid(pid) {
                    self.survivors.add_killed(id, handle);
                }
                continue;
            }
            self.seen.remove(&pid);
            if !self.orphans.is_locked
                && self.belongs(pid)
                && let Some(id) = self.read(pid).map(|(process, _)| process.id)
            {
                self.survivors.kill(id, || id.is_alive());
            }
        }
        self.newest = newest;
    }

    /// Sends SIGKILL to a process whose only marker is that of a job, in as few steps as possible, because
    /// it may start another process and end. Returns its handle if it did so.
    ///
    /// The handle is opened first: if the process lives when the signal is sent, the environment was
    /// its own.
    fn kill_at_once(&self, pid: i32) -> Option<ProcessHandle> {
        let process = ProcessHandle::open(pid).ok()?;
        let markers = proc::markers(pid);
        let is_known = matches!(markers.as_slice(), [marker] if self.orphans.has_marker(marker));
        let may_kill = self.orphans.is_locked && is_known;
        if may_kill && process.signal(Signal::SIGKILL).is_ok() { Some(process) } else { None }
    }

    /// Returns a process and its markers, which are read once in each pass.
    fn read(&mut self, pid: i32) -> Option<&(Process, Vec<PathBuf>)> {
        self.seen.entry(pid).or_insert_with(|| read_process(pid)).as_ref()
    }

    /// Returns whether a process or one of its ancestors is the job's, and none of them independent.
    fn belongs(&mut self, pid: i32) -> bool {
        let own = own_pid();
        let orphans = self.orphans;
        let mut belongs = orphans.has_in_scope(pid);
        let mut ancestor = pid;
        for _ in 0..MAX_ANCESTORS {
            let Some((process, markers)) = self.read(ancestor) else { break };
            belongs |= markers.iter().any(|marker| orphans.has_marker(marker));
            // This process itself is not to be killed, and its ancestors are not the job's.
            if ancestor == own {
                break;
            }
            for marker in markers {
                // While this process holds a job's lock, the job has no worker that could be
                // independent.
                let has_no_worker = orphans.is_locked && orphans.has_marker(marker);
                if !has_no_worker && (orphans.is_independent)(marker, process.id) {
                    return false;
                }
            }
            match process.parent {
                parent if parent > 1 => ancestor = parent,
                _ => break,
            }
        }
        belongs
    }
}

fn read_process(pid: i32) -> Option<(Process, Vec<PathBuf>)> {
    let process = Process::living(pid)?;
    let markers = process.markers();
    Some((process, markers))
}
