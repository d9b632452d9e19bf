//! What keys want to be done, each in a thread of its own: the screen goes on.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, Command};
use std::sync::mpsc::Sender;

use anstream::adapter::strip_str;
use nix::sys::signal::Signal;

use super::jobs::from_record;
use super::slow_jobs::Slowness;
use crate::claude::Env;
use crate::commands::engine_jobs::Ask;
use crate::commands::observe::{Observed, observe, try_load_checked};
use crate::commands::resume::{ResumeRequest, resume};
use crate::commands::status::status_view_in_queue;
use crate::commands::watch::Notice;
use crate::commands::{answer, interrupt, kill, naming, pause, recover, send, unpause};
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, SpecChange};
use crate::launch::DetachMode;
use crate::output::Answer;
use crate::process::run_in_foreground;
use crate::queue::PauseScope;
use crate::screen::top::{JobVerb, TopEffect, TopInput, TopJob};
use crate::store::Store;
use crate::text::one_line;

/// Longest text about an action.
const MAX_TEXT_CHARS: usize = 500;

/// What a thread has found or done.
pub(super) enum TopResult {
    /// What was found out about jobs whose state takes time.
    Found(Slowness, Vec<TopJob>),
    /// A verb on the terminal has ended, and Enter is awaited.
    AwaitsEnter,
    /// A verb on the terminal is done with; the error if it could not be run.
    Returned(Option<String>),
    Input(Box<TopInput>),
}

/// Acts on jobs.
pub(super) struct Actions {
    store: Store,
    env: Env,
    sender: Sender<TopResult>,
    waker: Sender<Notice>,
}

impl Actions {
    /// Each result is sent to `sender`, followed by a notice.
    pub(super) fn new(
        store: &Store,
        env: &Env,
        sender: Sender<TopResult>,
        waker: Sender<Notice>,
    ) -> Self {
        Self { store: store.clone(), env: env.clone(), sender, waker }
    }

    fn in_thread(&self, work: impl FnOnce(&Store, &Env) -> TopResult + Send + 'static) {
        let (store, env) = (self.store.clone(), self.env.clone());
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        std::thread::spawn(move || {
            let _ = sender.send(work(&store, &env));
            let _ = waker.send(Notice::Done);
        });
    }

    /// Finds out the state of these jobs, which takes time.
    pub(super) fn observe(&self, why: Slowness, ids: BTreeSet<JobId>) {
        self.in_thread(move |store, _| TopResult::Found(why, observe_all(store, &ids)));
    }

    /// Does what a key wants. An open request is described in at most `rows` lines.
    pub(super) fn perform(&self, effect: TopEffect, rows: usize) {
        self.in_thread(move |store, env| {
            let input = match perform(store, env, &effect, rows) {
                Ok(ActionResult::Asked(input)) => *input,
                Ok(ActionResult::Said(text)) => TopInput::Done(effect, Ok(without_hint(&text))),
                Err(error) => {
                    let mut text = error.to_string();
                    if let Some(hint) = naming::hint(store, &error) {
                        text = format!("{text} · {hint}");
                    }
                    TopInput::Done(effect, Err(text))
                }
            };
            TopResult::Input(Box::new(input))
        });
    }

    /// Runs a verb for a job on the terminal. What it prints on the terminal without asking anything
    /// stays there until a key is typed.
    pub(super) fn run_on_terminal(&self, verb: JobVerb, id: &JobId) {
        let id = id.clone();
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        self.in_thread(move |store, _| {
            let run = || -> io::Result<process::ExitStatus> {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("--jobs-dir").arg(store.root()).args([verb.as_str(), id.as_str()]);
                run_in_foreground(&mut command)
            };
            let ended = run();
            let has_failed = ended.as_ref().is_ok_and(|status| !status.success());
            if (verb == JobVerb::Diff || has_failed) && !ended.as_ref().is_ok_and(was_told_to_end) {
                // Before the question can be seen: a stop that follows it is no longer for the verb.
                let _ = sender.send(TopResult::AwaitsEnter);
                let _ = waker.send(Notice::Done);
                let _ = ask_for_enter();
                let _ = io::stdin().lock().read_line(&mut String::new());
            }
            TopResult::Returned(
                ended.err().map(|error| format!("cannot run {}: {error}", verb.as_str())),
            )
        });
    }
}

