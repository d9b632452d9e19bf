//! A bell: a FIFO (fifo(7)) by which whoever changes something wakes up whoever waits for it.
//! Unlike a watch of inotify(7), of which all programs of a user share 128, each can have one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Hangs up the bell of this path, to be listened to: something can be read when it was rung.
pub fn open_wake_fifo(path: &Path) -> io::Result<File> {
    match nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Read and write, so that it has no end when nobody rings.
    options(true).open(path)
}

/// Rings the bell of this path, if somebody listens.
pub fn notify(path: &Path) {
    // Without a listener there is nobody to be told; a full bell rings already.
    let _ = options(false).open(path).and_then(|mut bell| bell.write(b"!"));
}

fn options(read: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(read).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    options
}
