//! The verbs in a jobs directory of many jobs on a cluster, whose commands a stand-in replaces: time,
//! memory, system calls and calls of the scheduler. Of ten jobs eight have ended, one runs and one is
//! pending. `cargo bench -- cluster 100000` says how many jobs there are.

mod copies;
mod stand_in;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use self::copies::{Template, Templates};
use self::stand_in::{FIRST_ID, StandIn};
use crate::fake::{self, Part};
use crate::gate::{self, Gate};
use crate::measure;
use crate::stage::Stage;
use crate::table::{Spread, Table, Unit};
use crate::{Outcome, Scale};

/// Rounds of a verb that changes nothing.
const ROUNDS: usize = 4;
/// Most jobs for which system calls are counted, which takes long: their numbers grow in proportion.
const MAX_COUNTED: usize = 10_000;
/// Jobs of one `start --from`.
const BATCH: usize = 1_000;
/// Calls that read a file's metadata.
const METADATA_CALLS: [&str; 6] = ["stat", "lstat", "fstat", "newfstatat", "statx", "fstatat64"];

/// A cluster with a jobs directory.
struct Cluster {
    stage: Stage,
    stand_in: StandIn,
    jobs: PathBuf,
    is_counted: bool,
}

pub(crate) fn cluster(scale: Scale, _: &mut Table) -> Outcome<()> {
    // A hundred thousand jobs are two million files.
    let stage = match Stage::in_memory()? {
        Some(stage) => stage,
        None => Stage::on_disk()?,
    };
    let (stand_in, jobs) = (StandIn::new(&stage)?, stage.path("many"));
    let is_counted = scale.cluster <= MAX_COUNTED;
    let cluster = Cluster { stage, stand_in, jobs, is_counted };
    let templates = cluster.templates()?;
    fs::create_dir(&cluster.jobs)?;
    copies::fill(&cluster.jobs, &templates, scale.cluster, cluster.stand_in.states()?)?;
    println(&format!(
        "\n{} jobs of a cluster; an ended one has {} files and directories, on {}.\n",
        scale.cluster,
        templates.ended.count(),
        cluster.stage.file_system,
    ))?;
    println(
        "| call | time (first) | CPU | memory | system calls | opens | metadata | scheduler |",
    )?;
    println("|---|--:|--:|--:|--:|--:|--:|---|")?;
    cluster.measure_readers()?;
    cluster.measure_writers()
}

