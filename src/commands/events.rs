//! `events`: the workers' events, one JSON document per line.

use std::collections::HashMap;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Call;
use super::observe::observe;
use super::watch::{Notice, Watch};
use crate::arguments::JobName;
use crate::error::{Error, ExitStatus};
use crate::fault_point::fault_point;
use crate::job::JobId;
use crate::json;
use crate::process;
use crate::store::{DirIdentity, EVENTS, JobDir, Store};

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob events fix-login --since 12\n  \
    claudejob events --all -f    follow every job, including new ones")]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    target: JobName,
    /// Print the events of every job
    #[arg(long, conflicts_with_all = ["id", "job_id"])]
    all: bool,
    /// Print only events with a higher number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Print new events until the job has ended, or forever (--all)
    #[arg(short, long)]
    follow: bool,
}

impl EventsArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = if self.all { None } else { Some(call.job(&store, &self.target)?) };
        self.events(&store, id, &mut |event| call.printer.print_json(event).is_ok())?;
        Ok(ExitStatus::Done)
    }

    /// Calls `give` with each event of the job, or of all jobs, until there are no more or `give` returns false.
    fn events(
        &self,
        store: &Store,
        id: Option<JobId>,
        give: &mut dyn FnMut(&JobEvent) -> bool,
    ) -> Result<(), Error> {
        if self.follow {
            process::reap_in_background();
        }
        if let Some(id) = &id {
            observe(store, id)?;
        }
        let ids = match id {
            Some(id) if self.follow => return follow_one(store, &id, self.since, give),
            None if self.follow => return follow_all(store, self.since, give),
            Some(id) => vec![id],
            None => sorted_ids(store)?,
        };
        for id in ids {
            if !EventReader::new(store, &id, self.since).read(give) {
                break;
            }
        }
        Ok(())
    }
}

fn sorted_ids(store: &Store) -> Result<Vec<JobId>, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    Ok(ids)
}

fn follow_one(
    store: &Store,
    id: &JobId,
    since: Option<u64>,
    give: &mut dyn FnMut(&JobEvent) -> bool,
) -> Result<(), Error> {
    let dir = store.job(id);
    // Watched before the file is read, so that no event is missed.
    let mut watch = Watch::for_files(&dir, &[EVENTS]);
    let mut reader = EventReader::new(store, id, since);
    loop {
        // Checked before the file is read: if the job has ended, the file is complete.
        let is_live = observe(store, id)?.live;
        if !reader.read(give) || !is_live {
            return Ok(());
        }
        watch.add_end(0, &dir);
        while let Notice::Changed(_) = watch.next() {
            if !reader.read(give) {
                return Ok(());
            }
            if !reader.is_current() {
                break;
            }
        }
    }
}

fn follow_all(
    store: &Store,
    since: Option<u64>,
    give: &mut dyn FnMut(&JobEvent) -> bool,
) -> Result<(), Error> {
    fault_point("events:begun");
    let mut watch = Watch::new();
    watch.add_root(store.root());
    let (indices, readers) = (HashMap::new(), Vec::new());
    let mut jobs = JobReaders { store, since, watch, indices, readers };
    // Listed after the directory is watched, so that no job is missed. Events from before are shown
    // only with `since`.
    for id in sorted_ids(store)? {
        if let Some(index) = jobs.add(id) {
            let reader = &mut jobs.readers[index];
            if since.is_none() {
                reader.dir.find_owner();
                reader.offset = reader.dir.length(EVENTS);
            } else if !reader.read(give) {
                return Ok(());
            }
        }
    }
    loop {
        let notice = jobs.watch.next();
        if !jobs.handle(notice, give)? {
            return Ok(());
        }
    }
}

/// Readers of all jobs, each with an index of its own.
struct JobReaders<'a> {
    store: &'a Store,
    since: Option<u64>,
    watch: Watch,
    indices: HashMap<JobId, usize>,
    readers: Vec<EventReader>,
}

