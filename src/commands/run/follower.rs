//! Follows a job to its end: shows its conversation, and asks for answers on the terminal.

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{NOTE_TIMEOUT, Notice, Watch, exit_status_for};
use crate::arguments::Format;
use crate::commands::Call;
use crate::commands::answer::{self, Dialog, DialogStep};
use crate::commands::engine_jobs::Ask;
use crate::commands::kill;
use crate::commands::logs::{ConversationFeed, FeedOptions};
use crate::commands::observe::observe;
use crate::commands::result::{ResultAnswer, result_within};
use crate::commands::status::status_view;
use crate::commands::wait::{exit_status, present_state};
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Record, Status};
use crate::output::{
    Answer, BOLD, LiveLine, columns, open_request, painted, passage_within, print_note,
    print_note_within, print_text, push_hint, push_warning,
};
use crate::process::{self, AwaitedSignals};
use crate::store::{JobDir, OUTPUT, RECORD, Store, addressed};
use crate::text::harmless;

/// Interval between updates of the live line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for a second Ctrl-C.
const SECOND_SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the worker to exit after it has written the verdict.
const WORKER_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a job is no longer followed.
enum FollowEnd {
    Ended,
    /// The job is kept alive and has answered.
    Idle,
    /// The job waits for an answer that cannot be given here.
    Blocked(Box<Record>),
    /// A signal ended the command.
    Left(ExitStatus),
}

/// A job that is followed to its end.
pub(in crate::commands) struct Follower<'a> {
    call: &'a Call,
    store: &'a Store,
    id: JobId,
    dir: JobDir,
    watch: Watch,
    feed: ConversationFeed,
    line: Option<LiveLine>,
    /// A person can answer the agent on the terminal.
    asks_in_place: bool,
    /// The conversation is printed before the answer.
    shows_log: bool,
    /// The open question, and the ids of those that were answered here or elsewhere.
    dialog: Option<Dialog>,
    answered: Vec<String>,
    reads_lines: bool,
    /// A signal kills the job and ends this process, which is not to report the end of the job.
    is_killing: Arc<AtomicBool>,
}

impl<'a> Follower<'a> {
    pub(in crate::commands) fn new(
        call: &'a Call,
        store: &'a Store,
        id: JobId,
        asks_in_place: bool,
    ) -> Self {
        let dir = store.job(&id);
        let shows_log = call.printer.is_text() || call.printer.format() == Format::Ndjson;
        let files: &[&str] = if shows_log { &[OUTPUT, RECORD] } else { &[RECORD] };
        let watch = Watch::for_files(&dir, files);
        // The dialog shows the request.
        let options =
            FeedOptions { without_requests: asks_in_place, holds_turns: call.printer.is_text() };
        let feed = ConversationFeed::new(id.clone(), 0, options);
        Self {
            call,
            store,
            id,
            dir,
            watch,
            feed,
            line: None,
            asks_in_place,
            shows_log,
            dialog: None,
            answered: Vec::new(),
            reads_lines: false,
            is_killing: Arc::default(),
        }
    }

    /// Makes the signals leave the job running, or kill it.
    pub(super) fn heed(&mut self, signals: AwaitedSignals) {
        let note = format!("Left running: {}\n", self.logs_command());
        self.watch.forward_or_exit(signals, note);
    }

    /// Kills the job and ends this process at the first signal, also while the process waits for
    /// the reader of its output.
    pub(super) fn kill_on_signal(&self, signals: AwaitedSignals) {
        let (store, id) = (self.store.clone(), self.id.clone());
        let is_killing = Arc::clone(&self.is_killing);
        std::thread::spawn(move || {
            let Some(signal) = signals.next() else { return };
            is_killing.store(true, Ordering::Relaxed);
            if kill::request(&store, &id) {
                print_note_within(format!("Job {id} is being killed.\n"), NOTE_TIMEOUT);
            }
            exit(exit_status_for(signal) as i32);
        });
    }

    /// Follows the job, and prints how it ended.
    pub(in crate::commands) fn run(mut self) -> Result<ExitStatus, Error> {
        let end = self.follow()?;
        self.line = None;
        while self.is_killing.load(Ordering::Relaxed) {
            std::thread::park();
        }
        if let FollowEnd::Left(status) = end {
            return Ok(status);
        }
        if !self.call.printer.is_text() {
            return self.print_end(&end);
        }
        self.print_held()?;
        match end {
            FollowEnd::Blocked(record) => self.print_blocked(&record),
            FollowEnd::Idle => {
                let send = format!("claudejob send {} \"…\"", self.id);
                let send = addressed(self.store.root(), send);
                print_text(&painted(BOLD, &format!("= idle · {send}\n")))?;
                Ok(ExitStatus::Done)
            }
            _ => self.print_problems(),
        }
    }

