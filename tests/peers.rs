//! Other ways to run claude in the background, in the cases of the table in docs/benchmarks.md.
//!
//! `cargo test --release --test peers -- --ignored --nocapture` prints that table. A way whose program
//! (tmux, pueue) is not installed is left out.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;
#[path = "peers/ways.rs"]
mod ways;

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use support::is_alive;
use support::processes::{pid_in, program_of};
use support::real_claude::{Cli, RealSandbox};
use support::scripted_api::Step;
use support::{await_file, eventually};
use ways::{Stage, Way};

/// Number of starts, whose median is reported.
const STARTS: usize = 5;

/// How long processes may take to end after the job was stopped.
const GRACE: Duration = Duration::from_secs(10);

type Measure = fn(Way) -> String;

#[test]
#[allow(clippy::print_stdout, reason = "it prints the table")]
#[ignore = "a measurement of minutes; needs claude, which it installs from npm"]
fn measure_other_ways() {
    let ways: Vec<Way> = Way::ALL.into_iter().filter(Way::is_installed).collect();
    let measures: [(&str, Measure); 6] = [
        ("start, until the shell prompts again", start),
        ("beside the claude that works: memory (PSS), processes", memory),
        ("processes of the agent that its stop leaves, of 7", leftovers),
        ("reported of a model that ended without an answer", no_answer),
        ("reported of an agent that asks a question", question),
        ("after SIGKILL of all processes", crash),
    ];
    let heads: Vec<&str> = ways.iter().map(|way| way.name()).collect();
    println!("| | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(ways.len()));
    for (what, measure) in measures {
        print!("| {what} |");
        for way in &ways {
            print!(" {} |", measure(*way));
            let _ = std::io::stdout().flush();
        }
        println!();
    }
}

/// The median time of a start, and that of the first one, which may start a daemon.
fn start(way: Way) -> String {
    let stage = Stage::new(way, [Step::text("done")]);
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let began = Instant::now();
            stage.start();
            let took = began.elapsed();
            stage.await_end();
            took
        })
        .collect();
    let first = times[0];
    times.sort_unstable();
    format!("{} ms (first: {} ms)", times[STARTS / 2].as_millis(), first.as_millis())
}

fn memory(way: Way) -> String {
    let stage = Stage::new(way, [Step::bash("touch up; tail -f /dev/null"), Step::text("done")]);
    stage.start();
    await_file(&stage.work().join("up"));
    let of_tool = |pid: &i32| ["bash", "dash", "tail"].contains(&program_of(*pid).as_str());
    let mut pids = stage.processes();
    pids.retain(|pid| !of_tool(pid));
    let mut shares: Vec<u64> = pids.iter().map(|pid| share_of_memory(*pid)).collect();
    shares.sort_unstable();
    // The largest is the claude that works.
    shares.pop();
    let megabytes = shares.iter().sum::<u64>() as f64 / 1000.0;
    format!("{megabytes:.1} MB, {} processes", shares.len())
}

/// The proportional share of memory (PSS) of a process in kB.
fn share_of_memory(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.map_or(0, |rest| rest.trim().trim_end_matches(" kB").parse().unwrap())
}

/// A script that leaves the kinds of child that a shell can leave. Each writes its PID into a file
/// named after its kind.
const CHILDREN: &str = r#"#!/bin/bash
hold() { echo $$ > "$1.new"; mv "$1.new" "$1"; exec tail -f /dev/null; }
if [ -n "$1" ]; then hold "$1"; fi
setsid "$0" session &
nohup "$0" nohup > /dev/null 2>&1 &
"$0" disowned & disown
(setsid "$0" orphan &)
env -i PATH="$PATH" setsid "$0" clean &
env -i PATH="$PATH" bash -c 'trap "" INT TERM HUP; (setsid "$0" stubborn &)' "$0"
hold shell
"#;
const KINDS: [&str; 7] = ["session", "nohup", "disowned", "orphan", "clean", "stubborn", "shell"];

fn leftovers(way: Way) -> String {
    let stage = Stage::new(way, [Step::bash("./children"), Step::text("done")]);
    support::install(&stage.work().join("children"), CHILDREN.as_bytes());
    stage.start();
    for kind in KINDS {
        await_file(&stage.work().join(kind));
    }
    stage.stop();
    let left = || KINDS.iter().filter(|kind| is_alive(pid_in(&stage.work().join(kind)))).count();
    let deadline = Instant::now() + GRACE;
    while left() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    left().to_string()
}

fn no_answer(way: Way) -> String {
    let stage = Stage::new(way, [Step::Empty]);
    stage.start();
    stage.await_end();
    stage.verdict()
}

fn question(way: Way) -> String {
    let stage = Stage::new(way, [Step::Ask("Which database?".into()), Step::text("Done.")]);
    stage.start_asking();
    stage.await_end();
    stage.verdict()
}

/// What each way can tell or do when nothing of the job has survived, as after a power cut.
fn crash(way: Way) -> String {
    let stage = Stage::new(
        way,
        [Step::bash("touch up; tail -f /dev/null"), Step::text("Finished after all.")],
    );
    stage.start();
    await_file(&stage.work().join("up"));
    // Claude writes its conversation to its disk shortly after it prints it.
    eventually("the conversation on claude's disk", || stage.has_conversation().then_some(()));
    stage.kill_everything();
    stage.bring_back();
    format!("{}; {} requests to the API", stage.verdict(), stage.sandbox.api.requests())
}
