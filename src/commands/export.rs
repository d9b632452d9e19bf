//! `export`: jobs as one page to read and to hand on.
//!
//! The page is written job by job under a temporary name and renamed when it is complete, so that
//! it is there whole or not at all, and so that many jobs take no more memory than one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use maud::Markup;
use serde::{Deserialize, Serialize};

use super::seen::{Seen, look};
use crate::clock;
use crate::error::Error;
use crate::job::{JobId, Moment, Record, Timestamp, coarse, segments};
use crate::page::{self, Attempts, Conversation, Prompt, Row, Totals};
use crate::store::{EVENTS, JobDir, OUTPUT, PROMPT, Store, TURNS};
use crate::stream::LineSplitter;

/// Characters that all conversations of a page have together, about: more is too much for a
/// browser.
const TALK_MOST: usize = 24 << 20;
/// Characters that one of them has at most, and at least, about.
const TALK_OF_ONE: (usize, usize) = (400_000, 40_000);
/// Segments drawn of one job.
const SEGMENTS_MOST: usize = 200;
/// Events of one job that are taken in.
const EVENTS_MOST: usize = 100_000;
/// Bytes of a prompt on the page.
const PROMPT_MOST: u64 = 16 << 20;

/// What to write, and where.
#[derive(Debug)]
pub struct Request {
    /// The file, by its absolute path.
    pub file: PathBuf,
    /// These jobs; empty for all.
    pub ids: Vec<JobId>,
    /// Only jobs that have all these labels.
    pub labels: Vec<(String, String)>,
    /// Only jobs that were asked for at this time or later.
    pub since: Option<Timestamp>,
}

/// The page that was written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExportAnswer {
    /// Path of the file.
    pub file: PathBuf,
    /// Number of jobs on the page.
    pub jobs: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Writes the page.
pub fn export(store: &Store, request: &Request) -> Result<ExportAnswer, Error> {
    // First of all, so that a name that is no good costs no work.
    let target = Target::check(&request.file, store.root())?;
    let now = clock::now();
    let jobs = chosen(store, request, now)?;
    let failed = |error| Error::NotWritten(request.file.clone(), error);
    let mut unborn = target.begin().map_err(failed)?;
    let mut page = Counted { to: BufWriter::with_capacity(64 << 10, &mut unborn.file), bytes: 0 };
    write_page(&mut page, store, &jobs, now).and_then(|()| page.flush()).map_err(failed)?;
    let bytes = page.bytes;
    drop(page);
    unborn.publish().map_err(failed)?;
    Ok(ExportAnswer { file: request.file.clone(), jobs: jobs.len(), bytes })
}

/// A job on the page: what the timeline and the totals are made of. The rest is read when its
/// turn comes.
struct Chosen {
    id: JobId,
    row: Option<Row>,
    cost_usd: f64,
}

