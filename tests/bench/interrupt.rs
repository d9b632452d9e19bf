//! Ctrl-C and SIGTERM end the bench between two rounds, as an error: the jobs are then killed and
//! the directories removed on the same way out as ever.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Outcome;

static SEEN: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    SEEN.store(true, Ordering::Relaxed);
}

/// From here on the signals only leave a note for [`check`].
pub(crate) fn catch() -> Outcome<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// An error once the bench was asked to end.
pub(crate) fn check() -> Outcome<()> {
    if SEEN.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}
