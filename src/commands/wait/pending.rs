//! The jobs that a wait is for, and that have not ended.

use std::time::{Duration, Instant};

use super::{FinishedResults, WaitOptions, WaitProgress};
use crate::commands::engine_jobs::{Ask, end_if_lost};
use crate::commands::watch::{Notice, Watch};
use crate::job::{JobId, Status};
use crate::process::AwaitedSignals;
use crate::store::{JobDir, RECORD, Store};

/// How often engines are asked about jobs.
const ENGINE_INTERVAL: Duration = Duration::from_secs(15);

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
        Self { store, options, dirs, live, watch, next_question }
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
            if let Some(at) = self.ask_engines() {
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

    /// Writes the verdicts of jobs that their engine has ended, if that is due. Returns when it is due
    /// again.
    fn ask_engines(&mut self) -> Option<Instant> {
        if self.next_question? <= Instant::now() {
            for (dir, live) in self.dirs.iter().zip(&self.live) {
                if *live && dir.is_on_engine() {
                    end_if_lost(dir, Ask::about(self.dirs.len()));
                }
            }
            self.next_question = Some(Instant::now() + ENGINE_INTERVAL);
        }
        self.next_question
    }

    /// Handles a notice. Returns whether the wait is over.
    fn handle(&mut self, notice: &Notice, finished: &mut FinishedResults) -> bool {
        match notice {
            Notice::Ended(index) => {
                self.live[*index] = false;
                if self.options.any {
                    return true;
                }
                if self.live.contains(&true) {
                    finished.keep(self.store, self.dirs[*index].id());
                }
                false
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
