//! Information about processes: proc(5) on Linux, ps(1) on other systems.

use std::io;
use std::path::{Path, PathBuf};

use super::own_pid;

/// Environment variables that mark every process of a job: their value is the job's directory. The
/// second one has no other use, so that a program can set the first for a purpose of its own.
pub(super) const MARKER_VARIABLES: [&str; 2] = ["CLAUDEJOB_DIR", "CLAUDEJOB_MARK"];

/// Limit on the ancestors of a process that are followed. Parents that are read one after the other
/// while they change could form a circle.
pub(super) const MAX_ANCESTORS: usize = 10_000;

/// Identifies a process uniquely: after its end its number can be given to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessId {
    pub pid: i32,
    /// Start of the process in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    pub(crate) fn own() -> Option<Self> {
        Self::from_pid(own_pid())
    }

    /// Identifies the process that has this number now; `None` if there is none.
    pub(crate) fn from_pid(pid: i32) -> Option<Self> {
        Some(Process::living(pid)?.id)
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::from_pid(self.pid) == Some(self)
    }
}

/// A living process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub id: ProcessId,
    pub parent: i32,
    /// State of the main thread, which may have ended before the others: `Z`.
    pub state: char,
    pub name: String,
    /// A thread of the kernel, which has no environment.
    pub is_kernel_thread: bool,
}

/// A list of process ids.
pub(super) struct Pids {
    pub pids: Vec<i32>,
    /// The list has all processes.
    pub is_complete: bool,
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use nix::errno::Errno;

    use super::{MARKER_VARIABLES, PathBuf, Pids, Process, ProcessId, io};
    use crate::process::procfs;

    /// Number of processes and threads that may start while the others are listed.
    const MAX_NEW_THREADS: usize = 256;

    /// Flag of a thread of the kernel in field 9 of `/proc/PID/stat`.
    const PF_KTHREAD: u32 = 0x0020_0000;

    /// Number of milliseconds that a process which executes another program is waited for.
    const MAX_EXEC_MS: u32 = 200;

    /// Returns an error if `/proc` does not show processes.
    pub(crate) fn check() -> io::Result<()> {
        match fs::metadata("/proc/self/stat") {
            Ok(_) => Ok(()),
            Err(error) => Err(unreadable("/proc/self/stat", &error)),
        }
    }

    impl Process {
        /// Returns the process with this number, unless it has ended: a zombie lives if threads other
        /// than its main thread do.
        pub(crate) fn living(pid: i32) -> Option<Self> {
            Self::living_in(&format!("/proc/{pid}")).ok()?
        }

        /// Returns the process with this directory, likewise.
        fn living_in(directory: &str) -> io::Result<Option<Self>> {
            let stat = procfs::read(&format!("{directory}/stat"))?;
            let process = Self::parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
            let lives = !has_ended(process.state) || thread_in(directory).is_some();
            Ok(if lives { Some(process) } else { None })
        }

        /// Reads `/proc/PID/stat`, of a process or a thread.
        fn stat(path: &str) -> Option<Self> {
            Self::parse(&procfs::read(path).ok()?)
        }

        /// Parses the text of `/proc/PID/stat`. The name, field 2, is in parentheses and can contain
        /// any character.
        fn parse(stat: &[u8]) -> Option<Self> {
            let stat = String::from_utf8_lossy(stat);
            let (start, end) = (stat.find('(')?, stat.rfind(')')?);
            let pid = stat[..start].trim().parse().ok()?;
            let name = stat[start + 1..end].to_owned();
            let mut fields = stat[end + 1..].split_whitespace();
            let state = fields.next()?.chars().next()?;
            let parent = fields.next()?.parse().ok()?;
            let flags: u32 = fields.nth(4)?.parse().ok()?;
            let start_time = fields.nth(12)?.parse().ok()?;
            let is_kernel_thread = flags & PF_KTHREAD != 0;
            Some(Self { id: ProcessId { pid, start_time }, parent, state, name, is_kernel_thread })
        }