/// The jobs that are wanted, in the order in which they were asked for; those without a record
/// come last.
fn chosen(store: &Store, request: &Request, now: Timestamp) -> Result<Vec<Chosen>, Error> {
    let mut jobs = Vec::new();
    let named = !request.ids.is_empty();
    for id in if named { request.ids.clone() } else { store.ids()? } {
        let seen = match look(store, &id) {
            // One that was named must be there; another may have been removed meanwhile.
            Err(Error::NotFound(id)) if named => return Err(Error::NotFound(id)),
            Err(Error::NotFound(_)) => continue,
            seen => seen.ok(),
        };
        match seen {
            Some(seen) if request.wants(&seen.record) => {
                let cost = seen.record.cost_usd.filter(|usd| usd.is_finite());
                let row = row(&id, &seen, now);
                let started = seen.record.started_at;
                let cost_usd = cost.unwrap_or_default();
                jobs.push((started, Chosen { id, row: Some(row), cost_usd }));
            }
            // What it is cannot be said, so it is left out where not every job is wanted.
            None if named || request.wants_all() => {
                jobs.push((None, Chosen { id, row: None, cost_usd: 0.0 }));
            }
            _ => {}
        }
    }
    jobs.sort_by(|(a, one), (b, other)| {
        let key = |at: &Option<Timestamp>| (at.is_none(), *at);
        key(a).cmp(&key(b)).then_with(|| one.id.cmp(&other.id))
    });
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

impl Request {
    fn wants_all(&self) -> bool {
        self.labels.is_empty() && self.since.is_none()
    }

    fn wants(&self, record: &Record) -> bool {
        let labels = &record.spec.labels;
        self.since.is_none_or(|since| record.started_at.is_some_and(|at| at >= since))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn row(id: &JobId, seen: &Seen, now: Timestamp) -> Row {
    let record = &seen.record;
    let mut moments = Vec::new();
    // What cannot be read is not drawn.
    let _ = each_line(seen, EVENTS, |line, _| {
        if moments.len() < EVENTS_MOST
            && let Ok(moment) = serde_json::from_slice::<Moment>(line.bytes)
            && moment.matters()
        {
            moments.push(moment);
        }
    });
    let segments = match record.started_at {
        None => Vec::new(),
        Some(started) => {
            let ended = record.ended_at.filter(|_| !record.status.is_live());
            coarse(segments(&moments, started, ended, now), SEGMENTS_MOST)
        }
    };
    Row { id: id.to_string(), status: record.status, segments }
}

fn totals(jobs: &[Chosen]) -> Totals {
    let mut totals = Totals::default();
    for job in jobs {
        totals.cost_usd += job.cost_usd;
        let Some(row) = &job.row else {
            totals.unreadable += 1;
            continue;
        };
        *totals.by_status.entry(row.status).or_default() += 1;
        if let (Some(first), Some(last)) = (row.segments.first(), row.segments.last()) {
            let (from, to) = totals.span.unwrap_or((first.from, last.to));
            totals.span = Some((from.min(first.from), to.max(last.to)));
        }
    }
    totals
}

fn write_page(
    page: &mut impl Write,
    store: &Store,
    jobs: &[Chosen],
    now: Timestamp,
) -> io::Result<()> {
    page.write_all(page::opening(&totals(jobs), now).0.as_bytes())?;
    let rows: Vec<&Row> = jobs.iter().filter_map(|job| job.row.as_ref()).collect();
    page.write_all(page::timeline(&rows).0.as_bytes())?;
    page.write_all(page::sections().0.as_bytes())?;
    let room = (TALK_MOST / jobs.len().max(1)).clamp(TALK_OF_ONE.1, TALK_OF_ONE.0);
    for job in jobs {
        let open = jobs.len() == 1;
        let section = match look(store, &job.id) {
            Ok(seen) => section(&job.id, &seen, room, open, now),
            Err(error) => page::unreadable(job.id.as_str(), &error.to_string(), open),
        };
        page.write_all(section.0.as_bytes())?;
    }
    page.write_all(page::closing().0.as_bytes())
}

fn section(id: &JobId, seen: &Seen, room: usize, open: bool, now: Timestamp) -> Markup {
    let record = &seen.record;
    let prompt = prompt(&seen.dir);
    let mut turns = Vec::new();
    let _ = each_line(seen, TURNS, |line, _| {
        let turn = serde_json::from_slice::<Turn>(line.bytes).unwrap_or_default();
        if turns.len() < EVENTS_MOST {
            turns.push(turn.attempt);
        }
    });
    let attempts = Attempts { last: record.attempt, log_start: record.log_start, turns };
    let mut conversation = Conversation::new(room, &prompt.text, attempts);
    let read = each_line(seen, OUTPUT, |line, offset| conversation.line(line, offset));
    if let Err(error) = read {
        conversation.unreadable(&error.to_string());
    }
    conversation.conclude(record);
    page::section(id.as_str(), record, &prompt, &conversation, open, now)
}

/// Of a line of `turns.ndjson` what is wanted here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Turn {
    attempt: u32,
}

fn prompt(dir: &JobDir) -> Prompt {
    let mut bytes = Vec::new();
    let length = dir.length(PROMPT);
    let read = |file: File| file.take(PROMPT_MOST).read_to_end(&mut bytes);
    let _ = dir.open(PROMPT).ok().flatten().map(read);
    let omitted = length.saturating_sub(bytes.len() as u64);
    Prompt { text: String::from_utf8_lossy(&bytes).into_owned(), omitted }
}

/// Gives each line of a file of the job, and where it begins. One that is not there has none.
fn each_line(
    Seen { dir, live, .. }: &Seen,
    name: &str,
    mut each: impl FnMut(crate::stream::Line<'_>, u64),
) -> io::Result<()> {
    let file = dir.open(name).map_err(|error| error.source)?;
    let Some(mut file) = file else { return Ok(()) };
    let mut lines = LineSplitter::default();
    let mut buffer = vec![0; 64 << 10];
    let mut offset = 0;
    loop {
        let length = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if length == 0 {
            break;
        }
        lines.push(&buffer[..length], |line| {
            each(line, offset);
            offset += line.length + 1;
        });
    }
    // What a live job has not written to its end is no line yet.
    if !*live {
        lines.finish(|line| each(line, offset));
    }
    Ok(())
}

/// Where the page is to be.
struct Target {
    path: PathBuf,
    aside: PathBuf,
    mode: u32,
}

/// The page while it is being written.
struct Unborn {
    target: Target,
    file: File,
    published: bool,
}

impl Target {
    /// Refuses a place where no file can be made, and whatever is no ordinary file. `jobs` is no
    /// place for a page: it would replace what a job consists of.
    fn check(path: &Path, jobs: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| Error::BadTarget(path.to_owned(), why.to_owned());
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse("it is a directory"));
        };
        let parent = fs::canonicalize(parent).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse("its folder does not exist"),
            _ => refuse(&format!("its folder: {error}")),
        })?;
        if !parent.is_dir() {
            return Err(refuse("its folder is none"));
        }
        if parent.starts_with(jobs) {
            return Err(refuse("it lies in the jobs directory"));
        }
        let path = parent.join(name);
        // A page holds what the jobs' files hold, which only their owner may read.
        let mut mode = 0o600;
        match fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => return Err(refuse("it is a directory")),
            Ok(about) if about.is_symlink() => return Err(refuse("it is a symbolic link")),
            Ok(about) if !about.is_file() => return Err(refuse("it is no ordinary file")),
            Ok(about) => mode = about.mode() & 0o777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A file there would be in the way of the first job.
                if jobs.starts_with(&path) {
                    return Err(refuse("the jobs directory is to be there"));
                }
            }
            Err(error) => return Err(refuse(&error.to_string())),
        }
        let aside = format!(".claudejob-{}.tmp", uuid::Uuid::new_v4());
        Ok(Self { aside: parent.join(aside), path, mode })
    }

    fn begin(self) -> io::Result<Unborn> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&self.aside)?;
        Ok(Unborn { target: self, file, published: false })
    }
}

impl Unborn {
    /// Gives the page its name. What stands there is replaced, also by a reader's lights: whole.
    fn publish(mut self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(self.target.mode))?;
        self.file.sync_data()?;
        fs::rename(&self.target.aside, &self.target.path)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.target.aside);
        }
    }
}

/// Counts what is written.
struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
