//! How much of a log one answer contains.

/// Maximum number of bytes that a limited answer reads: much of a stream is not readable text.
const MAX_SCANNED_BYTES: u64 = 16 << 20;
/// Maximum number of bytes that a backward search for a limited answer reads.
const MAX_SEARCHED_BYTES: u64 = 4 << 20;
/// Maximum number of bytes of an unchanged log in one answer, which is held in memory.
const MAX_RAW_BYTES: u64 = 64 << 20;

/// Limits of an answer; without any, all is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// Maximum number of bytes of the log to read.
    pub max_bytes: Option<u64>,
    /// Maximum number of characters of log, as JSON.
    pub max_chars: Option<usize>,
}

impl LogLimits {
    /// Limits for an answer of at most `bound` characters.
    pub(super) fn new(bound: Option<usize>, max_bytes: Option<u64>) -> Self {
        // The other fields of an answer have less than 500 characters, and with a short id less than
        // half of the least bound.
        let max_chars = bound.map(|bound| bound.saturating_sub(500).max(bound / 2));
        Self { max_bytes, max_chars }
    }

    /// Returns the maximum number of characters.
    pub(super) fn chars(self) -> usize {
        self.max_chars.unwrap_or(usize::MAX)
    }

    /// Returns the maximum number of characters of the end of a readable log.
    pub(super) fn end_chars(self) -> usize {
        let bytes = self.max_bytes.and_then(|max| usize::try_from(max).ok());
        self.chars().min(bytes.unwrap_or(usize::MAX))
    }

    /// Returns the maximum number of bytes that are read for readable text.
    pub(super) fn scanned_bytes(self) -> u64 {
        match (self.max_bytes, self.max_chars) {
            (Some(max), _) => max,
            (None, Some(_)) => MAX_SCANNED_BYTES,
            (None, None) => u64::MAX,
        }
    }

    /// Returns the maximum number of bytes that are read backwards for readable text.
    pub(super) fn searched_bytes(self) -> u64 {
        if self == Self::default() { u64::MAX } else { MAX_SEARCHED_BYTES }
    }

    /// Returns the maximum number of bytes of an unchanged log.
    pub(super) fn raw_bytes(self) -> u64 {
        let chars = self.max_chars.and_then(|max| u64::try_from(max).ok());
        self.max_bytes.or(chars).unwrap_or(u64::MAX).min(MAX_RAW_BYTES)
    }
}
