//! The contract with callers (`docs/json.md`, `docs/status.md`, `docs/errors.md`): hints that run
//! unchanged, exit codes, the reason why a job waits, and the schemas that every answer in these
//! tests is checked against.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "contract/hints.rs"]
mod hints;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{Answer, Sandbox, await_file, schema};

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"It's \"$HOME\"; exit 2","description":"d"},{"label":"Postgres","description":"d"}],"multiSelect":false}]}}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":"x"}}}"#;

/// Returns every reason that a record can hold, as the schema of `status` lists them.
fn reasons() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas/status.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let variants = schema["$defs"]["Reason"]["oneOf"].as_array().unwrap();
    variants.iter().map(|variant| variant["const"].as_str().unwrap().to_owned()).collect()
}

/// Creates an ended job from a real one, with these fields in its record.
fn ended_as(sandbox: &Sandbox, model: &str, id: &str, fields: &Value) {
    let dir = sandbox.job(id);
    fs::create_dir_all(dir.join("inbox")).unwrap();
    for name in ["prompt.txt", "output.log", "stderr.log", "events.ndjson", "lock"] {
        let _ = fs::copy(sandbox.job(model).join(name), dir.join(name));
    }
    let record = fs::read(sandbox.job(model).join("meta.json")).unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["jobId"] = json!(id);
    for (name, value) in fields.as_object().unwrap() {
        record[name] = value.clone();
    }
    fs::write(dir.join("meta.json"), record.to_string()).unwrap();
}

/// Runs a hint unchanged, as a caller does. Returns the exit code, and the last document on stdout.
#[track_caller]
fn run_for_answer(sandbox: &Sandbox, hint: &str) -> (i32, Value) {
    let program = sandbox.command(["list"]);
    let folder = Path::new(program.get_program()).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", hint]).env_clear().current_dir(sandbox.work());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.env("PATH", path).output().unwrap();
    let code = output.status.code().unwrap_or(-1);
    assert!(![2, 126, 127, -1].contains(&code), "{code} of {hint}: {output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last = stdout.lines().last().unwrap_or_default();
    (code, serde_json::from_str(last).unwrap_or(Value::Null))
}

/// Runs a hint unchanged, as a caller does, and returns the exit code.
#[track_caller]
fn run_hint(sandbox: &Sandbox, hint: &str) -> i32 {
    run_for_answer(sandbox, hint).0
}

/// Returns the job's hint, which must be the same in `status`, `result` and `list`.
#[track_caller]
fn hint(sandbox: &Sandbox, id: &str) -> String {
    let status = sandbox.status(id);
    let list = sandbox.run(["list", "--all"]);
    let item = list.json.as_array().unwrap().iter().find(|item| item["jobId"] == id).unwrap();
    assert_eq!(item["hint"], status["hint"]);
    assert_eq!(sandbox.run(["result", id])["hint"], status["hint"]);
    status.text("hint").to_owned()
}

#[test]
fn the_page_of_statuses_lists_every_reason() {
    let page = include_str!("../docs/status.md");
    for reason in reasons() {
        assert!(page.contains(&format!("\n| `{reason}` | ")), "docs/status.md: {reason}");
    }
}

#[test]
fn the_page_of_errors_lists_every_code() {
    let page = include_str!("../docs/errors.md");
    for source in [include_str!("../src/error.rs"), include_str!("../src/error/worktree.rs")] {
        for rest in source.split("code \"").skip(1) {
            let code = rest.split('"').next().unwrap();
            assert!(page.contains(&format!("`{code}`")), "docs/errors.md: {code}");
        }
    }
}

#[test]
fn a_queued_job_says_why_it_waits() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let queued = |id: &str, options: &[&str], kind: &str| -> Answer {
        let started = sandbox.start(id, options);
        let status = sandbox.status(id);
        let list = sandbox.run(["list", "--status", "queued"]);
        let item = list.json.as_array().unwrap().iter().find(|item| item["jobId"] == id).unwrap();
        assert_eq!(status["waitingFor"], item["waitingFor"]);
        assert_eq!(started["waitingFor"]["kind"], kind, "{started:?}");
        assert_eq!(status["waitingFor"]["kind"], kind, "{status:?}");
        assert_eq!(
            (&started["waitsFor"], &item["waitsFor"]),
            (&status["waitsFor"], &status["waitsFor"])
        );
        status
    };
    let running = sandbox.start("run", &[]);
    assert_eq!((&running["waitsFor"], &running["waitingFor"]), (&json!([]), &Value::Null));
    await_file(&sandbox.path("up"));
    let slot = queued("slot", &["--max-parallel", "1"], "slot");
    assert_eq!(slot["waitingFor"]["why"], "it is number 1 in the queue for a slot");
    assert_eq!(run_hint(&sandbox, slot["waitingFor"]["hint"].as_str().unwrap()), 0);
    let job = queued("job", &["--after", "run"], "job");
    assert_eq!(job["waitsFor"], json!(["run"]));
    assert_eq!(job["waitingFor"]["why"], "job run has not ended");
    let time = queued("time", &["--start-delay", "1h", "--after-any", "run"], "time");
    assert_eq!(time["waitingFor"]["until"], time["startsAt"]);
    let text = sandbox.run(["status", "job", "--plain"]).stdout;
    assert_eq!(text.matches("run has not ended").count(), 1, "{text}");
    assert!(text.contains("claudejob wait job"), "{text}");
}

