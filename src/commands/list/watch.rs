//! `list --watch`: shows the list anew whenever it changes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ListAnswer, ListArgs, list};
use crate::commands::Call;
use crate::commands::watch::{Notice, Watch};
use crate::error::{Error, ExitStatus};
use crate::job::JobId;
use crate::output::Screen;
use crate::process::{self, AwaitedSignals};
use crate::store::{RECORD, Store};

/// Signals that end or stop the call, and the one of a new size of the terminal.
const SIGNALS: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
];
/// Least time between two updates.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two updates without a change: ages pass.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Largest number of jobs whose records are watched.
const MAX_WATCHED: usize = 500;

/// Shows the list until a signal ends the call.
pub(super) fn watch(call: &Call, store: &Store, args: &ListArgs) -> Result<ExitStatus, Error> {
    if !call.printer.is_screen() {
        return Err(Error::Arguments {
            message: "--watch needs text and a terminal that can move its cursor".to_owned(),
            hint: "claudejob events --all --follow".to_owned(),
        });
    }
    let signals = AwaitedSignals::keep(&SIGNALS).map_err(Error::Signals)?;
    let mut watched = WatchedList { watch: Watch::new(), jobs: HashSet::new() };
    watched.watch.forward(signals);
    watched.watch.add_root(store.root());
    let mut screen = Screen::enter().map_err(Error::Output)?;
    loop {
        let answer = list(call, store, args)?;
        let (width, height) = screen.size();
        screen.show(&answer.table(width, height)).map_err(Error::Output)?;
        watched.add_jobs(&answer);
        match watched.wait_for_change() {
            None => {}
            Some(Signal::SIGTSTP) => {
                // The shell gets its screen back meanwhile.
                drop(screen);
                process::stop_self();
                screen = Screen::enter().map_err(Error::Output)?;
            }
            Some(Signal::SIGHUP) => return Ok(ExitStatus::HungUp),
            Some(Signal::SIGTERM) => return Ok(ExitStatus::Terminated),
            Some(_) => return Ok(ExitStatus::Done),
        }
    }
}

/// The watched jobs directory.
struct WatchedList {
    watch: Watch,
    /// The jobs whose records are watched.
    jobs: HashSet<JobId>,
}

impl WatchedList {
    /// Watches the records of the listed jobs; an ended one may be resumed.
    fn add_jobs(&mut self, answer: &ListAnswer) {
        for row in &answer.rows {
            let index = self.jobs.len();
            if index < MAX_WATCHED && self.jobs.insert(row.id.clone()) {
                self.watch.add_files(index, &answer.store.job(&row.id), &[RECORD]);
            }
        }
    }

    /// Waits until the list may have changed. Returns the signal that ends or stops the call.
    fn wait_for_change(&mut self) -> Option<Signal> {
        let began = Instant::now();
        let mut until = began + MAX_INTERVAL;
        loop {
            match self.watch.next_until(Some(until)) {
                Some(Notice::Signal(Signal::SIGWINCH)) => return None,
                Some(Notice::Signal(signal)) => return Some(signal),
                // Changes that follow at once are shown together.
                Some(_) => until = began + MIN_INTERVAL,
                None => return None,
            }
            if began.elapsed() >= MIN_INTERVAL {
                return None;
            }
        }
    }
}