impl JobReaders<'_> {
    /// Adds a job; returns its index if it is new.
    fn add(&mut self, id: JobId) -> Option<usize> {
        let reader = EventReader::new(self.store, &id, self.since);
        let known = self.indices.get(&id).copied();
        // A job can be removed, and another one created with its id.
        if known.is_some_and(|index| self.readers[index].identity == reader.identity) {
            return None;
        }
        let index = known.unwrap_or(self.readers.len());
        self.watch.add_files(index, &reader.dir, &[EVENTS]);
        if reader.dir.has_worker().unwrap_or(false) {
            self.watch.add_end(index, &reader.dir);
        }
        match self.readers.get_mut(index) {
            Some(before) => *before = reader,
            None => self.readers.push(reader),
        }
        self.indices.insert(id, index);
        Some(index)
    }

    /// Handles a notice; returns false if the caller wants no more events.
    fn handle(
        &mut self,
        notice: Notice,
        give: &mut dyn FnMut(&JobEvent) -> bool,
    ) -> Result<bool, Error> {
        let (index, may_live) = match notice {
            Notice::Appeared(name) => {
                return Ok(match JobId::parse(&name) {
                    Ok(id) if self.store.job(&id).check().is_ok() => self.add_new(vec![id], give),
                    _ => true,
                });
            }
            Notice::Root => return Ok(self.add_new(sorted_ids(self.store)?, give)),
            Notice::Changed(index) => (index, self.watch.awaits_end(index)),
            Notice::Ended(index) => (index, false),
            Notice::Signal(_)
            | Notice::Typed(_)
            | Notice::Key(_)
            | Notice::Removed(_)
            | Notice::Directory
            | Notice::Done => {
                return Ok(true);
            }
        };
        let reader = &mut self.readers[index];
        // Observing a job that has lost its worker writes its verdict.
        let is_live =
            may_live || observe(self.store, reader.dir.id()).is_ok_and(|observed| observed.live);
        if !reader.read(give) {
            return Ok(false);
        }
        if is_live {
            self.watch.add_end(index, &reader.dir);
        }
        Ok(true)
    }

    /// Adds the new jobs among these and reads their events; returns false if the caller wants no
    /// more.
    fn add_new(&mut self, ids: Vec<JobId>, give: &mut dyn FnMut(&JobEvent) -> bool) -> bool {
        for id in ids {
            if let Some(index) = self.add(id)
                && !self.readers[index].read(give)
            {
                return false;
            }
        }
        true
    }
}

/// An event with its job's id.
#[derive(Debug)]
pub(crate) struct JobEvent {
    job_id: JobId,
    fields: Map<String, Value>,
}

#[cfg(test)]
impl schemars::JsonSchema for JobEvent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let id = generator.subschema_for::<JobId>();
        let mut schema = crate::job::EventLine::json_schema(generator);
        schema.insert("description".to_owned(), "One event, with its job's id.".into());
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert("jobId".to_owned(), id.into());
        }
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.insert(0, "jobId".into());
        }
        schema
    }
}

impl Serialize for JobEvent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        // Fields of all events come first.
        const FIRST: [&str; 4] = ["seq", "at", "attempt", "event"];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("jobId", &self.job_id)?;
        for name in FIRST {
            if let Some(value) = self.fields.get(name) {
                map.serialize_entry(name, value)?;
            }
        }
        // An earlier version did not write these fields.
        let event = self.fields.get("event").and_then(Value::as_str);
        let optional: &[&str] = match event {
            Some("launched") => &["program", "arguments"],
            Some("exited") => &["stderr"],
            _ => &[],
        };
        for name in optional.iter().filter(|name| !self.fields.contains_key(**name)) {
            map.serialize_entry(name, &Value::Null)?;
        }
        for (name, value) in &self.fields {
            if !FIRST.contains(&name.as_str()) && name != "jobId" {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// Reads the events of one job, from its last offset.
struct EventReader {
    dir: JobDir,
    identity: Option<DirIdentity>,
    since: u64,
    offset: u64,
}

impl EventReader {
    fn new(store: &Store, id: &JobId, since: Option<u64>) -> Self {
        let dir = store.job(id);
        Self { identity: dir.identity(), dir, since: since.unwrap_or_default(), offset: 0 }
    }

    /// Returns whether the job's directory still exists and has not been replaced.
    fn is_current(&self) -> bool {
        self.dir.identity() == self.identity
    }

    /// Reads new complete lines; returns false if the caller wants no more events. Reads nothing of
    /// another job that was created with the same id in the meantime.
    fn read(&mut self, give: &mut dyn FnMut(&JobEvent) -> bool) -> bool {
        self.dir.find_owner();
        let lines = self.dir.lines(EVENTS, self.offset, u64::MAX);
        let Some(mut lines) = lines else { return true };
        // Checked after opening: a directory that replaces this one later is not the opened one.
        if !self.is_current() {
            return true;
        }
        loop {
            let line = match lines.read_line() {
                Ok(Some(line)) if line.is_complete => line,
                _ => return true,
            };
            self.offset = line.end;
            let event = json::from_bytes::<Map<String, Value>>(line.bytes);
            let Ok(event) = event else { continue };
            if event.get("seq").and_then(Value::as_u64).is_some_and(|seq| seq <= self.since) {
                continue;
            }
            if !give(&JobEvent { job_id: self.dir.id().clone(), fields: event }) {
                return false;
            }
        }
    }
}
