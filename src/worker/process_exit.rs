//! The end of another process, which wakes the worker.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::wake_source::WakeSource;
use crate::process::{ProcessHandle, readable_within};

/// How often the end is checked without a pidfd.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(super) enum ProcessExit {
    /// A pidfd, which becomes readable when the process ends.
    Pidfd(WakeSource),
    Polled(ProcessHandle),
}

impl ProcessExit {
    pub(super) fn of(process: ProcessHandle) -> io::Result<Self> {
        match process {
            ProcessHandle::Pidfd(fd) => Ok(Self::Pidfd(WakeSource::from_fd(fd)?)),
            ProcessHandle::Number(_) => Ok(Self::Polled(process)),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Pidfd(source) => readable_within(source.as_fd(), Duration::ZERO),
            Self::Polled(process) => process.has_ended(),
        }
    }

    /// Sleeps until the process has ended.
    pub(super) async fn ended(&self) {
        match self {
            Self::Pidfd(source) => source.woken().await,
            Self::Polled(process) => {
                while !process.has_ended() {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }
}
