//! Named points at which a debug build can be stopped, so that a test can interrupt a program
//! between any two steps, and numbers that a test can set. In a release build they do not exist.

/// Environment variable with the name of the point at which the process stops itself (SIGSTOP).
#[cfg(debug_assertions)]
const STOP_AT: &str = "CLAUDEJOB_STOP_AT";
/// Environment variable with the name of the point at which the process panics.
#[cfg(debug_assertions)]
const PANIC_AT: &str = "CLAUDEJOB_PANIC_AT";
/// Environment variable with the path of a file into which it writes its process id before that.
#[cfg(debug_assertions)]
const STOP_FILE: &str = "CLAUDEJOB_STOP_FILE";
/// Environment variable that is set if the process stops itself again when it is continued.
#[cfg(debug_assertions)]
const STAY_STOPPED: &str = "CLAUDEJOB_STAY_STOPPED";

/// Stops the process, or lets it panic, if this point is selected.
#[cfg(debug_assertions)]
pub(crate) fn fault_point(name: &str) {
    use nix::sys::signal::{Signal, raise};
    #[cfg(test)]
    hook::call();
    assert!(std::env::var_os(PANIC_AT).is_none_or(|at| at != name), "the fault point {name}");
    if std::env::var_os(STOP_AT).is_none_or(|at| at != name) {
        return;
    }
    if let Some(file) = std::env::var_os(STOP_FILE) {
        // Only once: a process that was continued is not stopped again.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
        let Ok(mut file) = file else { return };
        let _ = std::io::Write::write_all(&mut file, std::process::id().to_string().as_bytes());
    }
    let _ = raise(Signal::SIGSTOP);
    while std::env::var_os(STAY_STOPPED).is_some() {
        let _ = raise(Signal::SIGSTOP);
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn fault_point(_name: &str) {}

/// Returns the number in this environment variable, by which a test changes a time.
#[cfg(debug_assertions)]
pub(crate) fn test_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Returns `None` in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn test_number(_variable: &str) -> Option<u64> {
    None
}

/// What a unit test does at each fault point of a thread, such as to let another thread run.
#[cfg(test)]
pub(crate) mod hook {
    use std::cell::RefCell;

    thread_local! {
        static HOOK: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    }

    /// Sets the hook of this thread.
    pub(crate) fn set(hook: impl Fn() + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    pub(super) fn call() {
        HOOK.with_borrow(|hook| {
            if let Some(hook) = hook {
                hook();
            }
        });
    }
}
