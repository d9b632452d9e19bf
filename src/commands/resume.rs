//! `resume`: a job that has ended goes on in the same conversation.

use super::host::refuse_elsewhere;
use super::recover::{Recovered, attempt_again};
use super::seen::look;
use super::send::check_message;
use crate::claude::{self, Surroundings};
use crate::error::Error;
use crate::job::{Directive, JobId, Record, SpecChange};
use crate::launch::Wish;
use crate::store::{JobDir, Store};

/// What claude is told where nothing else is to be said.
const GO_ON: &str = "Go on with the task.";

/// What to resume.
#[derive(Debug)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// What claude is told; `None` for a word to go on.
    pub message: Option<Vec<u8>>,
    /// Options that replace the job's own.
    pub change: SpecChange,
    /// How the job is detached from us.
    pub detach: Wish,
}

/// Resumes the job: another attempt with its session, which begins with what was not delivered
/// before, and then the message. A job in which claude never began a session begins with its
/// prompt, after those that it waits for.
pub fn resume(store: &Store, request: Request, around: &Surroundings) -> Result<Recovered, Error> {
    let message = request.message.map(check_message).transpose()?;
    let id = request.id;
    let seen = look(store, &id)?;
    refuse_elsewhere(&seen.dir, &seen.record)?;
    if let Some(why) = why_not(&seen.record) {
        return Err(Error::NotResumable(id.to_string(), why));
    }
    check_session(&seen.record, around)?;
    let mut spec = seen.record.spec;
    let model = request.change.model.clone();
    // The session was begun with another text, which a claude may have recorded.
    spec.fresh_system_prompt |= request.change.append_system_prompt.is_some();
    request.change.apply(&mut spec);
    let begin = |dir: &JobDir, record: &mut Record| -> Result<(), Error> {
        if let Some(why) = why_not(record) {
            return Err(Error::NotResumable(id.to_string(), why));
        }
        dir.open_inbox()?;
        // What a turn had taken in that was cut off is behind this conversation.
        for number in dir.aside() {
            dir.take_out(number);
        }
        let goes_on = record.session_began && record.session_id.is_some();
        let text = message.or_else(|| goes_on.then(|| GO_ON.to_owned()));
        if let (Some(text), Some(identity)) = (text, dir.identity()) {
            let uuid = uuid::Uuid::new_v4().to_string();
            dir.post(&Directive::Message { uuid, text }, &identity)?;
        }
        if !goes_on {
            record.recovered_from = record.reason;
        }
        record.begin_attempt();
        record.resumed = goes_on;
        if model.is_some() {
            record.model = model;
        }
        // What was limited is over; this is another piece of work.
        record.last_failure = None;
        record.released = None;
        record.denied = 0;
        record.earlier.denied = 0;
        record.earlier.untimed_ms = record.earlier.elapsed_ms;
        Ok(())
    };
    let taken = || Error::NotResumable(id.to_string(), "it was taken up just now".to_owned());
    attempt_again(store, &id, spec, request.detach, around, taken, begin)
}

/// Refuses a job whose conversation was seen on claude's disk, and is not there any more. What was
/// never seen, such as that of a claude that keeps it in a container, may be there.
pub(super) fn check_session(record: &Record, around: &Surroundings) -> Result<(), Error> {
    let (Some(file), Some(session)) = (record.session_file(), &record.session_id) else {
        return Ok(());
    };
    let is_there =
        file.exists() || claude::session_file(around, &record.spec.cwd, session).is_some();
    if is_there || !record.session_began {
        return Ok(());
    }
    Err(Error::SessionGone {
        id: record.job_id.to_string(),
        file: file.display().to_string(),
        recoverable: record.is_recoverable(),
    })
}

fn why_not(record: &Record) -> Option<String> {
    if record.status.is_live() {
        Some(format!("it is {}: send tells it something", record.status))
    } else if !record.is_ours_to_write() {
        Some("its record is of another version of this program".to_owned())
    } else {
        None
    }
}
