//! The processes of a job as the kernel sees them, found without the program under test.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// The processes whose environment has the marker of this job's directory, or of any job below a
/// jobs directory. Empty without `/proc`.
pub(crate) fn processes_of(directory: &Path) -> Vec<i32> {
    let mark = [b"CLAUDEJOB_DIR=", directory.as_os_str().as_encoded_bytes()].concat();
    let bears_mark = |environment: &[u8]| {
        environment.split(|&byte| byte == 0).any(|entry| {
            entry
                .strip_prefix(mark.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    };
    all_pids().into_iter().filter(|&pid| bears_mark(&environment(pid))).collect()
}

/// The environment of a process, once it has one: while it executes another program the kernel
/// shows none, and the environment's end (field 51 of `stat`) is 0. A thread of the kernel never
/// has one; it has a flag in field 9. That of another user's process cannot be read.
fn environment(pid: i32) -> Vec<u8> {
    const PF_KTHREAD: u32 = 0x0020_0000;
    let read = || fs::read(format!("/proc/{pid}/environ"));
    for _ in 0..2_000 {
        let environment = match read() {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Vec::new(),
            environment => environment.unwrap_or_default(),
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, fields)) = stat.rsplit_once(") ") else { return environment };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let is_kernel_thread = fields[6].parse::<u32>().unwrap() & PF_KTHREAD != 0;
        if !environment.is_empty() || is_kernel_thread || fields[0] == "Z" {
            return environment;
        }
        sleep(Duration::from_millis(1));
        if fields[48] != "0" {
            return read().unwrap_or_default();
        }
    }
    Vec::new()
}

/// The processes whose working directory is below this one, which also finds those without an
/// environment.
pub(crate) fn processes_in(directory: &Path) -> Vec<i32> {
    let works_there = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    all_pids().into_iter().filter(works_there).collect()
}

/// Whether the process exists and is not a zombie that nobody has reaped yet. If its main thread has
/// ended before another one, that one still holds the locks of the process.
pub(crate) fn is_alive(pid: i32) -> bool {
    let lives = |stat: &Path| {
        // The command's name is in parentheses and may hold anything; the state follows it.
        fs::read_to_string(stat)
            .ok()
            .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
            .unwrap_or(false)
    };
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    lives(Path::new(&format!("/proc/{pid}/stat")))
        || threads().any(|thread| lives(&thread.path().join("stat")))
}

/// The children of a process, including zombies that it has not reaped.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    let is_its = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let field = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        field.is_some_and(|ppid| ppid.parse() == Ok(parent))
    };
    all_pids().into_iter().filter(is_its).collect()
}

/// Whether the process has the file or directory of this path open.
pub(crate) fn has_open(pid: i32, path: &Path) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link == path)
}

/// Whether the process is stopped by a signal.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The name of the program that a process runs, without its directory.
pub(crate) fn program_of(pid: i32) -> String {
    fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

/// Describes a process for a message: its PID, its state, its parent and its arguments.
pub(crate) fn describe(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state: String =
        stat.rsplit_once(") ").map_or("", |(_, rest)| rest).chars().take(8).collect();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} ({state}…) {}", String::from_utf8_lossy(&arguments).replace('\0', " "))
}

/// The PID that a program wrote into a file.
#[track_caller]
pub(crate) fn pid_in(file: &Path) -> i32 {
    let text = fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("could not read {}: {error}", file.display()));
    text.trim().parse().unwrap_or_else(|_| panic!("{} holds no PID: {text:?}", file.display()))
}

pub(crate) fn send(pid: i32, signal: nix::sys::signal::Signal) {
    // A process that is gone is as good as one that gets the signal.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Kills a process and waits until it is gone.
#[track_caller]
pub(crate) fn kill(pid: i32) {
    send(pid, nix::sys::signal::Signal::SIGKILL);
    super::eventually(&format!("the end of {pid}"), || (!is_alive(pid)).then_some(()));
}

fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
