//! A handle to a process that is not a child.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
#[cfg(target_os = "linux")]
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

#[cfg(not(target_os = "linux"))]
use super::exists;
use super::poll::readable_within;

/// How often the end of a process is checked where it cannot be waited for.
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A process that can be signalled without the risk that its number belongs to another process by
/// then: on Linux a pidfd.
#[derive(Debug)]
pub(crate) enum ProcessHandle {
    /// Readable when the process has ended (pidfd_open(2)).
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has pidfds"))]
    Pidfd(OwnedFd),
    /// Without pidfds: before Linux 5.3, in a container that forbids them, and on other systems.
    Number(CheckedNumber),
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
        match open_pidfd(pid) {
            // Linux before 5.3 has no such call, and a container's filter may not know it.
            Err(Errno::ENOSYS | Errno::EPERM) => {}
            opened => return Ok(Self::Pidfd(opened?)),
        }
        Ok(Self::Number(CheckedNumber::open(pid)?))
    }

    /// Returns the descriptor that becomes readable when the process has ended, if there is one.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pidfd(fd) => Some(fd.as_fd()),
            Self::Number(_) => None,
        }
    }

    /// Returns whether the process has ended; false if that cannot be found out.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Pidfd(fd) => readable_within(fd.as_fd(), Duration::ZERO),
            Self::Number(number) => matches!(number.has_ended(), Ok(true)),
        }
    }

    /// Waits until the process has ended, and returns whether it has within `timeout`.
    pub(crate) fn ends_within(&self, timeout: Duration) -> bool {
        if let Self::Pidfd(fd) = self {
            return readable_within(fd.as_fd(), timeout);
        }
        let until = Instant::now() + timeout;
        while !self.has_ended() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(END_POLL_INTERVAL);
        }
        true
    }

    /// Sends `signal`. It is not an error if the process has ended already.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Pidfd(fd) => allow_ended(send(fd.as_fd(), signal)),
            #[cfg(not(target_os = "linux"))]
            Self::Pidfd(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Number(number) => number.signal(signal),
        }
    }
}

/// A process by its number, which is checked before each use. On Linux the open directory
/// `/proc/PID` is the check: it belongs to that process alone, and nothing can be read in it any
/// more when the process has ended, even if its number was given to another one.
#[derive(Debug)]
pub(crate) struct CheckedNumber {
    pid: i32,
    #[cfg(target_os = "linux")]
    directory: File,
}

impl CheckedNumber {
    #[cfg(target_os = "linux")]
    fn open(pid: i32) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let directory =
            options.read(true).custom_flags(libc::O_DIRECTORY).open(format!("/proc/{pid}"))?;
        Ok(Self { pid, directory })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(pid: i32) -> io::Result<Self> {
        Ok(Self { pid })
    }

    fn has_ended(&self) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        return super::proc::has_ended_in(&format!("/proc/self/fd/{}", self.directory.as_raw_fd()));
        #[cfg(not(target_os = "linux"))]
        Ok(!exists(self.pid))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // From Linux 5.1 on, the directory can be used like a pidfd here.
        #[cfg(target_os = "linux")]
        match send(self.directory.as_fd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => return Ok(()),
            Err(_) => {}
        }
        self.signal_number(signal)
    }

    /// Checks the process and sends the signal to its number.
    ///
    /// Between the two, some microseconds, the process could end, its parent could reap it, and the
    /// kernel could give its number to another process, which would then get the signal. Linux
    /// gives the numbers in ascending order, 32,768 of them at least, so that a number comes again
    /// only after all others, unless a privileged program chooses it.
    fn signal_number(&self, signal: Signal) -> io::Result<()> {
        if self.has_ended()? {
            return Ok(());
        }
        allow_ended(nix::sys::signal::kill(Pid::from_raw(self.pid), signal))
    }
}

fn allow_ended(sent: nix::Result<()>) -> io::Result<()> {
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(target_os = "linux")]
fn open_pidfd(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes integers only and gives a new descriptor.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to the process of a pidfd or of an open directory `/proc/PID`.
#[cfg(target_os = "linux")]
fn send(fd: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let (fd, signal) = (fd.as_raw_fd(), signal as i32);
    // SAFETY: the descriptor is open, and no siginfo is passed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) };
    Errno::result(sent).map(drop)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    fn number_of(child: &Child) -> CheckedNumber {
        CheckedNumber::open(child.id() as i32).unwrap()
    }

    #[test]
    fn a_process_without_a_pidfd_is_signalled() {
        for by_number in [false, true] {
            let mut child = sleeper();
            let number = number_of(&child);
            assert!(!number.has_ended().unwrap());
            let send = if by_number { CheckedNumber::signal_number } else { CheckedNumber::signal };
            send(&number, Signal::SIGTERM).unwrap();
            let handle = ProcessHandle::Number(number);
            // It has ended before its parent reaps it.
            assert!(handle.ends_within(Duration::from_secs(60)) && handle.has_ended());
            child.wait().unwrap();
            assert!(handle.has_ended());
            handle.signal(Signal::SIGTERM).unwrap();
        }
    }

    #[test]
    fn a_reused_number_is_not_signalled() {
        let (mut ended, mut other) = (sleeper(), sleeper());
        let mut number = number_of(&ended);
        ended.kill().unwrap();
        ended.wait().unwrap();
        number.pid = other.id() as i32;
        number.signal(Signal::SIGKILL).unwrap();
        number.signal_number(Signal::SIGKILL).unwrap();
        assert!(other.try_wait().unwrap().is_none() && number.has_ended().unwrap());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
