//! [`Arrivals`] on systems that do not report the order of a pipe and a file.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::ArrivalOrder;

/// Has no values.
pub(crate) struct Arrivals(Infallible);

impl Arrivals {
    /// Never succeeds.
    pub(crate) fn watch_file(_file: &File) -> io::Result<(Self, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn add_pipe(&self, _pipe: &impl AsFd) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn file_order(&self) -> Option<ArrivalOrder> {
        match self.0 {}
    }
}
