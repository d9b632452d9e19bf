//! Limits of the API that jobs have met, each in a file of `.queue/limits`. The file's name says
//! to which logins and models the limit applies ([`Login::limit_names`]).
//!
//! Earlier versions know one limit for all jobs, `.queue/limit`. It is written for their workers,
//! and read only for tickets without a login key.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scheduling::KnownLimit;
use super::{
    LEGACY_LIMIT, LIMITS, MAX_CLOCK_DRIFT, Queue, QueueLockPoll, SALT, SHORT_LOCK_WAIT, Ticket,
    create_dir,
};
use crate::clock;
use crate::job::{JobId, LimitMet, Login, Reason, Timestamp, UNKNOWN_LOGIN_LIMIT, milliseconds};
use crate::process::JobMarker;
use crate::store::{JobDir, open_ordinary};

/// How often a job is admitted before a limit's end to find out whether it is over.
const PROBE_INTERVAL: Duration = Duration::from_secs(300);
const MIN_SALT_BYTES: usize = 32;
const MAX_FILE_BYTES: u64 = 512;

/// A limit of the API that a job has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Name of the limit, which says to which logins and models it applies.
    pub(super) name: String,
    /// When it ends.
    until: Timestamp,
    /// When the limit was recorded, by the wall clock.
    recorded: Timestamp,
    /// The same in milliseconds of the monotonic clock.
    monotonic_ms: i64,
    /// The job that met the limit last, or is to find out whether it is over. `None` if a worker of
    /// an earlier version recorded the limit.
    witness: Option<Witness>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Witness {
    job: JobId,
    worker: i32,
    /// The job has met the limit. Otherwise it was admitted as a probe and has no result yet.
    has_met: bool,
    /// When the last probe was admitted, in milliseconds of the monotonic clock.
    probed_ms: Option<u64>,
}

impl Limit {
    fn new(name: &str, until: Timestamp) -> Self {
        let monotonic_ms = i64::try_from(clock::monotonic_ms()).unwrap_or(i64::MAX);
        Self { name: name.to_owned(), until, recorded: clock::now(), monotonic_ms, witness: None }
    }

    /// Parses a limit file; `None` if it is invalid.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        let until = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let recorded = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let monotonic_ms = words.next()?.parse().ok()?;
        let mut witness = || {
            let has_met = words.next()? == "met";
            let probed_ms = words.next()?.parse().ok();
            let worker = words.next()?.parse().ok()?;
            Some(Witness { has_met, probed_ms, worker, job: JobId::parse(words.next()?).ok()? })
        };
        let witness = witness();
        Some(Self { name: name.to_owned(), until, recorded, monotonic_ms, witness })
    }

    fn to_text(&self) -> String {
        let (until, recorded) = (self.until.epoch_ms(), self.recorded.epoch_ms());
        let mut text = format!("{until} {recorded} {}", self.monotonic_ms);
        if let Some(witness) = &self.witness {
            let state = if witness.has_met { "met" } else { "probe" };
            let probed = witness.probed_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            text += &format!(" {state} {probed} {} {}", witness.worker, witness.job);
        }
        text + "\n"
    }

    /// Returns how long the limit and this `grace` last from now: by the wall clock, but never
    /// longer than when the limit was recorded, in case the clock was set.
    pub(super) fn remaining(&self, grace: Duration) -> Duration {
        let left = self.until.after(grace).since(clock::now());
        // The monotonic clock restarts at a reboot.
        let recorded_ms = u64::try_from(self.monotonic_ms).ok();
        let passed = recorded_ms.and_then(|at| clock::monotonic_ms().checked_sub(at));
        let longest = self.until.after(grace).since(self.recorded);
        left.min(longest.saturating_sub(Duration::from_millis(passed.unwrap_or_default())))
    }

    /// Files store milliseconds: the order of times within the same one is unknown.
    fn was_noted_before(&self, time: Timestamp) -> bool {
        self.recorded.epoch_ms() < time.epoch_ms()
    }

    /// Returns when the limit ends; `None` if it has ended.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        let (left, now) = (self.remaining(Duration::ZERO), clock::now());
        if left.is_zero() {
            return None;
        }
        // A clock that was set back would show a time that is far too late.
        let is_shifted = self.until.since(now) > left + MAX_CLOCK_DRIFT;
        Some(if is_shifted { now.after(left) } else { self.until })
    }

    /// Returns whether the limit applies to a job with this login.
    pub(crate) fn applies_to(&self, login: &Login) -> bool {
        login.limit_names().contains(&self.name)
    }

    /// Returns the job that met the limit last, or that is to find out whether it is over.
    pub(crate) fn job(&self) -> Option<&JobId> {
        self.witness.as_ref().map(|witness| &witness.job)
    }
}

