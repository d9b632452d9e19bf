//! The phases of a worker, and how long each may last.

use std::time::Duration;

use super::TermSignal;

/// How long claude gets to end its turn after an `interrupt` request, upon which it reports its
/// cost.
pub(super) const REQUEST_GRACE: Duration = Duration::from_millis(1_500);
/// How long it may take to end by itself once its turn was interrupted.
pub(super) const LEAVE_GRACE: Duration = Duration::from_millis(700);
/// How long it then gets after SIGINT, which keeps its session and mostly reports the cost.
pub(super) const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// How long it then gets after SIGTERM.
pub(super) const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// How long a silent claude may take to end once its input is closed. It stops background work
/// 5 s after a result, so this is longer.
pub(super) const EXIT_GRACE: Duration = Duration::from_secs(10);
/// How long claude may take to begin the turn that follows finished background work.
pub(super) const FOLLOW_UP_GRACE: Duration = Duration::from_secs(10);
/// How long the output may stay open after the last process ended.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The same where one is left that may hold it.
pub(super) const DRAIN_GRACE_LEFT: Duration = Duration::from_millis(100);
/// How long the end of the job's processes may take after they were sent SIGKILL.
pub(super) const SWEEP_GRACE: Duration = Duration::from_secs(5);
/// How long both may take from the request of a `kill` on, which answers within 8 s. It gives
/// SIGKILL 2 s after the whole ladder of signals.
pub(super) const KILL_GRACE: Duration = Duration::from_millis(6_500);
/// How often mere progress is written to the record.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So many refused logins in a row are final. The CLI alone would go on for minutes.
pub(super) const AUTH_FAILURES: u32 = 3;

/// Where the worker stands. `until` is on the monotonic clock.
#[derive(Debug, PartialEq)]
pub(super) enum WorkerPhase {
    /// It is not its turn yet.
    Waiting { since: Duration },
    /// Claude is being started.
    Starting,
    /// A turn is under way.
    Working,
    /// A result came, but background work is outstanding: stdin stays open.
    Holding { until: Duration },
    /// The background work ended: claude is about to take another turn.
    FollowUp { until: Duration },
    /// A wake-up or cron task that the agent scheduled is to come: stdin stays open.
    Awaiting { until: Duration },
    /// A turn has its result, and the next message is waited for.
    Idle { until: Duration },
    /// Claude went away, and is started again then: at once, or when it is its turn.
    Backoff { until: Duration, queues: bool },
    /// Claude was ended while it asked something; the answer is waited for.
    Released { until: Option<Duration> },
    /// Stdin is closed: claude is expected to end.
    Closing { until: Duration },
    /// A signal was sent.
    Stopping { by: TermSignal, until: Duration },
    /// What is left is being ended.
    Sweeping,
    /// Nothing is left; the rest of the output is read.
    Draining { until: Duration },
    /// The verdict can be reached, or was.
    Over,
}

impl WorkerPhase {
    /// Whether claude runs and can be given something: its stdin is open.
    pub(super) fn takes_input(&self) -> bool {
        matches!(
            self,
            Self::Working
                | Self::Holding { .. }
                | Self::FollowUp { .. }
                | Self::Awaiting { .. }
                | Self::Idle { .. }
        )
    }
}

/// Why the job is being ended before claude ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    Kill,
    Terminate,
    Timeout,
    Stall,
    Auth,
    /// Its question waits without a claude, as the message of this number asked.
    Release {
        number: u64,
    },
}