#[test]
fn transient_failures_have_exit_code_75() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("ok", &[]).expect_end(0, "completed", None);
    for (id, fields) in [
        ("limit", json!({"status": "failed", "reason": "rate_limit"})),
        ("overload", json!({"status": "failed", "reason": "overloaded"})),
        ("lost", json!({"status": "failed", "reason": "api_error", "lostConnection": true})),
        ("bad", json!({"status": "failed", "reason": "api_error"})),
        ("killed", json!({"status": "killed"})),
    ] {
        ended_as(&sandbox, "ok", id, &fields);
    }
    for (ids, code) in [
        (&["limit"][..], 75),
        (&["overload"], 75),
        (&["lost"], 75),
        (&["bad"], 1),
        (&["killed"], 3),
        (&["ok", "lost"], 75),
        (&["lost", "bad"], 1),
        (&["bad", "killed"], 3),
    ] {
        let answer = sandbox.run([&["wait"], ids].concat());
        assert_eq!(answer.code, code, "{ids:?}: {answer:?}");
    }
    assert_eq!(sandbox.run(["status", "limit"]).code, 0, "a failed job is an answer");
}

#[test]
fn a_missing_job_has_the_status_not_found() {
    let sandbox = Sandbox::new("");
    for verb in ["status", "result", "wait"] {
        let answer = sandbox.run([verb, "nobody"]);
        assert_eq!(
            (answer.code, answer.json),
            (
                4,
                json!({
                    "jobId": "nobody", "status": "not_found", "error": "no job named 'nobody'",
                    "code": "not_found", "hint": "claudejob list --all",
                })
            )
        );
    }
}

#[test]
fn hints_name_a_jobs_directory_given_as_an_option() {
    let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let other = sandbox.path("it's another");
    let other = other.to_str().unwrap();
    let started = sandbox.run(["start", "a", "--prompt", "x", "--jobs-dir", other]);
    assert_eq!(run_hint(&sandbox, started.text("hint")), 0, "{started:?}");
    let missing = sandbox.run(["status", "nobody", "--jobs-dir", other]);
    assert_eq!(run_hint(&sandbox, missing.text("hint")), 0);
    assert!(missing.text("hint").contains("--jobs-dir"), "{missing:?}");
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", other);
    assert_eq!(sandbox.run(["status", "nobody"])["hint"], "claudejob list --all");
}

