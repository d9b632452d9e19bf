//! Waiting for a descriptor with poll(2).

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Returns whether `fd` becomes readable, or its other end is closed, within `timeout`.
pub(crate) fn readable_within(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Waits until `output`, a pipe or a socket, has no reader any more. With an `input` it waits at
/// most until the input is readable or has ended, and then returns false.
pub(crate) fn wait_reader_closed(output: BorrowedFd<'_>, input: Option<BorrowedFd<'_>>) -> bool {
    let mut fds = vec![PollFd::new(output, PollFlags::empty())];
    if let Some(input) = input {
        fds.push(PollFd::new(input, PollFlags::POLLIN));
    }
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP;
    let is_closed = matches!(fds[0].revents(), Some(events) if events.intersects(closed));
    let is_readable = matches!(fds.get(1), Some(input) if input.any() != Some(false));
    is_closed && !is_readable
}

/// Stdin without the buffer of [`io::stdin`]: poll(2) reports whether there is unread input only if
/// no part of it lies in a buffer.
#[derive(Debug)]
pub(crate) struct RawStdin;

impl Read for RawStdin {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(io::stdin(), bytes)?)
    }
}
