//! Who is told of a job: commands and agents that fail, hang, refuse, and are told once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{children_of, is_alive, kill, pid_in, processes_of, program_of, send};
use support::{Sandbox, await_file, eventually};

const QUICK: &str = "read\ninit\nsay done\nresult All is well.\neof";

/// Waits until nobody is out with the job's news any more.
fn delivered(sandbox: &Sandbox, id: &str) -> Value {
    eventually("the courier", || {
        processes_of(&sandbox.job(id).join("notifications")).is_empty().then_some(())
    });
    sandbox.status(id)["undeliveredNotifications"].clone()
}

fn lines(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A gateway that answers with these statuses, one a request, and tells what it was asked.
struct Gateway {
    url: String,
    asked: Receiver<(String, String)>,
}

fn gateway(answers: &'static [u16]) -> Gateway {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks/wake", server.server_addr());
    let (tell, asked) = channel();
    thread::spawn(move || {
        for status in answers {
            let mut request = server.recv().unwrap();
            let mut body = String::new();
            request.as_reader().read_to_string(&mut body).unwrap();
            let token = request.headers().iter().find(|header| header.field.equiv("Authorization"));
            let token = token.map(|header| header.value.to_string()).unwrap_or_default();
            let answer = tiny_http::Response::from_string("{}").with_status_code(*status);
            request.respond(answer).unwrap();
            let _ = tell.send((token, body));
        }
    });
    Gateway { url, asked }
}

#[test]
fn a_command_is_told_each_end_with_the_status_on_its_stdin() {
    let sandbox = Sandbox::new(QUICK);
    let told = sandbox.path("told");
    let command = format!(
        "cat >> {0}.json; echo \"$CLAUDEJOB_ID $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS $PWD\" >> {0}",
        told.display()
    );
    sandbox.run_job("a", &["--on-event", &command]).expect_end(0, "completed", None);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert_eq!(
        lines(&sandbox, "told"),
        [format!("a completed completed {}", sandbox.work().display())]
    );
    let status: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("told.json")).unwrap()).unwrap();
    assert_eq!((&status["jobId"], &status["status"]), (&"a".into(), &"completed".into()));
    assert_eq!(sandbox.run(["list", "--undelivered"]).json, serde_json::json!([]));
}

#[test]
fn a_command_is_told_what_it_wants_to_know() {
    let mut sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.set(
        "CLAUDE_SKILL_ON_EVENT",
        format!("echo $CLAUDEJOB_ID-$CLAUDEJOB_EVENT >> {}", sandbox.path("told").display()),
    );
    sandbox.start("killed", &[]);
    sandbox.start("unheard", &["--on-event-filter", "completed,failed"]);
    for id in ["killed", "unheard"] {
        assert_eq!(sandbox.run(["kill", id]).code, 0);
        delivered(&sandbox, id);
    }
    assert_eq!(lines(&sandbox, "told"), ["killed-killed"]);
    let refused = sandbox.run(["start", "x", "--prompt", "x", "--on-event-filter", "bored"]);
    assert_eq!((refused.code, refused.text("code")), (2, "usage"));
}

#[test]
fn a_request_of_the_agents_is_told_at_once() {
    let sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Write\",\"input\":{}}}\nread\nsay ok\nresult ok\neof",
    );
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("told").display());
    sandbox.start("a", &["--ask", "--on-event", &command]);
    assert_eq!(sandbox.run(["wait", "a"]).code, 5);
    eventually("the word", || (lines(&sandbox, "told") == ["blocked"]).then_some(()));
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    delivered(&sandbox, "a");
    assert_eq!(lines(&sandbox, "told"), ["blocked", "completed"]);
}

#[test]
fn a_command_that_fails_twice_and_then_works_has_told_it_once() {
    let sandbox = Sandbox::new(QUICK);
    let tries = sandbox.path("tries");
    let command = format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ]", tries.display());
    sandbox.run_job("a", &["--on-event", &command]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert_eq!(lines(&sandbox, "tries").len(), 3);
    // Nobody tells it again.
    let again = sandbox.run(["redeliver"]);
    assert_eq!((again.code, &again["delivered"]), (0, &0.into()));
    assert_eq!(lines(&sandbox, "tries").len(), 3);
}

