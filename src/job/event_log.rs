//! The event log of a job: numbered lines of `events.ndjson`, written by the worker.

use serde::{Deserialize, Serialize};

use super::{AppliedTo, Exit, Reason, Status, Timestamp};

/// One line of `events.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventLine {
    /// Number of the line, from 1.
    pub seq: u64,
    /// When it happened; only `seq` gives the order.
    pub at: Timestamp,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The event, whose fields are at the same level.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What a queued job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitReason {
    /// A free slot.
    Slot,
    /// The end of other jobs.
    Jobs,
    /// Its start time.
    Time,
}

/// Why processes were not frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum FreezeSkip {
    /// No claude runs.
    NoClaude,
    /// Claude is ending.
    Ending,
    /// The job is no longer paused.
    NotPaused,
    /// The processes could not be listed or stopped.
    Unstoppable,
}

/// A kind of event, with its data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum EventKind {
    /// The worker has started and holds the lock.
    Started {
        /// The worker's process id.
        pid: i32,
    },
    /// The job was queued.
    Queued {
        /// What it waits for.
        waits_for: WaitReason,
    },
    /// The job was admitted: its claude may start.
    Admitted,
    /// Claude is started again after a transient failure.
    Retrying {
        /// Why the previous attempt failed.
        after: Option<Reason>,
        /// Milliseconds until the next attempt.
        after_ms: u64,
    },
    /// The job waits for a wake-up or a cron task that the agent scheduled.
    WakeupWait {
        /// When the next one is due, if known.
        until: Option<Timestamp>,
    },
    /// Claude has been silent for half of the stall timeout.
    Silent {
        /// Milliseconds of silence.
        for_ms: u64,
    },
    /// Claude was silent for longer than the stall timeout.
    Stalled,
    /// A job that this one waits for did not complete.
    DependencyFailed {
        /// The id of that job, and how it ended.
        error: String,
    },
    /// Claude was started.
    Launched {
        /// Claude's process id.
        pid: i32,
        /// The program; null in events of earlier versions.
        program: Option<String>,
        /// Its arguments without secrets: inline JSON and long texts as their size, keys as `***`.
        /// Null in events of earlier versions.
        arguments: Option<Vec<String>>,
    },
    /// Another attempt begins because the previous one was cut off.
    Recovered {
        /// Why the previous attempt failed.
        after: Option<Reason>,
        /// Claude continues its conversation; otherwise it gets the prompt again.
        resumes: bool,
    },
    /// Another attempt begins with the prompt: claude no longer knows the conversation.
    StartedOver,
    /// Claude could not be run.
    LaunchFailed {
        /// Why.
        error: String,
    },
    /// Claude waits for a limit of the API.
    RateLimited {
        /// As in the CLI's event: `rate_limit` or `overloaded`.
        error: String,
        /// When claude tries again.
        retry_at: Option<Timestamp>,
    },
    /// The limit is over.
    RateLimitOver,
    /// A request waits for an answer.
    Blocked {
        /// Claude's id of the request.
        request_id: String,
        /// The tool that wants to run.
        tool: String,
    },
    /// A request no longer waits for an answer.
    Unblocked {
        /// Claude's id of the request.
        request_id: String,
    },
    /// Another attempt begins because of `resume`.
    Resumed,
    /// A kept-alive job waits for the next message.
    Idle,
    /// `finish` was called.
    FinishRequested,
    /// Claude ended unexpectedly and is started again.
    Restarting {
        /// Milliseconds until the next attempt.
        after_ms: u64,
    },
    /// A message was sent to claude.
    MessageSent {
        /// Number of the message, in the order of arrival.
        number: u64,
    },
    /// Claude has taken a message in.
    MessageTaken {
        /// Number of the message, in the order of arrival.
        number: u64,
    },
    /// A file in the inbox was not a valid message, or there was no turn to interrupt.
    MessageRefused {
        /// Number of the message, in the order of arrival.
        number: u64,
        /// Why.
        error: String,
    },
    /// A request was answered.
    Answered {
        /// Number of the answer, in the order of arrival. 0 if it was not sent by a user: the time
        /// was over, or the call had been allowed before.
        number: u64,
        /// Claude's id of the request.
        request_id: String,
    },
    /// An answer came to a request that was no longer open.
    AnswerRefused {
        /// Number of the message, in the order of arrival.
        number: u64,
        /// The request id in the answer.
        request_id: String,
    },
    /// `answer --release` was called: claude is to end while its question waits.
    ReleaseRequested {
        /// Number of the message, in the order of arrival.
        number: u64,
    },
    /// Claude has ended, and its question waits.
    Released {
        /// Number of the request to end claude, in the order of arrival.
        number: u64,
    },
    /// `update` was called: the conditions of admission have changed.
    Updated {
        /// Number of the request, in the order of arrival.
        number: u64,
        /// What the change applies to.
        applied: AppliedTo,
    },
    /// `pause --stop` was called: the job's processes are stopped.
    Frozen {
        /// Number of the request, in the order of arrival.
        number: u64,
        /// Number of stopped processes.
        processes: usize,
    },
    /// `pause --stop` was called, and the job's processes were not stopped.
    FreezeSkipped {
        /// Number of the request, in the order of arrival.
        number: u64,
        /// Why.
        why: FreezeSkip,
    },
    /// The job's processes continue.
    Thawed {
        /// Number of the request, in the order of arrival; 0 if the job is being stopped, or was no
        /// longer paused when its processes had been stopped.
        number: u64,
        /// Milliseconds for which they were stopped.
        frozen_ms: u64,
    },
    /// `interrupt` was called: the turn is to stop.
    InterruptRequested,
    /// A turn ended with a result.
    Turn {
        /// As in the CLI's event.
        subtype: String,
        /// Claude reported an error.
        is_error: bool,
    },
    /// Stdin is held open for background work.
    BackgroundWait {
        /// Number of outstanding tasks.
        tasks: usize,
    },
    /// Claude's stdin was closed: it may end.
    InputClosed,
    /// `kill` was called.
    KillRequested,
    /// The worker received SIGTERM.
    TerminateRequested,
    /// `--timeout` was reached.
    TimedOut,
    /// A signal was sent to claude.
    Signalled {
        /// For example `SIGINT`.
        signal: String,
    },
    /// Claude ended.
    Exited {
        /// How it ended.
        exit: Exit,
        /// The last lines that it wrote to stderr in this attempt, about 1,000 characters at most;
        /// null if there are none, and in events of earlier versions.
        stderr: Option<String>,
    },
    /// The job's remaining processes were ended.
    Swept {
        /// Number of processes that were ended.
        ended: usize,
        /// Number of processes that could not be ended.
        left: usize,
    },
    /// Something could not be written.
    WriteFailed {
        /// The file's name in the job's directory.
        file: String,
        /// Why.
        error: String,
    },
    /// A file of the job was removed or truncated by another program.
    Damaged {
        /// The file's name in the job's directory.
        file: String,
        /// What was done to the file.
        what: String,
    },
    /// The job was found without its worker; the verdict follows from its files.
    Lost,
    /// The job reached its verdict.
    Finished {
        /// The job's status.
        status: Status,
        /// Why the job failed.
        reason: Option<Reason>,
    },
}
