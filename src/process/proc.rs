//! What the system says about processes: proc(5) on Linux, ps(1) elsewhere.

use std::io;
use std::path::PathBuf;

/// A process for good: its number alone is given to another one after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since the system booted.
    pub start_time: u64,
}

impl ProcessId {
    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id() as i32)
    }

    /// The living process of this number.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Process::living(pid)?.id)
    }

    /// Whether it lives.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// A living process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub id: ProcessId,
    pub parent: i32,
    /// The state of its main thread, which may have ended before the others: `Z`.
    pub state: char,
    pub name: String,
}

/// The numbers of processes.
pub(super) struct Pids {
    pub pids: Vec<i32>,
    /// It is a list of all.
    pub is_whole: bool,
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::{PathBuf, Pids, Process, ProcessId, io};
    use crate::process::marker::MARKERS;
    use crate::process::procfs;

    /// How many processes and threads may be started while the others are listed.
    const NEW_THREADS: usize = 256;

    /// Fails where `/proc` does not show processes.
    pub fn check() -> io::Result<()> {
        fs::metadata("/proc/self/stat").map(drop).map_err(|error| {
            io::Error::new(error.kind(), format!("could not read /proc/self/stat: {error}"))
        })
    }

    impl Process {
        /// The process of this number, unless it has ended: a zombie whose main thread is not
        /// its last one lives.
        pub fn living(pid: i32) -> Option<Self> {
            let process = Self::stat(&format!("/proc/{pid}/stat"))?;
            let lives = !has_ended(process.state) || thread_of(pid).is_some();
            lives.then_some(process)
        }

        /// Reads `/proc/PID/stat` or that of a thread. The name, field 2, is in parentheses and can
        /// hold any character.
        fn stat(path: &str) -> Option<Self> {
            let stat = procfs::read(path).ok()?;
            let stat = String::from_utf8_lossy(&stat);
            let (start, end) = (stat.find('(')?, stat.rfind(')')?);
            let pid = stat[..start].trim().parse().ok()?;
            let name = stat[start + 1..end].to_owned();
            let mut fields = stat[end + 1..].split_whitespace();
            let state = fields.next()?.chars().next()?;
            let parent = fields.next()?.parse().ok()?;
            let start_time = fields.nth(17)?.parse().ok()?;
            Some(Self { id: ProcessId { pid, start_time }, parent, state, name })
        }

        /// The directories that mark the process.
        pub fn markers(&self) -> Vec<PathBuf> {
            if has_ended(self.state) {
                // The memory is that of the threads that live.
                let thread = thread_of(self.id.pid);
                return thread
                    .map(|thread| thread_markers(self.id.pid, thread))
                    .unwrap_or_default();
            }
            markers(self.id.pid)
        }

        /// The user as whom it runs.
        pub fn uid(&self) -> Option<u32> {
            Some(fs::metadata(format!("/proc/{}", self.id.pid)).ok()?.uid())
        }

        /// Its arguments, the program first.
        pub fn arguments(&self) -> Vec<Vec<u8>> {
            let text = procfs::read(&format!("/proc/{}/cmdline", self.id.pid)).unwrap_or_default();
            text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
        }
    }

    /// The directories that mark a process, by its environment when it was started; none also where
    /// its main thread has ended, or where the environment cannot be read because it is another
    /// user's.
    pub fn markers(pid: i32) -> Vec<PathBuf> {
        markers_in(&procfs::read(&format!("/proc/{pid}/environ")).unwrap_or_default())
    }

    fn thread_markers(pid: i32, thread: i32) -> Vec<PathBuf> {
        markers_in(&procfs::read(&format!("/proc/{pid}/task/{thread}/environ")).unwrap_or_default())
    }

