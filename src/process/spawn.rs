//! Starting workers, detached programs and claude.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

#[cfg(target_os = "linux")]
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::unistd::Pid;

use super::descriptors::{LOCK_FD, REPORT_FD, close_on_exec_from, dup_to, duplicate};
use super::limits;

/// Starts `command` as a worker: in a session of its own, with the lock, the report pipe and no
/// other descriptor (0, 1 and 2 as the command says), in the root directory so that it keeps no
/// file system busy, and with the default action for every signal.
pub(crate) fn spawn_worker(
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
            set_default_signals();
            kill_requests().thread_block()?;
            Ok(())
        });
    }
    command.spawn()
}

/// Unblocks requests to end the job, for which this worker has handlers now. Without them, a request
/// would have ended the worker without a verdict.
pub(crate) fn accept_requests() -> io::Result<()> {
    Ok(requests().thread_unblock()?)
}

/// Blocks requests to end the job until [`accept_requests`].
pub(crate) fn hold_requests() -> io::Result<()> {
    Ok(requests().thread_block()?)
}

fn requests() -> SigSet {
    let mut signals = kill_requests();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
}

fn kill_requests() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR1);
    signals
}

/// Starts a program that continues in the background: in a session of its own, without any
/// descriptor of this process but 0, 1 and 2, which are `/dev/null`, and the lock or pipe, if one
/// is passed.
pub(crate) fn spawn_detached(
    command: &mut Command,
    lock: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let lock = lock.map(|lock| lock.as_raw_fd());
    // SAFETY: as above.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            match lock {
                Some(lock) => {
                    // If it already has that number, dup2 would leave it to be closed by exec.
                    dup_to(duplicate(lock, 10)?, LOCK_FD)?;
                    close_on_exec_from(LOCK_FD + 1);
                }
                None => close_on_exec_from(LOCK_FD),
            }
            set_default_signals();
            Ok(())
        });
    }
    command.spawn()
}

/// Starts claude for the worker: in a process group of its own, and, on Linux, so that it is
/// killed when the worker dies.
pub(crate) fn spawn_claude(command: &mut Command) -> io::Result<Child> {
    let worker = nix::unistd::getpid();
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: as above.
    unsafe {
        command.pre_exec(move || {
            set_default_signals();
            limits::restore_limits();
            signal_with_parent(worker, Signal::SIGKILL)
        });
    }
    command.spawn()
}

/// Runs a program and waits for its end. It has no input, and all its output goes to stderr.
pub(crate) fn run_to_stderr(command: &mut Command) -> io::Result<ExitStatus> {
    let output = io::stderr().as_fd().try_clone_to_owned()?;
    command.stdin(Stdio::null()).stdout(output);
    // SAFETY: as above.
    unsafe {
        command.pre_exec(|| {
            set_default_signals();
            Ok(())
        });
    }
    command.status()
}

/// Replaces this process with a program. Returns only if that fails.
pub(crate) fn exec(command: &mut Command) -> io::Error {
    set_default_signals();
    command.exec()
}

/// Restores the default actions: signals that a caller ignores (nohup, a shell's background job)
/// must not be ignored by the worker or claude.
pub(super) fn set_default_signals() {
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

/// Sends this process a signal when the thread that has started it ends.
#[cfg(target_os = "linux")]
pub(super) fn signal_with_parent(parent: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_int, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the request was made.
    if nix::unistd::getppid() != parent {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn signal_with_parent(_parent: Pid, _signal: Signal) -> io::Result<()> {
    Ok(())
}
