//! `top`: shows the jobs that need a person first, live, and acts on them.

mod actions;
mod display;
mod jobs;
mod said;
mod slow_jobs;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use nix::libc::EIO;
use nix::sys::signal::Signal;

use super::Call;
use super::watch::{Notice, Watch, exit_status_for};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::JobId;
use crate::process::{self, AwaitedSignals};
use crate::screen::top::{JobVerb, TopEffect, TopInput, TopModel};
use crate::store::Store;
use actions::{Actions, TopResult, ask_for_enter};
use display::Display;
use jobs::WatchedJobs;
use said::FollowedConversation;
use slow_jobs::Slowness;

/// Signals that end or stop the call, and the one of a new size of the terminal.
const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];
/// Least time between two drawings.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Time limit for a verb on the terminal to end at a signal.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Least time between two readings of the queue, which reads the record of each queued job.
const MIN_QUEUE_INTERVAL: Duration = Duration::from_millis(250);

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob top\n\n\
    Jobs that ask something come first. ? shows the keys. Jobs continue when top is left.")]
pub(crate) struct TopArgs {}

impl TopArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        if !call.printer.is_screen() || !std::io::stdin().is_terminal() {
            return Err(Error::Arguments {
                message: "top needs text and a terminal that can move its cursor".to_owned(),
                hint: "claudejob list".to_owned(),
            });
        }
        process::reap_in_background();
        let signals = AwaitedSignals::keep(&SIGNALS).map_err(Error::Signals)?;
        match Top::new(call, &store, signals)?.run() {
            // The terminal is gone, and nobody reads an error.
            Err(Error::Output(error)) if error.raw_os_error() == Some(EIO) => {
                Ok(ExitStatus::HungUp)
            }
            ended => ended,
        }
    }
}

/// What has changed since the last drawing.
#[derive(Debug, Default)]
struct PendingChanges {
    /// Indices of the watched jobs.
    jobs: BTreeSet<usize>,
    new: BTreeSet<JobId>,
    queue: bool,
    all: bool,
}

impl PendingChanges {
    fn has_jobs(&self) -> bool {
        self.all || !self.jobs.is_empty() || !self.new.is_empty()
    }
}

/// A running `top`.
struct Top<'a> {
    store: &'a Store,
    model: TopModel,
    jobs: WatchedJobs<'a>,
    said: Option<FollowedConversation>,
    actions: Actions,
    /// What other threads have found or done.
    results: Receiver<TopResult>,
    display: Display,
    changes: PendingChanges,
    is_drawn: bool,
    drawn_at: Instant,
    queue_read_at: Instant,
    /// How long the queue and its jobs took to read.
    queue_time: Duration,
}

impl<'a> Top<'a> {
    fn new(call: &Call, store: &'a Store, signals: AwaitedSignals) -> Result<Self, Error> {
        let jobs = WatchedJobs::new(store);
        jobs.watch.forward(signals);
        let (sender, results): (Sender<TopResult>, _) = channel();
        let actions = Actions::new(store, &call.env, sender, jobs.watch.waker());
        let display = Display::enter(&jobs.watch).map_err(Error::Output)?;
        let now = Instant::now();
        let mut top = Self {
            store,
            model: TopModel::new(clock::now(), 0, 0),
            jobs,
            said: None,
            actions,
            results,
            display,
            changes: PendingChanges { all: true, queue: true, ..PendingChanges::default() },
            is_drawn: false,
            drawn_at: now,
            queue_read_at: now,
            queue_time: Duration::ZERO,
        };
        top.apply_changes()?;
        Ok(top)
    }

    /// Shows the jobs until a key or a signal ends the call.
    fn run(&mut self) -> Result<ExitStatus, Error> {
        loop {
            // Changes that follow at once are read and shown together.
            if self.drawn_at.elapsed() >= MIN_INTERVAL {
                self.apply_changes()?;
                self.draw()?;
            }
            let mut next = self.jobs.watch.next_until(self.deadline());
            if next.is_none() {
                // Ages pass.
                self.is_drawn = false;
            }
            while let Some(notice) = next {
                if let Some(status) = self.take(notice)? {
                    return Ok(status);
                }
                next = self.jobs.watch.next_until(Some(Instant::now()));
            }
        }
    }

    /// Returns when to draw or to read the queue at the latest.
    fn deadline(&self) -> Option<Instant> {
        let queue = if self.changes.queue { Some(self.queue_due()) } else { None };
        let is_due = !self.is_drawn || self.changes.has_jobs();
        let drawing = if is_due { Some(self.drawn_at + MIN_INTERVAL) } else { None };
        let second = self.model.clock_step().map(next_step);
        [queue, drawing, second].into_iter().flatten().min()
    }

