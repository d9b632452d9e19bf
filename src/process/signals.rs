//! Signals that this process waits for instead of ending.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise};
use nix::sys::termios::{FlushArg, SetArg, tcflush, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::spawn::{set_default_signals, signal_with_parent};

/// Time in which a shell continues all processes of a command.
const SHELL_TIMEOUT: Duration = Duration::from_millis(200);
const SHELL_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Signals that do not end this process: they are kept until [`Self::next`] returns them.
pub(crate) struct AwaitedSignals(SigSet);

impl AwaitedSignals {
    /// Keeps these signals from now on, also from the threads that are started later. A signal that
    /// the caller has chosen to ignore (nohup, a shell's background job) is still ignored.
    pub(crate) fn keep(signals: &[Signal]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals {
            // Linux keeps even ignored signals while they are blocked.
            if !is_ignored(*signal) {
                set.add(*signal);
            }
        }
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Waits for the next signal; returns `None` if all are ignored.
    pub(crate) fn next(&self) -> Option<Signal> {
        self.0.iter().next()?;
        loop {
            if let Ok(signal) = self.0.wait() {
                return Some(signal);
            }
        }
    }
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: without a new action the call only writes the present one to `action`, for which any
    // bytes are valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// The program that [`run_in_foreground`] runs; 0 if there is none.
static FOREGROUND: AtomicI32 = AtomicI32::new(0);

/// Runs a program on the terminal of this process, such as an editor, and waits for its end. A
/// Ctrl-C is for that program alone. When it stops, this process stops, too: its shell waits for
/// this process only. It gets SIGHUP when this process ends. One at a time.
pub(crate) fn run_in_foreground(command: &mut Command) -> io::Result<ExitStatus> {
    let modes = tcgetattr(io::stdin());
    let this = nix::unistd::getpid();
    // SAFETY: ignores signals, and sets no handler of ours; in the child, between fork and exec,
    // only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(move || {
            set_default_signals();
            signal_with_parent(this, Signal::SIGHUP)
        });
        let mut earlier = Vec::new();
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            earlier.push((signal, nix::sys::signal::signal(signal, SigHandler::SigIgn)?));
        }
        // This process stops after the program. If both stopped at once, this process could be
        // continued first, and would take the stop of the program for another one.
        let blocked = terminal_stop().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let status = command.spawn().and_then(|child| await_end_with_stops(&child));
        FOREGROUND.store(0, Ordering::Relaxed);
        if !blocked.contains(Signal::SIGTSTP) {
            // A stop that the program has ignored.
            let handler = nix::sys::signal::signal(Signal::SIGTSTP, SigHandler::SigIgn)?;
            earlier.push((Signal::SIGTSTP, handler));
        }
        for (signal, handler) in earlier {
            nix::sys::signal::signal(signal, handler)?;
        }
        blocked.thread_set_mask()?;
        if let (Ok(status), Ok(modes)) = (&status, &modes)
            && !status.success()
        {
            // A program that was killed has left its own.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, modes);
        }
        status
    }
}

/// Sends a signal to the program that runs in the foreground, if there is one.
pub(crate) fn signal_foreground(signal: Signal) {
    let pid = FOREGROUND.load(Ordering::Relaxed);
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn await_end_with_stops(child: &Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(child.id() as i32);
    FOREGROUND.store(pid.as_raw(), Ordering::Relaxed);
    loop {
        match wait(pid, libc::WUNTRACED)? {
            Some(status) if status.stopped_signal().is_some() => stop_self(),
            Some(status) => return Ok(status),
            None => continue,
        }
        if let Some(status) = continue_stopped(pid)? {
            return Ok(status);
        }
    }
}

/// Continues a child with this process. Returns its status if it has ended.
fn continue_stopped(pid: Pid) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + SHELL_TIMEOUT;
    while Instant::now() < deadline {
        match wait(pid, libc::WCONTINUED | libc::WNOHANG)? {
            Some(status) if status.continued() => return Ok(None),
            Some(status) => return Ok(Some(status)),
            None => std::thread::sleep(SHELL_POLL_INTERVAL),
        }
    }
    // A shell would have continued both. A second signal would make a program draw twice.
    let _ = kill(pid, Signal::SIGCONT);
    Ok(None)
}

/// Waits for a change of a child. Returns `None` if there is none yet.
fn wait(pid: Pid, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    let mut status = 0;
    // SAFETY: the call writes an integer to `status`.
    match unsafe { libc::waitpid(pid.as_raw(), &raw mut status, options) } {
        0 => Ok(None),
        1.. => Ok(Some(ExitStatus::from_raw(status))),
        _ if Errno::last() == Errno::EINTR => Ok(None),
        _ => Err(Errno::last().into()),
    }
}

/// Stops this process, as Ctrl-Z does without a handler, until its shell continues it. Returns at
/// once if no shell could: it is the first process of its terminal, or was told to ignore the signal.
/// The signal must be blocked.
pub(crate) fn stop_self() {
    // For this thread, so that no other one takes it; before it is unblocked, so that another one
    // that is pending stops this process at the same time.
    let _ = raise(Signal::SIGTSTP);
    with_stops(|| {});
}

/// Stops all processes of the shell's command to which this process belongs, as the terminal does at
/// Ctrl-Z. Only for the first thread: it gets a signal that others await, too.
pub(crate) fn stop_group() {
    with_stops(|| {
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    });
}

/// Calls `work` while the terminal's signal can stop this thread.
fn with_stops(work: impl FnOnce()) {
    let Ok(blocked) = terminal_stop().thread_swap_mask(SigmaskHow::SIG_UNBLOCK) else { return };
    work();
    let _ = blocked.thread_set_mask();
}

/// The signal that a terminal sends at Ctrl-Z.
fn terminal_stop() -> SigSet {
    SigSet::from(Signal::SIGTSTP)
}

/// Discards what was typed on the terminal of stdin and not read yet.
pub(crate) fn discard_typed() {
    let _ = tcflush(io::stdin().as_fd(), FlushArg::TCIFLUSH);
}
