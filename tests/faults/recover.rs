//! What `recover` accepts and refuses.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::WORKS;
use crate::support::processes::{kill, send};
use crate::support::sandbox::fake_claude;
use crate::support::{Answer, Sandbox, await_file, eventually, install, is_alive};

#[test]
fn refuses_to_recover_jobs_that_were_not_lost() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up-$JOB\nhang");
    sandbox.start("killed", &[]);
    sandbox.run(["kill", "killed"]);
    sandbox.start("live", &[]);
    await_file(&sandbox.path("up-live"));
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
fn recover_all_gives_up_a_claude_that_never_starts() {
    let sandbox = Sandbox::new("read\ninit\ndie KILL");
    let claude = sandbox.path("claude");
    symlink(fake_claude(), &claude).unwrap();
    let told = "echo $CLAUDEJOB_STATUS >> $FAKE_DIR/told";
    sandbox.run_job("j", &["--claude", claude.to_str().unwrap(), "--on-event", told]);
    fs::remove_file(&claude).unwrap();
    install(&claude, b"#!/nowhere/at/all\n");
    let mut recovered = Vec::new();
    for _ in 0..5 {
        let answer = sandbox.run(["recover", "--all"]);
        recovered.push(answer["failed"].as_array().unwrap().len());
        // Its worker holds the lock a moment longer than it needs for the verdict.
        sandbox.wait("j").expect_end(1, "failed", Some("launch_failed"));
    }
    assert_eq!(recovered, [1, 1, 1, 0, 0]);
    let status = sandbox.status("j");
    assert_eq!((&status["reason"], &status["attempt"]), (&"launch_failed".into(), &4.into()));
    let hint = status.text("hint");
    assert!(
        hint.starts_with("claudejob logs j") && hint.ends_with("claudejob recover j"),
        "{hint}"
    );
    eventually("four notifications", || {
        let told = fs::read_to_string(sandbox.path("told")).unwrap_or_default();
        (told.lines().count() == 4).then_some(())
    });
    // A person who has removed the cause names the job.
    sandbox.script(WORKS);
    fs::remove_file(&claude).unwrap();
    symlink(fake_claude(), &claude).unwrap();
    assert_eq!(sandbox.run(["recover", "j"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn one_of_ten_recovers_wins() {
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
fn recover_checks_its_needs_before_it_changes_a_job() {
    let mut sandbox = Sandbox::new("read\ninit\ndie KILL");
    let cwd = sandbox.path("gone");
    fs::create_dir(&cwd).unwrap();
    sandbox.run_job("j", &["--cwd", cwd.to_str().unwrap()]);
    let before = fs::read(sandbox.job("j").join("meta.json")).unwrap();
    fs::remove_dir(&cwd).unwrap();
    let refused = sandbox.run(["recover", "j"]);
    assert_eq!(refused["code"], "bad_cwd");
    assert!(refused.text("hint").starts_with("ls -ld "), "{refused:?}");
    let all = sandbox.run(["recover", "--all"]);
    assert_eq!((all.code, &all["failed"][0]["code"]), (1, &"bad_cwd".into()), "{all:?}");
    fs::create_dir(&cwd).unwrap();
    sandbox.unset("ANTHROPIC_API_KEY");
    assert_eq!(sandbox.run(["recover", "j"])["code"], "not_logged_in");
    assert!(fs::read(sandbox.job("j").join("meta.json")).unwrap() == before);
}

#[test]
fn reports_a_reboot_as_host_restarted() {
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