        /// Returns the directories of the jobs that the process is marked with.
        pub(crate) fn markers(&self) -> Vec<PathBuf> {
            let pid = self.id.pid;
            let directory = format!("/proc/{pid}");
            if self.is_kernel_thread {
                Vec::new()
            } else if !has_ended(self.state) {
                markers_in(&environment(&directory))
            } else if let Some(thread) = thread_in(&directory) {
                // The living threads still have the memory with the environment.
                markers_in(&environment(&format!("{directory}/task/{thread}")))
            } else {
                Vec::new()
            }
        }

        /// Returns the user id of the process.
        pub(crate) fn uid(&self) -> Option<u32> {
            Some(fs::metadata(format!("/proc/{}", self.id.pid)).ok()?.uid())
        }

        /// Returns the arguments of the process; the program is the first.
        pub(crate) fn arguments(&self) -> Vec<Vec<u8>> {
            let text = procfs::read(&format!("/proc/{}/cmdline", self.id.pid)).unwrap_or_default();
            text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
        }
    }

    /// Returns the directories of the jobs that a process is marked with, by its environment at its
    /// start; none if its main thread has ended, if the environment is that of another user's
    /// process and cannot be read, or while the process executes another program.
    pub(crate) fn markers(pid: i32) -> Vec<PathBuf> {
        markers_in(&procfs::read(&format!("/proc/{pid}/environ")).unwrap_or_default())
    }

    /// Returns the environment of the process or thread with this directory, once it has one: while
    /// it executes another program (execve(2)), the kernel shows an empty environment, whose end is
    /// first 0 and then its start.
    fn environment(directory: &str) -> Vec<u8> {
        let mut last = None;
        for _ in 0..MAX_EXEC_MS {
            match procfs::read(&format!("{directory}/environ")) {
                Ok(environment) if environment.is_empty() => {}
                Ok(environment) => return environment,
                Err(_) => break,
            }
            let range = environment_range(directory);
            match range {
                None => break,
                Some((start, end)) if start == end && end != 0 && range == last => break,
                Some(_) => thread::sleep(Duration::from_millis(1)),
            }
            last = range;
        }
        Vec::new()
    }

