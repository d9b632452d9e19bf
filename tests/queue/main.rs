//! Slots, order, dependencies and retries, with jobs of the fake.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the figures are printed for whoever asks for them")]

#[path = "../support/mod.rs"]
mod support;

mod fleet;
mod stopped;
mod taken_up;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::processes::{is_alive, send};
use support::{Answer, Sandbox, eventually};

/// Says when it begins, and ends when the test lets it.
const GATED: &str = "read\ninit\nappend $DIR/order $JOB\nwait-file $DIR/go-$JOB\nresult ok\neof";
const QUICK: &str = "read\ninit\nappend $DIR/order $JOB\nresult ok\neof";

fn order(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(sandbox.path("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn let_go(sandbox: &Sandbox, id: &str) {
    fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
}

fn begun(sandbox: &Sandbox, id: &str) {
    eventually(&format!("{id} to begin"), || order(sandbox).contains(&id.to_owned()).then_some(()));
}

/// The worker of a job.
fn worker_of(sandbox: &Sandbox, id: &str) -> i32 {
    record(sandbox, id)["pid"].as_i64().unwrap() as i32
}

/// The record as it is on disk, looked at without the program's help.
fn record(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(sandbox.job(id).join("meta.json")).unwrap()).unwrap()
}

fn events(sandbox: &Sandbox, id: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.job(id).join("events.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_at_a_time_in_the_order_of_asking_but_for_priorities() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    assert_eq!(sandbox.start("a", &one)["status"], "running");
    for (id, priority) in [("b", "0"), ("c", "0"), ("d", "5"), ("e", "-5")] {
        let answer = sandbox.start(id, &[&one[..], &["--priority", priority]].concat());
        assert_eq!(answer["status"], "queued", "{answer:?}");
    }
    for (id, position) in [("d", 1), ("b", 2), ("c", 3), ("e", 4)] {
        let status = sandbox.status(id);
        assert_eq!((status.text("status"), &status["position"]), ("queued", &position.into()));
    }
    let list = sandbox.run(["list", "--status", "queued"]);
    let positions: BTreeMap<&str, u64> = list
        .json
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["jobId"].as_str().unwrap(), job["position"].as_u64().unwrap()))
        .collect();
    assert_eq!(positions, [("b", 2), ("c", 3), ("d", 1), ("e", 4)].into());
    for id in ["a", "d", "b", "c", "e"] {
        begun(&sandbox, id);
        let_go(&sandbox, id);
    }
    for id in ["a", "b", "c", "d", "e"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    assert_eq!(order(&sandbox), ["a", "d", "b", "c", "e"]);
    assert!(record(&sandbox, "e")["queuedMs"].as_u64().unwrap() > 0);
    assert_eq!(sandbox.status("e")["position"], Value::Null);
}

#[test]
fn the_slot_of_a_worker_that_is_killed_goes_to_the_next_at_once() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    let worker = sandbox.start("a", &one)["pid"].as_i64().unwrap() as i32;
    sandbox.start("b", &one);
    sandbox.start("c", &one);
    begun(&sandbox, "a");
    send(worker, Signal::SIGKILL);
    begun(&sandbox, "b");
    // Its end is written although nobody asked.
    eventually("the verdict on a", || {
        (record(&sandbox, "a")["reason"] == "worker_died").then_some(())
    });
    sandbox.assert_nothing_left("a");
    assert_eq!(sandbox.status("c")["position"], 1);
    // Whoever watched over the line dies as well.
    send(worker_of(&sandbox, "c"), Signal::SIGKILL);
    sandbox.start("d", &one);
    let_go(&sandbox, "b");
    begun(&sandbox, "d");
    let_go(&sandbox, "d");
    sandbox.wait("d").expect_end(0, "completed", None);
    assert_eq!(sandbox.status("c")["reason"], "worker_died");
}

#[test]
fn a_queued_job_is_killed_at_once_and_in_nobodys_way() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    for id in ["a", "b", "c"] {
        sandbox.start(id, &one);
    }
    let killed = sandbox.run(["kill", "b"]);
    assert_eq!((killed.code, killed.text("status")), (0, "killed"));
    assert_eq!(sandbox.status("c")["position"], 1);
    begun(&sandbox, "a");
    let_go(&sandbox, "a");
    begun(&sandbox, "c");
    let_go(&sandbox, "c");
    sandbox.wait("c").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox), ["a", "c"]);
    let result = sandbox.run(["result", "b"]);
    assert_eq!((result.text("status"), &result["num_turns"]), ("killed", &0.into()));
}