#[test]
fn what_could_not_be_told_is_shown_and_told_when_it_can_be() {
    let sandbox = Sandbox::new(QUICK);
    let command = format!("echo no >&2; [ -e {} ]", sandbox.path("works").display());
    sandbox.run_job("a", &["--on-event", "true", "--on-event", &command]);
    let undelivered = delivered(&sandbox, "a");
    let errand = &undelivered[0];
    assert_eq!(
        (&errand["to"], &errand["event"], &errand["tries"]),
        (&"command 2".into(), &"completed".into(), &4.into())
    );
    assert_eq!(errand["error"], "exit code 1: no");
    let list = sandbox.run(["list", "--undelivered"]);
    assert_eq!(
        (&list.json[0]["jobId"], &list.json[0]["undeliveredNotifications"][0]["to"]),
        (&"a".into(), &"command 2".into())
    );
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    let kept = sandbox.run(["clean", "a"]);
    assert_eq!((kept.code, &kept["removed"]), (1, &0.into()));
    assert!(kept["left"][0]["error"].as_str().unwrap().contains("command 2"), "{kept:?}");

    let table = sandbox.run(["list", "--undelivered", "--plain"]).stdout;
    assert!(table.contains("not delivered: completed to command 2"), "{table}");
    let again = sandbox.run(["redeliver", "a"]);
    assert_eq!((again.code, &again["delivered"]), (1, &0.into()));
    assert_eq!(
        again["failed"][0]["undeliveredNotifications"][0]["tries"], 5,
        "whoever waits can ask again"
    );
    fs::write(sandbox.path("works"), "").unwrap();
    let again = sandbox.run(["redeliver", "a"]);
    assert_eq!((again.code, &again["delivered"]), (0, &1.into()));
    assert_eq!(sandbox.status("a")["undeliveredNotifications"], serde_json::json!([]));
    assert_eq!(sandbox.status("a")["undelivered"], Value::Null);
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 1);
}

#[test]
fn a_command_that_hangs_holds_up_no_verdict() {
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
        "still being told"
    );
    // It is nothing that a sweep of the job would end, and nothing that stays for ever.
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        send(pid, Signal::SIGKILL);
    }
}

#[test]
fn a_command_that_hangs_is_ended_and_tried_again_and_given_up() {
    let sandbox = Sandbox::new(QUICK);
    let command = format!("echo x >> {}; sleep 1000", sandbox.path("tried").display());
    sandbox.run_job("a", &["--on-event", &command, "--on-event-timeout", "300ms"]);
    let left = delivered(&sandbox, "a");
    assert_eq!(left[0]["tries"], 4, "{left:?}");
    let why = "it took longer than 300ms and was ended";
    assert_eq!(left[0]["error"], why);
    assert_eq!(lines(&sandbox, "tried").len(), 4);
    let news = sandbox.job("a").join("notifications");
    eventually("all of it to end", || processes_of(&news).is_empty().then_some(()));
}

#[test]
fn a_command_that_is_ended_leaves_nothing_behind() {
    let sandbox = Sandbox::new(QUICK);
    let (pid, again) = (sandbox.path("pid"), sandbox.path("again"));
    // Neither a session nor an environment nor, once the shell is gone, a parent tells whose it is.
    let command = format!(
        "[ -e {1} ] && exit; touch {1}; \
         env -i setsid sh -c 'echo $$ > {0}; exec sleep 1000' & sleep 1000",
        pid.display(),
        again.display()
    );
    sandbox.run_job("a", &["--on-event", &command, "--on-event-timeout", "1s"]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    let left = pid_in(&pid);
    let alive = is_alive(left);
    send(left, Signal::SIGKILL);
    assert!(!alive);
}

#[test]
fn a_worker_that_is_killed_is_told_by_whoever_finds_out() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("told").display());
    let worker = sandbox.start("a", &["--on-event", &command])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("the end", || (sandbox.status("a")["reason"] == "worker_died").then_some(()));
    delivered(&sandbox, "a");
    sandbox.run(["list"]);
    assert_eq!(lines(&sandbox, "told"), ["failed"]);
}

