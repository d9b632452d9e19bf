//! Logs, results, events and the answers of `wait`.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::support::{Answer, Sandbox};

#[test]
fn follows_a_growing_log_without_repetition() {
    let sandbox = Sandbox::new("read\ninit\nfill 3000000 3\nresult ok\neof");
    sandbox.start("l", &[]);
    let (mut read, mut at) = (String::new(), 0);
    loop {
        let offset = at.to_string();
        let args = ["logs", "l", "--raw", "--since-offset", &offset, "--max-bytes", "100000"];
        let answer = sandbox.run(args);
        read.push_str(answer.text("tail"));
        let next = answer["nextOffset"].as_u64().unwrap();
        if next == at && answer["status"] == "completed" {
            break;
        }
        at = next;
    }
    let log = fs::read_to_string(sandbox.job("l").join("output.log")).unwrap();
    assert!(read == log);
    let followed = sandbox.run(["logs", "l", "--raw", "--follow", "--since-offset", "0"]);
    assert!(followed.stdout == log);
    assert_eq!(sandbox.run(["logs", "l", "--since-offset", "99999999"])["code"], "bad_offset");
    let tail = sandbox.run(["logs", "l", "--tail", "1"]);
    assert!(tail.text("tail").starts_with("= completed"), "{tail:?}");
}

#[test]
fn answers_for_agents_are_short_and_escaped() {
    let mut sandbox = Sandbox::new("");
    sandbox.set("AI_AGENT", "test");
    let text = "\u{1b}[31m\u{9b}2J\u{202e}\\\"".repeat(30_000);
    let said = serde_json::to_string(&text).unwrap();
    sandbox.script(&format!(
        "read\ninit\nstderr \u{1b}[2J\njson {{\"type\":\"assistant\",\"message\":{{\"content\":[{{\"type\":\
         \"text\",\"text\":{said}}}]}}}}\njson {{\"type\":\"result\",\"subtype\":\"success\",\
         \"is_error\":false,\"result\":{said}}}\neof"
    ));
    let id = "a".repeat(128);
    sandbox.run_job(&id, &[]).expect_end(0, "completed", None);
    for verb in ["status", "result", "logs", "wait"] {
        let answer = sandbox.run([verb, &id]);
        assert!(answer.stdout.chars().count() < 8_000, "{verb}: {}", answer.stdout.len());
        assert!(answer.json.is_object(), "{verb}");
        for args in [&[verb, &id, "--plain"][..], &[verb, &id], &["logs", &id, "--stderr"]] {
            let shown = sandbox.run(args).stdout;
            let harmful = |c: char| c != '\n' && c != '\t' && (c.is_control() || c == '\u{202e}');
            assert!(!shown.contains(harmful), "{args:?}");
        }
    }
    assert_eq!(sandbox.run(["result", &id])["truncated"], true);
    assert!(sandbox.run(["result", &id, "--full"])["result"] == text);
    assert!(sandbox.run(["result", &id, "--max-chars", "0"])["result"] == text);
    let full = sandbox.run(["result", &id, "--full", "--max-chars", "2000"]);
    assert!(full.stdout.chars().count() < 2_000 && full["truncated"] == true, "{full:?}");
    let refused = sandbox.run(["result", &id, "--max-chars", "499"]);
    assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
    sandbox.unset("AI_AGENT");
    for verb in ["result", "wait"] {
        let answer = sandbox.run([verb, &id]);
        assert!(answer["result"] == text && answer["truncated"] == false, "{verb}");
    }
    sandbox.set("CLAUDE_SKILL_MAX_CHARS", "1000");
    assert!(sandbox.run(["result", &id]).stdout.chars().count() < 1_000);
}

#[test]
fn wait_reports_a_job_that_is_removed_meanwhile() {
    let mut sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go-$JOB\nresult ok\neof");
    let end = |sandbox: &Sandbox, id: &str| {
        fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
        sandbox.wait(id);
    };
    // One that had ended before, and one that ends during the wait.
    for (before, id, other) in [(true, "a", "b"), (false, "c", "d")] {
        sandbox.start(id, &[]);
        sandbox.start(other, &[]);
        if before {
            end(&sandbox, id);
        }
        let go = sandbox.path(&format!("go-{id}"));
        let answer = thread::scope(|scope| {
            scope.spawn(|| fs::write(go, "").unwrap());
            sandbox.pause_at("wait:kept", ["wait", id, other], |sandbox| {
                assert_eq!(sandbox.run(["clean", id])["removed"], 1);
                end(sandbox, other);
            })
        });
        assert_eq!(answer.code, 0, "{answer:?}");
        for (index, id) in [id, other].into_iter().enumerate() {
            let job = &answer.json[index];
            assert_eq!((&job["jobId"], &job["result"]), (&id.into(), &"ok".into()), "{answer:?}");
        }
        fs::remove_file(sandbox.path("stopped-wait-kept")).unwrap();
    }
    // A job that is removed before its end was read does not affect the answers of the others.
    for id in ["e", "f"] {
        sandbox.start(id, &[]);
    }
    end(&sandbox, "e");
    let answer = sandbox.pause_at("wait:kept", ["wait", "e", "f"], |sandbox| {
        end(sandbox, "f");
        assert_eq!(sandbox.run(["clean", "e", "f"])["removed"], 2);
    });
    assert_eq!(answer.code, 4, "{answer:?}");
    let [e, f] = [0, 1].map(|index| &answer.json[index]);
    assert_eq!(
        (&e["result"], &f["jobId"], &f["code"]),
        (&"ok".into(), &"f".into(), &"not_found".into())
    );
}

