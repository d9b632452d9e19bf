//! `demo`: a whole job, as anybody would run it.

use super::logs::{self, Form, LogsAnswer};
use super::result::{ResultAnswer, result};
use super::start::{self, StartAnswer, start};
use crate::claude::Surroundings;
use crate::error::Error;
use crate::store::Store;

/// What happens in a demo, for showing.
#[derive(Debug)]
pub enum Scene<'a> {
    /// The job was started.
    Started(&'a StartAnswer),
    /// Its log went on.
    Said(&'a LogsAnswer),
    /// It ended.
    Ended(&'a ResultAnswer),
}

/// Starts the job, follows it to its end, and gives its result.
pub fn demo(
    store: &Store,
    request: start::Request,
    around: &Surroundings,
    mut show: impl FnMut(&Scene<'_>) -> bool,
) -> Result<ResultAnswer, Error> {
    let started = start(store, request, around)?;
    show(&Scene::Started(&started));
    let log = logs::Request {
        id: started.job_id.clone(),
        tail: 0,
        since: Some(0),
        max_bytes: None,
        form: Form::Readable,
        merged: false,
    };
    logs::follow(store, &log, |said| show(&Scene::Said(said)))?;
    let ended = result(store, &started.job_id, false)?;
    show(&Scene::Ended(&ended));
    Ok(ended)
}
