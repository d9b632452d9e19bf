//! What keys do.

use super::{JobVerb, TopEffect, TopJob, TopMode, TopModel, TopNotice, TypedFor};
use crate::job::{JobId, Status};
use crate::screen::{InputLine, Key, Picker, PickerStep};

/// Most lines that the conversation is scrolled back.
const MAX_SCROLLED: usize = 100_000;

impl TopModel {
    /// Takes a key.
    pub(super) fn key(&mut self, key: &Key) -> Vec<TopEffect> {
        self.notice = None;
        match key {
            Key::Ctrl('z') => return vec![TopEffect::Suspend],
            Key::Ctrl('c') => return self.cancel_or_quit(),
            _ => {}
        }
        let effects = match std::mem::take(&mut self.mode) {
            TopMode::Choosing => self.command(key),
            TopMode::Typing(purpose, line) => self.typed(purpose, line, key),
            TopMode::Answering(id, picker) => self.picked(id, picker, key),
            TopMode::ConfirmingKill(id) => match key {
                Key::Char('y' | 'Y') => vec![TopEffect::Kill(id)],
                _ => self.note(format!("{id} was not killed")),
            },
            TopMode::Help => Vec::new(),
        };
        self.type_unsent();
        effects
    }

    fn cancel_or_quit(&mut self) -> Vec<TopEffect> {
        match std::mem::take(&mut self.mode) {
            TopMode::Choosing => return vec![TopEffect::Quit],
            TopMode::Typing(TypedFor::Filter(before), _) => self.set_filter(&before),
            _ => {}
        }
        Vec::new()
    }

