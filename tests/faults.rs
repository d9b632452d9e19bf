//! What breaks around a job, broken for real: programs killed at each step, disks that are full,
//! read-only or without locks, files that others touch, clocks that jump, limits that are met.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::faults::{Disk, as_user, give, is_root, limited, without_call};
use support::processes::{is_stopped, kill, send};
use support::{Answer, Sandbox, await_file, eventually, install, is_alive, pid_in};

const WORKS: &str = "read\ninit\nspawn $DIR/child\nsay hi\nresult ok\neof";
const START: [&str; 4] = ["start", "j", "--prompt", "x"];
/// What a job that has ended consists of.
const FILES: [&str; 8] = [
    "events.ndjson",
    "inbox",
    "lock",
    "meta.json",
    "output.log",
    "prompt.txt",
    "result.json",
    "stderr.log",
];

/// Asserts that nothing but these is there; of turns only a worker that lived to see their end
/// has written.
#[track_caller]
fn assert_tidy(sandbox: &Sandbox, point: &str) {
    let mut files = sandbox.files("j");
    files.retain(|name| name != "turns.ndjson");
    assert_eq!(files, FILES, "{point}");
    let inbox: Vec<_> = fs::read_dir(sandbox.job("j").join("inbox")).unwrap().flatten().collect();
    let is_state =
        |entry: &fs::DirEntry| [".closed", ".desk"].map(Into::into).contains(&entry.file_name());
    assert!(inbox.iter().all(is_state), "{point}: {inbox:?}");
}

fn events(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("events.ndjson")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn assert_in_order(sandbox: &Sandbox, id: &str) {
    let numbers: Vec<u64> =
        events(sandbox, id).iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

/// After a fault: the job has ended truly, or goes on by `recover`, and nothing lies around.
#[track_caller]
fn assert_taken_up(sandbox: &Sandbox, point: &str) {
    let status = sandbox.status("j");
    sandbox.assert_nothing_left("j");
    if status["status"] != "completed" {
        assert_eq!(status["reason"], "worker_died", "{point}: {status:?}");
        assert!(status.text("hint").starts_with("claudejob recover j"), "{point}");
        let recovered = sandbox.run(["recover", "j"]);
        assert_eq!(recovered.code, 0, "{point}: {recovered:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
    }
    assert_eq!(sandbox.run(["result", "j"])["result"], "ok", "{point}");
    assert_tidy(sandbox, point);
    assert_in_order(sandbox, "j");
    let refused = sandbox.run(["recover", "j"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"not_recoverable".into()), "{point}");
}

#[test]
fn a_start_that_is_killed_has_made_a_whole_job_or_none() {
    for (point, is_there) in [
        ("start:staged", false),
        ("start:written", false),
        ("start:published", true),
        ("start:spawned", true),
    ] {
        let mut sandbox = Sandbox::new(WORKS);
        sandbox.break_at(point, START);
        if !is_there {
            assert_eq!(sandbox.run(["status", "j"])["code"], "not_found", "{point}");
            assert_eq!(sandbox.run(START).code, 0, "{point}");
        }
        // A worker that stands already goes on without its `start`.
        sandbox.run(["wait", "j"]);
        assert_taken_up(&sandbox, point);
        assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0, "{point}");
    }
}

#[test]
fn a_worker_that_is_killed_at_any_step_leaves_a_job_that_goes_on() {
    for point in [
        "worker:began",
        "worker:launched",
        "worker:recorded",
        "worker:heard",
        "worker:logged",
        "worker:closing",
        "worker:reaping",
        "worker:swept",
        "end:outcome-written",
        "end:outcome-saved",
        "end:record-written",
        "end:saved",
    ] {
        let mut sandbox = Sandbox::new(WORKS);
        let start = sandbox.break_at(point, START);
        let before_the_report = ["worker:began", "worker:launched", "worker:recorded"];
        if before_the_report.contains(&point) {
            assert_eq!(start["code"], "launch_failed", "{point}");
        } else {
            assert_eq!(start.code, 0, "{point}: {start:?}");
        }
        assert_taken_up(&sandbox, point);
    }
}

#[test]
fn a_reader_that_is_killed_while_it_settles_is_followed_by_another() {
    for point in ["settle:locked", "settle:told", "end:outcome-written", "end:record-written"] {
        let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        kill(worker);
        sandbox.break_at(point, ["status", "j"]);
        sandbox.script(WORKS);
        assert_taken_up(&sandbox, point);
    }
}

#[test]
fn a_recover_that_is_killed_is_followed_by_another() {
    for point in ["recover:locked", "recover:saved", "start:spawned", "worker:recorded"] {
        let mut sandbox = Sandbox::new("read\ninit\ndie KILL");
        sandbox.run_job("j", &[]).expect_end(1, "failed", Some("no_result"));
        sandbox.script(WORKS);
        sandbox.break_at(point, ["recover", "j"]);
        sandbox.run(["wait", "j"]);
        let status = sandbox.status("j");
        if status["status"] == "failed" {
            assert!(status["hint"].is_string(), "{point}: {status:?}");
            assert_eq!(sandbox.run(["recover", "--all"])["recovered"][0]["jobId"], "j", "{point}");
            sandbox.wait("j");
        }
        assert_eq!(sandbox.run(["result", "j"])["result"], "ok", "{point}");
        assert_tidy(&sandbox, point);
        assert_in_order(&sandbox, "j");
    }
}

#[test]
fn a_worker_that_is_killed_with_its_verdict_half_written_loses_nothing_of_it() {
    for point in ["end:outcome-saved", "end:record-written"] {
        let mut sandbox = Sandbox::new("read\ninit\nsay hi\ndie KILL");
        sandbox.break_at(point, START);
        let status = sandbox.status("j");
        assert_eq!(status["reason"], "no_result", "{point}: {status:?}");
        sandbox.script("args $DIR/args\nread\ninit\nresult ok\neof");
        // What claude had begun is known from the log, how it ended from the result.
        assert_eq!(sandbox.run(["recover", "j"])["resumes"], true, "{point}");
        sandbox.wait("j").expect_end(0, "completed", None);
        assert!(fs::read_to_string(sandbox.path("args")).unwrap().contains("--resume"));
    }
}

#[test]
fn a_kill_that_is_killed_has_killed() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    sandbox.break_at("kill:asked", ["kill", "j"]);
    sandbox.wait("j").expect_end(3, "killed", None);
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
}

#[test]
fn a_kill_is_for_good_whoever_settles_or_recovers_the_job_meanwhile() {
    for point in ["kill:looked", "kill:alone"] {
        for verb in ["status", "recover"] {
            let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\nhang");
            let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
            let lose = || {
                kill(worker);
            };
            if point == "kill:alone" {
                lose();
            }
            let answer = sandbox.pause_at(point, ["kill", "j"], |sandbox| {
                if point == "kill:looked" {
                    lose();
                }
                assert_eq!(sandbox.run([verb, "j"]).code, 0);
            });
            // An end that somebody else has written, and may have told of, stays.
            let (status, last) = match verb {
                "status" => ("failed", "kill_requested"),
                _ => ("killed", "finished"),
            };
            let killed = status == "killed";
            assert_eq!(
                (answer.code, &answer["killed"]),
                (i32::from(!killed), &killed.into()),
                "{verb}: {answer:?}"
            );
            sandbox.assert_nothing_left("j");
            assert_eq!(sandbox.wait("j")["status"], status, "{point}, {verb}");
            assert_eq!(sandbox.run(["result", "j"])["status"], status);
            assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
            assert_eq!(sandbox.run(["recover", "--all"])["recovered"], serde_json::json!([]));
            assert_in_order(&sandbox, "j");
            assert_eq!(events(&sandbox, "j").pop().unwrap()["event"], last);
        }
    }
}

#[test]
fn a_kill_reaches_a_job_that_is_just_being_taken_up() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("its end", || (sandbox.status("j")["reason"] == "worker_died").then_some(()));
    let mut kill = None;
    sandbox.pause_at("recover:locked", ["recover", "j"], |sandbox| {
        let looked = sandbox.path("looked");
        let mut command = sandbox.command(["kill", "j"]);
        command.env("CLAUDEJOB_STOP_AT", "kill:looked").env("CLAUDEJOB_STOP_FILE", &looked);
        kill = Some(std::thread::spawn(move || Answer::of(command, Vec::new())));
        let pid = eventually("the look", || fs::read_to_string(&looked).ok()?.parse().ok());
        eventually("the stop", || is_stopped(pid).then_some(()));
        send(pid, Signal::SIGCONT);
    });
    let answer = kill.unwrap().join().unwrap();
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_recoverable");
}

