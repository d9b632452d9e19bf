//! `attach`: a job on a terminal, with a line to type in.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, openpty, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use serde_json::Value;

use support::processes::send;
use support::screen::Screen;
use support::terminal::Terminal;
use support::{Sandbox, await_file, eventually};

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
const PERMISSION: &str = r#"json {"type":"control_request","request_id":"p1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"cargo publish"},"tool_use_id":"t2"}}"#;
const ENTER: &str = "\r";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const DOWN: &str = "\u{1b}[B";

fn await_status(sandbox: &Sandbox, id: &str, status: &str) {
    eventually(status, || (sandbox.status(id)["status"] == status).then_some(()));
}

fn attach(sandbox: &Sandbox, id: &str) -> Terminal {
    Terminal::start(sandbox.command(["attach", id]))
}

/// Leaves the job. Returns the lines that are left on the terminal.
#[track_caller]
fn left(mut terminal: Terminal) -> Vec<String> {
    terminal.press(CTRL_D);
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    Screen::after(&output)
}

#[test]
fn messages_steer_a_turn_and_begin_another() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hello\ntouch $DIR/up\nhear $DIR/heard\nresult one\nhear-all $DIR/heard",
    );
    sandbox.start("j", &["--keep-alive"]);
    await_file(&sandbox.path("up"));
    let mut terminal = attach(&sandbox, "j");
    terminal.answer("Enter sends", &format!("faster{ENTER}"));
    terminal.await_text("message 1 was sent");
    terminal.answer("─ j idle", "two\u{1b}\rlines");
    terminal.answer("  lines", ENTER);
    terminal.await_text("> two lines");
    await_status(&sandbox, "j", "idle");
    let lines = left(terminal);
    let last = "Left running: claudejob";
    assert!(lines.last().is_some_and(|line| line.starts_with(last)), "{lines:#?}");
    assert!(lines.contains(&"> faster".to_owned()), "{lines:#?}");
    // Nothing is left of the line to type in, nor of the line about the job.
    assert!(!lines.iter().any(|line| line.contains("──") || line.contains("Enter")), "{lines:#?}");
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "faster\ntwo\nlines\n");
    // The job goes on.
    let again = attach(&sandbox, "j");
    again.await_text("Enter begins a turn");
    left(again);
    assert_eq!(sandbox.status("j")["status"], "idle");
}

#[test]
fn the_modes_of_the_terminal_are_restored() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    for (end, code) in [("leave", 0), ("TERM", 143), ("HUP", 129)] {
        let pty = openpty(None, None).unwrap();
        let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        let mut command = sandbox.command(["attach", "j"]);
        command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut master = File::from(pty.master);
        let mut shown = String::new();
        let mut buffer = [0; 4096];
        while !shown.contains("Ctrl-D leaves") {
            let read = master.read(&mut buffer).unwrap();
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        let raw = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        assert_ne!(raw.local_flags, before.local_flags, "{end}");
        match end {
            "TERM" => send(child.id() as i32, Signal::SIGTERM),
            "HUP" => send(child.id() as i32, Signal::SIGHUP),
            _ => master.write_all(CTRL_D.as_bytes()).unwrap(),
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{end}");
        let after = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        assert_eq!(after, before, "{end}");
    }
    assert_eq!(sandbox.status("j")["status"], "running");
}

#[test]
fn the_end_of_the_terminal_ends_the_command_alone() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    // No other process has the terminal's side of it.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname_r(&master).unwrap();
    let mut options = File::options();
    let slave = options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let slave = slave.open(path).unwrap();
    let mut command = sandbox.command(["attach", "j"]);
    command.stdin(slave.try_clone().unwrap()).stdout(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut master = File::from(OwnedFd::from(master));
    let read = master.read(&mut [0; 64]).unwrap();
    assert!(read > 0);
    drop(master);
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert_eq!(sandbox.status("j")["status"], "running");
}

/// The response that the fake's script has written to a file.
fn response(sandbox: &Sandbox) -> Value {
    let line: Value = serde_json::from_slice(&fs::read(sandbox.path("answer")).unwrap()).unwrap();
    line["response"]["response"].clone()
}

#[test]
fn questions_and_permissions_are_answered() {
    for (request, keys) in [(QUESTION, [DOWN, ENTER]), (PERMISSION, ["n", ENTER])] {
        let sandbox = Sandbox::new(&format!(
            "read\ninit\nsay hello\n{request}\nread $DIR/answer\nsay thanks\nresult fine\neof"
        ));
        sandbox.start("j", &["--ask"]);
        let mut terminal = attach(&sandbox, "j");
        terminal.await_text("Esc: type a message instead");
        for key in keys {
            terminal.press(key);
        }
        terminal.await_text("= completed");
        terminal.await_text("Enter resumes the job");
        let lines = left(terminal);
        assert!(lines.contains(&"thanks".to_owned()), "{lines:#?}");
        let response = response(&sandbox);
        if request == QUESTION {
            assert_eq!(response["updatedInput"]["answers"]["Which database?"], "Postgres");
        } else {
            assert_eq!(response["behavior"], "deny");
        }
    }
}

#[test]
fn an_answer_from_elsewhere_closes_the_choices() {
    let sandbox = Sandbox::new(&format!(
        "read\ninit\n{QUESTION}\nread $DIR/answer\nsay thanks\nhear\nresult fine\neof"
    ));
    sandbox.start("j", &["--ask"]);
    let mut terminal = attach(&sandbox, "j");
    terminal.await_text("Esc: type a message instead");
    assert_eq!(sandbox.run(["answer", "j", "--choice", "2"]).code, 0);
    terminal.await_text("thanks");
    // The choices may be shown a moment longer, and then would get the keys.
    eventually("the end of the choices", || {
        let screen = terminal.screen();
        let (_, since) = screen.rsplit_once("thanks").unwrap();
        since.contains("Ctrl-C interrupts").then_some(())
    });
    terminal.press(&format!("go on{ENTER}"));
    terminal.await_text("= completed");
    let lines = left(terminal);
    assert!(!lines.iter().any(|line| line.contains("SQLite: embedded")), "{lines:#?}");
}

#[test]
fn ctrl_c_asks_before_it_interrupts() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nhear\nhear-all $DIR/heard");
    sandbox.start("j", &["--keep-alive"]);
    let mut terminal = attach(&sandbox, "j");
    // There is a turn.
    terminal.await_text("hello");
    // It clears the line first.
    terminal.answer("Ctrl-C interrupts", &format!("words{CTRL_C}{CTRL_C}"));
    terminal.answer("Interrupt the turn?", CTRL_C);
    terminal.await_text("= interrupted");
    await_status(&sandbox, "j", "idle");
    left(terminal);
    assert_eq!(sandbox.status("j")["status"], "idle");
}

