//! Many jobs queued behind one that runs.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::Part;
use crate::gate::Gate;
use crate::stage::{Job, Stage};
use crate::table::{Row, Spread, Table, Target, Unit};
use crate::{Outcome, Scale, interrupt, measure, proc};

/// How often a slot is handed over, in each way.
const HAND_OVERS: usize = 20;
/// How long queued workers take until they are idle.
const SETTLING: Duration = Duration::from_secs(2);

pub(crate) fn queue(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut gate = Gate::new(stage.path("gate"))?;
    let one = |command: &mut Command| {
        command.args(["--max-parallel", "1"]);
    };
    // Killed from the last to the first, so that none of them gets the slot meanwhile.
    let mut line = Line(Vec::new());
    let mut starts = Vec::new();
    for number in 0..=scale.queued {
        let (job, elapsed) = stage.start_with(Part::Idle, Some(&gate), one)?;
        if job.is_queued != (number > 0) {
            return Err("one job runs and the others wait".into());
        }
        line.0.push(job);
        if number > 0 {
            starts.push(elapsed.as_secs_f64());
        }
        interrupt::check()?;
    }
    gate.reached()?;
    let queued = scale.queued;
    let mut add = |what: String, unit, ours, limit| {
        table.add(&Row {
            what,
            unit,
            ours,
            reference: None,
            target: Target::AtMost(limit),
            peers: String::new(),
        })
    };
    let what = format!("`start` of a job that is queued, up to {queued} queued");
    add(what, Unit::Seconds, Spread::of(starts), 0.020)?;

    std::thread::sleep(SETTLING);
    let waiting = || line.0[1..].iter().map(|job| job.worker);
    let memory: Vec<_> = waiting().map(proc::memory).collect::<Outcome<_>>()?;
    let shares = memory.iter().map(|memory| memory.share as f64).collect();
    let what = format!("queued worker: its share of memory (PSS), {queued} of them");
    add(what, Unit::Bytes, Spread::of(shares), 0.5e6)?;
    let private = memory.iter().map(|memory| memory.private as f64).collect();
    add("queued worker: private memory".into(), Unit::Bytes, Spread::of(private), 0.5e6)?;
    let sleeps = || waiting().map(proc::sleeps).sum::<Outcome<u64>>();
    let before = sleeps()?;
    std::thread::sleep(Duration::from_secs(scale.idle_seconds));
    let wake_ups = sleeps()? - before;
    let what = format!("wake-ups of {queued} queued workers in {} s", scale.idle_seconds);
    add(what, Unit::Times, Spread::single(wake_ups as f64), 0.0)?;

    let last = line.0[queued].id.clone();
    let status = (0..scale.rounds)
        .map(|_| Ok(measure::run(&mut stage.claudejob(&["status", &last]))?.elapsed.as_secs_f64()))
        .collect::<Outcome<_>>()?;
    add("`status` of a queued job".into(), Unit::Seconds, Spread::of(status), 0.020)?;
    let mut kills = Vec::new();
    for _ in 0..HAND_OVERS {
        let job = line.0.pop().ok_or("nobody waits")?;
        let run = measure::run(&mut stage.claudejob(&["kill", &job.id]))?;
        kills.push(run.elapsed.as_secs_f64());
    }
    add("`kill` of a queued job".into(), Unit::Seconds, Spread::of(kills), 0.050)?;

    for (how, worker) in [("claude", false), ("worker", true)] {
        let mut took = Vec::new();
        for _ in 0..HAND_OVERS {
            let job = line.0.remove(0);
            let victim = if worker { job.worker } else { claude_of(&stage, &job)? };
            let began = Instant::now();
            kill(Pid::from_raw(i32::try_from(victim)?), Signal::SIGKILL)?;
            gate.reached()?;
            took.push(began.elapsed().as_secs_f64());
            drop(job);
            interrupt::check()?;
        }
        let what = format!("hand-over of the slot after SIGKILL of its {how}");
        add(what, Unit::Seconds, Spread::of(took), 0.100)?;
    }
    Ok(())
}

/// The process id of a job's claude, as its record says it.
fn claude_of(stage: &Stage, job: &Job<'_>) -> Outcome<u64> {
    let record = std::fs::read(stage.job_dir(&job.id).join("meta.json"))?;
    let record: serde_json::Value = serde_json::from_slice(&record)?;
    Ok(record["claudePid"].as_u64().ok_or("claude does not run")?)
}

struct Line<'stage>(Vec<Job<'stage>>);

impl Drop for Line<'_> {
    fn drop(&mut self) {
        while let Some(job) = self.0.pop() {
            drop(job);
        }
    }
}
