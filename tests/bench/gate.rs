//! Where the bench and its fake `claude` meet: the fake says that it has come to a point, and stays
//! there until the bench has looked at the worker. Two FIFOs, so that nobody waits for a time.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::{Outcome, interrupt};

/// The environment variable that tells the fake where its gate is.
pub(crate) const PLACE: &str = "CLAUDEJOB_BENCH_GATE";

/// A fake that has said nothing for so long has died, or its job has: an error, not a hang.
const PATIENCE: u16 = 60_000;

/// The bench's side.
pub(crate) struct Gate {
    pub(crate) place: PathBuf,
    ready: File,
    go: File,
}

impl Gate {
    pub(crate) fn new(place: PathBuf) -> Outcome<Gate> {
        std::fs::create_dir(&place)?;
        for name in ["ready", "go"] {
            nix::unistd::mkfifo(&place.join(name), Mode::from_bits_truncate(0o600))?;
        }
        // Read and write, which for a FIFO neither waits for the other side nor ends with it.
        let open = |name| OpenOptions::new().read(true).write(true).open(place.join(name));
        let (ready, go) = (open("ready")?, open("go")?);
        Ok(Gate { place, ready, go })
    }

    /// Waits until the fake has come to the gate.
    pub(crate) fn reached(&mut self) -> Outcome<()> {
        let mut fds = [PollFd::new(self.ready.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) => return Err("the fake claude did not come to its gate".into()),
            Err(Errno::EINTR) => interrupt::check()?,
            other => drop(other?),
        }
        Ok(self.ready.read_exact(&mut [0])?)
    }

    /// Lets the fake go on.
    pub(crate) fn open(&mut self) -> Outcome<()> {
        Ok(self.go.write_all(b"g")?)
    }
}

/// The fake's side: says that it is here and stays until it may go, or until the bench is gone.
pub(crate) fn pass(place: &Path) -> std::io::Result<()> {
    let nonblock = nix::libc::O_NONBLOCK;
    OpenOptions::new()
        .write(true)
        .custom_flags(nonblock)
        .open(place.join("ready"))?
        .write_all(b"r")?;
    File::open(place.join("go"))?.read(&mut [0]).map(drop)
}
