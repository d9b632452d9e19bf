//! Processes: sessions, descriptors, signals, reaping and sweeping.
//!
//! The only place with `unsafe` and with code for one operating system. Linux is what is tested.
//! Elsewhere there is no parent-death signal, no subreaper and no pidfd: a dead worker may leave
//! claude running until it is swept by whoever finds the job lost, and the sweep follows process
//! parents only.

mod arguments;
#[cfg(target_os = "linux")]
mod arrivals;
#[cfg(not(target_os = "linux"))]
#[path = "process/no_arrivals.rs"]
mod arrivals;
pub mod cgroup;
mod descendants;
mod limits;
pub mod machine;
mod marker;
mod orphans;
mod proc;
mod procfs;
mod survivors;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::job::Exit;

pub use arguments::hide_arguments;
pub use arrivals::Arrivals;
pub use descendants::{Descendants, KillProgress};
pub use limits::{file_size_limit, raise_limits, survive_file_size_limit};
pub use marker::{JobMarker, set_marker};
pub use orphans::{Orphans, is_below_any};
pub use proc::{ProcessId, check as check_proc, holds_lock, is_this_program, parent_of};

/// The number under which the worker finds the job's lock.
pub const LOCK_FD: RawFd = 3;
/// The number under which the worker finds the pipe on which it says how its launch went.
pub const REPORT_FD: RawFd = 4;

/// A number above those of the descriptors that a worker has open.
const HIGH_FD: RawFd = 200;

/// No process has more ancestors. Parents that are read one after the other while they change could
/// form a circle.
const MAX_ANCESTORS: usize = 10_000;

/// Why processes cannot be named that are there.
const TOO_FAST: &str = "each starts others and ends before it is found";

/// How often [`ask`] looks whether the program has ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// When something came to a file that is watched together with a pipe.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing tells it there"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalOrder {
    /// Before anything came to the pipe.
    First,
    /// After something had come to the pipe.
    AfterPipe,
}

/// Starts `command` as a worker: in a session of its own, with [`LOCK_FD`] and [`REPORT_FD`] and
/// no other descriptor, 0, 1 and 2 as the command says, in the root folder so that it holds no
/// file system, and with every signal as it is by default.
pub fn spawn_worker(
    command: &mut Command,
    lock: BorrowedFd<'_>,
    report: BorrowedFd<'_>,
) -> io::Result<Child> {
    let (lock, report) = (lock.as_raw_fd(), report.as_raw_fd());
    command.current_dir("/");
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is
    // allocated.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            // Both are moved out of the way first: either may be the other's target.
            let lock = duplicate(lock, 10)?;
            let report = duplicate(report, 10)?;
            dup_to(lock, LOCK_FD)?;
            dup_to(report, REPORT_FD)?;
            close_on_exec_from(REPORT_FD + 1);
            default_signals();
            kill_requests().thread_block()?;
            Ok(())
        });
    }
    command.spawn()
}

/// Lets requests to be killed reach this worker, which has a handler for them now. One that came
/// before would have ended it without a verdict.
pub fn accept_kill_requests() -> io::Result<()> {
    Ok(kill_requests().thread_unblock()?)
}

fn kill_requests() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR1);
    signals
}

/// Starts a program that goes on by itself: in a session of its own, without any descriptor of
/// ours but 0, 1 and 2, which lead nowhere, and [`LOCK_FD`] where it is handed a lock.
pub fn spawn_detached(command: &mut Command, lock: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let lock = lock.map(|lock| lock.as_raw_fd());
    // SAFETY: as above.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            match lock {
                Some(lock) => {
                    // Where it lies there already, dup2 would leave it to be closed by exec.
                    dup_to(duplicate(lock, 10)?, LOCK_FD)?;
                    close_on_exec_from(LOCK_FD + 1);
                }
                None => close_on_exec_from(LOCK_FD),
            }
            default_signals();
            Ok(())
        });
    }
    command.spawn()
}

/// Whether this process goes on for long: see [`stay`].
static STAYS: AtomicBool = AtomicBool::new(false);

/// Says that this process goes on for long, beside the children that it [leaves](leave).
pub fn reap_in_background() {
    STAYS.store(true, Ordering::Relaxed);
}

