//! Types of a job: its id, its request ([`Spec`]), its record ([`Record`]), its [`Status`] and its
//! [`Verdict`].
//!
//! Pure: nothing in this module reads a file, a clock or a process.

mod event_log;
mod hint;
mod id;
mod inbox_message;
mod leftovers;
mod login;
mod notification;
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

pub use event_log::{EventKind, EventLine, WaitReason};
pub use hint::{HintFacts, full_status, hint};
pub use id::JobId;
pub use inbox_message::{InboxMessage, TurnEnd, UndeliveredMessage};
pub use leftovers::{LeftProcess, LeftReason, Leftovers};
pub use login::{LimitMet, Login, ModelFamily, UNKNOWN_LOGIN_LIMIT};
pub use notification::{Notification, NotifyEvent, WakeTarget};
pub use outcome::{Outcome, PreviousResult};
#[cfg(test)]
pub use question::Choice;
pub use question::{Question, allow_response, denied, parse_questions, truncate_all};
pub use queue_options::QueueOptions;
pub use record::{
    Activity, Blocked, Detached, Detachment, EndState, Exit, FORMAT_VERSION, Record,
    ReleasedQuestion, TurnFailure, deserialize_known_reason,
};
pub use spans::{Phase, Span, TimelineEvent, merge_short, spans};
pub use spec::{Replay, Spec, SpecChange};
pub use status::{Reason, Status, Verdict};
pub use status_view::StatusView;
pub use summary::Summary;
pub use timestamp::{Timestamp, milliseconds};
pub use waiting::{WaitKind, WaitingFor};
