//! The terminal as a screen: keys, a line to type in, choices, and lines that are drawn in place.
//! What a key does is decided by pure functions; `commands` carry it out.

mod conversation;
mod inline;
mod input_line;
mod keys;
mod picker;
mod style;
mod styled_lines;
mod terminal;
pub(crate) mod top;

pub(crate) use conversation::conversation_lines;
pub(crate) use inline::InlineArea;
pub(crate) use input_line::InputLine;
pub(crate) use keys::{Key, Keyboard};
pub(crate) use picker::{Picker, PickerStep};
pub(crate) use style::{remove_colors, screen_style};
pub(crate) use styled_lines::{fitted, styled_lines};
pub(crate) use terminal::{RawTerminal, restore_modes};
