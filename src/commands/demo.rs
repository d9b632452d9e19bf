//! `demo`: runs a recorded job from start to result.

use super::logs::{self, LogFormat, LogsAnswer};
use super::result::{ResultAnswer, result};
use super::start::{self, StartAnswer, start};
use crate::claude::Env;
use crate::error::Error;
use crate::store::Store;

/// A step of a demo, for output.
#[derive(Debug)]
pub(crate) enum DemoEvent<'a> {
    /// The job has started.
    Started(&'a StartAnswer),
    /// A new part of its log.
    LogGrew(&'a LogsAnswer),
    /// The job has ended.
    Ended(&'a ResultAnswer),
}

/// Starts the job, follows its log to the end, and returns its result.
pub(crate) fn demo(
    store: &Store,
    request: start::StartRequest,
    env: &Env,
    mut show: impl FnMut(&DemoEvent<'_>) -> bool,
) -> Result<ResultAnswer, Error> {
    let started = start(store, request, env)?;
    show(&DemoEvent::Started(&started));
    let log = logs::LogsRequest {
        id: started.job_id.clone(),
        tail: 0,
        since: Some(0),
        max_bytes: None,
        format: LogFormat::Readable,
        merged: false,
    };
    logs::follow(store, &log, |part| show(&DemoEvent::LogGrew(part)))?;
    let ended = result(store, &started.job_id, false)?;
    show(&DemoEvent::Ended(&ended));
    Ok(ended)
}
