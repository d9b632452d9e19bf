//! The progress of a wait, on the terminal.

use std::time::{Duration, Instant};

use crate::commands::engine_jobs::Ask;
use crate::commands::observe::observe;
use crate::commands::status::status_view;
use crate::commands::watch::Notice;
use crate::job::{Status, StatusView};
use crate::output::{LiveLine, live_word};
use crate::store::{JobDir, Store};

/// Least time between two drawings, for changes.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two drawings without a change: the times of the jobs pass.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Number of jobs whose state is read anew without a notice, since the queue changes without one.
const MAX_RELOADED: usize = 10;

/// Shows the progress of a wait.
pub(super) struct WaitProgress {
    line: LiveLine,
    /// The wait is for several jobs.
    is_several: bool,
    /// The statuses of the jobs that have ended.
    ended: Vec<Status>,
    /// The states of the others, by index, as they were read last.
    states: Vec<Option<StatusView>>,
    has_changed: bool,
    drawn_at: Option<Instant>,
}

impl WaitProgress {
    pub(super) fn new(line: LiveLine, is_several: bool, ended: Vec<Status>) -> Self {
        Self { line, is_several, ended, states: Vec::new(), has_changed: true, drawn_at: None }
    }

    /// Takes notice of a change.
    pub(super) fn note(&mut self, notice: &Notice, store: &Store, dirs: &[JobDir]) {
        match notice {
            Notice::Ended(index) => {
                if let Ok(observed) = observe(store, dirs[*index].id()) {
                    self.ended.push(observed.record.status);
                }
                self.has_changed = true;
            }
            Notice::Changed(index) => {
                if let Some(state) = self.states.get_mut(*index) {
                    *state = None;
                }
                self.has_changed = true;
            }
            _ => {}
        }
    }

    /// Returns when the progress is to be drawn next.
    pub(super) fn next_draw(&self) -> Instant {
        let interval = if self.has_changed { MIN_INTERVAL } else { MAX_INTERVAL };
        self.drawn_at.map_or_else(Instant::now, |at| at + interval)
    }

    pub(super) fn draw_if_due(&mut self, store: &Store, dirs: &[JobDir], live: &[bool]) {
        if self.next_draw() > Instant::now() {
            return;
        }
        self.load(store, dirs, live);
        let mut shown = Vec::new();
        for (state, is_live) in self.states.iter().zip(live) {
            if *is_live {
                shown.extend(state);
            }
        }
        if self.is_several {
            self.line.show_all(&heading(&self.ended, &shown), &shown);
        } else if let Some(state) = shown.first() {
            self.line.show(state);
        }
        self.has_changed = false;
        self.drawn_at = Some(Instant::now());
    }

    /// Reads the states that have changed, and those that are shown.
    fn load(&mut self, store: &Store, dirs: &[JobDir], live: &[bool]) {
        self.states.resize_with(dirs.len(), || None);
        let mut reloaded = 0;
        for (index, dir) in dirs.iter().enumerate() {
            if !live[index] {
                continue;
            }
            let is_shown = reloaded < MAX_RELOADED;
            if (self.states[index].is_none() || is_shown)
                && let Ok(observed) = observe(store, dir.id())
            {
                self.states[index] =
                    Some(status_view(store, &observed.record, Ask::about(dirs.len())));
            }
            reloaded += 1;
        }
    }
}

/// Returns `6 of 9 done, 1 failed, 1 running, 1 waiting, 1 blocked`: failed and killed jobs are
/// done, too.
fn heading(ended: &[Status], live: &[&StatusView]) -> String {
    let words = live.iter().map(|state| live_word(state)).collect::<Vec<&str>>();
    counts(ended, &words)
}

fn counts(ended: &[Status], live: &[&str]) -> String {
    let mut text = format!("{} of {} done", ended.len(), ended.len() + live.len());
    for status in [Status::Failed, Status::Killed] {
        let count = ended.iter().filter(|ended| **ended == status).count();
        if count > 0 {
            text += &format!(", {count} {status}");
        }
    }
    for word in ["running", "starting", "waiting", "queued", "blocked", "idle"] {
        let count = live.iter().filter(|live| **live == word).count();
        if count > 0 {
            text += &format!(", {count} {word}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_jobs_by_what_they_do() {
        use Status::{Completed, Failed, Killed};
        for (ended, live, shown) in [
            (vec![], vec!["running"], "0 of 1 done, 1 running"),
            (
                vec![Completed, Failed, Completed],
                vec!["blocked", "running", "waiting", "running"],
                "3 of 7 done, 1 failed, 2 running, 1 waiting, 1 blocked",
            ),
            (vec![Killed, Failed], vec!["queued"], "2 of 3 done, 1 failed, 1 killed, 1 queued"),
        ] {
            assert_eq!(counts(&ended, &live), shown);
        }
    }
}