    fn queue_due(&self) -> Instant {
        // A long queue is read less often: a tenth of the time at most.
        self.queue_read_at + MIN_QUEUE_INTERVAL.max(self.queue_time * 10)
    }

    fn draw(&mut self) -> Result<(), Error> {
        if self.is_drawn {
            return Ok(());
        }
        self.input(TopInput::Tick(clock::now()));
        let answers = self.jobs.answers(&self.model);
        if !answers.is_empty() {
            self.input(TopInput::Changed(answers));
        }
        self.display.draw(&mut self.model).map_err(Error::Output)?;
        (self.is_drawn, self.drawn_at) = (true, Instant::now());
        Ok(())
    }

    /// Gives an input to the model; what it wants to be done is done later.
    fn input(&mut self, input: TopInput) {
        let effects = self.model.handle(input);
        self.is_drawn = false;
        for effect in effects {
            if let TopEffect::Follow(id) = effect {
                self.follow(&id);
            }
        }
    }

    /// Takes a notice. Returns the exit status if it ends the call.
    fn take(&mut self, notice: Notice) -> Result<Option<ExitStatus>, Error> {
        match notice {
            Notice::Key(key) => {
                let effects = self.model.handle(TopInput::Key(key));
                self.is_drawn = false;
                return self.perform(effects);
            }
            Notice::Signal(Signal::SIGWINCH) => self.is_drawn = false,
            Notice::Signal(Signal::SIGTSTP) => self.suspend(process::stop_self)?,
            Notice::Signal(Signal::SIGTERM) => return Ok(Some(ExitStatus::Terminated)),
            Notice::Signal(Signal::SIGHUP) => return Ok(Some(ExitStatus::HungUp)),
            Notice::Signal(signal) => return Ok(Some(exit_status_for(signal))),
            // The terminal is gone.
            Notice::Typed(None) => return Ok(Some(ExitStatus::HungUp)),
            Notice::Typed(Some(_)) => {}
            Notice::Changed(index) | Notice::Ended(index) => {
                self.changes.jobs.insert(index);
            }
            Notice::Appeared(name) => {
                if let Ok(id) = JobId::parse(&name) {
                    self.changes.new.insert(id);
                }
            }
            Notice::Removed(name) => {
                if let Ok(id) = JobId::parse(&name) {
                    self.jobs.forget(&id);
                    self.input(TopInput::Removed(id));
                }
            }
            Notice::Directory => self.changes.queue = true,
            Notice::Root => (self.changes.all, self.changes.queue) = (true, true),
            Notice::Done => {
                for result in self.results.try_iter().collect::<Vec<TopResult>>() {
                    self.take_result(result);
                }
            }
        }
        Ok(None)
    }

    fn take_result(&mut self, result: TopResult) {
        match result {
            TopResult::Found(why, jobs) => {
                let jobs = self.jobs.slow(why).end(jobs);
                if !jobs.is_empty() {
                    self.input(TopInput::Changed(jobs));
                }
                self.observe_slow();
            }
            TopResult::AwaitsEnter | TopResult::Returned(None) => {}
            TopResult::Returned(Some(error)) => {
                self.input(TopInput::Done(TopEffect::Suspend, Err(error)));
            }
            TopResult::Input(input) => self.input(*input),
        }
    }

    /// Does what keys want. Returns the exit status if a key ends the call.
    fn perform(&mut self, effects: Vec<TopEffect>) -> Result<Option<ExitStatus>, Error> {
        for effect in effects {
            match effect {
                TopEffect::Quit => return Ok(Some(ExitStatus::Done)),
                TopEffect::Follow(id) => self.follow(&id),
                TopEffect::Suspend => self.suspend(process::stop_group)?,
                TopEffect::Run(verb, id) => {
                    if let Some(status) = self.lend_terminal(verb, &id)? {
                        return Ok(Some(status));
                    }
                }
                effect => self.actions.perform(effect, self.display.height()),
            }
        }
        Ok(None)
    }

    fn suspend(&mut self, stop: fn()) -> Result<(), Error> {
        let stopped = self.display.suspended(&mut self.jobs.watch, |_: &mut Watch| stop());
        stopped.map_err(Error::Output)?;
        self.is_drawn = false;
        Ok(())
    }

