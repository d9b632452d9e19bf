//! A word from a thread to the worker: something can be read from a pipe.

use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

/// The end that is listened to.
pub(super) struct Waker(pipe::Receiver);

/// A pipe: whoever writes to the second wakes up who waits for the first.
pub(super) fn create_waker() -> io::Result<(Waker, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Waker(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?), writer))
}

impl Waker {
    /// Sleeps until somebody wrote.
    pub(super) async fn wait(&self) {
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets what was written.
    pub(super) fn drain(&self) {
        let mut words = [0; 64];
        while self.0.try_read(&mut words).is_ok_and(|length| length > 0) {}
    }
}