/// Leaves a child to itself. Of a process that [stays](stay) a thread reaps it at its end; any
/// other ends soon, or reaps whatever ends.
pub fn detach(mut child: Child) {
    if STAYS.load(Ordering::Relaxed) {
        // Without a thread it stays a zombie until this process ends.
        let reaper = std::thread::Builder::new().name("reaper".into());
        let _ = reaper.spawn(move || child.wait());
    }
}

/// Whether something can be read from `fd`, or its other end is closed, within this time.
pub fn readable_within(fd: BorrowedFd<'_>, most: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Waits until nobody reads `output` any more: it is a pipe or a socket whose other end is closed.
/// With an `input` it waits at most until that can be read or has ended, and then returns false.
pub fn wait_reader_closed(output: BorrowedFd<'_>, input: Option<BorrowedFd<'_>>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = vec![PollFd::new(output, PollFlags::empty())];
    fds.extend(input.map(|input| PollFd::new(input, PollFlags::POLLIN)));
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    let is_closed = fds[0].revents().is_some_and(|events| events.intersects(closed));
    let is_readable = fds.get(1).is_some_and(|input| input.any() != Some(false));
    is_closed && !is_readable
}

/// Stdin without the buffer of [`io::stdin`]: what poll(2) says of it holds for all that is unread.
#[derive(Debug)]
pub struct RawStdin;

impl Read for RawStdin {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(io::stdin(), bytes)?)
    }
}

/// Starts claude for the worker: in a process group of its own, and, on Linux, so that it is
/// killed when the worker dies.
pub fn spawn_claude(command: &mut Command) -> io::Result<Child> {
    let worker = nix::unistd::getpid();
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: as above.
    unsafe {
        command.pre_exec(move || {
            default_signals();
            limits::restore_limits();
            kill_with_parent(worker)
        });
    }
    command.spawn()
}

/// Runs a program that is to answer at once: the first `most` bytes of what it prints, on stdout or
/// stderr, and how it ended. One that is still at it after `within` is killed with its process
/// group, and `None` says so. `input` is what it finds on its stdin.
pub fn run_with_timeout(
    mut command: Command,
    input: Option<Vec<u8>>,
    within: Duration,
    most: usize,
) -> io::Result<(Vec<u8>, Option<Exit>)> {
    let deadline = Instant::now() + within;
    let (reader, writer) = io::pipe()?;
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.process_group(0).stdin(stdin).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // It may not want to know: nobody waits for it to read.
        std::thread::spawn(move || io::Write::write_all(&mut stdin, &input));
    }
    // It holds the pipe's other end, too.
    drop(command);
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    let mut open = true;
    loop {
        if open && readable_within(reader.as_fd(), EXIT_POLL_INTERVAL) {
            let length = (&reader).read(&mut buffer).unwrap_or(0);
            open = length > 0;
            said.extend_from_slice(&buffer[..length.min(most - said.len())]);
        } else if let Some(status) = child.try_wait()? {
            // What it left running may hold the pipe for ever: all that it said itself is read.
            let exit = Exit { code: status.code(), signal: status.signal() };
            return Ok((said, Some(exit)));
        } else if !open {
            std::thread::sleep(EXIT_POLL_INTERVAL);
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    let _ = nix::sys::signal::killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    // Not waited for: what hangs in the kernel, such as on a dead file server, hears no signal.
    if !matches!(child.try_wait(), Ok(Some(_))) {
        detach(child);
    }
    Ok((said, None))
}

/// Takes the descriptors that [`spawn_worker`] handed over, so that nothing that is started later
/// inherits them.
pub fn take_inherited_fds() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((take(LOCK_FD)?, take(REPORT_FD)?))
}

/// Takes the lock that [`spawn_detached`] handed over, likewise.
pub fn take_inherited_lock() -> io::Result<OwnedFd> {
    take(LOCK_FD)
}

/// Gives a descriptor a number behind those of all others, so that the end of this process closes
/// it first: Linux finishes the closes of an exiting process from the highest number down, and that
/// of a watch of fanotify(7) or inotify(7) can take 20 ms.
pub fn closed_first(fd: OwnedFd) -> OwnedFd {
    match fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(HIGH_FD)) {
        // SAFETY: fcntl has just made this descriptor, and nothing else knows of it.
        Ok(high) => unsafe { OwnedFd::from_raw_fd(high) },
        Err(_) => fd,
    }
}

fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD reads nothing but the flags, whatever the descriptor is.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and this runs once, first thing in the program that was
    // started with it: nothing else in this process owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(owned)
}

/// Makes orphaned descendants children of this process, so that none can leave its family.
pub fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A child that has ended, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This one has ended.
    Ended(i32, Exit),
    /// All children live.
    AllLive,
    /// There are no children, and so no process below this one, if it is a subreaper.
    NoChildren,
}

/// Reaps a child that has ended, if any has. Reaps adopted orphans as well.
pub fn reap() -> Reaped {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Reaped::Ended(pid.as_raw(), Exit { code: Some(code), signal: None });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                let exit = Exit { code: None, signal: Some(signal as i32) };
                return Reaped::Ended(pid.as_raw(), exit);
            }
            Err(Errno::ECHILD) => return Reaped::NoChildren,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return Reaped::AllLive,
        }
    }
}

/// A process that can be signalled without the risk that its number meanwhile belongs to another:
/// on Linux a pidfd, elsewhere just the number.
#[derive(Debug)]
pub struct ProcessHandle {
    #[cfg(not(target_os = "linux"))]
    pid: i32,
    #[cfg(target_os = "linux")]
    fd: OwnedFd,
}

impl ProcessHandle {
    /// The process of this number, if there is one. Whoever opened it checks afterwards, by what
    /// only the meant process can have (a lock, a mark), that it is that one.
    pub fn open(pid: i32) -> io::Result<Self> {
        if pid <= 1 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: takes integers only and gives a new descriptor.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel has just given us this descriptor.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
            Ok(Self { fd })
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Self { pid })
    }

    /// Readable when the process has ended (pidfd_open(2)).
    #[cfg(target_os = "linux")]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits until the process has ended, for at most so long; says whether it has.
    pub fn ends_within(&self, most: Duration) -> bool {
        #[cfg(target_os = "linux")]
        return readable_within(self.fd.as_fd(), most);
        #[cfg(not(target_os = "linux"))]
        {
            let until = Instant::now() + most;
            while exists(self.pid) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            !exists(self.pid)
        }
    }

    /// Sends `signal`. A process that is gone already is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let sent = {
            let none = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: the descriptor is a pidfd, and no siginfo is passed.
            let sent = unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.fd.as_raw_fd(),
                    signal as i32,
                    none,
                    0,
                )
            };
            if sent < 0 { Err(Errno::last()) } else { Ok(()) }
        };
        #[cfg(not(target_os = "linux"))]
        let sent = nix::sys::signal::kill(Pid::from_raw(self.pid), signal);
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Ends the process of this number if it bears the mark, and waits until it is gone; false if it
/// was not within that time, or if that is not known.
pub fn end_and_wait(pid: i32, mark: &JobMarker, most: Duration) -> bool {
    let Ok(target) = ProcessHandle::open(pid) else { return true };
    // A process that has ended bears nothing any more.
    if !mark.is_on(pid) {
        return check_proc().is_ok();
    }
    target.signal(Signal::SIGKILL).is_ok() && target.ends_within(most)
}

/// The time since the system booted, in the clock ticks in which the start of a process is given;
/// `None` where that is not told.
fn boot_ticks() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use nix::time::{ClockId, clock_gettime};
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let per_second = u64::try_from(per_second).ok()?;
        let seconds = u64::try_from(since.tv_sec()).ok()?;
        let rest = u64::try_from(since.tv_nsec()).ok()? * per_second / 1_000_000_000;
        Some(seconds * per_second + rest)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Begins to write what a file has in memory, and does not wait for it. A hint: a sync follows.