    /// Returns the addresses of the environment's start and end, fields 50 and 51 of `/proc/PID/stat`,
    /// in a process or thread that has memory (field 23): one that is ending has none.
    fn environment_range(directory: &str) -> Option<(u64, u64)> {
        let stat = procfs::read(&format!("{directory}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        if fields.nth(20)? == "0" {
            return None;
        }
        let start = fields.nth(26)?.parse().ok()?;
        Some((start, fields.next()?.parse().ok()?))
    }

    fn markers_in(environment: &[u8]) -> Vec<PathBuf> {
        let mut markers = Vec::new();
        for name in MARKER_VARIABLES {
            // A variable begins after a zero byte or at the beginning. Most environments have none
            // of these variables, so that the search for the name comes first.
            for at in memchr::memmem::find_iter(environment, name) {
                let starts = at == 0 || environment[at - 1] == 0;
                let rest = &environment[at + name.len()..];
                if let (true, Some(value)) = (starts, rest.strip_prefix(b"=")) {
                    let end = memchr::memchr(0, value).unwrap_or(value.len());
                    let marker = PathBuf::from(OsStr::from_bytes(&value[..end]));
                    if !markers.contains(&marker) {
                        markers.push(marker);
                    }
                }
            }
        }
        markers
    }

    fn has_ended(state: char) -> bool {
        matches!(state, 'Z' | 'X')
    }

    /// Returns whether the process of this directory, which may be an open one of a process whose
    /// number belongs to another process now, has ended.
    pub(crate) fn has_ended_in(directory: &str) -> io::Result<bool> {
        match Process::living_in(directory) {
            Ok(process) => Ok(process.is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Returns a living thread, other than the main thread, of the process with this directory.
    fn thread_in(directory: &str) -> Option<i32> {
        let threads = numbers(&format!("{directory}/task")).ok()?;
        for thread in threads {
            if let Some(stat) = Process::stat(&format!("{directory}/task/{thread}/stat"))
                && !has_ended(stat.state)
            {
                return Some(thread);
            }
        }
        None
    }

    /// Returns the children of a process, including those that have ended.
    ///
    /// The kernel appends new children, including adopted ones, to the list: as long as none is
    /// reaped meanwhile, the list has every child that exists when its end is read.
    pub(crate) fn children(pid: i32) -> io::Result<Vec<i32>> {
        let mut children = Vec::new();
        for thread in numbers(&format!("/proc/{pid}/task"))? {
            match procfs::read_text(&format!("/proc/{pid}/task/{thread}/children")) {
                Ok(text) => {
                    for pid in text.split_whitespace() {
                        children.extend(pid.parse::<i32>());
                    }
                }
                // The kernel was built without these files, or the thread has ended.
                Err(_) if !Path::new("/proc/thread-self/children").exists() => {
                    return children_by_parent(pid);
                }
                Err(_) => {}
            }
        }
        Ok(children)
    }

    fn children_by_parent(parent: i32) -> io::Result<Vec<i32>> {
        let mut children = pids()?.pids;
        children.retain(|pid| {
            Process::stat(&format!("/proc/{pid}/stat"))
                .is_some_and(|process| process.parent == parent)
        });
        Ok(children)
    }

    /// Lists the processes.
    ///
    /// The kernel lists them in the order of their numbers, so that a chain of processes that each
    /// start the next one and end could extend the list without end: it is truncated when it is
    /// longer than the number of processes and threads.
    pub(crate) fn pids() -> io::Result<Pids> {
        check()?;
        let limit = match load() {
            Some(load) => load.threads + MAX_NEW_THREADS,
            None => usize::MAX,
        };
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            if pids.len() >= limit {
                return Ok(Pids { pids, is_complete: false });
            }
            pids.extend(number_of(&entry));
        }
        Ok(Pids { pids, is_complete: true })
    }

    /// Returns the process id or thread id that the kernel has given last.
    pub(crate) fn newest() -> Option<i32> {
        Some(load()?.newest)
    }

    struct Load {
        threads: usize,
        newest: i32,
    }

    /// Reads the last two fields of `/proc/loadavg`: RUNNING/THREADS and the newest process id.
    fn load() -> Option<Load> {
        let text = procfs::read_text("/proc/loadavg").ok()?;
        let mut fields = text.split_whitespace().skip(3);
        let threads = fields.next()?.split('/').nth(1)?.parse().ok()?;
        Some(Load { threads, newest: fields.next()?.parse().ok()? })
    }

    fn numbers(path: &str) -> io::Result<Vec<i32>> {
        let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        Ok(entries.flatten().filter_map(|entry| number_of(&entry)).collect())
    }

    fn number_of(entry: &fs::DirEntry) -> Option<i32> {
        entry.file_name().to_str()?.parse().ok()
    }

    fn unreadable(path: &str, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("could not read {path}: {error}"))
    }

    /// Returns whether the process runs this program, in any version.
    pub(crate) fn is_this_program(pid: i32) -> bool {
        // Not the executable's path: that of an old version says that it was deleted.
        let own = procfs::read("/proc/self/comm");
        let other = procfs::read(&format!("/proc/{pid}/comm"));
        matches!((own, other), (Ok(own), Ok(other)) if own == other)
    }

    /// Returns whether the process holds an exclusive lock (flock(2)) of the file at this path.
    pub(crate) fn holds_lock(pid: i32, path: &Path) -> bool {
        let Ok(file) = fs::symlink_metadata(path) else { return false };
        let Ok(numbers) = numbers(&format!("/proc/{pid}/fd")) else { return false };
        for fd in numbers {
            if let Ok(open) = fs::metadata(format!("/proc/{pid}/fd/{fd}"))
                && (open.dev(), open.ino()) == (file.dev(), file.ino())
                && let Ok(fdinfo) = procfs::read_text(&format!("/proc/{pid}/fdinfo/{fd}"))
                && fdinfo.lines().any(is_exclusive_lock)
            {
                return true;
            }
        }
        false
    }

    /// Returns whether a line of `/proc/PID/fdinfo/FD` is about such a lock.
    fn is_exclusive_lock(line: &str) -> bool {
        line.starts_with("lock:") && line.contains(" WRITE ")
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;
    use std::process::Command;

    use super::{PathBuf, Pids, Process, ProcessId, io};

    pub(crate) fn check() -> io::Result<()> {
        Ok(())
    }

    impl Process {
        pub(crate) fn living(pid: i32) -> Option<Self> {
            table().ok()?.into_iter().find(|process| process.id.pid == pid)
        }

        pub(crate) fn markers(&self) -> Vec<PathBuf> {
            Vec::new()
        }

        pub(crate) fn uid(&self) -> Option<u32> {
            None
        }

        pub(crate) fn arguments(&self) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    pub(crate) fn markers(_pid: i32) -> Vec<PathBuf> {
        Vec::new()
    }

    fn table() -> io::Result<Vec<Process>> {
        let output = Command::new("ps").args(["-axo", "pid=,ppid=,stat=,comm="]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut processes: Vec<Process> = text.lines().filter_map(parse_line).collect();
        processes.retain(|process| process.state != 'Z');
        Ok(processes)
    }

    fn parse_line(line: &str) -> Option<Process> {
        let mut fields = line.split_whitespace();
        let id = ProcessId { pid: fields.next()?.parse().ok()?, start_time: 0 };
        let parent = fields.next()?.parse().ok()?;
        let state = fields.next()?.chars().next()?;
        let name = fields.next().unwrap_or_default().to_owned();
        Some(Process { id, parent, state, name, is_kernel_thread: false })
    }

    pub(crate) fn children(pid: i32) -> io::Result<Vec<i32>> {
        let mut children = table()?;
        children.retain(|process| process.parent == pid);
        Ok(children.iter().map(|process| process.id.pid).collect())
    }

    pub(crate) fn pids() -> io::Result<Pids> {
        let pids = table()?.into_iter().map(|process| process.id.pid).collect();
        Ok(Pids { pids, is_complete: true })
    }

    pub(crate) fn newest() -> Option<i32> {
        None
    }

    pub(crate) fn is_this_program(_pid: i32) -> bool {
        false
    }

    pub(crate) fn holds_lock(_pid: i32, _path: &Path) -> bool {
        true
    }
}

#[cfg(target_os = "linux")]
pub(super) use system::has_ended_in;
pub(crate) use system::{check, holds_lock, is_this_program};
pub(super) use system::{children, markers, newest, pids};

/// Returns a process and its ancestors, except for the first process of the PID namespace.
pub(super) fn with_ancestors(pid: i32) -> impl Iterator<Item = Process> {
    let lineage = std::iter::successors(Process::living(pid), |process| {
        if process.parent > 1 { Process::living(process.parent) } else { None }
    });
    lineage.take(MAX_ANCESTORS)
}

/// Returns whether a process is a descendant of `ancestor`.
pub(crate) fn descends_from(pid: i32, ancestor: i32) -> bool {
    with_ancestors(pid).any(|process| process.parent == ancestor)
}

/// Returns another process that works in a directory, and its name. Only Linux tells the working
/// directories, and only those of the user's own processes.
pub(crate) fn process_in(directory: &Path) -> Option<(i32, String)> {
    for pid in pids().ok()?.pids {
        if pid as u32 != std::process::id()
            && let Ok(dir) = std::fs::read_link(format!("/proc/{pid}/cwd"))
            && dir.starts_with(directory)
            && let Some(process) = Process::living(pid)
        {
            return Some((pid, process.name));
        }
    }
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_executes_a_program_has_markers() {
        let dir = tempfile::tempdir().unwrap();
        let [script, written] = ["script", "written"].map(|name| dir.path().join(name));
        let mut command = Command::new("sh");
        // The shell writes it: a process that is just starting may have copies of descriptors.
        let write = r#"printf '#!/bin/sh\nexec "$0"\n' >"$0"; chmod 755 "$0"; >"$1"; exec "$0""#;
        command.args(["-c", write]).args([&script, &written]).env("CLAUDEJOB_DIR", dir.path());
        let mut child = command.spawn().unwrap();
        while !written.exists() {}
        let process = Process::living(child.id() as i32).unwrap();
        let mut missed = 0;
        for _ in 0..300 {
            missed += usize::from(process.markers().is_empty());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(missed, 0);
    }

    #[test]
    fn a_process_without_environment_has_no_markers() {
        let mut child = Command::new("sleep").arg("1000").env_clear().spawn().unwrap();
        let process = Process::living(child.id() as i32).unwrap();
        let markers = process.markers();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(markers.is_empty(), "{markers:?}");
    }
}
