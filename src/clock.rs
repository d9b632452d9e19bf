//! The time of day. Durations are measured with [`std::time::Instant`] where they are needed.

use crate::job::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    Timestamp::new(chrono::Utc::now())
}
