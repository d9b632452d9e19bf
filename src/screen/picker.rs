//! The choices with which a person answers a request of the agent. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::{InputLine, Key, fitted};
use crate::job::{Question, allow_response, denied_by_person};
use crate::output::{BOLD, CYAN, DIM, hanging, painted, wrapped};
use crate::text::{harmless, one_line};

/// The mark of the chosen line, and the space for it.
const CURSOR: &str = "❯ ";
const NO_CURSOR: &str = "  ";
const OWN_TEXT: &str = "Another answer: type it";
const ALLOW: &str = "Allow";
const DENY: &str = "Deny";
const DENY_BECAUSE: &str = "Deny, and say why";
/// Largest number of lines of a text that is being typed.
const MAX_TEXT_LINES: usize = 5;

/// What a key did.
#[derive(Debug, PartialEq)]
pub(crate) enum PickerStep {
    /// The picker stays open.
    Open,
    /// The answer is complete: the response in the format of claude's control protocol.
    Answer(Value),
    /// The person does not answer now.
    Closed,
}

/// The choices for one request.
#[derive(Debug)]
pub(crate) struct Picker {
    request_id: String,
    input: Value,
    /// What a tool call would do, with styles; empty for questions.
    description: String,
    /// The questions; none for a tool call.
    questions: Vec<Question>,
    answers: BTreeMap<String, String>,
    /// Index of the chosen line.
    at: usize,
    /// Indices of the options that are marked, if several can be.
    marked: BTreeSet<usize>,
    /// The text of an answer or a reason, while it is typed.
    text: Option<InputLine>,
}

/// The lines of a picker, with styles.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickerView {
    pub lines: Vec<String>,
    /// Column and line of the cursor, if a text is being typed.
    pub cursor: Option<(usize, usize)>,
}

