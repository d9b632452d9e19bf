//! The end of the processes of a job whose worker is gone: they are found by the job's marker in
//! their environment, by its scope, and by their parents.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::descendants::IsIndependent;
use super::marker::Mark;
use super::proc::{self, Process, ProcessId};
use super::survivors::Survivors;
use super::{LONGEST_LINE, boot_ticks, cgroup};
use crate::job::Leftovers;

/// How long a search goes on that has found nothing for as long, where processes ended before they
/// could be looked at. On a busy machine there are always some.
const VANISHED_TAKES: Duration = Duration::from_millis(300);
/// How long the end of a process is waited for before the next search.
const DYING_PAUSE: Duration = Duration::from_millis(10);
/// How often the list of all marked processes is read anew where some ended meanwhile.
const SNAPSHOT_TRIES: usize = 5;

/// Ends what a dead worker, which was started at `worker_start`, has left behind, until nothing is
/// found or the time is over. Gives how many processes were ended, and what is left.
///
/// A process that `is_independent` is spared, with all below it.
pub fn end_orphans(
    mark: &Mark,
    worker_start: Option<u64>,
    is_independent: IsIndependent<'_>,
    until: Instant,
) -> (usize, Leftovers) {
    let has_scope = mark.scope.as_deref().is_some_and(|scope| !cgroup::is_empty(scope));
    if !has_scope && has_none(mark, worker_start) {
        return (0, Leftovers::default());
    }
    let mut search = Search {
        mark,
        is_independent,
        strangers: HashSet::new(),
        seen: HashMap::new(),
        survivors: Survivors::default(),
        living: Vec::new(),
    };
    match search.run(until) {
        Ok(()) => {
            let processes = search.survivors.left(&search.living);
            (search.survivors.ended(), Leftovers { processes, unlisted: None })
        }
        Err(error) => {
            let unlisted = Some(error.to_string());
            (search.survivors.ended(), Leftovers { processes: Vec::new(), unlisted })
        }
    }
}

/// Whether a process is independent or below one that is.
pub fn is_below_any(pid: i32, is_independent: IsIndependent<'_>) -> bool {
    let mut at = pid;
    for _ in 0..LONGEST_LINE {
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
fn has_none(mark: &Mark, worker_start: Option<u64>) -> bool {
    let (Some(worker_start), Ok(mut last)) = (worker_start, SNAPSHOT.lock()) else { return false };
    let is_younger = |snapshot: &Snapshot| snapshot.began > worker_start;
    if last.as_ref().is_none_or(|snapshot| !is_younger(snapshot)) {
        *last = Snapshot::take();
    }
    let Some(snapshot) = last.as_ref() else { return false };
    is_younger(snapshot) && !snapshot.markers.contains(&mark.job_dir)
}

impl Snapshot {
    fn take() -> Option<Self> {
        let began = boot_ticks()?;
        let mut markers = HashSet::new();
        let mut seen = HashSet::new();
        for _ in 0..SNAPSHOT_TRIES {
            let mut has_vanished = false;
            for pid in proc::pids().ok()?.into_iter().rev() {
                if !seen.insert(pid) {
                    continue;
                }
                match Process::living(pid) {
                    Some(process) => markers.extend(process.markers()),
                    None => has_vanished = true,
                }
            }
            if !has_vanished {
                break;
            }
        }
        Some(Self { began, markers })
    }
}

struct Search<'a> {
    mark: &'a Mark,
    is_independent: IsIndependent<'a>,
    /// Numbers that are not looked at again before the search is otherwise over.
    strangers: HashSet<i32>,
    /// The processes of one pass with their markers.
    seen: HashMap<i32, Option<(Process, Vec<PathBuf>)>>,
    survivors: Survivors,
    living: Vec<ProcessId>,
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
    fn run(&mut self, until: Instant) -> io::Result<()> {
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
            if empty >= 2 || Instant::now() >= until {
                return Ok(());
            }
            if !self.living.is_empty() && !pass.is_new {
                if self.living.iter().all(|id| self.survivors.is_refused(*id)) {
                    return Ok(());
                }
                self.survivors.wait(&self.living, DYING_PAUSE);
            }
        }
    }

    fn pass(&mut self) -> io::Result<Pass> {
        self.seen.clear();
        self.living.clear();
        let own = std::process::id() as i32;
        let mut pass = Pass { is_new: false, has_vanished: false };
        // The newest first: they are the ones that may end soon.
        for pid in proc::pids()?.into_iter().rev() {
            if pid == own || self.strangers.contains(&pid) {
                continue;
            }
            let Some((process, _)) = self.look(pid) else {
                // A zombie stays one until its parent reaps it.
                self.strangers.insert(pid);
                pass.has_vanished = true;
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
        let (mark, is_independent) = (self.mark, self.is_independent);
        let mut belongs = mark.scope.as_deref().is_some_and(|scope| cgroup::holds(scope, pid));
        let mut at = pid;
        for _ in 0..LONGEST_LINE {
            let Some((process, markers)) = self.look(at) else { break };
            belongs |= markers.contains(&mark.job_dir);
            // This process is none that is to be ended, and what is above it is another matter.
            if at == own {
                break;
            }
            if markers.iter().any(|marker| is_independent(marker, process.id)) {
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
