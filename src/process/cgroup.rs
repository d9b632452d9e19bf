//! Control groups in systemd's hierarchy: cgroups(7).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Returns the control group of a process; `None` if it has none.
fn of_process(pid: i32) -> Option<String> {
    read(&format!("/proc/{pid}/cgroup"))
}

/// Returns the control group of this process; `None` if it has none.
pub(crate) fn own() -> Option<String> {
    read("/proc/self/cgroup")
}

fn read(path: &str) -> Option<String> {
    let text = super::procfs::read(path).ok()?;
    Some(systemd_path(&String::from_utf8_lossy(&text))?.to_owned())
}

/// Returns the path in systemd's hierarchy from the text of `/proc/PID/cgroup`: the hierarchy named
/// after systemd if version 1 or both versions are mounted, else the only one.
fn systemd_path(text: &str) -> Option<&str> {
    let mut found = None;
    for line in text.lines() {
        // HIERARCHY:CONTROLLERS:PATH
        match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "name=systemd", path] => {
                found = Some(path);
                break;
            }
            ["0", _, path] if found.is_none() => found = Some(path),
            _ => {}
        }
    }
    let path = found?;
    if path.starts_with('/') { Some(path) } else { None }
}

/// Returns the limit of a control group's memory in bytes; `None` if there is none, or if it cannot
/// be read. Linux: `memory.max` of cgroups(7), version 2, or
/// `memory.limit_in_bytes` of version 1.
pub(crate) fn memory_max(cgroup: &str) -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let path = cgroup.trim_start_matches('/');
    read_number(&root.join(path).join("memory.max"))
        .or_else(|| read_number(&root.join("memory").join(path).join("memory.limit_in_bytes")))
}

fn read_number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Returns whether a process is in a control group or in one below it.
pub(crate) fn contains(scope: &str, pid: i32) -> bool {
    matches!(of_process(pid), Some(cgroup) if is_within(&cgroup, scope))
}

/// Returns whether a control group and those below it have no processes. A group that was removed
/// has none; false if control groups cannot be read.
pub(crate) fn is_empty(scope: &str) -> bool {
    matches!(try_processes(scope), Some(all) if all.is_empty())
}

/// Returns the processes of a control group and of those below it.
pub(crate) fn processes(scope: &str) -> Vec<i32> {
    try_processes(scope).unwrap_or_default()
}

fn try_processes(scope: &str) -> Option<Vec<i32>> {
    processes_below(&directory(scope)?).ok()
}

/// Kills all processes of a control group at once, including those of other users. Requires
/// Linux 5.14 and version 2.
pub(crate) fn kill(scope: &str) -> io::Result<()> {
    let directory = directory(scope).ok_or(io::ErrorKind::NotFound)?;
    std::fs::OpenOptions::new().write(true).open(directory.join("cgroup.kill"))?.write_all(b"1")
}

/// Returns the directory of a control group in systemd's hierarchy. Version 2 may be mounted beside
/// version 1 or alone.
fn directory(scope: &str) -> Option<PathBuf> {
    if scope.contains("..") {
        return None;
    }
    let scope = scope.trim_start_matches('/');
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];
    let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists())?;
    Some(Path::new(root).join(scope))
}

fn processes_below(directory: &Path) -> io::Result<Vec<i32>> {
    let text = match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut all: Vec<i32> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
    for entry in std::fs::read_dir(directory)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(processes_below(&entry.path())?);
        }
    }
    Ok(all)
}

/// Returns whether a control group is `scope` or one below it.
fn is_within(cgroup: &str, scope: &str) -> bool {
    matches!(cgroup.strip_prefix(scope), Some(rest) if rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_systemds_path_in_each_layout() {
        let version_2 = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gw.service\n";
        let version_1 = "12:pids:/x\n1:name=systemd:/system.slice/gw.service\n";
        let hybrid = "9:name=systemd:/system.slice/a:b.service\n4:memory:/other\n0::/\n";
        for (text, path) in [
            (version_2, Some("/user.slice/user-1000.slice/user@1000.service/app.slice/gw.service")),
            (version_1, Some("/system.slice/gw.service")),
            (hybrid, Some("/system.slice/a:b.service")),
            ("0::/\n", Some("/")),
            ("0::/../..\n", Some("/../..")),
            ("", None),
            ("garbage\n::\n0:x", None),
        ] {
            assert_eq!(systemd_path(text), path, "{text:?}");
        }
    }

    #[test]
    fn distinguishes_groups_below_from_same_prefix() {
        assert!(is_within("/a/x.scope", "/a/x.scope"));
        assert!(is_within("/a/x.scope/sub", "/a/x.scope"));
        assert!(!is_within("/a/x.scope2", "/a/x.scope"));
        assert!(!is_within("/a", "/a/x.scope"));
    }
}
