//! `demo`: runs a recorded job from start to result.

use super::logs::{self, Form, LogsAnswer};
use super::result::{ResultAnswer, result};
use super::start::{self, StartAnswer, start};
use crate::claude::Surroundings;
use crate::error::Error;
use crate::store::Store;

/// A step of a demo, for output.
#[derive(Debug)]
pub enum Scene<'a> {
    /// The job has started.
    Started(&'a StartAnswer),
    /// A new part of its log.
    Said(&'a LogsAnswer),
    /// The job has ended.
    Ended(&'a ResultAnswer),
}

/// Starts the job, follows its log to the end, and returns its result.
pub fn demo(
    store: &Store,
    request: start::Request,
    env: &Surroundings,
    mut show: impl FnMut(&Scene<'_>) -> bool,
) -> Result<ResultAnswer, Error> {
    let started = start(store, request, env)?;
    show(&Scene::Started(&started));
    let log = logs::Request {
        id: started.job_id.clone(),
        tail: 0,
        since: Some(0),
        max_bytes: None,
        form: Form::Readable,
        merged: false,
    };
    logs::follow(store, &log, |part| show(&Scene::Said(part)))?;
    let ended = result(store, &started.job_id, false)?;
    show(&Scene::Ended(&ended));
    Ok(ended)
}
