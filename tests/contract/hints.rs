//! Hints that lead on: a caller that runs the hint of each answer in turn reaches a completed job,
//! or a comment that says what a person must do.

use std::fs;

use serde_json::{Value, json};

use super::support::{Sandbox, await_file, eventually};
use super::{PERMISSION, QUESTION, ended_as, hint, reasons, run_for_answer, run_hint};

/// Number of hints after which a chain must have ended.
const MAX_STEPS: usize = 6;
/// Words of a comment that names what a person must do.
const FOR_A_PERSON: [&str; 3] =
    ["a person must remove the cause", "then start a new job", "claudejob recover --all"];

/// Runs the job's hint, then the hint of each answer, and returns all of them.
#[track_caller]
fn follow(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let mut next = sandbox.status(id)["hint"].clone();
    let mut hints = Vec::new();
    while let Some(hint) = next.as_str().map(str::to_owned) {
        hints.push(hint.clone());
        assert!(hints.len() <= MAX_STEPS, "{id}: {hints:#?}");
        let (_, answer) = run_for_answer(sandbox, &hint);
        next = match &answer["recovered"] {
            Value::Array(recovered) => {
                recovered.iter().find(|job| job["jobId"] == id).unwrap()["hint"].clone()
            }
            _ => answer["hint"].clone(),
        };
    }
    hints
}

/// Asserts that the job has completed, or that the last hint says what a person must do.
#[track_caller]
fn assert_good_end(sandbox: &Sandbox, id: &str, hints: &[String]) {
    let last = hints.last().unwrap();
    if last.starts_with("claudejob logs ") {
        assert!(FOR_A_PERSON.iter().any(|words| last.contains(words)), "{id}: {hints:#?}");
    } else {
        let status = sandbox.status(id);
        assert_eq!(status["status"], "completed", "{id}: {hints:#?}");
    }
}

/// The commands of hints, without their comments.
fn commands(hints: &[String]) -> Vec<&str> {
    hints.iter().map(|hint| hint.split("  # ").next().unwrap()).collect()
}

#[test]
fn the_hint_of_every_failure_leads_on() {
    let sandbox = Sandbox::new("init\nhear-all $DIR/heard");
    sandbox.run_job("model", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("model")["hint"], Value::Null);
    for reason in reasons() {
        for (kind, more) in [
            ("plain", json!({})),
            ("cut", json!({"dependencyCutOff": true, "exit": {"code": null, "signal": 9}})),
            ("reset", json!({"resumableAt": "2026-11-20T21:45:12.000Z"})),
            ("fresh", json!({"sessionBegan": false, "sessionId": null})),
            ("often", json!({"earlier": {"reason": reason, "failures": 2}})),
        ] {
            let id = format!("{reason}-{kind}");
            let mut fields = json!({"status": "failed", "reason": reason, "error": "it failed"});
            for (name, value) in more.as_object().unwrap() {
                fields[name] = value.clone();
            }
            ended_as(&sandbox, "model", &id, &fields);
            let first = hint(&sandbox, &id);
            assert!(kind != "often" || first.starts_with("claudejob logs "), "{id}: {first}");
            assert_good_end(&sandbox, &id, &follow(&sandbox, &id));
        }
        let id = format!("{reason}-new");
        let fields = json!({"status": "failed", "reason": reason, "version": 99});
        ended_as(&sandbox, "model", &id, &fields);
        assert_eq!(run_hint(&sandbox, &hint(&sandbox, &id)), 0);
    }
    for (id, version) in [("killed", 2), ("killed-new", 99)] {
        ended_as(&sandbox, "model", id, &json!({"status": "killed", "version": version}));
        assert_eq!(run_hint(&sandbox, &hint(&sandbox, id)), 0);
    }
}

/// A result of claude with these fields.
fn result(fields: &Value) -> String {
    let mut result = json!({
        "type": "result", "subtype": "success", "is_error": false, "num_turns": 1,
        "duration_ms": 1, "session_id": "00000000-0000-4000-8000-000000000000",
        "total_cost_usd": 0.01, "usage": {"output_tokens": 3}, "result": "done",
    });
    for (name, value) in fields.as_object().unwrap() {
        result[name] = value.clone();
    }
    format!("json {result}")
}

