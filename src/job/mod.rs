//! Types of a job: its id, its request ([`Spec`]), its record ([`Record`]), its [`Status`] and its
//! [`Verdict`].
//!
//! Pure: nothing in this module reads a file, a clock or a process.

mod admission;
mod directive;
mod hint;
mod id;
mod journal;
mod leftovers;
mod login;
mod milestone;
mod outcome;
mod question;
mod record;
mod segments;
mod spec;
mod standing;
mod status;
mod summary;
mod timestamp;
mod waiting;

pub use admission::Admission;
pub use directive::{Directive, TurnEnd, Undelivered};
pub use hint::{HintFacts, full_status, hint};
pub use id::JobId;
pub use journal::{Entry, Happening, Obstacle};
pub use leftovers::{LeftProcess, Leftovers, WhyLeft};
pub use login::{LimitMet, Login, ModelFamily, UNKNOWN_LOGIN_LIMIT};
pub use milestone::{Errand, Milestone, Wake};
pub use outcome::{Outcome, PreviousResult};
#[cfg(test)]
pub use question::Choice;
pub use question::{Question, allowed, denied, questions, shortened};
pub use record::{
    Activity, Blocked, Detached, Detachment, Ending, Exit, FORMAT_VERSION, Failure, Record,
    Released, known,
};
pub use segments::{Moment, Phase, Segment, coarse, segments};
pub use spec::{Replay, Spec, SpecChange};
pub use standing::Standing;
pub use status::{Reason, Status, Verdict};
pub use summary::Summary;
pub use timestamp::{Timestamp, milliseconds};
pub use waiting::{WaitKind, WaitingFor};
