//! A model of the queue's protocol, checked exhaustively for a few workers: every order of their
//! steps, with workers that are stopped, continued and killed between any two of them.
//!
//! A step of a worker is everything that it does between two points at which a stop makes a
//! difference to others. The stages of [`At`] are those of the code's functions `try_lock`,
//! `load_snapshot`, `admit` and `confirm`. Timers are steps as well
//! ([`Act::TwoSeconds`], [`Act::Overtake`]). Against a worker that is not stopped they happen
//! only as often as `slow` says, as on a slow machine.
//!
//! To change the protocol, first change the step here, run
//! `cargo test --bin claudejob queue::model -- --nocapture` and read the shortest sequence of
//! steps that is printed for a violated property. Then change the code. Each rule on which the
//! protocol relies has a flag in [`Rules`], and `finds_the_error_of_each_missing_rule` shows that
//! its absence is found: add a flag for a new rule. More workers or stops than in the tests take
//! minutes.
//!
//! The last worker can be the caller of `pause` and `unpause` instead ([`Protocol::pauses`]), and the
//! first one is the job that it pauses.
//!
//! Left out: priorities, groups, the pause between two starts and limits, which only decide which
//! job is next; the leader lock, whose holder is a watcher that is faster than the others; and
//! workers of earlier versions, whose tickets are moved by others.

mod state;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::{Checker, Model, Property};

use super::TicketState;
use state::{At, Life, ModelState, ModelWorker, OfferState, PauseState};

/// The rules of the protocol that can be left out, to show that they are needed.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// A lock whose holder makes no progress is replaced by its next generation.
    generations: bool,
    /// A worker that has moved its ticket into `running` checks its generation again, and starts
    /// claude only if it is still the latest. Otherwise it confirms.
    verify: bool,
    /// A worker that does not answer an offer is skipped.
    skip_silent: bool,
    /// A job that is paused confirms no slot.
    confirm_pause: bool,
    /// The caller of `pause` checks after it has written the pause that its generation is still the
    /// latest. Otherwise it takes the next one.
    verify_pause: bool,
}

const ALL: Rules = Rules {
    generations: true,
    verify: true,
    skip_silent: true,
    confirm_pause: true,
    verify_pause: true,
};

/// A configuration to check.
#[derive(Clone, Debug)]
struct Protocol {
    workers: usize,
    slots: usize,
    /// Number of the waiting workers that are watchers, from the first.
    watchers: usize,
    stops: u8,
    kills: u8,
    /// How often a timer may expire against a worker that is not stopped.
    slow: u8,
    /// Workers that are not watchers dispatch as well, every few minutes.
    all_poll: bool,
    /// The last worker is the caller of `pause`.
    pauses: bool,
    rules: Rules,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Step(usize),
    /// The worker creates the next generation.
    Overtake(usize),
    /// The worker has waited long enough for the answers to offers.
    TwoSeconds(usize),
    Stop(usize),
    Continue(usize),
    Kill(usize),
    /// The caller of `pause` calls `unpause`.
    Unpause(usize),
}

impl Act {
    /// Whether the step happens by itself.
    fn is_automatic(&self) -> bool {
        matches!(self, Self::Step(_) | Self::Overtake(_) | Self::TwoSeconds(_))
    }
}

impl Protocol {
    /// Returns whether `me` is admitted, and which workers are offered a slot.
    fn decide(&self, state: &mut ModelState, me: usize) -> (bool, u8) {
        let mut running = state.running();
        let mut queued = state.waiting();
        if !queued.contains(&me) {
            // It has just joined and gets the highest number.
            queued.push(me);
        }
        let mut offers = 0;
        for next in queued {
            if running >= self.slots {
                break;
            }
            if state.is_paused(next) {
                continue;
            }
            if next == me {
                return (true, offers);
            }
            match state.workers[next].offer {
                OfferState::Expired => continue,
                OfferState::Pending => state.workers[me].timer |= 1 << next,
                OfferState::None => offers |= 1 << next,
            }
            running += 1;
        }
        (false, offers)
    }

    /// Whether the offers to these workers may expire: there are some, and either the machine is
    /// slow or none of them can be answered in time any more.
    fn may_expire(&self, state: &ModelState, timer: u8) -> bool {
        if timer == 0 {
            return false;
        }
        state.slow > 0 || (0..self.workers).all(|w| timer & (1u8 << w) == 0 || !state.may_answer(w))
    }

    fn can_step(&self, state: &ModelState, me: usize) -> bool {
        let worker = &state.workers[me];
        if !worker.is_active() {
            return false;
        }
        match worker.at {
            At::Polls { generation, .. } => {
                state.locks[generation as usize].is_none() || generation < state.latest()
            }
            At::Queued => worker.woken,
            At::Done | At::Paused => false,
            _ => true,
        }
    }

