//! A model of the queue's protocol, checked exhaustively for a few workers: every order of their
//! steps, with workers that are stopped, continued and killed between any two of them.
//!
//! One step of a worker is what it does between two moments at which a stop makes a difference
//! to others. The states of [`At`] bear the names of the code's functions and stages: `desk`,
//! `stand`, `let_in`, `confirm`, `Queued`, `Inside`. Timers are steps as well
//! ([`Act::TwoSeconds`], [`Act::Overtake`]). Against a worker that is not stopped they happen
//! only as often as `slow` says, as on a slow machine.
//!
//! To change the protocol, change the step here first, run
//! `cargo test --bin claudejob queue::model -- --nocapture` and read the shortest sequence of
//! steps that is printed for a property that does not hold. Then change the code. Each rule that
//! the protocol relies on has a flag in [`Rules`], and `the_model_finds_each_error` shows that its
//! absence is found: add one for a new rule. More workers or stops than the tests have take
//! minutes.
//!
//! Left out: priorities, groups, the pause between two starts and limits, which only say who is
//! next; the lock of the head, whose holder is a watcher that is quicker than the others; and
//! workers of earlier versions, for which others move the tickets.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::{Checker, Model, Property};

/// The rules of the protocol that the model can do without, to show what they are good for.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// A lock whose holder makes no progress is replaced by its next generation.
    generations: bool,
    /// A worker that has put its ticket into `running` looks once more, and launches claude only
    /// if its generation is still the latest. Else it confirms.
    verify: bool,
    /// One that was called and does not come is passed over.
    pass_over: bool,
}

const ALL: Rules = Rules { generations: true, verify: true, pass_over: true };

/// What is to be checked.
#[derive(Clone, Debug)]
struct Protocol {
    workers: usize,
    slots: usize,
    /// How many of those who wait watch, from the first.
    watchers: usize,
    stops: u8,
    kills: u8,
    /// How often the time of one that is not stopped runs out.
    slow: u8,
    /// Those who do not watch look as well, every few minutes.
    slow_look: bool,
    rules: Rules,
}

/// Where a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Outside,
    /// Takes the desk, to look or to confirm: opens the latest generation.
    Desk {
        confirms: bool,
    },
    /// Polls the lock of this generation.
    Polls {
        generation: u8,
        confirms: bool,
    },
    /// Holds it.
    Holds {
        generation: u8,
        confirms: bool,
    },
    /// Has read how things stand, and decided.
    Stood {
        generation: u8,
        let_in: bool,
        calls: u8,
    },
    /// Has found that its generation is the latest, and is about to write.
    Writes {
        generation: u8,
        let_in: bool,
        calls: u8,
    },
    /// Has put its ticket into `running`.
    LetIn {
        generation: u8,
    },
    /// Waits.
    Queued,
    /// Its ticket is in `running`, and its claude runs.
    Inside,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Room {
    None,
    Waiting,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Called {
    No,
    /// Less than two seconds ago: its slot is kept for it.
    Now,
    /// Longer ago: it is passed over until it comes by itself.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    at: At,
    ticket: Room,
    called: Called,
    /// The place in the order of asking, from 1.
    number: u8,
    /// Something was signalled, rung or run out that it will look at.
    woken: bool,
    /// Those who were called when it looked last: it looks again two seconds later.
    timer: u8,
    watches: bool,
    stopped: bool,
    alive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The holder of each generation of the desk's lock.
    desk: Vec<Option<u8>>,
    workers: Vec<Worker>,
    stops: u8,
    kills: u8,
    slow: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Step(usize),
    /// The worker creates the next generation.
    Overtake(usize),
    /// The worker has waited long enough for those who were called.
    TwoSeconds(usize),
    Stop(usize),
    Continue(usize),
    Kill(usize),
}

impl Act {
    /// Whether it is a step that happens by itself.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Step(_) | Self::Overtake(_) | Self::TwoSeconds(_))
    }
}

impl State {
    fn latest(&self) -> u8 {
        self.desk.len() as u8 - 1
    }

    /// Live workers with a ticket in `running`: claude of a dead one is ended before its slot is
    /// given away.
    fn running(&self) -> usize {
        let is_in = |worker: &&Worker| worker.alive && worker.ticket == Room::Running;
        self.workers.iter().filter(is_in).count()
    }