#[test]
fn one_end_is_told_once_and_with_the_status_that_stays() {
    for point in ["settle:told", "settle:saved", "kill:looked", "kill:alone"] {
        let mut sandbox = Sandbox::new("read\ninit\nhang");
        let told = sandbox.path("told");
        let command = format!("echo $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS >> {}", told.display());
        let worker = sandbox.start("a", &["--on-event", &command])["pid"].as_i64().unwrap();
        kill(worker as i32);
        // Whoever finds out dies on the way; others come to the same end or another.
        sandbox.break_at(point, ["kill", "a"]);
        for call in [["status", "a"], ["kill", "a"], ["status", "a"]] {
            sandbox.run(call);
        }
        delivered(&sandbox, "a");
        let status = sandbox.status("a").text("status").to_owned();
        assert_eq!(lines(&sandbox, "told"), [format!("{status} {status}")], "{point}");
    }
    let sandbox = Sandbox::new("read\ninit\nhang");
    for round in 0..5 {
        let id = format!("j{round}");
        let told = sandbox.path(&format!("told-{id}"));
        let command = format!("echo $CLAUDEJOB_EVENT $CLAUDEJOB_STATUS >> {}", told.display());
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
        assert_eq!(lines(&sandbox, &format!("told-{id}")), [format!("{status} {status}")]);
    }
}

#[test]
fn a_worker_that_dies_at_its_end_has_told_it_once() {
    for point in ["end:outcome-saved", "end:record-written", "worker:notifying"] {
        let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
        let command = format!("echo $CLAUDEJOB_EVENT >> {}", sandbox.path("told").display());
        sandbox.break_at(point, ["start", "a", "--prompt", "x", "--on-event", &command]);
        eventually("the end", || (sandbox.status("a")["status"] == "completed").then_some(()));
        delivered(&sandbox, "a");
        assert_eq!(lines(&sandbox, "told"), ["completed"], "{point}");
    }
}

/// A command that hangs at its first try, and names its courier in the file `courier`; from then
/// on it says in `told` what it is told.
fn hangs_once(sandbox: &Sandbox, id: &str) -> String {
    format!(
        "cd {}; if [ -e courier-{id} ]; then echo $CLAUDEJOB_EVENT >> told-{id}; exit; fi; \
         echo $PPID > .courier; mv .courier courier-{id}; exec sleep 1000",
        sandbox.path("").display()
    )
}

/// The couriers that are out with the job's news.
fn couriers(sandbox: &Sandbox, id: &str) -> Vec<i32> {
    let out = processes_of(&sandbox.job(id).join("notifications"));
    out.into_iter().filter(|pid| program_of(*pid) == "claudejob").collect()
}

#[test]
fn a_courier_that_is_killed_is_sent_again_by_whoever_looks() {
    let sandbox = Sandbox::new(QUICK);
    for (id, look) in [
        ("status", vec!["status", "status"]),
        ("wait", vec!["wait", "wait"]),
        ("list", vec!["list", "--undelivered"]),
        ("recover", vec!["recover", "--all"]),
        ("clean", vec!["clean", "--keep", "0"]),
        ("redeliver", vec!["redeliver"]),
    ] {
        sandbox.run_job(id, &["--on-event", &hangs_once(&sandbox, id)]);
        await_file(&sandbox.path(&format!("courier-{id}")));
        let courier = pid_in(&sandbox.path(&format!("courier-{id}")));
        for pid in [vec![courier], processes_of(&sandbox.job(id).join("notifications"))].concat() {
            kill(pid);
        }
        sandbox.run(&look);
        delivered(&sandbox, id);
        assert_eq!(lines(&sandbox, &format!("told-{id}")), ["completed"], "{look:?}");
        assert_eq!(sandbox.status(id)["undelivered"], Value::Null);
    }
}

