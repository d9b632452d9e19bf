//! Notifications of a job's events: commands and agents that fail, hang or refuse, and that are
//! notified once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "notifications/gateway.rs"]
mod gateway;
#[path = "notifications/notifier.rs"]
mod notifier;
#[path = "notifications/openclaw.rs"]
mod openclaw;
#[path = "notifications/retries.rs"]
mod retries;
mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{is_alive, kill, pid_in, processes_of, send};
use support::{Sandbox, eventually};

const QUICK: &str = "read\ninit\nsay done\nresult All is well.\neof";

/// Waits until no notifier of the job is running, and returns the undelivered notifications.
fn delivered(sandbox: &Sandbox, id: &str) -> Value {
    eventually("the notifier", || {
        processes_of(&sandbox.job(id).join("notifications")).is_empty().then_some(())
    });
    sandbox.status(id)["undeliveredNotifications"].clone()
}

fn lines(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_command_gets_each_end_on_its_stdin() {
    let sandbox = Sandbox::new(QUICK);
    let notified = sandbox.path("notified");
    let command = format!(
        "cat >> {0}.json; echo \"$CLAUDEJOB_ID $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS $PWD\" >> {0}",
        notified.display()
    );
    sandbox.run_job("a", &["--on-event", &command]).expect_end(0, "completed", None);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert_eq!(
        lines(&sandbox, "notified"),
        [format!("a completed completed {}", sandbox.work().display())]
    );
    let status: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("notified.json")).unwrap()).unwrap();
    assert_eq!((&status["jobId"], &status["status"]), (&"a".into(), &"completed".into()));
    assert_eq!(sandbox.run(["list", "--undelivered"]).json, serde_json::json!([]));
}

#[test]
fn a_command_gets_the_events_of_its_filter() {
    let mut sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.set(
        "CLAUDE_SKILL_ON_EVENT",
        format!("echo $CLAUDEJOB_ID-$CLAUDEJOB_EVENT >> {}", sandbox.path("notified").display()),
    );
    sandbox.start("killed", &[]);
    sandbox.start("unheard", &["--on-event-filter", "completed,failed"]);
    for id in ["killed", "unheard"] {
        assert_eq!(sandbox.run(["kill", id]).code, 0);
        delivered(&sandbox, id);
    }
    assert_eq!(lines(&sandbox, "notified"), ["killed-killed"]);
    let refused = sandbox.run(["start", "x", "--prompt", "x", "--on-event-filter", "bored"]);
    assert_eq!((refused.code, refused.text("code")), (2, "usage"));
}

#[test]
fn notifies_of_a_blocked_job_at_once() {
    let sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Write\",\"input\":{}}}\nread\nsay ok\nresult ok\neof",
    );
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("notified").display());
    sandbox.start("a", &["--ask", "--on-event", &command]);
    assert_eq!(sandbox.run(["wait", "a"]).code, 5);
    eventually("the notification", || (lines(&sandbox, "notified") == ["blocked"]).then_some(()));
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    delivered(&sandbox, "a");
    assert_eq!(lines(&sandbox, "notified"), ["blocked", "completed"]);
}

#[test]
fn a_command_that_works_at_last_is_delivered_once() {
    let sandbox = Sandbox::new(QUICK);
    let tries = sandbox.path("tries");
    let command = format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ]", tries.display());
    sandbox.run_job("a", &["--on-event", &command]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert_eq!(lines(&sandbox, "tries").len(), 3);
    // It is not delivered again.
    let again = sandbox.run(["redeliver"]);
    assert_eq!((again.code, &again["delivered"]), (0, &0.into()));
    assert_eq!(lines(&sandbox, "tries").len(), 3);
}

