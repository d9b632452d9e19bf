//! `run` and `answer` on a terminal: questions are answered in place, an editor takes the prompt.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::processes::send;
use crate::support::terminal::Terminal;
use crate::support::{Sandbox, eventually, install};
use crate::{PERMISSION, QUESTION, prompt_of};

/// The response that the fake's script has written to a file.
fn response(sandbox: &Sandbox) -> Value {
    let line: Value = serde_json::from_slice(&fs::read(sandbox.path("answer")).unwrap()).unwrap();
    line["response"]["response"].clone()
}

fn asking(question: &str) -> Sandbox {
    Sandbox::new(&format!(
        "args $DIR/args\nread\ninit\nsay hello\n{question}\nread $DIR/answer\nsay thanks\nresult fine\neof"
    ))
}

#[test]
fn a_question_is_answered_in_place() {
    let sandbox = asking(QUESTION);
    let mut run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    let prompt = "Number, label or your own text: ";
    run.answer(prompt, "3\n");
    run.answer("1 or 2, a label, or text: ", "postgres\n");
    let (code, output) = run.finish();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("job j asks\r\n"), "{output}");
    assert!(output.contains("  2  Postgres"), "{output}");
    assert_eq!(output.matches("Which database?").count(), 1, "{output}");
    let (question, end) = (output.find(prompt).unwrap(), output.find("thanks").unwrap());
    assert!(output.find("hello").unwrap() < question && question < end, "{output}");
    assert!(output[end..].contains("= completed"), "{output}");
    assert_eq!(response(&sandbox)["updatedInput"]["answers"]["Which database?"], "Postgres");
    let arguments = fs::read_to_string(sandbox.path("args")).unwrap();
    assert!(arguments.contains("\"--permission-prompt-tool\",\"stdio\""), "{arguments}");
}

#[test]
fn a_denial_gives_its_reason() {
    let sandbox = asking(PERMISSION);
    let mut run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    run.answer("Allow it? [y]es / [n]o: ", "what?\n");
    run.answer("y, n, or \"no, REASON\": ", "N\n");
    run.answer("Why not? (Enter: no reason): ", "not today\n");
    let (code, output) = run.finish();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains(":\r\n  cargo publish\r\n"), "{output}");
    assert!(!output.contains("waits for permission"), "{output}");
    assert_eq!(response(&sandbox), json!({"behavior": "deny", "message": "not today"}));
}

#[test]
fn an_early_answer_does_not_allow_a_request() {
    let request = |id: &str, command: &str| {
        let request = json!({"subtype": "can_use_tool", "tool_name": "Bash",
            "input": {"command": command}, "tool_use_id": id});
        json!({"type": "control_request", "request_id": id, "request": request})
    };
    let sandbox = Sandbox::new(&format!(
        "read\ninit\njson {}\njson {}\nread\nread $DIR/answer\nresult fine\neof",
        request("r1", "ls"),
        request("r2", "rm -r work")
    ));
    let mut run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    eventually("both requests", || {
        let others = &sandbox.run(["status", "j"])["blocked"]["others"];
        (others.as_array().is_some_and(|others| others.len() == 1)).then_some(())
    });
    run.answer("[n]o: ", "y\ny\n");
    run.answer("rm -r work", "n\n");
    run.answer("Why not? (Enter: no reason): ", "\n");
    let (code, output) = run.finish();
    assert_eq!(code, 0, "{output}");
    assert_eq!(response(&sandbox)["behavior"], "deny");
}

#[test]
fn an_answer_from_elsewhere_closes_the_question() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\n{QUESTION}\nread $DIR/answer\nwait-file $DIR/go\nsay thanks\nresult fine\neof"
    ));
    let run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    run.await_text("your own text: ");
    assert_eq!(sandbox.run(["answer", "j", "--choice", "2"]).code, 0);
    // Of a job that has ended, only the end is said.
    run.await_text("\r\nalready answered\r\n");
    fs::write(sandbox.path("go"), "").unwrap();
    let (code, output) = run.finish();
    assert!(code == 0 && output.contains("thanks"), "{code} {output}");
    assert_eq!(response(&sandbox)["updatedInput"]["answers"]["Which database?"], "Postgres");
}

