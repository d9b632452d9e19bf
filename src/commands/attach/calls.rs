//! Calls for the person, in a thread: the screen shows the job meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::model::AttachEffect;
use crate::arguments::check_message;
use crate::claude::Env;
use crate::commands::watch::Notice;
use crate::commands::{answer, interrupt, resume, send};
use crate::error::Error;
use crate::job::{JobId, SpecChange};
use crate::launch::DetachMode;
use crate::store::Store;

/// Makes calls about one job.
pub(super) struct Caller {
    store: Store,
    id: JobId,
    env: Env,
    waker: Sender<Notice>,
    results: (Sender<CallResult>, Receiver<CallResult>),
}

/// What a call did: a note for the person, or why it failed.
pub(super) type CallResult = Result<Option<String>, String>;

impl Caller {
    /// The receiver of `waker` gets a notice when a call has ended.
    pub(super) fn new(store: Store, id: JobId, env: Env, waker: Sender<Notice>) -> Self {
        Self { store, id, env, waker, results: channel() }
    }

    /// Begins the call.
    pub(super) fn begin(&self, effect: AttachEffect) {
        let (store, id, env) = (self.store.clone(), self.id.clone(), self.env.clone());
        let (waker, results) = (self.waker.clone(), self.results.0.clone());
        std::thread::spawn(move || {
            let result = call(&store, &id, &env, effect).map_err(|error| match error.hint() {
                Some(hint) => format!("{error}\n{hint}"),
                None => error.to_string(),
            });
            let _ = results.send(result);
            let _ = waker.send(Notice::Done);
        });
    }

    /// Returns the result of a call that has ended.
    pub(super) fn result(&self) -> Option<CallResult> {
        self.results.1.try_recv().ok()
    }
}

fn call(
    store: &Store,
    id: &JobId,
    env: &Env,
    effect: AttachEffect,
) -> Result<Option<String>, Error> {
    match effect {
        AttachEffect::Send(text) => {
            let sent = send::send(store, id, check_message(text.into_bytes())?, None)?;
            Ok(Some(format!("message {} was sent", sent.message)))
        }
        AttachEffect::Answer(request, response) => {
            match answer::respond(store, id, &request, response) {
                Ok(answered) if answered.answered => Ok(None),
                Ok(_) | Err(Error::JobEnded(..)) => Ok(Some("already answered".to_owned())),
                Err(error) => Err(error),
            }
        }
        AttachEffect::Interrupt => Ok(interrupt::interrupt(store, id)?.error),
        AttachEffect::Resume(message) => {
            let request = resume::ResumeRequest {
                id: id.clone(),
                message,
                change: SpecChange::default(),
                detach: DetachMode::default(),
            };
            let resumed = resume::resume(store, request, env)?;
            Ok(resumed.warnings.into_iter().next())
        }
        AttachEffect::Leave | AttachEffect::Suspend => Ok(None),
    }
}
