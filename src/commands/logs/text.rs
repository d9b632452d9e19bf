//! Text form of `logs`.

use anstyle::{AnsiColor, Style};

use super::{LogsAnswer, LogsRequest};
use crate::commands::Call;
use crate::commands::observe::Observed;
use crate::output::{
    Answer, BLUE, CYAN, GREEN, PLAIN, YELLOW, columns, pad, painted, passage_within, print_plain,
    speaker_style, wrapped_prose,
};
use crate::store::{Store, addressed};
use crate::stream::transcript::TranscriptLine;
use crate::text::harmless;

/// The largest width of a job's name before each line.
const MAX_NAME_WIDTH: usize = 20;
const SEPARATOR: &str = " | ";
/// The colours of the names, in turn.
const NAME_STYLES: [Style; 6] = [
    CYAN,
    GREEN,
    YELLOW,
    BLUE,
    AnsiColor::Magenta.on_default(),
    AnsiColor::BrightCyan.on_default(),
];

impl LogsAnswer {
    /// Prints a part of a log that is followed. Returns false if the reader has closed stdout. The
    /// bytes of a log are never printed as JSON.
    pub(in crate::commands) fn print(&self, call: &Call) -> bool {
        if self.bytes.is_empty() { call.print(self).is_ok() } else { print_plain(self).is_ok() }
    }

    /// Says how the request is answered with which the text ends.
    pub(super) fn note_request(
        &mut self,
        store: &Store,
        request: &LogsRequest,
        observed: &Observed,
    ) {
        let asks = self.passages.last().is_some_and(TranscriptLine::is_request);
        if request.notes_rest && observed.live && asks && self.later.is_none() {
            let call = addressed(store.root(), format!("claudejob answer {}", request.id));
            self.later = Some(format!("· answer: {call}"));
        }
    }
}

/// The raw stream is for programs and stays unchanged unless stdout is a terminal; stderr is for
/// people and is always made harmless.
impl Answer for LogsAnswer {
    fn text(&self) -> String {
        let mut text = note(self.earlier.as_deref());
        text += &self.quiet().unwrap_or_default();
        text + &note(self.later.as_deref())
    }

    fn quiet(&self) -> Option<String> {
        if !self.bytes.is_empty() {
            let mut text = harmless(&String::from_utf8_lossy(&self.bytes));
            if !text.ends_with('\n') {
                text.push('\n');
            }
            return Some(text);
        }
        let mut text = String::new();
        for passage in &self.passages {
            text += &passage_text(passage);
            text.push('\n');
        }
        Some(text)
    }

    fn raw(&self) -> Option<&[u8]> {
        if self.is_raw { Some(&self.bytes) } else { None }
    }
}

/// Returns a note of omitted entries as a line.
fn note(text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{text}\n"),
        None => String::new(),
    }
}

pub(super) fn passage_text(passage: &TranscriptLine) -> String {
    passage_within(passage, columns())
}

/// The names of jobs before the lines of their logs.
pub(super) struct NameColumn {
    /// The names, of the same width, with the separator.
    prefixes: Vec<String>,
    /// The width that is left for the text.
    width: usize,
}

impl NameColumn {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let longest = names.clone().map(str::len).max().unwrap_or_default();
        let width = longest.min(MAX_NAME_WIDTH);
        let mut prefixes = Vec::new();
        for (index, name) in names.enumerate() {
            let prefix = format!("{}{SEPARATOR}", pad(name, width, false));
            prefixes.push(painted(NAME_STYLES[index % NAME_STYLES.len()], &prefix));
        }
        Self { prefixes, width: columns().saturating_sub(width + SEPARATOR.len()).max(20) }
    }

    /// Returns a part of the log of the job with this index.
    pub(super) fn text(&self, index: usize, part: &LogsAnswer) -> String {
        let mut text = String::new();
        if let Some(earlier) = &part.earlier {
            self.push(&mut text, index, PLAIN, earlier);
        }
        for passage in &part.passages {
            text += &self.passage(index, passage);
        }
        text
    }

    /// Returns one passage.
    pub(super) fn passage(&self, index: usize, passage: &TranscriptLine) -> String {
        let mut text = String::new();
        let shown = format!("{}{}", passage.speaker.mark(), harmless(&passage.text));
        self.push(&mut text, index, speaker_style(passage.speaker), &shown);
        text
    }

    fn push(&self, text: &mut String, index: usize, style: Style, shown: &str) {
        for line in wrapped_prose(shown, 0, self.width).lines() {
            text.push_str(&self.prefixes[index]);
            text.push_str(&painted(style, line));
            text.push('\n');
        }
    }
}
