//! Keys that are typed on a terminal in raw mode.
//!
//! crossterm can read them, too. Its reader spins when the terminal is gone, and cannot be stopped
//! while a child program reads the terminal.

mod parser;

use std::io::{self, PipeWriter, pipe};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use parser::KeyParser;

/// Time after which an escape character was typed by itself, and begins no sequence.
const ESCAPE_TIMEOUT_MS: u16 = 30;

/// A key, or a text that was pasted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Char(char),
    /// A letter with the control key, in lower case.
    Ctrl(char),
    Enter,
    /// A line feed within a text: Alt-Enter, Shift-Enter or Ctrl-J.
    NewLine,
    Escape,
    Tab,
    BackTab,
    Backspace,
    Delete,
    /// Backspace with Alt.
    DeleteWord,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    PageUp,
    PageDown,
    Paste(String),
}

/// A thread that reads keys from stdin. Dropping it ends the thread: a child program can read the
/// terminal then.
pub(crate) struct Keyboard {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Calls `give` with each key until it returns false, and with `None` at the end of the input.
    pub(crate) fn start(
        give: impl FnMut(Option<Key>) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (stopped, stop) = pipe()?;
        let thread = std::thread::Builder::new().spawn(move || read_keys(&stopped, give))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_keys(stopped: &impl AsFd, mut give: impl FnMut(Option<Key>) -> bool) {
    let stdin = io::stdin();
    let mut parser = KeyParser::default();
    let mut buffer = [0; 1024];
    loop {
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        let timeout =
            if parser.is_in_escape() { ESCAPE_TIMEOUT_MS.into() } else { PollTimeout::NONE };
        let ready = poll(&mut fds, timeout);
        if fds[1].any() == Some(true) {
            return;
        }
        if ready == Ok(0) {
            parser.end_escape();
        } else if fds[0].any() == Some(true) {
            // Not through the buffer of `Stdin`: a child program gets all that was not read here.
            match stdin_bytes(&mut buffer) {
                Ok(read @ 1..) => parser.push(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    give(None);
                    return;
                }
            }
        }
        for key in parser.take_keys() {
            if !give(Some(key)) {
                return;
            }
        }
    }
}

fn stdin_bytes(buffer: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(io::stdin().as_fd(), buffer)?)
}