#[test]
fn a_claude_that_is_killed_at_any_step_leaves_a_job_that_goes_on() {
    for step in ["", "read", "init", "spawn $DIR/child", "say hi", "tool Bash ls"] {
        let steps: Vec<&str> = ["read", "init", "spawn $DIR/child", "say hi", "tool Bash ls"]
            .into_iter()
            .take_while(|at| *at != step)
            .chain([step])
            .filter(|at| !at.is_empty())
            .collect();
        let sandbox = Sandbox::new(&format!("{}\ndie KILL", steps.join("\n")));
        sandbox.run_job("j", &[]).expect_end(1, "failed", Some("no_result"));
        sandbox.assert_nothing_left("j");
        sandbox.script("args $DIR/args\nread $DIR/said\ninit\nresult ok\neof");
        let recovered = sandbox.run(["recover", "j"]);
        assert_eq!(recovered["attempt"], 2, "{step}: {recovered:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        let said = fs::read_to_string(sandbox.path("said")).unwrap();
        let began = steps.contains(&"init");
        assert_eq!(args.contains("--resume"), began, "{step}");
        assert_eq!(said.contains("You were interrupted"), began, "{step}");
        assert_eq!(said.contains("\"work\""), !began, "{step}");
        assert_eq!(recovered["resumes"], began, "{step}");
    }
}

#[test]
fn what_was_not_cut_off_is_not_taken_up() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.start("killed", &[]);
    sandbox.run(["kill", "killed"]);
    sandbox.start("live", &[]);
    let worker = sandbox.start("never", &["--no-recover"])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    sandbox.script("read\nexit 1");
    sandbox.run_job("failed", &[]);
    eventually("the worker's end", || (!is_alive(worker)).then_some(()));
    for (id, why) in [
        ("killed", "final"),
        ("live", "it is running"),
        ("never", "--no-recover"),
        ("failed", "by itself"),
    ] {
        let answer = sandbox.run(["recover", id]);
        assert_eq!(answer["code"], "not_recoverable", "{id}");
        assert!(answer.text("error").contains(why), "{id}: {answer:?}");
    }
    let all = sandbox.run(["recover", "--all", "--detach", "session"]);
    assert_eq!((all.code, all.stdout.as_str()), (0, "{\"recovered\":[],\"failed\":[]}\n"));
    assert_eq!(sandbox.run(["recover"]).code, 2);
    assert_eq!(sandbox.run(["recover", "nobody"]).code, 4);
}

