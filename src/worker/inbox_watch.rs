//! Being woken when something new lies in the job's inbox.

use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::store::JobDir;

/// How often is looked where nobody can ring.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The inbox's bell: no wake-up while nothing happens.
pub(super) enum InboxWatch {
    /// Whoever puts something in rings.
    Bell(pipe::Receiver),
    /// The file system has no bells, or there was no room for one.
    Clock(Interval),
}

impl InboxWatch {
    /// Of this job.
    pub(super) fn of(job: &JobDir) -> Self {
        match job.open_inbox_fifo().and_then(pipe::Receiver::from_file_unchecked) {
            Ok(bell) => Self::Bell(bell),
            Err(_) => Self::clock(),
        }
    }

    fn clock() -> Self {
        let mut clock = interval(LOOK_AGAIN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Clock(clock)
    }

    /// Sleeps until something may have been put in.
    pub(super) async fn news(&mut self) {
        match self {
            Self::Clock(clock) => {
                clock.tick().await;
            }
            Self::Bell(bell) => {
                let mut rings = [0; 64];
                let heard = bell.readable().await.is_ok()
                    && match bell.try_read(&mut rings) {
                        Ok(length) => length > 0,
                        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                    };
                if !heard {
                    *self = Self::clock();
                }
            }
        }
    }
}
