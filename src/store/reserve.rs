//! Disk space that a live job reserves, so that its verdict can be written even if the disk is full
//! by then: files with allocated blocks, which are overwritten in place and renamed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{JobDir, files};

/// One for the report that the disk is full, one for the result and one for the record.
const SPARES: [&str; 3] = [".spare-1", ".spare-2", ".spare-3"];
/// Minimum size of each file: several times that of a record.
const MIN_RESERVE_BYTES: u64 = 16 << 10;

impl JobDir {
    /// Reserves space for a record of `record_bytes` that may grow. If the disk is full, the job
    /// continues without a reserve.
    pub(crate) fn reserve(&self, record_bytes: u64) {
        let bytes = (record_bytes * 2).max(MIN_RESERVE_BYTES);
        for name in SPARES {
            let path = self.file(name);
            let mut options = OpenOptions::new();
            let file = files::open(&path, options.write(true).create(true));
            let allocated = file.and_then(|file| allocate(&file, bytes));
            if allocated.is_err() {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes the reserve except for one file that is in use.
    pub(super) fn release_reserve_except(&self, used: &Path) {
        for path in SPARES.map(|name| self.file(name)) {
            if path != used {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Overwrites a file of the reserve with `text`, and returns its path, to be renamed.
    pub(super) fn write_in_reserve(&self, text: &[u8]) -> io::Result<PathBuf> {
        for name in SPARES {
            let path = self.file(name);
            let Ok(mut file) = files::open(&path, OpenOptions::new().write(true)) else { continue };
            if file.metadata()?.len() < text.len() as u64 {
                continue;
            }
            // Overwritten before it is truncated: these blocks are allocated already.
            file.write_all(text)?;
            file.set_len(text.len() as u64)?;
            file.sync_all()?;
            return Ok(path);
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    Ok(nix::fcntl::posix_fallocate(file, 0, bytes as i64)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(b'\n'), bytes), &mut &*file).map(drop)
}