#[test]
fn of_ten_recovers_one_wins() {
    let sandbox = Sandbox::new("read\ninit\ndie KILL");
    sandbox.run_job("j", &[]);
    sandbox.script("read\ninit\ntouch $DIR/up\nhang");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..10).map(|_| scope.spawn(|| sandbox.run(["recover", "j"]))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.code == 0).count(), 1, "{answers:#?}");
    assert!(answers.iter().all(|answer| answer.code == 0 || answer["code"] == "not_recoverable"));
    assert_eq!(sandbox.status("j")["attempt"], 2);
}

#[test]
fn what_recover_needs_is_checked_before_the_job_is_touched() {
    let mut sandbox = Sandbox::new("read\ninit\ndie KILL");
    let cwd = sandbox.path("gone");
    fs::create_dir(&cwd).unwrap();
    sandbox.run_job("j", &["--cwd", cwd.to_str().unwrap()]);
    let before = fs::read(sandbox.job("j").join("meta.json")).unwrap();
    fs::remove_dir(&cwd).unwrap();
    assert_eq!(sandbox.run(["recover", "j"])["code"], "bad_cwd");
    let all = sandbox.run(["recover", "--all"]);
    assert_eq!((all.code, &all["failed"][0]["code"]), (1, &"bad_cwd".into()), "{all:?}");
    fs::create_dir(&cwd).unwrap();
    sandbox.unset("ANTHROPIC_API_KEY");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_logged_in");
    assert!(fs::read(sandbox.job("j").join("meta.json")).unwrap() == before);
}

