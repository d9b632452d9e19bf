//! Waking the worker when a message arrives in the job's inbox.

use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::store::JobDir;

/// How often to check the inbox if it has no wake FIFO.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How the worker notices new messages.
pub(super) enum InboxWatch {
    /// The FIFO to which the sender of a message writes: no wake-ups while nothing happens.
    WakeFifo(pipe::Receiver),
    /// Polling, if the file system has no FIFOs, or has no space for one.
    Polling(Interval),
}

impl InboxWatch {
    pub(super) fn for_job(job: &JobDir) -> Self {
        match job.open_inbox_fifo().and_then(pipe::Receiver::from_file_unchecked) {
            Ok(fifo) => Self::WakeFifo(fifo),
            Err(_) => Self::polling(),
        }
    }

    fn polling() -> Self {
        let mut interval = interval(POLL_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Polling(interval)
    }

    /// Sleeps until a message may have arrived.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Polling(interval) => {
                interval.tick().await;
            }
            Self::WakeFifo(fifo) => {
                let mut discarded = [0; 64];
                let is_usable = fifo.readable().await.is_ok()
                    && match fifo.try_read(&mut discarded) {
                        Ok(length) => length > 0,
                        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                    };
                if !is_usable {
                    *self = Self::polling();
                }
            }
        }
    }
}
