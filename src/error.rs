//! Errors that a caller sees: message, stable code, hint and exit status.

mod conversions;
mod hints;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::claude::PERMISSION_MODES;
use crate::job::{Reason, Record, Status};
use crate::store::StoreError;
use crate::text::dollars;
use hints::{bad_cwd_hint, session_gone_hint, with_nearest_mode};

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
    /// Another worker owns the job, and this one, which an engine has started, has left it to that.
    NotOwner = 76,
    /// The wait timed out; the job continues. The same status as timeout(1).
    TimedOut = 124,
    /// The command was left because its terminal is gone (SIGHUP); the job continues. 128 and the
    /// number of the signal, as a shell says.
    HungUp = 129,
    /// The command was left by Ctrl-C (SIGINT); the job continues.
    Left = 130,
    /// The command was left by SIGTERM; the job continues.
    Terminated = 143,
}

impl ExitStatus {
    /// Returns the exit status of the worker of this job.
    pub(crate) fn of_record(record: &Record) -> Self {
        Self::of_job(record.status, record.reason, record.ending.lost_connection)
    }

    /// Returns the exit status of a command that waited for a job, or was its worker. A temporary
    /// failure, such as a lost connection, has its own status, so that callers can retry.
    pub(crate) fn of_job(status: Status, reason: Option<Reason>, lost_connection: bool) -> Self {
        match (status, reason) {
            (Status::Completed, _) => Self::Done,
            (Status::Failed, Some(Reason::RateLimit | Reason::Overloaded)) => Self::TryAgain,
            (Status::Failed, Some(Reason::ApiError)) if lost_connection => Self::TryAgain,
            (Status::Failed, _) => Self::Failed,
            (Status::Killed, _) => Self::Killed,
            (Status::Blocked, _) => Self::Blocked,
            (Status::Queued | Status::Starting | Status::Running | Status::Idle, _) => {
                Self::TimedOut
            }
        }
    }
}

/// Defines an enum of errors, such as [`Error`]. Each error has a stable code for programs, a message, and a hint, which says
/// what to do about it. An empty hint is none.
macro_rules! errors {
    ($(#[$about:meta])* $enum:ident; $(
        $(#[$doc:meta])*
        $name:ident $(($($field:ident: $type:ty),+))? $({$($named:ident: $named_type:ty),+})? =>
        code $code:expr, message($($message:tt)+), hint($($hint:tt)+);
    )+) => {
        $(#[$about])*
        #[derive(Debug)]
        pub(crate) enum $enum {
            $($(#[$doc])* $name $(($($type),+))? $({$($named: $named_type),+})?,)+
        }

        #[allow(unused_variables, reason = "not every text contains every field")]
        impl $enum {
            /// Returns the stable code, for programs.
            pub(crate) fn code(&self) -> &'static str {
                match self {
                    $(Self::$name $(($($field),+))? $({$($named),+})? => $code,)+
                }
            }

            /// Returns what to do about the error.
            pub(crate) fn hint(&self) -> Option<String> {
                let hint = match self {
                    $(Self::$name $(($($field),+))? $({$($named),+})? => format!($($hint)+),)+
                };
                if hint.is_empty() { None } else { Some(hint) }
            }
        }

        #[allow(unused_variables, reason = "not every text contains every field")]
        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name $(($($field),+))? $({$($named),+})? => write!(f, $($message)+),)+
                }
            }
        }
    };
}

mod worktree;
pub(crate) use worktree::WorktreeError;

