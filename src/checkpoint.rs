//! Named points at which a test build can be stopped, so that a test can break off a program
//! between any two steps instead of at some moment. In a release build there is nothing of it.

/// The variable that names the point at which the process stops itself (SIGSTOP).
#[cfg(debug_assertions)]
const STOP_AT: &str = "CLAUDEJOB_STOP_AT";
/// The variable that names a file into which it writes its process id just before.
#[cfg(debug_assertions)]
const STOP_FILE: &str = "CLAUDEJOB_STOP_FILE";

/// A point that is being passed.
#[cfg(debug_assertions)]
pub fn checkpoint(name: &str) {
    use nix::sys::signal::{Signal, raise};
    #[cfg(test)]
    hook::call();
    if std::env::var_os(STOP_AT).is_none_or(|at| at != name) {
        return;
    }
    if let Some(file) = std::env::var_os(STOP_FILE) {
        // Once is enough: a process that was let go on is not stopped again.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
        let Ok(mut file) = file else { return };
        let _ = std::io::Write::write_all(&mut file, std::process::id().to_string().as_bytes());
    }
    let _ = raise(Signal::SIGSTOP);
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn checkpoint(_name: &str) {}

/// What a unit test does at each checkpoint of a thread, such as to let another thread run.
#[cfg(test)]
pub mod hook {
    use std::cell::RefCell;

    thread_local! {
        static HOOK: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    }

    /// Sets the hook of this thread.
    pub fn set(hook: impl Fn() + 'static) {
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
