//! Many jobs while their processes are killed at random: no step of their work is lost, and no step
//! is repeated whose end is in the log.
//!
//! `CHAOS_JOBS` and `CHAOS_KILLS` set the numbers (default 10 and 30), `CHAOS_SEED` repeats a run.
//! With `-- --nocapture` it prints what was killed how often.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the figures are printed with --nocapture")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::chance::{Dice, number, seed};
use support::processes::{processes_of, program_of, send};
use support::{Sandbox, is_alive};

/// Steps of each job's work.
const STEPS: usize = 6;
const SCRIPT: &str = "session\nread\ninit\nwork 6\nresult ok\neof";

struct Chaos {
    sandbox: Sandbox,
    dice: Dice,
    kills: BTreeMap<&'static str, u64>,
}

impl Chaos {
    fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Starts a call and, if `fatal`, kills it some microseconds later.
    fn call(&mut self, name: &'static str, arguments: &[&str], fatal: bool) {
        let mut command = self.sandbox.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child: Child = command.spawn().unwrap();
        if fatal {
            thread::sleep(Duration::from_micros(self.dice.below(12_000) as u64));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                *self.kills.entry(name).or_default() += 1;
            }
        }
        child.wait().unwrap();
    }

    /// Kills a random worker or claude, if one runs.
    fn kill_random_process(&mut self) {
        let running = processes_of(&self.sandbox.jobs());
        let candidates: Vec<(i32, &'static str)> = running
            .into_iter()
            .filter_map(|pid| match program_of(pid).as_str() {
                "claudejob" => Some((pid, "worker")),
                "fake-claude" => Some((pid, "claude")),
                _ => None,
            })
            .collect();
        if candidates.is_empty() {
            return;
        }
        let (pid, name) = candidates[self.dice.below(candidates.len())];
        if is_alive(pid) {
            send(pid, Signal::SIGKILL);
            *self.kills.entry(name).or_default() += 1;
        }
    }
}

#[test]
fn loses_no_step_and_repeats_no_logged_one() {
    let (jobs, kills) = (number("CHAOS_JOBS", 10), number("CHAOS_KILLS", 30));
    let seed = seed("CHAOS_SEED");
    let sandbox = Sandbox::new(SCRIPT);
    let mut chaos = Chaos { sandbox, dice: Dice(seed), kills: BTreeMap::new() };
    let ids: Vec<String> = (0..jobs).map(|n| format!("job-{n}")).collect();
    // Each job is started until it exists, although its `start` may be killed; some jobs exist only
    // so that a `kill` can be killed.
    let mut victims = 0;
    for id in &ids {
        let start = ["start", "--if-absent", "--job-id", id, "--prompt", "work"];
        while chaos.sandbox.run(["status", id])["code"] == "not_found" {
            let fatal = chaos.killed() < kills && chaos.dice.below(3) > 0;
            chaos.call("start", &start, fatal);
        }
        for _ in 0..chaos.dice.below(3) {
            chaos.kill_random_process();
        }
        if chaos.dice.below(6) == 0 {
            let victim = format!("victim-{victims}");
            victims += 1;
            chaos.call("start", &["start", &victim, "--prompt", "work"], false);
            chaos.call("kill", &["kill", &victim], true);
        }
    }
    while chaos.killed() < kills {
        chaos.call("recover", &["recover", "--all"], true);
        for _ in 0..chaos.dice.below(4) {
            chaos.kill_random_process();
        }
    }
    let all = chaos.sandbox.run(["recover", "--all"]);
    assert_eq!(all.code, 0, "{all:?}");
    let (mut repeated, mut attempts) = (0, 0);
    for id in &ids {
        chaos.sandbox.wait(id);
        // A job that was live during that recover may have been killed just before.
        let status = chaos.sandbox.status(id);
        if status["status"] == "failed" {
            let recovered = chaos.sandbox.run(["recover", id]);
            assert_eq!(recovered.code, 0, "{recovered:?} {status:?}");
            chaos.sandbox.wait(id);
        }
        let status = chaos.sandbox.status(id);
        let events = || fs::read_to_string(chaos.sandbox.job(id).join("events.ndjson"));
        assert_eq!(status["status"], "completed", "{status:?}\n{}", events().unwrap());
        attempts += status["attempt"].as_u64().unwrap();
        let work = fs::read_to_string(chaos.sandbox.path(&format!("work/{id}"))).unwrap();
        let log = fs::read_to_string(chaos.sandbox.job(id).join("output.log")).unwrap();
        for step in 1..=STEPS {
            let done = work.lines().filter(|line| **line == step.to_string()).count();
            let logged = log.matches(&format!("\"content\":\"done {step}\"")).count();
            assert!(done >= 1, "{id}: step {step} is lost");
            assert!(done == 1 || logged <= 1, "{id}: step {step} was logged and done {done} times");
            repeated += done - 1;
        }
        chaos.sandbox.assert_nothing_left(id);
    }
    for victim in 0..victims {
        let id = format!("victim-{victim}");
        chaos.sandbox.run(["wait", &id]);
        let mut status = chaos.sandbox.run(["status", &id]);
        // The same for a victim whose kill was killed too soon.
        if status["status"] == "failed" {
            let recovered = chaos.sandbox.run(["recover", &id]);
            assert_eq!(recovered.code, 0, "{recovered:?} {status:?}");
            chaos.sandbox.wait(&id);
            status = chaos.sandbox.status(&id);
        }
        let end = status["status"].as_str().unwrap_or("not there").to_owned();
        assert!(["killed", "completed"].contains(&end.as_str()), "{status:?}");
        chaos.sandbox.assert_nothing_left(&id);
    }
    assert_eq!(fs::read_dir(chaos.sandbox.jobs().join(".new")).unwrap().count(), 0);
    println!(
        "{jobs} jobs, {} SIGKILLs {:?}: {attempts} attempts, every job completed, 0 steps lost, \
         {repeated} of {} repeated that had not reached the log",
        chaos.killed(),
        chaos.kills,
        jobs * STEPS as u64,
    );
}
