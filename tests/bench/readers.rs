//! The verbs that read: `status`, `result`, `list` and `logs`, beside `cat` and `tail` of the same
//! files. What was read is in the page cache for both.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fake::Part;
use crate::measure::{self, Run};
use crate::stage::Stage;
use crate::table::{Row, Spread, Table, Target, Unit};
use crate::{Outcome, Scale, growth};

pub(crate) fn status(scale: Scale, table: &mut Table) -> Outcome<()> {
    beside_cat(scale, table, "status", "meta.json")
}

pub(crate) fn result(scale: Scale, table: &mut Table) -> Outcome<()> {
    beside_cat(scale, table, "result", "result.json")
}

fn beside_cat(scale: Scale, table: &mut Table, verb: &str, file: &str) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let id = stage.finished_job(Part::Answer)?;
    let file = stage.job_dir(&id).join(file);
    let (ours, cat) = measure::alternate(
        scale.rounds,
        || Ok(measure::run(&mut stage.claudejob(&[verb, &id]))?.elapsed),
        || Ok(measure::run(stage.command("cat", &[]).arg(&file))?.elapsed),
    )?;
    table.add(&Row {
        what: format!("`{verb}` of a finished job"),
        unit: Unit::Seconds,
        ours: Spread::of(ours),
        reference: Some(("`cat` of its file".into(), Spread::of(cat))),
        target: Target::RatioAtMost(1.5),
        peers: String::new(),
    })
}

/// The directory with few jobs, against which the memory for many is compared.
const FEW: usize = 100;

pub(crate) fn list(scale: Scale, table: &mut Table) -> Outcome<()> {
    let stage = Stage::on_disk()?;
    let id = stage.finished_job(Part::Answer)?;
    let template = stage.job_dir(&id);

    let few = many_jobs(&template, &id, stage.path("few"), FEW)?;
    let many = many_jobs(&template, &id, stage.path("many"), scale.jobs)?;
    let list = |jobs: &Path| {
        let mut command = stage.claudejob(&["list", "--all"]);
        command.env("CLAUDE_SKILL_JOBS_DIR", jobs);
        command
    };
    for (jobs, count) in [(&few, FEW), (&many, scale.jobs)] {
        let listed = occurrences(&mut list(jobs), b"\"jobId\"")?;
        if listed != count {
            return Err(format!("list --all named {listed} jobs of {count}").into());
        }
    }

    // By `xargs`, so that the bench itself does not grow by ten thousand arguments.
    let names = stage.path("names");
    let mut records = BufWriter::new(File::create(&names)?);
    for number in 0..scale.jobs {
        writeln!(records, "{}/meta.json", numbered(&id, number))?;
    }
    records.into_inner()?;
    let cat = || {
        let mut command = stage.command("xargs", &["-a", &names.to_string_lossy(), "cat"]);
        command.current_dir(&many);
        command
    };
    let (mut peak_of_few, mut peak_of_many) = (0, 0);
    let keep = |peak: &mut u64, run: Run| {
        *peak = run.peak.max(*peak);
        run.elapsed
    };
    let (ours, cat) = measure::alternate(
        scale.long_rounds * 4,
        || Ok(keep(&mut peak_of_many, measure::run(&mut list(&many))?)),
        || Ok(measure::run(&mut cat())?.elapsed),
    )?;
    for _ in 0..scale.long_rounds {
        keep(&mut peak_of_few, measure::run(&mut list(&few))?);
    }

    let records: Vec<String> = (0..scale.jobs).map(|number| numbered(&id, number)).collect();
    let mut passes = Vec::new();
    let mut shown = Vec::new();
    for _ in 0..scale.long_rounds * 4 {
        passes.push(growth::one_pass(&many, &records)?.as_secs_f64());
        let mut command = stage.claudejob(&["list"]);
        command.env("CLAUDE_SKILL_JOBS_DIR", &many);
        shown.push(measure::run(&mut command)?.elapsed.as_secs_f64());
    }

    let jobs = scale.jobs;
    // A `cat` takes a page fault for each file, as its buffer is mapped anew.
    let cat = ("`cat` of their records".to_owned(), Spread::of(cat));
    let pass = ("open, read, close of each".to_owned(), Spread::of(passes));
    let ours = Spread::of(ours);
    for (reference, target) in [(cat, Target::RatioAtMost(0.4)), (pass, Target::None)] {
        table.add(&Row {
            what: format!("`list --all` of {jobs} finished jobs"),
            unit: Unit::Seconds,
            ours,
            reference: Some(reference),
            target,
            peers: String::new(),
        })?;
    }
    table.add(&Row {
        what: format!("`list` (20 shown) of {jobs} finished jobs"),
        unit: Unit::Seconds,
        ours: Spread::of(shown),
        reference: None,
        target: Target::AtMost(0.020),
        peers: String::new(),
    })?;
    table.add(&Row {
        what: format!("peak memory of `list --all`, {jobs} jobs"),
        unit: Unit::Bytes,
        ours: Spread::single(peak_of_many as f64),
        reference: Some((format!("the same, {FEW} jobs"), Spread::single(peak_of_few as f64))),
        target: Target::RatioAtMost(1.5),
        peers: String::new(),
    })
}

