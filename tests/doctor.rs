//! `doctor` in healthy and in broken environments: what it finds, that it never fails as a whole,
//! and that it changes nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::libc;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::faults::{Disk, change_owner, limited, without_call};
use support::processes::{is_stopped, kill, send};
use support::{Answer, Sandbox, await_file, eventually, install};

const WORKS: &str = "read\ninit\nresult ok\neof";
const HANGS: &str = "read\ninit\ntouch $DIR/up\nhang";
/// The checks, in their order.
const NAMES: [&str; 11] = [
    "claude",
    "version",
    "login",
    "root",
    "jobs_dir",
    "locks",
    "space",
    "lost",
    "detach",
    "open_files",
    "clock",
];

/// Returns level, detail and hint of a check; empty if the check was omitted.
fn check(answer: &Answer, name: &str) -> (String, String, String) {
    let checks = answer["checks"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    let check = checks.iter().find(|check| check["name"] == name);
    let text =
        |field: &str| check.and_then(|check| check[field].as_str()).unwrap_or_default().to_owned();
    (text("level"), text("detail"), text("hint"))
}

/// Asserts the level of a check and a part of its detail or hint.
#[track_caller]
fn assert_check(answer: &Answer, name: &str, level: &str, expected: &str) {
    let (actual, detail, hint) = check(answer, name);
    let text = format!("{detail}\n{hint}");
    assert!(actual == level && text.contains(expected), "{name}: {answer:#?}");
    let is_unknown = detail.starts_with("could not be checked");
    assert_eq!(!hint.is_empty(), level != "ok" && !is_unknown, "{name}");
    let is_error = answer["checks"].as_array().unwrap().iter().any(|c| c["level"] == "error");
    assert_eq!((answer.code, &answer["ok"]), (i32::from(is_error), &(!is_error).into()));
}

/// Everything below a directory: names, kinds and modes, sizes, times, contents.
fn listing(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, about) = (entry.path(), entry.metadata().unwrap());
            let times = (about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec());
            let text = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            lines.push(format!("{path:?} {:o} {} {times:?} {text:?}", about.mode(), about.size()));
            if about.is_dir() {
                left.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn put_record(sandbox: &Sandbox, id: &str, text: &str) {
    fs::create_dir_all(sandbox.job(id)).unwrap();
    fs::write(sandbox.job(id).join("meta.json"), text).unwrap();
}

#[test]
fn reports_no_problem_on_a_healthy_machine() {
    let sandbox = Sandbox::new(WORKS);
    for _ in 0..2 {
        let before = sandbox.jobs().exists();
        let answer = sandbox.run(["doctor"]);
        assert_eq!((answer.code, &answer["ok"]), (0, &true.into()), "{answer:#?}");
        let fields = answer.json.as_object().unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["checks", "ok"]);
        let checks = answer["checks"].as_array().unwrap();
        let names: Vec<&str> = checks.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, NAMES);
        for check in checks {
            let level = check["level"].as_str().unwrap();
            assert!(["ok", "warning"].contains(&level), "{check}");
            assert!(!check["detail"].as_str().unwrap().is_empty(), "{check}");
            assert_eq!(check["hint"].is_string(), level != "ok", "{check}");
            assert_eq!(check["found"], check["detail"], "the deprecated names");
            assert_eq!(check["advice"], check["hint"], "the deprecated names");
        }
        for name in ["claude", "version", "login", "root", "jobs_dir", "lost", "clock"] {
            assert_eq!(check(&answer, name).0, "ok", "{name}: {answer:#?}");
        }
        assert_eq!(check(&answer, "version").1, "2.1.197 (tested: 2.1.197 to 2.1.332)");
        assert_eq!(check(&answer, "login").1, "the variable ANTHROPIC_API_KEY");
        assert!(!answer.stdout.contains("sk-ant-test"), "nothing secret");
        assert!(answer.stdout.chars().count() < 8_000);
        assert_eq!(sandbox.jobs().exists(), before, "it creates no directory");
        sandbox.run_job(if before { "b" } else { "a" }, &[]);
    }
    let shown = sandbox.run(["doctor", "--plain"]);
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains("✓ version"), "{}", shown.stdout);
    assert!(shown.stdout.contains("Jobs can run here"), "{}", shown.stdout);
}

