//! The copy of a predecessor's files with which an owner begins.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{ENGINE_REF, EpochEntry, JobDir, is_shared};
use crate::store::files;
use crate::store::{Context, LOCK, LoadError, RECORD, Store, StoreError};

/// Most files that are synced one by one.
const MAX_SINGLE_SYNCS: usize = 50;

impl JobDir {
    /// Copies the files of the predecessor, which may still write to its own: each file is a copy of
    /// its present beginning. The caller owns the job, and shows the files to readers later.
    pub(crate) fn copy_predecessor(&self) -> Result<(), LoadError> {
        let Some(number) = self.own_epoch() else { return Ok(()) };
        let mut from = (1..number).rev().find(|earlier| self.epoch_dir(*earlier).is_dir());
        let source = match from {
            Some(earlier) => self.epoch_dir(earlier),
            None => self.path.clone(),
        };
        let staged = self.staged_epoch(number);
        // What this process has left of an earlier try.
        let _ = fs::remove_dir_all(&staged);
        files::create_directory(&staged, false)?;
        let mut copies = Vec::new();
        copy_files(&source, &staged, from.is_none(), &mut copies)?;
        self.sync_copies(&copies)?;
        File::create_new(staged.join(LOCK)).context("create", &staged)?;
        // The end of a predecessor that died before it had replaced its record.
        let first = from.take().unwrap_or_default() + 1;
        for earlier in (first..number).rev() {
            if let Some(EpochEntry::End(record)) = self.read_entry(earlier)? {
                self.save(&record, false)?;
                break;
            }
        }
        Ok(())
    }

    /// Makes copies durable. Each sync of a file waits for the disk, so that many files are synced with
    /// the file system.
    fn sync_copies(&self, copies: &[PathBuf]) -> Result<(), StoreError> {
        if copies.len() > MAX_SINGLE_SYNCS {
            return Store::at(self.root().to_owned()).sync();
        }
        for copy in copies {
            File::open(copy).and_then(|file| file.sync_data()).context("write", copy)?;
        }
        Ok(())
    }
}

/// Copies the owner's files, and the directories with its marks of messages. Adds the copies, which are
/// not synced.
fn copy_files(
    from: &Path,
    to: &Path,
    is_job_dir: bool,
    copies: &mut Vec<PathBuf>,
) -> Result<(), StoreError> {
    for entry in fs::read_dir(from).context("read", from)? {
        let entry = entry.context("read", from)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_private = name == LOCK || name.starts_with('.') || name.ends_with(".tmp");
        if is_private || is_shared(name) || name == super::END {
            continue;
        }
        let (source, target) = (entry.path(), to.join(name));
        let kind = entry.file_type().context("examine", &source)?;
        if kind.is_file() {
            match copy_file(&source, &target) {
                // The record and the engine's name of the job are replaced by renames: one of them
                // may be gone from a listing that is out of date.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_needed(name) => {
                    continue;
                }
                copied => copied.context("copy", &source)?,
            }
            copies.push(target);
        } else if kind.is_dir() && !is_job_dir {
            files::create_directory(&target, false)?;
            copy_files(&source, &target, false, copies)?;
            copies.push(target);
        }
    }
    Ok(())
}

fn is_needed(name: &str) -> bool {
    name == RECORD && name != ENGINE_REF
}

fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = files::open_to_read(source)?;
    let mut options = fs::OpenOptions::new();
    let mut to = files::open(target, options.write(true).create_new(true))?;
    // By copy_file_range(2): some file systems share the blocks, or copy them on the server.
    io::copy(&mut from, &mut to).map(drop)
}
