//! A descriptor that wakes the worker.

use std::fs::File;
use std::future::pending;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::net::unix::pipe;

/// A descriptor that becomes readable when there is something to do: a pipe to which a thread
/// writes, a FIFO, a watch of files, or a pidfd.
pub(super) struct WakeSource(pipe::Receiver);

impl WakeSource {
    /// Creates a pipe: a byte written to its second end wakes the worker.
    pub(super) fn pipe() -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        Ok((Self(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?), writer))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(fd)?))
    }

    pub(super) fn from_file(file: File) -> io::Result<Self> {
        Self::from_fd(OwnedFd::from(file))
    }

    /// Sleeps until the descriptor is readable.
    pub(super) async fn woken(&self) {
        if self.0.readable().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Discards what can be read. Returns whether the descriptor can still be used; if not, it would
    /// stay readable forever.
    pub(super) fn drain(&self) -> bool {
        // Large enough for one event of inotify(7) at least.
        let mut discarded = [0; 1024];
        loop {
            match self.0.try_read(&mut discarded) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl AsFd for WakeSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sleeps until the descriptor is readable; forever if there is none.
pub(super) async fn woken(source: Option<&WakeSource>) {
    match source {
        Some(source) => source.woken().await,
        None => pending().await,
    }
}
