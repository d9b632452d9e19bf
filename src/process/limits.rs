//! Resource limits of the caller (`ulimit`) that a worker inherits.

use std::sync::OnceLock;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigHandler, Signal};

/// Limits whose soft value a worker raises for itself: a signal would end it there.
const RAISED_LIMITS: [Resource; 2] = [Resource::RLIMIT_CPU, Resource::RLIMIT_FSIZE];

/// The soft and the hard value of each that the worker inherited.
static INHERITED: OnceLock<[Option<(rlim_t, rlim_t)>; 2]> = OnceLock::new();

/// Makes a write beyond the file size limit fail, instead of ending the process by SIGXFSZ.
pub(crate) fn survive_file_size_limit() {
    // SAFETY: the signal is ignored, no handler of ours.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Raises the limits of this worker to their hard values. Returns a warning if a hard limit can
/// still end the worker.
pub(crate) fn raise_limits() -> Option<String> {
    let inherited = INHERITED.get_or_init(|| RAISED_LIMITS.map(|limit| getrlimit(limit).ok()));
    for (limit, values) in RAISED_LIMITS.into_iter().zip(inherited) {
        if let Some((_, hard)) = *values {
            let _ = setrlimit(limit, hard, hard);
        }
    }
    let (_, seconds) = inherited[0]?;
    if seconds == RLIM_INFINITY {
        return None;
    }
    Some(format!(
        "the caller's limit of CPU time ({seconds} s, ulimit -t) also applies to the job's worker: the \
         job is lost if the worker reaches it"
    ))
}

/// Gives a child the limits that its worker inherited. Async-signal-safe.
pub(super) fn restore_limits() {
    let Some(inherited) = INHERITED.get() else { return };
    for (limit, values) in RAISED_LIMITS.into_iter().zip(inherited) {
        if let Some((soft, hard)) = *values {
            let _ = setrlimit(limit, soft, hard);
        }
    }
}

/// Returns the file size limit in bytes; `None` if there is none.
pub(crate) fn file_size_limit() -> Option<u64> {
    soft_limit(Resource::RLIMIT_FSIZE)
}

/// Returns a soft limit; `None` if there is none, or if it is not known.
pub(super) fn soft_limit(resource: Resource) -> Option<u64> {
    let (soft, _) = getrlimit(resource).ok()?;
    #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
    if soft == RLIM_INFINITY { None } else { Some(u64::from(soft)) }
}
