//! Draws the state into a buffer.

use anstyle::Style;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr;

use super::header::Part;
use super::table::{MARK_WIDTH, TopTable, now_text};
use super::{TopMode, TopModel, TypedFor, help};
use crate::output::{BOLD, DIM, PLAIN, RED, YELLOW, fit, hanging, pad, short_path};
use crate::screen::Picker;
use crate::screen::{conversation_lines, screen_style, styled_lines};
use crate::text::{harmless, one_line};

const SEPARATOR: &str = " · ";
/// Most lines of a notice, which has the reason of an error at its end.
const MAX_NOTICE_ROWS: usize = 4;
/// Longest text of a line, which is cut at the width of the screen anyway.
const MAX_LINE_CHARS: usize = 500;
/// Most rows of a line that is typed.
pub(super) const MAX_TYPED_ROWS: u16 = 5;

/// Draws one line after the other into a part of a screen.
struct Pen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    /// The next position, from the left upper corner of the area.
    x: u16,
    y: u16,
}

impl<'a> Pen<'a> {
    fn new(buffer: &'a mut Buffer, area: Rect) -> Self {
        Self { buffer, area, x: 0, y: 0 }
    }

    fn put(&mut self, style: Style, text: &str) {
        if self.y >= self.area.height || self.x >= self.area.width {
            return;
        }
        let width = usize::from(self.area.width - self.x);
        let (x, y) = (self.area.x + self.x, self.area.y + self.y);
        let style = screen_style(style);
        let (end, _) = self.buffer.set_stringn(x, y, text, width, style);
        self.x = end - self.area.x;
    }

    fn next_line(&mut self) {
        self.x = 0;
        self.y += 1;
    }

    /// Returns a position on the screen, if it is within the area.
    fn position(&self, x: usize, y: usize) -> Option<(u16, u16)> {
        let (x, y) = (u16::try_from(x).ok()?, u16::try_from(y).ok()?);
        let is_within = x < self.area.width && y < self.area.height;
        if is_within { Some((self.area.x + x, self.area.y + y)) } else { None }
    }

    /// Puts as many parts as fit, with separators between them.
    fn put_fitting(&mut self, parts: &[Part]) {
        for (style, text) in parts {
            let gap = if self.x == 0 { 0 } else { SEPARATOR.width() };
            let left = usize::from(self.area.width.saturating_sub(self.x));
            if self.x > 0 && gap + text.width() > left {
                continue;
            }
            if gap > 0 {
                self.put(DIM, SEPARATOR);
            }
            self.put(*style, text);
        }
    }
}

impl TopModel {
    /// Draws the screen. Returns where the cursor is shown, if a line is typed.
    pub(crate) fn draw(&self, buffer: &mut Buffer) -> Option<(u16, u16)> {
        let layout = self.layout();
        let mut cursor = None;
        self.draw_header(&mut Pen::new(buffer, layout.header));
        if matches!(self.mode, TopMode::Help) {
            let height = self.size.1.saturating_sub(layout.header.height + layout.footer.height);
            let area = Rect { y: layout.header.height, height, ..layout.header };
            draw_help(&mut Pen::new(buffer, area));
        } else {
            let table = TopTable::new(self, usize::from(self.size.0));
            Pen::new(buffer, layout.heads).put(BOLD, &table.heads());
            self.draw_list(&table, &mut Pen::new(buffer, layout.list));
            self.draw_title(&mut Pen::new(buffer, layout.title));
            let pen = &mut Pen::new(buffer, layout.conversation);
            if let TopMode::Answering(_, picker) = &self.mode {
                cursor = draw_picker(picker, pen);
            } else {
                self.draw_conversation(pen);
            }
        }
        self.draw_footer(&mut Pen::new(buffer, layout.footer)).or(cursor)
    }

    fn draw_header(&self, pen: &mut Pen<'_>) {
        let (parts, notes) = (self.header_parts(), self.header_notes());
        if pen.area.height > 1 || notes.is_empty() {
            pen.put_fitting(&parts);
            pen.next_line();
            pen.put_fitting(&notes);
        } else {
            // The notes are more important than the last counts.
            let (first, rest) = parts.split_at(parts.len().min(2));
            pen.put_fitting(&[first, notes.as_slice(), rest].concat());
        }
    }

    fn draw_list(&self, table: &TopTable, pen: &mut Pen<'_>) {
        if self.shown.is_empty() {
            let text = match self.filter.is_empty() {
                true => "No jobs. Start one: claudejob run \"PROMPT\"",
                false => "No job has these words. Esc shows all jobs.",
            };
            pen.put(DIM, text);
            return;
        }
        for (index, row) in table.rows().enumerate() {
            let is_chosen = self.chosen.is_some() && self.first_row + index == self.row;
            pen.put(BOLD, if is_chosen { "> " } else { "  " });
            for (style, text) in row {
                let style = if is_chosen { style | anstyle::Effects::BOLD } else { style };
                pen.put(style, &text);
            }
            if is_chosen {
                let y = pen.area.y + pen.y;
                let row = Rect { y, height: 1, ..pen.area };
                let reversed = ratatui::style::Style::new().add_modifier(Modifier::REVERSED);
                pen.buffer.set_style(row, reversed);
            }
            pen.next_line();
        }
    }

