//! Records of the Node skill, which this program replaces. They have no `version`, and their jobs
//! have no lock and no `result.json`: such a job is live while a process has its pid. Only the Node
//! skill writes to its jobs.

use serde::Deserialize;

use super::JobDir;
use crate::job::{Record, Status, Summary};
use crate::process;
use crate::text::one_line;

const MAX_PROMPT_CHARS: usize = 200;

/// Fields of the Node skill's record that stand elsewhere in this program's.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeRecord {
    cwd: Option<String>,
    allowed_tools: Option<Vec<String>>,
}

impl Summary {
    /// Whether the Node skill wrote the record.
    pub(super) fn is_of_node_skill(&self) -> bool {
        self.version == 0
    }
}

impl Record {
    /// Whether the Node skill wrote the record.
    pub(crate) fn is_of_node_skill(&self) -> bool {
        self.version == 0
    }

    /// Completes a record of the Node skill, which was decoded from `text`.
    pub(super) fn complete_from_node_skill(&mut self, text: &str) {
        let fields: NodeRecord = serde_json::from_str(text).unwrap_or_default();
        // It stored the whole prompt.
        self.prompt = one_line(&self.prompt, MAX_PROMPT_CHARS);
        self.attempt.number = self.attempt.number.max(1);
        self.spec.cwd = fields.cwd.unwrap_or_default();
        self.spec.options.allowed_tools = fields.allowed_tools.unwrap_or_default();
    }
}

/// Ends a record of the Node skill whose process is gone. The file stays as it is.
pub(super) fn end_if_dead(dir: &JobDir, record: &mut Record) {
    let is_running = match record.worker.pid {
        Some(pid) => process::exists(pid),
        None => false,
    };
    if record.status.is_live() && record.status != Status::Queued && !is_running {
        record.end(&record.lost_verdict(None), dir.last_activity_at(record));
    }
}