#[test]
fn shows_and_redelivers_undelivered_notifications() {
    let sandbox = Sandbox::new(QUICK);
    let command = format!("echo no >&2; [ -e {} ]", sandbox.path("works").display());
    sandbox.run_job("a", &["--on-event", "true", "--on-event", &command]);
    let undelivered = delivered(&sandbox, "a");
    let notification = &undelivered[0];
    assert_eq!(
        (&notification["to"], &notification["event"], &notification["tries"]),
        (&"command 2".into(), &"completed".into(), &4.into())
    );
    assert_eq!(notification["error"], "exit code 1: no");
    assert_eq!(notification["hint"], "claudejob redeliver a");
    let text = sandbox.run(["status", "a", "--plain"]).stdout;
    assert!(text.contains("claudejob redeliver a"), "{text}");
    let list = sandbox.run(["list", "--undelivered"]);
    assert_eq!(
        (&list.json[0]["jobId"], &list.json[0]["undeliveredNotifications"][0]["to"]),
        (&"a".into(), &"command 2".into())
    );
    assert_eq!(list.json[0]["undeliveredNotifications"][0]["hint"], "claudejob redeliver a");
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    let kept = sandbox.run(["clean", "a"]);
    assert_eq!((kept.code, &kept["removed"]), (1, &0.into()));
    assert!(kept["left"][0]["error"].as_str().unwrap().contains("command 2"), "{kept:?}");
    assert!(kept["left"][0]["hint"].as_str().unwrap().contains("claudejob rm a"), "{kept:?}");
    assert_eq!(sandbox.run(["rm", "a", "--dry-run"])["removed"], 1);
    assert_eq!(sandbox.run(["rm", "--status", "completed"])["removed"], 0);

    let table = sandbox.run(["list", "--undelivered", "--plain"]).stdout;
    assert!(table.contains("not delivered: completed to command 2"), "{table}");
    let again = sandbox.run(["redeliver", "a"]);
    assert_eq!((again.code, &again["delivered"]), (1, &0.into()));
    assert_eq!(
        again["failed"][0]["undeliveredNotifications"][0]["tries"], 5,
        "redeliver tries again"
    );
    let hint = again["failed"][0]["hint"].as_str().unwrap();
    assert!(hint.starts_with("claudejob redeliver a  # "), "{hint}");
    fs::write(sandbox.path("works"), "").unwrap();
    for filter in [["-l", "x=y"], ["--status", "failed"]] {
        let others = sandbox.run([&["redeliver"][..], &filter].concat());
        assert_eq!((others.code, &others["delivered"]), (0, &0.into()), "{others:?}");
        assert_eq!(others["failed"], serde_json::json!([]));
    }
    let again = sandbox.run(["redeliver", "--status", "completed"]);
    assert_eq!((again.code, &again["delivered"]), (0, &1.into()));
    assert_eq!(sandbox.status("a")["undeliveredNotifications"], serde_json::json!([]));
    assert_eq!(sandbox.status("a")["undelivered"], Value::Null);
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 1);
}

#[test]
fn a_hanging_command_delays_no_verdict() {
    let sandbox = Sandbox::new(QUICK);
    let pid = sandbox.path("pid");
    let began = Instant::now();
    let command = format!("echo $$ > {}; setsid sleep 1000 & wait", pid.display());
    sandbox.run_job("a", &["--on-event", &command]).expect_end(0, "completed", None);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    eventually("the command", || fs::read_to_string(&pid).ok().filter(|text| !text.is_empty()));
    assert_eq!(
        sandbox.status("a")["undeliveredNotifications"][0]["error"],
        Value::Null,
        "delivery in progress"
    );
    // The job's cleanup would not end these processes, and they must not stay. The command may just be
    // starting another one.
    let directory = sandbox.job("a").join("notifications");
    eventually("all of it to end", || {
        let left = processes_of(&directory);
        left.iter().for_each(|pid| send(*pid, Signal::SIGKILL));
        left.is_empty().then_some(())
    });
}

#[test]
fn a_hanging_command_is_ended_retried_and_given_up() {
    let sandbox = Sandbox::new(QUICK);
    let command = format!("echo x >> {}; sleep 1000", sandbox.path("tried").display());
    sandbox.run_job("a", &["--on-event", &command, "--on-event-timeout", "300ms"]);
    let left = delivered(&sandbox, "a");
    assert_eq!(left[0]["tries"], 4, "{left:?}");
    let why = "it took longer than 300ms and was ended";
    assert_eq!(left[0]["error"], why);
    // On a busy machine it may be ended before it writes.
    assert!(lines(&sandbox, "tried").len() <= 4);
    let directory = sandbox.job("a").join("notifications");
    eventually("all of it to end", || processes_of(&directory).is_empty().then_some(()));
}

