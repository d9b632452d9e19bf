//! A pipe by which a thread wakes the worker.

use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

/// The reading end of the pipe.
pub(super) struct Waker(pipe::Receiver);

/// Creates the pipe: a byte written to its second end wakes the worker.
pub(super) fn create_waker() -> io::Result<(Waker, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Waker(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?), writer))
}

impl Waker {
    /// Sleeps until a byte was written.
    pub(super) async fn wait(&self) {
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Discards the bytes that were written.
    pub(super) fn drain(&self) {
        let mut discarded = [0; 64];
        while self.0.try_read(&mut discarded).is_ok_and(|length| length > 0) {}
    }
}
