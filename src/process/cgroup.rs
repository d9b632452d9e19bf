//! Control groups, as far as systemd's are of interest: cgroups(7).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The control group of a process in systemd's hierarchy; `None` where there is none.
pub fn of(pid: i32) -> Option<String> {
    read(&format!("/proc/{pid}/cgroup"))
}

/// The control group of this process in systemd's hierarchy.
pub fn own() -> Option<String> {
    read("/proc/self/cgroup")
}

fn read(path: &str) -> Option<String> {
    let text = super::procfs::read(path).ok()?;
    systemd_path(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// The path in systemd's hierarchy, of the text of `/proc/PID/cgroup`: with version 1, and where
/// both versions are mounted, the hierarchy that is named after it, else the only one.
fn systemd_path(text: &str) -> Option<&str> {
    let of = |prefix: &str| {
        text.lines().find_map(|line| {
            // HIERARCHY:CONTROLLERS:PATH
            let (number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let wanted = if prefix.is_empty() { number == "0" } else { controllers == prefix };
            wanted.then_some(path)
        })
    };
    of("name=systemd").or_else(|| of("")).filter(|path| path.starts_with('/'))
}

/// Bytes of memory that the control groups around this process leave it; `None` where none has a
/// limit. Of version 2 only (Linux, `memory.max` of cgroups(7)); what is cached of files can be
/// had back.
pub fn memory_left() -> Option<u64> {
    let path = own().filter(|path| !path.contains("..")).unwrap_or_default();
    let folder = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let above = folder.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    above.filter_map(left_in).min()
}

/// Bytes of memory that the processes of a control group may take together; `None` where there is
/// no limit, or none that can be read. Linux: `memory.max` of cgroups(7), version 2, or
/// `memory.limit_in_bytes` of version 1.
pub fn memory_max(cgroup: &str) -> Option<u64> {
    let path = cgroup.trim_start_matches('/');
    let files = [
        format!("/sys/fs/cgroup/{path}/memory.max"),
        format!("/sys/fs/cgroup/memory/{path}/memory.limit_in_bytes"),
    ];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

fn left_in(folder: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = super::machine::field(&stat, "inactive_file ").unwrap_or_default();
    let used = number("memory.current")?.saturating_sub(cached);
    Some(number("memory.max")?.saturating_sub(used))
}

/// Whether a process is in a control group or in one below it.
pub fn holds(scope: &str, pid: i32) -> bool {
    of(pid).is_some_and(|cgroup| is_within(&cgroup, scope))
}

/// Whether a control group has no processes, those of groups below it included. One that is gone
/// has none; where control groups cannot be looked at this is not known, and false.
pub fn is_empty(scope: &str) -> bool {
    folder(scope).is_some_and(|folder| processes_below(&folder).is_ok_and(|all| all.is_empty()))
}

/// The processes of a control group and of those below it.
pub fn processes(scope: &str) -> Vec<i32> {
    folder(scope).and_then(|folder| processes_below(&folder).ok()).unwrap_or_default()
}

/// Ends all processes of a control group at once, also those of other users: Linux 5.14,
/// version 2.
pub fn kill(scope: &str) -> io::Result<()> {
    let folder = folder(scope).ok_or(io::ErrorKind::NotFound)?;
    std::fs::OpenOptions::new().write(true).open(folder.join("cgroup.kill"))?.write_all(b"1")
}

/// Where a control group of systemd's is mounted: version 2 is beside version 1 or alone.
fn folder(scope: &str) -> Option<PathBuf> {
    if scope.contains("..") {
        return None;
    }
    let scope = scope.trim_start_matches('/');
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];
    let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists())?;
    Some(Path::new(root).join(scope))
}

fn processes_below(folder: &Path) -> io::Result<Vec<i32>> {
    let text = match std::fs::read_to_string(folder.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut all: Vec<i32> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(processes_below(&entry.path())?);
        }
    }
    Ok(all)
}

/// Whether a control group is `scope` or one below it.
fn is_within(cgroup: &str, scope: &str) -> bool {
    cgroup.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_names_systemds_path() {
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
    fn memory_is_what_the_limit_leaves_and_what_can_be_had_back() {
        let folder = tempfile::tempdir().unwrap();
        for (max, current, stat, left) in [
            ("100\n", "30\n", "anon 20\ninactive_file 10\n", Some(80)),
            ("100\n", "130\n", "", Some(0)),
            ("max\n", "30\n", "inactive_file 10\n", None),
        ] {
            for (name, text) in
                [("memory.max", max), ("memory.current", current), ("memory.stat", stat)]
            {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            assert_eq!(left_in(folder.path()), left, "{max:?}");
        }
        assert_eq!(left_in(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_scope_holds_what_is_below_it_and_not_what_begins_alike() {
        assert!(is_within("/a/x.scope", "/a/x.scope"));
        assert!(is_within("/a/x.scope/sub", "/a/x.scope"));
        assert!(!is_within("/a/x.scope2", "/a/x.scope"));
        assert!(!is_within("/a", "/a/x.scope"));
    }
}
