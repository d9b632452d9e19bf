//! Which came first: something in a pipe, or something at the end of a file that others append to.
//!
//! Of Linux's ways to watch a file this is fanotify(7), of which each user has 128 that few other
//! programs use, unlike those of inotify(7). epoll(7) gives what is ready in the order in which it
//! became so.

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

/// A watch over a file and a pipe.
pub struct Arrivals(Epoll);

impl Arrivals {
    /// Watches the file. With the watch comes a descriptor that can be read when the file was
    /// written to. An error says that this cannot be had: not here, or no more of them.
    pub fn of(file: &File) -> io::Result<(Self, OwnedFd)> {
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let flags = flags | InitFlags::from_bits_retain(REPORT_FID);
        let news = Fanotify::init(flags, EventFFlags::O_RDONLY)?;
        news.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_MODIFY, file, None::<&str>)?;
        let order = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        order.add(&news, event(FILE))?;
        Ok((Self(order), news.into()))
    }

    /// Watches this end of a pipe, too.
    pub fn add_pipe(&self, pipe: &impl AsFd) -> io::Result<()> {
        Ok(self.0.add(pipe, event(PIPE))?)
    }

    /// What came to the file since this was asked last: nothing, or something before anything came
    /// to the pipe, or after it. What was read since it came counts for nothing.
    pub fn in_file(&self) -> Option<ArrivalOrder> {
        let mut events = [EpollEvent::empty(); 2];
        let count = self.0.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        match events[..count].iter().position(|event| event.data() == FILE)? {
            0 => Some(ArrivalOrder::First),
            _ => Some(ArrivalOrder::AfterPipe),
        }
    }
}

/// Told each time that it becomes ready, in that order.
fn event(data: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, data)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn it_is_known_which_came_first() {
        let mut file = tempfile::tempfile().unwrap();
        // Not everywhere: a container may forbid it.
        let Ok((arrivals, news)) = Arrivals::of(&file) else { return };
        let drain = || while nix::unistd::read(&news, &mut [0; 4096]).is_ok_and(|n| n > 0) {};
        let (mut reader, mut writer) = io::pipe().unwrap();
        arrivals.add_pipe(&reader).unwrap();
        assert_eq!(arrivals.in_file(), None);
        for _ in 0..100 {
            writer.write_all(b"x").unwrap();
            file.write_all(b"y").unwrap();
            assert_eq!(arrivals.in_file(), Some(ArrivalOrder::AfterPipe));
            assert_eq!(arrivals.in_file(), None, "that was told");
            reader.read_exact(&mut [0]).unwrap();
            drain();
            file.write_all(b"y").unwrap();
            writer.write_all(b"x").unwrap();
            assert_eq!(arrivals.in_file(), Some(ArrivalOrder::First));
            reader.read_exact(&mut [0]).unwrap();
            drain();
            writer.write_all(b"x").unwrap();
            assert_eq!(arrivals.in_file(), None);
            reader.read_exact(&mut [0]).unwrap();
        }
    }
}
