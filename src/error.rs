//! Errors that a caller sees: message, stable code, hint and exit status.

use std::path::PathBuf;

use crate::job::{JobId, Status};
use crate::launch::LaunchError;
use crate::store::{LoadError, StoreError};
use crate::text::dollars;

/// Status in the answer for a job that does not exist.
pub(crate) const NOT_FOUND: &str = "not_found";

/// Exit statuses of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// The operation succeeded, or the awaited job completed.
    Done = 0,
    /// The operation or the awaited job failed.
    Failed = 1,
    /// Invalid arguments.
    Usage = 2,
    /// The awaited job was killed.
    Killed = 3,
    /// The job does not exist.
    NotFound = 4,
    /// The awaited job is blocked: it needs an answer.
    Blocked = 5,
    /// The same call may succeed later: no slot was free, or the awaited job met a limit, an
    /// overload or a lost connection. `EX_TEMPFAIL` of sysexits.h.
    TryAgain = 75,
    /// The wait timed out; the job continues. The same status as timeout(1).
    TimedOut = 124,
}

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Invalid arguments that the parser cannot detect.
    #[error("{0}")]
    Usage(String),
    /// Not a valid job id.
    #[error("invalid job id '{}'", .0.escape_debug())]
    InvalidJobId(String),
    /// A query of the sidecar has an empty `sessionId`.
    #[error("the sessionId is empty")]
    EmptySessionId,
    /// The job does not exist.
    #[error("no job named '{0}'")]
    NotFound(String),
    /// The id is in use.
    #[error("job '{0}' already exists")]
    Exists(String),
    /// A query of the sidecar is for a job that is working.
    #[error(
        "job {0} is {1}: it accepts a query when it has ended or is idle, and a message at any time"
    )]
    SessionActive(String, Status),
    /// The prompt is empty.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt contains a NUL character.
    #[error("the prompt contains a NUL character at byte {0}")]
    PromptHasNul(usize),
    /// The prompt is not UTF-8.
    #[error("the prompt is not valid UTF-8 at byte {0}")]
    PromptNotUtf8(usize),
    /// The prompt could not be read.
    #[error("could not read the prompt from {0}: {1}")]
    PromptUnreadable(String, std::io::Error),
    /// The prompt is longer than claude accepts.
    #[error("the prompt is longer than {0} bytes")]
    PromptTooLong(usize),
    /// The working directory cannot be used.
    #[error("invalid working directory '{0}': {1}")]
    BadCwd(PathBuf, String),
    /// No `claude` can be run.
    #[error("{0}")]
    ClaudeNotFound(String),
    /// Claude has no credentials.
    #[error("claude has no credentials to log in with")]
    NotLoggedIn,
    /// Claude refuses to run as root.
    #[error("claude refuses to skip permission checks as root")]
    RootNeedsSandbox,
    /// A recorded stream cannot be read.
    #[error("could not read the recording '{0}': {1}")]
    BadRecording(PathBuf, std::io::Error),
    /// The disk is full.
    #[error("no space left for a job: {0}")]
    NoSpace(#[source] StoreError),
    /// The jobs directory belongs to another user or must not be used.
    #[error("could not use the jobs directory: {0}")]
    Denied(#[source] StoreError),
    /// Any other error of the jobs directory.
    #[error("could not use the jobs directory: {0}")]
    Store(#[source] StoreError),
    /// A job's record is damaged.
    #[error("could not read the record of job {0}: {1}")]
    Unreadable(String, String),
    /// The file system of the jobs directory does not support file locks.
    #[error("the file system of the jobs directory does not support locks: {0}")]
    NoLocks(#[source] StoreError),
    /// A systemd scope was requested and is not available.
    #[error("cannot run the job in a systemd scope: {0}")]
    NoScope(String),
    /// A memory limit was requested and is not available.
    #[error("cannot limit the job's memory: {0}")]
    NoMemoryLimit(String),
    /// Another process holds a lock and makes no progress.
    #[error("blocked by another process: {0}")]
    Busy(String),
    /// No slot is free for a job with `--no-queue`.
    #[error("no free slot: {0}")]
    NoSlot(String),
    /// A dependency of the job does not exist.
    #[error("no job named '{0}' to wait for")]
    UnknownDependency(String),
    /// Jobs would wait for each other.
    #[error("job '{0}' would wait for itself through job '{1}'")]
    DependencyCycle(String, String),
    /// Jobs with the same labels have spent the budget.
    #[error(
        "budget exceeded: {} of {} spent in the last {over} by {by}",
        dollars(*.spent),
        dollars(*.budget),
    )]
    BudgetExceeded {
        /// US dollars spent.
        spent: f64,
        /// US dollars allowed.
        budget: f64,
        /// Period of the budget, as text.
        over: String,
        /// The jobs that count, as text.
        by: String,
    },
    /// The URL of `--wake-url` is not supported.
    #[error("invalid wake URL '{url}': {1}", url = .0.escape_debug())]
    BadWakeUrl(String, String),
    /// The token for `--wake-url` is missing or invalid.
    #[error("no token for the wake URL: {0}")]
    BadWakeToken(String),
    /// The job has no such open request.
    #[error("cannot answer job {0}: {1}")]
    NothingAsked(String, String),
    /// The answer does not fit the question.
    #[error("{0}")]
    WrongAnswer(String),
    /// The job is not kept alive, so there is nothing to finish.
    #[error("cannot finish job {0}: {1}")]
    NotKeptAlive(String, String),
    /// The message is empty.
    #[error("the message is empty")]
    EmptyMessage,
    /// The message is too long.
    #[error("the message is longer than {0} bytes")]
    MessageTooLong(usize),
    /// The inbox of the job is closed: it has ended, or is about to.
    #[error("job {0} accepts no more requests: it is {1}")]
    JobEnded(String, String),
    /// The job ended and was removed before it received the message.
    #[error("job {0} has ended and was removed")]
    JobRemoved(String),
    /// The job's conversation cannot be continued.
    #[error("cannot resume job {0}: {1}")]
    NotResumable(String, String),
    /// Claude's file of the job's conversation is gone.
    #[error("the conversation of job {id} is gone: {file} does not exist")]
    SessionGone {
        /// The job's id.
        id: String,
        /// Path of the missing file.
        file: String,
        /// `recover` accepts the job and starts again from the prompt.
        recoverable: bool,
    },
    /// The given conversation is not the job's.
    #[error(
        "resumeSessionId '{given}' is not the conversation of job {0}: omit it, or use another sessionId",
        given = .1.escape_debug()
    )]
    SessionMismatch(String, String),
    /// The job does not need recovery.
    #[error("cannot recover job {0}: {1}")]
    NotRecoverable(String, String),
    /// Another machine may be running the job.
    #[error("job {0} runs on host {1} according to its record, which cannot be checked from here")]
    OtherHost(String, String),
    /// The worker or claude could not be started.
    #[error("could not start job {id}: {why}")]
    Launch {
        /// The id of the job, which exists and has failed.
        id: String,
        /// Cause of the failure.
        why: String,
    },
    /// The offset is beyond the end of the log.
    #[error("offset {offset} is beyond the end of the log ({length} bytes)")]
    BadOffset {
        /// The requested offset in bytes.
        offset: u64,
        /// The length of the log in bytes.
        length: u64,
    },
    /// A job's process could not be signalled.
    #[error("could not signal the worker of job {0}: {1}")]
    Signal(String, std::io::Error),
    /// The output file cannot be created or must not be replaced.
    #[error("could not write '{0}': {1}")]
    BadTarget(PathBuf, String),
    /// The output file could not be written.
    #[error("could not write '{0}': {1}")]
    NotWritten(PathBuf, #[source] std::io::Error),
    /// An answer could not be written.
    #[error("could not write the answer: {0}")]
    Output(#[source] std::io::Error),
    /// The job was started, but the answer of `start` could not be written.
    #[error("job {0} was started and is {1}, but the answer could not be written: {2}")]
    StartNotReported(String, String, #[source] std::io::Error),
}

impl Error {
    /// Returns the stable code, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::InvalidJobId(_) | Self::EmptySessionId => "invalid_job_id",
            Self::NotFound(_) => NOT_FOUND,
            Self::Exists(_) | Self::SessionActive(..) => "job_exists",
            Self::EmptyPrompt => "empty_prompt",
            Self::PromptHasNul(_) => "prompt_has_nul",
            Self::PromptNotUtf8(_) => "prompt_not_utf8",
            Self::PromptUnreadable(..) => "prompt_unreadable",
            Self::PromptTooLong(_) => "prompt_too_long",
            Self::BadCwd(..) => "bad_cwd",
            Self::ClaudeNotFound(_) => "claude_not_found",
            Self::NotLoggedIn => "not_logged_in",
            Self::RootNeedsSandbox => "root_needs_sandbox",
            Self::BadRecording(..) => "bad_recording",
            Self::NoSpace(_) => "no_space",
            Self::Denied(_) => "jobs_dir_denied",
            Self::Store(_) => "jobs_dir_error",
            Self::Unreadable(..) => "record_unreadable",
            Self::NoLocks(_) => "no_locks",
            Self::NoScope(_) => "no_scope",
            Self::BadWakeUrl(..) | Self::BadWakeToken(_) => "bad_wake_url",
            Self::NoMemoryLimit(_) => "no_memory_limit",
            Self::Busy(_) => "busy",
            Self::NoSlot(_) => "no_slot",
            Self::UnknownDependency(_) => "unknown_dependency",
            Self::DependencyCycle(..) => "dependency_cycle",
            Self::BudgetExceeded { .. } => "budget_exceeded",
            Self::NotRecoverable(..) => "not_recoverable",
            Self::NotKeptAlive(..) => "not_kept_alive",
            Self::NothingAsked(..) => "nothing_asked",
            Self::WrongAnswer(_) => "wrong_answer",
            Self::EmptyMessage => "empty_message",
            Self::MessageTooLong(_) => "message_too_long",
            Self::JobEnded(..) | Self::JobRemoved(_) => "job_ended",
            Self::NotResumable(..) => "not_resumable",
            Self::OtherHost(..) => "other_host",
            Self::SessionGone { .. } => "session_gone",
            Self::SessionMismatch(..) => "session_mismatch",
            Self::Launch { .. } => "launch_failed",
            Self::BadOffset { .. } => "bad_offset",
            Self::Signal(..) => "signal_failed",
            Self::BadTarget(..) => "bad_target",
            Self::NotWritten(..) => "write_failed",
            Self::Output(_) | Self::StartNotReported(..) => "output_failed",
        }
    }

    /// Returns what to do about the error.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(_) => "claudejob --help  # or: claudejob VERB --help",
            Self::InvalidJobId(_) => {
                "use a letter or digit, then at most 127 letters, digits, '.', '_' or '-'"
            }
            Self::EmptySessionId => "give each session its own id",
            Self::NotFound(_) | Self::JobRemoved(_) => "claudejob list --all",
            Self::Exists(id) => {
                return Some(format!(
                    "claudejob status {id}  # or use another id; --if-absent returns this job"
                ));
            }
            Self::EmptyPrompt => "use --prompt TEXT, --prompt-file FILE or --prompt - (stdin)",
            Self::PromptHasNul(_) | Self::PromptNotUtf8(_) => "use plain UTF-8 text",
            Self::PromptUnreadable(..) | Self::BadRecording(..) => "check the path",
            Self::BadCwd(..) => "set --cwd to an existing directory",
            Self::ClaudeNotFound(_) => {
                "npm install -g @anthropic-ai/claude-code, or set its path with --claude or \
                 CLAUDE_SKILL_CLAUDE"
            }
            Self::NotLoggedIn => {
                "run claude and /login once as this user, or set ANTHROPIC_API_KEY or \
                 CLAUDE_CODE_OAUTH_TOKEN"
            }
            Self::RootNeedsSandbox => {
                "use another user or --permission-mode acceptEdits, or set IS_SANDBOX=1 if this \
                 machine is a sandbox"
            }
            Self::NoSpace(_) => "free some space, or use another directory with --jobs-dir",
            Self::Denied(_) => "use a directory of your own with --jobs-dir",
            Self::NoLocks(_) => "use a directory on a local disk with --jobs-dir",
            Self::NoScope(_) => "use --detach auto, which falls back to a session",
            Self::NothingAsked(id, _) => {
                return Some(format!("claudejob status {id}  # shows its open requests"));
            }
            Self::NotKeptAlive(id, _) => {
                return Some(format!("claudejob wait {id}  # or: claudejob kill {id}"));
            }
            Self::WrongAnswer(_) => {
                "claudejob list --status blocked  # status ID --full shows the whole request"
            }
            Self::EmptyMessage => "give --message TEXT, --message-file FILE or --message - (stdin)",
            Self::PromptTooLong(_) => "write it to a file and refer to that file in the prompt",
            Self::MessageTooLong(_) => "write it to a file and refer to that file in the message",
            Self::JobEnded(id, _) => {
                return Some(format!("claudejob resume {id}  # --message TEXT adds instructions"));
            }
            Self::SessionGone { id, recoverable: true, .. } => {
                return Some(format!("claudejob recover {id}  # starts again from the prompt"));
            }
            Self::SessionGone { id, .. } => {
                return Some(format!(
                    "claudejob result {id}  # the conversation is gone: start a new job"
                ));
            }
            Self::NotRecoverable(id, _)
            | Self::NotResumable(id, _)
            | Self::SessionActive(id, _)
            | Self::SessionMismatch(id, _) => {
                return Some(format!("claudejob status {id}"));
            }
            Self::OtherHost(id, host) => {
                return Some(format!(
                    "claudejob status {id}  # run this on {host}; if that machine is gone for good, \
                     repeat the command with --force-host"
                ));
            }
            Self::BadWakeUrl(..) => {
                "use http://HOST:PORT/hooks/wake; for https use --on-event with curl"
            }
            Self::BadWakeToken(_) => {
                "set the variable named by --wake-token-env to the token alone"
            }
            Self::NoMemoryLimit(_) => {
                "--memory-max needs a systemd scope: a running systemd and control groups"
            }
            Self::NoSlot(_) => "omit --no-queue to wait for a slot",
            Self::Busy(_) => {
                "continue that process (kill -CONT PID) or end it, then repeat the command; \
                 if the disk is full, free some space"
            }
            Self::UnknownDependency(_) => "claudejob list --all",
            Self::DependencyCycle(..) => "use another id, or wait for fewer jobs",
            Self::BudgetExceeded { .. } => "start it later, or use a larger --budget-usd",
            Self::BadOffset { .. } => "use a nextOffset that claudejob logs returned for this log",
            Self::BadTarget(..) => {
                "use a new file or an existing regular file, in a directory that exists"
            }
            Self::Launch { id, .. } => {
                return Some(format!("claudejob logs {id} --stderr"));
            }
            Self::Store(_) => "check that path, or use another directory with --jobs-dir",
            Self::Unreadable(..) => {
                "claude's output is in the job's output.log; if you do not need it, remove the \
                 job's directory"
            }
            Self::NotWritten(..) => "check that path and its free space",
            Self::StartNotReported(id, ..) => return Some(format!("claudejob status {id}")),
            Self::Signal(..) | Self::Output(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// Returns the exit status of the program.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_) => ExitStatus::Usage,
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::NoSlot(_) | Self::Busy(_) => ExitStatus::TryAgain,
            _ => ExitStatus::Failed,
        }
    }

    /// Converts an error of launching job `id`.
    pub(crate) fn from_launch_error(id: &JobId, error: &LaunchError) -> Self {
        Self::Launch { id: id.to_string(), why: error.to_string() }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotFound(id) => Self::NotFound(id.to_string()),
            LoadError::Unreadable { id, why, .. } => Self::Unreadable(id.to_string(), why),
            LoadError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        use std::io::ErrorKind;
        if error.is_without_locks() {
            return Self::NoLocks(error);
        }
        match error.source.kind() {
            _ if error.is_full() => Self::NoSpace(error),
            ErrorKind::ResourceBusy if error.operation == "lock" => Self::Busy(error.to_string()),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(error),
            _ => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_errors_have_hints() {
        let io = || std::io::Error::from(std::io::ErrorKind::Other);
        let path = || PathBuf::from("/jobs/a/meta.json");
        let store = StoreError { operation: "read", path: path(), source: io() };
        for (error, code, hint) in [
            (
                Error::Unreadable("a".to_owned(), "torn".to_owned()),
                "record_unreadable",
                "output.log",
            ),
            (Error::NotWritten(path(), io()), "write_failed", "space"),
            (Error::Store(store), "jobs_dir_error", "--jobs-dir"),
        ] {
            let hint_text = error.hint().unwrap_or_default();
            assert!(error.code() == code && hint_text.contains(hint), "{error}: {hint_text}");
        }
    }
}