    /// Runs a verb for a job on the terminal. Returns the exit status if a signal ends the call.
    fn lend_terminal(&mut self, verb: JobVerb, id: &JobId) -> Result<Option<ExitStatus>, Error> {
        let Self { jobs, display, results, actions, .. } = self;
        let mut returned = Vec::new();
        let ended = display.suspended(&mut jobs.watch, |watch| {
            actions.run_on_terminal(verb, id);
            let (mut awaits_enter, mut status, mut deadline) = (false, None, None);
            loop {
                match watch.next_until(deadline) {
                    // While the verb runs, it stops this process when it has stopped itself.
                    Some(Notice::Signal(Signal::SIGTSTP)) if awaits_enter => {
                        process::stop_self();
                        let _ = ask_for_enter();
                    }
                    Some(Notice::Signal(signal @ (Signal::SIGTERM | Signal::SIGHUP))) => {
                        // The verb restores the terminal.
                        process::signal_foreground(signal);
                        deadline = Some(Instant::now() + END_TIMEOUT);
                        status = Some(exit_status_for(signal));
                    }
                    Some(Notice::Done) => returned.extend(results.try_iter()),
                    // All is read again afterwards.
                    Some(_) => {}
                    None => return status,
                }
                for result in &returned {
                    match result {
                        TopResult::Returned(_) => return status,
                        TopResult::AwaitsEnter => awaits_enter = true,
                        _ => {}
                    }
                }
                if awaits_enter && status.is_some() {
                    return status;
                }
            }
        });
        let status = ended.map_err(Error::Output)?;
        (self.changes.all, self.changes.queue, self.is_drawn) = (true, true, false);
        if let Some(conversation) = &self.said {
            self.follow(&conversation.id.clone());
        }
        for result in returned {
            self.take_result(result);
        }
        Ok(status)
    }

    /// Reads the conversation of another job from now on.
    fn follow(&mut self, id: &JobId) {
        self.jobs.choose(id);
        let (conversation, entries) = FollowedConversation::read_end(self.store, id);
        self.said = Some(conversation);
        // Its record says more than the summary of the list.
        self.changes.new.insert(id.clone());
        let _ = self.model.handle(TopInput::Conversation(id.clone(), entries));
        self.is_drawn = false;
    }

    /// Reads what has changed.
    fn apply_changes(&mut self) -> Result<(), Error> {
        while self.changes.has_jobs() || (self.changes.queue && self.queue_due() <= Instant::now())
        {
            let changes = std::mem::take(&mut self.changes);
            if changes.all {
                let jobs = self.jobs.load_all(&self.model)?;
                self.input(TopInput::Jobs(jobs));
            }
            let mut ids = changes.new;
            if changes.all {
                // Its record says more than its summary.
                ids.extend(self.said.as_ref().map(|conversation| conversation.id.clone()));
            }
            for index in changes.jobs {
                ids.extend(self.jobs.id(index).cloned());
            }
            let began = Instant::now();
            let reads_queue = changes.queue && self.queue_due() <= began;
            if reads_queue {
                ids.extend(self.model.queued());
                ids.extend(self.jobs.resumed(&self.model));
                let queue = self.jobs.queue_state();
                self.input(TopInput::Queue(queue));
            }
            self.changes.queue |= changes.queue && !reads_queue;
            let (changed, gone) = self.jobs.load(&ids, &self.model);
            if reads_queue {
                (self.queue_read_at, self.queue_time) = (Instant::now(), began.elapsed());
            }
            for id in gone {
                self.input(TopInput::Removed(id));
            }
            if !changed.is_empty() {
                self.read_said(&ids);
                self.input(TopInput::Changed(changed));
            }
            self.observe_slow();
        }
        Ok(())
    }

    /// Finds out the state of those jobs for which that takes time.
    fn observe_slow(&mut self) {
        for why in [Slowness::Lost, Slowness::OnEngine] {
            if let Some(ids) = self.jobs.slow(why).begin() {
                self.actions.observe(why, ids);
            }
        }
    }

    /// Reads the next entries of the conversation, if its job is among the changed ones.
    fn read_said(&mut self, changed: &BTreeSet<JobId>) {
        let Some(conversation) = &mut self.said else { return };
        if changed.contains(&conversation.id)
            && let Some(input) = conversation.read_on(self.store)
        {
            self.input(input);
        }
    }
}

/// Returns when the next second or minute of the clock begins.
fn next_step(step: Duration) -> Instant {
    let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
    let left_ms = step_ms - clock::now().epoch_ms().rem_euclid(step_ms);
    Instant::now() + Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())
}
