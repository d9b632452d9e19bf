//! Carrying out the effects that the supervisor returns.

use std::time::{Duration, Instant};

use super::stderr_marks::StderrMarks;
use super::{Progress, Sweep, Worker};
use crate::claude;
use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{NotifyEvent, Outcome, Timestamp, TurnEnd};
use crate::launch::spawn_notifier;
use crate::process::{self, Descendants};
use crate::store::{RESULT, TURNS, undelivered_messages};
use crate::supervisor::{Effect, Evidence, Input, MAX_STDERR_BYTES};

impl Worker {
    /// Carries out the pending effects, and those that result from them.
    pub(super) fn run_effects(&mut self) {
        while !self.effects.is_empty() {
            let effects = std::mem::take(&mut self.effects);
            if effects.iter().any(|effect| matches!(effect, Effect::AppendTurn(_))) {
                self.save_answer();
            }
            for effect in effects {
                self.run_effect(effect);
            }
        }
        // After the record was saved, which the notifier reads.
        if std::mem::take(&mut self.notifications_due) {
            fault_point("worker:notifying");
            spawn_notifier(&self.job);
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Save => self.save(),
            Effect::Log(entry) => self.log(&entry),
            Effect::AppendTurn(end) => self.append_turn(&end),
            Effect::SendMessage { uuid, text } => self.stdin.send_message(&uuid, &text),
            Effect::Launch => self.progress = Progress::LaunchDue,
            Effect::Relaunch => self.relaunch(),
            Effect::LeaveQueue => self.admission.leave_queue(),
            Effect::EnterQueue => {
                let step = self.admission.enter_queue(self.supervisor.record());
                self.apply_step(step);
            }
            Effect::Requeue(number) => self.requeue(number),
            Effect::Freeze(number) => self.freeze(number),
            Effect::CheckPause => self.check_pause(),
            Effect::Thaw => self.thaw(),
            Effect::Limited(met) => {
                let job = &self.supervisor.record().job_id;
                let queue = self.admission.queue();
                self.limit_changes.extend(queue.record_limit(job, &self.launch_state.login, met));
            }
            Effect::Answered(began) => self.lift_limit(began),
            Effect::RecordNotification(event) => self.record_notification(event),
            Effect::Respond { request_id, response } => {
                self.stdin.respond(&request_id, &response);
            }
            Effect::Interrupt(number) => {
                let request = serde_json::json!({"subtype": "interrupt"});
                self.stdin.request(&format!("interrupt-{number}"), &request);
            }
            Effect::RemoveMessage(number) => {
                // A message that cannot be removed stays in `seen_messages`: it is reported once.
                if self.job.remove_message(number) {
                    self.seen_messages.remove(&number);
                }
            }
            Effect::SetAside(number) => {
                self.job.set_aside(number);
                self.seen_messages.remove(&number);
            }
            Effect::RestoreAside => self.job.restore_aside(),
            Effect::CloseInput => {
                fault_point("worker:closing");
                self.stdin.close();
            }
            Effect::Signal(stop) => self.signal(stop),
            Effect::Sweep(within) => self.begin_sweep(within),
            Effect::Conclude => self.end_attempt(),
            Effect::PrepareAttempt => self.prepare_attempt(),
            Effect::CloseInbox => {
                let undelivered =
                    self.job.close_inbox().map(undelivered_messages).unwrap_or_default();
                self.take(Input::InboxClosed { undelivered });
            }
            Effect::End(outcome) => self.end(&outcome),
        }
    }

    /// Ends the limits that the login met before claude `began`, which was answered.
    fn lift_limit(&mut self, began: Timestamp) {
        let model = self.supervisor.record().model.as_deref();
        let queue = self.admission.queue();
        self.limit_changes.extend(queue.lift_limit(&self.launch_state.login, model, began));
    }