#[test]
fn one_courier_is_out_however_many_look() {
    let sandbox = Sandbox::new(QUICK);
    // Nobody looks whether it has begun: it counts as out from the moment it is sent.
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    for _ in 0..5 {
        sandbox.status("a");
        sandbox.run(["list", "--undelivered"]);
    }
    await_file(&sandbox.path("courier-a"));
    assert_eq!(couriers(&sandbox, "a"), [pid_in(&sandbox.path("courier-a"))]);
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        send(pid, Signal::SIGKILL);
    }
}

#[test]
fn whoever_goes_on_looking_keeps_no_courier_that_has_come_back() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    await_file(&sandbox.path("courier-a"));
    for pid in processes_of(&sandbox.job("a").join("notifications")) {
        kill(pid);
    }
    sandbox.script("read\ninit\nhang");
    sandbox.start("b", &[]);
    // It waits for the one, and has sent a courier for the other.
    let mut waits = sandbox.command(["wait", "a", "b"]).stdout(Stdio::null()).spawn().unwrap();
    let told = || (lines(&sandbox, "told-a") == ["completed"]).then_some(());
    eventually("the courier to tell", told);
    let pid = waits.id() as i32;
    eventually("the courier to be gone", || children_of(pid).is_empty().then_some(()));
    assert!(waits.try_wait().unwrap().is_none(), "it waits");
    sandbox.run(["kill", "b"]);
    waits.wait().unwrap();
}

#[test]
fn uses_the_legacy_notifications_directory() {
    let sandbox = Sandbox::new(QUICK);
    let (works, told) = (sandbox.path("works"), sandbox.path("told"));
    let command =
        format!("[ -e {} ] && echo $CLAUDEJOB_EVENT >> {}", works.display(), told.display());
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
    assert_eq!(lines(&sandbox, "told"), ["completed"]);
    assert_eq!(sandbox.status("a")["undeliveredNotifications"], serde_json::json!([]));
    // The next attempt continues to use it.
    assert_eq!(sandbox.run(["resume", "a", "--message", "more"]).code, 0);
    sandbox.wait("a");
    eventually("the delivery", || (lines(&sandbox, "told").len() == 2).then_some(()));
    eventually("the notifier to end", || processes_of(&legacy).is_empty().then_some(()));
    let log = fs::read_to_string(legacy.join("journal.ndjson")).unwrap();
    assert!(log.contains(r#""attempt":2"#), "{log}");
    assert!(!current.exists());
}

#[test]
fn a_broken_job_keeps_no_other_from_being_told() {
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
    // Of one of them nothing was to be told: it is none of this verb's business.
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
fn an_agent_is_woken_up_with_a_token_that_is_stored_nowhere() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let gateway = gateway(&[200]);
    let wake = [
        "--wake-url",
        &gateway.url,
        "--wake-token-env",
        "HOOK_TOKEN",
        "--wake-session",
        "agent:main:7",
    ];
    sandbox.run_job("a", &wake);
    let (token, body) = gateway.asked.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(token, "Bearer s3cret-token");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["mode"], &body["sessionKey"]), (&"now".into(), &"agent:main:7".into()));
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("job a completed") && text.contains("All is well."), "{text}");
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    for entry in walk(&sandbox.jobs()) {
        let bytes = fs::read(&entry).unwrap_or_default();
        assert!(!bytes.windows(12).any(|window| window == b"s3cret-token"), "{entry:?}");
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn a_gateway_that_is_overloaded_is_asked_again_and_one_that_refuses_is_not() {
    let sandbox = Sandbox::new(QUICK);
    let overloaded = gateway(&[503, 200]);
    sandbox.run_job("patient", &["--wake-url", &overloaded.url]);
    assert_eq!(delivered(&sandbox, "patient"), serde_json::json!([]));
    assert_eq!(overloaded.asked.try_iter().count(), 2);

    let refusing = gateway(&[401]);
    sandbox.run_job("refused", &["--wake-url", &refusing.url]);
    let undelivered = delivered(&sandbox, "refused");
    let errand = &undelivered[0];
    assert_eq!(
        (&errand["tries"], &errand["error"]),
        (&1.into(), &"the gateway answered 401: {}".into())
    );
}

#[test]
fn a_token_that_no_gateway_can_be_given_is_not_tried_again() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("HOOK_TOKEN", "s3cret-token");
    let refusing = gateway(&[401]);
    sandbox.run_job("a", &["--wake-url", &refusing.url, "--wake-token-env", "HOOK_TOKEN"]);
    assert_eq!(delivered(&sandbox, "a")[0]["tries"], 1);
    sandbox.set("HOOK_TOKEN", "s3cret-token\n");
    let again = sandbox.run(["redeliver", "a"]);
    let errand = &again["failed"][0]["undeliveredNotifications"][0];
    assert_eq!((again.code, &errand["tries"]), (1, &2.into()), "{again:?}");
    assert_eq!(errand["error"], "HOOK_TOKEN contains a control character, such as a line feed");
}

