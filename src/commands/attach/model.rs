//! What keys do in `attach`. Pure: a key in, an effect out.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::job::Status;
use crate::output::{BOLD, RED, YELLOW, fit, hanging, painted};
use crate::screen::{InputLine, Key, Picker, PickerStep, fitted};
use crate::text::harmless;

/// Mark before the text that is typed.
const PROMPT: &str = "> ";
const INDENT: &str = "  ";
/// Largest number of lines of the text.
const MAX_TEXT_LINES: usize = 6;
/// Largest number of lines of a note, and of what the keys do.
const MAX_HINT_LINES: usize = 4;
/// Height of a terminal with room for a note or for what the keys do, not for both.
const SMALL_ROWS: usize = 8;

/// Something to do for the person.
#[derive(Debug, PartialEq)]
pub(super) enum AttachEffect {
    /// Sends the message to the live job.
    Send(String),
    /// Answers the request with this id.
    Answer(String, Value),
    Interrupt,
    /// Resumes the ended job, with a message or the default one.
    Resume(Option<String>),
    Leave,
    /// Stops this process until its shell continues it.
    Suspend,
}

/// What the keys are for.
#[derive(Debug, PartialEq)]
enum Focus {
    Line,
    Choices,
    /// Ctrl-C was pressed once.
    ConfirmInterrupt,
    /// A message was typed for a job that has ended.
    ConfirmResume,
}

/// A call that is being made.
#[derive(Debug)]
struct OpenCall {
    /// The text that was typed for it.
    typed: String,
    /// What it does.
    doing: &'static str,
}

/// What a person sees and types below the conversation.
#[derive(Debug)]
pub(super) struct AttachModel {
    status: Status,
    line: InputLine,
    picker: Option<Picker>,
    focus: Focus,
    /// What the last key or call has led to, with styles, until the next key.
    note: Option<String>,
    call: Option<OpenCall>,
}

impl AttachModel {
    pub(super) fn new(status: Status) -> Self {
        Self {
            status,
            line: InputLine::default(),
            picker: None,
            focus: Focus::Line,
            note: None,
            call: None,
        }
    }

    /// Takes the present status of the job.
    pub(super) fn set_status(&mut self, status: Status) {
        if status == self.status {
            return;
        }
        self.status = status;
        let is_over = match self.focus {
            Focus::ConfirmInterrupt => !self.has_turn(),
            Focus::ConfirmResume => status.is_live(),
            _ => false,
        };
        if is_over {
            self.focus = Focus::Line;
        }
    }

    /// Offers the choices for a request. They get the keys unless something is being typed, which
    /// is no answer. Returns whether they get the keys.
    pub(super) fn open_picker(&mut self, picker: Picker) -> bool {
        self.picker = Some(picker);
        if self.focus == Focus::Line && self.line.is_empty() {
            self.focus = Focus::Choices;
        }
        self.focus == Focus::Choices
    }

    pub(super) fn close_picker(&mut self) {
        self.picker = None;
        if self.focus == Focus::Choices {
            self.focus = Focus::Line;
        }
    }

    pub(super) fn picker(&self) -> Option<&Picker> {
        self.picker.as_ref()
    }

    /// Shows a text until the next key.
    pub(super) fn set_note(&mut self, note: &str) {
        self.note = Some(harmless(note));
    }

    /// Takes the result of the call. The text that was typed comes back if it failed.
    pub(super) fn end_call(&mut self, failed: Option<String>) {
        let Some(call) = self.call.take() else { return };
        if let Some(why) = failed {
            self.return_text(&call.typed);
            self.note = Some(painted(RED, &harmless(&why)));
        }
    }

    fn return_text(&mut self, typed: &str) {
        if typed.is_empty() {
            return;
        }
        let text = if self.line.is_empty() {
            typed.to_owned()
        } else {
            format!("{typed}\n{}", self.line.text())
        };
        self.line.set(&text);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.call.is_some()
    }

    /// Returns the text that is neither sent nor being sent.
    pub(super) fn unsent(&self) -> &str {
        self.line.text().trim()
    }

