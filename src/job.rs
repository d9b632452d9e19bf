//! Types of a job: its id, its request ([`Spec`]), its record ([`Record`]), its [`Status`] and its
//! [`Verdict`].
//!
//! Pure: nothing in this module reads a file, a clock or a process.

mod engine;
mod event_log;
mod filter;
mod hint;
mod id;
mod inbox_message;
mod leftovers;
mod login;
mod notification;
mod openclaw;
mod outcome;
mod question;
mod queue_options;
mod record;
mod spans;
mod spec;
mod status;
mod status_view;
mod summary;
mod timestamp;
mod waiting;
mod work_time;
mod worktree;

pub(crate) use engine::{EngineKind, EngineOptions, EngineRef, SUBMISSION};
pub(crate) use event_log::{EventKind, EventLine, FreezeSkip, WaitReason};
pub(crate) use filter::Filter;
pub(crate) use hint::{
    HintFacts, ToolAccess, bounded_wait, followed_by, full_status, hint, unpause, wait,
};
pub(crate) use id::JobId;
pub(crate) use inbox_message::{InboxMessage, TurnEnd, UndeliveredMessage};
pub(crate) use leftovers::{LeftProcess, LeftReason, Leftovers};
pub(crate) use login::{LimitMet, Login, ModelFamily, UNKNOWN_LOGIN_LIMIT};
pub(crate) use notification::{Notification, NotifyEvent, WakeTarget, recipients};
pub(crate) use openclaw::{AgentSession, Chat, OpenClawCommand, OpenClawRecipients};
pub(crate) use outcome::{Outcome, PreviousResult};
#[cfg(test)]
pub(crate) use question::Choice;
pub(crate) use question::{
    Question, allow_response, denied, denied_by_person, parse_questions, truncate_all,
};
pub(crate) use queue_options::{AppliedTo, QueueChange, QueueOptions};
pub(crate) use record::{
    Activity, Blocked, Detached, Detachment, EndState, Exit, FORMAT_VERSION, Record,
    ReleasedQuestion, TurnFailure, deserialize_known_reason, failures_in_row,
};
pub(crate) use spans::{Phase, Span, TimelineEvent, merge_short, spans};
pub(crate) use spec::{
    AskOptions, ClaudeOptions, FailOn, KeepAliveOptions, Limits, NotifyOptions, Replay,
    RetryOptions, SessionOptions, Spec, SpecChange,
};
pub(crate) use status::{Reason, Status, Verdict};
pub(crate) use status_view::StatusView;
pub(crate) use summary::Summary;
pub(crate) use timestamp::{Timestamp, milliseconds};
pub(crate) use waiting::{WaitKind, WaitingFor};
pub(crate) use work_time::{Lifetime, WorkTime};
pub(crate) use worktree::{
    BRANCH_PREFIX, ChangedFile, PREPARATION_FAILED, Worktree, WorktreeRequest, WorktreeView,
    branch_part, short_hash,
};
