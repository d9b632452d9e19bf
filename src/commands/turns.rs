//! The ended turns of a job.

use crate::job::TurnEnd;
use crate::store::{JobDir, TURNS};

/// Reads the turns that have ended.
pub(super) fn ended_turns(dir: &JobDir) -> Vec<TurnEnd> {
    dir.json_lines(TURNS, 0).collect()
}
