//! A job as a caller sees it: its record, held against its lock and its inbox.

use super::send::turns;
use crate::error::Error;
use crate::job::{JobId, Record, Status};
use crate::launch::send_courier_if_none_is_out;
use crate::settle::{ended_at, settle};
use crate::store::{self, JobDir, LoadError, Store, addressed};
use crate::supervisor;

/// A job that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its directory.
    pub dir: JobDir,
    /// Its record, true at the moment of looking.
    pub record: Record,
    /// Whether it has a worker.
    pub live: bool,
}

impl Seen {
    /// The command to run next for the job, as its caller has to give it.
    pub(super) fn hint(&self) -> Option<String> {
        self.record.hint().map(|hint| addressed(self.dir.root(), hint))
    }
}

/// Looks at a job. One that is recorded as live and has no worker is *lost*: what is left of it
/// is ended and its end is written. What of a job that has ended is still to be told, and nobody
/// is out to tell, gets a courier.
pub(super) fn look(store: &Store, id: &JobId) -> Result<Seen, Error> {
    look_leniently(store, id).map_err(|error| Error::load(id.as_str(), error))
}

/// The same for a listing, where what cannot be read must not spoil the rest.
pub(super) fn look_leniently(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    let (dir, record) = load(store, id)?;
    have_told(&dir, &record);
    Ok(hold_against_lock(dir, record))
}

/// The same for whoever tells by himself what is still to be told.
pub(super) fn look_to_tell(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    load(store, id).map(|(dir, record)| hold_against_lock(dir, record))
}

fn load(store: &Store, id: &JobId) -> Result<(JobDir, Record), LoadError> {
    let dir = store.job(id);
    let record = dir.check().and_then(|()| dir.load())?;
    Ok((dir, record))
}

/// Sends out a courier with what is still to be told of a job that has ended: whoever was to tell
/// it has died. What was given up is left to `redeliver`.
fn have_told(dir: &JobDir, record: &Record) {
    let forgotten = || dir.errands(record).iter().any(|errand| errand.error.is_none());
    // A worker that is still there has just written the end, and sends one itself.
    let is_left = || !dir.is_held().unwrap_or(true) && !dir.is_elsewhere(record);
    if !record.status.is_live() && forgotten() && is_left() {
        send_courier_if_none_is_out(dir);
    }
}

fn hold_against_lock(dir: JobDir, mut record: Record) -> Seen {
    if !record.status.is_live() {
        return Seen { dir, record, live: false };
    }
    if record.version == 0 {
        let dead = store::legacy_is_dead(&record);
        if dead {
            record.end(&supervisor::lost(&record, None), ended_at(&dir, &record));
        } else {
            record.warn("a record of the Node skill: that the job lives is not certain");
        }
        return Seen { dir, record, live: !dead };
    }
    match dir.is_held() {
        Ok(true) => {
            hold_against_inbox(&dir, &mut record);
            Seen { dir, record, live: true }
        }
        Ok(false) if dir.other_host(&record).is_some() => {
            let host = record.host.as_deref().unwrap_or("an unknown host").to_owned();
            record.warn(format!(
                "it runs on {host} as far as is known: the locks of this file system may not \
                 reach here from there"
            ));
            Seen { dir, record, live: true }
        }
        Ok(false) => {
            let record = settle(&dir, record, None);
            let live = record.status.is_live();
            Seen { dir, record, live }
        }
        Err(error) => {
            record.warn(format!("whether the job lives is not known: {error}"));
            Seen { dir, record, live: true }
        }
    }
}

/// A job is not idle while a message that it accepted waits for the end of its turn: its worker may
/// not have seen the message yet, or claude may not have taken it in.
fn hold_against_inbox(dir: &JobDir, record: &mut Record) {
    if record.status != Status::Idle {
        return;
    }
    let mut open = dir.open_messages();
    if !open.is_empty() {
        // The line of a turn is written before its messages leave the inbox.
        let ended = turns(dir);
        open.retain(|number| !ended.iter().any(|turn| turn.messages.contains(number)));
    }
    if !open.is_empty() {
        record.status = Status::Running;
        record.waiting_for = None;
        dir.ring_inbox_bell();
    }
}