#[test]
fn a_group_runs_one_at_a_time_while_others_go_on() {
    let sandbox = Sandbox::new(GATED);
    let group = ["--group", "app"];
    sandbox.start("a1", &group);
    assert_eq!(sandbox.start("a2", &group)["status"], "queued");
    assert_eq!(sandbox.start("b", &["--group", "other"])["status"], "running");
    assert_eq!(sandbox.status("a2")["group"], "app");
    for id in ["a1", "b"] {
        begun(&sandbox, id);
    }
    let_go(&sandbox, "a1");
    begun(&sandbox, "a2");
    for id in ["a2", "b"] {
        let_go(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn who_does_not_want_to_wait_is_refused_and_leaves_nothing() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "1"]);
    let start = ["start", "b", "--prompt", "x", "--max-parallel", "1", "--no-queue"];
    let refused = sandbox.run(start);
    assert_eq!((refused.code, refused.text("code")), (75, "no_slot"));
    assert!(!sandbox.job("b").exists());
    assert_eq!(sandbox.run(["status", "b"]).code, 4);
    begun(&sandbox, "a");
    let_go(&sandbox, "a");
    sandbox.wait("a").expect_end(0, "completed", None);
    let_go(&sandbox, "b");
    assert_eq!(sandbox.run(start)["status"], "running");
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn claudes_are_started_one_after_the_other() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.unset("CLAUDE_SKILL_STAGGER");
    assert_eq!(sandbox.start("a", &[])["status"], "running");
    assert_eq!(sandbox.start("b", &[])["status"], "queued");
    sandbox.wait("b").expect_end(0, "completed", None);
    let launched = |id: &str| {
        let events = events(&sandbox, id);
        let launched = events.iter().find(|event| event["event"] == "launched").unwrap();
        chrono::DateTime::parse_from_rfc3339(launched["at"].as_str().unwrap()).unwrap()
    };
    let apart = launched("b") - launched("a");
    // Each says so a moment after it was let in, and on a busy machine the first says it later.
    assert!(apart.num_milliseconds() >= 100, "{apart}");
}

#[test]
fn a_long_stagger_holds_up_no_other_job() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.start("slow", &["--stagger", "1h"])["status"], "queued");
    sandbox.run_job("b", &["--stagger", "10ms"]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("slow")["status"], "queued");
    sandbox.run(["kill", "slow"]);
}

#[test]
fn a_delayed_job_waits_for_its_time_and_not_for_a_slot() {
    let sandbox = Sandbox::new(QUICK);
    let began = Instant::now();
    assert_eq!(
        sandbox.start("later", &["--start-delay", "700ms", "--max-parallel", "1"])["status"],
        "queued"
    );
    let (status, listed) = (sandbox.status("later"), sandbox.run(["list"]).json);
    assert!(status["startsAt"].as_str() > status["startedAt"].as_str(), "{status:?}");
    assert_eq!(listed[0]["startsAt"], status["startsAt"]);
    sandbox.run_job("now", &["--max-parallel", "1"]).expect_end(0, "completed", None);
    sandbox.wait("later").expect_end(0, "completed", None);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(order(&sandbox), ["now", "later"]);
}

#[test]
fn a_job_runs_after_those_that_it_waits_for() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    sandbox.start("b", &[]);
    let_go(&sandbox, "both");
    assert_eq!(sandbox.start("both", &["--after", "a,b"])["status"], "queued");
    let status = sandbox.status("both");
    assert_eq!(
        (&status["position"], &status["waitsFor"]),
        (&Value::Null, &serde_json::json!(["a", "b"]))
    );
    let wait = &status["waitingFor"];
    assert_eq!(
        (&wait["kind"], &wait["why"]),
        (&"job".into(), &"jobs a and b have not ended".into())
    );
    assert_eq!(wait["hint"], "claudejob wait a");
    let text = |id: &str, how: [&str; 2]| {
        let said = sandbox.run([&["start", id, "--prompt", "x", "--plain"], &how[..]].concat());
        assert_eq!(sandbox.run(["kill", id]).code, 0);
        said.stdout
    };
    let said = text("said", ["--after-any", "b,a"]);
    assert!(said.starts_with("Job said is queued: jobs b and a have not ended.\n"), "{said}");
    let said = text("slot", ["--max-parallel", "1"]);
    assert!(
        said.starts_with("Job slot is queued: it is number 1 in the queue for a slot.\n"),
        "{said}"
    );
    for id in ["a", "b"] {
        begun(&sandbox, id);
        let_go(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    sandbox.wait("both").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox).last().unwrap(), "both");
    // What has ended is not waited for.
    let_go(&sandbox, "at-once");
    sandbox.run_job("at-once", &["--after", "a"]).expect_end(0, "completed", None);
}