    fn draw_title(&self, pen: &mut Pen<'_>) {
        let width = usize::from(pen.area.width);
        let Some(job) = self.chosen_job() else {
            pen.put(DIM, &"─".repeat(width));
            return;
        };
        pen.put(DIM, "── ");
        let mut parts = vec![(BOLD, job.id.to_string())];
        if let Some(model) = &job.place.model {
            parts.push((PLAIN, harmless(model)));
        }
        if !job.place.folder.is_empty() {
            parts.push((PLAIN, harmless(&short_path(&job.place.folder))));
        }
        for label in &job.place.labels {
            parts.push((PLAIN, harmless(label)));
        }
        if self.scrolled > 0 {
            parts.push((YELLOW, "] scrolls down".to_owned()));
        }
        let first = parts.remove(0);
        pen.put(first.0, &first.1);
        pen.put_fitting(&parts);
        pen.put(PLAIN, " ");
        pen.put(DIM, &"─".repeat(width));
    }

    fn draw_conversation(&self, pen: &mut Pen<'_>) {
        let Some(job) = self.chosen_job() else { return };
        let height = usize::from(pen.area.height);
        if self.conversation.is_empty() {
            let text = if job.prompt.is_empty() { now_text(job) } else { job.prompt.clone() };
            pen.put(DIM, &format!("> {}", one_line(&harmless(&text), MAX_LINE_CHARS)));
            return;
        }
        let width = usize::from(pen.area.width);
        let wanted = height + self.scrolled;
        let mut lines = Vec::new();
        // From the end, because only the last lines are shown.
        for entry in self.conversation.iter().rev() {
            lines.extend(conversation_lines(entry, width).into_iter().rev());
            if lines.len() >= wanted {
                break;
            }
        }
        let scrolled = self.scrolled.min(lines.len().saturating_sub(height));
        let shown = lines.iter().skip(scrolled).take(height);
        for (index, line) in shown.rev().enumerate() {
            let y = pen.area.y + u16::try_from(index).unwrap_or(u16::MAX);
            pen.buffer.set_line(pen.area.x, y, line, pen.area.width);
        }
    }

    /// Returns the lines of the notice, unless a question is in its place.
    pub(super) fn notice_lines(&self) -> Vec<String> {
        let (Some(notice), TopMode::Choosing | TopMode::Typing(..) | TopMode::Help) =
            (&self.notice, &self.mode)
        else {
            return Vec::new();
        };
        let text = one_line(&harmless(&notice.text), MAX_LINE_CHARS);
        let lines = hanging(&text, 0, usize::from(self.size.0));
        let rows = usize::from(self.size.1 / 5).clamp(1, MAX_NOTICE_ROWS);
        lines.lines().take(rows).map(str::to_owned).collect()
    }

    fn draw_footer(&self, pen: &mut Pen<'_>) -> Option<(u16, u16)> {
        let is_error = self.notice.as_ref().is_some_and(|notice| notice.is_error);
        let notice = self.notice_lines();
        for line in &notice {
            pen.put(if is_error { RED } else { BOLD }, line);
            pen.next_line();
        }
        match &self.mode {
            TopMode::Typing(purpose, line) => {
                let label = label(purpose, self.size.0);
                pen.put(BOLD, &label);
                let view = line.view(usize::from(self.size.0 - pen.x), usize::from(MAX_TYPED_ROWS));
                let (left, above) = (pen.x, usize::from(pen.y));
                for text in &view.lines {
                    pen.x = left;
                    pen.put(PLAIN, text);
                    pen.y += 1;
                }
                return pen.position(usize::from(left) + view.cursor.0, above + view.cursor.1);
            }
            TopMode::Answering(..) => {
                pen.put(DIM, "Enter chooses · Esc: not now");
            }
            TopMode::ConfirmingKill(id) => {
                pen.put(YELLOW.bold(), &format!("Kill {id}? y: yes, any other key: no"));
            }
            _ if !notice.is_empty() => {}
            _ if !self.filter.is_empty() => {
                let filter = harmless(&self.filter);
                let count = format!("{} of {} jobs", self.shown.len(), self.jobs.len());
                pen.put_fitting(&[
                    (BOLD, format!("/{filter}")),
                    (PLAIN, count),
                    (DIM, "Esc: all jobs".to_owned()),
                ]);
            }
            _ => {
                let keys = help::SHORT.iter().map(|(key, what)| (DIM, format!("{key} {what}")));
                pen.put_fitting(&keys.collect::<Vec<Part>>());
            }
        }
        None
    }
}

/// Returns what is before a line that is typed.
pub(super) fn label(purpose: &TypedFor, width: u16) -> String {
    let label = match purpose {
        TypedFor::Filter(_) => "/".to_owned(),
        TypedFor::Message(id) => format!("message to {id}: "),
        TypedFor::Continuation(id) => format!("continue {id} with (or Enter): "),
    };
    // The line is more important than what it is for.
    fit(&label, usize::from(width / 2))
}

fn draw_picker(picker: &Picker, pen: &mut Pen<'_>) -> Option<(u16, u16)> {
    let (width, height) = (usize::from(pen.area.width), usize::from(pen.area.height));
    let view = picker.view(width, height);
    for (y, text) in (pen.area.y..pen.area.bottom()).zip(&view.lines) {
        if let Some(line) = styled_lines(text, width).first() {
            pen.buffer.set_line(pen.area.x, y, line, pen.area.width);
        }
    }
    let (x, y) = view.cursor?;
    pen.position(x, y)
}

fn draw_help(pen: &mut Pen<'_>) {
    let width = help::KEYS.iter().map(|(key, _)| key.width()).max().unwrap_or_default();
    for (key, what) in help::KEYS {
        pen.put(PLAIN, &" ".repeat(MARK_WIDTH));
        pen.put(BOLD, &pad(key, width + MARK_WIDTH, false));
        pen.put(PLAIN, what);
        pen.next_line();
    }
}
