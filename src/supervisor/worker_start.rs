//! The start of a worker: what it records about itself and takes over from an earlier one.

use super::{Supervisor, WorkerStart};
use crate::job::{Detached, Detachment, EventKind};

impl Supervisor {
    /// Records the facts that are known when the worker starts.
    pub(super) fn begin_worker(&mut self, start: WorkerStart) {
        self.record.worker.pid = Some(start.pid);
        self.record.worker.boot_id = start.boot_id;
        self.record.last_seq = self.record.last_seq.max(start.last_seq);
        self.conversation.restore_accepted(start.accepted_messages);
        if let Some(outcome) = start.outcome {
            self.continue_from(outcome);
        }
        if let Some(warning) = start.warning {
            self.record.warn(warning);
        }
        let has_limit = match (self.record.spec.limits.memory_max, start.memory_limit) {
            // The kernel counts in pages and rounds down.
            (Some(requested), Some(limit)) => limit <= requested,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if !has_limit {
            self.record
                .warn("--memory-max has no effect: the job's control group has no such limit");
        }
        self.record_detachment(start.unit, start.cgroup);
    }

    /// Records how the worker was detached: `unit` is the systemd scope that was requested,
    /// `cgroup` the one in which the worker runs.
    fn record_detachment(&mut self, unit: Option<String>, cgroup: Option<String>) {
        let mut risks = match self.record.worker.detached.take() {
            Some(requested) => requested.risks,
            None => Vec::new(),
        };
        let detached = match (unit, cgroup) {
            (unit, Some(cgroup)) => {
                Detached { by: Detachment::Scope, unit, cgroup: Some(cgroup), risks }
            }
            (unit, None) => {
                if let Some(unit) = unit {
                    risks.push(format!(
                        "systemd did not move the job into {unit}: the job ends with the service \
                         that started it"
                    ));
                }
                Detached { by: Detachment::Session, unit: None, cgroup: None, risks }
            }
        };
        self.record.worker.detached = Some(detached);
    }

    /// Logs the start of this worker, once.
    pub(super) fn log_worker_start(&mut self) {
        if self.recording.is_start_logged {
            return;
        }
        self.recording.is_start_logged = true;
        let worker = self.record.worker.pid.unwrap_or_default();
        self.log(EventKind::Started { pid: worker });
        if self.record.attempt.resumed {
            self.log(EventKind::Resumed);
        } else if self.record.attempt.number > 1 {
            let (after, resumes) = (self.record.attempt.recovered_from, !self.first_prompt.prompt);
            self.log(EventKind::Recovered { after, resumes });
        }
    }
}