#[test]
fn a_gateway_that_is_down_is_asked_four_times() {
    let sandbox = Sandbox::new(QUICK);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    sandbox.run_job("a", &["--wake-url", &format!("http://127.0.0.1:{port}/hooks/wake")]);
    let undelivered = delivered(&sandbox, "a");
    assert_eq!((&undelivered[0]["to"], &undelivered[0]["tries"]), (&"wake".into(), &4.into()));
    // It is there again.
    let server = tiny_http::Server::http(format!("127.0.0.1:{port}")).unwrap();
    let answer = thread::spawn(move || {
        server.recv().unwrap().respond(tiny_http::Response::from_string("{}")).unwrap();
    });
    assert_eq!(sandbox.run(["redeliver"])["delivered"], 1);
    answer.join().unwrap();
}

#[test]
fn an_agent_that_cannot_be_woken_up_is_refused_at_the_start() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.set("TWO_LINES", "s3cret\nX-Other: y");
    sandbox.set("NO_TEXT", std::ffi::OsStr::from_bytes(b"\xff"));
    for wake in [
        vec!["--wake-url", "https://gateway/hooks/wake"],
        vec!["--wake-url", "gateway"],
        vec!["--wake-url", "http://user:token@gateway/"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "NOT_SET"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "TWO_LINES"],
        vec!["--wake-url", "http://gateway/", "--wake-token-env", "NO_TEXT"],
        // What is no port would be taken for none, and the token go to whoever listens at 80.
        vec!["--wake-url", "http://127.0.0.1:99999/hooks/wake"],
        vec!["--wake-url", "http://127.0.0.1:/hooks/wake"],
        vec!["--wake-url", "http://gateway/hooks/wake?token=s3cret"],
        vec!["--wake-url", "http://gateway/hooks/wake#s3cret"],
    ] {
        let refused = sandbox.run([&["start", "a", "--prompt", "x"], &wake[..]].concat());
        assert_eq!((refused.code, refused.text("code")), (1, "bad_wake_url"), "{wake:?}");
        assert!(!refused.stdout.contains("X-Other"), "{refused:?}");
        // What is said is about that which is wrong.
        let of_token = wake.contains(&"--wake-token-env");
        assert_eq!(refused.text("error").contains("invalid wake URL"), !of_token, "{refused:?}");
        assert_eq!(refused.text("hint").contains("--wake-token-env"), of_token, "{refused:?}");
    }
    assert!(!sandbox.job("a").exists());
}