#[test]
fn an_ended_job_is_resumed_after_a_question() {
    let sandbox = Sandbox::new("session\nread\ninit\nsay hi\nresult one\neof");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    sandbox.script("session\ninit\nhear-all $DIR/heard");
    let mut terminal = attach(&sandbox, "j");
    terminal.answer("Enter resumes the job", &format!("more{ENTER}"));
    terminal.answer("Resume it with this message? [y/n]", "n");
    // The message is still there.
    terminal.press(ENTER);
    terminal.press("y");
    terminal.await_text("= completed · 2 turns");
    let lines = left(terminal);
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("= completed")).count(),
        2,
        "{lines:#?}"
    );
    assert_eq!(fs::read_to_string(sandbox.path("heard")).unwrap(), "more\n");
    assert_eq!(sandbox.wait("j")["attempt"], 2);
}

#[test]
fn a_message_that_fails_can_be_sent_again() {
    let sandbox = Sandbox::new("session\nread\ninit\nsay hi\nresult one\neof");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let mut command = sandbox.command(["attach", "j"]);
    command.env("PATH", "/nowhere").env_remove("CLAUDE_SKILL_CLAUDE");
    let record = sandbox.job("j").join("meta.json");
    let text = fs::read_to_string(&record).unwrap();
    let claude = serde_json::from_str::<Value>(&text).unwrap()["spec"]["claude"].clone();
    fs::write(&record, text.replace(claude.as_str().unwrap(), "/nowhere/claude")).unwrap();
    let mut terminal = Terminal::start(command);
    terminal.answer("Enter resumes the job", &format!("more{ENTER}"));
    terminal.answer("[y/n]", "y");
    terminal.await_text("is gone");
    terminal.press(CTRL_C);
    left(terminal);
}

#[test]
fn earlier_entries_are_named_and_hostile_text_is_not() {
    let mut script = "read\ninit\n".to_owned();
    for number in 0..30 {
        script.push_str(&format!("say line {number}\n"));
    }
    script.push_str("json {\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\\u001b[2Jb\\u202e\"}]}}\n");
    let mut sandbox = Sandbox::new(&(script + "result fine\neof"));
    sandbox.set("TERM", "xterm-256color");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let shown = |sandbox: &Sandbox| {
        let mut terminal = attach(sandbox, "j");
        terminal.answer("Enter resumes", CTRL_D);
        terminal.finish().1
    };
    let coloured = shown(&sandbox);
    assert!(!coloured.contains("\u{1b}[2J") && !coloured.contains('\u{202e}'), "{coloured:?}");
    assert!(coloured.contains("earlier entries: claudejob"), "{coloured:?}");
    assert!(!coloured.contains("line 3\r"), "{coloured:?}");
    sandbox.set("NO_COLOR", "1");
    let plain = shown(&sandbox);
    assert!(coloured.contains("\u{1b}[1m") && !plain.contains("\u{1b}[1m"), "{plain:?}");
    assert_eq!(Screen::after(&plain), Screen::after(&coloured));
}

#[test]
fn programs_are_told_what_to_use() {
    let sandbox = Sandbox::new("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    let answer = sandbox.run(["attach", "j"]);
    assert_eq!((answer.code, answer.text("code")), (2, "not_a_terminal"), "{answer:?}");
    assert!(answer.text("hint").contains("logs j --follow"), "{answer:?}");
    for (name, value) in [("TERM", "dumb"), ("CLAUDECODE", "1")] {
        let mut command = sandbox.command(["attach", "j"]);
        command.env(name, value);
        let (code, output) = Terminal::start(command).finish();
        assert!(code == 2 && output.contains("for a person at a terminal"), "{output}");
    }
}

#[test]
fn a_typed_text_outlives_the_job() {
    let sandbox = Sandbox::new("read\ninit\nresult done");
    sandbox.run_job("j", &[]);
    let mut terminal = attach(&sandbox, "j");
    terminal.answer("Enter resumes", "first\u{1b}\rsecond");
    terminal.await_text("  second");
    sandbox.run(["rm", "j"]);
    let (code, output) = terminal.finish();
    let lines = Screen::after(&output);
    let from = lines.len() - 5;
    assert_eq!(lines[from..from + 3], ["Not sent:", "first", "second"], "{lines:#?}");
    assert!(code == 4 && lines[from + 3].ends_with("no job named 'j'"), "{lines:#?}");
}
