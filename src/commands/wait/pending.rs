//! The jobs that a wait is for, and that have not ended.

use std::time::{Duration, Instant};

use super::{FinishedResults, WaitOptions, WaitProgress};
use crate::commands::engine_jobs::{Ask, forget_answers, is_live, may_restart};
use crate::commands::watch::{Notice, Watch};
use crate::job::{JobId, Status};
use crate::process::AwaitedSignals;
use crate::store::{JobDir, RECORD, Store};

/// How often engines are asked about jobs.
const ENGINE_INTERVAL: Duration = Duration::from_secs(15);

/// How long to wait before an engine is asked whether it starts a job again that was cut off: others
/// may be cut off at the same time.
const RESTART_DELAY: Duration = Duration::from_millis(500);

/// How often an engine may not answer, before a job that was cut off counts as ended.
const MAX_UNANSWERED: u32 = 4;

/// The jobs that have not ended when a wait begins.
pub(super) struct PendingJobs<'a> {
    store: &'a Store,
    options: &'a WaitOptions,
    dirs: Vec<JobDir>,
    /// For each job whether it is live.
    live: Vec<bool>,
    watch: Watch,
    /// When engines are asked next whether they have ended jobs; `None` if all jobs are of this
    /// machine.
    next_question: Option<Instant>,
    /// Jobs that were cut off: their engines are asked whether they start them again.
    cut_off: Vec<usize>,
    /// How often in a row they did not answer.
    unanswered: u32,
}

impl<'a> PendingJobs<'a> {
    /// Watches the ends of the jobs, and their records if these end the wait or are shown.
    pub(super) fn watch(
        store: &'a Store,
        options: &'a WaitOptions,
        dirs: Vec<JobDir>,
        shows_progress: bool,
    ) -> Self {
        let mut watch = Watch::new();
        for (index, dir) in dirs.iter().enumerate() {
            watch.add_end(index, dir);
            if shows_progress || !options.through_blocked {
                watch.add_files(index, dir, &[RECORD]);
            }
        }
        let live = vec![true; dirs.len()];
        let has_engine = dirs.iter().any(JobDir::is_on_engine);
        let next_question = if has_engine { Some(Instant::now()) } else { None };
        Self {
            store,
            options,
            dirs,
            live,
            watch,
            next_question,
            cut_off: Vec::new(),
            unanswered: 0,
        }
    }

    /// Returns whether a job is blocked, and a blocked job ends the wait.
    pub(super) fn has_blocked(&self) -> bool {
        !self.options.through_blocked && self.dirs.iter().any(is_blocked)
    }

    /// Makes the signals end the wait.
    pub(super) fn heed(&mut self, signals: AwaitedSignals) {
        self.watch.forward_or_exit(signals, String::new());
    }

    /// Waits until enough jobs have ended, one is blocked, or the time is over. Returns false if a
    /// signal ended the wait.
    pub(super) fn wait(
        &mut self,
        finished: &mut FinishedResults,
        began: Instant,
        mut progress: Option<WaitProgress>,
    ) -> bool {
        let deadline = self.options.timeout.and_then(|timeout| began.checked_add(timeout));
        while self.live.contains(&true) {
            let mut until = deadline;
            if let Some(progress) = &mut progress {
                progress.draw_if_due(self.store, &self.dirs, &self.live);
                let next = progress.next_draw();
                until = Some(deadline.map_or(next, |at| at.min(next)));
            }
            if self.ask_engines(finished) {
                return true;
            }
            if let Some(at) = self.next_question {
                until = Some(until.map_or(at, |until| until.min(at)));
            }
            match self.watch.next_until(until) {
                Some(Notice::Signal(_)) => return false,
                Some(notice) => {
                    if self.handle(&notice, finished) {
                        return true;
                    }
                    if let Some(progress) = &mut progress {
                        progress.note(&notice, self.store, &self.dirs);
                    }
                }
                None => {}
            }
            // Also while notices arrive without a pause.
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return true;
            }
        }
        true
    }

    /// Asks engines about their jobs, if that is due: writes the verdicts of those that they have ended,
    /// and looks again at those that were cut off. Returns whether the wait is over.
    fn ask_engines(&mut self, finished: &mut FinishedResults) -> bool {
        if self.next_question.is_none_or(|at| at > Instant::now()) {
            return false;
        }
        forget_answers();
        let ask = Ask::about(self.dirs.len());
        let (mut is_over, mut has_unanswered) = (false, false);
        let cut_off = std::mem::take(&mut self.cut_off);
        for index in 0..self.dirs.len() {
            let dir = &self.dirs[index];
            if !self.live[index] || !dir.is_on_engine() {
                continue;
            }
            let is_live = is_live(dir, ask);
            if !cut_off.contains(&index) {
                continue;
            }
            if dir.needs_polling() {
                self.watch.add_end(index, dir);
            } else if is_live.unwrap_or(self.unanswered < MAX_UNANSWERED) {
                has_unanswered |= is_live.is_none();
                self.cut_off.push(index);
            } else {
                is_over |= self.end(index, finished);
            }
        }
        // Between questions without an answer, there is time for notices.
        self.next_question = Some(Instant::now() + ENGINE_INTERVAL);
        self.unanswered = if has_unanswered { self.unanswered + 1 } else { 0 };
        is_over || !self.live.contains(&true)
    }

    /// Handles a notice. Returns whether the wait is over.
    fn handle(&mut self, notice: &Notice, finished: &mut FinishedResults) -> bool {
        match notice {
            Notice::Ended(index) => {
                let dir = &self.dirs[*index];
                if dir.is_on_engine() && dir.load().is_ok_and(|record| may_restart(&record)) {
                    self.cut_off.push(*index);
                    let soon = Instant::now() + RESTART_DELAY;
                    self.next_question = Some(self.next_question.map_or(soon, |at| at.min(soon)));
                    return false;
                }
                self.end(*index, finished)
            }
            Notice::Changed(index) => {
                !self.options.through_blocked && is_blocked(&self.dirs[*index])
            }
            Notice::Appeared(_)
            | Notice::Root
            | Notice::Signal(_)
            | Notice::Typed(_)
            | Notice::Key(_)
            | Notice::Removed(_)
            | Notice::Directory
            | Notice::Done => false,
        }
    }

    /// Takes notice of the end of a job. Returns whether the wait is over.
    fn end(&mut self, index: usize, finished: &mut FinishedResults) -> bool {
        self.live[index] = false;
        if self.live.contains(&true) && !self.options.any {
            finished.keep(self.store, self.dirs[index].id());
        }
        self.options.any
    }

    /// Returns the jobs that have not ended.
    pub(super) fn live_jobs(&self) -> Vec<&JobId> {
        let mut ids = Vec::new();
        for (dir, live) in self.dirs.iter().zip(&self.live) {
            if *live {
                ids.push(dir.id());
            }
        }
        ids
    }
}

fn is_blocked(dir: &JobDir) -> bool {
    dir.load().is_ok_and(|record| record.status == Status::Blocked)
}