    fn has_turn(&self) -> bool {
        matches!(self.status, Status::Running | Status::Blocked)
    }

    /// Takes a key, and returns what to do.
    #[must_use]
    pub(super) fn handle(&mut self, key: &Key) -> Option<AttachEffect> {
        self.note = None;
        match key {
            Key::Ctrl('z') => return Some(AttachEffect::Suspend),
            Key::Ctrl('d') if self.line.is_empty() => return Some(AttachEffect::Leave),
            Key::Ctrl('c') => return self.interrupt(),
            _ => {}
        }
        match self.focus {
            Focus::ConfirmInterrupt if self.picker.is_some() => {
                self.focus = Focus::Choices;
                return None;
            }
            Focus::ConfirmInterrupt => self.focus = Focus::Line,
            Focus::ConfirmResume => return self.confirm_resume(key),
            Focus::Choices => return self.choose(key),
            Focus::Line => {}
        }
        match key {
            Key::Enter => self.submit(),
            Key::Tab if self.picker.is_some() => {
                self.focus = Focus::Choices;
                None
            }
            Key::Ctrl('d') => {
                self.note = Some("Ctrl-C clears the line, then Ctrl-D leaves".to_owned());
                None
            }
            key => {
                self.line.handle(key);
                None
            }
        }
    }

    /// Ctrl-C clears the line, or asks before it interrupts the turn.
    fn interrupt(&mut self) -> Option<AttachEffect> {
        if self.focus == Focus::ConfirmResume {
            self.focus = Focus::Line;
            return None;
        }
        if !self.line.is_empty() {
            // The arrow keys bring it back.
            self.line.take();
            return None;
        }
        if !self.has_turn() {
            self.note = Some("no turn is running; Ctrl-D leaves".to_owned());
            return None;
        }
        if self.focus != Focus::ConfirmInterrupt {
            self.focus = Focus::ConfirmInterrupt;
            return None;
        }
        self.focus = Focus::Line;
        self.begin_call(String::new(), AttachEffect::Interrupt)
    }

    fn submit(&mut self) -> Option<AttachEffect> {
        let text = self.line.text().trim().to_owned();
        if self.status.is_live() {
            if text.is_empty() {
                return None;
            }
            return self.begin_call(text.clone(), AttachEffect::Send(text));
        }
        self.focus = Focus::ConfirmResume;
        None
    }

    fn confirm_resume(&mut self, key: &Key) -> Option<AttachEffect> {
        match key {
            Key::Enter | Key::Char('y' | 'Y') => {
                self.focus = Focus::Line;
                let text = self.line.text().trim().to_owned();
                let message = if text.is_empty() { None } else { Some(text.clone()) };
                self.begin_call(text, AttachEffect::Resume(message))
            }
            Key::Escape | Key::Char('n' | 'N') => {
                self.focus = Focus::Line;
                None
            }
            _ => None,
        }
    }

    fn choose(&mut self, key: &Key) -> Option<AttachEffect> {
        let Some(picker) = &mut self.picker else {
            self.focus = Focus::Line;
            return None;
        };
        match picker.handle(key) {
            PickerStep::Open => None,
            PickerStep::Closed => {
                self.focus = Focus::Line;
                None
            }
            PickerStep::Answer(response) => {
                let request = picker.request_id().to_owned();
                let effect = AttachEffect::Answer(request, response);
                let effect = self.begin_call(String::new(), effect);
                if effect.is_some() {
                    self.close_picker();
                }
                effect
            }
        }
    }

    /// Begins a call for a text that was typed, unless another one is being made.
    fn begin_call(&mut self, typed: String, effect: AttachEffect) -> Option<AttachEffect> {
        if self.is_busy() {
            self.note = Some("the last call has not ended yet".to_owned());
            return None;
        }
        if typed == self.line.text().trim() {
            self.line.take();
        }
        let doing = match &effect {
            AttachEffect::Answer(..) => "answering …",
            AttachEffect::Interrupt => "interrupting …",
            AttachEffect::Resume(_) => "resuming …",
            _ => "sending …",
        };
        self.call = Some(OpenCall { typed, doing });
        Some(effect)
    }

