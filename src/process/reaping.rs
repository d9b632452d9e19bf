//! Children that have ended, and orphans that become children.

use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
#[cfg(target_os = "linux")]
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::job::Exit;

/// Whether this process runs for long: see [`reap_in_background`].
static REAPS_IN_BACKGROUND: AtomicBool = AtomicBool::new(false);

/// Declares that this process runs for long, and has to reap the children that it
/// [detaches](detach).
pub(crate) fn reap_in_background() {
    REAPS_IN_BACKGROUND.store(true, Ordering::Relaxed);
}

/// Lets a child run without waiting for it. In a process that [runs for long](reap_in_background)
/// a thread reaps it; any other process ends soon, or reaps all its children.
pub(crate) fn detach(mut child: Child) {
    if REAPS_IN_BACKGROUND.load(Ordering::Relaxed) {
        // Without a thread it stays a zombie until this process ends.
        let reaper = std::thread::Builder::new().name("reaper".into());
        let _ = reaper.spawn(move || child.wait());
    }
}

/// Makes orphaned descendants children of this process, so that none can leave its tree.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Result of [`reap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// The child with this process id has ended.
    Ended(i32, Exit),
    /// All children live.
    AllLive,
    /// There are no children, and so no process below this one, if it is a subreaper.
    NoChildren,
}

/// Reaps a child that has ended, if any has. Reaps adopted orphans as well.
pub(crate) fn reap() -> Reaped {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Reaped::Ended(pid.as_raw(), Exit { code: Some(code), signal: None });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                let exit = Exit { code: None, signal: Some(signal as i32) };
                return Reaped::Ended(pid.as_raw(), exit);
            }
            Err(Errno::ECHILD) => return Reaped::NoChildren,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return Reaped::AllLive,
        }
    }
}