impl Queue {
    /// Returns the salt of the login keys, which is created once for a jobs directory.
    pub(crate) fn salt(&self) -> io::Result<Vec<u8>> {
        if let Some(salt) = self.read_salt()? {
            return Ok(salt);
        }
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let salt: Vec<u8> = random.iter().flat_map(uuid::Uuid::as_bytes).copied().collect();
        self.create_dirs()?;
        // No lock is needed: of several processes only one succeeds in creating the link.
        let new = self.path.join(format!(".salt-{}", uuid::Uuid::new_v4().simple()));
        self.write_new(&new, &salt)?;
        let path = self.path.join(SALT);
        let created = match fs::hard_link(&new, &path) {
            Ok(()) => Ok(salt),
            // Another process was faster, the file is torn, or the file system has no hard links.
            Err(_) => match self.read_salt() {
                Ok(None) => fs::rename(&new, &path).map(|()| salt),
                Ok(Some(salt)) => Ok(salt),
                Err(error) => Err(error),
            },
        };
        let _ = fs::remove_file(&new);
        created
    }

    fn read_salt(&self) -> io::Result<Option<Vec<u8>>> {
        let mut salt = Vec::new();
        match open_ordinary(&self.path.join(SALT), OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?.take(MAX_FILE_BYTES).read_to_end(&mut salt)?,
        };
        Ok(Some(salt).filter(|salt| salt.len() >= MIN_SALT_BYTES))
    }

    /// Records that a job has met a limit, so that waiting jobs with the same login do not meet it
    /// too.
    pub(crate) fn record_limit(&self, job: &JobId, login: &Login, met: LimitMet) {
        let (job, login) = (job.clone(), login.clone());
        self.with_lock(move |queue| queue.write_limits_met(&job, &login, met));
    }

    /// Runs `work` under the queue's lock. If the lock is not free at once, `work` runs in a thread
    /// of its own, so that the caller does not wait.
    fn with_lock(&self, work: impl FnOnce(&Self) + Send + 'static) {
        match self.lock_within(SHORT_LOCK_WAIT, &mut QueueLockPoll::default()) {
            Ok(Some(_lock)) => work(self),
            Ok(None) => {
                let queue = self.clone();
                let run = move || {
                    if let Ok(_lock) = queue.lock() {
                        work(&queue);
                    }
                };
                let _ = std::thread::Builder::new().spawn(run);
            }
            Err(_) => {}
        }
    }

    fn write_limits_met(&self, job: &JobId, login: &Login, met: LimitMet) {
        self.remove_ended_limits();
        let mut changed = false;
        for name in login.limit_names_met(met.model) {
            let worker = std::process::id() as i32;
            let witness = Witness { job: job.clone(), worker, has_met: true, probed_ms: None };
            let known =
                self.read_limit(&name).filter(|known| !known.remaining(Duration::ZERO).is_zero());
            let limit = match known {
                None => Limit { witness: Some(witness), ..Limit::new(&name, met.until) },
                Some(known) => {
                    let probed_ms = known.witness.as_ref().and_then(|w| w.probed_ms);
                    let witness = Some(Witness { probed_ms, ..witness });
                    if known.until < met.until {
                        Limit { witness, ..Limit::new(&name, met.until) }
                    } else if known.job() == Some(job) || !self.has_live_witness(&known) {
                        Limit { witness, ..known }
                    } else {
                        continue;
                    }
                }
            };
            changed |= self.write_limit(&limit).is_ok();
        }
        let known = self.read_legacy_limit();
        if known.is_none_or(|(known, _)| known.until < met.until) {
            let limit = Limit::new(UNKNOWN_LOGIN_LIMIT, met.until);
            let key = login.key.as_deref().unwrap_or_default();
            let text = format!("{} {key}", limit.to_text().trim_end());
            changed |= self.replace(LEGACY_LIMIT, &text).is_ok();
        }
        if changed {
            // Some jobs may not want to wait that long.
            self.notify();
        }
    }

