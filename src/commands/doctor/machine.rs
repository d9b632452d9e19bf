//! The machine: its limits, its memory, its clock.

use super::place::amount;
use super::{Check, Level, Named};
use crate::job::Timestamp;
use crate::process::machine;

/// Bytes that one claude takes.
const CLAUDE: u64 = 260_000_000;
/// Open files below which a job may run out of them.
const FILES: u64 = 256;
/// Processes and threads below which a claude may be refused one.
const PROCESSES: u64 = 256;
/// The beginning of 2024, in milliseconds: a clock that shows less was never set.
const FIRST: i64 = 1_704_067_200_000;

/// Looks at the limits and the memory.
pub(super) fn checks() -> [Check; 3] {
    [
        limit(
            "open_files",
            machine::open_files(),
            FILES,
            "ulimit -n 4096, or LimitNOFILE= of the service",
        ),
        limit(
            "processes",
            machine::processes(),
            PROCESSES,
            "ulimit -u 4096, or LimitNPROC= of the service",
        ),
        memory(machine::memory_available()),
    ]
}

fn limit(name: &'static str, most: Option<u64>, enough: u64, advice: &str) -> Check {
    match most {
        None => Check::ok(name, "not limited"),
        Some(most) if most < enough => {
            Check::warning(name, format!("at most {most}, which may be too few"), advice)
        }
        Some(most) => Check::ok(name, format!("at most {most}")),
    }
}

fn memory(available: Option<u64>) -> Check {
    let Some(available) = available else {
        return Check::ok("memory", "the system does not tell what is available");
    };
    let fitting = available / CLAUDE;
    let level = if fitting < 1 { Level::Warning } else { Level::Ok };
    let found = format!(
        "{} available: room for {fitting} claude{} of {}",
        amount(available),
        if fitting == 1 { "" } else { "s" },
        amount(CLAUDE)
    );
    Check::at("memory", level, found, "end something else first, or give the machine more")
}

/// Whether the clock can be right. `ahead` is what in the jobs directory is dated more than a day
/// later, where that could be looked at.
pub(super) fn clock(now: Timestamp, ahead: Option<&Named>) -> Check {
    if now.epoch_ms() < FIRST {
        let found = format!("it shows {now}");
        return Check::error("clock", found, "set it: no login is valid at such a time");
    }
    match ahead.filter(|ahead| ahead.count > 0) {
        None => Check::ok("clock", now.to_string()),
        Some(ahead) => {
            let found = format!("it shows {now}; dated more than a day later: {ahead}");
            Check::warning("clock", found, "see whether it was set back: ages and orders are off")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_is_warned_of() {
        for (available, level, found) in [
            (None, Level::Ok, "the system does not tell what is available"),
            (Some(0), Level::Warning, "0 kB available: room for 0 claudes of 260 MB"),
            (Some(259_999_999), Level::Warning, "259 MB available: room for 0 claudes of 260 MB"),
            (Some(260_000_000), Level::Ok, "260 MB available: room for 1 claude of 260 MB"),
            (Some(6_000_000_000), Level::Ok, "6.0 GB available: room for 23 claudes of 260 MB"),
        ] {
            let check = memory(available);
            assert_eq!((check.level, check.found.as_str()), (level, found));
        }
        for (most, level) in
            [(None, Level::Ok), (Some(255), Level::Warning), (Some(256), Level::Ok)]
        {
            assert_eq!(limit("open_files", most, FILES, "").level, level, "{most:?}");
        }
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_told() {
        let mut ahead = Named::default();
        let none = ahead.clone();
        ahead.add("j");
        for (now, ahead, level) in [
            ("1970-01-01T00:00:05Z", None, Level::Error),
            ("2023-12-31T23:59:59.999Z", Some(&ahead), Level::Error),
            ("2024-01-01T00:00:00Z", None, Level::Ok),
            ("2026-11-20T21:45:12Z", Some(&none), Level::Ok),
            ("2026-11-20T21:45:12Z", Some(&ahead), Level::Warning),
        ] {
            let check = clock(Timestamp::parse(now).unwrap(), ahead);
            assert_eq!(check.level, level, "{now}");
        }
    }
}
