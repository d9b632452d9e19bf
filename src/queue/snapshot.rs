//! State of the queue, as read from its files.

use std::time::{Duration, Instant};

use super::offers::Offers;
use super::scheduling::{
    Decision, KnownLimit, SchedulingView, are_slots_taken, count_in_group, decide, is_group_full,
    limit_delay_ms,
};
use super::{LAST_ADMISSION, Limit, PauseScope, PauseSet, Queue, QueueLock, RUNNING, Ticket};
use crate::clock;
use crate::process::{self, Orphans, own_pid};
use crate::store::is_independent;

/// How long to wait for the end of a dead worker's claude, to which the kernel has sent SIGKILL.
const CLAUDE_EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for any other process that the worker was starting when it died.
const ORPHANS_EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// State of the queue, as read from its files.
pub(super) struct QueueSnapshot {
    pub(super) waiting: Vec<Ticket>,
    pub(super) running: Vec<Ticket>,
    pub(super) now_ms: u64,
    pub(super) admitted_ms: Option<u64>,
    pub(super) limits: Vec<Limit>,
    /// The same limits, as input for [`decide`].
    pub(super) known: Vec<KnownLimit>,
    pub(super) offers: Offers,
    pub(super) paused: PauseSet,
}

impl QueueSnapshot {
    pub(super) fn next(&self) -> Decision<'_> {
        decide(&SchedulingView {
            waiting: &self.waiting,
            running: &self.running,
            now_ms: self.now_ms,
            admitted_ms: self.admitted_ms,
            limits: &self.known,
            paused: &self.paused,
        })
    }

    /// Returns the pause that holds the job back.
    pub(super) fn pause_of(&self, own: &Ticket) -> Option<PauseScope> {
        self.paused.find(&own.job_id, own.options.group.as_deref())
    }

    /// Returns whether there is a slot for this job beside the running ones. A paused job gets none.
    pub(super) fn has_slot_for(&self, own: &Ticket) -> bool {
        !self.paused.holds(own)
            && !are_slots_taken(own, &self.running)
            && !is_group_full(own, &self.running)
    }

    /// Returns whether the job has to wait for a limit.
    pub(super) fn is_limited(&self, own: &Ticket) -> bool {
        limit_delay_ms(own, &self.known) > 0
    }

    /// Returns why a waiting job gets no slot; `None` if it only has to wait for some time.
    pub(super) fn no_slot_reason(&mut self, own: &Ticket) -> Option<String> {
        self.admitted_ms = None;
        self.known.clear();
        // Jobs ahead of it take their slots first.
        while let Decision::Admit(next) = self.next() {
            if next == own {
                return None;
            }
            let next = next.clone();
            self.waiting.retain(|ticket| *ticket != next);
            self.running.push(next);
        }
        let options = &own.options;
        if are_slots_taken(own, &self.running) {
            let taken = self.running.len();
            return Some(format!("{taken} taken, and --max-parallel is {}", options.max_parallel));
        }
        let Some(group) = &options.group else {
            return Some("other jobs wait for a slot".to_owned());
        };
        let taken = count_in_group(&self.running, group);
        Some(format!(
            "{taken} taken by group {group}, and --group-limit is {}",
            options.group_limit
        ))
    }
}

impl Queue {
    /// Reads the state of the queue. Tickets of dead workers in `running` are moved to `lost`, once
    /// their claude has ended.
    pub(super) fn load_snapshot(&self, lock: &QueueLock) -> QueueSnapshot {
        let mut running = self.tickets(RUNNING);
        running.retain(|ticket| {
            let lives = self.is_live(&ticket.job_id);
            if lives && !self.has_lost_worker(ticket, lock) {
                return true;
            }
            if !lives {
                // Ending it may take a while.
                lock.report_progress();
                self.end_claude(ticket, lock);
            }
            self.move_to_lost(RUNNING, ticket);
            lock.report_progress();
            false
        });
        let now_ms = clock::monotonic_ms();
        // The monotonic clock restarts at a reboot.
        let admitted_ms = match self.read_number(LAST_ADMISSION) {
            Some(at) if at <= now_ms => Some(at),
            _ => None,
        };
        let (waiting, limits) = self.waiting_tickets();
        let known = self.known_limits(&limits, now_ms);
        let offers = self.load_offers();
        let paused = self.paused();
        QueueSnapshot { waiting, running, now_ms, admitted_ms, limits, known, offers, paused }
    }

    /// Ends the processes of a dead worker's job, which still use the slot.
    pub(super) fn end_claude(&self, ticket: &Ticket, lock: &QueueLock) {
        let marker = self.marker(&ticket.job_id);
        if let Some(claude) = self.read_ticket(RUNNING, ticket).claude
            && process::kill_and_wait(claude, &marker, CLAUDE_EXIT_TIMEOUT)
        {
            return;
        }
        lock.report_progress();
        // Processes that cannot be ended are reported with the job's verdict.
        let orphans = Orphans {
            markers: std::slice::from_ref(&marker),
            worker_start: None,
            is_locked: false,
            is_independent: &is_independent,
        };
        orphans.end(Instant::now() + ORPHANS_EXIT_TIMEOUT);
    }

    /// Returns whether the worker and the claude of a ticket have ended although its job's lock is
    /// held: by a process that writes the verdict, and that may be stopped.
    pub(super) fn has_lost_worker(&self, ticket: &Ticket, lock: &QueueLock) -> bool {
        let content = self.read_ticket(RUNNING, ticket);
        let (Some(worker), Some(claude)) = (content.worker, content.claude) else { return false };
        if !content.is_in_own_pid_namespace() {
            return false;
        }
        let marker = self.marker(&ticket.job_id);
        if worker == own_pid() || marker.is_on(worker) {
            return false;
        }
        lock.report_progress();
        process::kill_and_wait(claude, &marker, CLAUDE_EXIT_TIMEOUT)
    }
}