#[test]
fn a_job_completes_by_its_hints_alone() {
    let error = |subtype: &str| result(&json!({"subtype": subtype, "is_error": true}));
    let denial = json!([{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {}}]);
    let structured = result(&json!({"structured_output": {}}));
    let rows: [(&str, &[&str], String, &str, &str); 9] = [
        (
            "max_turns",
            &["--max-turns", "7"],
            error("error_max_turns"),
            "resume a --max-turns 14",
            "--max-turns\",\"14",
        ),
        (
            "max_budget",
            &["--max-budget-usd", "0.15"],
            error("error_max_budget_usd"),
            "resume a --max-budget-usd 0.3",
            "--max-budget-usd\",\"0.3",
        ),
        (
            "permission_denied",
            &["--fail-on-denial", "--allowed-tools", "Read"],
            result(&json!({"permission_denials": denial})),
            "resume a --allowed-tools 'Read' --allowed-tools 'Bash'",
            "Bash",
        ),
        (
            "no_answer",
            &[],
            result(&json!({"result": ""})),
            "resume a --message 'Give your answer to the task.'",
            "",
        ),
        (
            "invalid_output",
            &["--json-schema", "{}"],
            error("error_max_structured_output_retries"),
            "resume a --message 'Give the result as output that fits the JSON schema.'",
            "",
        ),
        ("timeout", &["--timeout", "10s"], "hang".to_owned(), "resume a --timeout 20s", ""),
        (
            "stalled",
            &["--stall-timeout", "10s"],
            "hang".to_owned(),
            "resume a --stall-timeout 20s",
            "",
        ),
        ("no_result", &[], "die KILL".to_owned(), "recover a", ""),
        ("rate_limit", &["--retries", "0"], "refused 429".to_owned(), "resume a", ""),
    ];
    for (reason, options, failure, command, argument) in rows {
        let has_result = failure.starts_with("json") || failure.starts_with("refused");
        let ended = if has_result { "once $DIR/ended exit 0\n" } else { "" };
        let sandbox = Sandbox::new(&format!(
            "args $DIR/args\nhear $DIR/heard\ninit\nonce $DIR/failed {failure}\n\
             {ended}say done\n{structured}\nhear-all $DIR/heard"
        ));
        sandbox.run_job("a", options).expect_end(
            if reason == "rate_limit" { 75 } else { 1 },
            "failed",
            Some(reason),
        );
        let hints = follow(&sandbox, "a");
        let command = format!("claudejob {command}");
        assert_eq!(commands(&hints), [command.as_str(), "claudejob wait a"], "{reason}");
        assert_good_end(&sandbox, "a", &hints);
        let arguments = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(arguments.contains(argument), "{reason}: {arguments}");
        if let Some((_, message)) = command.split_once(" --message '") {
            let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
            assert!(heard.contains(message.trim_end_matches('\'')), "{heard}");
        }
    }
}

#[test]
fn hints_end_if_a_failure_repeats() {
    for (failure, options) in [("refused 500", ["--retries", "0"]), ("exit 1", ["--retries", "0"])]
    {
        let sandbox = Sandbox::new(&format!("read\ninit\n{failure}"));
        sandbox.run_job("a", &options);
        let hints = follow(&sandbox, "a");
        assert_eq!(
            commands(&hints),
            [
                "claudejob resume a",
                "claudejob wait a",
                "claudejob resume a",
                "claudejob wait a",
                "claudejob logs a"
            ]
        );
        assert!(hints[4].ends_with("; then: claudejob resume a"), "{}", hints[4]);
        assert_good_end(&sandbox, "a", &hints);
    }
    let sandbox = Sandbox::new("stderr error: unknown option\nexit 1");
    sandbox.run_job("a", &[]).expect_end(1, "failed", Some("claude_refused"));
    let hints = follow(&sandbox, "a");
    assert_eq!(commands(&hints), ["claudejob logs a --stderr"]);
    assert_good_end(&sandbox, "a", &hints);
}

#[test]
fn a_failed_dependency_is_continued_first() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\nonce $DIR/failed {}\nonce $DIR/ended exit 0\nsay done\nresult done\neof",
        result(&json!({"subtype": "error_max_turns", "is_error": true}))
    ));
    sandbox.run_job("a", &["--max-turns", "7"]).expect_end(1, "failed", Some("max_turns"));
    for (id, other) in [("b", "a"), ("c", "b")] {
        let job = sandbox.run_job(id, &["--after", other]);
        job.expect_end(1, "failed", Some("dependency_failed"));
    }
    let refused = sandbox.run(["resume", "c"]);
    assert_eq!((refused.code, refused.text("code")), (1, "dependency_failed"));
    let hints = follow(&sandbox, "c");
    assert_eq!(
        commands(&hints),
        [
            "claudejob resume c",
            "claudejob resume a --max-turns 14 && claudejob resume b && claudejob resume c",
            "claudejob wait c"
        ]
    );
    for id in ["a", "b", "c"] {
        assert_good_end(&sandbox, id, &hints);
    }
}

