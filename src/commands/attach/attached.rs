//! A job that is shown on a terminal, with a line to type in.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::calls::Caller;
use super::model::{AttachEffect, AttachModel};
use crate::clock;
use crate::commands::Call;
use crate::commands::answer;
use crate::commands::engine_jobs::Ask;
use crate::commands::logs::{ConversationFeed, FeedOptions, LogLimits, LogsRequest, logs};
use crate::commands::observe::{Observed, observe};
use crate::commands::status::status_view;
use crate::commands::watch::{Notice, Watch, exit_status_for};
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Status};
use crate::output::{Answer, columns, job_line, passage_within, print_note, print_text, rows};
use crate::process::{self, AwaitedSignals};
use crate::screen::{InlineArea, Key, Keyboard, RawTerminal};
use crate::store::{JobDir, OUTPUT, RECORD, Store, addressed};
use crate::stream::transcript::TranscriptLine;
use crate::text::harmless;

/// Number of entries of the conversation that are shown at first.
const FIRST_ENTRIES: usize = 20;
/// Interval between updates of the times.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Largest width of the lines that are drawn in place.
const MAX_WIDTH: usize = 1_000;
/// Time limit for the last call when the command ends.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Signals that end the command, also while nobody reads its output.
const END_SIGNALS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGHUP];
const OTHER_SIGNALS: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH];

/// A job on the terminal.
pub(super) struct AttachedJob {
    store: Store,
    id: JobId,
    dir: JobDir,
    watch: Watch,
    feed: ConversationFeed,
    caller: Caller,
    model: AttachModel,
    /// The attempt whose verdict was shown.
    shown_end: Option<u32>,
    /// Ids of the requests that were answered here.
    answered: Vec<String>,
    display: AttachedDisplay,
}

/// What is drawn on the terminal.
struct AttachedDisplay {
    terminal: RawTerminal,
    /// Dropped before a program that uses the terminal.
    keyboard: Option<Keyboard>,
    area: InlineArea,
    /// Text for above the area that was not printed yet.
    above: String,
    /// The lines of the area and the cursor, as they are drawn.
    drawn: (Vec<String>, (usize, usize)),
}

impl AttachedJob {
    /// Takes the terminal.
    pub(super) fn new(call: &Call, store: Store, id: JobId) -> Result<Self, Error> {
        let observed = observe(&store, &id)?;
        let request = LogsRequest {
            tail: FIRST_ENTRIES,
            since: None,
            notes_rest: true,
            limits: LogLimits { max_bytes: None, max_chars: None },
            ..LogsRequest::from_offset(id.clone(), 0)
        };
        let mut first = logs(&store, &request)?;
        first.later = None;
        first.passages.retain(|passage| !passage.is_request());
        let options = FeedOptions { without_requests: true, holds_turns: true };
        let feed = ConversationFeed::new(id.clone(), first.next_offset, options);
        let end_signals = AwaitedSignals::keep(&END_SIGNALS).map_err(Error::Signals)?;
        let signals = AwaitedSignals::keep(&OTHER_SIGNALS).map_err(Error::Signals)?;
        process::reap_in_background();
        let dir = store.job(&id);
        let mut watch = Watch::for_files(&dir, &[OUTPUT, RECORD]);
        watch.forward(signals);
        watch.forward_or_exit(end_signals, left_running(&store, &id));
        let caller = Caller::new(store.clone(), id.clone(), call.env.clone(), watch.waker());
        let shown_end = first.has_verdict().then_some(observed.record.attempt.number);
        let terminal = RawTerminal::inline().map_err(Error::Output)?;
        let keyboard = Some(watch.read_keys().map_err(Error::Output)?);
        let display = AttachedDisplay {
            terminal,
            keyboard,
            area: InlineArea::default(),
            above: first.text(),
            drawn: (Vec::new(), (0, 0)),
        };
        let model = AttachModel::new(observed.record.status);
        Ok(Self {
            store,
            id,
            dir,
            watch,
            feed,
            caller,
            model,
            shown_end,
            answered: Vec::new(),
            display,
        })
    }