    /// Those who wait, in order.
    fn waiting(&self) -> Vec<usize> {
        let waits = |&w: &usize| self.workers[w].alive && self.workers[w].ticket == Room::Waiting;
        let mut line: Vec<usize> = (0..self.workers.len()).filter(waits).collect();
        line.sort_by_key(|&w| self.workers[w].number);
        line
    }

    /// Whether one that was called may still come before its time runs out.
    fn may_come(&self, called: usize) -> bool {
        let worker = &self.workers[called];
        worker.alive && !worker.stopped && worker.called == Called::Now
    }

    /// Something has changed in `running`: the kernel tells those who watch it.
    fn wake_watchers(&mut self) {
        for worker in &mut self.workers {
            worker.woken |= worker.watches && worker.alive;
        }
    }

    fn release(&mut self, me: usize) {
        for holder in &mut self.desk {
            if *holder == Some(me as u8) {
                *holder = None;
            }
        }
    }
}

impl Protocol {
    /// Whether `me` is let in, and who is to be called.
    fn stand(&self, state: &mut State, me: usize) -> (bool, u8) {
        let mut running = state.running();
        let mut line = state.waiting();
        if !line.contains(&me) {
            // It has the highest number, as it has just asked.
            line.push(me);
        }
        let mut calls = 0;
        for next in line {
            if running >= self.slots {
                break;
            }
            if next == me {
                return (true, calls);
            }
            match state.workers[next].called {
                Called::Silent => continue,
                Called::Now => state.workers[me].timer |= 1 << next,
                Called::No => calls |= 1 << next,
            }
            running += 1;
        }
        (false, calls)
    }

    fn can_step(&self, state: &State, me: usize) -> bool {
        let worker = &state.workers[me];
        if !worker.alive || worker.stopped {
            return false;
        }
        match worker.at {
            At::Polls { generation, .. } => {
                state.desk[generation as usize].is_none() || generation < state.latest()
            }
            At::Queued => worker.woken,
            At::Done => false,
            _ => true,
        }
    }

    /// A slot is free, and one that can run waits for it.
    fn is_stuck(&self, state: &State) -> bool {
        let waits = |worker: &Worker| worker.alive && !worker.stopped && worker.at == At::Queued;
        state.running() < self.slots && state.workers.iter().any(waits)
    }

