//! `export`: writes jobs as one HTML page.
//!
//! The page is written job by job to a temporary file, which is renamed when it is complete:
//! readers see all of the page or none, and memory does not grow with the number of jobs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use maud::Markup;
use serde::{Deserialize, Serialize};

use super::Call;
use super::observe::{Observed, observe};
use crate::arguments::{SelectorArgs, absolute};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::{Filter, JobId, TimelineEvent, Timestamp, merge_short, spans};
use crate::json;
use crate::output::{Answer, BOLD, painted};
use crate::page::{self, AttemptBoundaries, Conversation, PageTotals, PromptExcerpt, TimelineRow};
use crate::store::{self, EVENTS, FileLine, JobDir, OUTPUT, PROMPT, Store, TURNS};
use crate::text::{format_number, harmless, plural};

/// Approximate maximum of characters of all conversations of a page together: browsers cannot
/// handle more.
const MAX_PAGE_CHARS: usize = 24 << 20;
/// Approximate limits of the characters of one conversation.
const MIN_CONVERSATION_CHARS: usize = 40_000;
const MAX_CONVERSATION_CHARS: usize = 400_000;
/// Maximum number of spans drawn for one job.
const MAX_SPANS: usize = 200;
/// Maximum number of events read for one job.
const MAX_EVENTS: usize = 100_000;
/// Maximum number of bytes of a prompt on the page.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob export --html jobs.html --since 7d\n  \
    claudejob export --html fix-login.html fix-login\n\n\
    The page needs only a browser. It contains prompts, answers and tool output: check it before \
    you share it.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: every job]"))
)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Write the page to this file
    #[arg(long, value_name = "FILE", required = true)]
    html: PathBuf,
}

impl ExportArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let file = absolute(&self.html)?;
        let ids = call.named_jobs(None, &store, &self.targets)?;
        call.print(&export(&store, file, &ids, &self.targets.filter.into_filter())?)
    }
}

/// The page that was written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ExportAnswer {
    /// Path of the file.
    pub file: PathBuf,
    /// Number of jobs on the page.
    pub jobs: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
}

impl Answer for ExportAnswer {
    fn text(&self) -> String {
        let jobs = plural(self.jobs, "job");
        let file = painted(BOLD, &harmless(&self.file.display().to_string()));
        format!("Exported {jobs} to {file} ({} bytes).\n", format_number(self.bytes))
    }
}

/// Writes a page of these jobs, or of all jobs if there are none, atomically.
fn export(
    store: &Store,
    file: PathBuf,
    ids: &[JobId],
    filter: &Filter,
) -> Result<ExportAnswer, Error> {
    // Checked first, so that an invalid path costs no work.
    let path = OutputPath::check(&file, store.root())?;
    let now = clock::now();
    let jobs = select_jobs(store, ids, filter, now)?;
    match write_file(path, store, &jobs, now) {
        Ok(bytes) => Ok(ExportAnswer { file, jobs: jobs.len(), bytes }),
        Err(error) => Err(Error::NotWritten(file, error)),
    }
}

/// Writes the page to its path; returns its length.
fn write_file(
    path: OutputPath,
    store: &Store,
    jobs: &[ExportedJob],
    now: Timestamp,
) -> io::Result<u64> {
    let mut pending = path.begin()?;
    let mut page =
        CountingWriter { inner: BufWriter::with_capacity(64 << 10, &mut pending.file), bytes: 0 };
    write_page(&mut page, store, jobs, now)?;
    page.flush()?;
    let bytes = page.bytes;
    drop(page);
    pending.publish()?;
    Ok(bytes)
}

/// A job on the page, with the data for the timeline and the totals. The rest is read when its
/// section is written.
struct ExportedJob {
    id: JobId,
    row: Option<TimelineRow>,
    cost_usd: f64,
}

