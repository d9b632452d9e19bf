//! What `logs` shows of a job, with the fake claude: its conversation, the agent's requests, and
//! how the job ended.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "logs/follow.rs"]
mod follow;
mod support;
#[path = "logs/whole.rs"]
mod whole;

use std::path::Path;
use std::{fs, thread};

use support::{Sandbox, await_file, eventually};

const QUESTION: &str = r#"{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]}"#;
const WRITE: &str = r#"{"file_path":"/etc/x","content":"hello"}"#;

fn call(id: &str, tool: &str, input: &str) -> String {
    format!(
        r#"json {{"type":"assistant","message":{{"id":"m-{id}","content":[{{"type":"tool_use","id":"{id}","name":"{tool}","input":{input}}}]}},"parent_tool_use_id":null}}"#
    )
}

fn asks(id: &str, tool: &str, input: &str) -> String {
    format!(
        r#"json {{"type":"control_request","request_id":"r-{id}","request":{{"subtype":"can_use_tool","tool_name":"{tool}","input":{input},"tool_use_id":"{id}"}}}}"#
    )
}

fn gave(id: &str, text: &str, is_error: bool, more: &str) -> String {
    format!(
        r#"json {{"type":"user","message":{{"role":"user","content":[{{"type":"tool_result","content":"{text}","is_error":{is_error},"tool_use_id":"{id}"}}]}},"parent_tool_use_id":null{more}}}"#
    )
}

fn answered(id: &str, answer: &str) -> String {
    let more = format!(
        r#","tool_use_result":{{"questions":[{{"question":"Which database?","header":"DB"}}],"answers":{{"Which database?":"{answer}"}}}}"#
    );
    gave(id, "Your questions have been answered.", false, &more)
}

/// The readable log: from the end, from the beginning, and as a caller gets it that reads it
/// repeatedly while it grows; the last in one part for each of claude's lines.
fn readings(sandbox: &Sandbox, id: &str) -> [Vec<String>; 3] {
    let lines = |tail: &str| -> Vec<String> { tail.lines().map(str::to_owned).collect() };
    let tail = lines(sandbox.run(["logs", id]).text("tail"));
    let whole = lines(sandbox.run(["logs", id, "--since-offset", "0"]).text("tail"));
    let (mut parts, mut at) = (Vec::new(), 0);
    loop {
        let offset = at.to_string();
        let part = sandbox.run(["logs", id, "--since-offset", &offset, "--max-bytes", "1"]);
        parts.extend(lines(part.text("tail")));
        at = part["nextOffset"].as_u64().unwrap();
        if part["truncated"] == false {
            return [tail, whole, parts];
        }
        assert!(parts.len() < 10_000, "no end: {part:?}");
    }
}