pub fn begin_writeback(file: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    // SAFETY: takes integers only; the descriptor is open.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(target_os = "linux")]
impl From<ProcessHandle> for OwnedFd {
    /// Readable when the process has ended (pidfd_open(2)).
    fn from(target: ProcessHandle) -> Self {
        target.fd
    }
}

/// Whether a process of this number exists. Says nothing about which process it is.
pub fn exists(pid: i32) -> bool {
    pid > 0 && !matches!(nix::sys::signal::kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Finds the nearest ancestor of this process that runs `program`, and its child from which this
/// process descends, which may be this process. `None` where there is none, or no `/proc`.
pub fn ancestor_running(program: &Path) -> Option<(i32, i32)> {
    let mut child = std::process::id() as i32;
    // Far deeper than any tree of processes.
    for _ in 0..1_000 {
        let parent = parent_of(child).filter(|parent| *parent > 0)?;
        let running = std::fs::read_link(format!("/proc/{parent}/exe"));
        if running.is_ok_and(|running| runs(&running, program)) {
            return Some((parent, child));
        }
        child = parent;
    }
    None
}

/// Whether a link of `/proc/PID/exe` leads to `program`, which may have been replaced since.
fn runs(link: &Path, program: &Path) -> bool {
    let name = link.as_os_str().as_bytes();
    name.strip_suffix(b" (deleted)").unwrap_or(name) == program.as_os_str().as_bytes()
}

/// The environment with which a process was started; `None` where it cannot be read.
pub fn environment(pid: i32) -> Option<HashMap<OsString, OsString>> {
    let text = procfs::read(&format!("/proc/{pid}/environ")).ok()?;
    let mut variables = HashMap::new();
    for variable in text.split(|byte| *byte == 0) {
        if let Some(end) = memchr::memchr(b'=', variable) {
            let (name, value) = (&variable[..end], &variable[end + 1..]);
            variables.insert(OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into());
        }
    }
    Some(variables)
}

/// An identifier of the present boot; `None` where the system has none.
pub fn boot_id() -> Option<String> {
    let text = procfs::read_text("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// How many processes the kernel has ended for lack of memory since the machine started (Linux:
/// `oom_kill` of `/proc/vmstat`, which counts those of control groups as well); `None` where that
/// is not told.
pub fn out_of_memory_kills() -> Option<u64> {
    let text = procfs::read_text("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn duplicate(fd: RawFd, at_least: RawFd) -> io::Result<RawFd> {
    // SAFETY: takes integers only; the caller keeps `fd` open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD, at_least) };
    if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(copy) }
}

fn dup_to(fd: RawFd, at: RawFd) -> io::Result<()> {
    // SAFETY: takes integers only. `at` may belong to std's own error pipe of `Command`, whose
    // loss only means that a failed exec is told by the report pipe's end instead.
    if unsafe { libc::dup2(fd, at) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` up to be closed by exec. Not closed at once, because one
/// of them is the pipe on which std reports a failed exec.
fn close_on_exec_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        const CLOEXEC: libc::c_uint = 4; // CLOSE_RANGE_CLOEXEC, linux/close_range.h
        // SAFETY: takes integers only.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    // Before Linux 5.11 and elsewhere. A caller's limit can be in the millions; what lies beyond
    // the first 65,536 is left.
    // SAFETY: sysconf and fcntl take integers only.
    unsafe {
        let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536) as RawFd;
        for fd in first..most {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// What a caller ignored (nohup, a shell's background job) is not to be ignored by us or claude.
fn default_signals() {
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGCHLD,
        Signal::SIGPIPE,
        Signal::SIGXCPU,
        Signal::SIGXFSZ,
    ] {
        // SAFETY: sets the default action, no handler of ours.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

#[cfg(target_os = "linux")]
fn kill_with_parent(parent: Pid) -> io::Result<()> {
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have died before the request was made.
    if nix::unistd::getppid() != parent {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn kill_with_parent(_parent: Pid) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_and_not_waited_for() {
        let ask = |script: &str, most| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_with_timeout(
                command,
                None,
                Duration::from_secs(if script.contains("hang") { 1 } else { 60 }),
                most,
            )
        };
        let code = |code| Some(Exit { code: Some(code), signal: None });
        for (script, most, said, exit) in [
            ("echo out; echo err >&2", 100, "out\nerr\n", code(0)),
            ("echo out; exit 3", 2, "ou", code(3)),
            ("kill -9 $$", 9, "", Some(Exit { code: None, signal: Some(9) })),
            ("cat", 9, "", code(0)),
            ("sleep 30 & echo done", 9, "done\n", code(0)),
            ("exec >&- 2>&-; sleep 30; : hang", 9, "", None),
            ("yes; : hang", 4, "y\ny\n", None),
        ] {
            let began = Instant::now();
            let (found, how) = ask(script, most).unwrap();
            assert_eq!((String::from_utf8_lossy(&found).as_ref(), how), (said, exit), "{script}");
            assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        }
        assert!(run_with_timeout(Command::new("/nowhere"), None, Duration::ZERO, 9).is_err());
    }
}