    /// Prints the state of the job at the end in a format that is not text for people.
    fn print_end(&self, end: &FollowEnd) -> Result<ExitStatus, Error> {
        let is_idle = matches!(end, FollowEnd::Idle);
        if is_idle && !self.call.printer.is_json() {
            // The answer, which the state of an idle job does not contain.
            self.call.print(&result_within(self.store, &self.id, self.call.bound())?)?;
            return Ok(ExitStatus::Done);
        }
        let status = self.call.print(&present_state(self.call, self.store, &self.id)?)?;
        if let FollowEnd::Blocked(record) = end
            && !self.call.printer.is_json()
        {
            self.print_record_hint(record);
        }
        Ok(if is_idle { ExitStatus::Done } else { status })
    }

    fn follow(&mut self) -> Result<FollowEnd, Error> {
        loop {
            let observed = observe(self.store, &self.id)?;
            let has_ended = if !self.shows_log {
                !observed.live
            } else if self.dialog.is_some() {
                // The conversation continues below the answer.
                false
            } else {
                self.print_log()?
            };
            if has_ended {
                self.await_worker();
                return Ok(FollowEnd::Ended);
            }
            match observed.record.status {
                Status::Blocked if !self.asks_in_place => {
                    return Ok(FollowEnd::Blocked(Box::new(observed.record)));
                }
                Status::Idle => return Ok(FollowEnd::Idle),
                _ => {}
            }
            if self.update_dialog(&observed.record)? {
                continue;
            }
            if self.dialog.is_none() {
                self.show_line(&observed.record);
            }
            if let Some(status) = self.await_notice()? {
                return Ok(FollowEnd::Left(status));
            }
        }
    }

    /// Waits until the worker has exited, so that the job has no process.
    fn await_worker(&mut self) {
        let deadline = Instant::now() + WORKER_EXIT_TIMEOUT;
        while self.dir.may_live() && Instant::now() < deadline {
            self.watch.add_end(0, &self.dir);
            self.watch.next_until(Some(deadline));
        }
    }

    /// Prints the part of the conversation that was not printed yet. Returns whether the job has
    /// ended and the verdict was printed.
    fn print_log(&mut self) -> Result<bool, Error> {
        loop {
            let part = self.feed.read(self.store)?;
            let has_ended = part.has_verdict();
            if !part.passages.is_empty() {
                self.line = None;
                self.call.print(&part)?;
            }
            if has_ended || !part.truncated {
                return Ok(has_ended);
            }
        }
    }

    fn print_held(&mut self) -> Result<(), Error> {
        let Some(held) = self.feed.take_held() else { return Ok(()) };
        print_text(&format!("{}\n", passage_within(&held, columns())))
    }

    fn show_line(&mut self, record: &Record) {
        if self.line.is_none() {
            self.line = self.call.printer.live_line();
        }
        if let Some(line) = &mut self.line {
            line.show(&status_view(self.store, record, Ask::One));
        }
    }

