//! Processes: sessions, descriptors, signals, reaping and the search for processes that are left.
//!
//! The only module with `unsafe` and with code for one operating system. It is tested on Linux.
//! Other systems have no parent-death signal, no subreaper and no pidfd: claude may outlive a dead
//! worker until a command finds that the job is lost and ends its processes, and that search
//! follows process parents only.

mod arguments;
#[cfg(target_os = "linux")]
mod arrivals;
#[cfg(not(target_os = "linux"))]
#[path = "process/no_arrivals.rs"]
mod arrivals;
pub(crate) mod cgroup;
mod descendants;
mod descriptors;
mod freeze;
mod handle;
mod limits;
pub(crate) mod machine;
mod marker;
mod orphans;
mod poll;
mod proc;
mod procfs;
mod reaping;
#[cfg(target_os = "linux")]
mod rename;
mod run;
mod signals;
mod spawn;
mod survivors;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub(crate) use arguments::hide_arguments;
pub(crate) use arrivals::Arrivals;
pub(crate) use descendants::{Descendants, KillProgress};
pub(crate) use descriptors::{
    move_to_high_fd, take_inherited_fds, take_inherited_lock, take_inherited_pipe,
};
pub(crate) use freeze::{FreezeProgress, ProcessTree};
pub(crate) use handle::ProcessHandle;
pub(crate) use limits::{file_size_limit, raise_limits, survive_file_size_limit};
pub(crate) use marker::{JobMarker, has_own_marker, set_marker};
pub(crate) use orphans::{Orphans, is_below_any};
pub(crate) use poll::{RawStdin, readable_within, wait_reader_closed};
use proc::with_ancestors;
pub(crate) use proc::{
    ProcessId, check as check_proc, descends_from, holds_lock, is_this_program, process_in,
};
pub(crate) use reaping::{Reaped, adopt_orphans, detach, reap, reap_in_background};
#[cfg(target_os = "linux")]
pub(crate) use rename::rename_to_free_name;
pub(crate) use run::{run_with_outputs, run_with_timeout};
pub(crate) use signals::{
    AwaitedSignals, discard_typed, run_in_foreground, signal_foreground, stop_group, stop_self,
};
pub(crate) use spawn::{
    accept_requests, exec, hold_requests, run_to_stderr, spawn_claude, spawn_detached, spawn_worker,
};

// Links the unwinder, which a release needs only for the backtrace of a panic, into the program:
// loading the shared `libgcc_s` takes a tenth of the CPU time of a `status`.
#[cfg(all(target_os = "linux", target_env = "gnu", panic = "abort"))]
#[link(name = "gcc_eh", kind = "static")]
unsafe extern "C" {}

/// Reason why existing processes cannot be named.
const TOO_FAST: &str = "each starts others and ends before it is found";

/// When data came to a file that is watched together with a pipe.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux reports the order"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArrivalOrder {
    /// Before anything came to the pipe.
    First,
    /// After data had come to the pipe.
    AfterPipe,
}

/// Returns the number of this process.
pub(crate) fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Kills the process with this number if it has the job's marker, and waits until it has ended.
/// Returns false if it did not end within `timeout`, or if that is not known.
pub(crate) fn kill_and_wait(pid: i32, marker: &JobMarker, timeout: Duration) -> bool {
    let Ok(process) = ProcessHandle::open(pid) else { return true };
    // A process that has ended has no marker any more.
    if !marker.is_on(pid) {
        return check_proc().is_ok();
    }
    process.signal(Signal::SIGKILL).is_ok() && process.ends_within(timeout)
}

/// Returns the time since boot in clock ticks, the unit of a process's start time. `None` if the
/// system does not report it.
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

/// Sleeps, also through a suspend of the machine, which counts.
pub(crate) fn sleep_with_suspend(time: Duration) {
    #[cfg(target_os = "linux")]
    {
        use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
        let flags = ClockNanosleepFlags::empty();
        let _ = clock_nanosleep(ClockId::CLOCK_BOOTTIME, flags, &time.into());
    }
    #[cfg(not(target_os = "linux"))]
    std::thread::sleep(time);
}

/// Starts to write a file's cached data to the disk, without waiting. A hint: a sync follows.
pub(crate) fn begin_writeback(file: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    {
        use nix::libc;
        use std::os::fd::AsRawFd;
        // SAFETY: takes integers only; the descriptor is open.
        let _ =
            unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Returns whether a process with this number exists, whichever it is.
pub(crate) fn exists(pid: i32) -> bool {
    pid > 0 && !matches!(nix::sys::signal::kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// Finds the nearest ancestor of this process that runs `program`, and its child from which this
/// process descends, which may be this process. `None` if there is none, or no `/proc`.
pub(crate) fn ancestor_running(program: &Path) -> Option<(i32, i32)> {
    for process in with_ancestors(own_pid()) {
        if let Ok(running) = std::fs::read_link(format!("/proc/{}/exe", process.parent))
            && is_program(&running, program)
        {
            return Some((process.parent, process.id.pid));
        }
    }
    None
}

/// Returns whether a link of `/proc/PID/exe` leads to `program`, which may have been replaced since.
fn is_program(link: &Path, program: &Path) -> bool {
    let name = link.as_os_str().as_bytes();
    name.strip_suffix(b" (deleted)").unwrap_or(name) == program.as_os_str().as_bytes()
}

/// Returns the environment with which a process was started; `None` if it cannot be read.
pub(crate) fn environment(pid: i32) -> Option<HashMap<OsString, OsString>> {
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

/// Returns the identifier of the current boot; `None` if the system has none.
pub(crate) fn boot_id() -> Option<String> {
    let text = procfs::read_text("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Returns how many processes the kernel has killed for lack of memory since boot (Linux:
/// `oom_kill` of `/proc/vmstat`, which includes those of control groups); `None` if the system does
/// not report it.
pub(crate) fn out_of_memory_kills() -> Option<u64> {
    let text = procfs::read_text("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
