//! What the end-to-end tests share: a sandbox for each test, the fake claude, the real one with a
//! scripted API, and the search in `/proc` for processes that a job left behind.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

pub(crate) mod chance;
#[cfg(target_os = "linux")]
pub(crate) mod faults;
pub(crate) mod filler;
#[cfg(target_os = "linux")]
pub(crate) mod machines;
pub(crate) mod naps;
pub(crate) mod processes;
pub(crate) mod real_claude;
pub(crate) mod sandbox;
pub(crate) mod schema;
pub(crate) mod screen;
pub(crate) mod scripted_api;
#[cfg(target_os = "linux")]
pub(crate) mod seccomp;
pub(crate) mod terminal;

use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use processes::{is_alive, pid_in, processes_of};
pub(crate) use sandbox::{Answer, Sandbox};

/// Longer than anything takes on a busy machine: reached only by a failing test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Polls until there is an answer. The last resort, for changes that no verb and no file announces.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a file that a program creates when it has reached a certain point.
#[track_caller]
pub(crate) fn await_file(file: &Path) {
    eventually(&file.display().to_string(), || file.exists().then_some(()));
}

/// Installs a program. Another process writes it: a fork of a parallel test could hold the file
/// open for writing for a short time, and then it could not be executed (`ETXTBSY`).
pub(crate) fn install(program: &Path, body: &[u8]) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(program);
    assert_cmd::Command::from_std(shell).write_stdin(body).assert().success();
}
