//! The entries of a conversation as text.

use anstyle::Style;

use super::layout::wrapped_prose;
use super::text::{BOLD, CYAN, GREEN, PLAIN, RED, YELLOW, painted};
use crate::stream::transcript::{Speaker, TranscriptLine};
use crate::text::harmless;

/// Returns a passage with its style, wrapped between words at `width` columns. Code keeps its lines.
pub(crate) fn passage_within(passage: &TranscriptLine, width: usize) -> String {
    let mark = passage.speaker.mark();
    let text = wrapped_prose(&harmless(&passage.text), mark.chars().count(), width);
    painted(speaker_style(passage.speaker), &format!("{mark}{text}"))
}

pub(crate) fn speaker_style(speaker: Speaker) -> Style {
    match speaker {
        Speaker::Tool => CYAN,
        Speaker::ToolError => RED,
        Speaker::User => GREEN,
        // The mark tells a note from the agent: dim text cannot be read on every background.
        Speaker::Agent | Speaker::Note => PLAIN,
        Speaker::End => BOLD,
        Speaker::Stderr => YELLOW,
    }
}
