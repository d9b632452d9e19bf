//! The verb that starts a worker, and the worker itself: at its start, idle, and busy.

use std::cell::RefCell;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::Part;
use crate::gate::{self, Gate};
use crate::stage::Stage;
use crate::stream::Recorded;
use crate::table::{Row, Spread, Table, Target, Unit};
use crate::{Outcome, Scale, interrupt, measure, proc};

pub(crate) fn start(scale: Scale, table: &mut Table) -> Outcome<()> {
    // Only a disk makes the syncs expensive.
    let stages = [(Some(Stage::on_disk()?), 4.5), (Stage::in_memory()?, 2.5)];
    for (stage, limit) in &stages {
        let Some(stage) = stage else { continue };
        let (ours, setsid) = measure::alternate(
            scale.rounds,
            || {
                let (job, elapsed) = stage.start(Part::Answer, None)?;
                // The end of this job must not affect the next start.
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
            target: Target::RatioAtMost(*limit),
            peers: peers(stage, scale)?,
        })?;
    }
    Ok(())
}

/// Other programs that put a command into the background, each with its arguments for `true`.
const PEERS: [(&str, &[&str]); 3] =
    [("nq", &["true"]), ("tsp", &["true"]), ("pueue", &["add", "--", "true"])];

/// The time of each installed peer; a dash if it is not installed or does not work without
/// preparation (pueue needs its daemon).
fn peers(stage: &Stage, scale: Scale) -> Outcome<String> {
    let mut texts = Vec::new();
    for (program, args) in PEERS {
        let mut times = Vec::new();
        for _ in 0..scale.rounds {
            let mut command = stage.command(program, args);
            command.env("NQDIR", stage.path("nq")).env("TS_SOCKET", stage.path("tsp"));
            match measure::run(command.stderr(Stdio::null())) {
                Ok(run) => times.push(run.elapsed.as_secs_f64()),
                Err(_) => break,
            }
        }
        interrupt::check()?;
        let median = if times.is_empty() { f64::NAN } else { Spread::of(times).median };
        texts.push(format!("{program} {}", Unit::Seconds.show(median)));
    }
    // The server of tsp, which stays running.
    let mut stop = stage.command("tsp", &["-K"]);
    stop.env("TS_SOCKET", stage.path("tsp")).stderr(Stdio::null());
    let _ = measure::run(&mut stop);
    Ok(texts.join(", "))
}

/// The record follows mere progress at most once a second: after that, a worker is idle.
const SETTLING: Duration = Duration::from_secs(4);
/// Idle workers, which share the pages of the program.
const AT_REST: usize = 10;

pub(crate) fn idle(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut gate = Gate::new(stage.path("gate"))?;
    let mut jobs = Vec::new();
    for _ in 0..AT_REST {
        jobs.push(stage.start(Part::Idle, Some(&gate))?.0);
        gate.reached()?;
    }
    std::thread::sleep(SETTLING);
    interrupt::check()?;
    let sleeps = || jobs.iter().map(|job| proc::sleeps(job.worker)).sum::<Outcome<u64>>();
    let before = sleeps()?;
    std::thread::sleep(Duration::from_secs(scale.idle_seconds));
    let wake_ups = sleeps()? - before;
    let memory: Vec<_> = jobs.iter().map(|job| proc::memory(job.worker)).collect::<Outcome<_>>()?;
    let shares = memory.iter().map(|memory| memory.share as f64).collect();
    let private = memory.iter().map(|memory| memory.private as f64).collect();
    for (what, unit, ours, limit) in [
        (
            format!("worker at rest: its share of memory (PSS), {AT_REST} of them"),
            Unit::Bytes,
            Spread::of(shares),
            0.5e6,
        ),
        ("worker at rest: private memory".into(), Unit::Bytes, Spread::of(private), 0.5e6),
        (
            format!("{AT_REST} workers at rest: wake-ups in {} s", scale.idle_seconds),
            Unit::Times,
            Spread::single(wake_ups as f64),
            0.0,
        ),
    ] {
        let target = Target::AtMost(limit);
        table.add(&Row { what, unit, ours, reference: None, target, peers: String::new() })?;
    }
    Ok(())
}

/// From the first byte of a stream until all of it is copied: starting the worker, claude and `tee`
/// is not measured.
pub(crate) fn copying(scale: Scale, table: &mut Table) -> Outcome<()> {
    let recorded = |name| Part::Recorded(name, scale.stream / 2);
    let streams = [
        ("events", Part::Flood(scale.stream)),
        ("one line", Part::LongLine(scale.line)),
        ("recorded tool_use", recorded(Recorded::ToolUse)),
        ("recorded short texts", recorded(Recorded::ShortTexts)),
        ("recorded partial messages", recorded(Recorded::PartialMessages)),
    ];
    for (name, part) in streams {
        let stage = Stage::on_disk()?;
        let copy = stage.path("copy");
        let gate = RefCell::new(Gate::new(stage.path("gate"))?);
        let (mut peak, mut copied, mut teed) = (0, 0, 0);
        let (ours, tee) = measure::alternate(
            scale.long_rounds,
            || {
                let mut gate = gate.borrow_mut();
                let (job, _) = stage.start(part, Some(&gate))?;
                gate.reached()?;
                let begin = Instant::now();
                gate.open()?;
                // The worker has closed claude's stdin: it has read the result.
                gate.reached()?;
                let elapsed = begin.elapsed();
                peak = proc::peak_resident(job.worker)?.max(peak);
                gate.open()?;
                let dir = stage.job_dir(&job.wait()?);
                copied = fs::metadata(dir.join("output.log"))?.len();
                fs::remove_dir_all(dir)?;
                Ok(elapsed)
            },
            || {
                interrupt::check()?;
                let mut gate = gate.borrow_mut();
                let mut fake = stage.fake(part)?;
                fake.env(gate::DIRECTORY_VARIABLE, &gate.directory);
                let tee = stage.command("tee", &[&copy.to_string_lossy()]);
                let elapsed = pipe(fake, tee, &mut gate)?;
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
            peers: String::new(),
        })?;
        table.add(&Row {
            what: format!("peak resident memory of that worker ({name})"),
            unit: Unit::Bytes,
            ours: Spread::single(peak as f64),
            reference: None,
            target: Target::AtMost(8e6),
            peers: String::new(),
        })?;
    }
    Ok(())
}

/// Runs `from | to >/dev/null` to its end, and measures from the first output of `from`.
fn pipe(mut from: Command, mut to: Command, gate: &mut Gate) -> Outcome<Duration> {
    let mut source = from.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = source.stdout.take().ok_or("no output to copy")?;
    let mut copy = to.stdin(stdout).stdout(Stdio::null()).spawn()?;
    // No other process may hold the pipe, so that `from` ends if `to` fails.
    drop(to);
    gate.reached()?;
    let begin = Instant::now();
    // It need not stop at its second gate, where it ends.
    gate.open()?;
    gate.open()?;
    let copied = copy.wait()?;
    let elapsed = begin.elapsed();
    gate.reached()?;
    if !copied.success() || !source.wait()?.success() {
        return Err("the reference copy failed".into());
    }
    Ok(elapsed)
}
