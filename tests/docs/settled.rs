//! Waits until nothing changes any more in a jobs directory without a further command.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{eventually, is_alive};

/// The jobs of a page.
pub(crate) struct Jobs {
    pub(crate) directory: PathBuf,
    /// The directory of the stand-in for `claude`: in `resting/ID` is the last text of a job that
    /// waits until `go/ID` exists.
    pub(crate) stand_in: PathBuf,
}

impl Jobs {
    fn records(&self) -> Vec<Value> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let records = entries.filter_map(|entry| fs::read(entry.path().join("meta.json")).ok());
        records.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }

    /// Waits until each job has ended or waits for something that a command of the page does, and
    /// its record says so.
    pub(crate) fn settle(&self) {
        eventually("the jobs of the page to settle", || {
            let records = self.records();
            records.iter().all(|record| self.is_settled(record, &records)).then_some(())
        });
    }

    fn is_settled(&self, record: &Value, all: &[Value]) -> bool {
        let is_alive = record["pid"].as_i64().is_some_and(|pid| is_alive(pid as i32));
        match record["status"].as_str() {
            Some("running" | "starting") if !is_alive => true,
            Some("starting") => false,
            Some("running") => {
                !record["retryAt"].is_null()
                    || !record["waitingFor"].is_null()
                    || self.is_resting(record)
            }
            Some("queued") => self.is_held_back(record, all),
            // It may be the end of the worker that is to come.
            Some("completed" | "failed" | "killed") => !is_alive,
            _ => true,
        }
    }

    /// Whether the job's claude does nothing more by itself, and the worker has read all of it.
    fn is_resting(&self, record: &Value) -> bool {
        let id = record["jobId"].as_str().unwrap_or_default();
        let Ok(text) = fs::read_to_string(self.stand_in.join("resting").join(id)) else {
            return false;
        };
        let beginning: String = text.chars().take(30).collect();
        record["activity"]["text"].as_str().is_some_and(|shown| shown.starts_with(&beginning))
    }

    /// Whether something that lasts keeps a queued job from its slot.
    fn is_held_back(&self, record: &Value, all: &[Value]) -> bool {
        let spec = &record["spec"];
        let admission = &spec["admission"];
        let queue = self.directory.join(".queue");
        let has_files = |name| fs::read_dir(queue.join(name)).is_ok_and(|it| it.count() > 0);
        let before = [&spec["after"], &spec["afterAny"]];
        let mut before = before.into_iter().flat_map(|ids| ids.as_array().into_iter().flatten());
        let is_live = |it: &Value| it["endedAt"].is_null();
        let holders: Vec<&Value> =
            all.iter().filter(|it| is_live(it) && it["status"] != "queued").collect();
        let slots = admission["maxParallel"].as_u64().unwrap_or_default() as usize;
        let group = &admission["group"];
        let in_group =
            holders.iter().filter(|it| it["spec"]["admission"]["group"] == *group).count();
        let group_limit = admission["groupLimit"].as_u64().unwrap_or(1) as usize;
        has_files("paused")
            || has_files("limits")
            || spec["startDelayMs"].as_u64().is_some_and(|delay| delay > 0)
            || before.any(|id| all.iter().any(|it| it["jobId"] == *id && is_live(it)))
            || (slots > 0 && holders.len() >= slots)
            || (!group.is_null() && in_group >= group_limit)
    }

    /// Lets the jobs continue that a command waits for: those that it names, or all. One that waits
    /// for the answer to a message shows how a job works.
    pub(crate) fn release(&self, command: &str) {
        let words: Vec<&str> = command.split(|c: char| c.is_whitespace() || c == ';').collect();
        let waits = ["wait", "-f", "--follow", "--wait"].iter().any(|word| words.contains(word));
        if !waits || words.contains(&"--timeout") || words.contains(&"send") {
            return;
        }
        let live = self.records().into_iter().filter(|record| record["endedAt"].is_null());
        let live: Vec<String> =
            live.filter_map(|record| Some(record["jobId"].as_str()?.to_owned())).collect();
        let named: Vec<&String> = live.iter().filter(|id| words.contains(&id.as_str())).collect();
        let released = if named.is_empty() { live.iter().collect() } else { named };
        for id in released {
            touch(&self.stand_in.join("go"), id);
        }
    }
}

fn touch(folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), "").unwrap();
}
