//! Logs that lost lines, and results that do not follow from their log.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::events;
use crate::support::faults::Disk;
use crate::support::processes::kill;
use crate::support::{Sandbox, await_file, eventually};

#[test]
fn reports_a_log_that_others_changed() {
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

/// Background work that begins in a turn. A log that has lost its line makes the turn look like the
/// end of the job.
const BACKGROUND_WORK: &str = "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\n\
    line 8000\njson {\"type\":\"system\",\"subtype\":\"task_started\",\"task_id\":\"b\"}\n\
    touch $DIR/began\nwait-file $DIR/go-on\nsay it works on\nresult later\nhang";

/// Kills the worker after the end of the turn, and asserts that the job did not end with the turn.
#[track_caller]
fn assert_lost_after_the_turn(sandbox: &Sandbox, job: &Path, worker: i32) {
    fs::write(sandbox.path("go-on"), "").unwrap();
    await_file(&job.join("turns.ndjson"));
    kill(worker);
    let _ = fs::remove_dir(job.join("meta.json.tmp"));
    let status = sandbox.status("j");
    assert_eq!(status["reason"], "worker_died", "{status:?}");
    assert!(status["hint"].is_string(), "{status:?}");
}

#[test]
fn a_damaged_log_completes_no_lost_job() {
    // The worker can record the loss, or cannot.
    for is_reported in [true, false] {
        let sandbox = Sandbox::new(BACKGROUND_WORK);
        let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path("up"));
        fs::write(sandbox.path("go"), "").unwrap();
        await_file(&sandbox.path("began"));
        let job = sandbox.job("j");
        let log = job.join("output.log");
        eventually("the log", || {
            fs::read_to_string(&log).unwrap().contains("task_started").then_some(())
        });
        if !is_reported {
            // A directory in place of the record's temporary file, unless the worker is just
            // writing that.
            eventually("the directory in place of the temporary file", || {
                fs::create_dir(job.join("meta.json.tmp")).ok()
            });
        }
        fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
        assert_lost_after_the_turn(&sandbox, &job, worker);
    }
}

#[test]
fn a_forged_result_completes_no_lost_job() {
    let forged = |status: &str, reason: &str| {
        format!(
            r#"{{"jobId":"j","status":"{status}","attempt":1,"reason":{reason},"result":"forged"}}"#
        )
    };
    for (script, forged, expected, result) in [
        // The agent is still working.
        ("read\ninit\ntouch $DIR/up\nhang", forged("completed", "null"), "failed", None),
        ("read\ninit\ntouch $DIR/up\nhang", forged("killed", "null"), "failed", None),
        // Claude had given its answer, and it is another one.
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
#[ignore = "needs root"]
fn a_temporarily_full_disk_completes_no_lost_job() {
    let mut sandbox = Sandbox::new(BACKGROUND_WORK);
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let job = disk.path("jobs/j");
    disk.fill_beside(&sandbox, "j");
    fs::write(sandbox.path("go"), "").unwrap();
    eventually("the warning", || {
        sandbox.status("j")["warnings"].to_string().contains("output.log").then_some(())
    });
    await_file(&sandbox.path("began"));
    fs::remove_file(disk.path("filler")).unwrap();
    assert_lost_after_the_turn(&sandbox, &job, worker);
    let log = fs::read_to_string(job.join("output.log")).unwrap();
    assert!(log.contains("later") && !log.contains("task_started"), "{log}");
}

#[test]
fn a_pending_turn_does_not_end_with_the_previous_one() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hi\ntouch $DIR/up\nwait-file $DIR/go\nresult one\nhear $DIR/heard\nhang",
    );
    let worker = sandbox.start("j", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    assert_eq!(sandbox.run(["send", "j", "--message", "more"]).code, 0);
    // After the result the worker would not send it any more.
    eventually("the message to be sent to claude", || {
        let sent = |event: &Value| event["event"] == "message_sent";
        events(&sandbox, "j").iter().any(sent).then_some(())
    });
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.job("j").join("inbox/.taken/0000000001.json"));
    kill(worker);
    // Lines for which the disk had no space, or that were not yet written at a power failure.
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
