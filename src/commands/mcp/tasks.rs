//! Tasks: waits whose end the client asks for from time to time. Their state is that of the jobs, so
//! that a later server knows them as well.

use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::{
    ClientRequest, McpConnection, ServerReply, WaitSignal, ids_of_task, lock, task_id_of,
};
use super::elicitation::{OpenForm, is_of_job};
use super::waiting::WaitState;
use super::wire::{INVALID_PARAMS, WireError, empty_result};
use crate::clock;
use crate::error::Error;
use crate::job::{JobId, Timestamp};

/// Interval in which the client should ask for the state of a task.
const POLL_INTERVAL_MS: u64 = 2_000;
impl McpConnection {
    /// Waits for the jobs that these options of `wait` select, or returns a task for it.
    pub(super) fn wait(
        &self,
        request: &ClientRequest,
        signal: &Arc<WaitSignal>,
        options: &[String],
    ) -> Result<ServerReply, WireError> {
        if let Some(ids) = self.resumed_wait(request)? {
            return Ok(self.wait_or_task(request, signal, &ids));
        }
        if options.iter().all(|option| option.starts_with("--max-chars")) {
            let why = "wait_for_jobs needs jobIds or label".to_owned();
            return Ok(self.failed(request, &Error::Usage(why)));
        }
        // Whole: the ids of all jobs are needed.
        let state = self.state_of(options, 0);
        if state.answer.is_error {
            return Ok(ServerReply::Tool(state.into_result(request.features.is_modern)));
        }
        let ids = state.ids();
        // This wait asks again what was not answered in an earlier one.
        for id in &ids {
            lock(&self.declined).retain(|key| !is_of_job(key, id));
        }
        Ok(self.wait_or_task(request, signal, &ids))
    }

    pub(super) fn wait_or_task(
        &self,
        request: &ClientRequest,
        signal: &Arc<WaitSignal>,
        ids: &[JobId],
    ) -> ServerReply {
        if request.features.has_tasks {
            let state = self.states(ids);
            if !state.is_over() {
                return self.new_task(ids, &state);
            }
        }
        self.wait_for(request, signal, ids)
    }

    /// Returns a new task that waits for the jobs.
    pub(super) fn new_task(&self, ids: &[JobId], state: &WaitState) -> ServerReply {
        let id = task_id_of(ids);
        lock(&self.cancelled).remove(&id);
        let mut task = self.task(ids, "working", state);
        task["resultType"] = json!("task");
        ServerReply::Other(task)
    }

    pub(super) fn get_task(&self, request: &ClientRequest) -> Result<ServerReply, WireError> {
        let (id, ids) = task_of(request)?;
        let state = self.states(&ids);
        if state.jobs.is_empty() {
            return Err(request.error(INVALID_PARAMS, format!("unknown task '{id}'")));
        }
        if lock(&self.cancelled).contains(id) {
            return Ok(ServerReply::Other(complete(self.task(&ids, "cancelled", &state))));
        }
        if !state.is_over() {
            return Ok(ServerReply::Other(complete(self.task(&ids, "working", &state))));
        }
        let form = match state.blocked() {
            Some(job) if request.features.elicits => OpenForm::of(self, &job),
            _ => None,
        };
        if let Some(form) = form {
            let mut task = self.task(&ids, "input_required", &state);
            task["inputRequests"] = form.input_requests();
            return Ok(ServerReply::Other(complete(task)));
        }
        let mut task = self.task(&ids, "completed", &state);
        let result = state.into_result(request.features.is_modern);
        task["result"] = serde_json::to_value(&result).unwrap_or_default();
        Ok(ServerReply::Other(complete(task)))
    }

    /// Returns the common fields of a task.
    fn task(&self, ids: &[JobId], status: &str, state: &WaitState) -> Value {
        let mut created: Option<Timestamp> = None;
        let mut updated = None;
        if let Ok(store) = self.store() {
            for id in ids {
                let Ok(record) = store.job(id).load() else { continue };
                let times = record.times;
                created = created.into_iter().chain(times.started_at).min();
                // `None` is less than any time.
                updated = updated.max(times.last_event_at).max(times.ended_at).max(created);
            }
        }
        let created = created.unwrap_or_else(clock::now);
        json!({
            "taskId": task_id_of(ids),
            "status": status,
            "statusMessage": state.message(),
            "createdAt": created.to_string(),
            "lastUpdatedAt": updated.unwrap_or(created).to_string(),
            "ttlMs": null,
            "pollIntervalMs": POLL_INTERVAL_MS,
        })
    }

    /// Answers the questions of the jobs of a task.
    pub(super) fn update_task(&self, request: &ClientRequest) -> Result<ServerReply, WireError> {
        let (_, ids) = task_of(request)?;
        self.apply_responses(request, &ids);
        Ok(ServerReply::Other(empty_result(true)))
    }

    /// Ends a task, but not the jobs.
    pub(super) fn cancel_task(&self, request: &ClientRequest) -> Result<ServerReply, WireError> {
        let (id, _) = task_of(request)?;
        lock(&self.cancelled).insert(id.to_owned());
        Ok(ServerReply::Other(empty_result(true)))
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

/// Returns the task as the answer to a request.
fn complete(mut task: Value) -> Value {
    task["resultType"] = json!("complete");
    task
}