    fn step(&self, state: &mut State, me: usize) {
        let latest = state.latest();
        let is_latest = |number: u8| number == latest;
        let at = state.workers[me].at;
        state.workers[me].at = match at {
            At::Outside => At::Desk { confirms: false },
            At::Desk { confirms } => At::Polls { generation: latest, confirms },
            At::Polls { generation, confirms } => {
                if generation < latest {
                    At::Desk { confirms }
                } else {
                    state.desk[generation as usize] = Some(me as u8);
                    At::Holds { generation, confirms }
                }
            }
            At::Holds { generation, confirms } if !is_latest(generation) => {
                state.release(me);
                At::Desk { confirms }
            }
            At::Holds { confirms: true, .. } => {
                state.release(me);
                if state.running() <= self.slots {
                    At::Inside
                } else {
                    state.workers[me].ticket = Room::Waiting;
                    state.workers[me].woken = true;
                    state.wake_watchers();
                    At::Queued
                }
            }
            At::Holds { generation, .. } => {
                let line = state.waiting();
                let last = state.workers.iter().map(|worker| worker.number).max();
                let worker = &mut state.workers[me];
                if worker.number == 0 {
                    worker.number = last.unwrap_or_default() + 1;
                }
                worker.called = Called::No;
                worker.timer = 0;
                let place = line.iter().position(|&w| w == me).unwrap_or(line.len());
                worker.watches = place < self.watchers;
                let (let_in, calls) = self.stand(state, me);
                At::Stood { generation, let_in, calls }
            }
            At::Stood { generation, let_in, calls } => {
                if is_latest(generation) {
                    At::Writes { generation, let_in, calls }
                } else {
                    state.release(me);
                    At::Desk { confirms: false }
                }
            }
            At::Writes { generation, let_in, calls } => {
                state.workers[me].ticket = if let_in { Room::Running } else { Room::Waiting };
                state.workers[me].timer |= calls;
                let mut first = state.waiting();
                first.truncate(self.watchers);
                for (w, worker) in state.workers.iter_mut().enumerate() {
                    if calls & (1 << w) != 0 && worker.ticket == Room::Waiting {
                        worker.called = Called::Now;
                        worker.woken = true;
                    }
                    // It has moved up.
                    worker.woken |= first.contains(&w) && !worker.watches && w != me;
                }
                if let_in {
                    At::LetIn { generation }
                } else {
                    state.release(me);
                    At::Queued
                }
            }
            At::LetIn { generation } => {
                state.release(me);
                if self.rules.verify && generation != latest {
                    At::Desk { confirms: true }
                } else {
                    At::Inside
                }
            }
            At::Queued => {
                state.workers[me].woken = false;
                At::Desk { confirms: false }
            }
            At::Inside => {
                state.workers[me].ticket = Room::None;
                state.workers[me].timer = 0;
                state.wake_watchers();
                At::Done
            }
            At::Done => At::Done,
        };
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let worker = Worker {
            at: At::Outside,
            ticket: Room::None,
            called: Called::No,
            number: 0,
            woken: false,
            timer: 0,
            watches: false,
            stopped: false,
            alive: true,
        };
        let workers = vec![worker; self.workers];
        let (stops, kills, slow) = (self.stops, self.kills, self.slow);
        vec![State { desk: vec![None], workers, stops, kills, slow }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        for (w, worker) in state.workers.iter().enumerate() {
            if !worker.alive || worker.at == At::Done {
                continue;
            }
            let may_come = |called| worker.timer & (1u8 << called) != 0 && state.may_come(called);
            let is_over = !(0..self.workers).any(may_come) || state.slow > 0;
            if self.rules.pass_over && worker.timer != 0 && !worker.stopped && is_over {
                acts.push(Act::TwoSeconds(w));
            }
            if self.can_step(state, w) {
                acts.push(Act::Step(w));
            }
            if let At::Polls { generation, .. } = worker.at
                && self.rules.generations
                && !worker.stopped
                && generation == state.latest()
                && let Some(holder) = state.desk[generation as usize]
                && (state.workers[holder as usize].stopped || state.slow > 0)
            {
                acts.push(Act::Overtake(w));
            }
            if state.stops > 0 && !worker.stopped && worker.at != At::Outside {
                acts.push(Act::Stop(w));
            }
            if worker.stopped {
                acts.push(Act::Continue(w));
            }
            if state.kills > 0 && worker.at != At::Outside {
                acts.push(Act::Kill(w));
            }
        }
        // The minutes are long enough for all that is quicker.
        if self.slow_look && self.is_stuck(state) && !acts.iter().any(Act::goes_on) {
            let waits = |&w: &usize| {
                let worker = &state.workers[w];
                worker.alive && !worker.stopped && worker.at == At::Queued
            };
            acts.extend((0..self.workers).filter(waits).map(Act::Step));
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut state = last.clone();
        match act {
            Act::Step(w) => self.step(&mut state, w),
            Act::Overtake(w) => {
                let At::Polls { generation, confirms } = state.workers[w].at else { return None };
                let holder = state.desk[generation as usize]? as usize;
                if !state.workers[holder].stopped {
                    state.slow -= 1;
                }
                state.desk.push(None);
                state.workers[w].at = At::Desk { confirms };
            }
            Act::TwoSeconds(w) => {
                let timer = std::mem::take(&mut state.workers[w].timer);
                state.workers[w].woken = true;
                for called in 0..self.workers {
                    if timer & (1u8 << called) != 0 {
                        if state.may_come(called) {
                            state.slow = state.slow.saturating_sub(1);
                        }
                        if state.workers[called].called == Called::Now {
                            state.workers[called].called = Called::Silent;
                        }
                    }
                }
            }
            Act::Stop(w) => {
                state.stops -= 1;
                state.workers[w].stopped = true;
            }
            Act::Continue(w) => state.workers[w].stopped = false,
            Act::Kill(w) => {
                state.kills -= 1;
                let worker = &mut state.workers[w];
                worker.alive = false;
                let had_slot = worker.ticket == Room::Running;
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
            Property::always("slots are never exceeded", |model: &Self, state: &State| {
                let runs = |worker: &&Worker| worker.alive && worker.at == At::Inside;
                state.workers.iter().filter(runs).count() <= model.slots
            }),
            Property::always("no ticket is lost", |_, state: &State| {
                state.workers.iter().filter(|worker| worker.alive).all(|worker| match worker.at {
                    At::Queued => worker.ticket == Room::Waiting,
                    At::Inside | At::LetIn { .. } => worker.ticket == Room::Running,
                    _ => true,
                })
            }),
            // Together with `every_run_ends`: whenever a slot is free and one that can run waits,
            // one is let in, whatever becomes of those who are stopped.
            Property::always("nobody waits for ever", |model: &Self, state: &State| {
                let mut acts = Vec::new();
                model.actions(state, &mut acts);
                let polls = |worker: &Worker| {
                    worker.alive && !worker.stopped && matches!(worker.at, At::Polls { .. })
                };
                acts.iter().any(Act::goes_on)
                    || !(model.is_stuck(state) || state.workers.iter().any(polls))
            }),
            Property::sometimes("all are done", |_, state: &State| {
                state.workers.iter().all(|worker| worker.at == At::Done)
            }),
            Property::sometimes("one that was stopped confirms", |_, state: &State| {
                state.workers.iter().any(|worker| worker.at == At::Desk { confirms: true })
            }),
        ]
    }
}

/// Asserts that no sequence of steps leads back to where it began: stops, kills and slowness are
/// counted, so that every run ends, and where it ends nobody waits.
fn every_run_ends(model: &Protocol) {
    // Whether all that follows was looked at, or it is on the way to where we are.
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let mut way: Vec<(State, Vec<Act>)> = Vec::new();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let id = |state: &State| hasher.hash_one(state);
    let acts_of = |state: &State| {
        let mut acts = Vec::new();
        model.actions(state, &mut acts);
        acts
    };
    let first = model.init_states().remove(0);
    let acts = acts_of(&first);
    seen.insert(id(&first), false);
    way.push((first, acts));
    while let Some((state, acts)) = way.last_mut() {
        let Some(act) = acts.pop() else {
            let state = id(state);
            seen.insert(state, true);
            way.pop();
            continue;
        };
        let Some(next) = model.next_state(state, act) else { continue };
        match seen.insert(id(&next), false) {
            None => {
                let acts = acts_of(&next);
                way.push((next, acts));
            }
            Some(true) => {
                seen.insert(id(&next), true);
            }
            Some(false) => panic!("a circle, after {act:?}: {next:#?}"),
        }
    }
}

fn protocol() -> Protocol {
    Protocol {
        workers: 3,
        slots: 1,
        watchers: 2,
        stops: 1,
        kills: 0,
        slow: 0,
        slow_look: false,
        rules: ALL,
    }
}

#[allow(clippy::print_stdout, reason = "the figures are printed for whoever asks for them")]
fn check(name: &str, model: &Protocol) -> Vec<&'static str> {
    let began = std::time::Instant::now();
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    let wrong: Vec<&'static str> = checker
        .model()
        .properties()
        .iter()
        .filter(|property| {
            matches!(property.expectation, stateright::Expectation::Always)
                && checker.discovery(property.name).is_some()
        })
        .map(|property| property.name)
        .collect();
    println!("{name}: {} states, {:?}, {wrong:?}", checker.unique_state_count(), began.elapsed());
    for property in &wrong {
        if let Some(path) = checker.discovery(property) {
            let acts = path.clone().into_actions();
            println!("  {property} does not hold after {acts:?}");
        }
    }
    wrong
}

#[test]
fn the_protocol_holds() {
    for (name, model) in [
        ("one stopped, one killed", Protocol { kills: 1, ..protocol() }),
        ("two slots, a slow machine", Protocol { slots: 2, slow: 1, ..protocol() }),
        ("two stopped, who all watch", Protocol { stops: 2, watchers: 3, ..protocol() }),
        (
            "one watches, the others look",
            Protocol { watchers: 1, stops: 2, slow_look: true, ..protocol() },
        ),
    ] {
        assert_eq!(check(name, &model), Vec::<&str>::new(), "{name}");
        every_run_ends(&model);
    }
}

#[test]
fn the_model_finds_each_error() {
    let slots = "slots are never exceeded";
    let waits = "nobody waits for ever";
    let all_watch = Protocol { stops: 2, watchers: 3, ..protocol() };
    let with = |rules| Protocol { rules, ..all_watch.clone() };
    for (name, model, property) in [
        ("no generations", with(Rules { generations: false, ..ALL }), waits),
        ("no second look", with(Rules { verify: false, ..ALL }), slots),
        ("nobody passed over", with(Rules { pass_over: false, ..ALL }), waits),
        ("too few watchers", Protocol { watchers: 1, ..protocol() }, waits),
    ] {
        let wrong = check(name, &model);
        assert!(wrong.contains(&property), "{name}: {wrong:?}");
    }
}