#[test]
fn a_job_fails_with_the_one_that_it_waits_for_or_runs_all_the_same() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    sandbox.start("strict", &["--after", "a"]);
    sandbox.start("chained", &["--after", "strict"]);
    let_go(&sandbox, "lenient");
    sandbox.start("lenient", &["--after-any", "a"]);
    sandbox.run(["kill", "a"]);
    let strict = sandbox.wait("strict");
    strict.expect_end(1, "failed", Some("dependency_failed"));
    assert!(strict.text("error").contains("job a, for which it waited, is killed"), "{strict:?}");
    let chained = sandbox.wait("chained");
    chained.expect_end(1, "failed", Some("dependency_failed"));
    assert!(chained.text("error").contains("strict"), "{chained:?}");
    assert_eq!(sandbox.run(["recover", "--all"])["recovered"], serde_json::json!([]));
    sandbox.wait("lenient").expect_end(0, "completed", None);
    // The same where that is known at the start.
    let late = sandbox.run_job("late", &["--after", "a"]);
    late.expect_end(1, "failed", Some("dependency_failed"));
    // A worker that died is an end, too.
    sandbox.start("c", &[]);
    sandbox.start("orphan", &["--after", "c"]);
    send(worker_of(&sandbox, "c"), Signal::SIGKILL);
    sandbox.wait("orphan").expect_end(1, "failed", Some("dependency_failed"));
}

#[test]
fn unknown_jobs_and_circles_are_refused() {
    let sandbox = Sandbox::new(GATED);
    let start =
        |id: &str, after: &str| sandbox.run(["start", id, "--prompt", "x", "--after", after]);
    for (id, after) in [("x", "nobody"), ("x", "x")] {
        let refused = start(id, after);
        assert_eq!((refused.code, refused.text("code")), (1, "unknown_dependency"), "{after}");
    }
    assert_eq!(start("x", "../etc").text("code"), "invalid_job_id");
    // `a` is removed while `c` waits for `b`, which waited for it and still waits for another.
    sandbox.start("a", &[]);
    sandbox.start("long", &[]);
    sandbox.start("b", &["--after-any", "a,long"]);
    sandbox.start("c", &["--after", "b"]);
    sandbox.run(["kill", "a"]);
    // At once, and not a file at a time: a job without its record is another situation.
    fs::rename(sandbox.job("a"), sandbox.path("removed")).unwrap();
    let refused = start("a", "c");
    assert_eq!((refused.code, refused.text("code")), (1, "dependency_cycle"));
    assert!(!sandbox.job("a").exists());
}

/// Job `a` has met a limit that lasts so many seconds, which nobody meets after it, and waits for
/// its end. Gives how it stands.
fn with_limit(seconds: u64) -> (Sandbox, Answer) {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\nappend $DIR/order $JOB\nonce $DIR/met limit {seconds}\n\
         once $DIR/refused refused 429\nonce $DIR/left exit 1\nsay fine\nresult ok\neof",
    ));
    sandbox.start("a", &["--retries", "1"]);
    let waits = |status: &Answer| status["rateLimited"] == true && status["attempt"] == 2;
    let limited = eventually("the limit", || Some(sandbox.status("a")).filter(waits));
    (sandbox, limited)
}

#[test]
fn a_limit_that_one_job_meets_keeps_the_others_from_it() {
    let (sandbox, limited) = with_limit(2);
    assert_eq!(limited.text("status"), "running");
    let answer = sandbox.start("b", &[]);
    assert_eq!(answer["status"], "queued");
    let queued = sandbox.status("b");
    assert_eq!(
        (&queued["rateLimited"], queued.text("retryAt")),
        (&true.into(), limited.text("retryAt"))
    );
    sandbox.wait("a").expect_end(0, "completed", None);
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox), ["a", "a", "b"]);
    let status = sandbox.status("a");
    assert_eq!((&status["rateLimited"], &status["attempt"]), (&false.into(), &2.into()));
}