    /// Shows the job until the person leaves.
    pub(super) fn run(mut self) -> Result<ExitStatus, Error> {
        let left = self.follow();
        let deadline = Instant::now() + CALL_TIMEOUT;
        // A message that was sent with the last key must arrive.
        while self.model.is_busy() && left.is_ok() {
            match self.watch.next_until(Some(deadline)) {
                Some(Notice::Done) => self.take_result(),
                Some(_) => {}
                None => break,
            }
        }
        let is_live = observe(&self.store, &self.id).is_ok_and(|observed| observed.live);
        let cleared = self.display.area.clear();
        self.display.keyboard = None;
        drop(self.display);
        match left {
            // The terminal is gone.
            Err(Error::Output(_)) => Ok(ExitStatus::HungUp),
            Ok(ExitStatus::HungUp) => Ok(ExitStatus::HungUp),
            Ok(status) => {
                print_unsent(self.model.unsent());
                if is_live && cleared.is_ok() {
                    print_text(&left_running(&self.store, &self.id))?;
                }
                Ok(status)
            }
            Err(error) => {
                print_unsent(self.model.unsent());
                Err(error)
            }
        }
    }

    fn follow(&mut self) -> Result<ExitStatus, Error> {
        loop {
            let observed = observe(&self.store, &self.id)?;
            self.read_log(&observed)?;
            self.model.set_status(observed.record.status);
            self.update_picker(&observed)?;
            self.draw(&observed)?;
            if observed.live {
                self.watch.add_end(0, &self.dir);
            }
            let deadline =
                if observed.live { Some(Instant::now() + UPDATE_INTERVAL) } else { None };
            // What arrives at once, such as many keys, is shown together.
            let mut next = self.watch.next_until(deadline);
            while let Some(notice) = next {
                if let Some(status) = self.take_notice(notice)? {
                    return Ok(status);
                }
                next = self.watch.next_until(Some(Instant::now()));
            }
        }
    }

    /// Takes a notice. Returns the exit status if the person leaves.
    fn take_notice(&mut self, notice: Notice) -> Result<Option<ExitStatus>, Error> {
        let key = match notice {
            Notice::Key(key) => key,
            Notice::Signal(Signal::SIGINT) => Key::Ctrl('c'),
            Notice::Signal(Signal::SIGTSTP) => {
                self.display.suspended(&self.watch, process::stop_self)?;
                return Ok(None);
            }
            Notice::Signal(Signal::SIGWINCH) => {
                self.display.drawn.0.clear();
                return Ok(None);
            }
            Notice::Signal(Signal::SIGCONT) => {
                // A stop that this process has not noticed: the shell has written below the area.
                if self.display.terminal.retake().map_err(Error::Output)? {
                    self.display.area = InlineArea::default();
                }
                self.display.drawn.0.clear();
                return Ok(None);
            }
            Notice::Signal(signal) => return Ok(Some(exit_status_for(signal))),
            // The terminal is gone.
            Notice::Typed(None) => return Ok(Some(ExitStatus::HungUp)),
            Notice::Done => {
                self.take_result();
                return Ok(None);
            }
            _ => return Ok(None),
        };
        match self.model.handle(&key) {
            Some(AttachEffect::Leave) => return Ok(Some(ExitStatus::Done)),
            Some(AttachEffect::Suspend) => {
                self.display.suspended(&self.watch, process::stop_group)?;
            }
            Some(effect) => {
                if let AttachEffect::Answer(request, _) = &effect {
                    self.answered.push(request.clone());
                }
                self.caller.begin(effect);
            }
            None => {}
        }
        Ok(None)
    }