    /// Removes the limits that its login met before this job `began`: the API has answered the job.
    pub(crate) fn lift_limit(&self, login: &Login, answered: Option<&str>, began: Timestamp) {
        let ended = self.ended_limits(login, answered, began);
        if ended.is_empty() {
            return;
        }
        let (login, answered) = (login.clone(), answered.map(str::to_owned));
        self.with_lock(move |queue| {
            let mut lifted = false;
            for name in queue.ended_limits(&login, answered.as_deref(), began) {
                lifted |= fs::remove_file(queue.path.join(name)).is_ok();
            }
            if lifted {
                queue.notify();
            }
        });
    }

    /// Returns the files of the limits that an answer to a job that `began` then ends.
    fn ended_limits(
        &self,
        login: &Login,
        answered: Option<&str>,
        began: Timestamp,
    ) -> Vec<PathBuf> {
        let model = answered.and_then(crate::job::ModelFamily::find_in);
        let mut ended = Vec::new();
        for name in login.limit_names_lifted(model) {
            if self.read_limit(&name).is_some_and(|limit| limit.was_noted_before(began)) {
                ended.push(Path::new(LIMITS).join(name));
            }
        }
        let is_legacy_ended = |(limit, key): &(Limit, Option<String>)| {
            limit.was_noted_before(began) && (key.is_none() || *key == login.key)
        };
        if self.read_legacy_limit().as_ref().is_some_and(is_legacy_ended) {
            ended.push(PathBuf::from(LEGACY_LIMIT));
        }
        ended
    }

