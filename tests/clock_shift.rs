//! A library to be preloaded (`LD_PRELOAD`, ld.so(8)): it shifts the time of day by the number of
//! seconds in the file named by `CLOCK_SHIFT`, read at each call; the monotonic clock stays as it
//! is.

#![cfg(target_os = "linux")]

use nix::libc::{self, c_int, c_long, clockid_t, timespec};

/// clock_gettime(2) with the time of day shifted.
///
/// # Safety
/// As for the function that this one replaces: `time` must be valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are the caller's own.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock as c_long, time) } as c_int;
    if done == 0
        && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE)
        && let Some(seconds) = shift()
    {
        // SAFETY: the call above has just written it.
        unsafe { (*time).tv_sec += seconds };
    }
    done
}

fn shift() -> Option<i64> {
    let file = std::env::var_os("CLOCK_SHIFT")?;
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