#[test]
fn a_boot_that_is_another_is_told() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    kill(worker);
    let meta = sandbox.job("j").join("meta.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    record["bootId"] = "of another boot".into();
    fs::write(&meta, record.to_string()).unwrap();
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "host_restarted");
    sandbox.script(WORKS);
    assert_eq!(sandbox.run(["recover", "--all"])["recovered"][0]["jobId"], "j");
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_full_disk_refuses_a_start_and_holds_nothing_of_it() {
    if !is_root("a_full_disk_refuses_a_start") {
        return;
    }
    let mut sandbox = Sandbox::new(WORKS);
    let disk = Disk::mount(sandbox.path("disk"), 256 << 10);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    fs::create_dir(disk.path("jobs")).unwrap();
    fs::set_permissions(disk.path("jobs"), fs::Permissions::from_mode(0o700)).unwrap();
    disk.fill();
    let refused = sandbox.run(START);
    assert_eq!((refused.code, &refused["code"]), (1, &"no_space".into()), "{refused:?}");
    let left: Vec<_> = fs::read_dir(disk.path("jobs")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".new"), "{left:?}");
    fs::remove_file(disk.path("filler")).unwrap();
    assert_eq!(sandbox.run(START).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_job_that_meets_a_full_disk_reaches_its_verdict_and_tells_what_is_missing() {
    if !is_root("a_job_that_meets_a_full_disk") {
        return;
    }
    for (end, code, status) in [("result ok\neof", 0, "completed"), ("hang", 3, "killed")] {
        let script = format!(
            "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nfill 300000 1\n\
             touch $DIR/filled\n{end}"
        );
        let mut sandbox = Sandbox::new(&script);
        let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
        sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
        sandbox.run(START);
        await_file(&sandbox.path("up"));
        eventually("the reserve", || disk.path("jobs/j/.spare-3").exists().then_some(()));
        disk.fill();
        fs::write(sandbox.path("go"), "").unwrap();
        await_file(&sandbox.path("filled"));
        if status == "killed" {
            eventually("the warning", || {
                (!sandbox.status("j")["warnings"][0].is_null()).then_some(())
            });
            assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
        }
        let answer = sandbox.wait("j");
        assert_eq!((answer.code, &answer["status"]), (code, &status.into()), "{answer:?}");
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("output.log is incomplete"), "{warnings}");
        assert!(warnings.contains("meta.json is incomplete"), "{warnings}");
        let record = fs::read(disk.path("jobs/j/meta.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["status"], status);
        let log = fs::read_to_string(disk.path("jobs/j/output.log")).unwrap();
        // Telling the record of it makes some room once, which the log fills up again.
        let torn = log.lines().filter(|line| !line.ends_with('}')).count();
        assert!(torn <= 2, "whole lines: {log}");
        let names: Vec<_> = fs::read_dir(disk.path("jobs/j")).unwrap().flatten().collect();
        assert!(names.iter().all(|name| !name.file_name().to_string_lossy().starts_with('.')));
    }
}

#[test]
fn a_full_disk_takes_no_slot_and_gives_none_away() {
    if !is_root("a_full_disk_takes_no_slot") {
        return;
    }
    let mut sandbox = Sandbox::new(
        "read\ninit\nonce $DIR/refused refused 529\nonce $DIR/left exit 1\ntouch $DIR/up-$JOB\n\
         wait-file $DIR/go-$JOB\nresult ok\neof",
    );
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let one = ["--max-parallel", "1", "--retries", "1", "--max-backoff", "1s"];
    sandbox.start("a", &one);
    eventually("the pause", || (sandbox.status("a")["attempt"] == 2).then_some(()));
    disk.fill();
    await_file(&sandbox.path("up-a"));
    fs::remove_file(disk.path("filler")).unwrap();
    assert_eq!(sandbox.start("b", &one)["status"], "queued");
    for id in ["a", "b"] {
        fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
        let end = sandbox.wait(id);
        assert_eq!((end.code, &end["status"]), (0, &"completed".into()), "{end:?}");
    }
}

#[test]
fn a_directory_that_can_only_be_read_is_read() {
    if !is_root("a_directory_that_can_only_be_read") {
        return;
    }
    let mut sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let worker = sandbox.start("lost", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    kill(worker);
    disk.make_read_only();
    let refused = sandbox.run(START);
    assert_eq!(refused["code"], "jobs_dir_denied", "{refused:?}");
    for _ in 0..2 {
        assert_eq!(sandbox.status("lost")["reason"], "worker_died");
    }
    assert_eq!(sandbox.run(["list"]).json[0]["reason"], "worker_died");
    assert_eq!(sandbox.run(["recover", "lost"])["code"], "jobs_dir_denied");
}

#[test]
fn a_directory_of_another_user_is_used_by_no_verb() {
    if !is_root("a_directory_of_another_user") {
        return;
    }
    let sandbox = Sandbox::new(WORKS);
    sandbox.run_job("j", &[]);
    give(&sandbox.jobs(), 54_321);
    for call in [&["list"][..], &["status", "j"], &["kill", "j"], &["recover", "--all"], &START] {
        let refused = sandbox.run(call);
        assert_eq!(refused["code"], "jobs_dir_denied", "{call:?}: {refused:?}");
        assert!(refused.text("error").contains("another user"));
    }
    // And a user can read nothing of another's.
    give(&sandbox.jobs(), 0);
    let theirs = as_user(Command::new("cat"), 54_321);
    let mut theirs = theirs;
    let output = theirs.arg(sandbox.job("j").join("prompt.txt")).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_record_cannot_turn_a_signal_against_a_stranger() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    // One that could not put its own number back.
    send(worker, Signal::SIGSTOP);
    eventually("the stop", || is_stopped(worker).then_some(()));
    let mut stranger = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let meta = sandbox.job("j").join("meta.json");
    let real = fs::read_to_string(&meta).unwrap();
    let mut record: Value = serde_json::from_str(&real).unwrap();
    record["pid"] = stranger.id().into();
    fs::write(&meta, record.to_string()).unwrap();
    let answer = sandbox.run(["kill", "j"]);
    let unharmed = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(answer["code"], "signal_failed", "{answer:?}");
    assert!(unharmed, "SIGUSR1 ends it");
    fs::write(&meta, real).unwrap();
    assert!(is_alive(worker));
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
}

#[test]
fn a_link_to_the_directory_is_the_directory() {
    let mut sandbox = Sandbox::new("read\ninit\nspawn-clean $DIR/child\ntouch $DIR/up\nhang");
    fs::create_dir(sandbox.path("real")).unwrap();
    fs::set_permissions(sandbox.path("real"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(sandbox.path("real"), sandbox.path("link")).unwrap();
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("link"));
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    send(worker, Signal::SIGSTOP);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("real"));
    assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
    assert!(!is_alive(pid_in(&sandbox.path("child"))));
    // A job's name that leads out of the directory is none.
    std::os::unix::fs::symlink("/etc", sandbox.path("real/etc")).unwrap();
    assert_eq!(sandbox.run(["status", "etc"])["code"], "record_unreadable");
    assert_eq!(sandbox.run(["logs", "etc"])["code"], "record_unreadable");
}

#[test]
fn a_file_system_without_locks_is_refused() {
    for errno in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP] {
        let sandbox = Sandbox::new(WORKS);
        let command = without_call(sandbox.command(START), libc::SYS_flock, errno);
        let refused = Answer::of(command, Vec::new());
        assert_eq!(refused["code"], "no_locks", "{refused:?}");
        assert_eq!(sandbox.run(["list"]).stdout, "[]\n");
    }
}

#[test]
fn a_job_hears_what_it_is_told_where_the_system_gives_no_notice() {
    for (call, errno) in [(libc::SYS_inotify_init1, libc::EMFILE), (libc::SYS_mknodat, libc::EPERM)]
    {
        let sandbox = Sandbox::new("read\ninit\nresult one\nhear-all $DIR/heard");
        let start = [&START[..], &["--keep-alive"]].concat();
        let started = Answer::of(without_call(sandbox.command(start), call, errno), Vec::new());
        assert_eq!(started.code, 0, "{started:?}");
        eventually("idle", || (sandbox.status("j")["status"] == "idle").then_some(()));
        let answer = sandbox.run(["send", "j", "--message", "two", "--wait", "1m"]);
        assert_eq!(answer["turn"]["result"], "heard two", "{answer:?}");
        assert_eq!(sandbox.run(["finish", "j"])["finished"], true);
    }
}

#[test]
fn a_log_that_others_touch_goes_on_and_it_is_told() {
    for (what, word) in [("removed", "was removed"), ("cut", "was truncated")] {
        let sandbox = Sandbox::new(
            "read\ninit\nsay before\ntouch $DIR/up\nwait-file $DIR/go\nsay after\nresult ok\neof",
        );
        sandbox.start("j", &[]);
        await_file(&sandbox.path("up"));
        let log = sandbox.job("j").join("output.log");
        eventually("the log", || {
            fs::read_to_string(&log).unwrap().contains("before").then_some(())
        });
        match what {
            "removed" => fs::remove_file(&log).unwrap(),
            _ => fs::File::options().write(true).open(&log).unwrap().set_len(10).unwrap(),
        }
        assert_eq!(sandbox.run(["logs", "j"]).code, 0);
        fs::write(sandbox.path("go"), "").unwrap();
        let end = sandbox.wait("j");
        end.expect_end(0, "completed", None);
        assert!(end["warnings"][0].as_str().unwrap().contains(word), "{end:?}");
        let seen = events(&sandbox, "j");
        assert!(seen.iter().any(|event| event["event"] == "damaged"), "{seen:?}");
        if what == "cut" {
            assert!(fs::read_to_string(&log).unwrap().contains("after"));
        }
    }
}

/// Background work that begins in a turn, and ends with it in no log that has lost the word of it.
const WORKS_ON: &str = "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\n\
    line 8000\njson {\"type\":\"system\",\"subtype\":\"task_started\",\"task_id\":\"b\"}\n\
    touch $DIR/began\nwait-file $DIR/go-on\nsay it works on\nresult later\nhang";

/// Kills the worker after the end of the turn, and asserts that the job has not ended with that.
#[track_caller]
fn assert_cut_off_after_the_turn(sandbox: &Sandbox, job: &Path, worker: i32) {
    fs::write(sandbox.path("go-on"), "").unwrap();
    await_file(&job.join("turns.ndjson"));
    kill(worker);
    let _ = fs::remove_dir(job.join("meta.json.tmp"));
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "worker_died", "{status:?}");
    assert!(status["hint"].is_string(), "{status:?}");
}

#[test]
fn a_log_that_lost_a_part_completes_no_job_whose_worker_dies() {
    // The worker can tell the record of it, or cannot.
    for tells in [true, false] {
        let sandbox = Sandbox::new(WORKS_ON);
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        fs::write(sandbox.path("go"), "").unwrap();
        await_file(&sandbox.path("began"));
        let job = sandbox.job("j");
        let log = job.join("output.log");
        eventually("the log", || {
            fs::read_to_string(&log).unwrap().contains("task_started").then_some(())
        });
        if !tells {
            // Where it writes the record first, unless it is just doing so.
            eventually("a place", || fs::create_dir(job.join("meta.json.tmp")).ok());
        }
        fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
        assert_cut_off_after_the_turn(&sandbox, &job, worker);
    }
}

#[test]
fn a_forged_result_completes_no_job_whose_worker_dies() {
    let forged = |status: &str, reason: &str| {
        format!(
            r#"{{"jobId":"j","status":"{status}","attempt":1,"reason":{reason},"result":"forged"}}"#
        )
    };
    for (script, forged, expected, result) in [
        // The agent works on.
        ("read\ninit\ntouch $DIR/up\nhang", forged("completed", "null"), "failed", None),
        ("read\ninit\ntouch $DIR/up\nhang", forged("killed", "null"), "failed", None),
        // It had its answer, and it is another one.
        (
            "read\ninit\nsay ok\nresult ok\nstderr x\ntouch $DIR/up\nhang",
            forged("completed", "null"),
            "completed",
            Some("ok"),
        ),
        (
            "read\ninit\nsay ok\nresult ok\ntouch $DIR/up\nhang",
            forged("failed", "\"api_error\""),
            "completed",
            Some("ok"),
        ),
    ] {
        let sandbox = Sandbox::new(script);
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        let log = sandbox.job("j").join("output.log");
        let heard = if result.is_some() { "\"result\"" } else { "\"init\"" };
        eventually("the log", || fs::read_to_string(&log).unwrap().contains(heard).then_some(()));
        fs::write(sandbox.job("j").join("result.json"), &forged).unwrap();
        kill(worker);
        let status = sandbox.status("j");
        assert_eq!(status["status"], expected, "{forged}: {status:?}");
        assert!(status["warnings"].to_string().contains("does not follow"), "{status:?}");
        assert_eq!(sandbox.run(["result", "j"])["result"].as_str(), result, "{forged}");
        let aside = sandbox.job("j").join("result.unconfirmed.json");
        assert_eq!(fs::read_to_string(aside).unwrap(), forged);
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_completes_no_job_whose_worker_dies() {
    if !is_root("a_disk_that_was_full_for_a_while") {
        return;
    }
    let mut sandbox = Sandbox::new(WORKS_ON);
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let job = disk.path("jobs/j");
    await_file(&job.join(".spare-3"));
    disk.fill();
    fs::write(sandbox.path("go"), "").unwrap();
    eventually("the warning", || {
        sandbox.status("j")["warnings"].to_string().contains("output.log").then_some(())
    });
    await_file(&sandbox.path("began"));
    fs::remove_file(disk.path("filler")).unwrap();
    assert_cut_off_after_the_turn(&sandbox, &job, worker);
    let log = fs::read_to_string(job.join("output.log")).unwrap();
    assert!(log.contains("later") && !log.contains("task_started"), "{log}");
}

#[test]
fn a_turn_that_took_a_message_in_has_not_ended_with_the_one_before() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hi\ntouch $DIR/up\nwait-file $DIR/go\nresult one\nhear $DIR/heard\nhang",
    );
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    assert_eq!(sandbox.run(["send", "j", "--message", "more"]).code, 0);
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.job("j").join("inbox/.taken/0000000001.json"));
    kill(worker);
    // What the disk had no room for, or had not yet written when the power failed.
    let log = sandbox.job("j").join("output.log");
    let text = fs::read_to_string(&log).unwrap();
    let whole: String =
        text.split_inclusive('\n').take_while(|line| !line.contains("isReplay")).collect();
    assert!(whole.contains("\"one\"") && whole.len() < text.len(), "{text}");
    fs::write(&log, whole).unwrap();
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "worker_died", "{status:?}");
    assert!(sandbox.job("j").join("inbox/.taken/0000000001.json").exists());
}

