//! Room that a live job keeps on the disk, so that its verdict can be written when the disk has
//! filled up meanwhile: files whose blocks are allocated, to be written in place and renamed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{JobDir, files};

/// One to tell that the disk is full, one for the result and one for the record.
const SPARES: [&str; 3] = [".spare-1", ".spare-2", ".spare-3"];
/// Bytes of each, at least: several times what a record takes.
const RESERVE_BYTES: u64 = 16 << 10;

impl JobDir {
    /// Sets room aside for `record` bytes and more. Where there is none the job does without.
    pub fn reserve(&self, record: u64) {
        let room = (record * 2).max(RESERVE_BYTES);
        for name in SPARES {
            let path = self.file(name);
            let mut options = OpenOptions::new();
            let file = files::open(&path, options.write(true).create(true).mode(0o600));
            let kept = file.and_then(|file| allocate(&file, room));
            if kept.is_err() {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Gives back what is set aside, but for one file that is in use.
    pub(super) fn release_reserve_except(&self, used: &Path) {
        for path in SPARES.map(|name| self.file(name)) {
            if path != used {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Writes `text` where room was set aside for it; gives the path, to be renamed.
    pub(super) fn write_in_reserve(&self, text: &[u8]) -> io::Result<PathBuf> {
        for name in SPARES {
            let path = self.file(name);
            let Ok(mut file) = files::open(&path, OpenOptions::new().write(true)) else { continue };
            if file.metadata()?.len() < text.len() as u64 {
                continue;
            }
            // In place first, and cut only then: these blocks are ours already.
            file.write_all(text)?;
            file.set_len(text.len() as u64)?;
            file.sync_all()?;
            return Ok(path);
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &fs::File, room: u64) -> io::Result<()> {
    Ok(nix::fcntl::posix_fallocate(file, 0, room as i64)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &fs::File, room: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(b'\n'), room), &mut &*file).map(drop)
}