    /// Waits for a change, and for the next update of the live line. Returns the exit status if a
    /// signal ends the command.
    fn await_notice(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.watch.add_end(0, &self.dir);
        let deadline = self.line.as_ref().map(|_| Instant::now() + LINE_INTERVAL);
        match self.watch.next_until(deadline) {
            Some(Notice::Signal(signal)) => self.leave(signal).map(Some),
            Some(Notice::Typed(Some(line))) => {
                self.feed(&line)?;
                Ok(None)
            }
            // The end of the input is meant as Ctrl-C.
            Some(Notice::Typed(None)) if self.dialog.is_some() => {
                self.leave(Signal::SIGINT).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn logs_command(&self) -> String {
        addressed(self.store.root(), format!("claudejob logs -f {}", self.id))
    }

    /// Leaves the job running after a signal. A second Ctrl-C kills the job.
    fn leave(&mut self, signal: Signal) -> Result<ExitStatus, Error> {
        if self.line.take().is_none() && self.dialog.is_some() {
            print_note("\n");
        }
        let logs = self.logs_command();
        match signal {
            Signal::SIGHUP => return Ok(ExitStatus::HungUp),
            Signal::SIGTERM => {
                print_note(&format!("Left running: {logs}\n"));
                return Ok(ExitStatus::Terminated);
            }
            _ => print_note(&format!("Left running: {logs} (Ctrl-C again: kill)\n")),
        }
        let deadline = Instant::now() + SECOND_SIGNAL_TIMEOUT;
        while let Some(notice) = self.watch.next_until(Some(deadline)) {
            match notice {
                Notice::Signal(Signal::SIGINT) => {
                    let killed = kill::kill(self.store, &self.id)?;
                    print_note(&killed.text());
                    return Ok(if killed.killed { ExitStatus::Killed } else { ExitStatus::Failed });
                }
                Notice::Signal(other) => return Ok(exit_status_for(other)),
                _ => {}
            }
        }
        Ok(ExitStatus::Left)
    }

    /// Opens a dialog about the job's request, or closes the one about a request that was answered
    /// elsewhere. Returns whether the conversation continues.
    fn update_dialog(&mut self, record: &Record) -> Result<bool, Error> {
        let mut open = record.open_requests();
        if let Some(dialog) = &self.dialog {
            if open.contains(&dialog.request_id()) {
                return Ok(false);
            }
            let is_live = record.status.is_live();
            print_text(if is_live { "\nalready answered\n" } else { "\n" })?;
            self.close_dialog();
            return Ok(true);
        }
        open.retain(|request| !self.answered.iter().any(|answered| answered == request));
        let Some(request) = open.first() else { return Ok(false) };
        let opened = match answer::open(self.store, &self.id, Some(request)) {
            Ok(opened) => opened,
            // It was answered in this moment, which causes another notice.
            Err(Error::NothingAsked(..) | Error::JobEnded(..)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let dialog = answer::begin_dialog(self.store, &self.id, opened)?;
        self.line = None;
        // An answer that was typed before the question was seen is none.
        process::discard_typed();
        self.watch.discard_typed();
        if !self.reads_lines {
            self.watch.read_lines();
            self.reads_lines = true;
        }
        print_text(&format!("{}{}", answer::heading(&self.id), dialog.text()))?;
        self.dialog = Some(dialog);
        Ok(false)
    }

    fn close_dialog(&mut self) {
        if let Some(dialog) = self.dialog.take() {
            self.answered.push(dialog.request_id().to_owned());
        }
    }

    /// Takes a line that was typed.
    fn feed(&mut self, line: &str) -> Result<(), Error> {
        let Some(dialog) = &mut self.dialog else { return Ok(()) };
        match dialog.feed(line) {
            DialogStep::Ask(text) => print_text(&text),
            DialogStep::Answer(response) => {
                let sent = answer::respond(self.store, &self.id, dialog.request_id(), response);
                self.close_dialog();
                match sent {
                    Ok(sent) if sent.answered => Ok(()),
                    Ok(_) | Err(Error::JobEnded(..)) => print_text("already answered\n"),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Prints what the job asks, and how to answer.
    fn print_blocked(&self, record: &Record) -> Result<ExitStatus, Error> {
        let asks = record.blocked.as_ref().map(open_request).unwrap_or_default();
        print_text(&painted(BOLD, &format!("= blocked · {}\n", harmless(&asks))))?;
        self.print_record_hint(record);
        Ok(ExitStatus::Blocked)
    }

    fn print_record_hint(&self, record: &Record) {
        if let Some(hint) = record.hint() {
            print_hint(&addressed(self.store.root(), hint));
        }
    }

    /// Prints the warnings and the hint of the ended job, whose verdict was printed.
    fn print_problems(&self) -> Result<ExitStatus, Error> {
        let ended = result_within(self.store, &self.id, self.call.bound())?;
        if let ResultAnswer::Ended(ended) = &ended {
            let mut warnings = String::new();
            for warning in &ended.outcome.warnings {
                push_warning(&mut warnings, warning);
            }
            print_note(&warnings);
            if let Some(hint) = &ended.hint {
                print_hint(hint);
            }
        }
        Ok(exit_status(&ended))
    }
}

fn print_hint(hint: &str) {
    let mut text = String::new();
    push_hint(&mut text, Some(hint));
    print_note(&text);
}
