//! Copies of jobs whose workers an engine starts, as the program leaves their files.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sys::stat::Mode;
use serde_json::Value;

use super::stand_in::FIRST_ID;
use crate::{Outcome, interrupt};

/// Nodes of the cluster.
const NODES: usize = 1_000;
/// Of ten jobs, two are live: one runs, the other is pending.
const OUT_OF: usize = 10;
/// Pending jobs with the label `some=kills`.
const LABELLED: usize = 100;
const NO_LABELS: &str = "\"labels\":{}";

/// A file of a job.
enum Entry {
    Directory,
    Text(String),
    Fifo,
    /// Another name of this file.
    Link(PathBuf),
}

/// A job that is copied.
pub(super) struct Template {
    id: String,
    host: String,
    /// The day on which it was started, as records have it.
    day: String,
    entries: Vec<(PathBuf, Entry)>,
}

/// The jobs of a mixed jobs directory.
pub(super) struct Templates {
    pub(super) ended: Template,
    pub(super) pending: Template,
    pub(super) running: Template,
}

impl Template {
    /// Reads the files of a job.
    pub(super) fn read(job: &Path, id: &str) -> Outcome<Self> {
        let mut entries = Vec::new();
        let mut inodes = Vec::new();
        read_below(job, Path::new(""), &mut entries, &mut inodes)?;
        let host = nix::sys::utsname::uname()?.nodename().to_string_lossy().into_owned();
        let record: Value = serde_json::from_str(&fs::read_to_string(job.join("meta.json"))?)?;
        let started = record["startedAt"].as_str().unwrap_or_default();
        let day = started.split_inclusive('T').next().unwrap_or_default().to_owned();
        Ok(Self { id: id.to_owned(), host, day, entries })
    }

    /// Returns the number of files and directories of a job.
    pub(super) fn count(&self) -> usize {
        1 + self.entries.iter().filter(|(_, entry)| !matches!(entry, Entry::Link(_))).count()
    }

    fn write(&self, jobs: &Path, number: usize) -> Outcome<()> {
        let dir = jobs.join(name(number));
        fs::create_dir(&dir)?;
        let node = format!("n{}", number % NODES);
        let day = format!("2026-{:02}-{:02}T", number / 28 % 10 + 1, number % 28 + 1);
        for (path, entry) in &self.entries {
            let path = dir.join(path);
            match entry {
                Entry::Directory => fs::create_dir(path)?,
                Entry::Fifo => nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))?,
                Entry::Link(source) => fs::hard_link(dir.join(source), path)?,
                Entry::Text(text) if text.is_empty() => drop(File::create(path)?),
                Entry::Text(text) => {
                    let mut text = text.replace(&self.id, &name(number));
                    text = text.replace(&engine_id(None), &engine_id(Some(number)));
                    text = text.replace(&format!("\"{}\"", self.host), &format!("\"{node}\""));
                    text = text.replace(&self.day, &day);
                    if is_pending(number) && number / OUT_OF < LABELLED {
                        text = text.replace(NO_LABELS, "\"labels\":{\"some\":\"kills\"}");
                    }
                    fs::write(path, text)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads the files below a directory of a job.
fn read_below(
    job: &Path,
    below: &Path,
    entries: &mut Vec<(PathBuf, Entry)>,
    inodes: &mut Vec<(u64, PathBuf)>,
) -> Outcome<()> {
    for entry in fs::read_dir(job.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            entries.push((path.clone(), Entry::Directory));
            read_below(job, &path, entries, inodes)?;
        } else if metadata.file_type().is_fifo() {
            entries.push((path, Entry::Fifo));
        } else if let Some((_, first)) = inodes.iter().find(|(inode, _)| *inode == metadata.ino()) {
            entries.push((path, Entry::Link(first.clone())));
        } else {
            inodes.push((metadata.ino(), path.clone()));
            entries.push((path, Entry::Text(fs::read_to_string(entry.path())?)));
        }
    }
    // A directory comes before its files, and a file before its second name.
    entries.sort_by_key(|(path, entry)| (matches!(entry, Entry::Link(_)), path.clone()));
    Ok(())
}

/// Returns the job's name.
pub(super) fn name(number: usize) -> String {
    format!("copy-{number:06}")
}

fn engine_id(number: Option<usize>) -> String {
    let id = number.map_or(FIRST_ID, |number| 2 * FIRST_ID + number as u64);
    format!("\"id\":\"{id}\"")
}

fn is_running(number: usize) -> bool {
    number % OUT_OF == 1
}

fn is_pending(number: usize) -> bool {
    number.is_multiple_of(OUT_OF)
}

/// Fills a jobs directory with copies, and writes what `squeue` says about them.
pub(super) fn fill(
    jobs: &Path,
    templates: &Templates,
    count: usize,
    mut states: BufWriter<File>,
) -> Outcome<()> {
    for number in 0..count {
        let id = 2 * FIRST_ID + number as u64;
        let state = match number {
            _ if is_pending(number) => "PENDING|0||Priority".to_owned(),
            _ if is_running(number) => format!("RUNNING|0|n{}|None", number % NODES),
            _ => format!("COMPLETED|0|n{}|None", number % NODES),
        };
        writeln!(states, "{id}|{state}|claudejob:job-{number}:{:032x}", number)?;
    }
    states.flush()?;
    thread::scope(|scope| {
        let half = |odd: usize| {
            for number in (odd..count).step_by(2) {
                let template = match number {
                    _ if is_pending(number) => &templates.pending,
                    _ if is_running(number) => &templates.running,
                    _ => &templates.ended,
                };
                template.write(jobs, number).map_err(|error| error.to_string())?;
                interrupt::check().map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        };
        let other = scope.spawn(move || half(1));
        half(0)?;
        other.join().map_err(|_| "a thread panicked".to_owned())?
    })?;
    Ok(())
}
