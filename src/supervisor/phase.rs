//! The phases of a worker, and how long each may last.

use std::time::Duration;

use super::TermSignal;
use crate::job::Verdict;

/// How long claude may take to end its turn after an `interrupt` request. It reports the cost then.
pub(super) const REQUEST_GRACE: Duration = Duration::from_millis(1_500);
/// How long claude may take to exit after its turn was interrupted.
pub(super) const LEAVE_GRACE: Duration = Duration::from_millis(700);
/// How long claude may take to exit after SIGINT, which keeps its session and usually reports the
/// cost.
pub(super) const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// How long claude may take to exit after SIGTERM.
pub(super) const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// How long claude may be silent after its input was closed before it is terminated. Claude stops
/// background work 5 s after a result, so this is longer.
pub(super) const EXIT_GRACE: Duration = Duration::from_secs(10);
/// How long claude may take to begin the turn that follows finished background work.
pub(super) const FOLLOW_UP_GRACE: Duration = Duration::from_secs(10);
/// How long to wait for the rest of the output after the last process has ended.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The same if a process is left over that may hold the output open.
pub(super) const DRAIN_GRACE_WITH_LEFTOVERS: Duration = Duration::from_millis(100);
/// How long the processes of a job may take to end after SIGKILL.
pub(super) const SWEEP_GRACE: Duration = Duration::from_secs(5);
/// How long signals, sweep and the rest of the output may take together after a `kill` request. It is
/// less than the 7 s that `kill`, which answers within 8 s, waits for the worker.
pub(super) const KILL_GRACE: Duration = Duration::from_millis(6_500);
// After the signals of a `kill` there is at least a second for the sweep.
const _: () = assert!(
    REQUEST_GRACE.as_millis() + INTERRUPT_GRACE.as_millis() + TERMINATE_GRACE.as_millis() + 1_000
        <= KILL_GRACE.as_millis()
);
/// Interval at which mere progress is written to the record.
pub(super) const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Number of refused logins in a row that is final. The CLI alone would retry for minutes.
pub(super) const MAX_AUTH_FAILURES: u32 = 3;

/// Phase of a worker. `until` is on the monotonic clock.
#[derive(Debug, PartialEq)]
pub(super) enum WorkerPhase {
    /// The job is queued.
    Waiting {
        since: Duration,
    },
    /// Claude is being started.
    Starting,
    /// A turn is under way.
    Working,
    /// A result came, but background work is outstanding: stdin stays open.
    Holding {
        until: Duration,
    },
    /// Background work has ended: claude is about to begin another turn.
    FollowUp {
        until: Duration,
    },
    /// A wake-up or cron task of the agent is due later: stdin stays open.
    Awaiting {
        until: Duration,
    },
    /// The turn has its result, and the job waits for the next message.
    Idle {
        until: Duration,
    },
    /// Claude has exited and will be started again: at `until`, or if `queues`, when the job is
    /// admitted after that.
    Backoff {
        until: Duration,
        queues: bool,
    },
    /// Claude was stopped while a question was open; the job waits for the answer.
    Released {
        until: Option<Duration>,
    },
    /// Stdin is closed: claude is expected to exit.
    Closing {
        until: Duration,
    },
    Stopping {
        by: TermSignal,
        until: Duration,
    },
    /// The remaining processes are being ended.
    Sweeping,
    /// No process is left; the rest of the output is read.
    Draining {
        until: Duration,
    },
    /// The verdict is due or has been reached.
    Over,
    /// The job ends with this verdict as soon as its inbox is closed.
    Ending(Verdict),
}

impl WorkerPhase {
    /// Returns when the time of this phase runs out, on the monotonic clock; `None` if it is not
    /// limited.
    pub(super) fn until(&self) -> Option<Duration> {
        match *self {
            Self::Waiting { .. }
            | Self::Starting
            | Self::Working
            | Self::Sweeping
            | Self::Over
            | Self::Ending(_) => None,
            Self::Holding { until }
            | Self::FollowUp { until }
            | Self::Awaiting { until }
            | Self::Idle { until }
            | Self::Backoff { until, .. }
            | Self::Closing { until }
            | Self::Stopping { until, .. }
            | Self::Draining { until } => Some(until),
            Self::Released { until } => until,
        }
    }

    /// Whether the attempt is over, and nothing but the verdict follows.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over | Self::Ending(_))
    }

    /// Whether claude runs with an open stdin.
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

/// Why the job is stopped before claude has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    Kill,
    Terminate,
    Timeout,
    /// Claude was silent for longer than this.
    Stall {
        limit: Duration,
    },
    Auth,
    /// The question is to wait without claude, as the inbox message of this number requests.
    Release {
        number: u64,
    },
}
