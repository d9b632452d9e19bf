//! Notifications to a gateway that is down for some time.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::openclaw::sandbox;
use crate::support::processes::{is_alive, kill, processes_of, program_of, send};
use crate::support::{Answer, Sandbox, eventually};
use crate::{delivered, lines};

const WAKE: [&str; 2] = ["--wake", "openclaw:agent:main:main"];

/// Counts the tries in the file `tries`, and fails as long as the file `up` is missing.
const DOWN: &str = "echo x >> tries; [ -e up ] || { echo Gateway not reachable >&2; exit 1; }";

/// The notification of the job that is still tried, once it was tried so many times.
fn pending(sandbox: &Sandbox, id: &str, tries: u64) -> Value {
    eventually("the tries", || {
        let left = sandbox.status(id)["undeliveredNotifications"][0].clone();
        assert_eq!(left["error"], Value::Null, "{left}");
        (left["tries"].as_u64() >= Some(tries)).then_some(left)
    })
}

fn notifiers(sandbox: &Sandbox, id: &str) -> Vec<i32> {
    let mut found = processes_of(&sandbox.job(id).join("notifications"));
    found.retain(|pid| program_of(*pid) == "claudejob");
    found
}

/// Waits until the job's notifier is in a pause after this number of tries.
fn await_pause(sandbox: &Sandbox, id: &str, tries: u64) -> i32 {
    let tried = pending(sandbox, id, tries)["tries"].as_u64().unwrap();
    eventually("the pause", || {
        // A try is recorded before its command begins.
        let begun = lines(sandbox, &format!("begun-{id}"));
        let is_begun = begun.iter().filter(|what| *what == "system").count() as u64 >= tried;
        let all = processes_of(&sandbox.job(id).join("notifications"));
        match (all.as_slice(), notifiers(sandbox, id).as_slice()) {
            ([one], [notifier]) if one == notifier && is_begun => Some(*notifier),
            _ => None,
        }
    })
}

#[test]
fn a_gateway_that_comes_back_is_told_once() {
    let sandbox = sandbox("echo x >> tries; [ $(wc -l < tries) -gt 3 ] || exit 1");
    sandbox.run_job("a", &WAKE);
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert_eq!((lines(&sandbox, "tries").len(), lines(&sandbox, "calls").len()), (4, 1));
    assert_eq!(sandbox.run(["redeliver"])["delivered"], 0);
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn a_failing_recipient_delays_no_other() {
    let script = "if [ $1 = system ]; then echo x >> tries; [ -e up ] || exit 1; fi";
    let sandbox = sandbox(script);
    let command = format!("echo x >> {}", sandbox.path("commands").display());
    let others = ["--notify", "openclaw:telegram:1", "--on-event", &command];
    sandbox.run_job("a", &[&WAKE[..], &others].concat());
    await_pause(&sandbox, "a", 3);
    assert_eq!((lines(&sandbox, "calls").len(), lines(&sandbox, "commands").len()), (1, 1));
    let left = sandbox.status("a")["undeliveredNotifications"].clone();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["to"]), (1, &"wake".into()));
    fs::write(sandbox.path("up"), "").unwrap();
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert_eq!((lines(&sandbox, "calls").len(), lines(&sandbox, "commands").len()), (2, 1));
}

