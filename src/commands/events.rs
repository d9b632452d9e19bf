//! `events`: what the workers did and saw, one JSON document a line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Seek, SeekFrom};

use serde::Serialize;
use serde_json::{Map, Value};

use super::seen::look;
use super::watch::{Notice, Watch};
use crate::checkpoint::checkpoint;
use crate::error::Error;
use crate::job::JobId;
use crate::process;
use crate::store::{EVENTS, Identity, JobDir, Store};

/// What to show.
#[derive(Debug)]
pub struct Request {
    /// Of this job; `None` for every job in the directory.
    pub id: Option<JobId>,
    /// Only events with a higher number.
    pub since: Option<u64>,
    /// Go on as they come: of one job to its end, of all for ever.
    pub follow: bool,
}

/// Gives each event, with its job's id, until there are no more or `give` says false.
pub fn events(
    store: &Store,
    request: &Request,
    mut give: impl FnMut(&Event) -> bool,
) -> Result<(), Error> {
    if request.follow {
        process::stay();
    }
    if let Some(id) = &request.id {
        look(store, id)?;
    }
    match &request.id {
        Some(id) if request.follow => follow_one(store, id, request.since, &mut give),
        None if request.follow => follow_all(store, request.since, &mut give),
        id => {
            let ids = id.clone().map_or_else(|| sorted(store), |id| Ok(vec![id]))?;
            for id in ids {
                if !Reader::of(store, id, request.since).read(&mut give) {
                    break;
                }
            }
            Ok(())
        }
    }
}

fn sorted(store: &Store) -> Result<Vec<JobId>, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    Ok(ids)
}

fn follow_one(
    store: &Store,
    id: &JobId,
    since: Option<u64>,
    give: &mut dyn FnMut(&Event) -> bool,
) -> Result<(), Error> {
    let dir = store.job(id);
    // Watched before it is read, so that nothing falls between the two.
    let mut watch = Watch::of_files(&dir, &[EVENTS]);
    let mut reader = Reader::of(store, id.clone(), since);
    loop {
        // Whether it lives is asked first: what is read then is all, if it does not.
        let lives = look(store, id)?.live;
        if !reader.read(give) || !lives {
            return Ok(());
        }
        watch.add_end(0, &dir);
        while let Notice::Changed(_) = watch.next() {
            if !reader.read(give) {
                return Ok(());
            }
            if !reader.is_there() {
                break;
            }
        }
    }
}

fn follow_all(
    store: &Store,
    since: Option<u64>,
    give: &mut dyn FnMut(&Event) -> bool,
) -> Result<(), Error> {
    checkpoint("events:begun");
    let mut watch = Watch::new();
    watch.add_root(store.root());
    let (places, readers) = (HashMap::new(), Vec::new());
    let mut fleet = Fleet { store, since, watch, places, readers };
    // Listed when the directory is watched, so that no job comes in between. What is there already
    // has been; but for whoever asks for it, only what comes is shown.
    for id in sorted(store)? {
        if let Some(place) = fleet.join(id) {
            let reader = &mut fleet.readers[place];
            if since.is_none() {
                reader.offset = reader.dir.length(EVENTS);
            } else if !reader.read(give) {
                return Ok(());
            }
        }
    }
    loop {
        let notice = fleet.watch.next();
        if !fleet.take(notice, give)? {
            return Ok(());
        }
    }
}

/// All jobs, each at a place of its own.
struct Fleet<'a> {
    store: &'a Store,
    since: Option<u64>,
    watch: Watch,
    places: HashMap<JobId, usize>,
    readers: Vec<Reader>,
}

