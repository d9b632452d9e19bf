//! `top`: the jobs live on a terminal, and keys that act on them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "top/ends.rs"]
mod ends;
#[path = "top/figures.rs"]
mod figures;
#[path = "top/stops.rs"]
mod stops;
mod support;
#[path = "top/tmux.rs"]
mod tmux;

use std::fs;
use std::time::{Duration, Instant};

use support::processes::kill;
use support::screen::Screen;
use support::terminal::Terminal;
use support::{Sandbox, eventually};

const QUESTION: &str = r#"json {"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which database?","header":"DB","options":[{"label":"SQLite","description":"embedded"},{"label":"Postgres","description":"a server"}],"multiSelect":false}]},"tool_use_id":"t1"}}"#;
/// Longer than anything takes on a busy machine: reached only by a failing test.
const TIMEOUT: Duration = Duration::from_secs(60);
const ENTER: &str = "\r";
const ESCAPE: &str = "\u{1b}";
const DOWN: &str = "\u{1b}[B";

/// A sandbox for a terminal with colours.
fn sandbox(script: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(script);
    sandbox.set("TERM", "xterm-256color");
    sandbox
}

fn top(sandbox: &Sandbox) -> Terminal {
    Terminal::start(sandbox.command(["top"]))
}

/// Waits until a line of the screen begins and ends so.
#[track_caller]
fn await_line(terminal: &Terminal, begins: &str, ends: &str) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let lines = Screen::after(&terminal.screen());
        if lines.iter().any(|line| line.starts_with(begins) && line.ends_with(ends)) {
            return;
        }
        assert!(Instant::now() < deadline, "{begins:?} … {ends:?} in {lines:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Leaves `top`, after which the terminal shows what was there before.
#[track_caller]
fn leave(mut terminal: Terminal) {
    terminal.press("q");
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    assert!(Screen::after(&output).is_empty(), "{output:?}");
    assert!(output.ends_with("\u{1b}[?1049l") && output.contains("\u{1b}[?25h"), "{output:?}");
}

#[test]
fn a_question_is_answered_where_it_is_shown() {
    let sandbox = sandbox(&format!("read\ninit\n{QUESTION}\nread $DIR/answer\nresult thanks\neof"));
    let mut terminal = top(&sandbox);
    await_line(&terminal, "no jobs", "");
    // The job appears, and then its question.
    sandbox.start("ask", &[]);
    await_line(&terminal, "> ask  blocked", "asks: Which database?");
    terminal.press("a");
    await_line(&terminal, "❯ 1. SQLite: embedded", "");
    terminal.press(DOWN);
    await_line(&terminal, "❯ 2. Postgres: a server", "");
    terminal.press(ENTER);
    await_line(&terminal, "> ask  completed", "thanks");
    let answer = fs::read_to_string(sandbox.path("answer")).unwrap();
    assert!(answer.contains(r#""answers":{"Which database?":"Postgres"}"#), "{answer}");
    await_line(&terminal, "= completed", "");
    leave(terminal);
}

#[test]
fn messages_reach_a_job_and_continue_it() {
    let sandbox = sandbox("session\nread\ninit\nsay hello\nhear $DIR/heard\nresult one");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    terminal.press(&format!("sLook at the tests{ENTER}"));
    await_line(&terminal, "> Look at the tests", "");
    await_line(&terminal, "> j    completed", "one");
    // Its worker ends after its verdict, and then it can be continued.
    sandbox.wait("j");
    sandbox.script("session\nread $DIR/resumed\ninit\nsay again\nresult two\neof");
    terminal.press(&format!("rAnd the docs{ENTER}"));
    await_line(&terminal, "again", "");
    await_line(&terminal, "> j    completed", "two");
    let resumed = fs::read_to_string(sandbox.path("resumed")).unwrap();
    assert!(resumed.contains("And the docs"), "{resumed}");
    leave(terminal);
}

#[test]
fn a_kill_asks_once() {
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    terminal.press("K");
    await_line(&terminal, "Kill j? y: yes, any other key: no", "");
    terminal.press("n");
    await_line(&terminal, "j was not killed", "");
    assert_eq!(sandbox.status("j")["status"], "running");
    terminal.press("Ky");
    await_line(&terminal, "> j    killed", "");
    // The worker ends after its verdict.
    sandbox.wait("j");
    sandbox.assert_nothing_left("j");
    leave(terminal);
}

#[test]
fn keys_interrupt_pause_and_filter() {
    let sandbox = sandbox("read\ninit\ntool Bash sleep\nhear $DIR/heard\nhear $DIR/heard");
    for id in ["one", "two"] {
        sandbox.start(id, &["--keep-alive"]);
    }
    let mut terminal = top(&sandbox);
    for job in ["one", "two"] {
        eventually(job, || {
            let lines = Screen::after(&terminal.screen());
            let works = |line: &String| line.get(2..).is_some_and(|rest| rest.starts_with(job));
            lines.iter().any(|line| works(line) && line.ends_with("Bash: sleep")).then_some(())
        });
    }
    terminal.press("/one");
    await_line(&terminal, "1 running", "");
    terminal.press(ENTER);
    await_line(&terminal, "/one · 1 of 2 jobs", "");
    terminal.press("p");
    await_line(&terminal, "Job one is paused", "");
    terminal.press("p");
    await_line(&terminal, "Job one is no longer paused.", "");
    terminal.press("i");
    await_line(&terminal, "> one  idle", "");
    terminal.press(ESCAPE);
    await_line(&terminal, "1 running · 1 idle", "");
    terminal.press("?");
    await_line(&terminal, "  K, x         kill the job", "");
    terminal.press("?");
    await_line(&terminal, "  two  running", "");
    leave(terminal);
}

#[test]
fn a_message_that_is_refused_is_not_lost() {
    let sandbox = sandbox("read\ninit\nsay hello\nwait-file $DIR/go\nresult over\neof");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    terminal.press("sToo late");
    await_line(&terminal, "message to j: Too late", "");
    fs::write(sandbox.path("go"), "").unwrap();
    await_line(&terminal, "> j    completed", "over");
    terminal.press(ENTER);
    await_line(&terminal, "job j accepts no more requests: it is completed", "");
    await_line(&terminal, "message to j: Too late", "");
    terminal.press(ESCAPE);
    // A key that follows at once would be one with Alt.
    await_line(&terminal, "nothing was sent", "");
    leave(terminal);
}

#[test]
fn a_lost_job_gets_its_verdict() {
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    let terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    kill(sandbox.status("j")["pid"].as_i64().unwrap() as i32);
    await_line(&terminal, "> j    failed", "");
    assert_eq!(sandbox.status("j").text("reason"), "worker_died");
    sandbox.assert_nothing_left("j");
    leave(terminal);
}

#[test]
fn jobs_that_are_removed_disappear() {
    // No key is for the job that takes the row of a removed one.
    let sandbox = sandbox("read\ninit\nresult done");
    for id in ["one", "two"] {
        sandbox.run_job(id, &[]);
    }
    let mut terminal = top(&sandbox);
    await_line(&terminal, "> two  completed", "done");
    await_line(&terminal, "  one  completed", "done");
    sandbox.run(["rm", "two"]);
    eventually("one job", || {
        let lines = Screen::after(&terminal.screen());
        lines.first().is_some_and(|line| line.ends_with("1 ended")).then_some(())
    });
    terminal.press("d");
    await_line(&terminal, "no job is chosen", "");
    await_line(&terminal, "  one  completed", "done");
    terminal.press("j");
    await_line(&terminal, "> one  completed", "done");
    leave(terminal);
}

#[test]
fn another_verb_gets_the_terminal() {
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    // The job works in no repository: the error stays until a key is typed.
    terminal.press("d");
    terminal.await_text("Enter: back to top");
    assert!(terminal.screen().contains("are not known"), "{}", terminal.screen());
    let before = terminal.screen().len();
    terminal.press(ENTER);
    eventually("the list again", || terminal.screen()[before..].contains("hello").then_some(()));
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn without_colour_only_attributes_are_used() {
    let mut sandbox = sandbox("read\ninit\nresult done");
    sandbox.set("NO_COLOR", "1");
    sandbox.run_job("j", &[]);
    let terminal = top(&sandbox);
    await_line(&terminal, "> j    completed", "done");
    let output = terminal.screen();
    let styles = output.split("\u{1b}[").skip(1).filter_map(|part| part.split_once('m'));
    let styles: Vec<&str> = styles.map(|(style, _)| style).collect();
    assert!(styles.contains(&"7") && !styles.iter().any(|style| style.starts_with("38;")));
    leave(terminal);
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_is_refused() {
    let mut sandbox = sandbox("exit 0");
    let refused = sandbox.run(["top"]);
    assert_eq!((refused.code, refused.text("hint")), (2, "claudejob list"), "{refused:?}");
    sandbox.set("TERM", "dumb");
    let (code, output) = top(&sandbox).finish();
    assert!(code == 2 && !output.contains('\u{1b}'), "{output:?}");
}