    /// Returns the lines below the conversation, and column and line of the cursor. `job` is the
    /// line about the job.
    pub(super) fn view(
        &self,
        job: &str,
        width: usize,
        rows: usize,
    ) -> (Vec<String>, (usize, usize)) {
        let mut lines = fitted(&heading(job, width), width);
        lines.truncate(1);
        let mut cursor = None;
        let hints = self.hints(width, rows);
        let shows_line = self.focus != Focus::Choices;
        let text =
            self.line.view(width.saturating_sub(2), MAX_TEXT_LINES.min(rows.saturating_sub(3)));
        if let Some(picker) = &self.picker {
            let text_lines = if shows_line { text.lines.len() } else { 0 };
            let room = rows.saturating_sub(1 + hints.len() + text_lines);
            let view = picker.view(width, room);
            if !shows_line {
                let (x, y) = view.cursor.unwrap_or((0, view.lines.len().saturating_sub(1)));
                cursor = Some((x, lines.len() + y));
            }
            lines.extend(view.lines);
        }
        if shows_line {
            cursor = Some((text.cursor.0 + 2, lines.len() + text.cursor.1));
            for (index, line) in text.lines.iter().enumerate() {
                let mark = if index == 0 { PROMPT } else { INDENT };
                lines.push(format!("{mark}{line}"));
            }
        }
        lines.extend(hints);
        (lines, cursor.unwrap_or_default())
    }

    /// Returns the lines below the text: a question, or a note and what the keys do.
    fn hints(&self, width: usize, rows: usize) -> Vec<String> {
        let wrapped = |text: &str| {
            let mut lines = fitted(&hanging(text, 0, width), width);
            lines.truncate((rows / 5).clamp(1, MAX_HINT_LINES));
            lines
        };
        if let Some(question) = self.question() {
            return wrapped(&painted(YELLOW.bold(), &question));
        }
        let doing = self.call.as_ref().map(|call| call.doing);
        let note = self.note.as_deref().or(doing);
        let mut lines = note.map(wrapped).unwrap_or_default();
        if lines.is_empty() || rows > SMALL_ROWS {
            lines.extend(wrapped(self.keys()));
        }
        lines
    }

    fn question(&self) -> Option<String> {
        match self.focus {
            Focus::ConfirmInterrupt => Some(
                "Interrupt the turn? Ctrl-C again interrupts, any other key goes on".to_owned(),
            ),
            Focus::ConfirmResume => {
                let with =
                    if self.line.text().trim().is_empty() { "" } else { " with this message" };
                Some(format!("This job has {}. Resume it{with}? [y/n]", self.ended_word()))
            }
            Focus::Line | Focus::Choices => None,
        }
    }

    /// Returns what the keys do.
    fn keys(&self) -> &'static str {
        match (&self.focus, &self.picker, self.status) {
            (Focus::Choices, ..) => "↑↓ choose · Enter answers · Esc: type a message instead",
            (_, Some(_), _) => "Tab: answer the request · Enter sends a message · Ctrl-D leaves",
            (_, _, status) if !status.is_live() => {
                "Enter resumes the job with a message · Ctrl-D leaves"
            }
            (_, _, Status::Idle) => "Enter begins a turn · Ctrl-D leaves",
            (_, _, Status::Running | Status::Blocked) => {
                "Enter sends · Ctrl-C interrupts the turn · Ctrl-D leaves"
            }
            _ => "Enter sends, for when the job runs · Ctrl-D leaves",
        }
    }

    fn ended_word(&self) -> &'static str {
        match self.status {
            Status::Killed => "been killed",
            Status::Failed => "failed",
            _ => "completed",
        }
    }
}

/// Returns a rule across the terminal with the line about the job.
fn heading(job: &str, width: usize) -> String {
    let job = fit(job, width.saturating_sub(6));
    let rest = width.saturating_sub(job.width() + 4);
    format!("── {} {}", painted(BOLD, &job), "─".repeat(rest))
}

#[cfg(test)]
mod tests;
