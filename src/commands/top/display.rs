//! The terminal on which the screen is drawn.

use std::io::{self, BufWriter, Stdout};

use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};

use crate::commands::watch::Watch;
use crate::fault_point::fault_point;
use crate::output::has_colors;
use crate::screen::top::{TopInput, TopModel};
use crate::screen::{Keyboard, RawTerminal, remove_colors};

type ScreenTerminal = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// The whole terminal. Dropping it shows what was there before.
pub(super) struct Display {
    terminal: ScreenTerminal,
    keyboard: Option<Keyboard>,
    raw: RawTerminal,
    has_colors: bool,
}

impl Display {
    /// Takes the terminal. Its keys become notices of `watch`.
    pub(super) fn enter(watch: &Watch) -> io::Result<Self> {
        let raw = RawTerminal::whole()?;
        let keyboard = Some(watch.read_keys()?);
        Ok(Self { terminal: blank()?, keyboard, raw, has_colors: has_colors() })
    }

    /// Returns the height of the terminal.
    pub(super) fn height(&self) -> usize {
        self.terminal.size().map_or(24, |size| usize::from(size.height))
    }

    /// Draws what has changed since the last time.
    pub(super) fn draw(&mut self, model: &mut TopModel) -> io::Result<()> {
        let terminal = &mut self.terminal;
        terminal.autoresize()?;
        let buffer = terminal.current_buffer_mut();
        let _ = model.handle(TopInput::Size(buffer.area.width, buffer.area.height));
        let cursor = model.draw(buffer);
        if !self.has_colors {
            remove_colors(buffer);
        }
        terminal.flush()?;
        terminal.swap_buffers();
        let backend = terminal.backend_mut();
        // Not by the terminal, which would show the cursor when it is dropped, and panic if the
        // terminal is gone: `self.raw` shows it.
        match cursor {
            Some(position) => {
                backend.set_cursor_position(position)?;
                backend.show_cursor()?;
            }
            None => backend.hide_cursor()?,
        }
        io::Write::flush(backend)?;
        fault_point("top:drawn");
        Ok(())
    }

    /// Gives the terminal back while `work` runs, during which no keys are read.
    pub(super) fn suspended<T>(
        &mut self,
        watch: &mut Watch,
        work: impl FnOnce(&mut Watch) -> T,
    ) -> io::Result<T> {
        self.keyboard = None;
        let done = self.raw.suspended(|| work(watch))?;
        self.keyboard = Some(watch.read_keys()?);
        // Not `Terminal::clear`, which asks the terminal for the cursor and reads keys for that.
        self.terminal = blank()?;
        Ok(done)
    }
}

/// Returns a terminal that shows nothing.
fn blank() -> io::Result<ScreenTerminal> {
    let out = BufWriter::with_capacity(64 << 10, io::stdout());
    Terminal::new(CrosstermBackend::new(out))
}
