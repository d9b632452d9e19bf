//! `list --watch`: shows the list anew whenever it changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{ListAnswer, ListArgs, ListForm, list};
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
pub(super) fn watch(call: &Call, store: &Store, args: ListArgs) -> Result<ExitStatus, Error> {
    if !call.printer.is_screen() {
        return Err(Error::Arguments {
            message: "--watch needs text and a terminal that can move its cursor".to_owned(),
            hint: "claudejob events --all --follow".to_owned(),
        });
    }
    let signals = AwaitedSignals::keep(&SIGNALS).map_err(Error::Signals)?;
    let (sender, lists) = channel();
    let source = ListRequest { store: store.clone(), form: ListForm::new(call, &args), args };
    let mut watched = WatchedList {
        watch: Watch::new(),
        source: Arc::new(source),
        sender,
        lists,
        jobs: HashSet::new(),
        has_changed: false,
        screen: Some(Screen::enter().map_err(Error::Output)?),
        shown: None,
    };
    watched.watch.forward(signals);
    watched.watch.add_root(store.root());
    watched.run()
}

/// What a list is made from.
struct ListRequest {
    store: Store,
    args: ListArgs,
    form: ListForm,
}

/// The watched jobs directory.
struct WatchedList {
    watch: Watch,
    source: Arc<ListRequest>,
    sender: Sender<Result<ListAnswer, Error>>,
    /// The lists that the threads have read.
    lists: Receiver<Result<ListAnswer, Error>>,
    /// The jobs whose records are watched.
    jobs: HashSet<JobId>,
    /// Something has changed since the last list was begun.
    has_changed: bool,
    /// `None` while the call is stopped.
    screen: Option<Screen>,
    shown: Option<ListAnswer>,
}

impl WatchedList {
    fn run(&mut self) -> Result<ExitStatus, Error> {
        loop {
            self.has_changed = false;
            self.begin();
            if let Some(status) = self.wait_for_list()? {
                return Ok(status);
            }
            if let Some(status) = self.wait_for_change()? {
                return Ok(status);
            }
        }
    }

    /// Reads the list in a thread: the verdict of a lost job and the answer of an engine take time.
    fn begin(&self) {
        let (source, sender) = (self.source.clone(), self.sender.clone());
        let waker = self.watch.waker();
        thread::spawn(move || {
            let _ = sender.send(list(&source.store, &source.args, &source.form));
            let _ = waker.send(Notice::Done);
        });
    }

    /// Waits for the list that was begun, and shows it. Returns the exit status if a signal ends the
    /// call.
    fn wait_for_list(&mut self) -> Result<Option<ExitStatus>, Error> {
        loop {
            match self.watch.next() {
                Notice::Done => break,
                Notice::Signal(signal) => {
                    if let Some(status) = self.take(signal)? {
                        return Ok(Some(status));
                    }
                }
                _ => self.has_changed = true,
            }
        }
        if let Ok(answer) = self.lists.try_recv() {
            self.shown = Some(answer?);
            self.draw()?;
            self.add_jobs();
        }
        Ok(None)
    }

    /// Waits until the list may have changed. Returns the exit status if a signal ends the call.
    fn wait_for_change(&mut self) -> Result<Option<ExitStatus>, Error> {
        let began = Instant::now();
        let mut until = began + if self.has_changed { MIN_INTERVAL } else { MAX_INTERVAL };
        loop {
            match self.watch.next_until(Some(until)) {
                Some(Notice::Signal(signal)) => {
                    if let Some(status) = self.take(signal)? {
                        return Ok(Some(status));
                    }
                }
                // Changes that follow at once are shown together.
                Some(_) => until = began + MIN_INTERVAL,
                None => return Ok(None),
            }
            if began.elapsed() >= MIN_INTERVAL {
                return Ok(None);
            }
        }
    }

    /// Takes a signal. Returns the exit status if it ends the call.
    fn take(&mut self, signal: Signal) -> Result<Option<ExitStatus>, Error> {
        match signal {
            Signal::SIGWINCH => {}
            Signal::SIGTSTP => {
                // The shell gets its screen back meanwhile.
                self.screen = None;
                process::stop_self();
                self.screen = Some(Screen::enter().map_err(Error::Output)?);
            }
            Signal::SIGHUP => return Ok(Some(ExitStatus::HungUp)),
            Signal::SIGTERM => return Ok(Some(ExitStatus::Terminated)),
            _ => return Ok(Some(ExitStatus::Done)),
        }
        self.draw()?;
        Ok(None)
    }

    /// Shows the last list.
    fn draw(&mut self) -> Result<(), Error> {
        if let (Some(screen), Some(answer)) = (&mut self.screen, &self.shown) {
            let (width, height) = screen.size();
            screen.show(&answer.table(width, height)).map_err(Error::Output)?;
        }
        Ok(())
    }

    /// Watches the records of the listed jobs; an ended one may be resumed.
    fn add_jobs(&mut self) {
        let Some(answer) = &self.shown else { return };
        for row in &answer.rows {
            let index = self.jobs.len();
            if index < MAX_WATCHED && self.jobs.insert(row.id.clone()) {
                self.watch.add_files(index, &answer.store.job(&row.id), &[RECORD]);
            }
        }
    }
}
