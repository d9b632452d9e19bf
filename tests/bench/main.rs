//! What claudejob costs beside the plain tools that it replaces: each figure is measured in
//! alternation with its reference (`setsid -f true`, `cat`, `tail`, `tee`) in the same run, so that
//! the ratios hold on fast and slow machines.
//!
//! `cargo bench` measures everything, `cargo bench -- quick` less of it in some seconds, and `cargo
//! bench -- start logs` only the named benchmarks. The table on stdout is that of docs/benchmarks.md. The bench
//! is its own fake `claude`: with `CLAUDEJOB_BENCH_FAKE` set it plays that part.

mod cluster;
mod fake;
mod gate;
mod growth;
mod interrupt;
mod measure;
mod proc;
mod queue;
mod readers;
mod stage;
mod stream;
mod table;
mod workers;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use table::{Row, Spread, Table, Target, Unit};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How much is measured: everything, or a quick selection.
#[derive(Clone, Copy)]
struct Scale {
    /// Rounds of a call that takes milliseconds.
    rounds: usize,
    /// Rounds of a step that takes a second.
    long_rounds: usize,
    /// Finished jobs in the jobs directory that `list` reads.
    jobs: usize,
    /// Bytes of the stream that a worker copies and that `logs` reads.
    stream: u64,
    /// Bytes of the one long line.
    line: u64,
    /// Queued jobs.
    queued: usize,
    /// Lost jobs that `list` finds.
    lost: usize,
    /// Bytes of the log of a lost job.
    lost_log: u64,
    /// Jobs on a cluster.
    cluster: usize,
    /// Seconds over which an idle worker's wake-ups are counted.
    idle_seconds: u64,
}

const FULL: Scale = Scale {
    rounds: 100,
    long_rounds: 5,
    jobs: 10_000,
    stream: 1_000_000_000,
    line: 100_000_000,
    queued: 1_000,
    lost: 1_000,
    lost_log: 400_000_000,
    cluster: 10_000,
    idle_seconds: 5,
};

const QUICK: Scale = Scale {
    rounds: 20,
    long_rounds: 2,
    jobs: 1_000,
    stream: 100_000_000,
    line: 20_000_000,
    queued: 100,
    lost: 50,
    lost_log: 20_000_000,
    cluster: 1_000,
    idle_seconds: 1,
};

type Measure = fn(Scale, &mut Table) -> Outcome<()>;

const BENCHMARKS: [(&str, Measure); 15] = [
    ("start", workers::start),
    ("old-jobs", growth::old_jobs),
    ("status", readers::status),
    ("result", readers::result),
    ("list", readers::list),
    ("logs", readers::logs),
    ("wait", growth::wait),
    ("others", growth::others),
    ("lost", growth::lost),
    ("follow", growth::follow),
    ("idle", workers::idle),
    ("copying", workers::copying),
    ("queue", queue::queue),
    ("size", size),
    ("cluster", cluster::cluster),
];

fn main() -> ExitCode {
    if let Some(part) = std::env::var_os(fake::PART) {
        return fake::play(&part.to_string_lossy());
    }
    let mut err = std::io::stderr();
    let args: Vec<String> = std::env::args().skip(1).map(|word| word.to_lowercase()).collect();
    // Only `cargo bench` passes `--bench`: `cargo test --benches` and nextest's `--list` have
    // nothing to run here and expect no output.
    if !args.iter().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    if cfg!(not(target_os = "linux")) {
        let _ = writeln!(err, "the benchmarks read /proc and run on Linux only");
        return ExitCode::SUCCESS;
    }
    match measure_all(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(args: &[String]) -> Outcome<()> {
    interrupt::catch()?;
    let mut scale = if args.iter().any(|word| word == "quick") { QUICK } else { FULL };
    let mut names = Vec::new();
    for word in args.iter().filter(|word| !word.starts_with('-') && *word != "quick") {
        match word.parse() {
            Ok(number) => scale.cluster = number,
            Err(_) => names.push(word),
        }
    }
    let chosen =
        |known: &str| names.is_empty() || names.iter().any(|name| known.contains(name.as_str()));
    if !BENCHMARKS.iter().any(|(known, _)| chosen(known)) {
        let known = BENCHMARKS.map(|(known, _)| known).join(", ");
        return Err(format!("no such benchmark; there are {known} (and quick)").into());
    }

    let mut table = Table::begin(&proc::machine())?;
    for (_, measure) in BENCHMARKS.iter().filter(|(known, _)| chosen(known)) {
        measure(scale, &mut table)?;
        interrupt::check()?;
    }
    Ok(())
}

fn size(_: Scale, table: &mut Table) -> Outcome<()> {
    let bytes = std::fs::metadata(stage::CLAUDEJOB)?.len();
    table.add(&Row {
        what: "size of the binary, stripped".into(),
        unit: Unit::Bytes,
        ours: Spread::single(bytes as f64),
        reference: None,
        target: Target::AtMost(5e6),
        peers: String::new(),
    })
}
