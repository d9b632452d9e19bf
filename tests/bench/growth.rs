//! Costs that must not grow with the machine's other processes, with old jobs or with a log.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fake::Part;
use crate::gate::{self, Gate};
use crate::readers::many_jobs;
use crate::stage::Stage;
use crate::table::{Row, Spread, Table, Target, Unit};
use crate::{Outcome, Scale, interrupt, measure, proc};

/// The longest time in which a program reaches the point where it waits.
const SETTLING: Duration = Duration::from_millis(300);

/// A program that runs beside the bench; killed when it goes out of scope.
struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Outcome<Running> {
        Ok(Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the end of claude to the end of `wait`.
pub(crate) fn wait(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut round = 0;
    let mut new_gate = || {
        round += 1;
        Gate::new(stage.path(&format!("gate-{round}")))
    };
    let (mut ours, mut shell) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let mut gate = new_gate()?;
        let (job, _) = stage.start(Part::Answer, Some(&gate))?;
        gate.reached()?;
        let mut wait = stage.claudejob(&["wait", &job.id]);
        ours.push(time_after_gate(&mut gate, &mut wait, false)?);
        job.wait()?;

        let mut gate = new_gate()?;
        let fake = stage.fake(Part::Answer)?;
        let mut sh = stage.command("sh", &["-c", "\"$0\" </dev/null & wait $!"]);
        sh.arg(fake.get_program());
        sh.env(crate::fake::PART, Part::Answer.name())
            .env(gate::DIRECTORY_VARIABLE, &gate.directory);
        shell.push(time_after_gate(&mut gate, &mut sh, true)?);
        interrupt::check()?;
    }
    table.add(&Row {
        what: "claude's end until `wait` returns".into(),
        unit: Unit::Seconds,
        ours: Spread::of(ours),
        reference: Some(("`sh -c wait`".into(), Spread::of(shell))),
        target: Target::AtMostAbove(0.004),
        peers: String::new(),
    })
}

/// Starts a program that waits for the fake, lets the fake end, and measures from then on.
fn time_after_gate(gate: &mut Gate, command: &mut Command, starts_fake: bool) -> Outcome<f64> {
    let mut waiting = Running::spawn(command)?;
    if starts_fake {
        gate.reached()?;
    }
    std::thread::sleep(SETTLING / 6);
    let began = Instant::now();
    gate.open()?;
    let status = waiting.0.wait()?;
    let elapsed = began.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    Ok(elapsed)
}

/// Processes that do not belong to any job.
struct Others(Child);

impl Others {
    fn start(count: usize) -> Outcome<Others> {
        let script = "i=0; while [ $i -lt $0 ]; do sleep 10000 & i=$((i+1)); done; echo; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script, &count.to_string()]).process_group(0);
        let mut others = Others(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let mut stdout = others.0.stdout.take().ok_or("no output to wait for")?;
        stdout.read_exact(&mut [0])?;
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().cast_signed());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
        // They may have become children of the bench.
        while waitpid(Pid::from_raw(-group.as_raw()), None).is_ok() {}
    }
}

const FEW_OTHERS: usize = 100;
const MANY_OTHERS: usize = 2_000;
/// Number of alternations between few and many, so that other load on the machine affects both
/// alike.
const TURNS: usize = 5;

/// The CPU time of a worker for a whole job, beside few and many other processes.
pub(crate) fn others(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let _reaping = Reaping::begin()?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        for (count, times) in [(FEW_OTHERS, &mut few), (MANY_OTHERS, &mut many)] {
            let _others = Others::start(count)?;
            for _ in 0..scale.rounds / TURNS {
                times.push(cpu_of_a_job(&stage)?);
            }
        }
    }
    table.add(&Row {
        what: format!("worker's CPU time for a whole job, beside {MANY_OTHERS} processes"),
        unit: Unit::Seconds,
        ours: Spread::of(many),
        reference: Some((format!("the same, beside {FEW_OTHERS}"), Spread::of(few))),
        target: Target::RatioAtMost(1.3),
        peers: String::new(),
    })
}

