//! Limits of the caller (`ulimit`) that a worker inherits with everything else.

use std::sync::OnceLock;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigHandler, Signal};

/// Limits whose soft part a worker raises for itself: at it a signal would end the worker.
const RAISED: [Resource; 2] = [Resource::RLIMIT_CPU, Resource::RLIMIT_FSIZE];

/// The soft and the hard part of each, as the worker found them.
static FOUND: OnceLock<[Option<(rlim_t, rlim_t)>; 2]> = OnceLock::new();

/// Makes a write beyond the limit of a file's size fail, instead of ending the process by SIGXFSZ.
pub fn survive_file_size_limit() {
    // SAFETY: the signal is ignored, no handler of ours.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Raises the limits of this worker as far as the caller may. Returns a warning if the worker
/// itself is ended at one nevertheless.
pub fn raise_limits() -> Option<String> {
    let found = FOUND.get_or_init(|| RAISED.map(|limit| getrlimit(limit).ok()));
    for (limit, found) in RAISED.into_iter().zip(found) {
        if let Some((_, hard)) = *found {
            let _ = setrlimit(limit, hard, hard);
        }
    }
    let seconds = found[0].map(|(_, hard)| hard).filter(|hard| *hard != RLIM_INFINITY)?;
    Some(format!(
        "the caller's limit of processor time ({seconds} s, ulimit -t) holds for the job's worker, \
         too: the job is lost when the worker reaches it"
    ))
}

/// Gives a child the limits that its worker found. Async-signal-safe.
pub(super) fn restore_limits() {
    for (limit, found) in RAISED.into_iter().zip(FOUND.get().into_iter().flatten()) {
        if let Some((soft, hard)) = *found {
            let _ = setrlimit(limit, soft, hard);
        }
    }
}

/// Returns the limit of a file's size in bytes; `None` if there is none.
pub fn file_size_limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
    #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
    (soft != RLIM_INFINITY).then(|| u64::from(soft))
}
