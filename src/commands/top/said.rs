//! The conversation of the chosen job, which is read as it grows.

use crate::commands::logs::{LogFormat, LogLimits, LogsRequest, logs};
use crate::error::Error;
use crate::job::JobId;
use crate::screen::top::TopInput;
use crate::store::Store;
use crate::stream::transcript::TranscriptLine;

/// Number of entries from the end that are read at first.
const FIRST_ENTRIES: usize = 200;
/// Maximum number of bytes that are read at once, unless a line is longer.
const PART_BYTES: u64 = 1 << 20;
/// Limits of a part. With a limit of characters, very long messages are shortened.
const LIMITS: LogLimits = LogLimits { max_bytes: Some(PART_BYTES), max_chars: Some(1 << 20) };

/// The conversation of a job up to an offset.
pub(super) struct FollowedConversation {
    pub id: JobId,
    /// Offset in the log up to which it was read.
    offset: u64,
    /// The job had not ended when it was read.
    is_live: bool,
}

impl FollowedConversation {
    /// Reads the end of a job's conversation.
    pub(super) fn read_end(store: &Store, id: &JobId) -> (Self, Vec<TranscriptLine>) {
        let mut conversation = Self { id: id.clone(), offset: 0, is_live: true };
        let request = LogsRequest {
            id: id.clone(),
            tail: FIRST_ENTRIES,
            since: None,
            limits: LIMITS,
            format: LogFormat::Readable,
            merged: false,
            notes_rest: false,
        };
        let mut entries = Vec::new();
        if let Ok(end) = logs(store, &request) {
            conversation.offset = end.next_offset;
            conversation.is_live = end.status.is_live();
            entries = end.passages;
        }
        (conversation, entries)
    }

    /// Reads what is new.
    pub(super) fn read_on(&mut self, store: &Store) -> Option<TopInput> {
        let mut new = Vec::new();
        loop {
            let request = LogsRequest {
                limits: LIMITS,
                ..LogsRequest::from_offset(self.id.clone(), self.offset)
            };
            match logs(store, &request) {
                Ok(part) => {
                    // The verdict takes the place of the end of the last turn.
                    if part.status.is_live() != self.is_live {
                        break;
                    }
                    self.offset = part.next_offset;
                    if !self.is_live {
                        return None;
                    }
                    new.extend(part.passages);
                    if !part.truncated {
                        let has_new = !new.is_empty();
                        return has_new.then(|| TopInput::Said(self.id.clone(), new));
                    }
                }
                // The log was truncated.
                Err(Error::BadOffset { .. }) => break,
                Err(_) => return None,
            }
        }
        let (conversation, entries) = Self::read_end(store, &self.id.clone());
        *self = conversation;
        Some(TopInput::Conversation(self.id.clone(), entries))
    }
}