errors! {
    /// A failed operation.
    Error;
    /// Invalid arguments that the parser cannot detect.
    Usage(text: String) => code "usage", message("{text}"),
        hint("claudejob --help  # or: claudejob COMMAND --help");
    /// Invalid arguments, with the hint for the verb that was called: the command that shows the
    /// help, perhaps with a suggestion.
    Arguments { message: String, hint: String } => code "usage", message("{message}"),
        hint("{hint}");
    /// The verb needs a job, and none was given.
    NoJobGiven => code "usage", message("no job given"),
        hint("claudejob list  # shows the ids");
    /// Not a valid job id.
    InvalidJobId(text: String) => code "invalid_job_id",
        message("invalid job id '{}'", text.escape_debug()),
        hint("use a letter or digit, then at most 127 letters, digits, '.', '_' or '-'");
    /// Not a valid job id, but probably a prompt, which is also given quoted for a shell.
    PromptAsId(text: String, quoted: String) => code "invalid_job_id",
        message("invalid job id '{}'", text.escape_debug()),
        hint("claudejob run {quoted}  # did you mean this?");
    /// The job has no session that could be opened.
    NoSession(id: String) => code "no_session", message("job {id} has no session yet"),
        hint("claudejob status {id}");
    /// A query of the sidecar has an empty `sessionId`.
    EmptySessionId => code "invalid_job_id", message("the sessionId is empty"),
        hint("give each session its own id");
    /// The job does not exist.
    NotFound(id: String) => code NOT_FOUND, message("no job named '{id}'"),
        hint("claudejob list --all");
    /// Several jobs have ids that begin with this name.
    AmbiguousName(name: String, count: usize, ids: String) => code "ambiguous_name",
        message("'{name}' names {count} jobs"), hint("claudejob list  # {ids}");
    /// The verb is for a person at a terminal.
    NotATerminal { verb: &'static str, hint: String } => code "not_a_terminal",
        message("{verb} is for a person at a terminal that can move its cursor"),
        hint("{hint}");
    /// The last job was named, and there is none.
    NoJob => code NOT_FOUND, message("there are no jobs"),
        hint("claudejob run \"PROMPT\"");
    /// The options of a selection match no job.
    NoMatch(options: String) => code "no_match", message("no job matches {options}"),
        hint("claudejob list --all");
    /// The user answered no to the question whether to do this.
    Declined(done: &'static str) => code "declined", message("nothing was {done}"), hint("");
    /// The id is in use.
    Exists(id: String) => code "job_exists", message("job '{id}' already exists"),
        hint("claudejob status {id}  # or use another id; --if-absent returns this job");
    /// A query of the sidecar is for a job that is working.
    SessionActive(id: String, status: Status) => code "job_exists",
        message("job {id} is {status}: it accepts a query when it has ended or is idle, and a \
            message at any time"),
        hint("claudejob status {id}");
    /// The prompt is empty.
    EmptyPrompt => code "empty_prompt", message("the prompt is empty"),
        hint("claudejob run --help  # give a text, -f FILE, or - and a text on stdin");
    /// The verb needs a prompt, and none was given.
    NoPrompt(verb: &'static str) => code "usage", message("no prompt"),
        hint("claudejob {verb} --help  # or: claudejob run \"PROMPT\"");
    /// The prompt was given as several words; here it is quoted for a shell.
    PromptNotQuoted(quoted: String) => code "usage", message("the prompt is one argument"),
        hint("claudejob run {quoted}");
    /// The editor for the prompt failed.
    EditorFailed(editor: String, why: String) => code "editor_failed",
        message("the editor '{}' failed: {why}", editor.escape_debug()),
        hint("claudejob run --help  # or set EDITOR, or give the prompt as an argument");
    /// The signals of this process cannot be handled.
    Signals(error: io::Error) => code "signal_failed",
        message("could not wait for signals: {error}"), hint("");
    /// The prompt contains a NUL character.
    PromptHasNul(at: usize) => code "prompt_has_nul",
        message("the prompt contains a NUL character at byte {at}"),
        hint("use plain UTF-8 text");
    /// The prompt is not UTF-8.
    PromptNotUtf8(at: usize) => code "prompt_not_utf8",
        message("the prompt is not valid UTF-8 at byte {at}"),
        hint("use plain UTF-8 text");
    /// The prompt could not be read.
    PromptUnreadable(from: String, error: io::Error) => code "prompt_unreadable",
        message("could not read the prompt from {from}: {error}"),
        hint("check the path");
    /// The prompt is longer than claude accepts.
    PromptTooLong(max: usize) => code "prompt_too_long",
        message("the prompt is longer than {max} bytes"),
        hint("write it to a file and refer to that file in the prompt");
    /// The working directory cannot be used.
    BadCwd(path: PathBuf, why: String) => code "bad_cwd",
        message("invalid working directory '{}': {why}", path.display()),
        hint("{}", bad_cwd_hint(&path.to_string_lossy()));
    /// The configuration file, or a file that it names, cannot be used.
    BadConfig { place: String, why: String, hint: String } => code "bad_config",
        message("{place}: {why}"), hint("{hint}");
    /// Lines of `start --from` are invalid, or their file.
    BadBatch(text: String) => code "bad_batch", message("{text}"),
        hint("claudejob start --from-schema  # the keys of a line and their types");
    /// No profile has this name; `known` are the names of all profiles.
    UnknownProfile { name: String, known: String } => code "unknown_profile",
        message("no profile named '{}' in the configuration file", name.escape_debug()),
        hint("use one of these profiles: {known}");
    /// The configuration file has no profiles.
    NoProfiles(name: String) => code "unknown_profile",
        message("no profile named '{}': the configuration file has none", name.escape_debug()),
        hint("add [profile.NAME] to ~/.config/claudejob/config.toml");
    /// No `claude` can be run.
    ClaudeNotFound(why: String) => code "claude_not_found", message("{why}"),
        hint("npm install -g @anthropic-ai/claude-code, or set its path with --claude or \
            CLAUDE_SKILL_CLAUDE");
    /// The job's worktree cannot be made.
    Worktree(error: WorktreeError) => code error.code(), message("{error}"),
        hint("{}", error.hint().unwrap_or_default());
    /// Claude has no such permission mode.
    UnknownPermissionMode(mode: String) => code "usage",
        message(
            "invalid value '{}' for '--permission-mode <MODE>': expected {}",
            mode.escape_debug(),
            PERMISSION_MODES.join(", "),
        ),
        hint("{}", with_nearest_mode("claudejob start --help", mode));
    /// Claude has no credentials.
    NotLoggedIn => code "not_logged_in", message("claude has no credentials to log in with"),
        hint("run claude and /login once as this user, or set ANTHROPIC_API_KEY or \
            CLAUDE_CODE_OAUTH_TOKEN");
    /// Claude refuses to run as root.
    RootNeedsSandbox => code "root_needs_sandbox",
        message("claude refuses to skip permission checks as root"),
        hint("use another user or --permission-mode acceptEdits, or set IS_SANDBOX=1 if this \
            machine is a sandbox");
    /// A recorded stream cannot be read.
    BadRecording(path: PathBuf, error: io::Error) => code "bad_recording",
        message("could not read the recording '{}': {error}", path.display()),
        hint("check the path");
    /// The disk is full.
    NoSpace(error: StoreError) => code "no_space", message("no space left for a job: {error}"),
        hint("free some space, or use another directory with --jobs-dir");
    /// The jobs directory belongs to another user or must not be used.
    Denied(error: StoreError) => code "jobs_dir_denied",
        message("could not use the jobs directory: {error}"),
        hint("use a directory of your own with --jobs-dir");
    /// Any other error of the jobs directory.
    Store(error: StoreError) => code "jobs_dir_error",
        message("could not use the jobs directory: {error}"),
        hint("check that path, or use another directory with --jobs-dir");
    /// A job's record is damaged.
    Unreadable(id: String, why: String) => code "record_unreadable",
        message("could not read the record of job {id}: {why}"),
        hint("claude's output is in the job's output.log; if you do not need it, remove the job's \
            directory");
    /// The file system of the jobs directory does not support file locks.
    NoLocks(error: StoreError) => code "no_locks",
        message("the file system of the jobs directory does not support locks: {error}"),
        hint("use a directory on a local disk with --jobs-dir");
    /// A systemd scope was requested and is not available.
    NoScope(why: String) => code "no_scope",
        message("cannot run the job in a systemd scope: {why}"),
        hint("use --detach auto, which falls back to a session");
    /// A memory limit was requested and is not available.
    NoMemoryLimit(why: String) => code "no_memory_limit",
        message("cannot limit the job's memory: {why}"),
        hint("--memory-max needs a systemd scope: a running systemd and control groups");
    /// Another process holds a lock and makes no progress.
    Busy(why: String) => code "busy", message("blocked by another process: {why}"),
        hint("continue that process (kill -CONT PID) or end it, then repeat the command; if the \
            disk is full, free some space");
    /// Another process is delivering the notifications of the job.
    Delivering(id: String, why: String) => code "busy",
        message("the notifications of job {id} are being delivered: {why}"),
        hint("claudejob status {id}  # shows what is left; if that process is stopped, continue it \
            with kill -CONT");
    /// A kill of many jobs had no time for this one. Its worker was asked to end it.
    StillEnding(id: String) => code "busy", message("job {id} is still being ended"),
        hint("claudejob kill {id}");
    /// No slot is free for a job with `--no-queue`.
    NoSlot(why: String) => code "no_slot", message("no free slot: {why}"),
        hint("omit --no-queue to wait for a slot");
    /// A dependency of the job does not exist.
    UnknownDependency(id: String) => code "unknown_dependency",
        message("no job named '{id}' to wait for"),
        hint("claudejob list --all");
    /// Jobs would wait for each other.
    DependencyCycle(id: String, first: String) => code "dependency_cycle",
        message("job '{id}' would wait for itself through job '{first}'"),
        hint("use another id, or wait for fewer jobs");
    /// The job would wait for one that runs elsewhere.
    OtherEngine(id: String) => code "other_engine",
        message("cannot wait for job {id}: only one of the two runs on a cluster"),
        hint("claudejob wait {id}  # then start this one");
    /// The job does not wait in the queue of this program.
    NotInQueue(id: String) => code "not_in_queue",
        message("cannot pause job {id}: it waits in the queue of its cluster"),
        hint("scontrol hold JOB_ID of squeue, or --stop if the job runs");
    /// The engine did not accept the job, which does not exist.
    EngineRefused { id: String, why: String } => code "engine_refused",
        message("could not submit job {id}: {why}"),
        hint("claudejob doctor --on slurm");
    /// The engine does not answer.
    EngineUnavailable { id: String, why: String } => code "engine_unavailable",
        message("the scheduler of job {id} does not answer: {why}"),
        hint("claudejob doctor --on slurm  # or repeat the command later");
    /// Jobs with the same labels have spent the budget; `over` and `by` say in which time and which
    /// jobs.
    BudgetExceeded { spent: f64, budget: f64, over: String, by: String } => code "budget_exceeded",
        message(
            "budget exceeded: {} of {} spent in the last {over} by {by}",
            dollars(*spent),
            dollars(*budget),
        ),
        hint("start it later, or use a larger --budget-usd");
    /// The URL of `--wake-url` is not supported.
    BadWakeUrl(url: String, why: String) => code "bad_wake_url",
        message("invalid wake URL '{}': {why}", url.escape_debug()),
        hint("use http://HOST:PORT/hooks/wake; for https use --on-event with curl");
    /// The token for `--wake-url` is missing or invalid.
    BadWakeToken(why: String) => code "bad_wake_url", message("no token for the wake URL: {why}"),
        hint("set the variable named by --wake-token-env to the token alone");
    /// The value of `--wake` names no agent that can be woken.
    BadWake(text: String, why: String) => code "bad_wake",
        message("invalid agent '{}' in --wake: {why}", text.escape_debug()),
        hint("openclaw sessions  # lists the keys; an agent's own is the word after session= in the \
            Runtime line of its prompt, such as openclaw:agent:main:main");
    /// The `openclaw` command was not found.
    NoOpenClaw(why: String) => code "no_openclaw",
        message("could not find the openclaw command: {why}"),
        hint("claudejob setup openclaw --dry-run  # says what is missing; or set \
            CLAUDE_SKILL_OPENCLAW to the path of the command");
    /// The job has no such open request.
    NothingAsked(id: String, why: String) => code "nothing_asked",
        message("cannot answer job {id}: {why}"),
        hint("claudejob status {id}  # shows its open requests");
    /// The answer does not fit the question.
    WrongAnswer { id: String, why: String } => code "wrong_answer", message("{why}"),
        hint("claudejob status {id} --full  # shows the whole request");
    /// The job is not kept alive, so there is nothing to finish.
    NotKeptAlive(id: String, why: String) => code "not_kept_alive",
        message("cannot finish job {id}: {why}"),
        hint("claudejob wait {id}  # or: claudejob kill {id}");
    /// The job is not queued, or its worker cannot change its place.
    NotQueued(id: String, why: String) => code "not_queued",
        message("cannot update job {id}: {why}"),
        hint("claudejob list --status queued");
    /// The job's processes were not frozen.
    NotFrozen(id: String, why: String) => code "not_frozen",
        message("job {id} is not frozen: {why}"),
        hint("claudejob status {id}");
    /// The message is empty.
    EmptyMessage => code "empty_message", message("the message is empty"),
        hint("give a text, or - and a text on stdin");
    /// The message is too long.
    MessageTooLong(max: usize) => code "message_too_long",
        message("the message is longer than {max} bytes"),
        hint("write it to a file and refer to that file in the message");
    /// A job that must not be removed is live.
    JobLive(id: String, status: Status) => code "job_live", message("job {id} is {status}"),
        hint("claudejob kill {id}");
    /// A job is kept by a rule, such as a job that waits for it. The hint is empty or a command that
    /// lifts the rule.
    Kept { why: String, hint: String } => code "job_kept", message("{why}"), hint("{hint}");
    /// The inbox of the job is closed: it has ended, or is about to.
    JobEnded(id: String, status: String) => code "job_ended",
        message("job {id} accepts no more requests: it is {status}"),
        hint("claudejob result {id}  # to continue it: claudejob resume {id} --message TEXT");
    /// The job ended and was removed before it received the message.
    JobRemoved(id: String) => code "job_ended", message("job {id} has ended and was removed"),
        hint("claudejob list --all");
    /// The job needs another one that has failed.
    DependencyFailed { id: String, why: String, hint: String } => code "dependency_failed",
        message("cannot resume job {id}: {why}"), hint("{hint}");
    /// The job's conversation cannot be continued.
    NotResumable(id: String, why: String) => code "not_resumable",
        message("cannot resume job {id}: {why}"),
        hint("claudejob status {id}");
    /// The request of the job cannot be used for another job.
    NotRerunnable(id: String, why: String) => code "not_resumable",
        message("cannot rerun job {id}: {why}"),
        hint("claudejob status {id}");
    /// Claude's file of the job's conversation is gone. A `recoverable` job is accepted by `recover`
    /// and starts again from the prompt.
    SessionGone { id: String, file: String, recoverable: bool } => code "session_gone",
        message("the conversation of job {id} is gone: {file} does not exist"),
        hint("{}", session_gone_hint(id, *recoverable));
    /// The given conversation is not the job's.
    SessionMismatch(id: String, given: String) => code "session_mismatch",
        message(
            "resumeSessionId '{}' is not the conversation of job {id}: omit it, or use another \
             sessionId",
            given.escape_debug(),
        ),
        hint("claudejob status {id}");
    /// The job does not need recovery.
    NotRecoverable(id: String, why: String) => code "not_recoverable",
        message("cannot recover job {id}: {why}"),
        hint("claudejob status {id}");
    /// Another machine may be running the job.
    OtherHost(id: String, host: String) => code "other_host",
        message("job {id} runs on host {host} according to its record, which cannot be checked \
            from here"),
        hint("claudejob status {id}  # run this on {host}; if that machine is gone for good, \
            repeat the command with --force-host");
    /// The worker or claude could not be started; the job exists and has failed.
    Launch { id: String, why: String } => code "launch_failed",
        message("could not start job {id}: {why}"),
        hint("claudejob logs {id} --stderr  # a person must remove the cause; then: \
            claudejob resume {id}");
    /// The offset is beyond the end of the log, which has `length` bytes.
    BadOffset { offset: u64, length: u64 } => code "bad_offset",
        message("offset {offset} is beyond the end of the log ({length} bytes)"),
        hint("use a nextOffset that claudejob logs returned for this log");
    /// A job's process could not be signalled.
    Signal(id: String, error: io::Error) => code "signal_failed",
        message("could not signal the worker of job {id}: {error}"),
        hint("");
    /// The output file cannot be created or must not be replaced.
    BadTarget(path: PathBuf, why: String) => code "bad_target",
        message("could not write '{}': {why}", path.display()),
        hint("use a new file or an existing regular file, in a directory that exists");
    /// The output file could not be written.
    NotWritten(path: PathBuf, error: io::Error) => code "write_failed",
        message("could not write '{}': {error}", path.display()),
        hint("check that path and its free space");
    /// An answer could not be written.
    Output(error: io::Error) => code "output_failed",
        message("could not write the answer: {error}"),
        hint("");
    /// The job was started, but the answer of `start` could not be written.
    StartNotReported(id: String, error: io::Error) => code "output_failed",
        message("job {id} was started, but the answer could not be written: {error}"),
        hint("claudejob status {id}");
}

impl Error {
    /// Returns the exit status of the program.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_)
            | Self::NoJobGiven
            | Self::Arguments { .. }
            | Self::NoPrompt(_)
            | Self::EmptyPrompt
            | Self::PromptNotQuoted(_)
            | Self::UnknownPermissionMode(_)
            | Self::AmbiguousName(..)
            | Self::BadBatch(_)
            | Self::BadConfig { .. }
            | Self::UnknownProfile { .. }
            | Self::NoProfiles(_)
            | Self::BadWake(..)
            | Self::NotATerminal { .. } => ExitStatus::Usage,
            Self::NotFound(_) | Self::NoJob | Self::NoMatch(_) => ExitStatus::NotFound,
            Self::NoSlot(_)
            | Self::Busy(_)
            | Self::Delivering(..)
            | Self::StillEnding(_)
            | Self::EngineUnavailable { .. } => ExitStatus::TryAgain,
            _ => ExitStatus::Failed,
        }
    }

    /// Adds the command that shows the help of the verb to an error of its arguments.
    pub(crate) fn with_help(self, help: impl FnOnce() -> String) -> Self {
        match self {
            Self::Usage(message) => Self::Arguments { message, hint: help() },
            Self::NoJobGiven => {
                let hint = format!("{}  # claudejob list shows the ids", help());
                Self::Arguments { message: self.to_string(), hint }
            }
            Self::UnknownPermissionMode(ref mode) => {
                let hint = with_nearest_mode(&help(), mode);
                Self::Arguments { message: self.to_string(), hint }
            }
            error => error,
        }
    }
}
