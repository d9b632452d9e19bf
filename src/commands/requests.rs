//! Requests to workers that are answered in the event log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::recipient::Recipient;
use super::watch::{Notice, Watch};
use crate::error::Error;
use crate::job::{AppliedTo, FreezeSkip, InboxMessage, JobId};
use crate::store::{EVENTS, JobDir, Store};

/// How long a worker may take to answer: longer than it waits for a stopped process that holds the
/// lock of the queue. A worker that was stopped itself answers when it continues.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// The worker's event about a request.
#[derive(Debug, Deserialize)]
pub(super) struct WorkerReply {
    pub event: String,
    number: Option<u64>,
    /// Why the processes were not frozen.
    #[serde(default)]
    pub why: Option<FreezeSkip>,
    /// What the change of an `update` applies to; `None` if the worker does not know the request.
    #[serde(default)]
    pub applied: Option<AppliedTo>,
}

/// A request that was not answered yet.
pub(super) struct PendingRequest {
    dir: JobDir,
    number: u64,
    /// Where to read the event log from.
    from: u64,
}

impl PendingRequest {
    /// Posts a request.
    fn post(store: &Store, id: &JobId, message: &InboxMessage) -> Result<Self, Error> {
        Self::post_to(store, Recipient::find(store, id)?, message)
    }

    /// Posts a request to a job that was found before.
    pub(super) fn post_to(
        store: &Store,
        recipient: Recipient,
        message: &InboxMessage,
    ) -> Result<Self, Error> {
        let from = recipient.dir.length(EVENTS);
        let number = recipient.post(store, message)?;
        Ok(Self { dir: recipient.dir, number, from })
    }

    /// Returns the worker's event about the request, if it has come.
    pub(super) fn reply(&self) -> Option<WorkerReply> {
        let mut replies = self.dir.json_lines::<WorkerReply>(EVENTS, self.from);
        replies.find(|reply| reply.number == Some(self.number))
    }
}

/// Posts the message to these jobs and waits for the replies. A job that did not answer in time is
/// `busy`; the request stays in its inbox.
pub(super) fn request(
    store: &Store,
    ids: &[JobId],
    message: &InboxMessage,
) -> BTreeMap<JobId, Result<WorkerReply, Error>> {
    let mut replies = BTreeMap::new();
    let mut watch = Watch::new();
    let mut open = BTreeMap::new();
    for (index, id) in ids.iter().enumerate() {
        watch.add_files(index, &store.job(id), &[EVENTS]);
        match PendingRequest::post(store, id, message) {
            Ok(request) => {
                open.insert(index, request);
            }
            Err(error) => {
                replies.insert(id.clone(), Err(error));
            }
        }
    }
    let until = Instant::now() + REPLY_TIMEOUT;
    // The first answers may have come before the last request was posted.
    let mut changed: Vec<usize> = open.keys().copied().collect();
    loop {
        for index in changed {
            if let Some(request) = open.get(&index)
                && let Some(reply) = request.reply()
            {
                replies.insert(request.dir.id().clone(), Ok(reply));
                open.remove(&index);
            }
        }
        if open.is_empty() {
            break;
        }
        match watch.next_until(Some(until)) {
            Some(Notice::Changed(index)) => changed = vec![index],
            Some(_) => changed = Vec::new(),
            None => break,
        }
    }
    for request in open.into_values() {
        replies.insert(request.dir.id().clone(), Err(no_reply_error(&request.dir)));
    }
    replies
}

/// Returns the error for a job whose worker has not answered.
fn no_reply_error(dir: &JobDir) -> Error {
    let record = dir.load().ok();
    if let Some(record) = &record
        && !record.status.is_live()
    {
        return Error::JobEnded(dir.id().to_string(), record.status.to_string());
    }
    let pid = match record.and_then(|record| record.worker.pid) {
        Some(pid) => format!("process {pid}, "),
        None => String::new(),
    };
    let id = dir.id();
    Error::Busy(format!("{pid}the worker of job {id}, has not answered; the request stays"))
}
