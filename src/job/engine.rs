//! Engines that start workers on other machines, and references to what they started.

use serde::{Deserialize, Serialize};

/// How a job's workers are started by an engine, as requested at the job's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EngineOptions {
    pub kind: EngineKind,
    /// Arguments for the engine's own command, passed on unchanged.
    #[serde(default)]
    pub args: Vec<String>,
    /// Absolute path of a file with variables that the worker reads on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// Names of the caller's variables that the engine passes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_env: Vec<String>,
}

impl EngineOptions {
    pub(crate) fn new(kind: EngineKind) -> Self {
        Self { kind, args: Vec::new(), env_file: None, export_env: Vec::new() }
    }
}

/// The engine that starts a job's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineKind {
    Slurm,
    /// One that only a newer version knows.
    #[serde(other)]
    Unknown,
}

/// What the engine calls the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EngineRef {
    /// The engine's id of the job: for Slurm `123`, or `123_4` in an array. Before that is known, the name
    /// of the submission.
    pub id: String,
    /// How often the engine has started it again.
    pub restarts: u32,
    /// The machine on which it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Beginning of the name that a submission gives a job.
pub(crate) const SUBMISSION: &str = "claudejob:";

impl EngineRef {
    pub(crate) fn from_id(id: String) -> Self {
        Self { id, restarts: 0, node: None }
    }

    /// Whether this is the name of a submission: the process that submits the job does not know the
    /// engine's id yet, or has died before that.
    pub(crate) fn is_name(&self) -> bool {
        self.id.starts_with(SUBMISSION)
    }
}