fn cpu_of_a_job(stage: &Stage) -> Outcome<f64> {
    interrupt::check()?;
    // The worker searches for processes only if claude has left one.
    let (job, _) = stage.start(Part::Leave, None)?;
    let worker = Pid::from_raw(i32::try_from(job.worker)?);
    // Left as a zombie until its time has been read.
    waitid(Id::Pid(worker), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let seconds = proc::cpu_seconds(job.worker)?;
    waitpid(worker, None)?;
    job.wait()?;
    Ok(seconds)
}

/// While this value lives, workers become children of the bench.
struct Reaping;

impl Reaping {
    fn begin() -> Outcome<Reaping> {
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Reaping)
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        let _ = nix::sys::prctl::set_child_subreaper(false);
    }
}

/// Jobs whose worker is gone: many for `list`, and one with a long log for `status`.
pub(crate) fn lost(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut gate = Gate::new(stage.path("gate"))?;
    let (job, _) = stage.start(Part::Idle, Some(&gate))?;
    gate.reached()?;
    // A copy of a live job has a lock that nobody holds.
    let lost = many_jobs(&stage.job_dir(&job.id), &job.id, stage.path("lost"), scale.lost)?;
    drop(job);
    let mut list = stage.claudejob(&["list", "--all"]);
    list.env("CLAUDE_SKILL_JOBS_DIR", &lost);
    let answer = stage.path("list.json");
    let took = measure::run_into(&mut list, fs::File::create(&answer)?)?.elapsed.as_secs_f64();
    let listed: Value = serde_json::from_slice(&fs::read(&answer)?)?;
    let jobs = listed.as_array().ok_or("list printed no list")?;
    if jobs.len() != scale.lost {
        return Err(format!("list shows {} jobs, not {}", jobs.len(), scale.lost).into());
    }
    for job in jobs {
        expect_worker_died(job)?;
    }
    table.add(&Row {
        what: format!("`list` that finds {} lost jobs", scale.lost),
        unit: Unit::Seconds,
        ours: Spread::single(took),
        reference: None,
        target: Target::AtMost(3.0),
        peers: String::new(),
    })?;

    let mut times = Vec::new();
    for _ in 0..scale.long_rounds {
        let (job, _) = stage.start(Part::Flood(scale.lost_log), Some(&gate))?;
        gate.reached()?;
        gate.open()?;
        gate.reached()?;
        let lock = fs::File::open(stage.job_dir(&job.id).join("lock"))?;
        kill(Pid::from_raw(i32::try_from(job.worker)?), Signal::SIGKILL)?;
        // Until the kernel has released the worker's lock, the job is not lost.
        lock.lock()?;
        drop(lock);
        let status = measure::ask(&mut stage.claudejob(&["status", &job.id]))?;
        // The log holds a result, and with it the verdict; the events show that it was read for
        // that.
        let answer: Value = serde_json::from_slice(&status.answer)?;
        let events = fs::read_to_string(stage.job_dir(&job.id).join("events.ndjson"))?;
        if answer["status"] != "completed" || !events.contains("\"event\":\"lost\"") {
            return Err(format!("the job should have been found lost: {answer}").into());
        }
        times.push(status.elapsed.as_secs_f64());
        fs::remove_dir_all(stage.job_dir(&job.id))?;
        interrupt::check()?;
    }
    table.add(&Row {
        what: format!("`status` of a lost job with a log of {} MB", scale.lost_log / 1_000_000),
        unit: Unit::Seconds,
        ours: Spread::of(times),
        reference: None,
        target: Target::AtMost(0.050),
        peers: String::new(),
    })
}

/// Fails unless the answer says that the job's worker died.
fn expect_worker_died(job: &Value) -> Outcome<()> {
    if job["status"] == "failed" && job["reason"] == "worker_died" {
        return Ok(());
    }
    Err(format!("the job's worker should have died: {job}").into())
}

/// Lines that are not events of the job.
const QUIET_LINES: u64 = 200;

