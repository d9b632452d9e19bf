//! Waking the worker when a message arrives in the job's inbox.

use std::time::{Duration, Instant};

use super::sleep_to;
use super::wake_source::WakeSource;
use crate::store::JobDir;

/// How often to check the inbox if it has no wake FIFO.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How the worker notices new messages.
pub(super) struct InboxWatch {
    /// The FIFO to which the sender of a message writes: no wake-ups while nothing happens. `None` if
    /// the file system has no FIFOs, or has no space for one.
    fifo: Option<WakeSource>,
    /// When to check the inbox if there is no FIFO.
    poll_at: Instant,
}

impl InboxWatch {
    pub(super) fn for_job(job: &JobDir) -> Self {
        let fifo = job.open_inbox_fifo().and_then(WakeSource::from_file).ok();
        Self { fifo, poll_at: Instant::now() }
    }

    /// Sleeps until a message may have arrived.
    pub(super) async fn changed(&mut self) {
        match &self.fifo {
            Some(fifo) => {
                fifo.woken().await;
                if !fifo.drain() {
                    self.fifo = None;
                }
            }
            None => {
                sleep_to(Some(self.poll_at)).await;
                self.poll_at = Instant::now() + POLL_INTERVAL;
            }
        }
    }
}
