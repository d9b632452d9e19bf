//! Synchronizes the bench with its fake `claude`: the fake announces that it has reached a point
//! and stays there until the bench has inspected the worker. Two FIFOs, so that neither side polls.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::{Outcome, interrupt};

/// The environment variable with the gate's directory, for the fake.
pub(crate) const DIRECTORY_VARIABLE: &str = "CLAUDEJOB_BENCH_GATE";

/// Milliseconds after which a silent fake, or its job, counts as dead: an error instead of a hang.
const TIMEOUT: u16 = 60_000;

/// The bench's side.
pub(crate) struct Gate {
    pub(crate) directory: PathBuf,
    ready: File,
    go: File,
}

impl Gate {
    pub(crate) fn new(directory: PathBuf) -> Outcome<Gate> {
        std::fs::create_dir(&directory)?;
        for name in ["ready", "go"] {
            nix::unistd::mkfifo(&directory.join(name), Mode::from_bits_truncate(0o600))?;
        }
        // Opened for reading and writing: then the FIFO neither blocks until the other side opens
        // it nor reports its end.
        let open = |name| OpenOptions::new().read(true).write(true).open(directory.join(name));
        let (ready, go) = (open("ready")?, open("go")?);
        Ok(Gate { directory, ready, go })
    }

    /// Waits until the fake has reached the gate.
    pub(crate) fn reached(&mut self) -> Outcome<()> {
        let mut fds = [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(TIMEOUT)) {
            Ok(0) => return Err("the fake claude did not come to its gate".into()),
            Err(Errno::EINTR) => interrupt::check()?,
            other => drop(other?),
        }
        Ok(self.ready.read_exact(&mut [0])?)
    }

    /// Lets the fake continue.
    pub(crate) fn open(&mut self) -> Outcome<()> {
        Ok(self.go.write_all(b"g")?)
    }
}

/// The fake's side: announces the fake and blocks until it may continue, or until the bench is
/// gone.
pub(crate) fn pass(directory: &Path) -> std::io::Result<()> {
    let nonblock = nix::libc::O_NONBLOCK;
    OpenOptions::new()
        .write(true)
        .custom_flags(nonblock)
        .open(directory.join("ready"))?
        .write_all(b"r")?;
    File::open(directory.join("go"))?.read(&mut [0]).map(drop)
}