#[test]
fn a_limit_is_waited_for_as_long_as_a_job_would_and_until_another_is_answered() {
    let (sandbox, _) = with_limit(600);
    assert_eq!(sandbox.start("b", &[])["status"], "queued");
    assert_eq!(sandbox.status("b")["rateLimited"], true);
    sandbox.run_job("c", &["--max-wait", "1m"]).expect_end(0, "completed", None);
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox), ["a", "c", "b"]);
    assert_eq!(sandbox.status("a")["rateLimited"], true, "it keeps to what it was told");
    sandbox.run(["kill", "a"]);
}

/// Job `a` has met a limit of its login that ends in ten minutes, and waits; every other job that
/// uses the login is answered.
fn with_limited_login() -> Sandbox {
    let mut sandbox = Sandbox::new(
        "read\ninit\nappend $DIR/order $JOB\nonce $DIR/met limit 600\n\
         once $DIR/refused refused 429\nonce $DIR/left exit 1\nsay fine\nresult ok\neof",
    );
    sandbox.unset("ANTHROPIC_API_KEY");
    sandbox.set("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-of-the-subscription");
    sandbox.start("a", &["--retries", "1"]);
    let waits = |status: &Answer| status["rateLimited"] == true && status["attempt"] == 2;
    eventually("the limit", || Some(sandbox.status("a")).filter(waits));
    sandbox
}

