//! The present record of a job with an engine.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::{EpochEntry, JobDir, Listing, MAX_ENTRY_BYTES, Owner};
use crate::job::{Record, Summary};
use crate::json;
use crate::store::summaries::{ReadSummary, RecordText, Stamp, StampedFile};
use crate::store::{Context, LoadError, RECORD, files};

/// Where the present record is.
enum Latest {
    /// In the job's own directory: nobody has owned the job yet.
    First,
    /// In this file of the owner, who may replace it.
    OfOwner(PathBuf),
    /// In the last entry, which never changes.
    End(Box<Record>),
}

impl JobDir {
    /// Finds the present record. From now on this value names the files of the present owner.
    fn find_latest(&self) -> Result<Latest, LoadError> {
        let Owner::Latest(latest) = &self.owner else { return Ok(Latest::First) };
        let Listing { last, owner } = self.list_epochs()?;
        latest.store(owner, Ordering::Relaxed);
        if last > owner
            && let Some(EpochEntry::End(record)) = self.read_entry(last)?
        {
            return Ok(Latest::End(record));
        }
        Ok(if owner == 0 { Latest::First } else { Latest::OfOwner(self.file(RECORD)) })
    }

    /// Loads the record of a job with an engine, whose own directory has this one. From now on this
    /// value names the files of the present owner.
    pub(in crate::store) fn load_of_owner(&self, first: Record) -> Result<Record, LoadError> {
        match self.find_latest()? {
            Latest::First => Ok(first),
            Latest::OfOwner(path) => self.load_file(&path),
            Latest::End(record) => Ok(*record),
        }
    }

    /// As [`load_of_owner`](Self::load_of_owner), for the summary, with the text of that record. The record that has ended the job is
    /// the present one until the directory of the entries changes: a successor makes an entry there.
    pub(in crate::store) fn summary_of_owner(
        &self,
        first: Summary,
        first_text: Vec<u8>,
    ) -> Result<ReadSummary, LoadError> {
        let epochs = self.epochs();
        // Before the entries are read: then the summary is not older than the stamp.
        let metadata = fs::symlink_metadata(&epochs).context("examine", &epochs)?;
        let stamp = Stamp::new(StampedFile::Epochs, &metadata);
        let (summary, is_constant, record) = match self.find_latest()? {
            Latest::First => (first, false, Some(RecordText::Text(first_text))),
            Latest::End(record) if record.is_cut_off() => {
                (Summary::from(Record::clone(&record)), true, Some(RecordText::Decoded(record)))
            }
            Latest::End(record) => (Summary::from(*record), true, None),
            Latest::OfOwner(path) => {
                let text = files::read_bounded(&path, MAX_ENTRY_BYTES).context("read", &path)?;
                let summary = json::from_bytes(&text);
                let summary = summary.map_err(|error| self.unreadable(path, error.to_string()))?;
                (summary, false, Some(RecordText::Text(text)))
            }
        };
        Ok(ReadSummary { summary, stamp, is_constant, record })
    }
}