#[test]
fn an_end_that_could_not_be_noted_is_due_all_the_same() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    let command = format!("echo $CLAUDEJOB_ID >> {}", sandbox.path("told").display());
    sandbox.start("told", &["--on-event", &command]);
    sandbox.start("unheard", &["--on-event", &command, "--on-event-filter", "failed"]);
    // In the way of whatever is to be noted, as a full disk is.
    let in_the_way = ["told", "unheard"].map(|id| sandbox.job(id).join("notifications"));
    for file in &in_the_way {
        fs::write(file, "").unwrap();
    }
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("told").expect_end(0, "completed", None);
    sandbox.wait("unheard").expect_end(0, "completed", None);
    let list = sandbox.run(["list", "--undelivered"]);
    assert_eq!(list.json.as_array().unwrap().len(), 1, "{list:?}");
    let errand = &list.json[0]["undeliveredNotifications"][0];
    assert_eq!((&errand["to"], &errand["event"]), (&"command 1".into(), &"completed".into()));
    assert_eq!(sandbox.run(["clean", "told"])["removed"], 0);
    assert_eq!(sandbox.run(["redeliver"]).code, 1);
    assert!(lines(&sandbox, "told").is_empty());

    for file in &in_the_way {
        fs::remove_file(file).unwrap();
    }
    // Whoever looks has it told, once.
    sandbox.status("told");
    eventually("the word", || (delivered(&sandbox, "told") == serde_json::json!([])).then_some(()));
    assert_eq!(sandbox.run(["redeliver"])["delivered"], 0);
    assert_eq!(lines(&sandbox, "told"), ["told"]);
    // So is the next end, and the one before it is not told again.
    assert_eq!(sandbox.run(["resume", "told", "--message", "more"]).code, 0);
    sandbox.wait("told");
    eventually("the word", || (delivered(&sandbox, "told") == serde_json::json!([])).then_some(()));
    assert_eq!(lines(&sandbox, "told"), ["told", "told"]);
    assert_eq!(sandbox.run(["clean"])["removed"], 0);
    assert_eq!(sandbox.run(["clean", "told", "unheard"])["removed"], 2);
}

#[test]
fn a_command_whose_courier_was_killed_is_ended_before_it_is_told_again() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &["--on-event", &hangs_once(&sandbox, "a")]);
    await_file(&sandbox.path("courier-a"));
    let courier = pid_in(&sandbox.path("courier-a"));
    kill(courier);
    let left = processes_of(&sandbox.job("a").join("notifications"));
    assert_eq!(left.len(), 1, "the command goes on");
    sandbox.status("a");
    eventually("the word", || (lines(&sandbox, "told-a") == ["completed"]).then_some(()));
    let alive = is_alive(left[0]);
    send(left[0], Signal::SIGKILL);
    assert!(!alive);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
}

#[test]
fn a_command_that_kills_its_courier_is_given_up_like_any_other() {
    let sandbox = Sandbox::new(QUICK);
    let command =
        format!("echo x >> {}; kill -9 $PPID; sleep 1000", sandbox.path("tried").display());
    sandbox.run_job("a", &["--on-event", &command]);
    let errand = eventually("it to be given up", || {
        let errand = sandbox.status("a")["undelivered"][0].clone();
        errand["error"].is_string().then_some(errand)
    });
    assert_eq!(errand["error"], "the notifier was killed at each attempt");
    assert_eq!((&errand["tries"], lines(&sandbox, "tried").len()), (&4.into(), 4));
    // Who asks for it has it tried again.
    assert_eq!(delivered(&sandbox, "a")[0]["tries"], 4);
    assert_eq!(sandbox.run(["redeliver"]).code, -1);
    assert_eq!(lines(&sandbox, "tried").len(), 5);
    eventually("it to be given up", || {
        sandbox.status("a")["undelivered"][0]["error"].is_string().then_some(())
    });
    delivered(&sandbox, "a");
}

#[test]
fn what_a_command_leaves_running_is_its_own() {
    let sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Write\",\"input\":{}}}\nread\nsay ok\nresult ok\neof",
    );
    let pid = |event: &str| sandbox.path(&format!("pid-{event}"));
    let command = format!(
        "setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > {}",
        pid("$CLAUDEJOB_EVENT").display()
    );
    sandbox.start("a", &["--ask", "--on-event", &command]);
    assert_eq!(sandbox.run(["wait", "a"]).code, 5);
    await_file(&pid("blocked"));
    // Its parent is the job's worker from now on.
    eventually("the courier's end", || couriers(&sandbox, "a").is_empty().then_some(()));
    assert_eq!(sandbox.run(["answer", "a", "--allow"]).code, 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    await_file(&pid("completed"));
    eventually("the courier's end", || couriers(&sandbox, "a").is_empty().then_some(()));
    let left = ["blocked", "completed"].map(|event| pid_in(&pid(event)));
    let alive = left.map(is_alive);
    for pid in left {
        send(pid, Signal::SIGKILL);
    }
    assert_eq!(alive, [true, true]);
}