#[test]
fn a_limit_of_one_login_is_none_of_another() {
    let mut sandbox = with_limited_login();
    assert_eq!(sandbox.start("b", &[])["status"], "queued");
    sandbox.set("ANTHROPIC_API_KEY", "sk-ant-of-another");
    assert_eq!(sandbox.start("c", &[])["status"], "running");
    sandbox.wait("c").expect_end(0, "completed", None);
    // Its answer says nothing about the other login.
    let status = sandbox.status("b");
    let wait = &status["waitingFor"];
    assert_eq!((status.text("status"), &wait["kind"]), ("queued", &"limit".into()));
    assert_eq!(wait["until"], status["retryAt"]);
    assert_eq!(wait["why"], "a limit of its login, reached by job a, has not ended");
    assert_eq!(wait["hint"], "claudejob status a");
    let started = sandbox.run(["start", "--job-id", "d", "--prompt", "x"]);
    assert_eq!(started["status"], "running", "with the key");
    sandbox.unset("ANTHROPIC_API_KEY");
    let started = sandbox.run(["start", "--job-id", "e", "--prompt", "x"]);
    assert_eq!(started["waitingFor"]["kind"], "limit", "{started:?}");
    sandbox.wait("d").expect_end(0, "completed", None);
    // Nothing of a login is written anywhere in the directory.
    for entry in walk(&sandbox.jobs().join(".queue")) {
        let text = fs::read(&entry).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned() + &entry.to_string_lossy();
        assert!(!text.contains("sk-ant") && !text.contains("subscription"), "{entry:?}");
    }
    for id in ["b", "e", "a"] {
        sandbox.run(["kill", id]);
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(walk(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn a_job_finds_out_at_once_when_the_one_that_met_the_limit_is_killed() {
    for by_signal in [false, true] {
        let sandbox = with_limited_login();
        for id in ["b", "c"] {
            assert_eq!(sandbox.start(id, &[])["status"], "queued");
        }
        if by_signal {
            send(worker_of(&sandbox, "a"), Signal::SIGKILL);
        } else {
            assert_eq!(sandbox.run(["kill", "a"]).text("status"), "killed");
        }
        let began = Instant::now();
        // The first is answered, so that the second need not wait either.
        for id in ["b", "c"] {
            sandbox.wait(id).expect_end(0, "completed", None);
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        assert_eq!(order(&sandbox), ["a", "b", "c"]);
    }
}

#[test]
fn a_job_that_comes_after_the_one_that_met_the_limit_finds_out() {
    let sandbox = with_limited_login();
    sandbox.run(["kill", "a"]);
    sandbox.run_job("b", &[]).expect_end(0, "completed", None);
}

#[test]
fn only_one_job_at_a_time_finds_out_whether_a_limit_is_over() {
    let sandbox = with_limited_login();
    for file in ["met", "refused", "left"] {
        fs::remove_file(sandbox.path(file)).unwrap();
    }
    for id in ["b", "c"] {
        assert_eq!(sandbox.start(id, &["--retries", "1"])["status"], "queued");
    }
    sandbox.run(["kill", "a"]);
    let waits = |status: &Answer| status["rateLimited"] == true && status["attempt"] == 2;
    eventually("b to meet the limit", || Some(sandbox.status("b")).filter(waits));
    let status = sandbox.status("c");
    assert_eq!((status.text("status"), &status["rateLimited"]), ("queued", &true.into()));
    assert_eq!(status["waitingFor"]["hint"], "claudejob status b");
    assert_eq!(order(&sandbox), ["a", "b"]);
    for id in ["c", "b"] {
        sandbox.run(["kill", id]);
    }
}

#[test]
fn a_job_whose_lock_is_gone_is_left_alone_by_others() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &["--max-parallel", "2"]);
    begun(&sandbox, "a");
    fs::remove_file(sandbox.job("a").join("lock")).unwrap();
    let_go(&sandbox, "b");
    sandbox.run_job("b", &["--max-parallel", "2"]).expect_end(0, "completed", None);
    // Its slot is its own all the same.
    sandbox.start("c", &["--max-parallel", "1"]);
    sandbox.start("d", &["--after", "a"]);
    eventually("d to wait", || {
        let waits = |event: &Value| event["event"] == "queued";
        events(&sandbox, "d").iter().any(waits).then_some(())
    });
    assert!(is_alive(sandbox.claude_pid("a")) && is_alive(worker_of(&sandbox, "a")));
    for id in ["a", "c", "d"] {
        let_go(&sandbox, id);
    }
    for id in ["c", "d"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn a_claude_that_crashes_is_started_again_in_its_session() {
    let sandbox = Sandbox::new(
        "session\nread $DIR/heard\ninit\nwork 2\nonce $DIR/crashed die KILL\nresult ok\neof",
    );
    let result = sandbox.run_job("a", &["--retries", "2", "--max-backoff", "50ms"]);
    result.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("a")["attempt"], 2);
    let work = fs::read_to_string(sandbox.path("work/a")).unwrap();
    assert_eq!(work, "1\n2\n", "no step was done twice");
    let names: Vec<String> =
        events(&sandbox, "a").iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
    assert!(names.contains(&"retrying".to_owned()), "{names:?}");
    assert!(fs::read_to_string(sandbox.path("heard")).unwrap().contains("interrupted"));
}

#[test]
fn a_claude_that_crashes_again_and_again_fails_in_the_end() {
    let sandbox = Sandbox::new("read\ninit\nappend $DIR/order $JOB\ndie SEGV");
    let result = sandbox.run_job("a", &["--retries", "2", "--max-backoff", "20ms"]);
    result.expect_end(1, "failed", Some("no_result"));
    assert_eq!(order(&sandbox).len(), 3);
    assert!(result.text("error").contains("SIGSEGV"), "{result:?}");
    assert!(result.text("error").contains("3 attempts"), "{result:?}");
}

#[test]
fn a_job_between_two_attempts_is_killed_and_shut_down_at_once() {
    let sandbox = Sandbox::new("read\ninit\nrefused 502\nexit 1");
    sandbox.start("a", &["--retries", "9"]);
    sandbox.start("b", &["--retries", "9"]);
    for id in ["a", "b"] {
        eventually("the pause", || (sandbox.status(id)["attempt"] == 2).then_some(()));
    }
    let killed = sandbox.run(["kill", "a"]);
    assert_eq!((killed.code, killed.text("status")), (0, "killed"));
    send(worker_of(&sandbox, "b"), Signal::SIGTERM);
    let ended = sandbox.wait("b");
    ended.expect_end(1, "failed", Some("terminated"));
    assert!(sandbox.status("b").text("hint").contains("recover b"));
}

#[test]
fn what_somebody_took_out_of_the_queue_comes_back() {
    let sandbox = Sandbox::new(GATED);
    let one = ["--max-parallel", "1"];
    for id in ["a", "b", "c"] {
        sandbox.start(id, &one);
    }
    begun(&sandbox, "a");
    fs::remove_dir_all(sandbox.jobs().join(".queue/waiting")).unwrap();
    fs::create_dir(sandbox.jobs().join(".queue/waiting")).unwrap();
    for id in ["a", "b", "c"] {
        let_go(&sandbox, id);
    }
    for id in ["a", "b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn a_queue_that_cannot_be_used_keeps_no_job_from_running() {
    let sandbox = Sandbox::new(QUICK);
    fs::create_dir_all(sandbox.jobs()).unwrap();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    fs::write(sandbox.jobs().join(".queue"), "no folder").unwrap();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    let warnings = sandbox.status("a")["warnings"].to_string();
    assert!(warnings.contains("the queue"), "{warnings}");
}