/// Observes jobs, however long that takes.
fn observe_all(store: &Store, ids: &BTreeSet<JobId>) -> Vec<TopJob> {
    let queue = OnceCell::new();
    let mut jobs = Vec::new();
    for id in ids {
        // The screen itself shows a job that cannot be read, and forgets one that is gone.
        if let Ok(Observed { record, .. }) = try_load_checked(store, id) {
            let view = status_view_in_queue(store, &record, &queue, Ask::Many);
            jobs.push(from_record(record, view));
        }
    }
    jobs
}

/// Whether a verb was ended by SIGTERM or SIGHUP.
fn was_told_to_end(status: &process::ExitStatus) -> bool {
    let codes = [ExitStatus::HungUp as i32, ExitStatus::Terminated as i32];
    let signals = [Signal::SIGHUP as i32, Signal::SIGTERM as i32];
    status.code().is_some_and(|code| codes.contains(&code))
        || status.signal().is_some_and(|signal| signals.contains(&signal))
}

pub(super) fn ask_for_enter() -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(b"\nEnter: back to top ")?;
    out.flush()
}

/// Returns the text of an answer on one line, without the command to run next.
fn without_hint(text: &str) -> String {
    let text = strip_str(text).to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("hint:")).collect();
    one_line(&lines.join(" "), MAX_TEXT_CHARS)
}

/// What an action has led to.
enum ActionResult {
    Said(String),
    Asked(Box<TopInput>),
}

fn perform(
    store: &Store,
    env: &Env,
    effect: &TopEffect,
    rows: usize,
) -> Result<ActionResult, Error> {
    let text = match effect {
        TopEffect::Ask(id) => {
            let record = observe(store, id)?.record;
            let request = record.blocked.map(|blocked| blocked.request_id);
            let open = answer::open(store, id, request.as_deref())?;
            let picker = answer::picker(store, id, open, rows / 2)?;
            return Ok(ActionResult::Asked(Box::new(TopInput::Asked(id.clone(), picker))));
        }
        TopEffect::Answer { id, request_id, response } => {
            answer::respond(store, id, request_id, response.clone())?.text()
        }
        TopEffect::Send(id, text) => send::send(store, id, text.clone(), None)?.text(),
        TopEffect::Interrupt(id) => interrupt::interrupt(store, id)?.text(),
        TopEffect::Kill(id) => kill::kill(store, id)?.text(),
        TopEffect::Continue(id, message) => go_on(store, env, id, message.clone())?,
        TopEffect::Pause(id) => {
            pause::pause(store, vec![PauseScope::Job(id.clone())], false)?.text()
        }
        TopEffect::Unpause(id) => {
            unpause::unpause(store, vec![PauseScope::Job(id.clone())])?.text()
        }
        TopEffect::Follow(_) | TopEffect::Run(..) | TopEffect::Suspend | TopEffect::Quit => {
            String::new()
        }
    };
    Ok(ActionResult::Said(text))
}

/// Recovers a job that was cut off, unless there is a message for it, or resumes any other.
fn go_on(store: &Store, env: &Env, id: &JobId, message: Option<String>) -> Result<String, Error> {
    let is_recoverable = observe(store, id)?.record.is_recoverable();
    if message.is_none() && is_recoverable {
        return Ok(recover::recover(store, id, env)?.text());
    }
    let (id, detach) = (id.clone(), DetachMode::Auto);
    let request = ResumeRequest { id, message, change: SpecChange::default(), detach };
    Ok(resume(store, request, env)?.text())
}
