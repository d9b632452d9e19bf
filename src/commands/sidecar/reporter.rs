//! Reports the output of a session's job to the embedding program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;

use super::{EventSink, SidecarEvent};
use crate::commands::observe::observe;
use crate::commands::watch::Watch;
use crate::job::{Exit, JobId, Record, Status};
use crate::store::{JobDir, OUTPUT, RECORD, STDERR, Store};
use crate::text::signal_name;

/// Maximum number of bytes of one event; a longer event is reported without its content.
const MAX_EVENT_BYTES: u64 = 16 << 20;

/// Reports the output of a session's job.
pub(super) struct SessionReporter {
    pub(super) session_id: String,
    pub(super) id: JobId,
    pub(super) dir: JobDir,
    pub(super) send_event: EventSink,
    pub(super) input_ended: Arc<AtomicBool>,
    pub(super) output: u64,
    pub(super) errors: u64,
}

impl SessionReporter {
    pub(super) fn run(&mut self, store: &Store, mut watch: Watch) {
        watch.add_files(0, &self.dir, &[OUTPUT, STDERR, RECORD]);
        loop {
            // Read before the job is observed: otherwise a job could seem idle although it has a
            // message from before the end of the input.
            let input_ended = self.input_ended.load(Ordering::SeqCst);
            // Checked before the output is read: if the job has ended, the output is complete.
            let Ok(observed) = observe(store, &self.id) else { return };
            if !self.read_output(!observed.live) || !self.read_errors() {
                return;
            }
            if !observed.live {
                let record = observed.record;
                let exit = self.exit_of(&record);
                (self.send_event)(&SidecarEvent::AgentStopped {
                    session_id: self.session_id.clone(),
                    exit_code: exit.code,
                    signal: exit.signal.map(signal_name),
                    status: record.status,
                    reason: record.reason,
                    error: record.error,
                });
                return;
            }
            if input_ended && matches!(observed.record.status, Status::Idle | Status::Blocked) {
                return;
            }
            watch.add_end(0, &self.dir);
            watch.next();
        }
    }

    /// Returns how claude exited, by the record or else by the result.
    fn exit_of(&self, record: &Record) -> Exit {
        let mut exit = record.ending.exit;
        if exit.is_none()
            && let Some(outcome) = self.dir.outcome()
            && outcome.attempt == record.attempt.number
        {
            exit = outcome.exit;
        }
        exit.unwrap_or(Exit { code: None, signal: None })
    }

    /// Reports new complete lines, and at the end of the job an incomplete one.
    fn read_output(&mut self, ended: bool) -> bool {
        let lines = self.dir.lines(OUTPUT, self.output, MAX_EVENT_BYTES);
        let Some(mut lines) = lines else { return true };
        while let Ok(Some(line)) = lines.read_line() {
            if !line.is_complete && !ended {
                break;
            }
            self.output = line.end;
            if !self.report_line(line.bytes, line.is_cut) {
                return false;
            }
        }
        true
    }

    fn report_line(&self, line: &[u8], too_long: bool) -> bool {
        let session_id = self.session_id.clone();
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let offset = self.output;
        if too_long {
            return (self.send_event)(&SidecarEvent::AgentEvent {
                session_id,
                event: None,
                offset,
            });
        }
        match RawValue::from_string(text) {
            Ok(event) => (self.send_event)(&SidecarEvent::AgentEvent {
                session_id,
                event: Some(event),
                offset,
            }),
            Err(_) => {
                let line = String::from_utf8_lossy(line).trim_end().to_owned();
                (self.send_event)(&SidecarEvent::AgentLog {
                    session_id,
                    stream: "stdout",
                    line,
                    offset,
                })
            }
        }
    }

    fn read_errors(&mut self) -> bool {
        let lines = self.dir.lines(STDERR, self.errors, MAX_EVENT_BYTES);
        let Some(mut lines) = lines else { return true };
        while let Ok(Some(line)) = lines.read_line() {
            self.errors = line.end;
            let is_read = (self.send_event)(&SidecarEvent::AgentLog {
                session_id: self.session_id.clone(),
                stream: "stderr",
                line: String::from_utf8_lossy(line.bytes).trim_end().to_owned(),
                offset: self.errors,
            });
            if !is_read {
                return false;
            }
        }
        true
    }
}
