//! Whether data came first to a pipe or to the end of a file to which other processes append.
//!
//! The file is watched with fanotify(7): each user has 128 such watches, which few other programs
//! use, unlike those of inotify(7). epoll(7) returns descriptors in the order in which they became
//! ready.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::ArrivalOrder;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// Reports events without opening the file, which needs no privileges (`FAN_REPORT_FID`).
const REPORT_FID: u32 = 0x200;
const PIPE: u64 = 0;
const FILE: u64 = 1;

/// A watch of a file and a pipe.
pub(crate) struct Arrivals(Epoll);

impl Arrivals {
    /// Watches the file. The second value is a descriptor that is readable when the file was written
    /// to.
    ///
    /// # Errors
    /// This system has no such watches, or the user has no more of them.
    pub(crate) fn watch_file(file: &File) -> io::Result<(Self, OwnedFd)> {
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let flags = flags | InitFlags::from_bits_retain(REPORT_FID);
        let changes = Fanotify::init(flags, EventFFlags::O_RDONLY)?;
        changes.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_MODIFY, file, None::<&str>)?;
        let order = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        order.add(&changes, event(FILE))?;
        Ok((Self(order), changes.into()))
    }

    /// Watches the reading end of a pipe, too.
    pub(crate) fn add_pipe(&self, pipe: &impl AsFd) -> io::Result<()> {
        Ok(self.0.add(pipe, event(PIPE))?)
    }

    /// Returns when data came to the file, compared with the pipe; `None` if none came since the last
    /// call. Data that has been read since does not count.
    pub(crate) fn file_order(&self) -> Option<ArrivalOrder> {
        let mut events = [EpollEvent::empty(); 2];
        let count = self.0.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        match events[..count].iter().position(|event| event.data() == FILE)? {
            0 => Some(ArrivalOrder::First),
            _ => Some(ArrivalOrder::AfterPipe),
        }
    }
}

/// An event each time that a descriptor becomes ready, in that order.
fn event(data: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, data)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn reports_whether_file_or_pipe_came_first() {
        let mut file = tempfile::tempfile().unwrap();
        // A container may forbid it.
        let Ok((arrivals, changes)) = Arrivals::watch_file(&file) else { return };
        let drain = || while nix::unistd::read(&changes, &mut [0; 4096]).is_ok_and(|n| n > 0) {};
        let (mut reader, mut writer) = io::pipe().unwrap();
        arrivals.add_pipe(&reader).unwrap();
        assert_eq!(arrivals.file_order(), None);
        for _ in 0..100 {
            writer.write_all(b"x").unwrap();
            file.write_all(b"y").unwrap();
            assert_eq!(arrivals.file_order(), Some(ArrivalOrder::AfterPipe));
            assert_eq!(arrivals.file_order(), None, "reported before");
            reader.read_exact(&mut [0]).unwrap();
            drain();
            file.write_all(b"y").unwrap();
            writer.write_all(b"x").unwrap();
            assert_eq!(arrivals.file_order(), Some(ArrivalOrder::First));
            reader.read_exact(&mut [0]).unwrap();
            drain();
            writer.write_all(b"x").unwrap();
            assert_eq!(arrivals.file_order(), None);
            reader.read_exact(&mut [0]).unwrap();
        }
    }
}
