//! Waking the worker when a message arrives in the job's inbox.

use std::time::{Duration, Instant};

use super::sleep_to;
use super::wake_source::{WakeSource, woken};
use crate::fault_point::test_number;
use crate::store::JobDir;

/// How often to check the inbox if it has no wake FIFO.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often to check the inbox of a job with an engine: writes of other machines wake nobody.
const SHARED_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Variable for tests: the latter in milliseconds.
const TEST_INTERVAL: &str = "CLAUDEJOB_TEST_INBOX_POLL";

/// Returns how often to check the inbox of a job with an engine.
fn shared_poll_interval() -> Duration {
    test_number(TEST_INTERVAL).map_or(SHARED_POLL_INTERVAL, Duration::from_millis)
}

/// How the worker notices new messages.
pub(super) struct InboxWatch {
    /// The FIFO to which the sender of a message writes: no wake-ups while nothing happens. `None` if
    /// the file system has no FIFOs, or has no space for one.
    fifo: Option<WakeSource>,
    /// How often to check the inbox although nothing wakes the worker.
    poll_interval: Option<Duration>,
    /// When to do so.
    poll_at: Instant,
}

impl InboxWatch {
    pub(super) fn for_job(job: &JobDir) -> Self {
        let fifo = job.open_inbox_fifo().and_then(WakeSource::from_file).ok();
        let poll_interval = match &fifo {
            _ if job.is_claimed() => Some(shared_poll_interval()),
            Some(_) => None,
            None => Some(POLL_INTERVAL),
        };
        Self { fifo, poll_interval, poll_at: Instant::now() }
    }

    /// Sleeps until a message may have arrived.
    pub(super) async fn changed(&mut self) {
        let poll_at = self.poll_interval.map(|_| self.poll_at);
        tokio::select! {
            () = woken(self.fifo.as_ref()) => {
                if self.fifo.as_ref().is_some_and(|fifo| !fifo.drain()) {
                    self.fifo = None;
                    self.poll_interval.get_or_insert(POLL_INTERVAL);
                }
            }
            () = sleep_to(poll_at) => {
                self.poll_at = Instant::now() + self.poll_interval.unwrap_or(POLL_INTERVAL);
            }
        }
    }
}