    /// Saves the answer of a turn that has ended, which can be read while the job waits for a message.
    /// This comes before all effects of the turn: each of them that saves the record may say that
    /// the job is idle, and a reader of such a record expects the answer.
    fn save_answer(&self) {
        if self.supervisor.record().spec.keep_alive.enabled {
            let _ = self.job.save_outcome(&self.supervisor.outcome(), None);
        }
    }

    fn append_turn(&mut self, end: &TurnEnd) {
        self.find_session_file();
        if self.supervisor.record().spec.keep_alive.enabled {
            // A process that waits for the line finds the record as it is after the turn.
            self.save();
        }
        self.append_line(TURNS, end);
        self.receive_messages();
    }

    fn record_notification(&mut self, event: NotifyEvent) {
        if self.progress == Progress::Lost {
            return;
        }
        let record = self.supervisor.record();
        match self.job.record_due(&record.spec, event, record.attempt.number, clock::now()) {
            Ok(due) => self.notifications_due |= due,
            Err(error) => {
                // The record says that it is due, too, and the end of the job frees space on the
                // disk.
                self.notifications_due = true;
                self.write_failed("notifications", error.to_string());
            }
        }
    }

    fn begin_sweep(&mut self, within: Duration) {
        let now = Instant::now();
        let descendants = Descendants::of_worker(self.job.path());
        self.sweep = Some(Sweep { descendants, until: now + within, continue_at: now });
        self.continue_sweep();
    }

    /// Passes new messages of the inbox to the supervisor.
    pub(super) fn receive_messages(&mut self) {
        self.job.keep_inbox_open();
        for item in self.job.receive(&self.seen_messages).unwrap_or_default() {
            self.seen_messages.insert(item.number);
            self.take(Input::Message { number: item.number, message: item.content });
        }
    }

    /// Records the path of claude's session file: if it is gone later, the session cannot be resumed.
    fn find_session_file(&mut self) {
        let record = self.supervisor.record();
        let Some(session) = &record.session.id else { return };
        if record.spec.replay.is_some() || !record.session.began || record.session_file().is_some()
        {
            return;
        }
        let file = claude::session_file(&claude::Env::own(), &record.spec.cwd, session);
        if let Some(file) = file.and_then(|file| file.into_os_string().into_string().ok()) {
            self.take(Input::SessionFile(file));
        }
    }

    /// Passes the evidence that the attempt left to the supervisor.
    fn end_attempt(&mut self) {
        fault_point("worker:swept");
        self.stderr_marks.mark_all(&self.job, self.log.length());
        self.inspect_output();
        self.find_session_file();
        let stderr = self.stderr_of_attempt(MAX_STDERR_BYTES);
        self.take(Input::AttemptEnded(Evidence {
            stderr: &String::from_utf8_lossy(&stderr),
            out_of_memory: process::out_of_memory_kills() > self.launch_state.out_of_memory_kills,
            login_changed: claude::stored_login_stamp() != self.launch_state.login_stamp,
        }));
    }

    fn prepare_attempt(&mut self) {
        self.stderr_marks = StderrMarks::default();
        // The next attempt begins with a line of its own, even after an incomplete line.
        self.open_output();
        // If this process dies before the next attempt, the result of this one must not be taken
        // for the job's.
        self.take(Input::LogOpened { length: self.log.length() });
    }

    /// Ends the job, whose processes have all ended.
    fn end(&mut self, outcome: &Outcome) {
        // The watch of stderr is closed by the end of this process: the kernel can take 20 ms to do
        // so, which must not delay other jobs.
        if let Some(keeper) = &self.keeper {
            keeper.release();
        }
        self.admission.leave_queue();
        self.admission.queue().remove_pause_of(self.job.id());
        if let Err(error) = self.job.save_outcome(outcome, Some(self.supervisor.record())) {
            self.write_failed(RESULT, error.to_string());
        }
        fault_point("end:outcome-saved");
        self.progress = Progress::Ended;
    }
}
