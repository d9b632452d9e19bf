//! `run`: starts a job and follows it to its end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "run/signals.rs"]
mod signals;
mod support;
#[path = "run/terminal.rs"]
mod terminal;

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use support::{Answer, Sandbox, await_file};

const SCRIPT: &str = "read\ninit\nsay hello\nresult fine\neof";
const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"cargo publish"},"tool_use_id":"t2"}}"#;

fn prompt_of(sandbox: &Sandbox, id: &str) -> String {
    fs::read_to_string(sandbox.job(id).join("prompt.txt")).unwrap()
}

#[test]
fn shows_the_conversation_and_the_verdict() {
    let sandbox = Sandbox::new(SCRIPT);
    let answer = sandbox.run(["run", "--plain", "-n", "fix", "Fix it"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let work = sandbox.work();
    let first =
        format!("job fix · {} · bypassPermissions: claude asks for no permission", work.display());
    assert_eq!(lines[0], first);
    assert!(answer.stdout.contains("\nhello\n"), "{answer:?}");
    assert!(lines.last().unwrap().starts_with("= completed · 1 turn · "), "{answer:?}");
    assert!(!answer.stdout.contains("= done"), "{answer:?}");
    assert_eq!(prompt_of(&sandbox, "fix"), "Fix it");
    let other = ["run", "--plain", "--permission-mode", "acceptEdits", "x"];
    assert!(sandbox.run(other).stdout.contains(" · acceptEdits: edits are allowed\n"));
}

#[test]
fn answers_with_the_document_of_wait() {
    let sandbox = Sandbox::new(SCRIPT);
    let answer = sandbox.run(["run", "x"]);
    answer.expect_end(0, "completed", None);
    assert_eq!(answer["result"], "fine");
    assert_eq!(sandbox.wait(answer.text("jobId")).json, answer.json);
    sandbox.script("read\ninit\nsay hello\nexit 3");
    sandbox.run(["run", "x"]).expect_end(1, "failed", Some("no_result"));
    let failed = sandbox.run(["run", "--plain", "-n", "bad", "x"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains("\n= failed (no_result): "), "{failed:?}");
    assert!(failed.stderr.contains("hint: claudejob resume bad"), "{failed:?}");
}

#[test]
fn prints_the_end_in_each_format() {
    let sandbox = Sandbox::new(SCRIPT);
    let run = |options: &[&str]| sandbox.run([&["run", "x"], options].concat());
    let quiet = run(&["-q"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (0, "fine\n", ""));
    let ids = run(&["-o", "ids", "-n", "j"]);
    assert_eq!((ids.code, ids.stdout.as_str()), (0, "j\n"));
    let markdown = run(&["-o", "markdown", "-n", "k"]);
    assert!(markdown.stdout.starts_with("### completed: k\n\nfine\n\n| turns |"), "{markdown:?}");
    let lines = run(&["-o", "ndjson"]).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, parts) = lines.split_last().unwrap();
    assert_eq!((&end["status"], &end["result"]), (&"completed".into(), &"fine".into()));
    let tails: String = parts.iter().map(|part| part["tail"].as_str().unwrap()).collect();
    assert!(tails.contains("hello") && tails.contains("= completed"), "{tails}");
    let kept = run(&["-q", "--keep-alive"]);
    assert_eq!((kept.code, kept.stdout.as_str()), (0, "fine\n"), "{kept:?}");
    sandbox.script(&format!("read\ninit\n{QUESTION}\nhang"));
    let blocked = run(&["-q", "--ask", "-n", "b"]);
    assert_eq!((blocked.code, blocked.stdout.as_str()), (5, ""));
    assert!(blocked.stderr.starts_with("hint: claudejob answer b --choice"), "{blocked:?}");
}

#[test]
fn shows_a_long_answer_whole() {
    let text = "x".repeat(5_000);
    let sandbox = Sandbox::new(&format!("read\ninit\nsay {text}\nresult {text}\neof"));
    let answer = sandbox.run(["run", "--plain", "-n", "j", "x"]);
    assert!(answer.stdout.contains(&text) && answer.stderr.is_empty(), "{answer:?}");
    assert_eq!(sandbox.run(["run", "-q", "x"]).stdout, text + "\n");
}

#[test]
fn takes_the_prompt_from_argument_file_and_stdin() {
    let sandbox = Sandbox::new(SCRIPT);
    let file = sandbox.path("task.md");
    fs::write(&file, "from a file").unwrap();
    for (arguments, stdin, prompt) in [
        (&["two words"][..], "no", "two words"),
        (&["-p", "-x begins with a dash"], "no", "-x begins with a dash"),
        (&["-f", file.to_str().unwrap()], "no", "from a file"),
        (&["-"], "from stdin", "from stdin"),
        (&[], "from stdin", "from stdin"),
    ] {
        let answer = sandbox.run_with_stdin([&["run"], arguments].concat(), stdin);
        assert_eq!(prompt_of(&sandbox, answer.text("jobId")), prompt, "{arguments:?}");
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, code: i32, message: &str, hint: &str) {
    assert_eq!((answer.code, answer.text("error")), (code, message), "{answer:?}");
    assert_eq!(answer.text("hint"), hint);
}

#[test]
fn refuses_what_is_no_prompt() {
    let sandbox = Sandbox::new(SCRIPT);
    let hint = "claudejob run 'fix the test'";
    assert_refused(
        &sandbox.run(["run", "fix", "the", "test"]),
        2,
        "the prompt is one argument",
        hint,
    );
    let suggestion = format!("{hint}  # did you mean this?");
    let id = "invalid job id 'fix the test'";
    assert_refused(&sandbox.run(["start", "fix the test"]), 1, id, &suggestion);
    let verb = "unknown command 'fix the test'";
    assert_refused(&sandbox.run(["fix the test"]), 2, verb, &suggestion);
    let help = "claudejob start --help  # or: claudejob run \"PROMPT\"";
    assert_refused(&sandbox.run(["start", "a"]), 2, "no prompt", help);
    let empty = "claudejob run --help  # give a text, -f FILE, or - and a text on stdin";
    assert_refused(&sandbox.run_with_stdin(["run"], " \n"), 2, "the prompt is empty", empty);
    assert_eq!(sandbox.run(["run", "x", "-p", "y"]).code, 2);
    assert!(!sandbox.jobs().join("a").exists());
}

#[test]
fn refuses_a_permission_mode_that_claude_lacks() {
    let mut sandbox = Sandbox::new(SCRIPT);
    let message = "invalid value 'acceptedits' for '--permission-mode <MODE>': expected \
                   acceptEdits, auto, bypassPermissions, default, dontAsk, manual, plan";
    for verb in ["start", "run"] {
        let hint = format!("claudejob {verb} --help  # did you mean acceptEdits?");
        let arguments = [verb, "-p", "x", "--permission-mode", "acceptedits"];
        assert_refused(&sandbox.run(arguments), 2, message, &hint);
    }
    sandbox.run_job("j", &[]);
    let resume = sandbox.run(["resume", "j", "--permission-mode", "acceptedits"]);
    assert_eq!((resume.code, &resume["error"]), (2, &message.into()), "{resume:?}");
    // Another version may have more modes.
    let help = "  --permission-mode <mode>  Mode (choices: \"plan\",\n     \"acceptedits\")\n";
    sandbox.set("FAKE_HELP", help);
    let run = ["run", "x", "--permission-mode", "acceptedits"];
    sandbox.run(run).expect_end(0, "completed", None);
}

#[test]
fn ends_at_a_question_if_nobody_is_there() {
    let sandbox = Sandbox::new(&format!("read\ninit\nsay hello\n{QUESTION}\nhang"));
    let answer = sandbox.run(["run", "--ask", "-n", "j", "x"]);
    assert_eq!((answer.code, &answer["status"]), (5, &"blocked".into()), "{answer:?}");
    assert_eq!(answer["blocked"]["requestId"], "q1");
    let answer = sandbox.run(["run", "--ask", "--plain", "-n", "k", "x"]);
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.stdout.ends_with("\n= blocked · asks: Which database?\n"), "{answer:?}");
    assert!(answer.stderr.contains("hint: claudejob answer k"), "{answer:?}");
    assert_eq!(sandbox.status("k")["status"], "blocked");
}

#[test]
fn ends_when_a_kept_job_is_idle() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nresult fine\neof");
    let answer = sandbox.run(["run", "--keep-alive", "-n", "j", "x"]);
    assert_eq!((answer.code, &answer["status"]), (0, &"idle".into()), "{answer:?}");
    let answer = sandbox.run(["run", "--keep-alive", "--plain", "-n", "k", "x"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains("\n= done · "), "{answer:?}");
    assert!(answer.stdout.ends_with("\n= idle · claudejob send k \"…\"\n"), "{answer:?}");
}

#[test]
fn waits_for_a_slot() {
    let mut sandbox = Sandbox::new("read\ninit\nsay hello\nwait-file $DIR/go\nresult fine\neof");
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "1");
    sandbox.start("first", &[]);
    let run = sandbox.command(["run", "--plain", "-n", "second", "x"]);
    let run = std::thread::spawn(move || Answer::from_command(run, Vec::new()));
    support::eventually("the queue", || {
        let second = sandbox.run(["status", "second"]);
        (second["status"] == "queued").then_some(())
    });
    fs::write(sandbox.path("go"), "").unwrap();
    let answer = run.join().unwrap();
    assert!(answer.code == 0 && answer.stdout.contains("\n= completed"), "{answer:?}");
}

#[test]
fn a_prompt_is_not_in_the_arguments() {
    let sandbox = Sandbox::new("read\ntouch $DIR/up\nwait-file $DIR/go\ninit\nresult ok\neof");
    let mut run = sandbox.command(["run", "--plain", "a secret"]);
    let mut run = run.stdout(Stdio::null()).spawn().unwrap();
    await_file(&sandbox.path("up"));
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", run.id())).unwrap();
    assert!(!arguments.contains("secret"), "{arguments:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    assert!(run.wait().unwrap().success());
}

#[test]
fn a_closed_output_ends_the_command_alone() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nwait-file $DIR/go\nresult ok\neof");
    let mut run = sandbox.command(["run", "--plain", "-n", "j", "x"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run.stdout(writer).output().unwrap();
    drop(run);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("job j was started"), "{stderr}");
    assert_eq!(sandbox.status("j")["status"], "running");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn a_demo_has_a_jobs_directory_of_its_own() {
    let sandbox = Sandbox::new(SCRIPT);
    let demos = sandbox.path("home/.local/state/claudejob/demo");
    let directory = demos.to_str().unwrap();
    for id in ["d1", "d2", "d3", "d4", "d5", "d6"] {
        let start = ["start", id, "-p", "x", "--jobs-dir", directory, "--wait"];
        assert_eq!(sandbox.run(start).code, 0);
    }
    let demo = sandbox.run(["demo", "--plain"]);
    assert_eq!(demo.code, 0, "{demo:?}");
    let first = "A demo in a jobs directory of its own: ~/.local/state/claudejob/demo\n";
    assert!(demo.stdout.starts_with(first), "{demo:?}");
    assert!(demo.stdout.ends_with("\n\nNext: claudejob run \"PROMPT\"\n"), "{demo:?}");
    assert!(demo.stdout.contains("\n= completed · 5 turns"), "{demo:?}");
    assert!(!demo.stdout.contains("= done"), "{demo:?}");
    let listed = sandbox.run(["list", "--all", "--jobs-dir", directory]);
    assert_eq!(listed.json.as_array().unwrap().len(), 5, "{listed:?}");
    assert!(!sandbox.jobs().exists(), "the own list stays as it was");
    let other = sandbox.path("other");
    let demo = sandbox.run(["demo", "--jobs-dir", other.to_str().unwrap()]);
    assert!(demo.code == 0 && other.exists(), "{demo:?}");
}

#[test]
fn a_start_suggests_two_commands_in_columns() {
    let sandbox = Sandbox::new(SCRIPT);
    let answer = sandbox.run(["start", "fix", "-p", "x", "--plain"]);
    let lines: Vec<&str> = answer.stdout.lines().take(3).collect();
    assert_eq!(
        lines,
        [
            "Job fix is running.",
            "  claudejob logs -f fix  follow its output",
            "  claudejob result fix   show its result"
        ]
    );
}
