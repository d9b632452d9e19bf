//! Jobs as statistics and as a page, through the real program: the numbers, and that text from
//! anyone stays text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use support::Sandbox;

/// Put wherever text can come from.
const EVIL: &str = "</details></pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\
                    <a href=\"http://evil.example/\">x</a>'\"&lt;";

/// Creates a job's directory with a record of these fields, beside those that every record has.
fn job(sandbox: &Sandbox, id: &str, fields: &Value) {
    let dir = sandbox.job(id);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    let mut record = json!({
        "version": 2, "jobId": id, "status": "completed", "prompt": "work", "attempt": 1,
        "startedAt": "2026-11-20T21:45:12.000Z", "endedAt": "2026-11-20T21:45:22.000Z",
    });
    for (name, value) in fields.as_object().unwrap() {
        record[name] = value.clone();
    }
    put(&dir, "meta.json", &record.to_string());
    put(&dir, "lock", "");
}

fn put(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A sandbox without a claude: the tests create its jobs.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new("exit 0");
    fs::DirBuilder::new().mode(0o700).create(sandbox.jobs()).unwrap();
    sandbox
}

fn broken(sandbox: &Sandbox, id: &str) {
    fs::create_dir(sandbox.job(id)).unwrap();
    put(&sandbox.job(id), "meta.json", "{\"version\":2,");
}

fn evil(sandbox: &Sandbox) {
    job(
        sandbox,
        "evil",
        &json!({
            "status": "failed", "reason": "api_error", "error": EVIL, "prompt": EVIL, "model": EVIL,
            "sessionId": EVIL, "warnings": [EVIL], "costUsd": 1.25, "numTurns": 4,
            "spec": {"cwd": EVIL, "group": EVIL, "labels": {EVIL: EVIL}},
        }),
    );
    let dir = sandbox.job("evil");
    put(&dir, "prompt.txt", &format!("a prompt {EVIL}"));
    put(
        &dir,
        "events.ndjson",
        &lines(&[
            json!({"seq": 1, "at": "2026-11-20T21:45:12.100Z", "event": "launched"}),
            json!({"seq": 2, "at": "2026-11-20T21:45:13.100Z", "event": EVIL}),
            json!({"seq": 3, "at": EVIL, "event": "blocked", "requestId": EVIL}),
            json!({"seq": 4, "at": "2026-11-20T21:45:15.100Z", "event": "blocked", "requestId": EVIL}),
        ]),
    );
    let call = |id: &str, name: &str, input: Value| {
        json!({"type": "assistant", "message": {"content": [
            {"type": "tool_use", "id": id, "name": name, "input": input}]}})
    };
    let gave = |id: &str, is_error: bool| {
        json!({"type": "user", "message": {"content": [
            {"type": "tool_result", "tool_use_id": id, "is_error": is_error, "content": EVIL}]}})
    };
    let edit = json!({"old_string": EVIL, "new_string": format!("{EVIL}\n{EVIL}")});
    let log = lines(&[
        json!({"type": "system", "subtype": "init", "session_id": EVIL, "model": EVIL}),
        json!({"type": "assistant", "message": {"content": [{"type": "text", "text": format!("agent {EVIL}")}]}}),
        json!({"type": "user", "isReplay": true, "uuid": EVIL, "message": {"content": EVIL}}),
        call("a", EVIL, json!({EVIL: EVIL, "command": EVIL, "nested": {EVIL: [EVIL]}})),
        gave("a", false),
        call("b", "Bash", json!({"command": EVIL})),
        gave("b", true),
        call("c", "Edit", edit.clone()),
        call("d", "MultiEdit", json!({"file_path": EVIL, "edits": [edit]})),
        call("e", "Write", json!({"file_path": EVIL, "content": EVIL})),
        call(
            "f",
            "AskUserQuestion",
            json!({"questions": [{"question": EVIL, "header": EVIL, "options": []}]}),
        ),
        json!({"type": "control_request", "request_id": EVIL, "request":
            {"subtype": "can_use_tool", "tool_name": EVIL, "input": {"x": EVIL}}}),
        json!({"type": "system", "subtype": "api_retry", "error": EVIL, "retry_delay_ms": 5}),
        json!({"type": "system", "subtype": "task_notification", "task_id": EVIL, "status": EVIL}),
        json!({"type": "result", "subtype": EVIL, "is_error": true, "errors": [EVIL], "result": EVIL,
            "structured_output": {EVIL: EVIL}}),
    ]);
    put(&dir, "output.log", &format!("{log}{EVIL}\n"));
}

