//! Senders and the holder of the job's lock, with their steps in any order: each is a thread that
//! stops at its fault points, and one runs at a time.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fault_point::hook;

/// A step of the holder of the lock.
#[derive(Clone, Copy, Debug)]
enum Step {
    Receive,
    SetAside,
    Remove,
    Restore,
    Close,
    Open,
    /// It dies at the next fault point of this step.
    Die(Fatal),
}

#[derive(Clone, Copy, Debug)]
enum Fatal {
    Receive,
    Close,
}

/// A thread that runs from one fault point to the next.
struct Actor {
    go: Sender<()>,
    stopped: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Actor {
    /// Starts a thread that dies at a fault point when `dies` is set.
    fn start(dies: Arc<AtomicBool>, body: impl FnOnce() + Send + 'static) -> Self {
        let ((go, may_go), (stop, stopped)) = (channel(), channel());
        let thread = std::thread::spawn(move || {
            let _ = may_go.recv();
            hook::set(move || {
                let _ = stop.send(());
                let _ = may_go.recv();
                if dies.swap(false, Ordering::Relaxed) {
                    panic::resume_unwind(Box::new(()));
                }
            });
            body();
        });
        Self { go, stopped, thread }
    }

    /// Runs to the next fault point; returns false if the thread has ended.
    fn run(&self) -> bool {
        self.go.send(()).is_ok() && self.stopped.recv().is_ok()
    }
}

/// The holder of the lock.
struct Holder {
    dir: JobDir,
    is_open: bool,
    known: BTreeSet<u64>,
    delivered: BTreeMap<u64, String>,
    /// The messages that the inbox contained when it was closed.
    reported: BTreeMap<u64, String>,
    restored: BTreeSet<u64>,
    highest: u64,
}

impl Holder {
    fn step(&mut self, step: Step, dies: &AtomicBool) {
        match step {
            Step::Receive if self.is_open => {
                for item in self.dir.receive(&self.known).unwrap() {
                    let Ok(InboxMessage::Message { text, .. }) = item.content else { panic!() };
                    let number = item.number;
                    let in_order = number > self.highest || self.restored.remove(&number);
                    assert!(in_order, "{number} after {}", self.highest);
                    assert_eq!(self.delivered.insert(number, text), None, "{number}");
                    self.highest = self.highest.max(number);
                    self.known.insert(number);
                }
            }
            Step::SetAside => {
                if let Some(number) = self.known.pop_first() {
                    self.dir.set_aside(number);
                }
            }
            Step::Remove => {
                if let Some(number) = self.known.pop_last() {
                    assert!(self.dir.remove_message(number));
                }
            }
            Step::Restore if self.is_open => {
                for number in self.dir.aside_numbers() {
                    self.delivered.remove(&number);
                    self.restored.insert(number);
                }
                self.dir.restore_aside();
            }
            Step::Close => {
                // Delivered messages have left the inbox by then.
                for number in std::mem::take(&mut self.known) {
                    self.dir.remove_message(number);
                }
                self.is_open = false;
                for (number, text) in texts(&self.dir.close_inbox().unwrap()) {
                    self.reported.insert(number, text.to_owned());
                }
            }
            Step::Open => {
                self.is_open = true;
                self.reported.clear();
                self.dir.open_inbox().unwrap();
            }
            Step::Die(fatal) => {
                dies.store(true, Ordering::Relaxed);
                let step = if let Fatal::Close = fatal { Step::Close } else { Step::Receive };
                let _ = panic::catch_unwind(AssertUnwindSafe(|| self.step(step, dies)));
                dies.store(false, Ordering::Relaxed);
                // Another process takes the lock.
                self.step(Step::Close, dies);
                self.step(Step::Open, dies);
            }
            Step::Receive | Step::Restore => {}
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Receive),
        2 => Just(Step::SetAside),
        3 => Just(Step::Remove),
        1 => Just(Step::Restore),
        1 => Just(Step::Close),
        2 => Just(Step::Open),
        1 => Just(Step::Die(Fatal::Receive)),
        1 => Just(Step::Die(Fatal::Close)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 2_000, ..ProptestConfig::default()
    })]

    #[test]
    fn loses_and_duplicates_nothing_in_any_order(
        steps in vec(steps(), 1..30),
        senders in 1usize..4,
        // The first sender stops there while the others run.
        stopped_at in 1usize..12,
        order in vec((any::<prop::sample::Index>(), 1usize..12), 0..20),
    ) {
        let job = Job::open();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let dies = Arc::new(AtomicBool::new(false));
        let mut actors: Vec<Actor> = (0..senders).map(|sender| {
            let (dir, posted) = (job.dir.clone(), posted.clone());
            Actor::start(Arc::default(), move || for n in 0..3 {
                let text = format!("{sender}-{n}");
                let number = try_post(&dir, &text).unwrap();
                posted.lock().unwrap().push((text, number));
            })
        }).collect();
        let holder = Arc::new(Mutex::new(Holder {
            dir: job.dir.clone(),
            is_open: true,
            known: BTreeSet::new(),
            delivered: BTreeMap::new(),
            reported: BTreeMap::new(),
            restored: BTreeSet::new(),
            highest: 0,
        }));
        let (holds, dying) = (holder.clone(), dies.clone());
        actors.push(Actor::start(dies.clone(), move || {
            let dies = dying;
            let mut holder = holds.lock().unwrap();
            for step in steps {
                holder.step(step, &dies);
                fault_point("step");
            }
        }));
        let stopped = actors.remove(0);
        let mut is_running = (0..stopped_at).all(|_| stopped.run());
        let mut threads = Vec::new();
        for (index, runs) in order {
            if actors.is_empty() {
                break;
            }
            let at = index.index(actors.len());
            if !(0..runs).all(|_| actors[at].run()) {
                threads.push(actors.swap_remove(at).thread);
            }
        }
        while is_running {
            is_running = stopped.run();
        }
        threads.push(stopped.thread);
        for actor in actors {
            while actor.run() {}
            threads.push(actor.thread);
        }
        for thread in threads {
            prop_assert!(thread.join().is_ok());
        }

        let mut holder = holder.lock().unwrap();
        if holder.is_open {
            holder.step(Step::Receive, &dies);
            holder.step(Step::Close, &dies);
        }
        let mut received = holder.delivered.clone();
        for (number, text) in holder.reported.clone() {
            prop_assert_eq!(received.insert(number, text), None);
        }
        let posted = posted.lock().unwrap();
        let accepted: BTreeMap<u64, String> = posted
            .iter()
            .filter_map(|(text, number)| Some(((*number)?, text.clone())))
            .collect();
        let count = posted.iter().filter(|(_, number)| number.is_some()).count();
        prop_assert_eq!(count, accepted.len(), "a number was used twice: {:?}", posted);
        prop_assert_eq!(&received, &accepted);
        let drafts = job.names().into_iter().filter(|name| name.ends_with(".tmp")).count();
        prop_assert_eq!(drafts, 0);
    }
}
