//! Claude's wire format, `--output-format stream-json`: each line is an event ([`decode`]). A
//! [`Digest`] summarizes the events, a [`transcript`] shows them as a conversation.
//!
//! Pure and bounded: no function keeps more of a line than it documents, whatever claude prints.

mod digest;
mod event;
mod lines;
mod reset_time;
mod scan;
mod schedule;
pub(crate) mod transcript;
mod wire;

pub(crate) use digest::{Digest, DigestChange, FinalAnswer, LimitChange};
pub(crate) use event::{
    AssistantMessage, Block, Event, LazyText, McpServer, TurnResult, UserMessage, decode,
};
pub(crate) use lines::{Line, LineSplitter};
pub(crate) use reset_time::{is_spend_limit, reset_time};
pub(crate) use schedule::WAKEUP_TIMEOUT;