#[test]
fn a_record_that_others_break_while_the_job_runs_is_mended_by_its_worker() {
    for broken in ["", "{\"jobId\":", "{\"version\":9,\"jobId\":\"j\",\"status\":\"dreaming\"}"] {
        let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
        sandbox.start("j", &[]);
        sandbox.start("other", &[]);
        await_file(&sandbox.path("up"));
        let meta = sandbox.job("j").join("meta.json");
        fs::remove_file(&meta).unwrap();
        if !broken.is_empty() {
            fs::write(&meta, broken).unwrap();
        }
        let status = sandbox.run(["status", "j"]);
        assert_eq!((status.code, &status["code"]), (1, &"record_unreadable".into()), "{status:?}");
        assert_eq!(sandbox.status("other")["status"], "running");
        fs::write(sandbox.path("go"), "").unwrap();
        sandbox.wait("other").expect_end(0, "completed", None);
        eventually("the record", || {
            (sandbox.run(["status", "j"])["status"] == "completed").then_some(())
        });
    }
}

#[test]
fn a_job_whose_record_is_broken_can_be_killed() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    // Once the last save is over, nothing writes the record anew.
    eventually("the save", || sandbox.status("j")["lastEventAt"].is_string().then_some(()));
    fs::write(sandbox.job("j").join("meta.json"), "{").unwrap();
    let answer = sandbox.run(["kill", "j"]);
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.status("j")["status"], "killed");
}