/// The values of an attribute in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    page.split(&begin).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn escapes_all_text_on_the_page() {
    let sandbox = sandbox();
    evil(&sandbox);
    broken(&sandbox, "broken");
    job(&sandbox, "other", &json!({}));
    let answer = sandbox.run(["export", "--html", "page.html"]);
    assert_eq!((answer.code, &answer["jobs"]), (0, &json!(3)), "{answer:?}");
    let page = fs::read_to_string(sandbox.work().join("page.html")).unwrap();
    assert_eq!(answer["bytes"], page.len());

    for word in ["<script", "<img", "<a href=\"http", "url(", "@import", "<link", "<iframe"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() > 20, "it is shown");
    for (tag, ends) in [("<details", "</details>"), ("<pre", "</pre>"), ("<style", "</style>")] {
        assert_eq!(page.matches(tag).count(), page.matches(ends).count(), "{tag}");
    }
    // Quoted text cannot have left its quotes: only our own names may appear.
    for link in attributes(&page, "href") {
        assert!(["#job-evil", "#job-other"].contains(&link), "{link}");
    }
    assert_eq!(attributes(&page, "src"), [""; 0]);
    assert_eq!(attributes(&page, "onerror"), [""; 0]);
    for id in ["evil", "broken", "other"] {
        assert!(page.contains(&format!("id=\"job-{id}\"")), "{id}");
    }
    for (style, ours) in attributes(&page, "style").into_iter().map(|style| {
        let names = style.split(';').map(|part| part.split(':').next().unwrap());
        let ours = |name| ["left", "width", "flex-grow"].contains(&name);
        (style, names.into_iter().all(ours))
    }) {
        assert!(ours, "{style}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_page_has_the_selected_jobs() {
    let sandbox = sandbox();
    job(&sandbox, "old", &json!({"startedAt": "2026-10-01T00:00:00.000Z"}));
    job(&sandbox, "red", &json!({"spec": {"labels": {"color": "red"}}}));
    job(&sandbox, "blue", &json!({"spec": {"labels": {"color": "blue"}}}));
    broken(&sandbox, "broken");
    let page = |options: &[&str]| {
        let answer = sandbox.run([&["export", "--html", "page.html"], options].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        let page = fs::read_to_string(sandbox.work().join("page.html")).unwrap();
        let ids = attributes(&page, "id").into_iter().map(|id| id.replace("job-", ""));
        let ids: Vec<String> = ids.collect();
        assert_eq!(answer["jobs"], ids.len());
        (ids, page.matches("<details class=\"job\" open>").count())
    };
    let of = |ids: &[&str], open| (ids.iter().map(|id| (*id).to_owned()).collect(), open);
    assert_eq!(page(&[]), of(&["old", "blue", "red", "broken"], 0));
    assert_eq!(page(&["--since", "2026-11-01"]), of(&["blue", "red"], 0));
    assert_eq!(page(&["--label", "color=red"]), of(&["red"], 1));
    assert_eq!(page(&["red", "--job-id", "old", "red"]), of(&["old", "red"], 0));
    assert_eq!(page(&["broken"]), of(&["broken"], 1));
    assert_eq!(page(&["--label", "color=green"]), of(&[], 0));
    let missing = sandbox.run(["export", "--html", "page.html", "nobody"]);
    assert_eq!((missing.code, &missing["code"]), (4, &json!("not_found")));
}

#[test]
fn a_long_conversation_says_what_is_omitted() {
    let sandbox = sandbox();
    job(&sandbox, "long", &json!({}));
    let gave = json!({"type": "user", "message": {"content": [
        {"type": "tool_result", "tool_use_id": "t", "content": "x".repeat(126_000)}]}});
    let call = json!({"type": "assistant", "message": {"content": [
        {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "cat"}}]}});
    let said = |n: u32| {
        let text = format!("word {n}; {}", "y".repeat(5_000));
        json!({"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}})
    };
    let mut log = lines(&[call, gave]);
    log.extend((0..2_000).map(|n| format!("{}\n", said(n))));
    put(&sandbox.job("long"), "output.log", &log);
    assert_eq!(sandbox.run(["export", "--html", "page.html"]).code, 0);
    let page = fs::read_to_string(sandbox.work().join("page.html")).unwrap();
    assert!(page.contains("… 120,000 more characters in output.log"));
    assert!(page.contains("omitted here, with 9,6"), "most of ten million");
    assert!(page.contains("word 0;") && page.contains("word 1999;") && !page.contains("word 999;"));
    assert!(page.len() < 1_000_000, "{}", page.len());
}

#[test]
fn replaces_only_regular_files() {
    let sandbox = sandbox();
    job(&sandbox, "one", &json!({}));
    let work = sandbox.work();
    let refused = |file: &str| {
        let answer = sandbox.run(["export", "--html", file]);
        assert_eq!((answer.code, &answer["code"]), (1, &json!("bad_target")), "{file}: {answer:?}");
        assert!(answer["hint"].is_string());
    };
    fs::create_dir(work.join("folder")).unwrap();
    put(&work, "theirs", "theirs");
    symlink(work.join("theirs"), work.join("link")).unwrap();
    symlink(work.join("nowhere"), work.join("dangling")).unwrap();
    nix::unistd::mkfifo(&work.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for file in [
        "folder",
        "folder/",
        "/",
        "..",
        "link",
        "dangling",
        "pipe",
        "/dev/null",
        "missing/a",
        "theirs/a",
    ] {
        refused(file);
    }
    let meta = sandbox.job("one").join("meta.json");
    let before = fs::read(&meta).unwrap();
    refused(meta.to_str().unwrap());
    assert_eq!(fs::read(&meta).unwrap(), before, "a page does not replace a record");
    assert_eq!(fs::read_to_string(work.join("theirs")).unwrap(), "theirs");

    fs::set_permissions(work.join("theirs"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(sandbox.run(["export", "--html", "theirs"]).code, 0);
    assert!(fs::read_to_string(work.join("theirs")).unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(sandbox.run(["export", "--html", "new"]).code, 0);
    let mode = |name| fs::metadata(work.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("theirs"), mode("new")), (0o640, 0o600));
    let names = fs::read_dir(&work).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn page_shows_the_whole_job() {
    let sandbox = Sandbox::new("exit 0");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/src/replay/demo.ndjson");
    sandbox.run_job("demo", &["--replay", demo, "--replay-speed", "0"]);
    let answer = sandbox.run(["export", "--plain", "--html", "page.html", "demo"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains("Exported 1 job to "), "{answer:?}");
    let page = fs::read_to_string(sandbox.work().join("page.html")).unwrap();
    for word in [
        "I'll run the tests first",
        "<del>- ",
        "<ins>+ ",
        "class=\"bar ok\"",
        "class=\"running\"",
        "done · 5 turns · 5.5s · $0.05",
    ] {
        assert!(page.contains(word), "{word}");
    }
}

#[test]
fn the_numbers_are_right() {
    let sandbox = sandbox();
    for (id, fields) in [
        (
            "a",
            json!({"costUsd": 0.1, "numTurns": 3, "elapsedMs": 1_000, "model": "m1", "spec": {"labels": {"p": "x"}}}),
        ),
        (
            "b",
            json!({"costUsd": 0.2, "numTurns": 4, "elapsedMs": 2_000, "queuedMs": 50, "limitedMs": 7, "model": "m2", "spec": {"labels": {"p": "x"}, "admission": {"group": "g"}}}),
        ),
        (
            "c",
            json!({"status": "failed", "reason": "auth", "costUsd": null, "elapsedMs": 500, "startedAt": "2026-11-19T23:59:59.999Z"}),
        ),
        // For a record of the Node skill, the time from its start to its end.
        ("d", json!({"version": 0, "status": "killed", "costIsLowerBound": true})),
    ] {
        job(&sandbox, id, &fields);
    }
    broken(&sandbox, "broken");
    let answer = sandbox.run(["stats"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let days = json!([
        {"key": "2026-11-20", "jobs": 3, "byStatus": {"completed": 2, "killed": 1}, "successRate": 0.6667,
         "costUsd": 0.3, "costIsLowerBound": true, "numTurns": 7, "elapsedMs": 12_993, "queuedMs": 50, "limitedMs": 7},
        {"key": "2026-11-19", "jobs": 1, "byStatus": {"failed": 1}, "successRate": 0.0,
         "costUsd": 0.0, "costIsLowerBound": false, "numTurns": 0, "elapsedMs": 500, "queuedMs": 0, "limitedMs": 0},
    ]);
    let total = json!({
        "jobs": 4, "byStatus": {"completed": 2, "failed": 1, "killed": 1}, "successRate": 0.5,
        "costUsd": 0.3, "costIsLowerBound": true, "numTurns": 7, "elapsedMs": 13_493, "queuedMs": 50, "limitedMs": 7,
    });
    assert_eq!(
        answer.json,
        json!({"total": total, "by": "day", "groups": days, "omitted": 0, "unreadable": 1})
    );
    let keys = |options: &[&str]| -> Vec<(Value, Value)> {
        let answer = sandbox.run([&["stats"], options].concat());
        let groups = answer["groups"].as_array().unwrap().iter();
        groups.map(|group| (group["key"].clone(), group["jobs"].clone())).collect()
    };
    let of = |key: &str, n: u64| (json!(key), json!(n));
    let none = |n: u64| (Value::Null, json!(n));
    assert_eq!(keys(&["--by", "label:p"]), [none(2), of("x", 2)]);
    assert_eq!(keys(&["--by", "model"]), [none(2), of("m1", 1), of("m2", 1)]);
    assert_eq!(keys(&["--by", "group"]), [none(3), of("g", 1)]);
    assert_eq!(keys(&["--by", "status", "--label", "p=x"]), [of("completed", 2)]);
    assert_eq!(keys(&["--since", "2026-11-20"]), [of("2026-11-20", 3)]);
    let plain = sandbox.run(["stats", "--plain"]);
    assert!(
        plain.stdout.contains("50% of 4 ended jobs completed") && plain.stdout.contains("≥$0.30"),
        "{plain:?}"
    );
    assert!(plain.stdout.contains("1 record unreadable"), "{plain:?}");
}

#[test]
fn many_groups_are_shortened_unless_all_are_requested() {
    let mut sandbox = sandbox();
    for n in 0..300 {
        let id = format!("job-{n}");
        job(
            &sandbox,
            &id,
            &json!({"spec": {"labels": {"p": format!("{n}{}", "\u{202e}".repeat(60))}}}),
        );
    }
    assert_eq!(sandbox.run(["stats", "--by", "label:p"])["omitted"], 0);
    sandbox.set("AI_AGENT", "test");
    let answer = sandbox.run(["stats", "--by", "label:p"]);
    assert!(answer.stdout.chars().count() < 8_000, "{}", answer.stdout.chars().count());
    let shown = answer["groups"].as_array().unwrap().len() as u64;
    assert_eq!(shown + answer["omitted"].as_u64().unwrap(), 300);
    assert_eq!(answer["total"]["jobs"], 300);
    let all = sandbox.run(["stats", "--by", "label:p", "--all"]);
    assert_eq!(all["groups"].as_array().unwrap().len(), 300);
    assert_eq!(all["omitted"], 0);
}

#[test]
fn refuses_a_page_in_place_of_the_jobs_directory() {
    let mut sandbox = Sandbox::new("exit 0");
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("state/jobs"));
    for directory in ["state", "state/jobs"] {
        let path = sandbox.path(directory);
        let answer = sandbox.run(["export".as_ref(), "--html".as_ref(), path.as_os_str()]);
        assert_eq!((answer.code, &answer["code"]), (1, &json!("bad_target")), "{answer:?}");
        assert!(!path.exists());
        fs::create_dir_all(sandbox.path("state")).unwrap();
    }
}
