//! Descriptors that a process inherits or passes to the programs that it starts.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

/// Descriptor number under which the worker finds the job's lock.
pub(super) const LOCK_FD: RawFd = 3;
/// Descriptor number under which the worker finds the pipe for the report on its launch.
pub(super) const REPORT_FD: RawFd = 4;

/// A number above those of the descriptors that a worker has open.
const HIGH_FD: RawFd = 200;

/// Takes the descriptors that [`spawn_worker`](super::spawn_worker) passed, so that no program that
/// is started later inherits them.
pub(crate) fn take_inherited_fds() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((take(LOCK_FD)?, take(REPORT_FD)?))
}

/// Takes the lock that [`spawn_detached`](super::spawn_detached) passed, likewise.
pub(crate) fn take_inherited_lock() -> io::Result<OwnedFd> {
    take(LOCK_FD)
}

/// Takes the pipe that [`spawn_detached`](super::spawn_detached) passed in place of a lock, likewise.
pub(crate) fn take_inherited_pipe() -> io::Result<OwnedFd> {
    take(LOCK_FD)
}

/// Gives a descriptor a higher number than all others, so that the end of this process closes it
/// first: Linux finishes the closes of an exiting process from the highest number down, and that
/// of a watch of fanotify(7) or inotify(7) can take 20 ms.
pub(crate) fn move_to_high_fd(fd: OwnedFd) -> OwnedFd {
    match fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(HIGH_FD)) {
        // SAFETY: fcntl has just made this descriptor, and nothing else knows of it.
        Ok(high) => unsafe { OwnedFd::from_raw_fd(high) },
        Err(_) => fd,
    }
}

fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD reads nothing but the flags, whatever the descriptor is.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and this runs once, first thing in the program that was
    // started with it: nothing else in this process owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(owned)
}

/// Duplicates a descriptor to a number of at least `min`. Async-signal-safe.
pub(super) fn duplicate(fd: RawFd, min: RawFd) -> io::Result<RawFd> {
    // SAFETY: takes integers only; the caller keeps `fd` open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD, min) };
    if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(copy) }
}

/// Duplicates a descriptor to the number `target`. Async-signal-safe.
pub(super) fn dup_to(fd: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: takes integers only. `target` may belong to std's own error pipe of `Command`, whose
    // loss only means that a failed exec is reported by the end of the report pipe instead.
    if unsafe { libc::dup2(fd, target) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` up to be closed by exec. They are not closed at once,
/// because one of them is the pipe on which std reports a failed exec. Async-signal-safe.
pub(super) fn close_on_exec_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        const CLOEXEC: libc::c_uint = 4; // CLOSE_RANGE_CLOEXEC, linux/close_range.h
        // SAFETY: takes integers only.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    // Before Linux 5.11 and on other systems. A caller's limit can be in the millions; descriptors
    // beyond the first 65,536 are not marked.
    // SAFETY: sysconf and fcntl take integers only.
    unsafe {
        let end = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536) as RawFd;
        for fd in first..end {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}
