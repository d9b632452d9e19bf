//! Signals that this process waits for instead of ending.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::termios::{FlushArg, tcflush};

use super::spawn::set_default_signals;

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

/// Runs a program on the terminal of this process, such as an editor, and waits for its end. A
/// Ctrl-C is for that program alone.
pub(crate) fn run_in_foreground(command: &mut Command) -> io::Result<ExitStatus> {
    // SAFETY: ignores signals, and sets no handler of ours; in the child, between fork and exec,
    // only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(|| {
            set_default_signals();
            Ok(())
        });
        let mut earlier = Vec::new();
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            earlier.push((signal, nix::sys::signal::signal(signal, SigHandler::SigIgn)?));
        }
        let status = command.status();
        for (signal, handler) in earlier {
            nix::sys::signal::signal(signal, handler)?;
        }
        status
    }
}

/// Stops this process, as Ctrl-Z does without a handler, until its shell continues it.
pub(crate) fn stop_self() {
    let _ = nix::sys::signal::raise(Signal::SIGSTOP);
}

/// Discards what was typed on the terminal of stdin and not read yet.
pub(crate) fn discard_typed() {
    let _ = tcflush(io::stdin().as_fd(), FlushArg::TCIFLUSH);
}
