//! Jobs as records in a sandbox.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::support::Sandbox;

/// The locks are released before the sandbox ends the jobs that are still live.
pub(crate) struct Records {
    locks: BTreeMap<String, Flock<File>>,
    pub(crate) sandbox: Sandbox,
    now: DateTime<Utc>,
}

impl Records {
    pub(crate) fn new() -> Self {
        let mut sandbox = Sandbox::new("exit 0");
        sandbox.set("TERM", "xterm-256color");
        sandbox.set("TZ", "Asia/Kolkata");
        DirBuilder::new().mode(0o700).create(sandbox.jobs()).unwrap();
        Self { locks: BTreeMap::new(), sandbox, now: SystemTime::now().into() }
    }

    /// Just before the time so many minutes ago, so that the age in hours and minutes does not change
    /// during the test.
    pub(crate) fn minutes_ago(&self, minutes: u64) -> String {
        let at = self.now - Duration::from_secs(minutes * 60 + 3);
        at.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub(crate) fn minutes_ahead(&self, minutes: u64) -> String {
        let at = self.now + Duration::from_secs(minutes * 60 + 3);
        at.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub(crate) fn home(&self, name: &str) -> String {
        self.sandbox.path("home").join(name).display().to_string()
    }

    /// Writes the record of a job that was started so many minutes ago.
    pub(crate) fn write(&self, id: &str, minutes: u64, fields: &Value) {
        let dir = self.sandbox.job(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
        let mut record = json!({
            "version": 2, "jobId": id, "prompt": "Do the work", "attempt": 1, "hadTurn": true,
            "startedAt": self.minutes_ago(minutes),
        });
        for (name, value) in fields.as_object().unwrap() {
            record[name] = value.clone();
        }
        fs::write(dir.join("meta.json.tmp"), record.to_string()).unwrap();
        fs::rename(dir.join("meta.json.tmp"), dir.join("meta.json")).unwrap();
    }

    /// A job that has ended a minute after its start.
    pub(crate) fn ended(&self, id: &str, minutes: u64, mut fields: Value) {
        fields["endedAt"] = self.minutes_ago(minutes - 1).into();
        self.write(id, minutes, &fields);
        fs::write(self.sandbox.job(id).join("lock"), "").unwrap();
    }

    /// The answer of an ended job.
    pub(crate) fn result(&self, id: &str, text: &str) {
        let record = fs::read_to_string(self.sandbox.job(id).join("meta.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        let result = json!({
            "jobId": id, "status": record["status"], "attempt": 1, "result": text,
            "num_turns": record["numTurns"], "cost_usd": record["costUsd"],
            "costIsLowerBound": false, "duration_ms": 99_000,
        });
        fs::write(self.sandbox.job(id).join("result.json"), result.to_string()).unwrap();
    }

    /// Ends a live job.
    pub(crate) fn end(&mut self, id: &str, mut fields: Value) {
        fields["endedAt"] = self.minutes_ago(1).into();
        self.write(id, 65, &fields);
        self.locks.remove(id);
    }

    /// A live job, until its lock is released.
    pub(crate) fn live(&mut self, id: &str, minutes: u64, fields: &Value) {
        self.write(id, minutes, fields);
        let lock = File::create(self.sandbox.job(id).join("lock")).unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        self.locks.insert(id.to_owned(), lock);
    }
}