    fn take_result(&mut self) {
        match self.caller.result() {
            Some(Ok(note)) => {
                self.model.end_call(None);
                if let Some(note) = note {
                    self.model.set_note(&note);
                }
            }
            Some(Err(why)) => {
                // An answer that did not arrive can be given again.
                self.answered.clear();
                self.model.end_call(Some(why));
            }
            None => {}
        }
    }

    /// Prints the part of the conversation that was not printed yet.
    fn read_log(&mut self, observed: &Observed) -> Result<(), Error> {
        let attempt = observed.record.attempt.number;
        if !observed.live && self.shown_end == Some(attempt) {
            return Ok(());
        }
        loop {
            let part = self.feed.read(&self.store)?;
            for passage in &part.passages {
                self.display.print(passage);
            }
            if part.has_verdict() {
                self.shown_end = Some(attempt);
            }
            if !part.truncated {
                break;
            }
        }
        let waits = matches!(observed.record.status, Status::Idle | Status::Blocked);
        let held = if waits { self.feed.take_held() } else { self.feed.take_due() };
        if let Some(held) = held {
            self.display.print(&held);
        }
        Ok(())
    }

    /// Offers the choices for an open request, or closes those for one that was answered elsewhere.
    fn update_picker(&mut self, observed: &Observed) -> Result<(), Error> {
        let mut open = observed.record.open_requests();
        if let Some(picker) = self.model.picker() {
            if open.contains(&picker.request_id()) {
                return Ok(());
            }
            self.model.close_picker();
        }
        open.retain(|request| !self.answered.iter().any(|answered| answered == request));
        let Some(request) = open.first() else { return Ok(()) };
        let picker = answer::open(&self.store, &self.id, Some(request))
            .and_then(|open| answer::picker(&self.store, &self.id, open, rows() / 2));
        let picker = match picker {
            Ok(picker) => picker,
            // It was answered in this moment, which causes another notice.
            Err(Error::NothingAsked(..) | Error::JobEnded(..)) => return Ok(()),
            Err(error) => return Err(error),
        };
        // A key that was typed before the request was seen is no answer.
        if self.model.open_picker(picker) {
            process::discard_typed();
            self.watch.discard_typed();
        }
        Ok(())
    }

    fn draw(&mut self, observed: &Observed) -> Result<(), Error> {
        // A terminal that is gone has no width.
        let width = columns().min(MAX_WIDTH).saturating_sub(1);
        let line = if observed.live {
            job_line(&status_view(&self.store, &observed.record, Ask::One), clock::now())
        } else {
            observed.record.status.to_string()
        };
        let view = self.model.view(&format!("{} {line}", self.id), width, rows());
        self.display.draw(view).map_err(Error::Output)
    }
}

fn left_running(store: &Store, id: &JobId) -> String {
    let attach = format!("claudejob attach {id}");
    format!("Left running: {}\n", addressed(store.root(), attach))
}

/// Leaves the text that was typed on the terminal, such as when the job was removed.
fn print_unsent(text: &str) {
    if !text.is_empty() {
        print_note(&format!("Not sent:\n{}\n", harmless(text)));
    }
}

impl AttachedDisplay {
    fn print(&mut self, passage: &TranscriptLine) {
        self.above += &passage_within(passage, columns());
        self.above.push('\n');
    }

    fn draw(&mut self, view: (Vec<String>, (usize, usize))) -> io::Result<()> {
        if self.above.is_empty() && view == self.drawn {
            return Ok(());
        }
        let above = std::mem::take(&mut self.above);
        self.area.show(&above, &view.0, view.1)?;
        self.drawn = view;
        Ok(())
    }

    /// Gives the terminal back for `work`, and takes it again.
    fn suspended(&mut self, watch: &Watch, work: impl FnOnce()) -> Result<(), Error> {
        self.keyboard = None;
        self.area.clear().map_err(Error::Output)?;
        self.terminal.suspended(work).map_err(Error::Output)?;
        self.keyboard = Some(watch.read_keys().map_err(Error::Output)?);
        self.drawn.0.clear();
        Ok(())
    }
}