/// Returns the requested jobs in the order in which they were started; jobs without a readable
/// record come last.
fn select_jobs(
    store: &Store,
    ids: &[JobId],
    filter: &Filter,
    now: Timestamp,
) -> Result<Vec<ExportedJob>, Error> {
    let mut jobs = Vec::new();
    let named = !ids.is_empty();
    for id in if named { ids.to_vec() } else { store.ids()? } {
        let observed = match observe(store, &id) {
            // A named job must exist; another one may have been removed since it was listed.
            Err(Error::NotFound(id)) if named => return Err(Error::NotFound(id)),
            Err(Error::NotFound(_)) => continue,
            observed => observed.ok(),
        };
        match observed {
            Some(observed) if filter.matches_record(&observed.record) => {
                let row = timeline_row(&id, &observed, now);
                let started = observed.record.times.started_at;
                let cost_usd = match observed.record.cost.usd {
                    Some(usd) if usd.is_finite() => usd,
                    _ => 0.0,
                };
                jobs.push((started, ExportedJob { id, row: Some(row), cost_usd }));
            }
            // An unreadable job cannot be compared with a filter, so a filter excludes it.
            None if named || filter.is_empty() => {
                jobs.push((None, ExportedJob { id, row: None, cost_usd: 0.0 }));
            }
            _ => {}
        }
    }
    jobs.sort_by_cached_key(|(started, job)| (started.is_none(), *started, job.id.clone()));
    Ok(jobs.into_iter().map(|(_, job)| job).collect())
}

fn timeline_row(id: &JobId, observed: &Observed, now: Timestamp) -> TimelineRow {
    let record = &observed.record;
    let mut events = Vec::new();
    // Events that cannot be read are not drawn.
    let _ = each_line(observed, EVENTS, |line| {
        if events.len() < MAX_EVENTS
            && let Ok(event) = json::from_bytes::<TimelineEvent>(line.text.bytes)
            && event.affects_phase()
        {
            events.push(event);
        }
    });
    let spans = match record.times.started_at {
        None => Vec::new(),
        Some(started) => {
            let ended = if record.status.is_live() { None } else { record.times.ended_at };
            merge_short(spans(&events, started, ended, now), MAX_SPANS)
        }
    };
    TimelineRow { id: id.to_string(), status: record.status, spans }
}

fn totals(jobs: &[ExportedJob]) -> PageTotals {
    let mut totals = PageTotals::default();
    for job in jobs {
        totals.cost_usd += job.cost_usd;
        let Some(row) = &job.row else {
            totals.unreadable += 1;
            continue;
        };
        *totals.by_status.entry(row.status).or_default() += 1;
        if let (Some(first), Some(last)) = (row.spans.first(), row.spans.last()) {
            let (from, to) = totals.span.unwrap_or((first.from, last.to));
            totals.span = Some((from.min(first.from), to.max(last.to)));
        }
    }
    totals
}

fn write_page(
    page: &mut impl Write,
    store: &Store,
    jobs: &[ExportedJob],
    now: Timestamp,
) -> io::Result<()> {
    page.write_all(page::header(&totals(jobs), now).0.as_bytes())?;
    let rows: Vec<&TimelineRow> = jobs.iter().filter_map(|job| job.row.as_ref()).collect();
    page.write_all(page::timeline(&rows).0.as_bytes())?;
    page.write_all(page::sections_heading().0.as_bytes())?;
    let max_chars =
        (MAX_PAGE_CHARS / jobs.len().max(1)).clamp(MIN_CONVERSATION_CHARS, MAX_CONVERSATION_CHARS);
    for job in jobs {
        let open = jobs.len() == 1;
        let section = match observe(store, &job.id) {
            Ok(observed) => section(&job.id, &observed, max_chars, open, now),
            Err(error) => page::unreadable_section(job.id.as_str(), &error.to_string(), open),
        };
        page.write_all(section.0.as_bytes())?;
    }
    page.write_all(page::footer().0.as_bytes())
}

