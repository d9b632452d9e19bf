//! [`Arrivals`] where the system does not tell the order of a pipe and a file.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::Arrived;

/// There is none.
pub struct Arrivals(Infallible);

impl Arrivals {
    /// Never succeeds.
    pub fn of(_file: &File) -> io::Result<(Self, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Watches this end of a pipe, too.
    pub fn add_pipe(&self, _pipe: &impl AsFd) -> io::Result<()> {
        match self.0 {}
    }

    /// What came to the file.
    pub fn in_file(&self) -> Option<Arrived> {
        match self.0 {}
    }
}
