//! Jobs that wait for other jobs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::Sandbox;
use crate::support::processes::send;
use crate::{GATED, await_start, order, release, worker_of};

#[test]
fn a_job_runs_after_its_dependencies() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    sandbox.start("b", &[]);
    release(&sandbox, "both");
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
    assert!(said.starts_with("Job slot is queued: number 1 in the queue.\n"), "{said}");
    for id in ["a", "b"] {
        await_start(&sandbox, id);
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    sandbox.wait("both").expect_end(0, "completed", None);
    assert_eq!(order(&sandbox).last().unwrap(), "both");
    // An ended job is not waited for.
    release(&sandbox, "at-once");
    sandbox.run_job("at-once", &["--after", "a"]).expect_end(0, "completed", None);
}

#[test]
fn a_failed_dependency_fails_or_admits_the_job() {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("a", &[]);
    sandbox.start("strict", &["--after", "a"]);
    sandbox.start("chained", &["--after", "strict"]);
    release(&sandbox, "lenient");
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
    // The same if that is known at the start.
    let late = sandbox.run_job("late", &["--after", "a"]);
    late.expect_end(1, "failed", Some("dependency_failed"));
    // A worker that died is an end, too.
    sandbox.start("c", &[]);
    sandbox.start("orphan", &["--after", "c"]);
    send(worker_of(&sandbox, "c"), Signal::SIGKILL);
    sandbox.wait("orphan").expect_end(1, "failed", Some("dependency_failed"));
}

#[test]
fn refuses_unknown_and_circular_dependencies() {
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
    // At once, not file by file: a job without its record is another situation.
    fs::rename(sandbox.job("a"), sandbox.path("removed")).unwrap();
    let refused = start("a", "c");
    assert_eq!((refused.code, refused.text("code")), (1, "dependency_cycle"));
    assert!(!sandbox.job("a").exists());
}