#[test]
fn an_ended_command_leaves_no_process() {
    let sandbox = Sandbox::new(QUICK);
    let pid = sandbox.path("pid");
    // Neither a session nor an environment nor, once the shell is gone, a parent identifies its
    // owner. On a busy machine a try may be ended before it has come so far.
    let command = format!(
        "[ -s {0} ] && exit; \
         env -i setsid sh -c 'echo $$ > {0}; exec sleep 1000' & sleep 1000",
        pid.display()
    );
    sandbox.run_job("a", &["--on-event", &command, "--on-event-timeout", "3s"]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    let left = pid_in(&pid);
    let alive = is_alive(left);
    send(left, Signal::SIGKILL);
    assert!(!alive);
}

#[test]
fn a_reader_notifies_of_a_killed_worker() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("notified").display());
    let worker = sandbox.start("a", &["--on-event", &command])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("the end", || (sandbox.status("a")["reason"] == "worker_died").then_some(()));
    delivered(&sandbox, "a");
    sandbox.run(["list"]);
    assert_eq!(lines(&sandbox, "notified"), ["failed"]);
}

#[test]
fn notifies_of_an_end_once_with_its_final_status() {
    for point in ["settle:told", "settle:saved", "kill:looked", "kill:alone"] {
        let mut sandbox = Sandbox::new("read\ninit\nhang");
        let notified = sandbox.path("notified");
        let command = format!("echo $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS >> {}", notified.display());
        let worker = sandbox.start("a", &["--on-event", &command])["pid"].as_i64().unwrap();
        kill(worker as i32);
        // The first reader dies on the way; others reach the same end or another.
        sandbox.break_at(point, ["kill", "a"]);
        for call in [["status", "a"], ["kill", "a"], ["status", "a"]] {
            sandbox.run(call);
        }
        delivered(&sandbox, "a");
        let status = sandbox.status("a").text("status").to_owned();
        assert_eq!(lines(&sandbox, "notified"), [format!("{status} {status}")], "{point}");
    }
    let sandbox = Sandbox::new("read\ninit\nhang");
    for round in 0..5 {
        let id = format!("j{round}");
        let notified = sandbox.path(&format!("notified-{id}"));
        let command = format!("echo $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS >> {}", notified.display());
        let worker = sandbox.start(&id, &["--on-event", &command])["pid"].as_i64().unwrap();
        kill(worker as i32);
        let calls: Vec<_> = [&["kill", &id][..], &["status", &id], &["list"], &["status", &id]]
            .map(|call| sandbox.command(call).stdout(Stdio::null()).spawn().unwrap())
            .into();
        for mut call in calls {
            call.wait().unwrap();
        }
        delivered(&sandbox, &id);
        let status = sandbox.status(&id).text("status").to_owned();
        assert_eq!(lines(&sandbox, &format!("notified-{id}")), [format!("{status} {status}")]);
    }
}

#[test]
fn a_worker_that_dies_at_its_end_notifies_once() {
    for point in ["end:outcome-saved", "end:record-written", "worker:notifying"] {
        let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
        let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("notified").display());
        sandbox.break_at(point, ["start", "a", "--prompt", "x", "--on-event", &command]);
        eventually("the end", || (sandbox.status("a")["status"] == "completed").then_some(()));
        delivered(&sandbox, "a");
        assert_eq!(lines(&sandbox, "notified"), ["completed"], "{point}");
    }
}

