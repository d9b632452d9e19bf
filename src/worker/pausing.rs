//! Pauses of the job, and changes of its place in the queue.

use std::time::{Duration, Instant};

use super::{Progress, Worker};
use crate::fault_point::fault_point;
use crate::job::FreezeSkip;
use crate::process::{FreezeProgress, ProcessTree};
use crate::store::is_independent;
use crate::supervisor::Input;

/// How long the processes of a job may take to stop.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a process to react to SIGSTOP.
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

impl Worker {
    /// Starts claude again in the same slot, or asks for a slot if the job is paused.
    pub(super) fn relaunch(&mut self) {
        if !self.is_paused() {
            self.progress = Progress::LaunchDue;
            return;
        }
        self.admission.leave_queue();
        let step = self.admission.enter_queue(self.supervisor.record());
        self.apply_step(step);
    }

    pub(super) fn requeue(&mut self, number: u64) {
        self.admission.note_update(number);
        self.check_queue(true);
    }

    /// Whether a pause applies to the job.
    fn is_paused(&self) -> bool {
        let record = self.supervisor.record();
        let group = record.spec.queue_options.group.as_deref();
        self.admission.queue().paused().find(&record.job_id, group).is_some()
    }

    /// Stops the job's processes, as the message of this number requests, if the job is paused.
    pub(super) fn freeze(&mut self, number: u64) {
        if !self.is_paused() {
            return self.take(Input::FreezeSkipped { number, why: FreezeSkip::NotPaused });
        }
        fault_point("worker:freezing");
        let job_dir = self.job.path().to_owned();
        let mut tree = ProcessTree::of_worker(&job_dir, &is_independent);
        let until = Instant::now() + FREEZE_TIMEOUT;
        loop {
            match tree.freeze() {
                Err(_) => return self.cannot_freeze(number, &tree),
                // Signals may not be sent here.
                Ok(found) if found.stopped == 0 && Instant::now() >= until => {
                    return self.cannot_freeze(number, &tree);
                }
                Ok(FreezeProgress { stopped, running, is_settled, has_new }) => {
                    if is_settled || Instant::now() >= until {
                        return self.take(Input::Frozen { number, stopped, running });
                    }
                    if !has_new {
                        std::thread::sleep(FREEZE_PAUSE);
                    }
                }
            }
            // The ends of many short processes would make each search longer.
            self.reap();
        }
    }

    /// Reports that the processes could not be stopped, and continues those that were.
    fn cannot_freeze(&mut self, number: u64, tree: &ProcessTree<'_>) {
        let _ = tree.thaw();
        self.take(Input::FreezeSkipped { number, why: FreezeSkip::Unstoppable });
    }

    pub(super) fn check_pause(&mut self) {
        if !self.is_paused() {
            self.take(Input::NotPaused);
        }
    }

    pub(super) fn thaw(&mut self) {
        // Processes that cannot be listed were not stopped.
        let _ = ProcessTree::of_worker(self.job.path(), &is_independent).thaw();
    }
}
