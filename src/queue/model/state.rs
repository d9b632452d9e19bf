//! The state of the model: the workers and the lock.

use super::TicketState;

/// Stage of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    Outside,
    /// Takes the lock, to dispatch or to confirm: opens the latest generation.
    Opens {
        confirms: bool,
    },
    /// Polls the lock of this generation.
    Polls {
        generation: u8,
        confirms: bool,
    },
    /// Holds the lock.
    Holds {
        generation: u8,
        confirms: bool,
    },
    /// Has read the state of the queue, and decided.
    Decided {
        generation: u8,
        admits: bool,
        offers: u8,
    },
    /// Has found that its generation is the latest, and is about to write.
    Writes {
        generation: u8,
        admits: bool,
        offers: u8,
    },
    /// Has moved its ticket into `running`.
    Admitted {
        generation: u8,
    },
    /// Waits for a slot.
    Queued,
    /// Its ticket is in `running`, and its claude runs.
    Running,
    /// The caller of `pause` has written the pause, and still holds the lock.
    Pausing {
        generation: u8,
    },
    /// `pause` has returned.
    Paused,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OfferState {
    None,
    /// Less than two seconds ago: the slot is reserved.
    Pending,
    /// Longer ago: the worker is skipped until it answers.
    Expired,
}

/// State of the pause of the first worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PauseState {
    None,
    Written,
    /// `pause` has returned.
    Returned,
    /// `unpause` has removed it.
    Removed,
}

/// What a worker's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Active,
    Stopped,
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModelWorker {
    pub at: At,
    pub ticket: TicketState,
    pub offer: OfferState,
    /// Rank in the order in which the workers joined, from 1.
    pub number: u8,
    /// A signal, a notification or a timer makes it dispatch.
    pub woken: bool,
    /// Workers that held an offer at its last dispatch: it dispatches again two seconds later.
    pub timer: u8,
    pub watches: bool,
    pub life: Life,
}

impl ModelWorker {
    pub(super) fn is_alive(&self) -> bool {
        self.life != Life::Killed
    }

    pub(super) fn is_active(&self) -> bool {
        self.life == Life::Active
    }

    pub(super) fn is_in(&self, ticket: TicketState) -> bool {
        self.is_alive() && self.ticket == ticket
    }

    /// Whether it could use a slot.
    pub(super) fn waits(&self) -> bool {
        self.is_active() && self.at == At::Queued
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModelState {
    /// Holder of each generation of the lock.
    pub locks: Vec<Option<u8>>,
    pub workers: Vec<ModelWorker>,
    pub stops: u8,
    pub kills: u8,
    pub slow: u8,
    pub pause: PauseState,
    /// The first worker was admitted after `pause` had returned.
    pub broke_pause: bool,
}

impl ModelState {
    pub(super) fn latest(&self) -> u8 {
        self.locks.len() as u8 - 1
    }

    /// Returns the number of live workers with a ticket in `running`: the claude of a dead worker
    /// is ended before its slot is given away.
    pub(super) fn running(&self) -> usize {
        self.workers.iter().filter(|worker| worker.is_in(TicketState::Running)).count()
    }

    /// Returns the waiting workers, in order.
    pub(super) fn waiting(&self) -> Vec<usize> {
        let mut queued: Vec<usize> = (0..self.workers.len()).collect();
        queued.retain(|&w| self.workers[w].is_in(TicketState::Waiting));
        queued.sort_by_key(|&w| self.workers[w].number);
        queued
    }

    /// Whether this worker is paused: only the first one ever is.
    pub(super) fn is_paused(&self, w: usize) -> bool {
        w == 0 && matches!(self.pause, PauseState::Written | PauseState::Returned)
    }

    /// Notes that a worker starts its claude.
    pub(super) fn note_start(&mut self, w: usize) {
        self.broke_pause |= w == 0 && self.pause == PauseState::Returned;
    }

    /// Whether a worker that holds an offer may still answer it in time.
    pub(super) fn may_answer(&self, other: usize) -> bool {
        let worker = &self.workers[other];
        worker.is_active() && worker.offer == OfferState::Pending
    }

    /// Something has changed in `running`: the kernel reports it to the watchers.
    pub(super) fn wake_watchers(&mut self) {
        for worker in &mut self.workers {
            worker.woken |= worker.watches && worker.is_alive();
        }
    }

    pub(super) fn release(&mut self, me: usize) {
        for holder in &mut self.locks {
            if *holder == Some(me as u8) {
                *holder = None;
            }
        }
    }
}
