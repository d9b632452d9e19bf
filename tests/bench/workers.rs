//! The verb that makes a worker, and the worker itself: at its start, at rest, and at work.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::Part;
use crate::gate::Gate;
use crate::stage::Stage;
use crate::table::{Row, Spread, Table, Target, Unit};
use crate::{Outcome, Scale, interrupt, measure, proc};

pub(crate) fn start(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stages = [Some(Stage::on_disk()?), Stage::in_memory()?];
    for stage in stages.iter().flatten() {
        let (ours, setsid) = measure::alternate(
            scale.rounds,
            || {
                let (job, elapsed) = stage.start(Part::Answer, None)?;
                // The end of this job is not to weigh on the next start.
                job.wait()?;
                Ok(elapsed)
            },
            || Ok(measure::run(&mut stage.command("setsid", &["-f", "true"]))?.elapsed),
        )?;
        table.add(&Row {
            what: format!("`start` to its answer, jobs on {}", stage.file_system),
            unit: Unit::Seconds,
            ours: Spread::of(ours),
            reference: Some(("`setsid -f true`".into(), Spread::of(setsid))),
            target: Target::RatioAtMost(5.0),
        })?;
    }
    Ok(())
}

/// The record follows mere progress at most once a second, and a worker gives back the memory of
/// its code after a while of silence: after that, it is at rest.
const SETTLING: Duration = Duration::from_secs(4);

pub(crate) fn idle(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut gate = Gate::new(stage.path("gate"))?;
    let (job, _) = stage.start(Part::Idle, Some(&gate))?;
    gate.reached()?;
    std::thread::sleep(SETTLING);
    interrupt::check()?;
    let before = proc::sleeps(job.worker)?;
    std::thread::sleep(Duration::from_secs(scale.idle_seconds));
    let wake_ups = proc::sleeps(job.worker)? - before;
    let memory = proc::memory(job.worker)?;
    table.add(&Row {
        what: "worker at rest: resident memory".into(),
        unit: Unit::Bytes,
        ours: Spread::single(memory.now as f64),
        reference: None,
        target: Target::AtMost(4e6),
    })?;
    table.add(&Row {
        what: format!("worker at rest: wake-ups in {} s", scale.idle_seconds),
        unit: Unit::Times,
        ours: Spread::single(wake_ups as f64),
        reference: None,
        target: Target::AtMost(0.0),
    })
}

pub(crate) fn copying(scale: Scale, table: &mut Table) -> Outcome<()> {
    let streams = [("events", Part::Flood(scale.stream)), ("one line", Part::LongLine(scale.line))];
    for (name, part) in streams {
        let stage = Stage::on_disk()?;
        let copy = stage.path("copy");
        let (mut peak, mut round) = (0, 0);
        let (mut copied, mut teed) = (0, 0);
        let (ours, tee) = measure::alternate(
            scale.long_rounds,
            || {
                round += 1;
                let mut gate = Gate::new(stage.path(&format!("gate-{round}")))?;
                let begin = Instant::now();
                let (job, _) = stage.start(part, Some(&gate))?;
                gate.reached()?;
                peak = proc::memory(job.worker)?.peak.max(peak);
                gate.open()?;
                let id = job.wait()?;
                let elapsed = begin.elapsed();
                let dir = stage.job_dir(&id);
                copied = fs::metadata(dir.join("output.log"))?.len();
                fs::remove_dir_all(dir)?;
                Ok(elapsed)
            },
            || {
                interrupt::check()?;
                let begin = Instant::now();
                let tee = stage.command("tee", &[&copy.to_string_lossy()]);
                pipe(stage.fake(part)?, tee)?;
                let elapsed = begin.elapsed();
                teed = fs::metadata(&copy)?.len();
                fs::remove_file(&copy)?;
                Ok(elapsed)
            },
        )?;
        if copied != teed {
            return Err(format!("the worker kept {copied} bytes where tee kept {teed}").into());
        }
        let megabytes = copied as f64 / 1e6;
        table.add(&Row {
            what: format!("worker copying {megabytes:.0} MB ({name})"),
            unit: Unit::BytesPerSecond,
            ours: Spread::rate(ours, copied),
            reference: Some(("`tee`".into(), Spread::rate(tee, copied))),
            target: Target::RatioAtLeast(0.7),
        })?;
        table.add(&Row {
            what: format!("peak memory of that worker ({name})"),
            unit: Unit::Bytes,
            ours: Spread::single(peak as f64),
            reference: None,
            target: Target::AtMost(8e6),
        })?;
    }
    Ok(())
}

/// `from | to >/dev/null`, until both have ended.
fn pipe(mut from: Command, mut to: Command) -> Outcome<()> {
    let mut source = from.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = source.stdout.take().ok_or("no output to copy")?;
    let copied = to.stdin(stdout).stdout(Stdio::null()).status();
    let printed = source.wait()?;
    if !copied?.success() || !printed.success() {
        return Err("the reference copy failed".into());
    }
    Ok(())
}
