//! Warnings that were given to a caller, so that the next one does not get them again.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Folder with an empty file for each warning that was given, named after its text.
const WARNED: &str = ".warned";
/// Time after which a warning is given again.
const REPEATED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Number of bytes of the hash in a file's name.
const HASH_BYTES: usize = 8;

/// Returns whether a warning was not given for a day. It counts as given now, so that of several
/// callers one gives it. Without a folder each call counts as the first.
pub(super) fn is_due(root: &Path, warning: &str) -> bool {
    let folder = root.join(WARNED);
    let mut name = String::new();
    for byte in &Sha256::digest(warning)[..HASH_BYTES] {
        name += &format!("{byte:02x}");
    }
    let file = folder.join(name);
    if file.exists() && !is_old(&file) {
        return false;
    }
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if is_old(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    !matches!(created, Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
}

fn is_old(file: &Path) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= REPEATED_AFTER))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_warning_is_due_once_a_day() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(["a", "a", "b", "a"].map(|text| is_due(root, text)), [true, false, true, false]);
        let day = SystemTime::now() - REPEATED_AFTER;
        for entry in fs::read_dir(root.join(WARNED)).unwrap() {
            let file = fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(day).unwrap();
        }
        assert_eq!(["a", "a"].map(|text| is_due(root, text)), [true, false]);
        assert_eq!(fs::read_dir(root.join(WARNED)).unwrap().count(), 1);
        let gone = root.join("gone");
        assert_eq!(["a", "a"].map(|text| is_due(&gone, text)), [true, true]);
    }
}