    fn markers_in(environment: &[u8]) -> Vec<PathBuf> {
        let mut markers = Vec::new();
        for name in MARKERS {
            // Behind a zero or at the beginning; most environments have none.
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

    /// A living thread of a process, other than its main thread.
    fn thread_of(pid: i32) -> Option<i32> {
        let threads = numbers(&format!("/proc/{pid}/task")).ok()?;
        threads.into_iter().find(|thread| {
            let path = format!("/proc/{pid}/task/{thread}/stat");
            Process::stat(&path).is_some_and(|thread| !has_ended(thread.state))
        })
    }

    /// The children of a process, those that have ended included.
    ///
    /// The kernel appends new children, also adopted ones, at the end of the list: as long as none
    /// is reaped meanwhile, no child that exists when the end is read is missed.
    pub fn children(pid: i32) -> io::Result<Vec<i32>> {
        let mut children = Vec::new();
        for thread in numbers(&format!("/proc/{pid}/task"))? {
            match procfs::read_text(&format!("/proc/{pid}/task/{thread}/children")) {
                Ok(text) => {
                    children
                        .extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
                }
                // The kernel was built without it, or the thread has ended.
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
            Process::stat(&format!("/proc/{pid}/stat")).is_some_and(|one| one.parent == parent)
        });
        Ok(children)
    }

    /// Lists the processes.
    ///
    /// The kernel lists them in the order of their numbers, so that a chain of processes that each
    /// start the next one and end can stay ahead: the list is cut where it is longer than there
    /// are processes and threads.
    pub fn pids() -> io::Result<Pids> {
        check()?;
        let most = load().map_or(usize::MAX, |load| load.threads + NEW_THREADS);
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            if pids.len() >= most {
                return Ok(Pids { pids, is_whole: false });
            }
            pids.extend(entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(Pids { pids, is_whole: true })
    }

    /// The number that was given last to a process or thread.
    pub fn newest() -> Option<i32> {
        Some(load()?.newest)
    }

    struct Load {
        threads: usize,
        newest: i32,
    }

    /// The last two fields of `/proc/loadavg`: RUNNING/THREADS and the newest number.
    fn load() -> Option<Load> {
        let text = procfs::read_text("/proc/loadavg").ok()?;
        let mut fields = text.split_whitespace().skip(3);
        let threads = fields.next()?.split('/').nth(1)?.parse().ok()?;
        Some(Load { threads, newest: fields.next()?.parse().ok()? })
    }

    fn numbers(path: &str) -> io::Result<Vec<i32>> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("could not read {path}: {error}"))
        };
        let entries = fs::read_dir(path).map_err(failed)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Whether the process runs this program, in whatever version.
    pub fn is_this_program(pid: i32) -> bool {
        let name = |pid: &str| procfs::read_text(&format!("/proc/{pid}/comm")).ok();
        // Not the executable's path, which tells of an old version that it was deleted.
        let its = name(&pid.to_string());
        its.is_some() && its == name("self")
    }

    /// Whether the process holds the lock (flock(2)) of the file at this path for itself alone.
    pub fn holds_lock(pid: i32, path: &Path) -> bool {
        let Ok(file) = fs::symlink_metadata(path) else { return false };
        let Ok(numbers) = numbers(&format!("/proc/{pid}/fd")) else { return false };
        numbers.into_iter().any(|fd| {
            let is_it = fs::metadata(format!("/proc/{pid}/fd/{fd}"))
                .is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
            let about = || procfs::read_text(&format!("/proc/{pid}/fdinfo/{fd}"));
            let is_lock = |line: &str| line.starts_with("lock:") && line.contains(" WRITE ");
            is_it && about().is_ok_and(|about| about.lines().any(is_lock))
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;
    use std::process::Command;

    use super::{PathBuf, Pids, Process, ProcessId, io};

    pub fn check() -> io::Result<()> {
        Ok(())
    }

    impl Process {
        pub fn living(pid: i32) -> Option<Self> {
            table().ok()?.into_iter().find(|process| process.id.pid == pid)
        }

        pub fn markers(&self) -> Vec<PathBuf> {
            Vec::new()
        }

        pub fn uid(&self) -> Option<u32> {
            None
        }

        pub fn arguments(&self) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    pub fn markers(_pid: i32) -> Vec<PathBuf> {
        Vec::new()
    }

    fn table() -> io::Result<Vec<Process>> {
        let output = Command::new("ps").args(["-axo", "pid=,ppid=,stat=,comm="]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let process = |line: &str| {
            let mut fields = line.split_whitespace();
            let id = ProcessId { pid: fields.next()?.parse().ok()?, start_time: 0 };
            let parent = fields.next()?.parse().ok()?;
            let state = fields.next()?.chars().next()?;
            let name = fields.next().unwrap_or_default().to_owned();
            (state != 'Z').then_some(Process { id, parent, state, name })
        };
        Ok(text.lines().filter_map(process).collect())
    }

    pub fn children(pid: i32) -> io::Result<Vec<i32>> {
        let all = table()?.into_iter();
        Ok(all.filter(|process| process.parent == pid).map(|process| process.id.pid).collect())
    }

    pub fn pids() -> io::Result<Pids> {
        let pids = table()?.into_iter().map(|process| process.id.pid).collect();
        Ok(Pids { pids, is_whole: true })
    }

    pub fn newest() -> Option<i32> {
        None
    }

    pub fn is_this_program(_pid: i32) -> bool {
        false
    }

    pub fn holds_lock(_pid: i32, _path: &Path) -> bool {
        true
    }
}

pub use system::{check, holds_lock, is_this_program};
pub(super) use system::{children, markers, newest, pids};

/// The parent of a living process; 0 where it has none in here.
pub fn parent_of(pid: i32) -> Option<i32> {
    Some(Process::living(pid)?.parent)
}
