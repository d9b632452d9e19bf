//! A handle to a process that is not a child.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
#[cfg(not(target_os = "linux"))]
use std::time::Instant;

use nix::errno::Errno;
#[cfg(target_os = "linux")]
use nix::libc;
use nix::sys::signal::Signal;
#[cfg(not(target_os = "linux"))]
use nix::unistd::Pid;

#[cfg(not(target_os = "linux"))]
use super::exists;
#[cfg(target_os = "linux")]
use super::poll::readable_within;

/// A process that can be signalled without the risk that its number belongs to another process by
/// then: on Linux a pidfd, on other systems just the number.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    #[cfg(not(target_os = "linux"))]
    pid: i32,
    #[cfg(target_os = "linux")]
    fd: OwnedFd,
}

impl ProcessHandle {
    /// Opens the process with this number. The caller must check afterwards that it is the intended
    /// one, by what only that process can have: a lock or a marker.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        if pid <= 1 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: takes integers only and gives a new descriptor.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel has just given us this descriptor.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
            Ok(Self { fd })
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Self { pid })
    }

    /// Readable when the process has ended (pidfd_open(2)).
    #[cfg(target_os = "linux")]
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits until the process has ended, and returns whether it has within `timeout`.
    pub(crate) fn ends_within(&self, timeout: Duration) -> bool {
        #[cfg(target_os = "linux")]
        return readable_within(self.fd.as_fd(), timeout);
        #[cfg(not(target_os = "linux"))]
        {
            let until = Instant::now() + timeout;
            while exists(self.pid) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            !exists(self.pid)
        }
    }

    /// Sends `signal`. It is not an error if the process has ended already.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let sent = {
            let none = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: the descriptor is a pidfd, and no siginfo is passed.
            let sent = unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.fd.as_raw_fd(),
                    signal as i32,
                    none,
                    0,
                )
            };
            if sent < 0 { Err(Errno::last()) } else { Ok(()) }
        };
        #[cfg(not(target_os = "linux"))]
        let sent = nix::sys::signal::kill(Pid::from_raw(self.pid), signal);
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(target_os = "linux")]
impl From<ProcessHandle> for OwnedFd {
    /// Readable when the process has ended (pidfd_open(2)).
    fn from(process: ProcessHandle) -> Self {
        process.fd
    }
}
