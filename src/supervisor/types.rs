//! Inputs and effects of the supervisor.

use std::time::Duration;

use super::{INTERRUPT_GRACE, REQUEST_GRACE, TERMINATE_GRACE};
use crate::job::{
    AppliedTo, EventLine, Exit, FreezeSkip, InboxMessage, Leftovers, LimitMet, NotifyEvent,
    Outcome, Timestamp, TurnEnd, UndeliveredMessage, WaitReason,
};
use crate::stream::Line;

/// Two clocks: the monotonic one for durations, the time of day for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Time since a fixed point.
    pub mono: Duration,
    pub wall: Timestamp,
}

/// Facts that are known when a worker starts.
#[derive(Debug, Default)]
pub(crate) struct WorkerStart {
    pub pid: i32,
    pub boot_id: Option<String>,
    /// The outcome of an earlier attempt of another worker.
    pub outcome: Option<Outcome>,
    /// Numbers of the messages that an earlier worker set aside.
    pub accepted_messages: Vec<u64>,
    /// Number of the last line in `events.ndjson`, which may be ahead of the record.
    pub last_seq: u64,
    /// The systemd scope that was requested for the worker.
    pub unit: Option<String>,
    /// The control group of this scope, if the worker runs in it.
    pub cgroup: Option<String>,
    /// The memory limit of the control group in bytes.
    pub memory_limit: Option<u64>,
    /// Warning of a limit of the calling process that may end the worker.
    pub warning: Option<String>,
}