impl Fleet<'_> {
    /// Watches a job; returns its place if it is a new one.
    fn join(&mut self, id: JobId) -> Option<usize> {
        let reader = Reader::of(self.store, id.clone(), self.since);
        let known = self.places.get(&id).copied();
        // A job can be removed, and another be made under its id.
        if known.is_some_and(|place| self.readers[place].identity == reader.identity) {
            return None;
        }
        let place = known.unwrap_or(self.readers.len());
        self.watch.add_files(place, &reader.dir, &[EVENTS]);
        if reader.dir.is_held().unwrap_or(false) {
            self.watch.add_end(place, &reader.dir);
        }
        match self.readers.get_mut(place) {
            Some(before) => *before = reader,
            None => self.readers.push(reader),
        }
        self.places.insert(id, place);
        Some(place)
    }

    /// Gives what came with a notice; false: no more is wanted.
    fn take(
        &mut self,
        notice: Notice,
        give: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<bool, Error> {
        let (place, may_live) = match notice {
            Notice::Appeared(name) => {
                let id = JobId::parse(&name).ok();
                let id = id.filter(|id| self.store.job(id).check().is_ok());
                return Ok(self.greet(Vec::from_iter(id), give));
            }
            Notice::Root => return Ok(self.greet(sorted(self.store)?, give)),
            Notice::Changed(place) => (place, self.watch.awaits_end(place)),
            Notice::Ended(place) => (place, false),
        };
        let reader = &mut self.readers[place];
        // A job that lost its worker gets its end written by this look.
        let lives = may_live || look(self.store, &reader.id).is_ok_and(|seen| seen.live);
        if !reader.read(give) {
            return Ok(false);
        }
        if lives {
            self.watch.add_end(place, &reader.dir);
        }
        Ok(true)
    }

    /// Gives the events of jobs that are new among these; false: no more is wanted.
    fn greet(&mut self, ids: Vec<JobId>, give: &mut dyn FnMut(&Event) -> bool) -> bool {
        for id in ids {
            if let Some(place) = self.join(id)
                && !self.readers[place].read(give)
            {
                return false;
            }
        }
        true
    }
}

/// One event, with its job's id.
#[derive(Debug)]
pub struct Event {
    job_id: JobId,
    fields: Map<String, Value>,
}

#[cfg(test)]
impl schemars::JsonSchema for Event {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let id = generator.subschema_for::<JobId>();
        let mut schema = crate::job::Entry::json_schema(generator);
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

impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        // What every event has comes first.
        const FIRST: [&str; 4] = ["seq", "at", "attempt", "event"];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("jobId", &self.job_id)?;
        for name in FIRST {
            if let Some(value) = self.fields.get(name) {
                map.serialize_entry(name, value)?;
            }
        }
        // An earlier version did not write these.
        let event = self.fields.get("event").and_then(Value::as_str);
        let later: &[&str] = match event {
            Some("launched") => &["program", "arguments"],
            Some("exited") => &["stderr"],
            _ => &[],
        };
        for name in later.iter().filter(|name| !self.fields.contains_key(**name)) {
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

/// Reads the events of one job, from where it was before.
struct Reader {
    id: JobId,
    dir: JobDir,
    identity: Option<Identity>,
    since: u64,
    offset: u64,
}

impl Reader {
    fn of(store: &Store, id: JobId, since: Option<u64>) -> Self {
        let dir = store.job(&id);
        Self { identity: dir.identity(), dir, id, since: since.unwrap_or_default(), offset: 0 }
    }

    /// Whether the job's directory is still there, and no other one under its name.
    fn is_there(&self) -> bool {
        self.dir.identity() == self.identity
    }

    /// Gives what is new, in whole lines; false: no more is wanted. Of another job that was made
    /// under the id meanwhile it gives nothing.
    fn read(&mut self, give: &mut dyn FnMut(&Event) -> bool) -> bool {
        let Ok(Some(mut file)) = self.dir.open(EVENTS) else { return true };
        // Looked at when it is open: what comes to that place later is not what was opened.
        if !self.is_there() || file.seek(SeekFrom::Start(self.offset)).is_err() {
            return true;
        }
        let (mut file, mut line) = (BufReader::new(file), Vec::new());
        loop {
            line.clear();
            match file.read_until(b'\n', &mut line) {
                Ok(length) if length > 0 && line.ends_with(b"\n") => self.offset += length as u64,
                _ => return true,
            }
            let Ok(event) = serde_json::from_slice::<Map<String, Value>>(&line) else { continue };
            if event.get("seq").and_then(Value::as_u64).is_some_and(|seq| seq <= self.since) {
                continue;
            }
            if !give(&Event { job_id: self.id.clone(), fields: event }) {
                return false;
            }
        }
    }
}