#[test]
fn a_question_is_shown_once_with_its_answer() {
    let script = [
        "read\ninit".to_owned(),
        call("t1", "AskUserQuestion", QUESTION),
        asks("t1", "AskUserQuestion", QUESTION),
        "read $DIR/answer".to_owned(),
        answered("t1", "Postgres"),
        "say Using it.\nresult ok\neof".to_owned(),
    ];
    let sandbox = Sandbox::new(&script.join("\n"));
    sandbox.start("j", &["--ask"]);
    let blocked = sandbox.run(["wait", "j", "--timeout", "1m"]);
    assert_eq!(blocked.code, 5, "{blocked:?}");
    let open = "→ asks: Which database? (SQLite, Postgres)";
    for tail in ["1", "2", "50"] {
        let seen = sandbox.run(["logs", "j", "--tail", tail]);
        assert_eq!(seen.text("tail"), open, "--tail {tail}");
    }
    for reading in readings(&sandbox, "j") {
        assert_eq!(reading, [open]);
    }
    assert_eq!(sandbox.run(["answer", "j", "--choice", "Postgres"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    for reading in readings(&sandbox, "j") {
        assert_eq!(reading[..3], [open, "> answered: Postgres", "Using it."], "{reading:?}");
    }
}

#[test]
fn shows_a_permission_request_and_its_decision() {
    let denied = r#","tool_use_result":"Error: not there""#;
    for (answer, outcome, decided) in [
        ("--allow", gave("t1", "File created", false, ""), "> allowed"),
        ("--deny", gave("t1", "not there", true, denied), "> denied: not there"),
    ] {
        let denials = match answer {
            "--deny" => r#"{"tool_name":"Write","tool_use_id":"t1"}"#,
            _ => "",
        };
        let result = format!(
            r#"json {{"type":"result","subtype":"success","is_error":false,"num_turns":2,"duration_ms":90,"result":"ok","permission_denials":[{denials}],"total_cost_usd":0.5,"usage":{{"input_tokens":5}}}}"#
        );
        let script = [
            "read\ninit".to_owned(),
            call("t1", "Write", WRITE),
            asks("t1", "Write", WRITE),
            "read $DIR/answer".to_owned(),
            outcome,
            "say Well.".to_owned(),
            result,
            "eof".to_owned(),
        ];
        let sandbox = Sandbox::new(&script.join("\n"));
        sandbox.start("j", &["--ask"]);
        assert_eq!(sandbox.run(["wait", "j", "--timeout", "1m"]).code, 5);
        let open = ["→ Write: /etc/x", "· waits for permission"];
        for reading in readings(&sandbox, "j") {
            assert_eq!(reading, open);
        }
        let last = sandbox.run(["logs", "j", "--tail", "1"]);
        assert_eq!(last.text("tail"), "· waits for permission: Write: /etc/x");
        let text = sandbox.run(["logs", "j", "--plain"]).stdout;
        assert!(text.ends_with("\n· answer: claudejob answer j\n"), "{text}");
        let at = last["nextOffset"].to_string();
        assert_eq!(sandbox.run(["answer", "j", answer]).code, 0);
        sandbox.wait("j").expect_end(0, "completed", None);
        let [tail, whole, _] = readings(&sandbox, "j");
        for reading in [tail, whole] {
            assert_eq!(reading[..3], [open[0], decided, "Well."], "{reading:?}");
        }
        let text = sandbox.run(["logs", "j", "--plain"]).stdout;
        assert!(!text.contains("claudejob answer"), "{text}");
        // A caller that has read the request.
        let rest = sandbox.run(["logs", "j", "--since-offset", &at]);
        assert_eq!(rest.text("tail").lines().next().unwrap(), decided, "{rest:?}");
    }
}

#[test]
fn shows_recorded_questions_once_with_their_answers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    for file in ["question.ndjson", "2.1.332/question.ndjson"] {
        let fixture = fixtures.join(file);
        if !fixture.exists() {
            continue;
        }
        let sandbox = Sandbox::new(&format!("read\nplay {}\neof", fixture.display()));
        sandbox.run_job("j", &[]);
        for reading in readings(&sandbox, "j") {
            let text = reading.join("\n");
            assert_eq!(text.matches("Which database?").count(), 1, "{text}");
            assert!(text.contains("\n> answered: "), "{text}");
            assert!(!text.contains("waits for"), "{text}");
        }
    }
}

fn last_line(sandbox: &Sandbox, args: &[&str]) -> String {
    let answer = sandbox.run(args);
    answer.text("tail").lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_last_line_is_the_verdict_and_its_reason() {
    let refused = r#"json {"type":"result","subtype":"success","is_error":true,"num_turns":1,"result":"Not logged in","api_error_status":401,"usage":{"input_tokens":1}}"#;
    let errors = r#"json {"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":1,"errors":["one","two"],"usage":{"input_tokens":1}}"#;
    let mute = r#"json {"type":"result","subtype":"success","is_error":true,"num_turns":1,"result":"","api_error_status":401,"usage":{"input_tokens":1}}"#;
    for (script, status, verdict) in [
        ("say hi\nresult ok\neof", "completed", "= completed · 1 turn · "),
        ("say hi\nexit 3", "failed", "= failed (no_result): claude ended with exit code 3"),
        ("exit 0", "failed", "= failed (no_result): claude ended with exit code 0"),
        ("say hi\ndie SEGV", "failed", "= failed (no_result): claude was ended by SIGSEGV"),
        ("result ok\ninit\nsay x\ndie KILL", "failed", "= failed (no_result): claude was ended by"),
        ("stderr error: no such option\nexit 1", "failed", "= failed ("),
        (refused, "failed", "= failed (auth): "),
        (mute, "failed", "= failed (auth): "),
        (errors, "failed", "= failed (api_error): one; two"),
        ("say hi\nhang", "killed", "= killed"),
    ] {
        let begin = if script.starts_with("stderr") { "read" } else { "read\ninit" };
        let sandbox = Sandbox::new(&format!("{begin}\n{script}"));
        sandbox.start("j", &[]);
        if status == "killed" {
            eventually("its message", || {
                sandbox.run(["logs", "j"]).text("tail").contains("hi").then_some(())
            });
            assert_eq!(sandbox.run(["kill", "j"]).code, 0);
        }
        let end = sandbox.wait("j");
        assert_eq!(end["status"], status, "{end:?}");
        let tail = ["logs", "j", "--tail", "1"];
        assert_eq!(sandbox.run(tail).text("tail").lines().count(), 1);
        for args in [&["logs", "j"][..], &tail, &["logs", "j", "--since-offset", "0"]] {
            let line = last_line(&sandbox, args);
            assert!(line.starts_with(verdict), "{script}: {line}");
            if let Some(error) = end["error"].as_str() {
                assert!(line.ends_with(error), "{script}: {line}");
            }
        }
        for reading in readings(&sandbox, "j") {
            let is_verdict = |line: &&String| {
                ["= completed", "= killed", "= failed ("].iter().any(|word| line.starts_with(word))
            };
            assert_eq!(reading.iter().filter(is_verdict).count(), 1, "{reading:?}");
        }
        let plain = sandbox.run(["logs", "j", "--plain"]).stdout;
        assert!(plain.lines().last().unwrap().starts_with(verdict), "{plain}");
        let raw = sandbox.run(["logs", "j", "--raw", "--plain"]).stdout;
        assert_eq!(raw, fs::read_to_string(sandbox.job("j").join("output.log")).unwrap());
        let stderr = sandbox.run(["logs", "j", "--stderr", "--plain"]).stdout;
        assert_eq!(stderr, fs::read_to_string(sandbox.job("j").join("stderr.log")).unwrap());
    }
}

#[test]
fn a_turn_says_why_it_failed_with_all_its_errors() {
    let sandbox = Sandbox::new(
        r#"read
init
json {"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":1,"duration_ms":90,"errors":["one","two"]}
eof"#,
    );
    sandbox.run_job("j", &[]);
    let log = sandbox.run(["logs", "j"]);
    // The job fails by the error of the turn, which is shown once.
    let shown = "= the turn ended · 1 turn · 0.1s\n= failed (api_error): one; two";
    assert_eq!(log.text("tail"), shown, "{log:?}");
    let turns = fs::read_to_string(sandbox.job("j").join("turns.ndjson")).unwrap();
    assert!(turns.contains("\"result\":\"one; two\""), "{turns}");
}

#[test]
fn no_turn_contradicts_the_verdict() {
    let denied = r#"json {"type":"result","subtype":"success","is_error":false,"num_turns":1,"duration_ms":90,"result":"ok","permission_denials":[{"tool_name":"Write"}],"usage":{"input_tokens":5}}"#;
    let sandbox = Sandbox::new(&format!("read\ninit\nsay hi\n{denied}\neof"));
    sandbox.run_job("j", &["--fail-on-denial"]).expect_end(1, "failed", Some("permission_denied"));
    let log = sandbox.run(["logs", "j"]);
    let lines: Vec<&str> = log.text("tail").lines().collect();
    assert_eq!(lines[..2], ["hi", "= the turn ended · 1 turn · 0.1s"], "{log:?}");
    assert!(lines[2].starts_with("= failed (permission_denied): "), "{log:?}");
    // The earlier turn of a resumed job stays.
    sandbox.script("init\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    let log = sandbox.run(["logs", "j"]);
    let lines: Vec<&str> = log.text("tail").lines().collect();
    assert_eq!(lines[..3], ["hi", "= done · 1 turn · 0.1s", "> more"], "{log:?}");
    assert!(lines[3].starts_with("= completed · 2 turns"), "{log:?}");
    assert_eq!(lines.len(), 4, "{log:?}");
}

#[test]
fn followers_get_the_verdict_once() {
    let sandbox = Sandbox::new("read\ninit\nsay hi\ntouch $DIR/up\nwait-file $DIR/go\nexit 3");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    let before = eventually("its message", || {
        let before = sandbox.run(["logs", "j", "--since-offset", "0"]);
        before.text("tail").contains("hi").then_some(before)
    });
    assert!(!before.text("tail").contains("= "), "{before:?}");
    let follow = |options: &'static [&str]| {
        let command = sandbox.command([&["logs", "j", "--follow"][..], options].concat());
        thread::spawn(move || support::Answer::from_command(command, Vec::new()))
    };
    let calls = [follow(&["--plain"]), follow(&["--json"]), follow(&["--since-offset", "0"])];
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(1, "failed", Some("no_result"));
    let later = [follow(&["--plain"]), follow(&["--since-offset", "0"])];
    for call in calls.into_iter().chain(later) {
        let followed = call.join().unwrap();
        assert_eq!(followed.stdout.matches("= failed (no_result)").count(), 1, "{followed:?}");
        assert!(followed.stdout.lines().last().unwrap().contains("= failed"), "{followed:?}");
    }
    // A caller that has read the whole log, but not yet the end.
    let at = before["nextOffset"].to_string();
    let rest = sandbox.run(["logs", "j", "--since-offset", &at]);
    assert!(rest.text("tail").starts_with("= failed (no_result)"), "{rest:?}");
    assert_eq!((&rest["nextOffset"], &rest["lines"]), (&before["nextOffset"], &0.into()));
    assert_eq!(rest["status"], "failed");
}

/// Waits until the job's stdout in the log contains this text.
fn await_output(sandbox: &Sandbox, id: &str, text: &str) {
    let log = sandbox.job(id).join("output.log");
    eventually(text, || fs::read_to_string(&log).ok()?.contains(text).then_some(()));
}

/// The lines of a text, the verdict without its figures.
fn shown(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split(" · ").next().unwrap()).collect()
}

/// The same for a log that was followed: the end of the turn comes before the verdict is known.
fn followed(text: &str) -> Vec<&str> {
    shown(text).into_iter().filter(|line| *line != "= done").collect()
}

#[test]
fn merges_both_streams_in_order() {
    let sandbox = Sandbox::new(
        "read\nstderr one\u{1b}[31m\ninit\nsay alpha\nwait-file $DIR/a\nstderr two\nstderr 2\nsay bravo\n\
         wait-file $DIR/b\nstderr three\nresult ok\neof",
    );
    sandbox.start("j", &[]);
    let follow = |options: &[&str]| {
        let command = sandbox.command([&["logs", "j", "--follow", "--merged"], options].concat());
        thread::spawn(move || support::Answer::from_command(command, Vec::new()))
    };
    let text = follow(&["--plain"]);
    let raw = follow(&["--raw", "--plain"]);
    let json = follow(&[]);
    await_output(&sandbox, "j", "alpha");
    let live = sandbox.run(["logs", "j", "--merged"]);
    assert_eq!(live.text("tail"), "! one\u{1b}[31m\nalpha", "{live:?}");
    fs::write(sandbox.path("a"), "").unwrap();
    await_output(&sandbox, "j", "bravo");
    fs::write(sandbox.path("b"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    let lines = ["! one\u{fffd}[31m", "alpha", "! two", "! 2", "bravo", "! three", "= completed"];
    assert_eq!(followed(&text.join().unwrap().stdout), lines);
    let log = sandbox.run(["logs", "j", "--merged", "--plain"]);
    assert_eq!(shown(&log.stdout), lines);
    let last = sandbox.run(["logs", "j", "--merged", "--tail", "3"]);
    assert_eq!(shown(last.text("tail")), lines[4..]);
    let length = fs::metadata(sandbox.job("j").join("output.log")).unwrap().len();
    assert_eq!((&last["nextOffset"], &last["truncated"]), (&length.into(), &false.into()));
    // Unchanged: each line of both, in the same order.
    let whole = sandbox.run(["logs", "j", "--merged", "--raw", "--plain"]).stdout;
    assert_eq!(raw.join().unwrap().stdout, whole);
    let file = |name: &str| fs::read_to_string(sandbox.job("j").join(name)).unwrap();
    let (stderr, output) = (file("stderr.log"), file("output.log"));
    let is_stderr = |line: &&str| stderr.lines().any(|other| other == *line);
    let (errors, rest): (Vec<&str>, Vec<&str>) = whole.lines().partition(is_stderr);
    assert_eq!((errors, rest), (stderr.lines().collect(), output.lines().collect()));
    assert!(whole.find("two\n2\n").unwrap() < whole.find("bravo").unwrap(), "{whole}");
    let few = sandbox.run(["logs", "j", "--merged", "--raw", "--max-bytes", "9", "--tail", "9"]);
    assert!(few["truncated"] == true && few.text("tail").len() <= 9, "{few:?}");
    // In parts; the last one has the verdict.
    let parts = json.join().unwrap().stdout;
    let tail = |part: &str| {
        let part: serde_json::Value = serde_json::from_str(part).unwrap();
        format!("{}\n", part["tail"].as_str().unwrap())
    };
    let tails: String = parts.lines().map(tail).filter(|tail| tail != "\n").collect();
    assert_eq!(followed(&tails)[1..], lines[1..], "{parts}");
    // A job of an earlier version has no marks.
    fs::remove_file(sandbox.job("j").join("stderr.marks")).unwrap();
    let log = sandbox.run(["logs", "j", "--merged", "--plain"]);
    assert_eq!(
        shown(&log.stdout),
        ["alpha", "bravo", lines[0], "! two", "! 2", "! three", "= completed"]
    );
}

#[test]
fn stderr_of_an_attempt_stays_with_it() {
    let sandbox = Sandbox::new("read\nstderr x\ninit\nsay A\nresult ok\neof");
    sandbox.run_job("quiet", &[]);
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let marks = sandbox.job("j").join("stderr.marks");
    let before = fs::read_to_string(&marks).unwrap();
    assert_eq!(before.lines().count(), 1, "{before}");
    // A mark that cannot be written does not fail the job.
    fs::rename(&marks, sandbox.path("marks")).unwrap();
    fs::create_dir(&marks).unwrap();
    sandbox.script("stderr y\ninit\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    let end = sandbox.wait("j");
    end.expect_end(0, "completed", None);
    assert_eq!(end["warnings"], serde_json::json!([]));
    fs::remove_dir(&marks).unwrap();
    fs::rename(sandbox.path("marks"), &marks).unwrap();
    // The next attempt marks what came before it, and the worker is killed in it.
    sandbox.script("stderr z\ninit\ntouch $DIR/up\nhang");
    assert_eq!(sandbox.run(["resume", "j", "--message", "again"]).code, 0);
    await_file(&sandbox.path("up"));
    let worker = i32::try_from(sandbox.status("j")["pid"].as_i64().unwrap()).unwrap();
    support::processes::kill(worker);
    assert_eq!(sandbox.wait("j")["reason"], "worker_died");
    let log = sandbox.run(["logs", "j", "--merged", "--plain"]);
    let lines = [
        "! x",
        "A",
        "= done",
        "> more",
        "= the turn ended",
        "! y",
        "! z",
        "= failed (worker_died): ",
    ];
    assert_eq!(shown(&log.stdout).len(), lines.len(), "{log:?}");
    for (line, expected) in shown(&log.stdout).iter().zip(lines) {
        assert!(line.starts_with(expected), "{log:?}");
    }
}

#[test]
fn refuses_merged_where_it_has_no_meaning() {
    let sandbox = Sandbox::new("");
    for (option, why) in [
        (&["--stderr"][..], "--stderr"),
        (&["--since-offset", "0"], "an offset counts bytes of one stream"),
    ] {
        let refused = sandbox.run([&["logs", "j", "--merged"], option].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"));
        assert!(refused.text("error").contains(why), "{refused:?}");
    }
}

#[test]
fn escapes_stderr_for_terminals_but_not_raw() {
    let sandbox = Sandbox::new(
        "read\ninit\nstderr \u{1b}]52;c;AAAA\u{7}\u{202e}X\nprint \u{1b}[31mY\nresult ok\neof",
    );
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    for form in [&["--stderr", "--plain"][..], &["--stderr", "--follow"], &["--merged", "--plain"]]
    {
        let shown = sandbox.run([&["logs", "j"], form].concat()).stdout;
        assert!(shown.contains("52;c;AAAA\u{fffd}\u{fffd}X"), "{form:?}: {shown:?}");
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{form:?}: {shown:?}");
    }
    let raw = sandbox.run(["logs", "j", "--raw", "--plain"]).stdout;
    assert_eq!(raw, fs::read_to_string(sandbox.job("j").join("output.log")).unwrap());
}