/// Copies a finished job this many times: under names of the same length, each a second older than
/// the next, without forcing a copy to the disk.
pub(crate) fn many_jobs(
    template: &Path,
    id: &str,
    jobs: PathBuf,
    count: usize,
) -> Outcome<PathBuf> {
    let mut files = Vec::new();
    let mut inbox = false;
    for entry in fs::read_dir(template)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            inbox |= entry.file_name() == "inbox";
        } else if kind.is_file() {
            files.push((entry.file_name(), fs::read_to_string(entry.path())?));
        }
    }
    let record: Value = serde_json::from_str(&fs::read_to_string(template.join("meta.json"))?)?;
    let times: Vec<&str> =
        ["startedAt", "endedAt"].iter().filter_map(|name| record[name].as_str()).collect();

    fs::create_dir_all(&jobs)?;
    for number in 0..count {
        let name = numbered(id, number);
        let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
        let at = format!("2026-01-01T{hour:02}:{minute:02}:{second:02}.000Z");
        let dir = jobs.join(&name);
        fs::create_dir(&dir)?;
        if inbox {
            fs::create_dir(dir.join("inbox"))?;
        }
        for (file, text) in &files {
            let mut text = text.replace(id, &name);
            for time in &times {
                text = text.replace(time, &at);
            }
            fs::write(dir.join(file), text)?;
        }
    }
    Ok(jobs)
}

fn numbered(id: &str, number: usize) -> String {
    format!("copy-{number:0width$}", width = id.len() - "copy-".len())
}

/// Counts a word in what a program prints, a buffer at a time.
fn occurrences(command: &mut Command, word: &[u8]) -> Outcome<usize> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or("no output to count in")?;
    let mut buffer = vec![0; 64 << 10];
    let (mut count, mut kept) = (0, 0);
    loop {
        let read = stdout.read(&mut buffer[kept..])?;
        if read == 0 {
            break;
        }
        let filled = kept + read;
        count += buffer[..filled].windows(word.len()).filter(|window| *window == word).count();
        // A word may begin at the end of this buffer and end in the next.
        kept = filled.min(word.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
    child.wait()?;
    Ok(count)
}

/// A log of ordinary size.
const SMALL: u64 = 200_000;

pub(crate) fn logs(scale: Scale, table: &mut Table) -> Outcome<()> {
    for bytes in [SMALL, scale.stream] {
        let stage = Stage::on_disk()?;
        let id = stage.finished_job(Part::Flood(bytes))?;
        let log = stage.job_dir(&id).join("output.log");
        let mut peak = 0;
        let (ours, tail) = measure::alternate(
            scale.rounds / 2,
            || {
                let run = measure::run(&mut stage.claudejob(&["logs", &id, "--tail", "50"]))?;
                peak = run.peak.max(peak);
                Ok(run.elapsed)
            },
            || Ok(measure::run(stage.command("tail", &["-n", "50"]).arg(&log))?.elapsed),
        )?;
        let megabytes = fs::metadata(&log)?.len() as f64 / 1e6;
        table.add(&Row {
            what: format!("`logs --tail 50` of {megabytes:.1} MB"),
            unit: Unit::Seconds,
            ours: Spread::of(ours),
            reference: Some(("`tail -n 50`".into(), Spread::of(tail))),
            target: Target::RatioAtMost(3.0),
            peers: String::new(),
        })?;
        table.add(&Row {
            what: format!("peak memory of `logs --tail 50` of {megabytes:.1} MB"),
            unit: Unit::Bytes,
            ours: Spread::single(peak as f64),
            reference: None,
            target: Target::AtMost(8e6),
            peers: String::new(),
        })?;
    }
    Ok(())
}