    fn command(&mut self, key: &Key) -> Vec<TopEffect> {
        let page = usize::from(self.layout().rows()).max(1);
        let lines = usize::from(self.layout().conversation.height).max(2) - 1;
        match key {
            Key::Char('q') => return vec![TopEffect::Quit],
            Key::Char('?' | 'h') => self.mode = TopMode::Help,
            Key::Char('/') => {
                let purpose = TypedFor::Filter(self.filter.clone());
                self.mode = TopMode::Typing(purpose, InputLine::default());
                self.set_filter("");
            }
            Key::Escape => self.set_filter(""),
            Key::Up | Key::Down | Key::Char('j' | 'k') if self.chosen.is_none() => {
                self.choose(self.row);
            }
            Key::Up | Key::Char('k') => self.choose(self.row.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.choose(self.row.saturating_add(1)),
            Key::PageUp => self.choose(self.row.saturating_sub(page)),
            Key::PageDown => self.choose(self.row.saturating_add(page)),
            Key::Home | Key::Char('g') => self.choose(0),
            Key::End | Key::Char('G') => self.choose(usize::MAX),
            Key::Char('[') | Key::Ctrl('u') => self.scroll(lines),
            Key::Char(']') | Key::Ctrl('d') => self.scroll_down(lines),
            key => return self.action(key),
        }
        Vec::new()
    }

    fn scroll(&mut self, lines: usize) {
        self.scrolled = (self.scrolled + lines).min(MAX_SCROLLED);
    }

    fn scroll_down(&mut self, lines: usize) {
        self.scrolled = self.scrolled.saturating_sub(lines);
    }

    /// Does what a key means for the chosen job.
    fn action(&mut self, key: &Key) -> Vec<TopEffect> {
        const ACTIONS: &str = "asiKxrpdo";
        let is_action = match key {
            Key::Char(c) => ACTIONS.contains(*c),
            key => *key == Key::Enter,
        };
        if !is_action {
            return Vec::new();
        }
        let Some(job) = self.chosen_job().cloned() else {
            return self.refuse("no job is chosen");
        };
        let id = job.id.clone();
        match key {
            Key::Enter => vec![TopEffect::Run(JobVerb::Attach, id)],
            Key::Char('d') => vec![TopEffect::Run(JobVerb::Diff, id)],
            Key::Char('o') => vec![TopEffect::Run(JobVerb::Open, id)],
            Key::Char('a') if job.status == Some(Status::Blocked) => vec![TopEffect::Ask(id)],
            Key::Char('a') => self.refuse(&format!("{id} asks nothing")),
            Key::Char('r') if job.is_live() => {
                self.refuse(&format!("{id} is {}: s sends a message", state(&job)))
            }
            Key::Char('r') => self.type_for(TypedFor::Continuation(id)),
            Key::Char('s') if !job.is_live() => {
                self.refuse(&format!("{}: r continues it", has_ended(&job)))
            }
            Key::Char('s') => self.type_for(TypedFor::Message(id)),
            _ if !job.is_live() => self.refuse(&has_ended(&job)),
            Key::Char('i') => vec![TopEffect::Interrupt(id)],
            Key::Char('p') if self.queue.paused_jobs.contains(&id) => {
                vec![TopEffect::Unpause(id)]
            }
            Key::Char('p') => vec![TopEffect::Pause(id)],
            _ => {
                self.mode = TopMode::ConfirmingKill(id);
                Vec::new()
            }
        }
    }

    fn type_for(&mut self, purpose: TypedFor) -> Vec<TopEffect> {
        self.mode = TopMode::Typing(purpose, InputLine::default());
        Vec::new()
    }

    /// Takes a key of a line that is typed.
    fn typed(&mut self, purpose: TypedFor, mut line: InputLine, key: &Key) -> Vec<TopEffect> {
        match (key, purpose) {
            (Key::Escape, TypedFor::Filter(before)) => self.set_filter(&before),
            (Key::Enter, TypedFor::Filter(_)) => {}
            (Key::Escape, _) => return self.note("nothing was sent".to_owned()),
            (Key::Enter, purpose) => return self.submit(purpose, &line.take()),
            (key, purpose) => {
                line.handle(key);
                if let TypedFor::Filter(_) = purpose {
                    self.set_filter(line.text());
                }
                self.mode = TopMode::Typing(purpose, line);
            }
        }
        Vec::new()
    }

    /// Takes a typed message.
    fn submit(&mut self, purpose: TypedFor, text: &str) -> Vec<TopEffect> {
        let message = if text.trim().is_empty() { None } else { Some(text.to_owned()) };
        match (purpose, message) {
            (TypedFor::Message(id), Some(message)) => vec![TopEffect::Send(id, message)],
            (TypedFor::Continuation(id), message) => vec![TopEffect::Continue(id, message)],
            _ => self.note("nothing was sent".to_owned()),
        }
    }

    /// Takes a key of the choices for a request.
    fn picked(&mut self, id: JobId, mut picker: Picker, key: &Key) -> Vec<TopEffect> {
        match picker.handle(key) {
            PickerStep::Open => self.mode = TopMode::Answering(id, picker),
            PickerStep::Answer(response) => {
                let request_id = picker.request_id().to_owned();
                return vec![TopEffect::Answer { id, request_id, response }];
            }
            PickerStep::Closed => return self.note(format!("{id} was not answered")),
        }
        Vec::new()
    }

    /// Shows the choices for the request of a job, unless a key was typed since they were asked for.
    pub(super) fn open_picker(&mut self, id: JobId, picker: Picker) {
        if matches!(self.mode, TopMode::Choosing) && self.chosen.as_ref() == Some(&id) {
            self.mode = TopMode::Answering(id, picker);
        }
    }

    fn note(&mut self, text: String) -> Vec<TopEffect> {
        self.notice = Some(TopNotice { text, is_error: false });
        Vec::new()
    }

    fn refuse(&mut self, text: &str) -> Vec<TopEffect> {
        self.notice = Some(TopNotice { text: text.to_owned(), is_error: true });
        Vec::new()
    }

    /// Shows a message that could not be sent, to be sent again, when nothing else is typed.
    pub(super) fn type_again(&mut self, purpose: TypedFor, text: &str) {
        self.unsent.push((purpose, text.to_owned()));
        self.type_unsent();
    }

    fn type_unsent(&mut self) {
        if matches!(self.mode, TopMode::Choosing)
            && let Some((purpose, text)) = self.unsent.pop()
        {
            let mut line = InputLine::default();
            line.set(&text);
            self.mode = TopMode::Typing(purpose, line);
        }
    }
}

fn has_ended(job: &TopJob) -> String {
    format!("{} has ended ({})", job.id, state(job))
}

fn state(job: &TopJob) -> &'static str {
    job.status.map_or("unreadable", Status::as_str)
}
