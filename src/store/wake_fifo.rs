//! A FIFO (fifo(7)) through which a process wakes the process that waits for a change. Any number of
//! them can exist, unlike instances of inotify(7): all programs of a user share 128.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Creates the FIFO of this path if it is missing, and opens it for waiting: it becomes readable
/// after [`notify`].
pub(crate) fn open_wake_fifo(path: &Path) -> io::Result<File> {
    match nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Opened for writing, too, so that a read never finds the end of the file.
    options(true).open(path)
}

/// Wakes the process that waits at the FIFO of this path, if there is one.
pub(crate) fn notify(path: &Path) {
    // Without a reader no process waits; a full FIFO is readable already.
    if let Ok(mut fifo) = options(false).open(path) {
        let _ = fifo.write(b"!");
    }
}

fn options(read: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(read).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    options
}
