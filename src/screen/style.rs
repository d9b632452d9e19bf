//! Styles of texts as styles of a drawn screen.

use anstyle::{Color, Effects};
use ratatui::buffer::Buffer;
use ratatui::style::{Color as ScreenColor, Modifier, Style};

/// Returns a style of texts as a style of the screen.
pub(crate) fn screen_style(text: anstyle::Style) -> Style {
    let mut style = Style::new();
    let effects = text.get_effects();
    for (effect, modifier) in [
        (Effects::BOLD, Modifier::BOLD),
        (Effects::DIMMED, Modifier::DIM),
        (Effects::UNDERLINE, Modifier::UNDERLINED),
    ] {
        if effects.contains(effect) {
            style = style.add_modifier(modifier);
        }
    }
    match text.get_fg_color() {
        Some(Color::Ansi(color)) => style.fg(ScreenColor::Indexed(color as u8)),
        _ => style,
    }
}

/// Removes the colours for a terminal that must not show any. Bold, dim and reversed text remains.
pub(crate) fn remove_colors(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        (cell.fg, cell.bg) = (ScreenColor::Reset, ScreenColor::Reset);
    }
}
