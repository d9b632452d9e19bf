//! What is read from a job's files for its summary.

use super::Stamp;
use crate::job::{Record, Summary};
use crate::store::JobDir;

/// A record with the directory in which it was found.
#[derive(Debug)]
pub(crate) struct LoadedJob {
    pub dir: JobDir,
    pub record: Record,
}

/// A summary that was read from a job's files.
#[derive(Debug)]
pub(in crate::store) struct ReadSummary {
    pub summary: Summary,
    /// It is that of the present record as long as the file has this stamp.
    pub stamp: Stamp,
    /// It is that of a file which never changes.
    pub is_constant: bool,
    /// The record of a job with an engine; `None` if the job has ended for good.
    pub record: Option<RecordText>,
}

/// A record that was read.
#[derive(Debug)]
pub(in crate::store) enum RecordText {
    Text(Vec<u8>),
    Decoded(Box<Record>),
}

impl ReadSummary {
    /// Returns the record, if it was read and can be decoded.
    pub(super) fn into_loaded(self, dir: JobDir) -> Option<LoadedJob> {
        let record = match self.record? {
            RecordText::Text(text) => JobDir::decode(&text)?,
            RecordText::Decoded(record) => *record,
        };
        Some(LoadedJob { dir, record })
    }
}
