//! A redelivery in a process of its own, for an agent, whose shell waits only some seconds.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{RedeliverAnswer, UndeliveredJob, redeliver, undelivered};
use crate::claude::own_executable;
use crate::error::Error;
use crate::hidden_verbs;
use crate::job::JobId;
use crate::process;
use crate::store::Store;

/// Says to [`run`] that the jobs were named; no job id.
const NAMED: &str = "--named";

/// What the process says to the one that has started it.
#[derive(Serialize, Deserialize)]
enum RedeliveryReply {
    Answer(RedeliverAnswer),
    /// [`Error::Delivering`].
    Delivering(String, String),
}

/// Lets another process send the notifications of these jobs, and waits for it until `until`. What
/// it has not delivered by then, it continues with: of jobs that were named, that is an error.
///
/// # Errors
/// The process could not be started, or has died.
pub(super) fn redeliver_until(
    store: &Store,
    ids: &[JobId],
    is_named: bool,
    until: Instant,
) -> io::Result<Result<RedeliverAnswer, Error>> {
    let mut before = Vec::new();
    for id in ids {
        before.push((id, undelivered(store, id).len()));
    }
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(own_executable());
    command.arg(hidden_verbs::REDELIVERY).arg(store.root()).args(ids.iter().map(JobId::as_str));
    if is_named {
        command.arg(NAMED);
    }
    let child = process::spawn_detached(&mut command, Some(writer.as_fd()))?;
    drop(writer);
    process::detach(child);
    if let Some(reply) = read_until(reader, until) {
        return match serde_json::from_slice(&reply).map_err(io::Error::other)? {
            RedeliveryReply::Answer(answer) => Ok(Ok(answer)),
            RedeliveryReply::Delivering(id, why) => Ok(Err(Error::Delivering(id, why))),
        };
    }
    let mut answer = RedeliverAnswer::default();
    for (id, before) in before {
        let left = undelivered(store, id);
        answer.delivered += before.saturating_sub(left.len());
        if !left.is_empty() {
            let why = "the gateway is slow; another process continues to try".to_owned();
            let error = Error::Delivering(id.to_string(), why);
            if is_named {
                return Ok(Err(error));
            }
            answer.failed.push(UndeliveredJob::new(store, id.clone(), left, Some(&error)));
        }
    }
    Ok(Ok(answer))
}

/// Reads to the end; `None` if that has not come at `until`.
fn read_until(mut reader: io::PipeReader, until: Instant) -> Option<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("answer".to_owned());
    thread
        .spawn(move || {
            let mut bytes = Vec::new();
            let _ = reader.read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        })
        .ok()?;
    receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

/// Sends the notifications of these jobs, and answers to the process that has started this one. It
/// may have ended before that.
pub(crate) fn run(jobs_dir: PathBuf, ids: &[OsString]) -> io::Result<()> {
    let mut answer_to = File::from(process::take_inherited_pipe()?);
    let is_named = ids.iter().any(|id| id == NAMED);
    let ids = ids.iter().filter_map(|id| JobId::parse(id.to_str()?).ok()).collect();
    let reply = match redeliver(&Store::at(jobs_dir), ids, is_named) {
        Ok(answer) => RedeliveryReply::Answer(answer),
        Err(Error::Delivering(id, why)) => RedeliveryReply::Delivering(id, why),
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    let _ = answer_to.write_all(&serde_json::to_vec(&reply)?);
    Ok(())
}
