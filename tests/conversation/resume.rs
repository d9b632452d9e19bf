//! Jobs that are resumed after they ended.

use std::fs;

use serde_json::Value;

use crate::lines;
use crate::support::processes::kill;
use crate::support::{Sandbox, await_file};

#[test]
fn resumes_a_job_after_any_end() {
    for (script, end) in [
        ("session\nread\ninit\nsay hi\nresult one\neof", "completed"),
        ("session\nread\ninit\nsay hi\ntouch $DIR/up\nhang", "killed"),
        ("session\nread\ninit\nsay hi\nexit 3", "failed"),
    ] {
        let sandbox = Sandbox::new(script);
        sandbox.start("j", &[]);
        if end == "killed" {
            await_file(&sandbox.path("up"));
            sandbox.run(["kill", "j"]);
        }
        let first = sandbox.wait("j");
        assert_eq!(first["status"], end);
        sandbox.script("args $DIR/args\nsession\ninit\nhear-all $DIR/heard");
        assert_eq!(sandbox.run(["resume", "j"]).code, 0, "{end}");
        let second = sandbox.wait("j");
        second.expect_end(0, "completed", None);
        assert_eq!(second["session_id"], first["session_id"]);
        assert_eq!(second["attempt"], 2);
        assert_eq!(lines(&sandbox, "heard"), ["Go on with the task."]);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(args.contains("\"--resume\"") && !args.contains("--session-id"), "{args}");
        // As a separate job, with a copy of the session.
        let options = ["start", "k", "--resume-job", "j", "--fork", "--prompt", "and now"];
        sandbox.script("args $DIR/args\nread $DIR/said\ninit\nresult two\neof");
        assert_eq!(sandbox.run(options).code, 0);
        sandbox.wait("k").expect_end(0, "completed", None);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(args.contains("--fork-session") && args.contains("\"--resume\""), "{args}");
    }
}

#[test]
fn keeps_the_previous_result_until_there_is_another() {
    let sandbox = Sandbox::new("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let one = serde_json::json!(
        {"attempt": 1, "result": "one", "structured_output": null, "partial": false}
    );
    for (attempt, end) in [(2, "exit 1"), (3, "die KILL"), (4, "hang")] {
        sandbox.script(&format!("hear\ninit\ntouch $DIR/up{attempt}\nwait-file $DIR/go\n{end}"));
        let _ = fs::remove_file(sandbox.path("go"));
        assert_eq!(sandbox.run(["resume", "j"])["attempt"], attempt);
        await_file(&sandbox.path(&format!("up{attempt}")));
        let running = sandbox.run(["result", "j"]);
        assert_eq!((&running["status"], &running["result"]), (&"running".into(), &Value::Null));
        assert_eq!(running["previousResult"], one);
        fs::write(sandbox.path("go"), "").unwrap();
        if end == "hang" {
            assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
        }
        let ended = sandbox.wait("j");
        assert_ne!(ended["status"], "completed");
        assert_eq!((&ended["attempt"], &ended["result"]), (&attempt.into(), &Value::Null));
        assert_eq!(ended["previousResult"], one, "{end}");
        assert_eq!(sandbox.run(["result", "j"])["previousResult"], one);
    }
    let text = sandbox.run(["result", "j", "--plain"]).stdout;
    assert!(text.contains("Result of attempt 1:\none"), "{text}");

    sandbox.script("hear\ninit\nresult five\neof");
    sandbox.run(["resume", "j"]);
    let ended = sandbox.wait("j");
    ended.expect_end(0, "completed", None);
    assert_eq!((&ended["result"], &ended["previousResult"]), (&"five".into(), &Value::Null));
}

#[test]
fn a_lost_attempt_keeps_the_previous_result() {
    let sandbox = Sandbox::new("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]);
    sandbox.script("hear\ninit\ntouch $DIR/up\nhang");
    let resumed = sandbox.run(["resume", "j"]);
    await_file(&sandbox.path("up"));
    kill(i32::try_from(resumed["pid"].as_i64().unwrap()).unwrap());
    let lost = sandbox.wait("j");
    lost.expect_end(1, "failed", Some("worker_died"));
    assert_eq!(lost["previousResult"]["result"], "one");
}

#[test]
fn resume_replaces_model_tools_and_limits() {
    let mut sandbox = Sandbox::new("args $DIR/args\nhear\ninit\nresult ok\neof");
    let args = |sandbox: &Sandbox| fs::read_to_string(sandbox.path("args")).unwrap();
    sandbox.run_job("j", &["--model", "sonnet", "--max-turns", "9", "--allowed-tools", "Bash"]);
    assert!(!args(&sandbox).contains("--effort"));
    let change = [
        "--model",
        "opus",
        "--effort",
        "high",
        "--max-turns",
        "3",
        "--max-budget-usd",
        "2",
        "--allowed-tools",
        "Read,Grep",
        "--disallowed-tools",
        "Write",
        "--permission-mode",
        "plan",
        "--append-system-prompt",
        "two",
        "--timeout",
        "1h",
        "--stall-timeout",
        "0",
        "--tool-timeout",
        "5m",
    ];
    sandbox.set("FAKE_HELP", "  --system-prompt-snapshot <on|off>");
    // Defaults for a start do not change an existing job.
    sandbox.set("CLAUDE_SKILL_MODEL", "haiku");
    let expected = "\"--permission-mode\",\"plan\",\"--model\",\"opus\",\"--effort\",\"high\",\
        \"--append-system-prompt\",\"two\",\"--max-turns\",\"3\",\"--max-budget-usd\",\"2\",\
        \"--allowedTools\",\"Read,Grep\",\"--disallowedTools\",\"Write\",\
        \"--system-prompt-snapshot\",\"off\"]";
    for change in [&change[..], &[]] {
        let answer = sandbox.run([&["resume", "j"][..], change].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        sandbox.wait("j").expect_end(0, "completed", None);
        assert!(args(&sandbox).ends_with(expected), "{}", args(&sandbox));
    }
    let record = fs::read_to_string(sandbox.job("j").join("meta.json")).unwrap();
    let spec = &serde_json::from_str::<Value>(&record).unwrap()["spec"];
    assert_eq!(
        (&spec["timeoutMs"], &spec["stallTimeoutMs"], &spec["toolTimeoutMs"]),
        (&3_600_000.into(), &Value::Null, &300_000.into())
    );
    // A claude that does not know the option would refuse to start.
    sandbox.set("FAKE_HELP", "  --append-system-prompt <prompt>");
    sandbox.run(["resume", "j", "--append-system-prompt", "three"]);
    sandbox.wait("j").expect_end(0, "completed", None);
    assert!(!args(&sandbox).contains("snapshot"));
}
