//! The folders in which jobs work, so that a job finds the others in its folder without reading all
//! records.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Store;
use crate::job::JobId;

/// Directory with a directory for each folder, named after the hash of its path, which contains an
/// empty file for each job that works there, or did until lately.
const FOLDERS: &str = ".folders";
/// Number of bytes of the hash in a name.
const HASH_BYTES: usize = 8;
/// How often a list is made that `clean` may remove in the meantime.
const TRIES: usize = 3;

impl Store {
    /// Enters a live job in the list of its folder, and returns the other live jobs there. Of two
    /// jobs that are entered at the same time at least one finds the other.
    pub(crate) fn enter_folder(&self, folder: &Path, id: &JobId) -> io::Result<Vec<JobId>> {
        let list = self.join_folder(folder, id)?;
        let mut others = Vec::new();
        for other in self.pruned(&list)? {
            if other != *id {
                others.push(other);
            }
        }
        others.sort_unstable();
        Ok(others)
    }

    /// Enters a live job in the list of its folder, without a look at the others. Returns the path of
    /// the list.
    pub(crate) fn join_folder(&self, folder: &Path, id: &JobId) -> io::Result<PathBuf> {
        let list = self.list_of(folder);
        let mut tries = 1;
        while let Err(error) = enter(&list, id) {
            if error.kind() != io::ErrorKind::NotFound || tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
        Ok(list)
    }

    /// Removes the lists of folders in which no job works any more.
    pub(super) fn prune_folders(&self) {
        let Ok(lists) = fs::read_dir(self.root.join(FOLDERS)) else { return };
        for list in lists.flatten() {
            let _ = self.pruned(&list.path());
            // Fails unless it is empty.
            let _ = fs::remove_dir(list.path());
        }
    }

    /// Returns the live jobs in a list, and removes the others from it.
    fn pruned(&self, list: &Path) -> io::Result<Vec<JobId>> {
        let mut live = Vec::new();
        for entry in fs::read_dir(list)? {
            let entry = entry?;
            let name = entry.file_name();
            let Ok(id) = JobId::parse(&name.to_string_lossy()) else { continue };
            let job = self.job(&id);
            if job.path().exists() && job.is_held().unwrap_or(true) {
                live.push(id);
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(live)
    }

    fn list_of(&self, folder: &Path) -> PathBuf {
        // The same folder by different links is one; one that is yet to be made has no links.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let mut name = String::new();
        for byte in &Sha256::digest(folder.as_os_str().as_bytes())[..HASH_BYTES] {
            name += &format!("{byte:02x}");
        }
        self.root.join(FOLDERS).join(name)
    }
}

fn enter(list: &Path, id: &JobId) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(list)?;
    let file = list.join(id.as_str());
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file).map(drop)
}