#[test]
fn wait_for_many_jobs_gives_short_answers() {
    let answer = "a long answer ".repeat(60);
    let mut sandbox = Sandbox::new(&format!("read\ninit\nsay hm\nresult {answer}\neof"));
    let ids: Vec<String> = (0..24).map(|n| format!("job-{n}")).collect();
    for id in &ids {
        sandbox.start(id, &["--max-parallel", "0"]);
    }
    sandbox.set("AI_AGENT", "test");
    let wait = |ids: &[String]| {
        let ids = ids.iter().map(String::as_str);
        let all = sandbox.run(["wait"].into_iter().chain(ids));
        assert_eq!(all.code, 0, "{all:?}");
        assert!(all.stdout.len() < 8_000, "{}", all.stdout.len());
        for job in all.json.as_array().unwrap() {
            assert_eq!((&job["status"], &job["truncated"]), (&"completed".into(), &true.into()));
            assert!(job["result"].as_str().unwrap().starts_with("a long"), "{job}");
            assert_eq!(job["usage"], Value::Null);
        }
        all.json
    };
    let many = wait(&ids);
    let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
    let answered = many.as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap());
    assert_eq!(answered.collect::<Vec<_>>(), asked);
    // Answers for fewer jobs have space for the rest.
    assert!(wait(&ids[..9])[0]["session_id"].is_string());
    let text = sandbox.run(["wait", "--plain"].into_iter().chain(asked.iter().copied())).stdout;
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with("job-0   completed  ") && row.contains("s  $0.01  a long"), "{text}");
    sandbox.unset("AI_AGENT");
    let whole = sandbox.run(["wait"].into_iter().chain(asked)).json;
    for job in whole.as_array().unwrap() {
        assert!(job["result"].as_str() == Some(&answer), "{job}");
        assert_eq!(job["truncated"], false);
    }
}

