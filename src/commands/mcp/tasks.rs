//! Tasks: waits whose end the client asks for from time to time. Their state is that of the jobs, so
//! that a later server knows them as well.

use serde_json::{Value, json};

use super::elicitation::OpenForm;
use super::server::{ClientRequest, McpServer, Reply, lock};
use super::waiting::WaitState;
use super::wire::{INVALID_PARAMS, WireError, empty_result};
use crate::clock;
use crate::job::JobId;

/// Interval in which the client should ask for the state of a task.
const POLL_INTERVAL_MS: u64 = 2_000;
/// Separates the ids of the jobs in the id of a task. It occurs in no job's id.
const SEPARATOR: &str = ",";

/// Returns the id of the task that waits for these jobs: for one job, its id.
pub(super) fn task_id_of(ids: &[JobId]) -> String {
    ids.iter().map(JobId::as_str).collect::<Vec<_>>().join(SEPARATOR)
}

/// Returns the jobs that a task waits for.
pub(super) fn ids_of_task(task_id: &str) -> Option<Vec<JobId>> {
    task_id.split(SEPARATOR).map(|id| JobId::parse(id).ok()).collect()
}

impl McpServer {
    /// Returns a new task that waits for the jobs.
    pub(super) fn new_task(&self, ids: &[JobId], state: &WaitState) -> Reply {
        let id = task_id_of(ids);
        lock(&self.cancelled).remove(&id);
        let mut task = task(&id, "working", state);
        task["resultType"] = json!("task");
        Reply::Other(task)
    }

    pub(super) fn get_task(&self, request: &ClientRequest) -> Result<Reply, WireError> {
        let (id, ids) = task_of(request)?;
        let state = self.states(&ids);
        if state.jobs.is_empty() {
            return Err(request.error(INVALID_PARAMS, format!("unknown task '{id}'")));
        }
        if lock(&self.cancelled).contains(id) {
            return Ok(Reply::Other(complete(task(id, "cancelled", &state))));
        }
        if !state.is_over() {
            return Ok(Reply::Other(complete(task(id, "working", &state))));
        }
        let form = match state.blocked() {
            Some(job) if request.features.elicits => OpenForm::of(self, &job),
            _ => None,
        };
        if let Some(form) = form {
            let mut task = task(id, "input_required", &state);
            task["inputRequests"] = form.input_requests();
            return Ok(Reply::Other(complete(task)));
        }
        let mut task = task(id, "completed", &state);
        let result = state.into_result(request.features.is_modern);
        task["result"] = serde_json::to_value(&result).unwrap_or_default();
        Ok(Reply::Other(complete(task)))
    }

    /// Answers the questions of the jobs of a task.
    pub(super) fn update_task(&self, request: &ClientRequest) -> Result<Reply, WireError> {
        let (_, ids) = task_of(request)?;
        self.apply_responses(request, &ids);
        Ok(Reply::Other(empty_result(true)))
    }

    /// Ends a task, but not the jobs.
    pub(super) fn cancel_task(&self, request: &ClientRequest) -> Result<Reply, WireError> {
        let (id, _) = task_of(request)?;
        lock(&self.cancelled).insert(id.to_owned());
        Ok(Reply::Other(empty_result(true)))
    }
}

/// Returns the id of the task that a request is about, and the ids of its jobs.
fn task_of(request: &ClientRequest) -> Result<(&str, Vec<JobId>), WireError> {
    let id = request.text("taskId")?;
    match ids_of_task(id) {
        Some(ids) => Ok((id, ids)),
        None => Err(request.error(INVALID_PARAMS, format!("unknown task '{id}'"))),
    }
}

/// Returns the common fields of a task.
fn task(id: &str, status: &str, state: &WaitState) -> Value {
    let now = clock::now().to_string();
    let time = |names: [&str; 2]| {
        for job in &state.jobs {
            if let Some(time) = names.iter().find_map(|name| job[name].as_str()) {
                return time.to_owned();
            }
        }
        now.clone()
    };
    json!({
        "taskId": id,
        "status": status,
        "statusMessage": state.message(),
        "createdAt": time(["startedAt", "startedAt"]),
        "lastUpdatedAt": time(["lastEventAt", "endedAt"]),
        "ttlMs": null,
        "pollIntervalMs": POLL_INTERVAL_MS,
    })
}

/// Returns the task as the answer to a request.
fn complete(mut task: Value) -> Value {
    task["resultType"] = json!("complete");
    task
}