#[test]
fn a_job_behind_a_blocked_one_has_its_hint() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\nonce $DIR/asked {QUESTION}\nonce $DIR/heard read\nresult ok\neof"
    ));
    sandbox.start("a", &["--ask", "--max-parallel", "1"]);
    eventually("the question", || (sandbox.status("a")["status"] == "blocked").then_some(()));
    sandbox.start("slot", &["--max-parallel", "1"]);
    let job = sandbox.start("job", &["--after", "a"]);
    sandbox.start("last", &["--after", "job"]);
    let answer = "claudejob answer a --choice 'It'\\''s \"$HOME\"; exit 2'";
    for id in ["slot", "job", "last"] {
        let status = sandbox.status(id);
        let hint = hint(&sandbox, id);
        let command = format!("{answer} && claudejob wait {id} --timeout 10m");
        assert_eq!(commands(&[hint]), [command], "{status:?}");
        assert!(status["waitingFor"]["hint"].as_str().unwrap().starts_with(answer), "{status:?}");
    }
    assert_eq!(job["hint"], sandbox.status("job")["hint"]);
    assert_good_end(&sandbox, "last", &follow(&sandbox, "last"));
    follow(&sandbox, "a");
    sandbox.wait("slot").expect_end(0, "completed", None);
}

#[test]
fn the_hint_of_every_live_status_runs_unchanged() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\n{QUESTION}\nread $DIR/answer\n{PERMISSION}\nread $DIR/more\nresult ok\nhang"
    ));
    let answer = sandbox.start("a", &["--ask", "--keep-alive", "--block-timeout", "1h"]);
    assert_eq!(answer["hint"], "claudejob wait a --timeout 10m  # it stays alive after its answer");
    let asks = |id: &str| {
        eventually("the question", || {
            let status = sandbox.status("a");
            (status["blocked"]["requestId"] == id).then_some(status)
        })
    };
    let status = asks("q1");
    let wait = &status["waitingFor"];
    assert_eq!((&wait["kind"], &wait["hint"]), (&"answer".into(), &status["hint"]));
    assert!(wait["until"].is_string(), "{status:?}");
    assert_eq!(sandbox.run(["wait", "a"])["hint"], status["hint"]);
    assert_eq!(run_hint(&sandbox, &hint(&sandbox, "a")), 0);
    asks("p1");
    let answer = fs::read_to_string(sandbox.path("answer")).unwrap();
    assert!(answer.contains(r#"It's \"$HOME\"; exit 2"#), "{answer}");
    assert_eq!(hint(&sandbox, "a"), "claudejob answer a --allow  # or: --deny");
    assert_eq!(run_hint(&sandbox, &hint(&sandbox, "a")), 0);
    let status = eventually("the end of the turn", || {
        Some(sandbox.status("a")).filter(|status| status["status"] == "idle")
    });
    assert_eq!(status["waitingFor"]["kind"], "message");
    let result = sandbox.run(["result", "a"]);
    assert!(status.text("hint").starts_with("claudejob result a  # "), "{status:?}");
    assert_eq!(status["waitingFor"]["hint"], result["hint"]);
    assert_good_end(&sandbox, "a", &follow(&sandbox, "a"));
}

#[test]
fn the_hint_of_an_error_leads_on() {
    let sandbox =
        Sandbox::new("hear\ninit\nonce $DIR/up say hi\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("live", &[]);
    await_file(&sandbox.path("up"));
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("live").expect_end(0, "completed", None);
    fs::rename(sandbox.path("go"), sandbox.path("gone")).unwrap();
    sandbox.start("busy", &[]);
    for (call, code, hint) in [
        (&["send", "live", "more"][..], "job_ended", "claudejob result live"),
        (&["interrupt", "live"], "job_ended", "claudejob result live"),
        (&["answer", "live", "--allow"], "job_ended", "claudejob result live"),
        (&["recover", "live"], "not_recoverable", "claudejob status live"),
        (&["answer", "busy", "--allow"], "nothing_asked", "claudejob status busy"),
        (&["resume", "busy"], "not_resumable", "claudejob status busy"),
        (&["finish", "busy"], "not_kept_alive", "claudejob wait busy"),
        (&["rm", "busy"], "job_live", "claudejob kill busy"),
        (&["start", "busy", "-p", "x"], "job_exists", "claudejob status busy"),
        (&["update", "busy", "--priority", "1"], "not_queued", "claudejob list --status queued"),
        (&["status", "nobody"], "not_found", "claudejob list --all"),
    ] {
        let refused = sandbox.run(call);
        let error = match &refused["left"] {
            Value::Array(left) => left[0].clone(),
            _ if refused.json.is_array() => refused.json[0].clone(),
            _ => refused.json.clone(),
        };
        assert_eq!(error["code"], code, "{refused:?}");
        let next = error["hint"].as_str().unwrap();
        assert!(next.starts_with(hint), "{call:?}: {next}");
        if !["not_kept_alive", "job_live"].contains(&code) {
            assert_eq!(run_hint(&sandbox, next), 0, "{call:?}: {next}");
        }
    }
    // The hint of the status is that of a live job.
    assert_eq!(hint(&sandbox, "busy"), "claudejob wait busy");
    assert_eq!(run_hint(&sandbox, "claudejob kill busy"), 0);
}