#[test]
fn reports_a_missing_and_warns_of_an_old_claude() {
    let sandbox = Sandbox::new(WORKS);
    let put = |name: &str, body: &str| {
        install(&sandbox.path(name), body.as_bytes());
        sandbox.path(name)
    };
    let plain = sandbox.path("plain");
    fs::write(&plain, "no program").unwrap();
    for (claude, name, level, expected) in [
        (sandbox.path("nowhere"), "claude", "error", "not an executable file: "),
        (plain, "claude", "error", "npm install"),
        (put("broken", "#!/nowhere/sh\n"), "claude", "error", "could not run"),
        (
            put("fails", "#!/bin/sh\necho no native binary >&2\nexit 1\n"),
            "claude",
            "error",
            "1: no native",
        ),
        (put("dies", "#!/bin/sh\nkill -9 $$\n"), "claude", "error", "signal 9"),
        (
            put("old", "#!/bin/sh\necho '2.0.14 (Claude Code)'\n"),
            "version",
            "warning",
            "2.0.14 (tested: 2.1.197 to 2.1.332), older than every tested version",
        ),
        (
            put("new", "#!/bin/sh\necho '2.2.0 (Claude Code)'\n"),
            "version",
            "warning",
            "newer than every tested version",
        ),
        (put("odd", "#!/bin/sh\necho 'hello \u{1b}[2J'\n"), "version", "warning", "no version"),
    ] {
        let answer = sandbox.run(["doctor".as_ref(), "--claude".as_ref(), claude.as_os_str()]);
        assert_check(&answer, name, level, expected);
        assert_eq!(check(&answer, "lost").0, "ok", "the other checks are made as well");
        let args = ["doctor".as_ref(), "--plain".as_ref(), "--claude".as_ref(), claude.as_os_str()];
        let shown = sandbox.run(args);
        assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
        assert!(shown.stdout.contains(if level == "error" { "✗ claude" } else { "! version" }));
    }
}

#[test]
fn reports_a_missing_login_and_names_a_stored_one() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.unset("ANTHROPIC_API_KEY");
    assert_check(&sandbox.run(["doctor"]), "login", "error", "/login once");
    let stored = sandbox.path("home/.claude.json");
    fs::write(&stored, r#"{"primaryApiKey":"sk-ant-secret"}"#).unwrap();
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "login", "ok", stored.to_str().unwrap());
    assert!(!answer.stdout.contains("sk-ant-secret"));
}

#[test]
fn warns_if_the_gateway_would_not_find_claudejob() {
    let sandbox = Sandbox::new(WORKS);
    let home = sandbox.path("home");
    let unit = home.join(".config/systemd/user/openclaw-gateway.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    let bin = home.join(".local/bin");
    let text = format!(
        "[Service]\nExecStart=/usr/bin/node /o.js gateway\nEnvironment=PATH=/nowhere:{}\n",
        bin.display()
    );
    fs::write(&unit, text).unwrap();
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "openclaw", "warning", "does not find claudejob");
    let (_, _, hint) = check(&answer, "openclaw");
    assert!(!bin.exists(), "it changes nothing");
    assert!(Command::new("sh").args(["-c", &hint]).status().unwrap().success(), "{hint}");
    assert_check(&sandbox.run(["doctor"]), "openclaw", "warning", "SKILL.md is missing");
}

#[test]
fn root_outside_of_a_sandbox_is_an_error() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.unset("IS_SANDBOX");
    let level = if nix::unistd::geteuid().is_root() { "error" } else { "ok" };
    assert_check(&sandbox.run(["doctor"]), "root", level, "root");
}

#[test]
fn reports_an_unusable_directory_without_changing_it() {
    let mut sandbox = Sandbox::new(WORKS);
    let file = sandbox.path("file");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let open = sandbox.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let nowhere = sandbox.path("link");
    std::os::unix::fs::symlink(sandbox.path("gone"), &nowhere).unwrap();
    for (directory, expected) in [
        (&file, "not a directory: "),
        (&file.join("jobs"), "Not a directory"),
        (&open, "others can write to it (chmod go-w)"),
        (&nowhere, "cannot create"),
    ] {
        sandbox.set("CLAUDE_SKILL_JOBS_DIR", directory);
        let before = listing(&sandbox.path(""));
        let answer = sandbox.run(["doctor"]);
        assert_check(&answer, "jobs_dir", "error", expected);
        assert_eq!(check(&answer, "lost").0, "", "{directory:?} is not read");
        assert_eq!(check(&answer, "clock").0, "ok");
        assert_eq!(listing(&sandbox.path("")), before, "{directory:?}");
    }
    sandbox.unset("CLAUDE_SKILL_JOBS_DIR");
    sandbox.unset("HOME");
    assert_check(&sandbox.run(["doctor"]), "jobs_dir", "error", "neither HOME nor XDG_STATE_HOME");
    sandbox.set("HOME", sandbox.path("home"));
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "jobs_dir", "ok", ".local/state/claudejob/jobs, which the first start");
    assert!(!sandbox.path("home/.local").exists());
}

