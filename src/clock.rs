//! The time of day. Durations are measured with [`std::time::Instant`] where they are needed.

use crate::job::{Timestamp, milliseconds};

/// Now.
pub fn now() -> Timestamp {
    Timestamp::new(chrono::Utc::now())
}

/// Milliseconds on a clock that never jumps and is the same for every process of this machine
/// since it started (`CLOCK_MONOTONIC`, clock_gettime(2)).
pub fn monotonic_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let since = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    since.map_or(0, milliseconds)
}
