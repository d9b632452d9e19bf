//! Claude's wire format, `--output-format stream-json`: a line is an event ([`decode`]), events
//! fold into a [`Digest`], and read as a conversation they are a [`transcript`].
//!
//! Pure, and bounded: no function here keeps more of a line than is said beside it, whatever
//! claude prints.

mod digest;
mod event;
mod lines;
mod reset_time;
mod scan;
mod schedule;
mod surrogates;
pub mod transcript;
mod wire;

pub use digest::{Digest, DigestChange, FinalAnswer};
pub use event::{Block, Event, LazyText, McpServer, TurnResult, decode};
pub use lines::{Line, LineSplitter};
pub use reset_time::{is_spend_limit, reset_time};
pub use schedule::LATE;
pub use surrogates::{fix_surrogates, from_json, repair};