    /// Returns the limits that have not ended.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for entry in fs::read_dir(self.path.join(LIMITS)).into_iter().flatten().flatten() {
            limits.extend(entry.file_name().to_str().and_then(|name| self.read_limit(name)));
        }
        limits.extend(self.read_legacy_limit().map(|(limit, _)| limit));
        limits.retain(|limit| !limit.remaining(super::LIMIT_GRACE).is_zero());
        limits
    }

    /// Returns the limit as input for the scheduling.
    pub(super) fn to_known_limit(&self, limit: &Limit, now_ms: u64) -> KnownLimit {
        KnownLimit {
            name: limit.name.clone(),
            left_ms: milliseconds(limit.remaining(super::LIMIT_GRACE)),
            probe_in_ms: self.probe_delay_ms(limit, now_ms),
        }
    }

    /// Returns the milliseconds until a job may find out whether the limit is over; `None` while
    /// another job is doing so. Once the job that met the limit has ended, the next job does so at
    /// once, and further ones every [`PROBE_INTERVAL`].
    fn probe_delay_ms(&self, limit: &Limit, now_ms: u64) -> Option<u64> {
        let witness = limit.witness.as_ref()?;
        // The monotonic clock restarts at a reboot.
        let probed = witness.probed_ms.filter(|at| *at <= now_ms);
        let pause = probed.map(|at| (at + milliseconds(PROBE_INTERVAL)).saturating_sub(now_ms));
        if self.has_live_witness(limit) {
            return if witness.has_met { pause } else { None };
        }
        let Some(pause) = pause else { return Some(0) };
        // A job that failed because of the limit has found out; one that ended otherwise has not.
        let record = JobDir::new(&self.jobs, &witness.job).load();
        let reason = record.ok().and_then(|record| record.reason);
        let has_found_out = matches!(reason, Some(Reason::RateLimit | Reason::Overloaded));
        Some(if has_found_out { pause } else { 0 })
    }

    /// Returns whether the worker that met the limit, or is to find out whether it is over, is
    /// alive.
    fn has_live_witness(&self, limit: &Limit) -> bool {
        let Some(Witness { job, worker, .. }) = &limit.witness else { return false };
        let is_own = *worker == std::process::id() as i32;
        let is_on = || JobMarker::new(&self.jobs.join(job.as_str())).is_on(*worker);
        self.is_live(job) && (is_own || is_on())
    }

    /// Returns the jobs that met these limits and their workers' process ids: when one ends,
    /// another job may find out whether the limit is over.
    pub(super) fn witnesses(&self, limits: &[Limit]) -> Vec<(JobId, i32)> {
        let mut witnesses = Vec::new();
        for limit in limits {
            if let Some(Witness { job, worker, .. }) = &limit.witness
                && *worker != std::process::id() as i32
                && self.has_live_witness(limit)
                && !witnesses.contains(&(job.clone(), *worker))
            {
                witnesses.push((job.clone(), *worker));
            }
        }
        witnesses
    }

    /// Records that a job was admitted before the end of these limits, to find out whether they are
    /// over.
    pub(super) fn record_probe(&self, ticket: &Ticket, worker: Option<i32>, limits: &mut [Limit]) {
        self.begin_probe(ticket, worker, limits, true);
    }

    /// The same. Nothing is written (`writes` is false) for a job that was only offered a slot: its
    /// worker records the probe when it is admitted.
    pub(super) fn begin_probe(
        &self,
        ticket: &Ticket,
        worker: Option<i32>,
        limits: &mut [Limit],
        writes: bool,
    ) {
        for limit in limits {
            let left = milliseconds(limit.remaining(super::LIMIT_GRACE));
            let waits = ticket.options.waits_for_limit(left);
            if !waits || !limit.applies_to(&ticket.login) || limit.witness.is_none() {
                continue;
            }
            limit.witness = Some(Witness {
                job: ticket.job_id.clone(),
                worker: worker.unwrap_or_default(),
                has_met: false,
                probed_ms: Some(clock::monotonic_ms()),
            });
            if writes {
                let _ = self.write_limit(limit);
            }
        }
    }

    fn remove_ended_limits(&self) {
        let folder = self.path.join(LIMITS);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let limit = entry.file_name().to_str().and_then(|name| self.read_limit(name));
            if limit.is_some_and(|limit| limit.remaining(super::LIMIT_GRACE).is_zero()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn read_limit(&self, name: &str) -> Option<Limit> {
        let mut text = String::new();
        let path = self.path.join(LIMITS).join(name);
        let file = open_ordinary(&path, OpenOptions::new().read(true)).ok()?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
        Limit::parse(name, &text)
    }

    fn write_limit(&self, limit: &Limit) -> io::Result<()> {
        create_dir(&self.path.join(LIMITS))?;
        self.publish(&format!("{LIMITS}/{}", limit.name), limit.to_text().as_bytes())
    }

    /// Reads the limit that earlier versions know, with the key of the login that met it if a
    /// worker of this version recorded it.
    fn read_legacy_limit(&self) -> Option<(Limit, Option<String>)> {
        let mut text = String::new();
        let file =
            open_ordinary(&self.path.join(LEGACY_LIMIT), OpenOptions::new().read(true)).ok()?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
        let limit = Limit::parse(UNKNOWN_LOGIN_LIMIT, &text)?;
        // An earlier version overwrites only the beginning, up to and including a line feed.
        let key = text.lines().next()?.split_whitespace().nth(3).map(str::to_owned);
        Some((Limit { witness: None, ..limit }, key))
    }

    /// Replaces a file atomically. The caller holds the queue's lock: the temporary name is fixed.
    fn publish(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path.join(".new");
        self.write_new(&new, content)?;
        fs::rename(&new, self.path.join(name))
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        open_ordinary(path, options)?.write_all(content)
    }
}
