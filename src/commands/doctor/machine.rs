//! Checks of the machine: open files, the clock and the system.

use std::io;

use super::{Check, Named};
use crate::job::Timestamp;

/// Open files that a job may need.
const MIN_OPEN_FILES: u64 = 256;
/// The beginning of 2024, in milliseconds. A clock before that was never set.
const MIN_CLOCK_MS: i64 = 1_704_067_200_000;

/// Checks the limit of open files; `None` if there is none.
pub(super) fn open_files(max: Option<u64>) -> Check {
    match max {
        None => Check::ok("open_files", "not limited"),
        Some(max) if max < MIN_OPEN_FILES => Check::warning(
            "open_files",
            format!("at most {max}, which may be too few"),
            "ulimit -n 4096, or LimitNOFILE= of the service",
        ),
        Some(max) => Check::ok("open_files", format!("at most {max}")),
    }
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

/// Says what does not hold on a system other than Linux, or without pidfds; `None` if everything
/// holds. `has_pidfds` is whether a process can be opened as one, or why it cannot be opened at all.
pub(super) fn system(os: &str, has_pidfds: io::Result<bool>) -> Option<Check> {
    match has_pidfds {
        Err(error) => {
            let detail = format!("no process can be opened ({error}): jobs cannot be killed");
            let hint = "mount /proc; in a container, allow pidfd_open in its seccomp profile";
            return Some(Check::error("system", detail, hint));
        }
        Ok(true) if os == "linux" => return None,
        Ok(false) if os == "linux" => {
            let detail = "no pidfds (Linux before 5.3, or forbidden): a process is checked \
                immediately before its number is signalled, and checked for its end 5 times a second \
                or more";
            return Some(Check::ok("system", detail));
        }
        Ok(_) => {}
    }
    let detail = format!(
        "{os} is not tested, and has no parent-death signal, subreaper, pidfd or scope: if a worker \
         is killed with SIGKILL, its claude may continue; a process of a job that has left its \
         parents is not found; logs --merged shows stderr first"
    );
    let hint = "end jobs with claudejob kill; after a crash run claudejob list, then \
        claudejob recover --all";
    Some(Check::warning("system", detail, hint))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn warns_about_low_limits() {
        for (max, level) in [(None, Level::Ok), (Some(255), Level::Warning), (Some(256), Level::Ok)]
        {
            assert_eq!(open_files(max).level, level, "{max:?}");
        }
    }

    #[test]
    fn says_what_does_not_hold_elsewhere() {
        assert!(system("linux", Ok(true)).is_none());
        assert_eq!(system("linux", Ok(false)).unwrap().level, Level::Ok);
        let check = system("macos", Ok(false)).unwrap();
        assert_eq!(check.level, Level::Warning);
        assert!(check.detail.ends_with("stderr first"), "not shortened: {}", check.detail);
        let no_proc = io::Error::from_raw_os_error(nix::libc::ENOENT);
        assert_eq!(system("linux", Err(no_proc)).unwrap().level, Level::Error);
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
