//! Ctrl-C and SIGTERM end the bench between two rounds with an error: the jobs are then killed and
//! the directories removed as after any error.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Outcome;

static SEEN: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    SEEN.store(true, Ordering::Relaxed);
}

/// From here on the signals only set a flag for [`check`].
pub(crate) fn catch() -> Outcome<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Returns an error once a signal has asked the bench to end.
pub(crate) fn check() -> Outcome<()> {
    if SEEN.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}
