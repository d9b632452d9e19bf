//! A terminal for a call of the program.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use nix::pty::{Winsize, openpty};

const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Runs a command on a terminal on which somebody types `input`. Returns the exit code and the
/// output, which contains the input, too.
#[track_caller]
pub(crate) fn run_on_terminal(mut command: Command, input: &str) -> (i32, String) {
    let pty = openpty(&SIZE, None).unwrap();
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