#[test]
#[ignore = "needs root"]
fn reports_a_foreign_or_unwritable_directory() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.run_job("j", &[]);
    change_owner(&sandbox.jobs(), 54_321);
    let before = listing(&sandbox.jobs());
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "jobs_dir", "error", "another user");
    assert_eq!(listing(&sandbox.jobs()), before);
    change_owner(&sandbox.jobs(), 0);

    let disk = Disk::mount(sandbox.path("disk"), 2 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    sandbox.run_job("j", &[]);
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "locks", "warning", "tmpfs, in memory");
    assert_check(&answer, "space", "error", "MB free");
    assert_check(&answer, "jobs_dir", "ok", "jobs");
    disk.fill();
    assert_check(&sandbox.run(["doctor"]), "jobs_dir", "error", "No space left");
    fs::remove_file(disk.path("filler")).unwrap();
    disk.make_read_only();
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "jobs_dir", "error", "Read-only file system");
    assert_check(&answer, "lost", "ok", "no job");
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("others/jobs"));
    assert_check(&sandbox.run(["doctor"]), "jobs_dir", "error", "cannot create");
}

#[test]
fn reports_a_file_system_without_locks() {
    let sandbox = Sandbox::new(WORKS);
    for _ in 0..2 {
        let call = without_call(sandbox.command(["doctor"]), libc::SYS_flock, libc::ENOLCK);
        assert_check(&Answer::from_command(call, Vec::new()), "locks", "error", "on a local disk");
        sandbox.run_job(if sandbox.jobs().exists() { "b" } else { "a" }, &[]);
    }
}

#[test]
fn reports_stale_jobs_without_finalizing_them() {
    let sandbox = Sandbox::new(HANGS);
    let worker = sandbox.start("lost", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let runs = sandbox.start("runs", &[])["pid"].as_i64().unwrap() as i32;
    let answer = sandbox.run(["doctor"]);
    assert_check(&answer, "lost", "ok", "no job");
    kill(worker);
    put_record(&sandbox, "torn", "{\"jobId\":\"to");
    fs::create_dir_all(sandbox.jobs().join(".new/unfinished")).unwrap();
    let later = SystemTime::now() + Duration::from_secs(3 * 86_400);
    fs::File::create(sandbox.jobs().join("later")).unwrap().set_modified(later).unwrap();
    put_record(
        &sandbox,
        "ahead",
        r#"{"version":2,"jobId":"ahead","status":"completed","startedAt":"2999-01-01T00:00:00Z"}"#,
    );
    // The worker would write its progress.
    send(runs, Signal::SIGSTOP);
    eventually("the stop", || is_stopped(runs).then_some(()));
    let before = listing(&sandbox.jobs());
    let answer = sandbox.run(["doctor"]);
    assert_eq!(listing(&sandbox.jobs()), before);
    send(runs, Signal::SIGCONT);
    assert_eq!(answer.code, 0, "warnings are no errors");
    assert_check(&answer, "lost", "warning", "1 (lost) recorded as live");
    assert_check(&answer, "lost", "warning", "claudejob recover --all");
    assert_check(&answer, "clock", "warning", "2 (ahead, later)");
    let record = fs::read(sandbox.job("lost").join("meta.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&record).unwrap()["status"], "running");
    assert_eq!(sandbox.status("lost")["reason"], "worker_died", "status finalizes the job");
    assert_check(&sandbox.run(["doctor"]), "lost", "ok", "no job");
}

#[test]
fn reports_low_limits() {
    let sandbox = Sandbox::new(WORKS);
    let call = limited(sandbox.command(["doctor"]), Resource::RLIMIT_NOFILE, 100);
    assert_check(&Answer::from_command(call, Vec::new()), "open_files", "warning", "ulimit -n");
}

#[test]
#[cfg_attr(not(target_env = "gnu"), ignore = "needs a preloaded library")]
fn reports_a_wrong_clock() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.shift_clock(-86_400 * 365 * 20);
    assert_check(&sandbox.run(["doctor"]), "clock", "error", "set the clock");
}
