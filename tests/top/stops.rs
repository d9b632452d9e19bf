//! What `top` has started on the terminal, and signals. At Ctrl-Z a shell gets the terminal back only
//! if its whole job stops.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{ENTER, await_line, sandbox, top};
use crate::support::processes::{children_of, is_stopped, send};
use crate::support::terminal::Terminal;
use crate::support::{await_file, eventually, is_alive};

const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";

/// `top` and what runs below it.
fn descendants(pid: i32) -> Vec<i32> {
    let below = children_of(pid).into_iter().flat_map(descendants);
    std::iter::once(pid).chain(below).collect()
}

/// Waits until `top` and this number of processes below it are stopped.
#[track_caller]
fn await_stop(terminal: &Terminal, below: usize) {
    eventually("the stop of all", || {
        let all = descendants(terminal.pid());
        (all.len() == below + 1 && all.into_iter().all(is_stopped)).then_some(())
    });
    assert!(!terminal.is_raw());
}

/// Waits until a thread of the process blocks until its child stops or ends. The process takes no
/// notice of a stop that comes before it has seen that the child continues.
#[track_caller]
fn await_wait(pid: i32) {
    let number = nix::libc::SYS_wait4.to_string();
    eventually("the wait for the child", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let mut calls = threads.map(|thread| fs::read_to_string(thread.path().join("syscall")));
        // Not every machine shows it.
        let waits = |call: std::io::Result<String>| match call {
            Ok(call) => call.split(' ').next() == Some(&number),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        calls.any(waits).then_some(())
    });
}

/// What a terminal does at Ctrl-Z that is no key, and a shell at `fg`.
fn signal(terminal: &Terminal, signal: Signal) {
    killpg(Pid::from_raw(terminal.pid()), signal).unwrap();
}

#[track_caller]
fn quit(mut terminal: Terminal) {
    terminal.press("q");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn attach_stops_with_top() {
    let sandbox = sandbox("read\ninit\nsay hello\nhear $DIR/heard\nhear $DIR/heard\nhang");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    terminal.press(ENTER);
    terminal.await_text("Enter sends");
    for (message, sent) in [("one", "message 1 was sent"), ("two", "message 2 was sent")] {
        terminal.press(CTRL_Z);
        await_stop(&terminal, 1);
        signal(&terminal, Signal::SIGCONT);
        eventually("raw mode", || terminal.is_raw().then_some(()));
        terminal.press(&format!("{message}{ENTER}"));
        terminal.await_text(sent);
        await_wait(terminal.pid());
    }
    let heard = || fs::read_to_string(sandbox.path("heard")).unwrap_or_default();
    eventually("both messages", || (heard() == "one\ntwo\n").then_some(()));
    // A signal for top alone is meant for both.
    terminal.press(CTRL_Z);
    await_stop(&terminal, 1);
    send(terminal.pid(), Signal::SIGCONT);
    eventually("raw mode", || terminal.is_raw().then_some(()));
    terminal.press(CTRL_D);
    await_line(&terminal, "> j    running", "");
    quit(terminal);
}

#[test]
fn a_program_without_raw_mode_stops_with_top() {
    let sandbox = sandbox("session\nread\ninit\nsay hi\nresult one\neof");
    sandbox.run_job("j", &[]);
    sandbox.script("touch $DIR/open\nwait-file $DIR/go");
    let mut terminal = top(&sandbox);
    await_line(&terminal, "> j    completed", "one");
    terminal.press("o");
    await_file(&sandbox.path("open"));
    for _ in 0..2 {
        signal(&terminal, Signal::SIGTSTP);
        // `open` and claude.
        await_stop(&terminal, 2);
        signal(&terminal, Signal::SIGCONT);
        eventually("all continue", || {
            (!descendants(terminal.pid()).into_iter().any(is_stopped)).then_some(())
        });
        for waiting in [terminal.pid(), children_of(terminal.pid())[0]] {
            await_wait(waiting);
        }
    }
    fs::write(sandbox.path("go"), "").unwrap();
    eventually("raw mode", || terminal.is_raw().then_some(()));
    quit(terminal);
}

#[test]
fn the_wait_for_enter_stops() {
    let sandbox = sandbox("read\ninit\nresult one\neof");
    sandbox.run_job("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "> j    completed", "one");
    // The job works in no repository.
    terminal.press("d");
    terminal.await_text("Enter: back to top");
    signal(&terminal, Signal::SIGTSTP);
    await_stop(&terminal, 0);
    signal(&terminal, Signal::SIGCONT);
    let asks = || terminal.screen().matches("Enter: back to top").count() > 1;
    eventually("the question again", || asks().then_some(()));
    terminal.press(ENTER);
    eventually("raw mode", || terminal.is_raw().then_some(()));
    quit(terminal);
}

#[test]
fn a_call_without_a_shell_does_not_stop() {
    // `ssh -t host claudejob top`, a command of tmux: nobody could continue it.
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    for verb in ["top", "attach"] {
        let call = sandbox.command([verb]);
        let mut command = Command::new("setsid");
        command.arg("--fork").arg("--wait").arg(call.get_program()).args(call.get_args());
        command.env_clear().envs(sandbox.environment());
        let mut terminal = Terminal::start(command);
        terminal.await_text("hello");
        terminal.press(CTRL_Z);
        // What follows is typed in raw mode again, or reaches nobody.
        eventually("the stop", || terminal.screen().contains("\u{1b}[?2004l").then_some(()));
        let taken = || terminal.screen().matches("\u{1b}[?2004h").count() > 1;
        eventually("raw mode", || taken().then_some(()));
        terminal.press(if verb == "top" { "q" } else { CTRL_D });
        assert_eq!(terminal.finish().0, 0, "{verb}");
    }
}

#[test]
fn a_signal_for_top_ends_attach() {
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGKILL, -1)] {
        let mut terminal = top(&sandbox);
        await_line(&terminal, "hello", "");
        terminal.press(ENTER);
        terminal.await_text("Enter sends");
        let both = descendants(terminal.pid());
        send(terminal.pid(), signal);
        eventually("the end of both", || (!both.iter().any(|pid| is_alive(*pid))).then_some(()));
        assert!(!terminal.is_raw(), "{signal}");
        assert_eq!(terminal.finish().0, code, "{signal}");
    }
}

#[test]
fn a_killed_attach_leaves_no_raw_mode() {
    let sandbox = sandbox("read\ninit\nsay hello\nhang");
    sandbox.start("j", &[]);
    let mut terminal = top(&sandbox);
    await_line(&terminal, "hello", "");
    terminal.press(ENTER);
    terminal.await_text("Enter sends");
    send(children_of(terminal.pid())[0], Signal::SIGKILL);
    terminal.await_text("Enter: back to top");
    assert!(!terminal.is_raw());
    terminal.press(ENTER);
    await_line(&terminal, "> j    running", "");
    quit(terminal);
}
