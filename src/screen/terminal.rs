//! The terminal in raw mode, and its restoration in every way this process can end.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Pasted texts arrive between marks.
const ENTER: &str = "\x1b[?2004h";
const LEAVE: &str = "\x1b[?2004l\x1b[?25h\x1b[0m";
/// The alternate screen, without a cursor.
const ENTER_WHOLE: &str = "\x1b[?1049h\x1b[?2004h\x1b[?25l";
const LEAVE_WHOLE: &str = "\x1b[?2004l\x1b[?25h\x1b[0m\x1b[?1049l";

/// What to restore, for a panic, which runs no destructors in a release build.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
static HOOK: Once = Once::new();

struct Saved {
    modes: Termios,
    leave: &'static str,
}

/// The terminal on stdin and stdout in raw mode: it shows no keys by itself, and keys such as
/// Ctrl-C are keys. Dropping it restores the terminal. One at a time.
pub(crate) struct RawTerminal {
    is_whole: bool,
}

impl RawTerminal {
    /// Keeps what the terminal shows: lines are drawn below it.
    pub(crate) fn inline() -> io::Result<Self> {
        Self::enter(false)
    }

    /// Uses the whole terminal. What it shows now appears again afterwards.
    pub(crate) fn whole() -> io::Result<Self> {
        Self::enter(true)
    }

    fn enter(is_whole: bool) -> io::Result<Self> {
        HOOK.call_once(|| {
            let earlier = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                earlier(info);
            }));
        });
        let modes = tcgetattr(io::stdin())?;
        let mut raw = modes.clone();
        cfmakeraw(&mut raw);
        let leave = if is_whole { LEAVE_WHOLE } else { LEAVE };
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Saved { modes, leave });
        let terminal = Self { is_whole };
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        write_all(if is_whole { ENTER_WHOLE } else { ENTER })?;
        Ok(terminal)
    }

    /// Takes the terminal again if its modes were changed, as a shell does while this process is
    /// stopped. Returns whether they were.
    pub(crate) fn retake(&mut self) -> io::Result<bool> {
        if !tcgetattr(io::stdin())?.local_flags.contains(LocalFlags::ICANON) {
            return Ok(false);
        }
        std::mem::forget(Self::enter(self.is_whole)?);
        Ok(true)
    }

    /// Restores the terminal, calls `work`, such as a child program that uses it, and takes the
    /// terminal again. All must be drawn anew afterwards. No [`Keyboard`](super::Keyboard) may read
    /// keys meanwhile.
    pub(crate) fn suspended<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        restore();
        let done = work();
        // Its destructor must not restore the terminal.
        std::mem::forget(Self::enter(self.is_whole)?);
        Ok(done)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, if it is in raw mode. A terminal that is gone needs nothing.
fn restore() {
    if let Some(leave) = restore_modes() {
        let _ = write_all(leave);
    }
}

/// Restores the modes of the terminal, if it is in raw mode. It does not wait for what was written
/// before: perhaps nobody reads that. Returns the text that restores the rest.
pub(crate) fn restore_modes() -> Option<&'static str> {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &saved.modes);
    Some(saved.leave)
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
