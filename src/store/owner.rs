//! Whose files a [`JobDir`](super::JobDir) names: those of a job's owner (see [`super::epochs`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Those of the owner that was found last; 0 for the job's own directory, which is that of every
    /// job without an engine.
    Latest(Arc<AtomicU32>),
    /// Those of this process.
    Own(OwnEpoch),
}

/// The epoch of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnEpoch {
    pub number: u32,
    /// Readers see its files.
    pub is_complete: bool,
}

impl Default for Owner {
    fn default() -> Self {
        Self::Latest(Arc::default())
    }
}
