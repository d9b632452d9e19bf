//! Claude's wire format, `--output-format stream-json`: a line is an event ([`decode`]), events
//! fold into a [`Digest`], and read as a conversation they are a [`transcript`].
//!
//! Pure, and bounded: no function here keeps more of a line than is said beside it, whatever
//! claude prints.

mod digest;
mod event;
mod lines;
mod mend;
mod reset_time;
mod scan;
mod schedule;
pub mod transcript;
mod wire;

pub use digest::{Answer, Change, Digest};
pub use event::{Block, Event, McpServer, TurnResult, Words, decode};
pub use lines::{Line, LineSplitter};
pub use mend::{from_json, mended, repaired};
pub use reset_time::{is_spend_limit, reset_time};
pub use schedule::LATE;