impl Picker {
    /// Offers the choices for a request with this id and complete input. `description` says what a
    /// tool call would do.
    pub(crate) fn new(
        request_id: String,
        input: Value,
        questions: Vec<Question>,
        description: String,
    ) -> Self {
        Self {
            request_id,
            input,
            description,
            questions,
            answers: BTreeMap::new(),
            at: 0,
            marked: BTreeSet::new(),
            text: None,
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Takes a key.
    pub(crate) fn handle(&mut self, key: &Key) -> PickerStep {
        if let Some(text) = &mut self.text {
            return match key {
                Key::Enter => {
                    let typed = text.text().trim().to_owned();
                    self.take_text(&typed)
                }
                Key::Escape => {
                    self.text = None;
                    PickerStep::Open
                }
                key => {
                    text.handle(key);
                    PickerStep::Open
                }
            };
        }
        let last = self.count() - 1;
        match key {
            Key::Escape | Key::Char('q') => return PickerStep::Closed,
            Key::Up | Key::Char('k') => self.at = self.at.checked_sub(1).unwrap_or(last),
            Key::Down | Key::Tab | Key::Char('j') => {
                self.at = if self.at == last { 0 } else { self.at + 1 };
            }
            Key::Home => self.at = 0,
            Key::End => self.at = last,
            Key::Char(' ') if self.takes_several() => self.mark(),
            Key::Enter => return self.choose(),
            Key::Char('y') if self.questions.is_empty() => {
                self.at = 0;
                return self.choose();
            }
            Key::Char('n') if self.questions.is_empty() => self.at = 1,
            Key::Char(digit @ '1'..='9') => {
                let index = *digit as usize - '1' as usize;
                if index <= last {
                    self.at = index;
                    if self.takes_several() && self.at < last {
                        self.mark();
                    } else {
                        return self.choose();
                    }
                }
            }
            _ => {}
        }
        PickerStep::Open
    }

    fn question(&self) -> Option<&Question> {
        self.questions.get(self.answers.len())
    }

    fn takes_several(&self) -> bool {
        self.question().is_some_and(|question| question.multi_select)
    }

    /// Returns the number of lines that can be chosen.
    fn count(&self) -> usize {
        self.question().map_or(3, |question| question.options.len() + 1)
    }

    fn mark(&mut self) {
        if self.at + 1 < self.count() && !self.marked.remove(&self.at) {
            self.marked.insert(self.at);
        }
    }

    /// Takes the chosen line, or the marked ones.
    fn choose(&mut self) -> PickerStep {
        let Some(question) = self.question() else {
            return match self.at {
                0 => PickerStep::Answer(allow_response(&self.input, &BTreeMap::new())),
                1 => PickerStep::Answer(denied_by_person("")),
                _ => self.begin_text(),
            };
        };
        if self.at == question.options.len() {
            return self.begin_text();
        }
        let chosen =
            if self.marked.is_empty() { BTreeSet::from([self.at]) } else { self.marked.clone() };
        let answer = labels(question, &chosen).join(", ");
        self.answer(answer)
    }

    fn begin_text(&mut self) -> PickerStep {
        self.text = Some(InputLine::default());
        PickerStep::Open
    }

    /// Takes the typed answer or reason. Marked options come before it.
    fn take_text(&mut self, typed: &str) -> PickerStep {
        let Some(question) = self.question() else {
            return PickerStep::Answer(denied_by_person(typed));
        };
        if typed.is_empty() {
            return PickerStep::Open;
        }
        let mut parts = labels(question, &self.marked);
        parts.push(typed);
        let answer = parts.join(", ");
        self.answer(answer)
    }

    fn answer(&mut self, answer: String) -> PickerStep {
        let Some(question) = self.question() else { return PickerStep::Open };
        self.answers.insert(question.question.clone(), answer);
        (self.at, self.text) = (0, None);
        self.marked.clear();
        if self.question().is_some() {
            return PickerStep::Open;
        }
        PickerStep::Answer(allow_response(&self.input, &self.answers))
    }

    /// Returns the lines at this size. The text above the choices is cut if it is too long.
    pub(crate) fn view(&self, width: usize, rows: usize) -> PickerView {
        let mut choices = Vec::new();
        let mut at = (0, 0);
        for index in 0..self.count() {
            let lines = self.choice_lines(index, width);
            if index == self.at {
                at = (choices.len(), lines.len());
            }
            choices.extend(lines);
        }
        let mut cursor = None;
        if let Some(text) = &self.text {
            let view = text.view(width.saturating_sub(4), MAX_TEXT_LINES.min(rows));
            cursor = Some((view.cursor.0 + 4, choices.len() + view.cursor.1));
            at = (choices.len(), view.lines.len());
            for (index, line) in view.lines.iter().enumerate() {
                choices.push(format!("  {} {line}", if index == 0 { '>' } else { ' ' }));
            }
        }
        let mut lines = fitted(&self.heading(width), width);
        let least = usize::from(rows > at.1);
        let room = rows.saturating_sub(choices.len()).max(least);
        if lines.len() > room {
            lines.truncate(room);
            if room > 1 {
                lines[room - 1] = painted(DIM, "…");
            }
        }
        // The chosen line stays visible.
        let room = rows.saturating_sub(lines.len());
        let hidden = (at.0 + at.1).saturating_sub(room);
        choices.drain(..hidden);
        choices.truncate(room);
        let above = lines.len();
        lines.extend(choices);
        PickerView { lines, cursor: cursor.map(|(x, y)| (x, above + y - hidden)) }
    }

    /// Returns the text above the choices.
    fn heading(&self, width: usize) -> String {
        let Some(question) = self.question() else {
            // What follows the first line is code.
            let (first, rest) =
                self.description.split_once('\n').unwrap_or((&self.description, ""));
            return hanging(first, 0, width) + "\n" + rest;
        };
        let mut text = painted(BOLD, &harmless(&question.question));
        if self.questions.len() > 1 {
            let of = format!("{} of {}: ", self.answers.len() + 1, self.questions.len());
            text = of + &text;
        }
        if question.multi_select {
            text += " (space marks, Enter answers)";
        }
        hanging(&text, 0, width)
    }

    /// Returns the lines of a choice.
    fn choice_lines(&self, index: usize, width: usize) -> Vec<String> {
        let (label, description) = self.choice(index);
        let cursor = if index == self.at { CURSOR } else { NO_CURSOR };
        let mark = match (
            self.takes_several() && index + 1 < self.count(),
            self.marked.contains(&index),
        ) {
            (true, true) => "[x] ",
            (true, false) => "[ ] ",
            (false, _) => "",
        };
        let mut shown = format!("{cursor}{}. {mark}{label}", index + 1);
        let indent = cursor.width() + 3;
        if !description.is_empty() {
            shown = format!("{shown}: {description}");
        }
        let mut lines = Vec::new();
        for (at, line) in wrapped(&shown, width.saturating_sub(indent).max(8)).iter().enumerate() {
            let line = match at {
                0 if index != self.at => format!("{NO_CURSOR}{line}"),
                0 => line.clone(),
                _ => format!("{}{line}", " ".repeat(indent)),
            };
            lines.extend(fitted(&line, width));
        }
        if index == self.at {
            lines = lines.iter().map(|line| painted(CYAN.bold(), line)).collect();
        }
        lines
    }

    /// Returns the label and the description of a choice.
    fn choice(&self, index: usize) -> (String, String) {
        let Some(question) = self.question() else {
            return ([ALLOW, DENY, DENY_BECAUSE][index].to_owned(), String::new());
        };
        match question.options.get(index) {
            Some(option) => {
                let text = |text: &str, length| harmless(&one_line(text, length));
                (text(&option.label, 100), text(&option.description, 200))
            }
            None => (OWN_TEXT.to_owned(), String::new()),
        }
    }
}

fn labels<'a>(question: &'a Question, indices: &BTreeSet<usize>) -> Vec<&'a str> {
    let options = indices.iter().filter_map(|index| question.options.get(*index));
    options.map(|option| option.label.as_str()).collect()
}

#[cfg(test)]
mod tests;