#[test]
fn list_shortens_jobs_before_it_omits_any() {
    let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.set("AI_AGENT", "test");
    sandbox.run_job("261120-zuzator", &[]).expect_end(0, "completed", None);
    let prompt = "Fix the failing login test in tests/login.rs and say what was wrong with it";
    let error =
        "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}} ".repeat(3);
    for n in 0..200 {
        let at = format!("2026-11-20T{:02}:{:02}:12.000Z", n / 60, n % 60);
        let fields = json!({
            "status": "failed", "reason": "overloaded", "error": error, "prompt": prompt,
            "startedAt": at, "endedAt": at, "costUsd": 0.12345, "numTurns": 12,
        });
        ended_as(&sandbox, "261120-zuzator", &format!("261120-wubab{n:03}"), &fields);
    }
    let list = |options: &[&str]| -> Vec<Value> {
        let answer = sandbox.run([&["list"], options].concat());
        let fits = options.contains(&"--all") || answer.stdout.chars().count() <= 8_000;
        assert!(fits, "{}", answer.stdout);
        answer.json.as_array().unwrap().clone()
    };
    let recent = list(&[]);
    assert_eq!(recent.len(), 20);
    for item in &recent {
        assert!(
            item["jobId"].is_string() && item["hint"].is_string() == (item["status"] == "failed")
        );
        assert_eq!(item["truncated"], true);
    }
    let few = list(&["--limit", "3"]);
    assert_eq!((&few[0]["truncated"], &few[0]["retryAt"]), (&false.into(), &Value::Null));
    let many = list(&["--status", "failed"]);
    let last = many.last().unwrap();
    assert_eq!(last["omitted"].as_u64().unwrap() as usize + many.len() - 1, 200, "{last}");
    assert!(many.len() > 80, "ids stay as long as possible: {}", many.len());
    assert_eq!(run_hint(&sandbox, last["hint"].as_str().unwrap()), 0);
    let next = "claudejob list --status failed --max-chars 0";
    assert_eq!((&last["next"], run_hint(&sandbox, next)), (&next.into(), 0));
    let sixty = list(&["--limit", "60"]);
    assert!(sixty.iter().all(|item| item["jobId"].is_string()), "{sixty:?}");
    assert_eq!((sixty.len(), sixty[1]["hint"].is_string()), (60, true));
    assert!(sixty[59].get("hint").is_none(), "{}", sixty[59]);
    let all = list(&["--all"]);
    assert_eq!((all.len(), &all[0]["truncated"]), (201, &false.into()));
}

#[test]
fn reads_a_result_under_an_earlier_name() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    let file = sandbox.job("a").join("result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(result.get("undelivered").is_none() && result.get("undeliveredMessages").is_none());
    result["undelivered"] = json!([{"number": 3, "text": "and the docs"}]);
    fs::write(&file, result.to_string()).unwrap();
    let answer = sandbox.run(["result", "a"]);
    assert_eq!(answer["undeliveredMessages"], result["undelivered"]);
    assert_eq!(answer["undelivered"], result["undelivered"]);
    assert_eq!(answer["result"], "ok");
}

#[test]
fn marks_a_cost_that_is_a_lower_bound() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("model", &[]).expect_end(0, "completed", None);
    let fields = json!({"status": "killed", "costIsLowerBound": true, "costUsd": 0.0123});
    ended_as(&sandbox, "model", "a", &fields);
    assert_eq!(sandbox.status("a")["costIsLowerBound"], true);
    assert_eq!(sandbox.run(["result", "a"])["costIsLowerBound"], true);
    assert_eq!(sandbox.run(["stats"])["total"]["costIsLowerBound"], true);
    assert_eq!(sandbox.status("model")["costIsLowerBound"], false);
    for (args, text) in [
        (["status", "a"].as_slice(), "≥$0.01"),
        (&["result", "a"], "≥$0.01"),
        (&["list"], "≥$0.01"),
        (&["stats"], "≥$0.0"),
    ] {
        let answer = sandbox.run([args, &["--plain"]].concat());
        assert!(answer.stdout.contains(text), "{answer:?}");
    }
}

#[test]
fn rejects_an_answer_that_differs_from_its_schema() {
    let kill = json!({"jobId": "a", "killed": true, "status": "killed", "error": null, "left": [],
        "warnings": [], "record": null, "hint": null});
    schema::check(&["kill"], &kill);
    for (field, value) in
        [("unknown", json!(1)), ("killed", json!("yes")), ("status", json!("dead"))]
    {
        let mut kill = kill.clone();
        kill[field] = value;
        let refused = std::panic::catch_unwind(|| schema::check(&["kill"], &kill));
        assert!(refused.is_err(), "{kill}");
    }
    let absent = json!({"jobId": "a", "killed": true, "status": "killed", "left": [],
        "warnings": [], "record": null, "hint": null});
    assert!(std::panic::catch_unwind(|| schema::check(&["kill"], &absent)).is_err());
    let event = json!({"jobId": "a", "seq": 1, "at": "2026-11-20T21:45:12.000Z", "attempt": 1,
        "event": "launched", "pid": 1, "program": null, "arguments": null});
    schema::check(&["events"], &event);
    let mut odd = event;
    odd["tool"] = json!("Bash");
    assert!(std::panic::catch_unwind(|| schema::check(&["events"], &odd)).is_err());
}