/// System calls of processes that follow events, counted by strace where it is installed.
pub(crate) fn follow(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let mut gate = Gate::new(stage.path("gate"))?;
    let (job, _) = stage.start(Part::Trickle(QUIET_LINES), Some(&gate))?;
    gate.reached()?;
    let mut follower = Running::spawn(&mut stage.claudejob(&["events", &job.id, "--follow"]))?;
    let calls = calls_during(&stage, &follower, || {
        gate.open()?;
        gate.reached()
    })?;
    gate.open()?;
    gate.reached()?;
    gate.open()?;
    let ended = job.wait()?;
    follower.0.wait()?;
    table.add(&Row {
        what: "`events --follow`: system calls for a line without an event".into(),
        unit: Unit::Fraction,
        ours: Spread::single(calls / QUIET_LINES as f64),
        reference: None,
        target: Target::AtMost(0.05),
        peers: String::new(),
    })?;

    many_jobs(&stage.job_dir(&ended), &ended, stage.path("jobs"), scale.jobs)?;
    let follower = Running::spawn(&mut stage.claudejob(&["events", "--all", "--follow"]))?;
    let calls = calls_during(&stage, &follower, || {
        stage.finished_job(Part::Answer)?;
        Ok(())
    })?;
    table.add(&Row {
        what: format!(
            "`events --all --follow` beside {} ended jobs: system calls for one job",
            scale.jobs
        ),
        unit: Unit::Times,
        ours: Spread::single(calls),
        reference: None,
        target: Target::AtMost(300.0),
        peers: String::new(),
    })
}

/// Returns the number of system calls a program makes during `action`; NaN without strace.
fn calls_during(
    stage: &Stage,
    program: &Running,
    action: impl FnOnce() -> Outcome<()>,
) -> Outcome<f64> {
    // It first reads the existing events.
    let pid = u64::from(program.0.id());
    let mut before = f64::NAN;
    while before != proc::cpu_seconds(pid)? {
        before = proc::cpu_seconds(pid)?;
        std::thread::sleep(SETTLING);
        interrupt::check()?;
    }
    let trace = stage.path("trace");
    let args = ["-f", "-qq", "-o", &trace.to_string_lossy(), "-p", &pid.to_string()];
    let mut strace = stage.command("strace", &args);
    let strace = Running::spawn(strace.stderr(Stdio::null()));
    std::thread::sleep(SETTLING);
    action()?;
    std::thread::sleep(SETTLING);
    let Ok(mut strace) = strace else { return Ok(f64::NAN) };
    if strace.0.try_wait()?.is_some() {
        return Ok(f64::NAN);
    }
    kill(strace.pid(), Signal::SIGINT)?;
    strace.0.wait()?;
    let text = fs::read_to_string(&trace)?;
    Ok(text.lines().filter(|line| line.contains('(') && !line.contains("resumed")).count() as f64)
}

/// Adds the options of a measurement to a command.
type Adjust<'a> = &'a dyn Fn(&mut Command);

/// `start` beside many ended jobs, with options that need to read some of them.
pub(crate) fn old_jobs(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let id = stage.finished_job(Part::Answer)?;
    many_jobs(&stage.job_dir(&id), &id, stage.path("jobs"), scale.jobs)?;
    let start = |adjust: Adjust<'_>| {
        let (job, elapsed) = stage.start_with(Part::Answer, None, |command| adjust(command))?;
        job.wait()?;
        Ok(elapsed)
    };
    let keep = |command: &mut Command| {
        command.env("CLAUDE_SKILL_KEEP", "1000000");
    };
    let budget = |command: &mut Command| {
        command.args(["--budget-usd", "1000000/day"]);
    };
    let with: [(&str, Adjust<'_>); 2] = [("CLAUDE_SKILL_KEEP", &keep), ("--budget-usd", &budget)];
    for (name, adjust) in with {
        let (ours, plain) =
            measure::alternate(scale.rounds / 2, || start(adjust), || start(&|_| {}))?;
        table.add(&Row {
            what: format!("`start` with `{name}` beside {} jobs", scale.jobs),
            unit: Unit::Seconds,
            ours: Spread::of(ours),
            reference: Some(("`start` without".into(), Spread::of(plain))),
            target: Target::RatioAtMost(1.3),
            peers: String::new(),
        })?;
    }
    Ok(())
}

/// Reads one file of each of this many jobs in one pass: open, read into one buffer, close.
pub(crate) fn one_pass(jobs: &Path, names: &[String]) -> Outcome<Duration> {
    let mut buffer = vec![0; 64 << 10];
    let begin = Instant::now();
    for name in names {
        let _ = fs::File::open(jobs.join(name).join("meta.json"))?.read(&mut buffer)?;
    }
    Ok(begin.elapsed())
}