#[test]
fn the_end_of_input_leaves_the_question_open() {
    let sandbox = asking(QUESTION);
    let mut run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    run.answer("your own text: ", "\u{4}");
    let (code, output) = run.finish();
    assert!(code == 130 && output.contains("Left running: claudejob logs -f j"), "{code} {output}");
    assert_eq!(sandbox.status("j")["status"], "blocked");
    let mut answer = Terminal::start(sandbox.command(["answer", "j"]));
    answer.answer("your own text: ", "\u{4}");
    assert_eq!(answer.finish().0, 130);
    assert_eq!(sandbox.status("j")["status"], "blocked");
    let mut agent = sandbox.command(["answer", "j"]);
    agent.env("AI_AGENT", "1");
    let (code, output) = Terminal::start(agent).finish();
    assert!(code == 2 && output.contains("no answer given"), "{code} {output}");
    let mut answer = Terminal::start(sandbox.command(["answer", "j"]));
    answer.answer("your own text: ", "neither\n");
    let (code, output) = answer.finish();
    assert!(code == 0 && output.contains("was answered"), "{code} {output}");
    sandbox.wait("j").expect_end(0, "completed", None);
    assert_eq!(response(&sandbox)["updatedInput"]["answers"]["Which database?"], "neither");
}

#[test]
fn a_signal_is_handled_while_a_question_is_open() {
    let sandbox = asking(QUESTION);
    let run = Terminal::start(sandbox.command(["run", "-n", "j", "x"]));
    run.await_text("your own text: ");
    send(run.pid(), Signal::SIGINT);
    run.await_text("Ctrl-C again: kill");
    send(run.pid(), Signal::SIGINT);
    let (code, output) = run.finish();
    assert!(code == 3 && output.contains("was killed"), "{code} {output}");
    sandbox.assert_nothing_left("j");
}

#[test]
fn agents_and_no_ask_do_not_turn_questions_on() {
    for (options, agent) in [(&["--no-ask"][..], "0"), (&[], "1")] {
        let mut sandbox = Sandbox::new("args $DIR/args\nread\ninit\nresult fine\neof");
        sandbox.set("AI_AGENT", agent);
        let run = Terminal::start(sandbox.command([&["run", "x"], options].concat()));
        let (code, output) = run.finish();
        assert!(code == 0 && output.contains("= completed"), "{code} {output}");
        let arguments = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(!arguments.contains("permission-prompt-tool"), "{arguments}");
    }
}

/// Sets an editor, which is this script with the file as `$1`.
fn set_editor(sandbox: &mut Sandbox, script: &str) {
    let editor = sandbox.path("editor");
    install(&editor, format!("#!/bin/sh\n{script}\n").as_bytes());
    sandbox.set("VISUAL", format!("{} --wait", editor.display()));
}

#[test]
fn an_editor_takes_the_prompt() {
    let mut sandbox = Sandbox::new("read\ninit\nresult fine\neof");
    let script = "test \"$1\" = --wait && test ! -s \"$2\" && stat -c %a \"$2\" >\"$HOME/mode\" && \
                  kill -INT $PPID; sleep 0.1; echo 'from the editor' >\"$2\"";
    set_editor(&mut sandbox, script);
    let (code, output) = Terminal::start(sandbox.command(["run", "-n", "j"])).finish();
    assert_eq!(code, 0, "{output}");
    assert_eq!(prompt_of(&sandbox, "j"), "from the editor\n");
    assert_eq!(fs::read_to_string(sandbox.path("home/mode")).unwrap(), "600\n");
    let left: Vec<_> = fs::read_dir(sandbox.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_failed_editor_or_no_prompt_starts_nothing() {
    let mut sandbox = Sandbox::new("");
    for (script, agent, code, expected) in [
        ("exit 3", "", 1, "failed: exit"),
        ("exit 0", "", 2, "the prompt is empty"),
        ("exit 0", "1", 2, "no prompt"),
    ] {
        set_editor(&mut sandbox, script);
        sandbox.set("AI_AGENT", agent);
        let (actual, output) = Terminal::start(sandbox.command(["run", "-n", "j"])).finish();
        assert!(actual == code && output.contains(expected), "{actual} {output}");
        assert!(!sandbox.job("j").exists());
    }
}

#[test]
fn the_text_of_a_refused_job_is_kept() {
    let mut sandbox = Sandbox::new("read\ninit\nresult fine\neof");
    sandbox.run_job("j", &[]);
    for script in ["echo precious >\"$2\"", "echo precious >\"$2\"; exit 3"] {
        set_editor(&mut sandbox, script);
        let (code, output) = Terminal::start(sandbox.command(["run", "-n", "j"])).finish();
        assert!(code == 1 && output.contains("claudejob run -f '/"), "{code} {output}");
        let left = fs::read_dir(sandbox.path("tmp")).unwrap().next().unwrap().unwrap().path();
        assert!(output.contains(left.to_str().unwrap()), "{output}");
        assert_eq!(fs::read_to_string(&left).unwrap(), "precious\n");
        fs::remove_file(left).unwrap();
    }
}