#[test]
fn answers_about_many_jobs_keep_within_the_limit() {
    let sandbox = Sandbox::new("read\ninit\nsay hm\nresult ok\neof");
    let ids: Vec<String> = (0..24).map(|n| format!("job-with-a-long-name-{n}")).collect();
    for id in &ids {
        sandbox.start(id, &["--max-parallel", "0"]);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    sandbox.run([&["wait"], ids.as_slice()].concat());
    for verb in ["wait", "result", "logs", "kill"] {
        for chars in [500, 1_400, 4_000] {
            let limit = chars.to_string();
            let call = [&[verb, "--max-chars", &limit], ids.as_slice()].concat();
            let answer = sandbox.run(&call);
            assert_eq!(answer.code, i32::from(verb == "kill"), "{answer:?}");
            let length = answer.stdout.chars().count();
            assert!(length <= chars + 1, "{verb} {chars}: {length}");
            let mut jobs = answer.json.as_array().unwrap().clone();
            let omitted = match jobs.last() {
                Some(last) if last["omitted"].is_u64() => jobs.pop().unwrap(),
                _ => json!({"omitted": 0, "truncated": true, "next": null}),
            };
            let count = jobs.len() + omitted["omitted"].as_u64().unwrap() as usize;
            assert_eq!((count, &omitted["truncated"]), (24, &true.into()), "{answer:?}");
            assert!(chars > 500 || !jobs.is_empty(), "{answer:?}");
            for (job, id) in jobs.iter().zip(&ids) {
                assert_eq!((&job["jobId"], &job["status"]), (&json!(id), &"completed".into()));
            }
            if let Some(id) = ids.get(jobs.len()) {
                let verb = if verb == "kill" { "status" } else { verb };
                assert_eq!(omitted["hint"], format!("claudejob {verb} {id}"));
            }
            if verb != "wait" {
                let text = sandbox.run([call.as_slice(), &["--plain"]].concat()).stdout;
                assert!(text.chars().count() <= chars, "{verb} {chars}: {text}");
                assert!(chars > 500 || text.contains("… and "), "{text}");
            }
        }
    }
    let call = ["result", "--since", "1h", "--max-chars", "500"];
    let answer = sandbox.run(call).json;
    let next = &answer.as_array().unwrap().last().unwrap()["next"];
    assert_eq!(*next, "claudejob result --since 1h --max-chars 0");
}

#[test]
fn reads_results_of_node_skill_jobs_from_their_logs() {
    let sandbox = Sandbox::new("eof");
    let session = "6f9fb695-65a0-40f6-bcf8-00af6730366b";
    let init = json!({"type": "system", "subtype": "init", "session_id": session, "model": "m"});
    let said = json!({"type": "assistant", "session_id": session, "message": {"id": "m1",
        "role": "assistant", "content": [{"type": "text", "text": "half"}]}});
    let end = json!({"type": "result", "subtype": "success", "is_error": false, "result": "whole",
        "num_turns": 3, "duration_ms": 5, "total_cost_usd": 0.5, "session_id": session});
    let put = |id: &str, status: &str, log: &[&Value]| {
        let record = json!({"jobId": id, "pid": i32::MAX, "status": status, "prompt": "p",
            "cwd": "/", "startedAt": "2025-11-02T08:00:00.000Z"});
        fs::create_dir_all(sandbox.job(id)).unwrap();
        fs::write(sandbox.job(id).join("meta.json"), record.to_string()).unwrap();
        let log: String = log.iter().map(|line| format!("{line}\n")).collect();
        fs::write(sandbox.job(id).join("output.log"), log).unwrap();
    };
    let figures = |result: &Answer| {
        let field = |name: &str| result[name].clone();
        (field("result"), field("cost_usd"), field("num_turns"), field("partial"))
    };
    for (id, status, log, expected) in [
        ("whole", "completed", &[&init, &said, &end][..], json!(["whole", 0.5, 3, false])),
        ("killed", "killed", &[&init, &said], json!(["half", null, 1, true])),
        ("empty", "failed", &[], json!([null, null, 0, false])),
        ("dead", "running", &[&init, &said, &end][..], json!(["whole", 0.5, 3, false])),
    ] {
        put(id, status, log);
        let result = sandbox.run(["result", id]);
        assert_eq!(json!(figures(&result)), expected, "{result:?}");
        assert_eq!(result["status"], sandbox.status(id)["status"], "{result:?}");
    }
    assert_eq!(sandbox.run(["result", "whole"])["warnings"], json!([]));
    put("doubtful", "completed", &[&init, &said]);
    let doubtful = sandbox.run(["result", "doubtful"]);
    assert_eq!(doubtful.text("status"), "completed");
    assert!(doubtful["warnings"].to_string().contains("its log does not"), "{doubtful:?}");
}

#[test]
fn events_have_the_arguments_and_the_last_stderr() {
    let sandbox = Sandbox::new("read\ninit\nstderr \u{1b}[2Jone\nstderr two\nresult ok\neof");
    let settings = r#"{"env":{"ANTHROPIC_API_KEY":"not-to-be-seen"}}"#;
    let options = [
        "--settings",
        settings,
        "--max-turns",
        "3",
        "--append-system-prompt",
        &"Be brief. ".repeat(30),
        "--",
        "--some-token",
        "not-to-be-seen",
    ];
    sandbox.run_job("j", &options).expect_end(0, "completed", None);
    sandbox.script("init\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    let events = |name: &str| -> Vec<Value> {
        let text = sandbox.run(["events", "j"]).stdout;
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["event"] == name).collect()
    };
    let launched = events("launched");
    assert_eq!(launched.len(), 2);
    assert_eq!(launched[0]["program"], crate::support::sandbox::fake_claude().to_str().unwrap());
    let arguments: Vec<&str> = launched[0]["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    let size = format!("{{…}} ({} bytes)", settings.len());
    for pair in [
        ["--max-turns", "3"],
        ["--settings", &size],
        ["--append-system-prompt", "… (300 bytes)"],
        ["--some-token", "***"],
    ] {
        assert!(arguments.windows(2).any(|two| two == pair), "{pair:?}: {arguments:?}");
    }
    assert!(launched[1]["arguments"].to_string().contains("--resume"), "{launched:?}");
    let exits = events("exited");
    assert_eq!(exits[0]["stderr"], "\u{fffd}[2Jone\ntwo");
    assert_eq!(exits[1]["stderr"], Value::Null, "that of its own attempt");
    let file = sandbox.job("j").join("events.ndjson");
    let written = fs::read_to_string(&file).unwrap();
    assert!(!written.contains("not-to-be-seen"), "{written}");
    // As an earlier version wrote them.
    let older = |line: &str| {
        let mut event: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        event.retain(|name, _| !["program", "arguments", "stderr"].contains(&name.as_str()));
        serde_json::to_string(&event).unwrap() + "\n"
    };
    fs::write(&file, written.lines().map(older).collect::<String>()).unwrap();
    let launched = events("launched");
    assert_eq!((&launched[0]["program"], &launched[0]["arguments"]), (&Value::Null, &Value::Null));
    assert!(events("exited").iter().all(|event| event["stderr"].is_null()));
    sandbox.script("init\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "again"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
}