fn println(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

impl Cluster {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.stage.claudejob(args);
        command.env("CLAUDE_SKILL_JOBS_DIR", &self.jobs);
        self.stand_in.set(&mut command);
        command
    }

    /// Lets the program make a job of each kind.
    fn templates(&self) -> Outcome<Templates> {
        let submit = |id: &str| {
            let mut start = self.stage.claudejob(&["start", id, "-p", "Tidy up.", "--on", "slurm"]);
            start.env("CLAUDE_SKILL_CLAUDE", std::env::current_exe()?);
            self.stand_in.set(&mut start);
            // The ids of all are replaced, and the first one is the last one again.
            fs::write(self.stage.path("cluster/last-id"), format!("{}\n", FIRST_ID - 1))?;
            measure::ask(&mut start)
        };
        let read = |id: &str| Template::read(&self.stage.job_dir(id), id);
        submit("pending-job")?;
        let pending = read("pending-job")?;

        submit("ended-job")?;
        measure::run(&mut self.node(Part::Answer, None))?;
        let ended = read("ended-job")?;

        submit("running-job")?;
        let mut gate = Gate::new(self.stage.path("gate"))?;
        let mut worker = self.node(Part::Idle, Some(&gate));
        let mut worker = worker.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let running = gate.reached().and_then(|()| read("running-job"));
        gate.open()?;
        worker.wait()?;
        Ok(Templates { ended, pending, running: running? })
    }

    /// What a node does with the job that was submitted last.
    fn node(&self, part: Part, gate: Option<&Gate>) -> Command {
        let mut node = self.stage.command("sh", &[&self.stand_in.script().to_string_lossy()]);
        self.stand_in.set(&mut node);
        node.env("SLURM_JOB_ID", FIRST_ID.to_string()).env("SLURMD_NODENAME", "n0");
        node.env(fake::PART, part.name());
        if let Some(gate) = gate {
            node.env(gate::DIRECTORY_VARIABLE, &gate.directory);
        }
        node
    }

    fn measure_readers(&self) -> Outcome<()> {
        let (ended, pending) = (copies::name(2), copies::name(0));
        let calls: [&[&str]; 12] = [
            &["list"],
            &["list", "--all"],
            &["list", "--all", "--format", "wide"],
            &["list", "--status", "failed"],
            &["stats"],
            &["status", &ended],
            &["status", &pending],
            &["status", "copy-00001"],
            &["wait", &pending, "--timeout", "0"],
            &["clean", "--dry-run", "--older-than", "1000d"],
            &["recover", "--all"],
            &["redeliver"],
        ];
        for args in calls {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(self.time(args)?.0);
            }
            let (_, cpu, peak, calls) = self.time(args)?;
            self.print(args, &times, cpu, peak, &calls, self.is_counted)?;
        }
        Ok(())
    }

    fn measure_writers(&self) -> Outcome<()> {
        let batch = self.stage.path("batch.ndjson");
        let mut lines = String::new();
        for number in 0..BATCH {
            lines += &format!("{{\"jobId\":\"batch-{number}\",\"prompt\":\"x\"}}\n");
        }
        fs::write(&batch, lines)?;
        let batch = batch.to_string_lossy();
        let kill = copies::name(0);
        let calls: [&[&str]; 4] = [
            &["start", "one", "-p", "x", "--on", "slurm"],
            &["start", "--on", "slurm", "--from", &batch],
            &["kill", &kill],
            &["kill", "--label", "some=kills"],
        ];
        for args in calls {
            let (time, cpu, peak, calls) = self.time(args)?;
            self.print(args, &[time], cpu, peak, &calls, false)?;
        }
        Ok(())
    }

    /// Returns time, CPU time and peak memory of a call, and its calls of the scheduler.
    fn time(&self, args: &[&str]) -> Outcome<(f64, Duration, u64, String)> {
        self.stand_in.calls()?;
        let mut command = self.command(args);
        command.env("CLAUDE_SKILL_CLAUDE", std::env::current_exe()?);
        let run = measure::run_whatever_status(command.stderr(Stdio::null()))?;
        Ok((run.elapsed.as_secs_f64(), run.cpu, run.peak, self.stand_in.calls()?))
    }

    fn print(
        &self,
        args: &[&str],
        times: &[f64],
        cpu: Duration,
        peak: u64,
        calls: &str,
        is_counted: bool,
    ) -> Outcome<()> {
        let first = times.first().copied().unwrap_or_default();
        let median = Spread::of(times[times.len().min(2) - 1..].to_vec()).median;
        let counts = if is_counted { self.count(args)? } else { None };
        let counts =
            counts.map_or(" | |".to_owned(), |counts| counts.map(|n| n.to_string()).join(" | "));
        let show = |value| Unit::Seconds.show(value);
        println(&format!(
            "| `{}` | {} ({}) | {} | {} | {counts} | {calls} |",
            args.join(" "),
            show(median),
            show(first),
            show(cpu.as_secs_f64()),
            Unit::Bytes.show(peak as f64),
        ))
    }

    /// Counts the system calls of a call by strace, if it is installed: all, those that open a file, and
    /// those that read a file's metadata.
    fn count(&self, args: &[&str]) -> Outcome<Option<[u64; 3]>> {
        let summary = self.stage.path("summary");
        let mut words = vec!["-f", "-c", "-o", summary.to_str().unwrap_or_default()];
        words.push(crate::stage::CLAUDEJOB);
        words.extend(args);
        let mut strace = self.stage.command("strace", &words);
        strace.env("CLAUDE_SKILL_JOBS_DIR", &self.jobs);
        self.stand_in.set(&mut strace);
        if measure::run_whatever_status(strace.stderr(Stdio::null())).is_err() {
            return Ok(None);
        }
        let mut counts = [0; 3];
        for line in fs::read_to_string(&summary)?.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(name), Some(count)) = (fields.last(), fields.get(3)) else { continue };
            let count: u64 = count.parse().unwrap_or_default();
            match *name {
                "total" => {}
                "open" | "openat" | "openat2" => counts[1] += count,
                name if METADATA_CALLS.contains(&name) => counts[2] += count,
                _ => {}
            }
            if *name != "total" {
                counts[0] += count;
            }
        }
        Ok(Some(counts))
    }
}
