//! Rate limits that one job meets and others wait for.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::send;
use crate::support::{Answer, Sandbox, eventually};
use crate::{events, order, worker_of};

/// Job `a` has met a rate limit of this many seconds, which no later job meets, and waits for its
/// end. Returns the sandbox and the job's status.
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
fn a_rate_limit_holds_the_other_jobs_back() {
    // Longer than a busy machine needs to start the next job.
    let (sandbox, limited) = with_limit(10);
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
    let time = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
    let launched = |id: &str| {
        let events = events(&sandbox, id);
        time(&events.iter().rfind(|event| event["event"] == "launched").unwrap()["at"])
    };
    // The job that met the limit goes first, but on a busy machine it may be a second late.
    let late = (launched("b") - time(&limited["retryAt"])).num_milliseconds() >= 950;
    assert!(late || launched("a") <= launched("b"), "{limited:?}");
    let mut begun = order(&sandbox);
    begun.sort();
    assert_eq!(begun, ["a", "a", "b"]);
    let status = sandbox.status("a");
    assert_eq!((&status["rateLimited"], &status["attempt"]), (&false.into(), &2.into()));
}

#[test]
fn a_rate_limit_ends_when_another_job_is_answered() {
    let (sandbox, _) = with_limit(600);
    assert_eq!(sandbox.start("b", &[])["status"], "queued");
    assert_eq!(sandbox.status("b")["rateLimited"], true);
    sandbox.run_job("c", &["--max-wait", "1m"]).expect_end(0, "completed", None);
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox), ["a", "c", "b"]);
    assert_eq!(sandbox.status("a")["rateLimited"], true, "it waits for the announced end");
    sandbox.run(["kill", "a"]);
}

#[test]
fn an_answer_ends_a_limit_while_the_queue_is_busy() {
    let (mut sandbox, _) = with_limit(600);
    sandbox.script("read\ninit\nwait-file $DIR/go\nsay fine\nresult ok\neof");
    assert_eq!(sandbox.start("b", &[])["status"], "queued");
    assert_eq!(sandbox.start("c", &["--max-wait", "1m"])["status"], "running");
    // The worker of `c` has nothing else to do when it waits for the lock of the queue.
    sandbox.pause_at("queue:locked", ["start", "d", "--prompt", "x"], |sandbox| {
        fs::write(sandbox.path("go"), "").unwrap();
        sandbox.wait("c").expect_end(0, "completed", None);
        sandbox.wait("b").expect_end(0, "completed", None);
    });
    for id in ["a", "d"] {
        sandbox.run(["kill", id]);
    }
}

/// Job `a` has met a rate limit of its login that ends in ten minutes, and waits; every other job
/// that uses the login is answered.
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
fn a_rate_limit_applies_to_its_login_only() {
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
    // No part of a login is written anywhere in the directory.
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
fn a_job_probes_the_limit_after_the_prober_is_killed() {
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
        // The first one is answered, so the second need not wait either.
        for id in ["b", "c"] {
            sandbox.wait(id).expect_end(0, "completed", None);
        }
        assert!(began.elapsed() < Duration::from_secs(120));
        assert_eq!(order(&sandbox), ["a", "b", "c"]);
    }
}

#[test]
fn a_later_job_probes_the_rate_limit() {
    let sandbox = with_limited_login();
    sandbox.run(["kill", "a"]);
    sandbox.run_job("b", &[]).expect_end(0, "completed", None);
}

#[test]
fn one_job_at_a_time_probes_the_rate_limit() {
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
