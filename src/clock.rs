//! The wall clock, and a monotonic clock that all processes share. Durations within a process are
//! measured with [`std::time::Instant`].

use std::time::Duration;

use crate::job::{Timestamp, milliseconds};

pub(crate) fn now() -> Timestamp {
    Timestamp::new(chrono::Utc::now())
}

/// Returns the milliseconds of a clock that never jumps and that all processes of the machine
/// share (`CLOCK_MONOTONIC`, clock_gettime(2)). It restarts at a reboot.
pub(crate) fn monotonic_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(time) => milliseconds(time.into()),
        Err(_) => 0,
    }
}

/// Returns the time since the machine's boot, also that for which it was suspended.
pub(crate) fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    clock_gettime(CLOCK).map(Duration::from).unwrap_or_default()
}
