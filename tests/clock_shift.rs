//! A library to be preloaded (`LD_PRELOAD`, ld.so(8)): the time of day is off by as many seconds
//! as the file named by `CLOCK_SHIFT` says at that moment; the monotonic clock is as it was.

#![cfg(target_os = "linux")]

use nix::libc::{self, c_int, c_long, clockid_t, timespec};

/// clock_gettime(2) with the time of day shifted.
///
/// # Safety
/// As the function that it stands for: `time` must be valid to be written.
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
