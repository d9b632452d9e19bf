//! What the worker did and saw, as numbered lines of `events.ndjson`.

use serde::Serialize;

use super::{Exit, Reason, Status, Timestamp};

/// One line of `events.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// 1 for a job's first line, one more for each further line.
    pub seq: u64,
    /// When it happened; only `seq` gives the order.
    pub at: Timestamp,
    /// Which attempt it belongs to.
    pub attempt: u32,
    /// The event; its fields are beside these.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What a queued job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// A slot.
    Slot,
    /// The end of other jobs.
    Jobs,
    /// Its start time.
    Time,
}

/// An event in a job's life.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Happening {
    /// The worker has started and holds the lock.
    Started {
        /// The worker's process id.
        pid: i32,
    },
    /// The job was queued.
    Queued {
        /// What it waits for.
        waits_for: Obstacle,
    },
    /// The job was admitted: its claude may start.
    Admitted,
    /// Claude is started again after a failure that may pass.
    Retrying {
        /// How that attempt ended.
        after: Option<Reason>,
        /// Milliseconds until the next attempt.
        after_ms: u64,
    },
    /// A wake-up or cron task that the agent scheduled is awaited.
    WakeupWait {
        /// When the next one is due, where that is known.
        until: Option<Timestamp>,
    },
    /// Nothing was heard for half the time that is allowed.
    Silent {
        /// Milliseconds of silence.
        for_ms: u64,
    },
    /// Nothing was heard for too long.
    Stalled,
    /// A job that this one waits for did not complete.
    DependencyFailed {
        /// Which, and how it ended.
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
    /// Another attempt begins, because the one before was cut off.
    Recovered {
        /// How that one ended.
        after: Option<Reason>,
        /// Claude continues its conversation; otherwise it gets the prompt again.
        resumes: bool,
    },
    /// Another attempt begins with the prompt: claude does not know the conversation any more.
    StartedOver,
    /// Claude could not be run.
    LaunchFailed {
        /// Why.
        error: String,
    },
    /// The API's limit is being waited for.
    RateLimited {
        /// The CLI's word: `rate_limit` or `overloaded`.
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
    /// A request does not wait for an answer any more.
    Unblocked {
        /// Claude's id of the request.
        request_id: String,
    },
    /// Another attempt begins, because `resume` asked for it.
    Resumed,
    /// A job that is kept alive waits for the next message.
    Idle,
    /// `finish` asked for the job's end.
    FinishRequested,
    /// Claude ended unexpectedly and is started again.
    Restarting {
        /// Milliseconds until the next attempt.
        after_ms: u64,
    },
    /// A message was given to claude.
    MessageSent {
        /// Its place in the order of arrival.
        number: u64,
    },
    /// Claude has taken a message in.
    MessageTaken {
        /// Its place in the order of arrival.
        number: u64,
    },
    /// Something in the inbox was no message.
    MessageRefused {
        /// Its place in the order of arrival.
        number: u64,
        /// Why.
        error: String,
    },
    /// A request was answered.
    Answered {
        /// The answer's place in the order of arrival; 0: nobody's, because the time was over or
        /// the call had been allowed before.
        number: u64,
        /// Claude's id of the request.
        request_id: String,
    },
    /// An answer came to a request that was not open any more.
    AnswerRefused {
        /// Its place in the order of arrival.
        number: u64,
        /// The id that it named.
        request_id: String,
    },
    /// Claude is to be ended while its question waits.
    ReleaseRequested {
        /// Its place in the order of arrival.
        number: u64,
    },
    /// Claude was ended, and its question waits.
    Released {
        /// The place of what asked for it in the order of arrival.
        number: u64,
    },
    /// The turn is to be stopped.
    InterruptRequested,
    /// A turn ended with a result.
    Turn {
        /// The CLI's word.
        subtype: String,
        /// Whether claude calls it an error.
        is_error: bool,
    },
    /// Stdin is held open for background work.
    BackgroundWait {
        /// How many tasks are outstanding.
        tasks: usize,
    },
    /// Stdin was closed: claude may finish.
    InputClosed,
    /// `kill` asked for the job's end.
    KillRequested,
    /// The worker was told to shut down.
    TerminateRequested,
    /// `--timeout` ran out.
    TimedOut,
    /// A signal was sent to claude.
    Signalled {
        /// For example `SIGINT`.
        signal: String,
    },
    /// Claude ended.
    Exited {
        /// How.
        exit: Exit,
        /// The last lines that it wrote to stderr in this attempt, about 1,000 characters at most;
        /// null if there are none, and in events of earlier versions.
        stderr: Option<String>,
    },
    /// The job's remaining processes were ended.
    Swept {
        /// How many there were.
        ended: usize,
        /// How many could not be ended.
        left: usize,
    },
    /// Something could not be written.
    WriteFailed {
        /// The file's name in the job's directory.
        file: String,
        /// Why.
        error: String,
    },
    /// A file of the job was removed or cut by somebody else.
    Damaged {
        /// The file's name in the job's directory.
        file: String,
        /// What was done to it.
        what: String,
    },
    /// The job was found without its worker; the verdict follows from what was left.
    Lost,
    /// The verdict.
    Finished {
        /// Its status.
        status: Status,
        /// Its reason.
        reason: Option<Reason>,
    },
}