#[test]
fn uses_the_legacy_notifications_directory() {
    let sandbox = Sandbox::new(QUICK);
    let (works, notified) = (sandbox.path("works"), sandbox.path("notified"));
    let command =
        format!("[ -e {} ] && echo $CLAUDEJOB_EVENT >> {}", works.display(), notified.display());
    sandbox.run_job("a", &["--on-event", &command]);
    let before = delivered(&sandbox, "a");
    assert_eq!((&before[0]["event"], &before[0]["tries"]), (&"completed".into(), &4.into()));
    // Earlier versions use this name.
    let (legacy, current) = (sandbox.job("a").join("news"), sandbox.job("a").join("notifications"));
    fs::rename(&current, &legacy).unwrap();
    assert_eq!(sandbox.status("a")["undeliveredNotifications"], before);
    let list = sandbox.run(["list", "--undelivered"]);
    assert_eq!(list.json[0]["undeliveredNotifications"], before, "{list:?}");
    fs::write(&works, "").unwrap();
    assert_eq!([1, 2].map(|_| sandbox.run(["redeliver"])["delivered"].clone()), [1, 0]);
    assert_eq!(lines(&sandbox, "notified"), ["completed"]);
    assert_eq!(sandbox.status("a")["undeliveredNotifications"], serde_json::json!([]));
    // The next attempt continues to use it.
    assert_eq!(sandbox.run(["resume", "a", "--message", "more"]).code, 0);
    sandbox.wait("a");
    eventually("the delivery", || (lines(&sandbox, "notified").len() == 2).then_some(()));
    eventually("the notifier to end", || processes_of(&legacy).is_empty().then_some(()));
    let log = fs::read_to_string(legacy.join("journal.ndjson")).unwrap();
    assert!(log.contains(r#""attempt":2"#), "{log}");
    assert!(!current.exists());
}

#[test]
fn a_damaged_job_blocks_no_other_notifications() {
    let sandbox = Sandbox::new(QUICK);
    let command = format!("[ -e {} ]", sandbox.path("works").display());
    let options = ["--on-event-filter", "completed", "--on-event", &command];
    for id in ["locked", "torn", "whole", "quiet"] {
        sandbox.run_job(id, if id == "quiet" { &[] } else { &options });
    }
    for id in ["locked", "torn", "whole"] {
        assert_eq!(delivered(&sandbox, id)[0]["tries"], 4);
    }
    let lock = sandbox.job("locked").join("notifications/lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    // One of them has no notifications: `redeliver` ignores it.
    for id in ["torn", "quiet"] {
        fs::write(sandbox.job(id).join("meta.json"), "{").unwrap();
    }
    fs::write(sandbox.path("works"), "").unwrap();
    let again = sandbox.run(["redeliver"]);
    assert_eq!((again.code, &again["delivered"]), (1, &1.into()), "{again:?}");
    let failed = again["failed"].as_array().unwrap();
    let failed: Vec<_> = failed.iter().map(|left| left["jobId"].as_str().unwrap()).collect();
    assert_eq!(failed, ["locked", "torn"]);
    assert!(
        again["failed"][0]["error"].as_str().unwrap().contains("notifications/lock"),
        "{again:?}"
    );
    assert_eq!(again["failed"][0]["undeliveredNotifications"][0]["to"], "command 1");
    assert_eq!(again["failed"][1]["code"], "record_unreadable");
    let text = sandbox.run(["redeliver", "--plain"]).stdout;
    assert!(text.contains("not delivered: torn: "), "{text}");
    let one = sandbox.run(["redeliver", "torn"]);
    assert_eq!((one.code, one.text("code")), (1, "record_unreadable"));
}

#[test]
fn notifies_of_an_end_that_was_not_recorded() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    let command = format!("echo $CLAUDEJOB_ID >> {}", sandbox.path("notified").display());
    sandbox.start("notified", &["--on-event", &command]);
    sandbox.start("unheard", &["--on-event", &command, "--on-event-filter", "failed"]);
    // Blocks the file with notifications, as a full disk does.
    let in_the_way = ["notified", "unheard"].map(|id| sandbox.job(id).join("notifications"));
    for file in &in_the_way {
        fs::write(file, "").unwrap();
    }
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("notified").expect_end(0, "completed", None);
    sandbox.wait("unheard").expect_end(0, "completed", None);
    let list = sandbox.run(["list", "--undelivered"]);
    assert_eq!(list.json.as_array().unwrap().len(), 1, "{list:?}");
    let notification = &list.json[0]["undeliveredNotifications"][0];
    assert_eq!(
        (&notification["to"], &notification["event"]),
        (&"command 1".into(), &"completed".into())
    );
    assert_eq!(sandbox.run(["clean", "notified"])["removed"], 0);
    assert_eq!(sandbox.run(["redeliver"]).code, 1);
    assert!(lines(&sandbox, "notified").is_empty());

    for file in &in_the_way {
        fs::remove_file(file).unwrap();
    }
    // The next reader delivers it, once.
    sandbox.status("notified");
    eventually("the notification", || {
        (delivered(&sandbox, "notified") == serde_json::json!([])).then_some(())
    });
    assert_eq!(sandbox.run(["redeliver"])["delivered"], 0);
    assert_eq!(lines(&sandbox, "notified"), ["notified"]);
    // So is the next end, without repeating the one before it.
    assert_eq!(sandbox.run(["resume", "notified", "--message", "more"]).code, 0);
    sandbox.wait("notified");
    eventually("the notification", || {
        (delivered(&sandbox, "notified") == serde_json::json!([])).then_some(())
    });
    assert_eq!(lines(&sandbox, "notified"), ["notified", "notified"]);
    assert_eq!(sandbox.run(["clean"])["removed"], 0);
    assert_eq!(sandbox.run(["clean", "notified", "unheard"])["removed"], 2);
}
