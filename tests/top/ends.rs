//! The terminal after each way in which `top` can end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use super::{eventually, sandbox};
use crate::support::processes::{is_stopped, send};
use crate::support::{Sandbox, await_file};

/// A call on a terminal that stays open after it.
struct Stage {
    child: Child,
    terminal: File,
    keyboard: File,
    before: Termios,
    reader: JoinHandle<String>,
}

impl Stage {
    /// Starts `top` beside a job that works.
    fn start(command: Command) -> Self {
        let stage = Self::begin(command);
        eventually("raw mode", || stage.is_raw().then_some(()));
        stage
    }

    fn begin(mut command: Command) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let terminal = File::from(slave);
        let before = tcgetattr(&terminal).unwrap();
        command.stdin(terminal.try_clone().unwrap());
        command.stdout(terminal.try_clone().unwrap());
        command.stderr(terminal.try_clone().unwrap());
        // As a shell does: a stop is for the whole group.
        command.process_group(0);
        let child = command.spawn().unwrap();
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut shown = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                shown.extend_from_slice(&buffer[..read]);
            }
            String::from_utf8_lossy(&shown).into_owned()
        });
        Self { child, terminal, keyboard, before, reader }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    /// Waits for the end. Asserts that the modes are those of before and that the terminal shows
    /// what was there before. Returns the exit code, or minus the signal.
    #[track_caller]
    fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert_eq!(tcgetattr(&self.terminal).unwrap(), self.before);
        drop((self.terminal, self.keyboard));
        let shown = self.reader.join().unwrap();
        for (begins, ends) in
            [("\u{1b}[?1049h", "\u{1b}[?1049l"), ("\u{1b}[?2004h", "\u{1b}[?2004l")]
        {
            assert!(shown.rfind(begins) < shown.rfind(ends), "{shown:?}");
        }
        assert!(shown.rfind("\u{1b}[?25l") < shown.rfind("\u{1b}[?25h"), "{shown:?}");
        status.code().unwrap_or_else(|| -status.signal().unwrap())
    }
}

fn with_a_job() -> Sandbox {
    let sandbox = sandbox("read\ninit\ntouch $DIR/up\nhang");
    sandbox.start("j", &[]);
    await_file(&sandbox.path("up"));
    sandbox
}

#[test]
fn keys_and_signals_leave_the_terminal_in_order() {
    let sandbox = with_a_job();
    let mut by_key = Stage::start(sandbox.command(["top"]));
    by_key.keyboard.write_all(b"q").unwrap();
    assert_eq!(by_key.end(), 0);
    let mut by_key = Stage::start(sandbox.command(["top"]));
    by_key.keyboard.write_all(b"\x03").unwrap();
    assert_eq!(by_key.end(), 0);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let stage = Stage::start(sandbox.command(["top"]));
        send(stage.pid(), signal);
        assert_eq!(stage.end(), code, "{signal}");
    }
    assert_eq!(sandbox.status("j")["status"], "running");
}

#[test]
fn a_panic_leaves_the_terminal_in_order() {
    let mut sandbox = with_a_job();
    sandbox.set("CLAUDEJOB_PANIC_AT", "top:drawn");
    let stage = Stage::begin(sandbox.command(["top"]));
    assert_eq!(stage.end(), 101);
    sandbox.unset("CLAUDEJOB_PANIC_AT");
    assert_eq!(sandbox.status("j")["status"], "running");
}

#[test]
fn a_stop_gives_the_terminal_back_for_a_while() {
    let sandbox = with_a_job();
    let mut stage = Stage::start(sandbox.command(["top"]));
    stage.keyboard.write_all(b"\x1a").unwrap();
    eventually("the stop", || is_stopped(stage.pid()).then_some(()));
    assert!(!stage.is_raw());
    send(stage.pid(), Signal::SIGCONT);
    eventually("raw mode again", || stage.is_raw().then_some(()));
    stage.keyboard.write_all(b"q").unwrap();
    assert_eq!(stage.end(), 0);
}

#[test]
fn a_terminal_that_is_gone_leaves_the_jobs() {
    let sandbox = with_a_job();
    // Before something is drawn, and after it.
    for hidden_cursors in [1, 2] {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        // The program must not hold the other side of its own terminal.
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let mut command = sandbox.command(["top"]);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let mut child = command.spawn().unwrap();
        drop(command);
        let (mut output, mut shown, mut byte) = (File::from(master), Vec::new(), [0]);
        while String::from_utf8_lossy(&shown).matches("\u{1b}[?25l").count() < hidden_cursors {
            output.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        drop(output);
        assert_eq!(child.wait().unwrap().code(), Some(129), "{hidden_cursors}");
    }
    assert_eq!(sandbox.status("j")["status"], "running");
}
