//! Records that other programs changed, damaged or replaced.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::processes::{is_stopped, send};
use crate::support::{Sandbox, await_file, eventually, is_alive};

#[test]
fn a_record_cannot_direct_signals_at_other_processes() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    // A stopped worker cannot put its own PID back.
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
fn the_worker_repairs_a_damaged_record() {
    for broken in ["", "{\"jobId\":", "{\"version\":9,\"jobId\":\"j\",\"status\":\"dreaming\"}"] {
        let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nresult ok\neof");
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        sandbox.start("other", &[]);
        await_file(&sandbox.path("up"));
        // A stopped worker does not save its progress meanwhile.
        send(worker, Signal::SIGSTOP);
        eventually("the stop", || is_stopped(worker).then_some(()));
        let meta = sandbox.job("j").join("meta.json");
        fs::remove_file(&meta).unwrap();
        if !broken.is_empty() {
            fs::write(&meta, broken).unwrap();
        }
        let status = sandbox.run(["status", "j"]);
        assert_eq!((status.code, &status["code"]), (1, &"record_unreadable".into()), "{status:?}");
        send(worker, Signal::SIGCONT);
        assert_eq!(sandbox.status("other")["status"], "running");
        fs::write(sandbox.path("go"), "").unwrap();
        sandbox.wait("other").expect_end(0, "completed", None);
        eventually("the record", || {
            (sandbox.run(["status", "j"])["status"] == "completed").then_some(())
        });
    }
}

#[test]
fn never_overwrites_a_record_of_a_newer_version() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("j", &[]);
    let meta = sandbox.job("j").join("meta.json");
    let text = fs::read_to_string(&meta).unwrap();
    for fields in [
        json!({"status": "failed", "reason": "worker_died"}),
        json!({"status": "running", "endedAt": null}),
    ] {
        let mut record: Value = serde_json::from_str(&text).unwrap();
        record["version"] = json!(99);
        for (name, value) in fields.as_object().unwrap() {
            record[name] = value.clone();
        }
        let newer = record.to_string();
        fs::write(&meta, &newer).unwrap();
        for call in ["status", "result", "recover", "kill", "redeliver"] {
            sandbox.run([call, "j"]);
            assert_eq!(fs::read_to_string(&meta).unwrap(), newer, "{call} {fields}");
        }
        sandbox.run(["resume", "j", "--message", "more"]);
        sandbox.run(["list"]);
        assert_eq!(fs::read_to_string(&meta).unwrap(), newer, "{fields}");
    }
}

#[test]
fn kills_a_job_with_a_damaged_record() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    // After the last save, nothing rewrites the record.
    eventually("the save", || sandbox.status("j")["lastEventAt"].is_string().then_some(()));
    fs::write(sandbox.job("j").join("meta.json"), "{").unwrap();
    let answer = sandbox.run(["kill", "j"]);
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    sandbox.assert_nothing_left("j");
    assert_eq!(sandbox.status("j")["status"], "killed");
}

#[test]
fn kills_a_job_whose_record_is_not_a_file() {
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
            // No process of the job is left, but its record cannot be written.
            assert_eq!((answer.code, answer.text("code")), (1, "jobs_dir_error"));
        } else {
            assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{what}: {answer:?}");
            assert_eq!(sandbox.status("j")["status"], "killed");
        }
    }
}