#[test]
fn a_job_with_something_else_for_its_record_can_be_killed() {
    use nix::sys::stat::Mode;
    for what in ["directory", "pipe", "link"] {
        let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
        sandbox.start("j", &[]);
        await_file(&sandbox.path("up"));
        eventually("the save", || sandbox.status("j")["lastEventAt"].is_string().then_some(()));
        let meta = sandbox.job("j").join("meta.json");
        fs::remove_file(&meta).unwrap();
        match what {
            "directory" => fs::create_dir_all(meta.join("sub")).unwrap(),
            "pipe" => nix::unistd::mkfifo(&meta, Mode::S_IRWXU).unwrap(),
            _ => std::os::unix::fs::symlink("/etc/passwd", &meta).unwrap(),
        }
        let answer = sandbox.run(["kill", "j"]);
        sandbox.assert_nothing_left("j");
        if what == "directory" {
            // Nothing of the job lives; but its record has no place.
            assert_eq!((answer.code, answer.text("code")), (1, "jobs_dir_error"));
        } else {
            assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{what}: {answer:?}");
            assert_eq!(sandbox.status("j")["status"], "killed");
        }
    }
}

#[test]
fn foreign_files_in_a_job_are_left_alone() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let job = sandbox.job("j");
    fs::write(job.join("notes.txt"), "mine").unwrap();
    fs::create_dir(job.join("folder")).unwrap();
    nix::unistd::mkfifo(&job.join("result.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    kill(worker);
    // A pipe under a name of ours holds nobody up.
    assert_eq!(sandbox.status("j")["reason"], "worker_died");
    assert_eq!(sandbox.run(["result", "j"])["reason"], "worker_died");
    sandbox.script(WORKS);
    assert_eq!(sandbox.run(["recover", "j"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(job.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn clocks_that_jump_change_no_duration_and_no_order() {
    let shift = support::sandbox::example("libclock_shift.so");
    if cfg!(not(target_env = "gnu")) || !shift.exists() {
        eprintln!("clocks_that_jump: skipped, {} was not built", shift.display());
        return;
    }
    let mut sandbox = Sandbox::new(
        "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nsay a\ntouch $DIR/up2\nwait-file $DIR/go2\n\
         result ok\neof",
    );
    sandbox.set("LD_PRELOAD", &shift);
    sandbox.set("CLOCK_SHIFT", sandbox.path("shift"));
    let set = |seconds: i64| {
        fs::write(sandbox.path("new"), seconds.to_string()).unwrap();
        fs::rename(sandbox.path("new"), sandbox.path("shift")).unwrap();
    };
    set(0);
    sandbox.start("j", &["--timeout", "10m"]);
    await_file(&sandbox.path("up"));
    set(86_400 * 30);
    assert_eq!(sandbox.status("j")["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.path("up2"));
    set(-86_400 * 30);
    fs::write(sandbox.path("go2"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    let record = fs::read(sandbox.job("j").join("meta.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert!(record["elapsedMs"].as_u64().unwrap() < 600_000, "{record}");
    assert!(record["endedAt"].as_str() < record["startedAt"].as_str(), "the clock was set back");
    assert_in_order(&sandbox, "j");
    let shown = sandbox.run(["status", "j", "--plain"]).stdout;
    assert!(!shown.contains("30d"), "{shown}");
}

#[test]
fn a_caller_without_descriptors_is_refused() {
    let sandbox = Sandbox::new(WORKS);
    for most in 4..12 {
        let id = format!("j{most}");
        let call = sandbox.command(["start", &id, "--prompt", "x"]);
        let answer = Answer::of(limited(call, Resource::RLIMIT_NOFILE, most), Vec::new());
        if answer.code == 0 {
            sandbox.wait(&id);
            continue;
        }
        // The job is not there, or has failed and says why.
        let told = format!("{}{}", answer.stdout, answer.stderr);
        assert!(
            told.contains("Too many open files") || told.contains("died at once"),
            "{most}: {told}"
        );
        let status = sandbox.run(["status", &id]);
        assert!(status.code == 4 || status["status"] == "failed", "{most}: {status:?}");
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_user_without_processes_is_refused() {
    if !is_root("a_user_without_processes") {
        return;
    }
    const USER: u32 = 54_322;
    let mut sandbox = Sandbox::new(WORKS);
    // What the user must reach lies elsewhere than in the checkout, which may be closed to it.
    for (from, name) in [
        (Path::new(env!("CARGO_BIN_EXE_claudejob")), "claudejob"),
        (&support::sandbox::fake_claude(), "claude"),
    ] {
        install(&sandbox.path(name), &fs::read(from).unwrap());
    }
    sandbox.set("CLAUDE_SKILL_CLAUDE", sandbox.path("claude"));
    give(&sandbox.path(""), USER);
    let mut told = Vec::new();
    for most in 1..4 {
        let id = format!("j{most}");
        let mut command = Command::new(sandbox.path("claudejob"));
        let like = sandbox.command(["start", &id, "--prompt", "x"]);
        command.args(like.get_args()).current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let command = limited(as_user(command, USER), Resource::RLIMIT_NPROC, most);
        let answer = Answer::of(command, Vec::new());
        told.push(format!("{}{}", answer.stdout, answer.stderr));
        if answer.code == 0 {
            let mut wait = Command::new(sandbox.path("claudejob"));
            wait.args(["wait", &id]).env("CLAUDE_SKILL_JOBS_DIR", sandbox.jobs());
            Answer::of(as_user(wait, USER), Vec::new());
        }
    }
    give(&sandbox.path(""), 0);
    // One process: `start` alone. Two: its worker, and no claude.
    assert!(
        told[0].contains("launch_failed") && told[0].contains("Resource temporarily"),
        "{told:?}"
    );
    assert!(
        told[1].contains("launch_failed") && told[1].contains("Resource temporarily"),
        "{told:?}"
    );
    assert_eq!(sandbox.status("j2")["reason"], "launch_failed");
}

#[test]
fn scarce_memory_is_refused_or_named() {
    let sandbox = Sandbox::new(WORKS);
    // From far too little to enough: whatever happens is told, and nothing goes on unseen.
    for megabytes in [4, 5, 6, 8, 12, 16, 64, 512] {
        let id = format!("j{megabytes}");
        let call = sandbox.command(["start", &id, "--prompt", "x"]);
        let answer = Answer::of(limited(call, Resource::RLIMIT_AS, megabytes << 20), Vec::new());
        let status = sandbox.run(["status", &id]);
        if answer.code == 0 {
            sandbox.wait(&id);
        } else {
            let failed = status["status"] == "failed" && status["error"].is_string();
            assert!(status.code == 4 || failed, "{megabytes}: {answer:?} {status:?}");
        }
        sandbox.assert_nothing_left(&id);
    }
    assert_eq!(sandbox.status("j512")["status"], "completed");
}

#[test]
fn a_program_that_is_replaced_while_jobs_run_changes_nothing_for_them() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
    let program = sandbox.path("claudejob");
    let replace = || {
        install(&sandbox.path("coming"), &fs::read(env!("CARGO_BIN_EXE_claudejob")).unwrap());
        fs::rename(sandbox.path("coming"), &program).unwrap();
    };
    replace();
    let call = |arguments: &[&str]| {
        let like = sandbox.command(arguments);
        let mut command = Command::new(&program);
        command.args(like.get_args()).current_dir(sandbox.work()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::of(command, Vec::new())
    };
    assert_eq!(call(&START).code, 0);
    await_file(&sandbox.path("up"));
    replace();
    assert_eq!(call(&["status", "j"])["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    call(&["wait", "j"]).expect_end(0, "completed", None);
}

#[test]
fn a_full_disk_can_be_cleaned_and_what_was_spent_is_not_forgotten() {
    if !is_root("a_full_disk_can_be_cleaned") {
        return;
    }
    let mut sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof",
    );
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]).expect_end(0, "completed", None);
    }
    disk.fill();
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &2.into()), "{cleaned:?}");
    assert_eq!(cleaned["warnings"], serde_json::json!([]), "{cleaned:?}");
    let refused = sandbox.run(["start", "c", "--prompt", "x", "--budget-usd", "1.50/day"]);
    assert_eq!(refused["code"], "budget_exceeded", "{refused:?}");
    assert!(refused.text("error").contains("$1.50 of $1.50"), "{refused:?}");
    let left: Vec<_> = fs::read_dir(disk.path("jobs/.new")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_job_that_cannot_be_removed_does_not_keep_the_others() {
    if !is_root("a_job_that_cannot_be_removed") {
        return;
    }
    let sandbox = Sandbox::new(WORKS);
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]);
    }
    // A directory that something is mounted on cannot be renamed.
    let disk = Disk::mount(sandbox.job("stuck"), 1 << 20);
    let record = fs::read_to_string(sandbox.job("a").join("meta.json")).unwrap();
    fs::write(disk.path("meta.json"), record.replace("\"jobId\":\"a\"", "\"jobId\":\"stuck\""))
        .unwrap();
    fs::write(disk.path("lock"), "").unwrap();
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (1, &2.into()), "{cleaned:?}");
    assert_eq!(cleaned["left"][0]["jobId"], "stuck", "{cleaned:?}");
    let refused = sandbox.run(["clean", "stuck"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"jobs_dir_error".into()), "{refused:?}");
    assert!(disk.path("meta.json").exists());
}

/// Calls the program in a shell that has set these limits.
fn with_ulimit(sandbox: &Sandbox, limits: &str, arguments: &[&str]) -> Answer {
    let inner = sandbox.command(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.current_dir(sandbox.work());
    Answer::of(command, Vec::new())
}

#[test]
fn a_limit_of_file_sizes_is_named_and_no_worker_dies_of_it() {
    let sandbox = Sandbox::new("read\ninit\nfill 400000 1\nresult ok\neof");
    with_ulimit(&sandbox, "ulimit -c 0; ulimit -f 200", &START);
    let ended = sandbox.wait("j");
    ended.expect_end(0, "completed", None);
    let warnings = ended["warnings"].to_string();
    assert!(
        warnings.contains("output.log is incomplete: the caller's file size limit"),
        "{warnings}"
    );
    assert!(warnings.contains("bytes, ulimit -f"), "{warnings}");
}

#[test]
fn a_limit_of_processor_time_is_that_of_claude_and_not_of_its_worker() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let start = with_ulimit(&sandbox, "ulimit -S -t 600; ulimit -H -t 900", &START);
    await_file(&sandbox.path("up"));
    let limit_of = |pid: i64| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap().to_owned();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let worker = start["pid"].as_i64().unwrap();
    assert_eq!(limit_of(worker), ["900", "900"]);
    let record: Value =
        serde_json::from_slice(&fs::read(sandbox.job("j").join("meta.json")).unwrap()).unwrap();
    assert_eq!(limit_of(record["claudePid"].as_i64().unwrap()), ["600", "900"]);
    let warnings = sandbox.status("j")["warnings"].to_string();
    assert!(warnings.contains("900 s, ulimit -t"), "{warnings}");
    sandbox.run(["kill", "j"]);
}

#[test]
fn a_prompt_without_an_end_is_refused() {
    let sandbox = Sandbox::new(WORKS);
    for (verb, option) in [("start", "--prompt-file"), ("send", "--message-file")] {
        let answer = sandbox.run([verb, "j", option, "/dev/zero"]);
        let code = if verb == "start" { "prompt_too_long" } else { "message_too_long" };
        assert_eq!((answer.code, answer.text("code")), (1, code), "{answer:?}");
        assert!(answer.text("error").contains("is longer than 10"), "{answer:?}");
    }
    let mut command = sandbox.command(["start", "j", "--prompt", "-"]);
    let output = command.stdin(fs::File::open("/dev/zero").unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("prompt_too_long"), "{output:?}");
    assert!(!sandbox.job("j").exists());
}

#[test]
fn what_claude_is_told_is_in_no_arguments_of_who_waits() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let calls: [&[&str]; 3] = [
        &["start", "j", "--prompt", "SECRET", "--wait", "1m"],
        &["send", "j", "--message", "SECRET", "--wait", "1m"],
        &["send", "j", "--message=SECRET", "--wait", "1m"],
    ];
    let mut waiting = Vec::new();
    for call in calls {
        let mut command = sandbox.command(call);
        waiting.push(command.stdout(Stdio::null()).spawn().unwrap());
        await_file(&sandbox.path("up"));
        let arguments = format!("/proc/{}/cmdline", waiting.last().unwrap().id());
        let shown =
            || fs::read(&arguments).ok().map(|it| String::from_utf8_lossy(&it).into_owned());
        eventually("the text to be hidden", || {
            let shown = shown()?;
            (shown.contains("--wait") && !shown.contains("SECRET")).then_some(())
        });
    }
    sandbox.run(["kill", "j"]);
    for mut child in waiting {
        child.wait().unwrap();
    }
}

#[test]
fn a_start_whose_answer_is_lost_says_that_the_job_runs() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sandbox.command(START).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("job j was started and is running"), "{said}");
    assert!(said.contains("claudejob status j"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    sandbox.wait("j").expect_end(0, "completed", None);
}