fn section(
    id: &JobId,
    observed: &Observed,
    max_chars: usize,
    open: bool,
    now: Timestamp,
) -> Markup {
    let record = &observed.record;
    let prompt = read_prompt(&observed.dir);
    let mut turns = Vec::new();
    let _ = each_line(observed, TURNS, |line| {
        let turn = json::from_bytes::<TurnLine>(line.text.bytes).unwrap_or_default();
        if turns.len() < MAX_EVENTS {
            turns.push(turn.attempt);
        }
    });
    let attempts = AttemptBoundaries {
        last: record.attempt.number,
        log_start: record.attempt.log_start,
        turns,
    };
    let mut conversation = Conversation::new(max_chars, &prompt.text, attempts);
    let read = each_line(observed, OUTPUT, |line| conversation.add_line(line.text, line.start));
    if let Err(error) = read {
        conversation.add_read_error(&error.to_string());
    }
    conversation.conclude(record);
    page::section(id.as_str(), record, &prompt, &conversation, open, now)
}

/// The part of a line of `turns.ndjson` that the page needs.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TurnLine {
    attempt: u32,
}

fn read_prompt(dir: &JobDir) -> PromptExcerpt {
    let mut bytes = Vec::new();
    let length = dir.length(PROMPT);
    if let Ok(Some(file)) = dir.open(PROMPT) {
        let _ = file.take(MAX_PROMPT_BYTES).read_to_end(&mut bytes);
    }
    let omitted_bytes = length.saturating_sub(bytes.len() as u64);
    PromptExcerpt { text: String::from_utf8_lossy(&bytes).into_owned(), omitted_bytes }
}

/// Calls `each` with each line of a file of the job; not at all for a missing file.
fn each_line(
    Observed { dir, live, .. }: &Observed,
    name: &str,
    mut each: impl FnMut(FileLine<'_>),
) -> io::Result<()> {
    let file = dir.open(name).map_err(|error| error.source)?;
    let Some(file) = file else { return Ok(()) };
    store::each_line(&file, 0..u64::MAX, |line| {
        // A live job may still be writing the last line.
        if line.is_complete || !*live {
            each(line);
        }
        true
    })
}

/// Path of the page, checked.
struct OutputPath {
    path: PathBuf,
    temporary: PathBuf,
    mode: u32,
}

/// The page while it is being written.
struct PendingPage {
    path: OutputPath,
    file: File,
    published: bool,
}

impl OutputPath {
    /// Refuses a path where no file can be created, and anything but a regular file. Refuses a path
    /// in the jobs directory `jobs`, where the page could replace a job's files.
    fn check(path: &Path, jobs: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| Error::BadTarget(path.to_owned(), why.to_owned());
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse("it is a directory"));
        };
        let parent = fs::canonicalize(parent).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse("its directory does not exist"),
            _ => refuse(&format!("its directory: {error}")),
        })?;
        if !parent.is_dir() {
            return Err(refuse("its parent is not a directory"));
        }
        if parent.starts_with(jobs) {
            return Err(refuse("it is in the jobs directory"));
        }
        let path = parent.join(name);
        // The page contains the contents of the jobs' files, which only their owner may read.
        let mut mode = 0o600;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a directory")),
            Ok(metadata) if metadata.is_symlink() => return Err(refuse("it is a symbolic link")),
            Ok(metadata) if !metadata.is_file() => return Err(refuse("it is not a regular file")),
            Ok(metadata) => mode = metadata.mode() & 0o777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A file there would prevent the creation of the jobs directory.
                if jobs.starts_with(&path) {
                    return Err(refuse("it is a parent of the jobs directory"));
                }
            }
            Err(error) => return Err(refuse(&error.to_string())),
        }
        let temporary = format!(".claudejob-{}.tmp", uuid::Uuid::new_v4());
        Ok(Self { temporary: parent.join(temporary), path, mode })
    }

    fn begin(self) -> io::Result<PendingPage> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&self.temporary)?;
        Ok(PendingPage { path: self, file, published: false })
    }
}

impl PendingPage {
    /// Renames the page to its path. An existing file is replaced atomically.
    fn publish(mut self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(self.path.mode))?;
        self.file.sync_data()?;
        fs::rename(&self.path.temporary, &self.path.path)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for PendingPage {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path.temporary);
        }
    }
}

/// Writer that counts bytes.
struct CountingWriter<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for CountingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
