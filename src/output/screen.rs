//! The whole terminal, for a list that is shown anew whenever it changes.

use std::io::{self, Write as _};

use super::layout::size_of;
use super::text::styled_for;

/// Switches to the alternate screen, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The terminal on stdout. Dropping it shows what was there before.
pub(crate) struct Screen(());

impl Screen {
    pub(crate) fn enter() -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Self(()))
    }

    /// Returns the width and the height.
    pub(crate) fn size(&self) -> (usize, usize) {
        size_of(&io::stdout())
    }

    /// Replaces what is shown by these lines, which must fit.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        let text = styled_for(&io::stdout(), text);
        let mut shown = HOME.to_owned();
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                shown.push('\n');
            }
            shown.push_str(line);
            shown.push_str(CLEAR_LINE);
        }
        shown.push_str(CLEAR_BELOW);
        let mut out = io::stdout().lock();
        out.write_all(shown.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}
