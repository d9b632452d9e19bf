//! The conversation of a job for a person who watches it, part by part as it grows.

use super::{HeldTurn, LogLimits, LogsAnswer, LogsRequest, logs};
use crate::error::Error;
use crate::job::JobId;
use crate::store::Store;
use crate::stream::transcript::TranscriptLine;

/// Maximum number of bytes of the log that are read at once, unless a line is longer.
const PART_BYTES: u64 = 1 << 20;

/// What is left out of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedOptions {
    /// Requests, which are shown where they are answered.
    pub without_requests: bool,
    /// The end of the last turn, until it is known whether the verdict follows.
    pub holds_turns: bool,
}

/// A conversation that is read as it grows.
#[derive(Debug)]
pub(crate) struct ConversationFeed {
    id: JobId,
    /// Offset in the log up to which the conversation was read.
    offset: u64,
    held: HeldTurn,
    options: FeedOptions,
}

impl ConversationFeed {
    /// Begins at an offset in the log.
    pub(crate) fn new(id: JobId, offset: u64, options: FeedOptions) -> Self {
        Self { id, offset, held: HeldTurn::default(), options }
    }

    /// Returns the part that was not read yet, or a part of it if [`LogsAnswer::truncated`]. At the
    /// end of the log of an ended job the verdict is its last passage, each time.
    pub(crate) fn read(&mut self, store: &Store) -> Result<LogsAnswer, Error> {
        let from = LogsRequest::from_offset(self.id.clone(), self.offset);
        let limits = LogLimits { max_bytes: Some(PART_BYTES), max_chars: None };
        let mut part = logs(store, &LogsRequest { limits, ..from })?;
        self.offset = part.next_offset;
        if self.options.without_requests {
            part.passages.retain(|passage| !passage.is_request());
        }
        if self.options.holds_turns && !part.passages.is_empty() {
            self.held.arrange(&mut part);
        }
        Ok(part)
    }

    /// Returns the end of a turn that was held back.
    pub(crate) fn take_held(&mut self) -> Option<TranscriptLine> {
        self.held.take()
    }

    /// Returns the end of a turn that was held back long enough.
    pub(crate) fn take_due(&mut self) -> Option<TranscriptLine> {
        if self.held.is_due() { self.held.take() } else { None }
    }
}
