//! A job as a caller sees it: its record, held against its lock.

use crate::error::Error;
use crate::job::{JobId, Record};
use crate::settle::{ended_at, settle};
use crate::store::{self, JobDir, LoadError, Store};
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

/// Looks at a job. One that is recorded as live and has no worker is *lost*: what is left of it
/// is ended and its end is written.
pub(super) fn look(store: &Store, id: &JobId) -> Result<Seen, Error> {
    look_leniently(store, id).map_err(|error| Error::load(id.as_str(), error))
}

/// The same for a listing, where what cannot be read must not spoil the rest.
pub(super) fn look_leniently(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    let dir = store.job(id);
    let record = dir.check().and_then(|()| dir.load())?;
    Ok(hold_against_lock(dir, record))
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
        Ok(true) => Seen { dir, record, live: true },
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