/// An event that the worker passes to its supervisor.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// The job is queued.
    Queued(WaitReason),
    /// The job is admitted.
    Admitted,
    /// The job starts with an open question and without claude.
    Held,
    /// A dependency of the job did not complete.
    DependencyFailed(FailedDependency),
    /// `output.log` was opened for an attempt, and has this length.
    LogOpened { length: u64 },
    /// Claude was started.
    Launched {
        pid: i32,
        session_id: String,
        program: String,
        /// The arguments, without secrets.
        arguments: Vec<String>,
    },
    /// Claude could not be started.
    LaunchFailed(String),
    /// Claude wrote a line.
    Line(Line<'a>),
    /// Claude's output ended in the middle of this line.
    Torn(Line<'a>),
    /// Claude's output was closed.
    OutputClosed,
    /// Claude exited.
    Exited {
        exit: Exit,
        /// The last lines of stderr.
        stderr: Option<String>,
    },
    /// `kill` was called for the job.
    KillRequested,
    /// The worker got a signal to shut down.
    TerminateRequested,
    /// A message arrived in the inbox.
    Message {
        /// Its number in the order of arrival.
        number: u64,
        /// The message, or why it cannot be read.
        message: Result<InboxMessage, String>,
    },
    /// The change that the message of this number asked for applies.
    Requeued { number: u64, applied: AppliedTo },
    /// The processes were stopped, as the message of this number requests.
    Frozen {
        number: u64,
        /// Number of stopped processes.
        stopped: usize,
        /// Number of processes that could not be stopped.
        running: usize,
    },
    /// The processes were not stopped.
    FreezeSkipped { number: u64, why: FreezeSkip },
    /// The job is no longer paused: the answer to [`Effect::CheckPause`].
    NotPaused,
    /// The remaining processes were ended.
    Swept {
        /// Number of processes that were ended.
        ended: usize,
        /// Processes that could not be ended.
        left: Leftovers,
    },
    /// The file in which claude keeps the present session was found.
    SessionFile(String),
    /// `output.log` lacks some of what claude wrote in this attempt.
    LogIncomplete,
    /// The log was removed or truncated by another program.
    LogDamaged {
        file: &'static str,
        /// Description that follows the name in a sentence.
        what: &'static str,
        /// Length of the log now.
        length: u64,
    },
    /// A file of the job could not be written.
    WriteFailed { file: &'static str, error: String },
    /// All processes of the attempt have ended: the answer to [`Effect::Conclude`].
    AttemptEnded(Evidence<'a>),
    /// The inbox was closed; these messages will not be delivered.
    InboxClosed { undelivered: Vec<UndeliveredMessage> },
    /// The [deadline](super::Supervisor::deadline) has passed.
    Tick,
}

/// A dependency that did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedDependency {
    /// The job and how it ended.
    pub error: String,
    /// Whether it was cut off and can be continued.
    pub cut_off: bool,
}

/// Number of bytes at the end of stderr that count as evidence.
pub(crate) const MAX_STDERR_BYTES: u64 = 16 << 10;

/// Evidence that an attempt left besides its stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evidence<'a> {
    /// End of what claude wrote to stderr.
    pub stderr: &'a str,
    /// Whether the kernel killed processes for lack of memory while claude ran.
    pub out_of_memory: bool,
    /// Whether the stored login was replaced while claude ran.
    pub login_changed: bool,
}

/// An action for the worker.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Write the [record](super::Supervisor::record).
    Save,
    /// Append to `events.ndjson`.
    Log(EventLine),
    /// Send a message to claude.
    SendMessage {
        /// Its id, which claude repeats when it accepts the message.
        uuid: String,
        text: String,
    },
    /// Start claude.
    Launch,
    /// Start claude again in the same slot. If the job is paused, ask for a slot again instead.
    Relaunch,
    /// Release the slot: claude does not run for a while.
    LeaveQueue,
    /// Ask for a slot again.
    EnterQueue,
    /// Replace the ticket of a waiting job as the record says, and report [`Input::Requeued`]. The
    /// number is that of the message.
    Requeue(u64),
    /// Stop the job's processes if it is paused, and report [`Input::Frozen`] or
    /// [`Input::FreezeSkipped`]. The number is that of the message.
    Freeze(u64),
    /// Report [`Input::NotPaused`] if the job is not paused: `unpause` may have been called before
    /// the record said that the job is frozen.
    CheckPause,
    /// Continue the job's processes.
    Thaw,
    /// A limit of the API was met.
    Limited(LimitMet),
    /// The API has answered the claude that was started at this time.
    Answered(Timestamp),
    /// Record a notification that is due.
    RecordNotification(NotifyEvent),
    /// Answer a request of claude.
    Respond {
        request_id: String,
        /// The answer in claude's format.
        response: serde_json::Value,
    },
    /// Interrupt the turn; the number identifies the request.
    Interrupt(u64),
    /// Remove a handled message from the inbox.
    RemoveMessage(u64),
    /// Claude has accepted the message: set it aside until its turn ends.
    SetAside(u64),
    /// The session is lost: return the messages that were set aside to the inbox.
    RestoreAside,
    /// Append to `turns.ndjson`.
    AppendTurn(TurnEnd),
    /// Close claude's stdin after all queued input was written.
    CloseInput,
    Signal(TermSignal),
    /// End all processes of the job, claude included, within this time, and report
    /// [`Input::Swept`].
    Sweep(Duration),
    /// The attempt is over: collect the evidence for [`Input::AttemptEnded`].
    Conclude,
    /// Another attempt follows, with the first prompt of the supervisor: open the log for it, and
    /// report [`Input::LogOpened`].
    PrepareAttempt,
    /// It is certain that the job ends: close the inbox, and report [`Input::InboxClosed`].
    CloseInbox,
    /// The job has ended with this result: write it.
    End(Box<Outcome>),
}

/// Steps of stopping claude, in order. SIGKILL follows the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TermSignal {
    /// An `interrupt` request on stdin: claude ends its turn with a result.
    Request,
    /// SIGINT: claude stops its tool, writes a result with the cost so far, and exits.
    Interrupt,
    /// SIGTERM: claude exits at once.
    Terminate,
}

impl TermSignal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "interrupt",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    pub(super) fn grace(self) -> Duration {
        match self {
            Self::Request => REQUEST_GRACE,
            Self::Interrupt => INTERRUPT_GRACE,
            Self::Terminate => TERMINATE_GRACE,
        }
    }
}