#[test]
fn gives_up_a_gateway_after_fifteen_minutes() {
    let mut sandbox = sandbox(DOWN);
    sandbox.shift_clock(0);
    sandbox.run_job("a", &WAKE);
    await_pause(&sandbox, "a", 1);
    sandbox.shift_clock(16 * 60);
    let left = delivered(&sandbox, "a");
    assert_eq!(left[0]["error"], "exit code 1: Gateway not reachable", "{left}");
    assert!(left[0]["tries"].as_u64() < Some(5), "{left}");
    // The start of the gateway is the time to try it again.
    fs::write(sandbox.path("up"), "").unwrap();
    let again = sandbox.run(["redeliver"]);
    assert_eq!((again.code, &again["delivered"]), (0, &1.into()), "{again:?}");
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn a_refusal_that_cannot_pass_is_final() {
    let sandbox = sandbox("echo '[openclaw] Reason: Unknown channel \"x\".' >&2; exit 1");
    sandbox.run_job("a", &["--notify", "openclaw:x:1"]);
    let left = delivered(&sandbox, "a");
    assert_eq!((&left[0]["tries"], &left[0]["to"]), (&1.into(), &"notify 1".into()));
    assert!(left[0]["error"].as_str().unwrap().contains("Unknown channel"), "{left}");
}

#[test]
fn a_message_that_the_gateway_keeps_is_sent_once() {
    let error = "OutboundDeliveryError: Network request for 'sendMessage' failed!";
    let sandbox = sandbox(&format!("echo x >> tries; echo \"{error}\" >&2; exit 1"));
    sandbox.run_job("a", &["--notify", "openclaw:telegram:1"]);
    let left = delivered(&sandbox, "a");
    assert_eq!(left[0]["error"], format!("exit code 1: {error}"));
    assert_eq!(lines(&sandbox, "tries").len(), 1);
}

#[test]
fn redeliver_does_not_wait_for_a_pause() {
    let sandbox = sandbox(DOWN);
    sandbox.run_job("a", &WAKE);
    // The next pause is 8 s long.
    let notifier = await_pause(&sandbox, "a", 4);
    let began = Instant::now();
    let failed = sandbox.run(["redeliver", "a"]);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let left = &failed["failed"][0]["undeliveredNotifications"][0];
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(left["error"].as_str().unwrap().contains("not reachable"), "{failed:?}");
    eventually("the notifier's end", || (!is_alive(notifier)).then_some(()));
    // Another one goes on.
    let next = await_pause(&sandbox, "a", 6);
    fs::write(sandbox.path("up"), "").unwrap();
    // The next pause is 32 s long.
    let began = Instant::now();
    let again = sandbox.run(["redeliver"]);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!((again.code, &again["delivered"]), (0, &1.into()), "{again:?}");
    eventually("the notifier's end", || (!is_alive(next)).then_some(()));
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn redeliver_waits_for_a_try_in_progress() {
    // The first try fails when the gateway is up again.
    let script = "echo x >> tries; [ -e up ] && [ $(wc -l < tries) -gt 1 ] && exit 0; \
                  until [ -e up ]; do sleep 0.05; done; exit 1";
    let sandbox = sandbox(script);
    sandbox.run_job("a", &WAKE);
    eventually("the try", || (lines(&sandbox, "tries").len() == 1).then_some(()));
    let notifier = notifiers(&sandbox, "a");
    let call = sandbox.command(["redeliver", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    // It would be busy after 2 s if the notifier were of an earlier version.
    std::thread::sleep(Duration::from_secs(3));
    fs::write(sandbox.path("up"), "").unwrap();
    let output = call.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, json!({"delivered": 1, "failed": []}));
    assert_eq!(lines(&sandbox, "tries").len(), 2);
    eventually("the notifier's end", || (!is_alive(notifier[0])).then_some(()));
}

#[test]
fn a_long_try_makes_redeliver_busy_and_ends_well() {
    let script = "echo x >> tries; [ $(wc -l < tries) -gt 1 ] || \
                  { until [ -e up ]; do sleep 0.05; done; exit 1; }";
    let sandbox = sandbox(script);
    sandbox.run_job("a", &WAKE);
    eventually("the try", || (lines(&sandbox, "tries").len() == 1).then_some(()));
    let busy = sandbox.run(["redeliver", "a"]);
    assert_eq!((busy.code, busy.text("code")), (75, "busy"), "{busy:?}");
    assert!(busy.text("hint").starts_with("claudejob status a "), "{busy:?}");
    assert!(busy.text("error").contains("a try takes long"), "{busy:?}");
    // The notifier ends after this try, and the one that waits for it tries again.
    fs::write(sandbox.path("up"), "").unwrap();
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert_eq!((lines(&sandbox, "tries").len(), lines(&sandbox, "calls").len()), (2, 1));
}

#[test]
fn an_agent_waits_seconds_for_slow_gateways() {
    let script = "[ -e slow ] || exit 1; until [ -e up ]; do sleep 0.05; done";
    let sandbox = sandbox(script);
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for id in ids {
        sandbox.run_job(id, &WAKE);
        await_pause(&sandbox, id, 1);
    }
    let redeliver = || redeliver_as_agent(&sandbox, &[]);
    let answer = redeliver();
    assert_eq!((answer.code, answer["failed"].as_array().unwrap().len()), (1, ids.len()));
    let first = &answer["failed"][0];
    assert_eq!((&first["code"], &first["jobId"]), (&Value::Null, &"a".into()), "{answer:?}");
    assert_eq!(first["undeliveredNotifications"][0]["error"], "exit code 1", "{answer:?}");
    fs::write(sandbox.path("slow"), "").unwrap();
    let began = Instant::now();
    let answer = redeliver();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!((answer.code, &answer["delivered"]), (1, &0.into()), "{answer:?}");
    let failed = answer["failed"].as_array().unwrap();
    assert_eq!(failed.len(), ids.len(), "{answer:?}");
    assert!(failed.iter().all(|job| job["code"] == "busy"), "{answer:?}");
    // Another process goes on.
    fs::write(sandbox.path("up"), "").unwrap();
    for id in ids {
        await_delivery(&sandbox, id);
    }
    assert_eq!(lines(&sandbox, "calls").len(), ids.len());
    assert_eq!(redeliver().json, json!({"delivered": 0, "failed": []}));
}

#[test]
fn an_agent_waits_seconds_for_a_named_job() {
    let sandbox = sandbox("[ -e slow ] || exit 1; until [ -e up ]; do sleep 0.05; done");
    sandbox.run_job("a", &WAKE);
    await_pause(&sandbox, "a", 1);
    let missing = redeliver_as_agent(&sandbox, &["a", "b"]);
    assert_eq!((missing.code, missing.text("code")), (4, "not_found"), "{missing:?}");
    let failed = redeliver_as_agent(&sandbox, &["a"]);
    let left = &failed["failed"][0];
    assert_eq!((failed.code, &left["code"]), (1, &Value::Null), "{failed:?}");
    assert_eq!(left["undeliveredNotifications"][0]["error"], "exit code 1", "{failed:?}");
    fs::write(sandbox.path("slow"), "").unwrap();
    let began = Instant::now();
    let busy = redeliver_as_agent(&sandbox, &["a"]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!((busy.code, busy.text("code")), (75, "busy"), "{busy:?}");
    assert!(busy.text("hint").starts_with("claudejob status a "), "{busy:?}");
    // Another process goes on.
    fs::write(sandbox.path("up"), "").unwrap();
    await_delivery(&sandbox, "a");
    assert_eq!(lines(&sandbox, "calls").len(), 1);
    let nothing = redeliver_as_agent(&sandbox, &["a"]);
    assert_eq!(nothing.json, json!({"delivered": 0, "failed": []}));
}

/// Redelivers as an agent does that waits only some seconds for an answer.
fn redeliver_as_agent(sandbox: &Sandbox, ids: &[&str]) -> Answer {
    let mut call = sandbox.command([&["redeliver"], ids].concat());
    call.env("OPENCLAW_SHELL", "exec");
    Answer::from_command(call, Vec::new())
}

/// Waits until all is delivered. The process that an agent's call leaves is no notifier.
fn await_delivery(sandbox: &Sandbox, id: &str) {
    eventually("the delivery", || (delivered(sandbox, id) == json!([])).then_some(()));
}

#[test]
fn an_event_does_not_wait_for_a_pause() {
    let sandbox = sandbox(DOWN);
    sandbox.script(
        "read\ninit\njson {\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Write\",\"input\":{}}}\nread\nsay ok\nresult ok\neof",
    );
    sandbox.start("a", &[&WAKE[..], &["--ask"]].concat());
    assert_eq!(sandbox.run(["wait", "a"]).code, 5);
    await_pause(&sandbox, "a", 5);
    fs::write(sandbox.path("up"), "").unwrap();
    let began = Instant::now();
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let calls = lines(&sandbox, "calls");
    // The job may have completed before the first one is delivered.
    let blocked = ["waits for an answer", "waited for an answer; its status is completed now"];
    assert!(blocked.iter().any(|text| calls[0].contains(text)), "{calls:?}");
    assert!(calls.len() == 2 && calls[1].contains("completed"), "{calls:?}");
}

#[test]
fn readers_replace_a_notifier_killed_in_a_pause() {
    let sandbox = sandbox(DOWN);
    sandbox.run_job("a", &WAKE);
    kill(await_pause(&sandbox, "a", 2));
    fs::write(sandbox.path("up"), "").unwrap();
    sandbox.status("a");
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn asks_no_other_process_to_yield() {
    let sandbox = sandbox(DOWN);
    sandbox.run_job("a", &WAKE);
    let notifier = await_pause(&sandbox, "a", 5);
    let path = sandbox.job("a").join("notifications/lock");
    let mark = fs::read_to_string(&path).unwrap();
    assert!(mark.contains("yields"), "{mark}");
    let lock = OpenOptions::new().write(true).open(&path).unwrap();
    // An early version names itself, and would end by the signal at any time.
    lock.set_len(16).unwrap();
    let busy = sandbox.run(["redeliver", "a"]);
    assert_eq!((busy.code, busy.text("code")), (75, "busy"), "{busy:?}");
    assert!(is_alive(notifier));
    // The file names a process that is no notifier.
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = other.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start_time = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    let text = format!("{pid:<15}\nyields {pid} {start_time}\n");
    lock.write_all_at(text.as_bytes(), 0).unwrap();
    let busy = sandbox.run(["redeliver", "a"]);
    assert_eq!((busy.code, busy.text("code")), (75, "busy"), "{busy:?}");
    assert!(is_alive(notifier) && other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        send(pid, Signal::SIGKILL);
    }
}

#[test]
fn six_ends_at_once_are_six_texts() {
    let sandbox = sandbox(DOWN);
    sandbox.script("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    let ids = ["a", "b", "c", "d", "e", "f"];
    for id in ids {
        sandbox.start(id, &WAKE);
    }
    fs::write(sandbox.path("go"), "").unwrap();
    for id in ids {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    for id in ids {
        await_pause(&sandbox, id, 1);
    }
    fs::write(sandbox.path("up"), "").unwrap();
    // The hook at the gateway's start.
    sandbox.run(["redeliver"]);
    for id in ids {
        assert_eq!(delivered(&sandbox, id), json!([]));
    }
    let mut told: Vec<String> = lines(&sandbox, "calls");
    told.sort();
    assert_eq!(told.len(), 6, "{told:?}");
    for (line, id) in told.iter().zip(ids) {
        assert!(line.contains(&format!("job {id} completed")), "{told:?}");
    }
}

#[test]
fn a_late_notification_tells_the_present_status() {
    let sandbox = sandbox(DOWN);
    let request = r#"json {"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"Write","input":{}}}"#;
    sandbox.script(&format!("read\ninit\n{request}\nread\nexit 1"));
    sandbox.start("a", &[&WAKE[..], &["--ask"]].concat());
    await_pause(&sandbox, "a", 1);
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    assert_eq!(sandbox.run(["wait", "a"])["status"], "failed");
    sandbox.script("read\ninit\nhang");
    assert_eq!(sandbox.run(["resume", "a", "--message", "go on"]).code, 0);
    // Ends the notifier: a try that began before that would bring the status of its time.
    assert_eq!(sandbox.run(["redeliver"]).code, 1);
    fs::write(sandbox.path("up"), "").unwrap();
    sandbox.run(["redeliver"]);
    assert_eq!(delivered(&sandbox, "a"), json!([]));
    let mut found = lines(&sandbox, "calls");
    found.sort();
    assert_eq!(found.len(), 2, "{found:?}");
    for (line, what) in found.iter().zip(["failed", "waited for an answer"]) {
        let expected = format!("job a {what}; its status is running now. Run: ");
        assert!(line.contains(&expected), "{line}");
        assert!(line.contains(" status a]"), "{line}");
    }
}
