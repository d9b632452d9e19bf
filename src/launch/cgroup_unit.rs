//! The systemd unit of a process, by its control group, on which the fate of a job depends that is
//! started from it. Pure: the tests' tables contain what was observed; see also systemd.kill(5),
//! systemd.scope(5) and logind.conf(5).

/// Prefix of the names of our scopes.
pub(crate) const SCOPE_PREFIX: &str = "claudejob-";

/// The systemd instance that manages a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    /// The system manager.
    System,
    /// The manager of the user with this id.
    User(u32),
}

/// The innermost unit that contains a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CgroupUnit {
    /// No unit: no systemd, or a container with its own tree.
    Open,
    /// A service: its restart ends all its processes (`KillMode=control-group`, the default).
    Service(String, Manager),
    /// A login session: logind may end its processes at logout (`KillUserProcesses=`).
    Login(String),
    /// The scope of another job.
    Job(String, Manager),
    /// Any other scope, such as a terminal's.
    Scope(String, Manager),
}

impl CgroupUnit {
    /// Parses the path of a control group.
    pub(super) fn from_cgroup(cgroup: &str) -> Self {
        let mut manager = Manager::System;
        let mut unit = Self::Open;
        for part in cgroup.split('/') {
            if let Some(uid) = user_manager(part) {
                manager = Manager::User(uid);
            }
            let name = part.to_owned();
            if part.ends_with(".service") {
                unit = Self::Service(name, manager);
            } else if part.starts_with(SCOPE_PREFIX) && part.ends_with(".scope") {
                unit = Self::Job(name, manager);
            } else if part.starts_with("session-") && part.ends_with(".scope") {
                unit = Self::Login(name);
            } else if part.ends_with(".scope") {
                unit = Self::Scope(name, manager);
            }
        }
        unit
    }
}

/// Returns the user id in `user@UID.service`.
fn user_manager(part: &str) -> Option<u32> {
    part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()
}

/// Returns whether sessions that end take their processes along: the last value of
/// `KillUserProcesses` in the text of logind's files, in the order in which logind reads them.
pub(super) fn kills_user_processes(text: &str) -> bool {
    let mut kills = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=')
            && key.trim() == "KillUserProcesses"
        {
            let value = value.trim().to_ascii_lowercase();
            kills = matches!(value.as_str(), "1" | "yes" | "y" | "true" | "on");
        }
    }
    kills
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_innermost_unit() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (cgroup, unit) in [
            ("/".to_owned(), CgroupUnit::Open),
            ("/docker/0123abcd".to_owned(), CgroupUnit::Open),
            (
                "/system.slice/gw.service".to_owned(),
                CgroupUnit::Service("gw.service".into(), Manager::System),
            ),
            (
                "/system.slice/system-gw.slice/gw@1.service/sub".to_owned(),
                CgroupUnit::Service("gw@1.service".into(), Manager::System),
            ),
            (
                format!("{user}/app.slice/gw.service"),
                CgroupUnit::Service("gw.service".into(), Manager::User(1000)),
            ),
            (
                format!("{user}/app.slice/claudejob-a-1.scope"),
                CgroupUnit::Job("claudejob-a-1.scope".into(), Manager::User(1000)),
            ),
            (
                format!("{user}/app.slice/vte-spawn-1.scope"),
                CgroupUnit::Scope("vte-spawn-1.scope".into(), Manager::User(1000)),
            ),
            (
                format!("{user}/init.scope"),
                CgroupUnit::Scope("init.scope".into(), Manager::User(1000)),
            ),
            (
                "/user.slice/user-1000.slice/session-3.scope".to_owned(),
                CgroupUnit::Login("session-3.scope".into()),
            ),
            (
                "/system.slice/claudejob-b-2.scope".to_owned(),
                CgroupUnit::Job("claudejob-b-2.scope".into(), Manager::System),
            ),
        ] {
            assert_eq!(CgroupUnit::from_cgroup(&cgroup), unit, "{cgroup}");
        }
    }

    #[test]
    fn the_last_of_logind_files_prevails() {
        assert!(!kills_user_processes(""));
        assert!(!kills_user_processes("#KillUserProcesses=yes\n[Login]\n"));
        assert!(kills_user_processes(
            "[Login]\nKillUserProcesses=no\n\n[Login]\nKillUserProcesses = Yes\n"
        ));
        assert!(!kills_user_processes("KillUserProcesses=yes\nKillUserProcesses=no\n"));
    }
}
