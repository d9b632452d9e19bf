//! How far the preparation of a job's directory is: a file that the process writes which prepares
//! it for claude.

use serde::{Deserialize, Serialize};

use super::{Context, JobDir, StoreError, files};
use crate::json;

/// Name of the file in the job's directory.
pub(crate) const PREPARATION: &str = "preparation.json";
const MAX_BYTES: u64 = 64 << 10;

/// How far the preparation of a job's directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preparation {
    /// The present step; `None` if claude was started.
    pub step: Option<PreparationStep>,
    /// The job's worktree was completed.
    pub has_worktree: bool,
    /// The setup command that was completed in the job's directory.
    pub setup: Option<String>,
    /// Length of stderr.log when claude was started last: what comes before is not claude's.
    pub stderr_end: u64,
}

/// A step before claude is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PreparationStep {
    Worktree,
    Setup,
}

impl PreparationStep {
    /// Returns the step as an activity.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Worktree => "preparing the worktree",
            Self::Setup => "running the setup command",
        }
    }
}

impl JobDir {
    /// Returns how far the preparation is.
    pub(crate) fn preparation(&self) -> Preparation {
        let text = files::read_bounded(&self.file(PREPARATION), MAX_BYTES).unwrap_or_default();
        json::from_bytes(&text).unwrap_or_default()
    }

    pub(crate) fn save_preparation(&self, preparation: &Preparation) -> Result<(), StoreError> {
        let text = serde_json::to_vec(preparation).context("write", &self.file(PREPARATION))?;
        let written = self.temporary(PREPARATION);
        // Durable: a worktree that is not known to be complete is made again.
        files::write_durably(&written, &text)?;
        self.publish_file(&written, PREPARATION)
    }
}