    /// Whether a slot is free while a worker that could use it waits.
    fn is_stuck(&self, state: &ModelState) -> bool {
        let mut waiting = 0;
        for (w, worker) in state.workers.iter().enumerate() {
            waiting += usize::from(worker.waits() && !state.is_paused(w));
        }
        state.running() < self.slots && waiting > 0
    }

    /// Reads the state of the queue, and decides as [`Self::decide`] does.
    fn read_and_decide(&self, state: &mut ModelState, me: usize) -> (bool, u8) {
        let queued = state.waiting();
        let last = state.workers.iter().map(|worker| worker.number).max();
        let worker = &mut state.workers[me];
        if worker.number == 0 {
            worker.number = last.unwrap_or_default() + 1;
        }
        worker.offer = OfferState::None;
        worker.timer = 0;
        let position = queued.iter().position(|&w| w == me).unwrap_or(queued.len());
        worker.watches = position < self.watchers;
        self.decide(state, me)
    }

    fn write(&self, state: &mut ModelState, me: usize, admits: bool, offers: u8) {
        state.workers[me].ticket = if admits { TicketState::Running } else { TicketState::Waiting };
        state.workers[me].timer |= offers;
        let mut first = state.waiting();
        first.truncate(self.watchers);
        for (w, worker) in state.workers.iter_mut().enumerate() {
            if offers & (1 << w) != 0 && worker.ticket == TicketState::Waiting {
                worker.offer = OfferState::Pending;
                worker.woken = true;
            }
            // It has become a watcher.
            worker.woken |= first.contains(&w) && !worker.watches && w != me;
        }
    }

    fn is_pauser(&self, w: usize) -> bool {
        self.pauses && w + 1 == self.workers
    }

    fn confirm(&self, state: &mut ModelState, me: usize) -> At {
        state.release(me);
        let is_held = self.rules.confirm_pause && state.is_paused(me);
        if state.running() <= self.slots && !is_held {
            state.note_start(me);
            return At::Running;
        }
        state.workers[me].ticket = TicketState::Waiting;
        state.workers[me].woken = true;
        state.wake_watchers();
        At::Queued
    }

    fn step(&self, state: &mut ModelState, me: usize) {
        let latest = state.latest();
        let at = state.workers[me].at;
        state.workers[me].at = match at {
            At::Outside => At::Opens { confirms: false },
            At::Opens { confirms } => At::Polls { generation: latest, confirms },
            At::Polls { generation, confirms } => {
                if generation < latest {
                    At::Opens { confirms }
                } else {
                    state.locks[generation as usize] = Some(me as u8);
                    At::Holds { generation, confirms }
                }
            }
            At::Holds { generation, confirms } if generation != latest => {
                state.release(me);
                At::Opens { confirms }
            }
            At::Holds { confirms: true, .. } => self.confirm(state, me),
            At::Holds { generation, .. } if self.is_pauser(me) => {
                At::Writes { generation, admits: false, offers: 0 }
            }
            At::Writes { generation, .. } if self.is_pauser(me) => {
                state.pause = PauseState::Written;
                At::Pausing { generation }
            }
            At::Holds { generation, .. } => {
                let (admits, offers) = self.read_and_decide(state, me);
                At::Decided { generation, admits, offers }
            }
            At::Decided { generation, admits, offers } => {
                if generation == latest {
                    At::Writes { generation, admits, offers }
                } else {
                    state.release(me);
                    At::Opens { confirms: false }
                }
            }
            At::Writes { generation, admits, offers } => {
                self.write(state, me, admits, offers);
                if admits {
                    At::Admitted { generation }
                } else {
                    state.release(me);
                    At::Queued
                }
            }
            At::Admitted { generation } => {
                state.release(me);
                if self.rules.verify && generation != latest {
                    At::Opens { confirms: true }
                } else {
                    state.note_start(me);
                    At::Running
                }
            }
            At::Queued => {
                state.workers[me].woken = false;
                At::Opens { confirms: false }
            }
            At::Running => {
                state.workers[me].ticket = TicketState::Gone;
                state.workers[me].timer = 0;
                state.wake_watchers();
                At::Done
            }
            At::Pausing { generation } => {
                state.release(me);
                if self.rules.verify_pause && generation != latest {
                    At::Opens { confirms: false }
                } else {
                    state.pause = PauseState::Returned;
                    state.wake_watchers();
                    At::Paused
                }
            }
            At::Paused => At::Paused,
            At::Done => At::Done,
        };
    }
}

impl Model for Protocol {
    type State = ModelState;
    type Action = Act;

    fn init_states(&self) -> Vec<ModelState> {
        let worker = ModelWorker {
            at: At::Outside,
            ticket: TicketState::Gone,
            offer: OfferState::None,
            number: 0,
            woken: false,
            timer: 0,
            watches: false,
            life: Life::Active,
        };
        let workers = vec![worker; self.workers];
        let (stops, kills, slow) = (self.stops, self.kills, self.slow);
        let (pause, broke_pause) = (PauseState::None, false);
        vec![ModelState { locks: vec![None], workers, stops, kills, slow, pause, broke_pause }]
    }

