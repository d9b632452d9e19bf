//! The ended turns of a job.

use std::io::{BufRead, BufReader};

use crate::job::TurnEnd;
use crate::store::{JobDir, TURNS};

/// Reads the turns that have ended.
pub(super) fn ended_turns(dir: &JobDir) -> Vec<TurnEnd> {
    let Ok(Some(file)) = dir.open(TURNS) else { return Vec::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
}
