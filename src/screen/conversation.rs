//! The conversation of a job as lines of a screen.

use ratatui::text::Line;

use super::styled_lines;
use crate::output::passage_within;
use crate::stream::transcript::TranscriptLine;

/// Returns an entry of a conversation as lines of at most `width` columns.
pub(crate) fn conversation_lines(entry: &TranscriptLine, width: usize) -> Vec<Line<'static>> {
    styled_lines(&passage_within(entry, width), width)
}
