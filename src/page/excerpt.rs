//! Beginnings of long texts, with the number of characters that are omitted.

use maud::{Markup, html};

use crate::text::{format_number, harmless};

/// The beginning of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) omitted_chars: u64,
}

impl Excerpt {
    /// Returns the first `max_chars` characters, unchanged.
    pub(super) fn raw(text: &str, max_chars: usize) -> Self {
        match text.char_indices().nth(max_chars) {
            None => Self { text: text.to_owned(), omitted_chars: 0 },
            Some((at, _)) => {
                let omitted_chars = text[at..].chars().count() as u64;
                Self { text: text[..at].to_owned(), omitted_chars }
            }
        }
    }

    /// Returns the first `max_chars` characters, without characters that mislead a reader.
    pub(super) fn sanitized(text: &str, max_chars: usize) -> Self {
        let excerpt = Self::raw(text.trim_end(), max_chars);
        Self { text: harmless(&excerpt.text), ..excerpt }
    }

    /// Returns the note that characters are omitted; empty if none are.
    pub(super) fn omitted_note(&self) -> Markup {
        omitted_note(self.omitted_chars)
    }

    /// Returns the text as preformatted, with the note.
    pub(super) fn preformatted(&self) -> Markup {
        html! { pre { (self.text) } (self.omitted_note()) }
    }
}

/// Returns the note that this many characters are omitted; empty for zero.
pub(super) fn omitted_note(chars: u64) -> Markup {
    html! {
        @if chars > 0 {
            p.more { "… " (format_number(chars)) " more characters in output.log" }
        }
    }
}
