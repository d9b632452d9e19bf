//! A terminal for a call of the program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Opens a terminal that no process of a parallel test inherits, whose output would then not end.
fn open_terminal(size: &Winsize) -> OpenptyResult {
    let pty = openpty(size, None).unwrap();
    for side in [&pty.master, &pty.slave] {
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    pty
}

/// Runs a command on a terminal on which somebody types `input`. Returns the exit code and the
/// output, which contains the input, too.
#[track_caller]
pub(crate) fn run_on_terminal(mut command: Command, input: &str) -> (i32, String) {
    let pty = open_terminal(&SIZE);
    let mut terminal = File::from(pty.master);
    terminal.write_all(input.as_bytes()).unwrap();
    command.stdin(pty.slave.try_clone().unwrap());
    command.stdout(pty.slave.try_clone().unwrap());
    command.stderr(pty.slave);
    let mut child = command.spawn().unwrap();
    // The command holds the program's side of the terminal: the output ends when nobody does.
    drop(command);
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    // When the last holder has closed it, Linux reports an error and others the end.
    while let Ok(read @ 1..) = terminal.read(&mut buffer) {
        output.extend_from_slice(&buffer[..read]);
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&output).into_owned())
}

/// A call on a terminal at which somebody reads and types.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    output: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    #[track_caller]
    pub(crate) fn start(command: Command) -> Self {
        Self::of_size(command, SIZE.ws_col, SIZE.ws_row)
    }

    /// Starts the call on a terminal of this size, as a shell does: in a process group of its own.
    #[track_caller]
    pub(crate) fn of_size(mut command: Command, columns: u16, rows: u16) -> Self {
        let pty = open_terminal(&Winsize { ws_row: rows, ws_col: columns, ..SIZE });
        let keyboard = File::from(pty.master);
        command.stdin(pty.slave.try_clone().unwrap());
        command.stdout(pty.slave.try_clone().unwrap());
        command.stderr(pty.slave).process_group(0);
        let child = command.spawn().unwrap();
        drop(command);
        // Bytes: a read may end within a character.
        let output = Arc::new(Mutex::new(Vec::new()));
        let (shown, mut terminal) = (output.clone(), keyboard.try_clone().unwrap());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = terminal.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keyboard, output, reader }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Whether keys reach the call one by one.
    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(&self.keyboard).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    /// Waits until the screen contains a text.
    #[track_caller]
    pub(crate) fn await_text(&self, text: &str) {
        super::eventually(&format!("{text:?} in {:?}", self.screen()), || {
            self.screen().contains(text).then_some(())
        });
    }

    /// Types a text after another one has appeared.
    #[track_caller]
    pub(crate) fn answer(&mut self, prompt: &str, text: &str) {
        self.await_text(prompt);
        self.press(text);
    }

    /// Types a text.
    #[track_caller]
    pub(crate) fn press(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end of the call. Returns its exit code and all output.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.reader.join().unwrap();
        let output = String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned();
        (code, output)
    }
}
