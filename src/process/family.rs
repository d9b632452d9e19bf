//! The processes of a job: the descendants of its worker, and whoever bears its mark.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Target, cgroup};

/// The variable that marks every process of a job: its value is the job's directory.
pub const MARK: &str = "CLAUDEJOB_DIR";

/// What marks a job's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    job_dir: PathBuf,
    scope: Option<String>,
}

impl Mark {
    /// The mark of the job in this directory, an absolute path.
    pub fn new(job_dir: &Path) -> Self {
        Self { job_dir: job_dir.to_owned(), scope: None }
    }

    /// The same, where the job has a control group of its own: whatever is in it belongs to the
    /// job, also without parents and environment.
    pub fn in_scope(mut self, cgroup: Option<String>) -> Self {
        self.scope = cgroup;
        self
    }

    /// The worker of the job, found by the mark and by what it was started with, where the record
    /// does not say it.
    pub fn worker(&self) -> Option<i32> {
        use std::os::unix::ffi::OsStrExt;
        let job_dir = self.job_dir.as_os_str().as_bytes();
        let is_worker = |pid: i32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|&byte| byte == 0).skip(1);
            arguments.next() == Some(b"worker") && arguments.next() == Some(job_dir)
        };
        let all = snapshot().into_iter();
        all.filter(|process| process.mark.as_ref() == Some(&self.job_dir))
            .map(|process| process.pid)
            .find(|pid| is_worker(*pid))
    }

    /// Whether a process bears the mark in its environment. Where environments cannot be read,
    /// any process does.
    pub fn is_on(&self, pid: i32) -> bool {
        cfg!(not(target_os = "linux")) || mark_of(pid).is_some_and(|mark| mark == self.job_dir)
    }
}

/// One process, as far as kinship needs to know it.
#[derive(Debug)]
struct Member {
    pid: i32,
    parent: i32,
    /// When it was started, in the kernel's ticks: with the number, it names a process for good.
    since: u64,
    mark: Option<PathBuf>,
}

impl Member {
    fn is_in(&self, scope: &str) -> bool {
        cgroup::of(self.pid).is_some_and(|cgroup| cgroup::is_within(&cgroup, scope))
    }
}

/// Which processes belong to a job.
#[derive(Clone, Debug)]
pub struct Family {
    mark: Mark,
    /// The worker, whose descendants all belong; `None` if it is dead.
    worker: Option<i32>,
}

impl Family {
    /// The family of a living worker, which must be this process.
    pub fn of_worker(mark: Mark) -> Self {
        Self { mark, worker: Some(std::process::id() as i32) }
    }

    /// The worker has found out about the job's own control group.
    pub fn in_scope(&mut self, cgroup: Option<String>) {
        self.mark.scope = cgroup;
    }

    /// What a dead worker left behind.
    pub fn orphaned(mark: Mark) -> Self {
        Self { mark, worker: None }
    }

    /// Sends SIGKILL to every member but the worker, and gives those that were alive. Members can
    /// have started others meanwhile: to be repeated until it gives none.
    ///
    /// A job that was started from within this job is a job of its own: a process that bears the
    /// mark of another job, and whatever it started, is spared where `lives` says that that job
    /// has a worker.
    pub fn kill(&self, lives: &dyn Fn(&Path) -> bool) -> Vec<i32> {
        let mut found = Vec::new();
        for member in self.find(lives) {
            // The process is held first and looked at again after that: its number can have
            // passed to another between the look and the hold.
            let Ok(target) = Target::open(member.pid) else { continue };
            let is_same = look(member.pid).is_some_and(|(_, since)| since == member.since);
            if is_same && target.signal(Signal::SIGKILL).is_ok() {
                found.push(member.pid);
            }
        }
        found
    }

    /// Kills until nothing is left or `rounds` are over, with `pause` between them, and says how
    /// many were ended and how many are left.
    pub fn sweep(
        &self,
        rounds: usize,
        pause: Duration,
        lives: &dyn Fn(&Path) -> bool,
    ) -> (usize, usize) {
        let mut ended = BTreeSet::new();
        for _ in 0..rounds {
            let found = self.kill(lives);
            if found.is_empty() {
                return (ended.len(), 0);
            }
            ended.extend(found);
            std::thread::sleep(pause);
        }
        (ended.len(), self.members(lives).len())
    }

    /// The living members, without the worker.
    pub fn members(&self, lives: &dyn Fn(&Path) -> bool) -> Vec<i32> {
        self.find(lives).into_iter().map(|member| member.pid).collect()
    }

    fn find(&self, lives: &dyn Fn(&Path) -> bool) -> Vec<Member> {
        let all = snapshot();
        let own = std::process::id() as i32;
        let belongs: Vec<bool> = all
            .iter()
            .map(|process| {
                process.pid != own
                    && Some(process.pid) != self.worker
                    && self.holds(process, &all, lives)
            })
            .collect();
        all.into_iter().zip(belongs).filter(|(_, belongs)| *belongs).map(|(one, _)| one).collect()
    }

    /// Follows a process's parents up to the worker or to one that bears a mark.
    fn holds(&self, process: &Member, all: &[Member], lives: &dyn Fn(&Path) -> bool) -> bool {
        let mut at = process;
        let mut marked = false;
        // No line of parents is longer than the list; a torn snapshot could hold a circle.
        for _ in 0..all.len() {
            if Some(at.pid) == self.worker {
                return true;
            }
            match &at.mark {
                Some(mark) if *mark == self.mark.job_dir => marked = true,
                // Started from within this job, but a job of its own.
                Some(mark) if !marked && lives(mark) => return false,
                _ => {}
            }
            match all.iter().find(|other| other.pid == at.parent) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        marked || self.mark.scope.as_ref().is_some_and(|scope| process.is_in(scope))
    }
}

#[cfg(target_os = "linux")]
fn snapshot() -> Vec<Member> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let (parent, since) = look(pid)?;
            Some(Member { pid, parent, since, mark: mark_of(pid) })
        })
        .collect()
}

/// The parent and the start time of a process that has not ended: fields 4 and 22 of
/// `/proc/PID/stat`, proc(5). The name, field 2, is in parentheses and can hold any character. A
/// process that waits to be reaped has ended.
#[cfg(target_os = "linux")]
fn look(pid: i32) -> Option<(i32, u64)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let since = fields.nth(17)?.parse().ok()?;
    Some((parent, since))
}

/// The job that a process belongs to, by its environment at its start; `None` also where that
/// cannot be read because it is somebody else's.
#[cfg(target_os = "linux")]
fn mark_of(pid: i32) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment
        .split(|&byte| byte == 0)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)))
}

#[cfg(not(target_os = "linux"))]
fn mark_of(_pid: i32) -> Option<PathBuf> {
    None
}

#[cfg(not(target_os = "linux"))]
fn snapshot() -> Vec<Member> {
    let output = std::process::Command::new("ps").args(["-axo", "pid=,ppid="]).output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            Some(Member { pid, parent, since: 0, mark: None })
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn look(pid: i32) -> Option<(i32, u64)> {
    super::exists(pid).then_some((0, 0))
}

/// The parent of a living process; 0 where it has none in here.
pub fn parent_of(pid: i32) -> Option<i32> {
    look(pid).map(|(parent, _)| parent)
}

/// Ends what a dead worker left behind, as [`Family::sweep`] does.
pub fn sweep_orphans(
    mark: Mark,
    rounds: usize,
    pause: Duration,
    lives: &dyn Fn(&Path) -> bool,
) -> (usize, usize) {
    Family::orphaned(mark).sweep(rounds, pause, lives)
}