    fn actions(&self, state: &ModelState, acts: &mut Vec<Act>) {
        for (w, worker) in state.workers.iter().enumerate() {
            if !worker.is_alive() || worker.at == At::Done {
                continue;
            }
            if self.rules.skip_silent && worker.is_active() && self.may_expire(state, worker.timer)
            {
                acts.push(Act::TwoSeconds(w));
            }
            if self.can_step(state, w) {
                acts.push(Act::Step(w));
            }
            if let At::Polls { generation, .. } = worker.at
                && self.rules.generations
                && worker.is_active()
                && generation == state.latest()
                && let Some(holder) = state.locks[generation as usize]
                && (state.workers[holder as usize].life == Life::Stopped || state.slow > 0)
            {
                acts.push(Act::Overtake(w));
            }
            if state.stops > 0 && worker.is_active() && worker.at != At::Outside {
                acts.push(Act::Stop(w));
            }
            if worker.life == Life::Stopped {
                acts.push(Act::Continue(w));
            }
            if worker.is_active() && worker.at == At::Paused {
                acts.push(Act::Unpause(w));
            }
            if state.kills > 0 && worker.at != At::Outside {
                acts.push(Act::Kill(w));
            }
        }
        // Within those minutes every faster step has happened.
        if self.all_poll && self.is_stuck(state) && !acts.iter().any(Act::is_automatic) {
            for (w, worker) in state.workers.iter().enumerate() {
                if worker.waits() {
                    acts.push(Act::Step(w));
                }
            }
        }
    }

    fn next_state(&self, last: &ModelState, act: Act) -> Option<ModelState> {
        let mut state = last.clone();
        match act {
            Act::Step(w) => self.step(&mut state, w),
            Act::Overtake(w) => {
                let At::Polls { generation, confirms } = state.workers[w].at else { return None };
                let holder = state.locks[generation as usize]? as usize;
                if state.workers[holder].life != Life::Stopped {
                    state.slow -= 1;
                }
                state.locks.push(None);
                state.workers[w].at = At::Opens { confirms };
            }
            Act::TwoSeconds(w) => {
                let timer = std::mem::take(&mut state.workers[w].timer);
                state.workers[w].woken = true;
                for other in 0..self.workers {
                    if timer & (1u8 << other) != 0 {
                        if state.may_answer(other) {
                            state.slow = state.slow.saturating_sub(1);
                        }
                        if state.workers[other].offer == OfferState::Pending {
                            state.workers[other].offer = OfferState::Expired;
                        }
                    }
                }
            }
            Act::Stop(w) => {
                state.stops -= 1;
                state.workers[w].life = Life::Stopped;
            }
            Act::Unpause(w) => {
                state.pause = PauseState::Removed;
                state.workers[w].at = At::Done;
                state.wake_watchers();
            }
            Act::Continue(w) => state.workers[w].life = Life::Active,
            Act::Kill(w) => {
                state.kills -= 1;
                let worker = &mut state.workers[w];
                worker.life = Life::Killed;
                let had_slot = worker.ticket == TicketState::Running;
                state.release(w);
                // The watchers see the ends of workers that have a slot.
                if had_slot {
                    state.wake_watchers();
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("slots are never exceeded", |model: &Self, state: &ModelState| {
                let mut running = 0;
                for worker in &state.workers {
                    running += usize::from(worker.is_alive() && worker.at == At::Running);
                }
                running <= model.slots
            }),
            Property::always("no paused job is admitted", |_, state: &ModelState| {
                !state.broke_pause
            }),
            Property::always("no ticket is lost", |_, state: &ModelState| {
                state.workers.iter().all(|worker| match worker.at {
                    _ if !worker.is_alive() => true,
                    At::Queued => worker.ticket == TicketState::Waiting,
                    At::Running | At::Admitted { .. } => worker.ticket == TicketState::Running,
                    _ => true,
                })
            }),
            // Together with `assert_every_run_ends`: whenever a slot is free and a worker
            // that could use it waits, one is admitted, whatever happens to stopped workers.
            Property::always("no one waits forever", |model: &Self, state: &ModelState| {
                let mut acts = Vec::new();
                model.actions(state, &mut acts);
                let polls = state
                    .workers
                    .iter()
                    .any(|worker| worker.is_active() && matches!(worker.at, At::Polls { .. }));
                acts.iter().any(Act::is_automatic) || !(model.is_stuck(state) || polls)
            }),
            Property::sometimes("all are done", |_, state: &ModelState| {
                state.workers.iter().all(|worker| worker.at == At::Done)
            }),
            Property::sometimes("one that was stopped confirms", |_, state: &ModelState| {
                state.workers.iter().any(|worker| worker.at == At::Opens { confirms: true })
            }),
        ]
    }
}

mod tests;
