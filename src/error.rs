//! What can go wrong in front of a caller: the sentence, the stable code, what to do about it,
//! and the exit status.

use std::path::PathBuf;

use crate::job::Status;
use crate::launch::LaunchError;
use crate::store::{LoadError, StoreError};
use crate::text::dollars;

/// The status of a job that does not exist, in an answer.
pub const NOT_FOUND: &str = "not_found";

/// The exit statuses of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// The operation is done; the job that was waited for completed.
    Done = 0,
    /// The operation, or the job that was waited for, failed.
    Failed = 1,
    /// Invalid arguments.
    Usage = 2,
    /// The job that was waited for was killed.
    Killed = 3,
    /// There is no such job.
    NotFound = 4,
    /// The job that was waited for asks something, and waits for an answer.
    Blocked = 5,
    /// What failed may be repeated unchanged, later: a slot is taken, the job that was waited for
    /// met a limit, an overload or a lost connection. `EX_TEMPFAIL` of sysexits.h.
    TryAgain = 75,
    /// The time of the wait ran out; the job continues. As timeout(1) does it.
    TimedOut = 124,
}

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call's words are off in a way that the parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// The text is no job id.
    #[error("{0:?} is no job id")]
    InvalidJobId(String),
    /// A query of the sidecar names no session.
    #[error("the sessionId is empty: give each session an id of its own")]
    EmptySessionId,
    /// There is no such job.
    #[error("there is no job {0}")]
    NotFound(String),
    /// The id is in use.
    #[error("a job {0} exists already")]
    Exists(String),
    /// A query of the sidecar is for a job that works.
    #[error(
        "job {0} is {1}: it takes a query when it has ended or is idle, and a message at any time"
    )]
    SessionWorks(String, Status),
    /// The prompt says nothing.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt holds a NUL character.
    #[error("the prompt holds a NUL character at byte {0}")]
    PromptHasNul(usize),
    /// The prompt is not UTF-8.
    #[error("the prompt is not UTF-8: byte {0} fits no character")]
    PromptNotUtf8(usize),
    /// The prompt could not be read.
    #[error("could not read the prompt from {0}: {1}")]
    PromptUnreadable(String, std::io::Error),
    /// The prompt is longer than anything that claude takes.
    #[error("the prompt has more than {0} bytes")]
    PromptTooLong(usize),
    /// The working directory is none.
    #[error("{0:?} is no directory to work in: {1}")]
    BadCwd(PathBuf, String),
    /// There is no `claude` to run.
    #[error("{0}")]
    ClaudeNotFound(String),
    /// Claude will find no way to log in.
    #[error("claude has no way to log in")]
    NotLoggedIn,
    /// Claude will refuse to run as root.
    #[error("claude refuses to skip permissions as root")]
    RootNeedsSandbox,
    /// A recorded stream cannot be read.
    #[error("could not read the recording {0:?}: {1}")]
    BadRecording(PathBuf, std::io::Error),
    /// The disk is full.
    #[error("no space is left for a job: {0}")]
    NoSpace(#[source] StoreError),
    /// The jobs directory belongs to another or may not be used.
    #[error("could not use the jobs directory: {0}")]
    Denied(#[source] StoreError),
    /// Anything else about the jobs directory.
    #[error("could not use the jobs directory: {0}")]
    Store(#[source] StoreError),
    /// A job's record cannot be understood.
    #[error("the record of job {0} cannot be read: {1}")]
    Unreadable(String, String),
    /// The file system of the jobs directory cannot lock files.
    #[error("the jobs directory is on a file system without locks: {0}")]
    NoLocks(#[source] StoreError),
    /// A scope was asked for and there can be none.
    #[error("the job cannot be put into a scope: {0}")]
    NoScope(String),
    /// A limit to the memory was asked for and there can be none.
    #[error("the job's memory cannot be limited: {0}")]
    NoMemoryLimit(String),
    /// Another process holds what is needed, and makes no progress.
    #[error("another process is in the way: {0}")]
    Busy(String),
    /// There is no slot for a job that does not want to wait for one.
    #[error("there is no slot: {0}")]
    NoSlot(String),
    /// A job that is to be waited for does not exist.
    #[error("there is no job {0} to wait for")]
    UnknownDependency(String),
    /// Jobs would wait for each other.
    #[error("job {0} would wait for itself, by way of {1}")]
    DependencyCycle(String, String),
    /// Jobs of these labels have spent what they may.
    #[error("{} of {} were spent in the last {over} by {by}", dollars(*.spent), dollars(*.budget))]
    BudgetExceeded {
        /// US dollars that were spent.
        spent: f64,
        /// US dollars that may be.
        budget: f64,
        /// Over how long, fit to be read.
        over: String,
        /// By which jobs, fit to be read.
        by: String,
    },
    /// Whoever is to be woken up cannot be.
    #[error("{0:?} is no URL to wake somebody up by: {1}")]
    BadWakeUrl(String, String),
    /// Whoever is to be woken up would get no token.
    #[error("there is no token to wake somebody up with: {0}")]
    BadWakeToken(String),
    /// The job waits for no such answer.
    #[error("job {0} cannot be answered: {1}")]
    NothingAsked(String, String),
    /// The answer does not fit the question.
    #[error("{0}")]
    WrongAnswer(String),
    /// The job cannot be finished.
    #[error("job {0} cannot be finished: {1}")]
    NotKeptAlive(String, String),
    /// The message says nothing.
    #[error("the message is empty")]
    EmptyMessage,
    /// The message is too long.
    #[error("the message has more than {0} bytes")]
    MessageTooLong(usize),
    /// The job has ended, and hears nothing any more.
    #[error("job {0} has ended: it is {1}")]
    JobEnded(String, String),
    /// The job has ended and is gone, while something was said to it.
    #[error("job {0} has ended, and was removed meanwhile")]
    JobRemoved(String),
    /// The job cannot go on in its conversation.
    #[error("job {0} cannot be resumed: {1}")]
    NotResumable(String, String),
    /// Claude's file of the job's conversation is gone.
    #[error("the conversation of job {id} is gone: there is no {file}")]
    SessionGone {
        /// The job.
        id: String,
        /// The file.
        file: String,
        /// `recover` accepts the job, and begins with the prompt again.
        recoverable: bool,
    },
    /// The caller means another conversation than the job's.
    #[error(
        "resumeSessionId {1:?} is not the conversation of job {0}: leave it out, or use another \
         sessionId"
    )]
    SessionMismatch(String, String),
    /// There is nothing to take up.
    #[error("job {0} cannot be recovered: {1}")]
    NotRecoverable(String, String),
    /// Another machine may be running the job.
    #[error("job {0} runs on {1} as far as is known, which cannot be verified from here")]
    OtherHost(String, String),
    /// The worker or claude could not be started.
    #[error("job {id} could not be launched: {why}")]
    Launch {
        /// The job, which is there and has failed.
        id: String,
        /// Why.
        why: String,
    },
    /// There is nothing at this offset of the log.
    #[error("offset {offset} lies beyond the log's {length} bytes")]
    BadOffset {
        /// The one asked for.
        offset: u64,
        /// The log's length.
        length: u64,
    },
    /// A job's process could not be signalled.
    #[error("could not signal the worker of job {0}: {1}")]
    Signal(String, std::io::Error),
    /// A file cannot be made, or must not be replaced.
    #[error("could not write {0:?}: {1}")]
    BadTarget(PathBuf, String),
    /// A file could not be written.
    #[error("could not write {0:?}: {1}")]
    NotWritten(PathBuf, #[source] std::io::Error),
    /// An answer could not be written.
    #[error("could not write the answer: {0}")]
    Output(#[source] std::io::Error),
    /// The answer of a start could not be written.
    #[error("job {0} was started and is {1}, but the answer could not be written: {2}")]
    StartedUnheard(String, String, #[source] std::io::Error),
}

impl Error {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::InvalidJobId(_) | Self::EmptySessionId => "invalid_job_id",
            Self::NotFound(_) => NOT_FOUND,
            Self::Exists(_) | Self::SessionWorks(..) => "job_exists",
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
            Self::Output(_) | Self::StartedUnheard(..) => "output_failed",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage(_) => "claudejob --help  # or: claudejob VERB --help",
            Self::InvalidJobId(_) => {
                "use a letter or digit, then at most 127 letters, digits, '.', '_' or '-'"
            }
            Self::EmptySessionId => "give each session an id of its own",
            Self::NotFound(_) | Self::JobRemoved(_) => "claudejob list --all",
            Self::Exists(id) => {
                return Some(format!(
                    "claudejob status {id}  # or take another id; --if-absent answers with this job"
                ));
            }
            Self::EmptyPrompt => "give --prompt TEXT, --prompt-file FILE or --prompt - (stdin)",
            Self::PromptHasNul(_) | Self::PromptNotUtf8(_) => "the prompt must be plain UTF-8 text",
            Self::PromptUnreadable(..) | Self::BadRecording(..) => "check the path",
            Self::BadCwd(..) => "give --cwd an existing directory",
            Self::ClaudeNotFound(_) => {
                "npm install -g @anthropic-ai/claude-code, or give its path by --claude or \
                 CLAUDE_SKILL_CLAUDE"
            }
            Self::NotLoggedIn => {
                "run claude and /login once as this user, or set ANTHROPIC_API_KEY or \
                 CLAUDE_CODE_OAUTH_TOKEN"
            }
            Self::RootNeedsSandbox => {
                "use another user, or --permission-mode acceptEdits, or set IS_SANDBOX=1 where \
                 this machine is one"
            }
            Self::NoSpace(_) => "free some space, or name another place by --jobs-dir",
            Self::Denied(_) => "name a directory of your own by --jobs-dir",
            Self::NoLocks(_) => "name a directory on a local disk by --jobs-dir",
            Self::NoScope(_) => "use --detach auto, which does what can be done",
            Self::NothingAsked(id, _) => {
                return Some(format!("claudejob status {id}  # shows what it waits for"));
            }
            Self::NotKeptAlive(id, _) => {
                return Some(format!("claudejob wait {id}  # or: claudejob kill {id}"));
            }
            Self::WrongAnswer(_) => {
                "claudejob list --status blocked  # status ID --full shows the whole request"
            }
            Self::EmptyMessage => "give --message TEXT, --message-file FILE or --message - (stdin)",
            Self::PromptTooLong(_) => "write it into a file and name that in the prompt",
            Self::MessageTooLong(_) => "write it into a file and name that in the message",
            Self::JobEnded(id, _) => {
                return Some(format!("claudejob resume {id}  # --message TEXT says what to do"));
            }
            Self::SessionGone { id, recoverable: true, .. } => {
                return Some(format!("claudejob recover {id}  # begins with the prompt again"));
            }
            Self::SessionGone { id, .. } => {
                return Some(format!(
                    "claudejob result {id}  # the conversation is gone: start a new job"
                ));
            }
            Self::NotRecoverable(id, _)
            | Self::NotResumable(id, _)
            | Self::SessionWorks(id, _)
            | Self::SessionMismatch(id, _) => {
                return Some(format!("claudejob status {id}"));
            }
            Self::OtherHost(id, host) => {
                return Some(format!(
                    "claudejob status {id}  # act on {host}; if that machine is gone for good, \
                     repeat the call with --force-host"
                ));
            }
            Self::BadWakeUrl(..) => {
                "give http://HOST:PORT/hooks/wake; for https use --on-event with curl"
            }
            Self::BadWakeToken(_) => {
                "set the variable that --wake-token-env names to the token alone"
            }
            Self::NoMemoryLimit(_) => {
                "--memory-max needs a systemd scope: a systemd within reach, and control groups"
            }
            Self::NoSlot(_) => "without --no-queue it waits for its turn",
            Self::Busy(_) => {
                "continue that process (kill -CONT PID) or end it, and repeat the call; \
                 if the disk is full, free some space"
            }
            Self::UnknownDependency(_) => "claudejob list --all",
            Self::DependencyCycle(..) => "take another id, or wait for fewer jobs",
            Self::BudgetExceeded { .. } => "start it later, or with a larger --budget-usd",
            Self::BadOffset { .. } => "use a nextOffset that logs gave for this very log",
            Self::BadTarget(..) => {
                "name a new file, or an ordinary one to replace, in a folder that is there"
            }
            Self::Launch { id, .. } => {
                return Some(format!("claudejob logs {id} --stderr"));
            }
            Self::Store(_) => "check that path, or name another directory by --jobs-dir",
            Self::Unreadable(..) => {
                "what claude said is in the job's output.log; if that is not needed any more, \
                 remove the job's directory"
            }
            Self::NotWritten(..) => "check that place, and the space that is left there",
            Self::StartedUnheard(id, ..) => return Some(format!("claudejob status {id}")),
            Self::Signal(..) | Self::Output(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// The exit status that goes with it.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_) => ExitStatus::Usage,
            Self::NotFound(_) => ExitStatus::NotFound,
            Self::NoSlot(_) | Self::Busy(_) => ExitStatus::TryAgain,
            _ => ExitStatus::Failed,
        }
    }

    /// A failed load of the record of job `id`.
    pub fn load(id: &str, error: LoadError) -> Self {
        match error {
            LoadError::NotFound => Self::NotFound(id.to_owned()),
            LoadError::Unreadable { why, .. } => Self::Unreadable(id.to_owned(), why),
            LoadError::Store(error) => error.into(),
        }
    }

    /// A failed launch of job `id`.
    pub fn launch(id: &str, error: &LaunchError) -> Self {
        Self::Launch { id: id.to_owned(), why: error.to_string() }
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
    fn what_is_wrong_with_a_file_comes_with_what_to_do() {
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
            let told = error.hint().unwrap_or_default();
            assert!(error.code() == code && told.contains(hint), "{error}: {told}");
        }
    }
}
