//! Checks of the machine: limits, memory, clock.

use super::place::format_bytes;
use super::{Check, Level, Named};
use crate::job::Timestamp;
use crate::process::machine;

/// Memory of one claude, in bytes.
const CLAUDE_BYTES: u64 = 260_000_000;
/// Open files that a job may need.
const MIN_OPEN_FILES: u64 = 256;
/// Processes and threads that a claude may need.
const MIN_PROCESSES: u64 = 256;
/// The beginning of 2024, in milliseconds. A clock before that was never set.
const MIN_CLOCK_MS: i64 = 1_704_067_200_000;

/// Checks limits and memory.
pub(super) fn checks() -> [Check; 3] {
    [
        limit(
            "open_files",
            machine::open_files(),
            MIN_OPEN_FILES,
            "ulimit -n 4096, or LimitNOFILE= of the service",
        ),
        limit(
            "processes",
            machine::processes(),
            MIN_PROCESSES,
            "ulimit -u 4096, or LimitNPROC= of the service",
        ),
        memory(machine::memory_available()),
    ]
}

fn limit(name: &'static str, max: Option<u64>, enough: u64, hint: &str) -> Check {
    match max {
        None => Check::ok(name, "not limited"),
        Some(max) if max < enough => {
            Check::warning(name, format!("at most {max}, which may be too few"), hint)
        }
        Some(max) => Check::ok(name, format!("at most {max}")),
    }
}

fn memory(available: Option<u64>) -> Check {
    let Some(available) = available else {
        return Check::ok("memory", "available memory unknown");
    };
    let count = available / CLAUDE_BYTES;
    let level = if count < 1 { Level::Warning } else { Level::Ok };
    let detail = format!(
        "{} available, enough for {count} claude{} of {}",
        format_bytes(available),
        if count == 1 { "" } else { "s" },
        format_bytes(CLAUDE_BYTES)
    );
    Check::with_level("memory", level, detail, "stop other programs, or add memory")
}

/// Checks that the clock can be right. `future_dated` names the jobs with times more than a day
/// after `now`; `None` if they are not known.
pub(super) fn clock(now: Timestamp, future_dated: Option<&Named>) -> Check {
    if now.epoch_ms() < MIN_CLOCK_MS {
        let hint = "set the clock: no login is valid at that time";
        return Check::error("clock", now.to_string(), hint);
    }
    match future_dated.filter(|named| named.count > 0) {
        None => Check::ok("clock", now.to_string()),
        Some(named) => {
            let detail = format!("{now}; jobs dated more than a day later: {named}");
            let hint = "check whether the clock was set back: ages and order of jobs are wrong";
            Check::warning("clock", detail, hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_about_low_limits() {
        for (available, level, detail) in [
            (None, Level::Ok, "available memory unknown"),
            (Some(0), Level::Warning, "0 kB available, enough for 0 claudes of 260 MB"),
            (Some(259_999_999), Level::Warning, "259 MB available, enough for 0 claudes of 260 MB"),
            (Some(260_000_000), Level::Ok, "260 MB available, enough for 1 claude of 260 MB"),
            (Some(6_000_000_000), Level::Ok, "6.0 GB available, enough for 23 claudes of 260 MB"),
        ] {
            let check = memory(available);
            assert_eq!((check.level, check.detail.as_str()), (level, detail));
        }
        for (max, level) in [(None, Level::Ok), (Some(255), Level::Warning), (Some(256), Level::Ok)]
        {
            assert_eq!(limit("open_files", max, MIN_OPEN_FILES, "").level, level, "{max:?}");
        }
    }

    #[test]
    fn reports_implausible_clocks() {
        let mut one = Named::default();
        let none = one.clone();
        one.add("j");
        for (now, future_dated, level) in [
            ("1970-01-01T00:00:05Z", None, Level::Error),
            ("2023-12-31T23:59:59.999Z", Some(&one), Level::Error),
            ("2024-01-01T00:00:00Z", None, Level::Ok),
            ("2026-11-20T21:45:12Z", Some(&none), Level::Ok),
            ("2026-11-20T21:45:12Z", Some(&one), Level::Warning),
        ] {
            let check = clock(Timestamp::parse(now).unwrap(), future_dated);
            assert_eq!(check.level, level, "{now}");
        }
    }
}
