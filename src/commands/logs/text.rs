//! Text form of `logs`.

use super::LogsAnswer;
use crate::commands::Call;
use crate::output::{
    Answer, BOLD, CYAN, GREEN, PLAIN, RED, YELLOW, columns, painted, print_plain, wrapped_prose,
};
use crate::stream::transcript::{Speaker, TranscriptLine};
use crate::text::harmless;

impl LogsAnswer {
    /// Prints a part of a log that is followed. Returns false if the reader has closed stdout. The
    /// bytes of a log are never printed as JSON.
    pub(in crate::commands) fn print(&self, call: &Call) -> bool {
        if self.bytes.is_empty() { call.print(self).is_ok() } else { print_plain(self).is_ok() }
    }
}

/// The raw stream is for programs and stays unchanged unless stdout is a terminal; stderr is for
/// people and is always made harmless.
impl Answer for LogsAnswer {
    fn text(&self) -> String {
        if !self.bytes.is_empty() {
            let mut text = harmless(&String::from_utf8_lossy(&self.bytes));
            if !text.ends_with('\n') {
                text.push('\n');
            }
            return text;
        }
        let mut text = String::new();
        for passage in &self.passages {
            text += &passage_text(passage);
            text.push('\n');
        }
        text
    }

    fn raw(&self) -> Option<&[u8]> {
        if self.is_raw { Some(&self.bytes) } else { None }
    }
}

fn passage_text(passage: &TranscriptLine) -> String {
    let style = match passage.speaker {
        Speaker::Tool => CYAN,
        Speaker::ToolError => RED,
        Speaker::User => GREEN,
        // The mark tells a note from the agent: dim text cannot be read on every background.
        Speaker::Agent | Speaker::Note => PLAIN,
        Speaker::End => BOLD,
        Speaker::Stderr => YELLOW,
    };
    let mark = passage.speaker.mark();
    let text = wrapped_prose(&harmless(&passage.text), mark.chars().count(), columns());
    painted(style, &format!("{mark}{text}"))
}
