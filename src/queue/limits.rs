//! Limits of the API that jobs have met, each in a file of `.queue/limits`. The file's name says
//! to which logins and models the limit applies ([`Login::limit_names`]).
//!
//! Earlier versions know one limit for all jobs, `.queue/limit`. It is written for their workers,
//! and read only for tickets without a login key.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::{create_dir, create_file, read_bytes, read_text};
use super::scheduling::KnownLimit;
use super::{
    LEGACY_LIMIT, LIMIT_GRACE, LIMITS, MAX_CLOCK_DRIFT, Queue, QueueLockPoll, SALT,
    SHORT_LOCK_WAIT, Ticket,
};
use crate::clock;
use crate::job::{
    JobId, LimitMet, Login, ModelFamily, Reason, Timestamp, UNKNOWN_LOGIN_LIMIT, milliseconds,
};
use crate::process::own_pid;
use crate::store::JobDir;

/// How often a job is admitted before a limit's end to find out whether it is over.
const PROBE_INTERVAL: Duration = Duration::from_secs(300);
const MIN_SALT_BYTES: usize = 32;

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
    monotonic_ms: u64,
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
        let (name, recorded) = (name.to_owned(), clock::now());
        Self { name, until, recorded, monotonic_ms: clock::monotonic_ms(), witness: None }
    }

    /// Parses a limit file; `None` if it is invalid.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        let until = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let recorded = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let monotonic_ms = words.next()?.parse().ok()?;
        let witness = Witness::parse(&mut words);
        Some(Self { name: name.to_owned(), until, recorded, monotonic_ms, witness })
    }

    fn to_text(&self) -> String {
        let (until, recorded) = (self.until.epoch_ms(), self.recorded.epoch_ms());
        let text = format!("{until} {recorded} {}", self.monotonic_ms);
        match &self.witness {
            Some(witness) => format!("{text} {}\n", witness.to_text()),
            None => text + "\n",
        }
    }

    /// Returns how long the limit and this `grace` last from now: by the wall clock, but never
    /// longer than when the limit was recorded, in case the clock was set.
    pub(super) fn remaining(&self, grace: Duration) -> Duration {
        let left = self.until.after(grace).since(clock::now());
        let longest = self.until.after(grace).since(self.recorded);
        // The monotonic clock restarts at a reboot.
        let passed_ms = clock::monotonic_ms().saturating_sub(self.monotonic_ms);
        left.min(longest.saturating_sub(Duration::from_millis(passed_ms)))
    }

    /// Returns whether the limit and the grace after it have ended.
    fn is_over(&self) -> bool {
        self.remaining(LIMIT_GRACE).is_zero()
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

    /// Returns how long the limit and the grace after it last for a job of any machine, whose monotonic
    /// clock shows nothing about the time at which another machine has recorded the limit.
    pub(crate) fn left_anywhere(&self) -> Duration {
        let end = self.until.after(LIMIT_GRACE);
        end.since(clock::now()).min(end.since(self.recorded))
    }

    /// Returns whether the limit applies to a job with this login.
    pub(crate) fn applies_to(&self, login: &Login) -> bool {
        login.limit_names().contains(&self.name)
    }

    /// Returns the job that met the limit last, or that is to find out whether it is over.
    pub(crate) fn job(&self) -> Option<&JobId> {
        Some(&self.witness.as_ref()?.job)
    }
}

impl Witness {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let has_met = words.next()? == "met";
        let probed_ms = words.next()?.parse().ok();
        let worker = words.next()?.parse().ok()?;
        let job = JobId::parse(words.next()?).ok()?;
        Some(Self { job, worker, has_met, probed_ms })
    }

    fn to_text(&self) -> String {
        let state = if self.has_met { "met" } else { "probe" };
        let probed = match self.probed_ms {
            Some(ms) => ms.to_string(),
            None => "-".to_owned(),
        };
        format!("{state} {probed} {} {}", self.worker, self.job)
    }
}

impl Queue {
    /// Returns the salt of the login keys, which is created once for a jobs directory.
    pub(crate) fn salt(&self) -> io::Result<Vec<u8>> {
        if let Some(salt) = self.read_salt()? {
            return Ok(salt);
        }
        let mut salt = Vec::new();
        while salt.len() < MIN_SALT_BYTES {
            salt.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        self.create_dirs()?;
        // No lock is needed: of several processes only one succeeds in creating the link.
        let new = self.path.join(format!(".salt-{}", uuid::Uuid::new_v4().simple()));
        create_file(&new)?.write_all(&salt)?;
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
        match read_bytes(&self.path.join(SALT)) {
            Ok(salt) if salt.len() >= MIN_SALT_BYTES => Ok(Some(salt)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records that a job has met a limit, so that waiting jobs with the same login do not meet it
    /// too. Returns the thread that does so, if the queue's lock is not free: the caller must not end
    /// before it.
    pub(crate) fn record_limit(
        &self,
        job: &JobId,
        login: &Login,
        met: LimitMet,
    ) -> Option<JoinHandle<()>> {
        let (job, login) = (job.clone(), login.clone());
        self.with_lock(move |queue| queue.write_limits_met(&job, &login, met))
    }

    /// Runs `work` under the queue's lock. If the lock is not free at once, `work` runs in a thread
    /// of its own, so that the caller does not wait.
    fn with_lock(&self, work: impl FnOnce(&Self) + Send + 'static) -> Option<JoinHandle<()>> {
        match self.lock_within(SHORT_LOCK_WAIT, &mut QueueLockPoll::default()) {
            Ok(Some(_lock)) => work(self),
            Ok(None) => {
                let queue = self.clone();
                let thread = std::thread::Builder::new().spawn(move || {
                    if let Ok(_lock) = queue.lock() {
                        work(&queue);
                    }
                });
                return thread.ok();
            }
            Err(_) => {}
        }
        None
    }

    fn write_limits_met(&self, job: &JobId, login: &Login, met: LimitMet) {
        self.remove_ended_limits();
        let mut changed = false;
        for name in login.limit_names_met(met.model) {
            if let Some(limit) = self.limit_met(&name, job, met.until) {
                changed |= self.write_limit(&limit).is_ok();
            }
        }
        let legacy = self.read_legacy_limit();
        if !matches!(legacy, Some((known, _)) if known.until >= met.until) {
            let limit = Limit::new(UNKNOWN_LOGIN_LIMIT, met.until);
            let key = login.key.as_deref().unwrap_or_default();
            let text = format!("{} {key}", limit.to_text().trim_end());
            changed |= self.overwrite(LEGACY_LIMIT, &text).is_ok();
        }
        if changed {
            // Some jobs may not want to wait that long.
            self.notify();
        }
    }

    /// Returns the limit to record for a job that has met it; `None` if it is known, and has a
    /// witness already.
    fn limit_met(&self, name: &str, job: &JobId, until: Timestamp) -> Option<Limit> {
        let worker = own_pid();
        let mut witness = Witness { job: job.clone(), worker, has_met: true, probed_ms: None };
        let mut limit = Limit::new(name, until);
        if let Some(known) = self.read_limit(name)
            && !known.remaining(Duration::ZERO).is_zero()
        {
            if let Some(last) = &known.witness {
                witness.probed_ms = last.probed_ms;
            }
            if known.until >= until {
                if known.job() != Some(job) && self.has_live_witness(&known) {
                    return None;
                }
                limit = known;
            }
        }
        limit.witness = Some(witness);
        Some(limit)
    }

    /// Removes the limits that its login met before this job `began`: the API has answered the job.
    /// Returns a thread as [`Self::record_limit`] does.
    pub(crate) fn lift_limit(
        &self,
        login: &Login,
        answered: Option<&str>,
        began: Timestamp,
    ) -> Option<JoinHandle<()>> {
        let ended = self.ended_limits(login, answered, began);
        if ended.is_empty() {
            return None;
        }
        let (login, answered) = (login.clone(), answered.map(str::to_owned));
        self.with_lock(move |queue| {
            let mut lifted = false;
            for path in queue.ended_limits(&login, answered.as_deref(), began) {
                lifted |= fs::remove_file(path).is_ok();
            }
            if lifted {
                queue.notify();
            }
        })
    }

    /// Returns the files of the limits that an answer to a job that `began` then ends.
    fn ended_limits(
        &self,
        login: &Login,
        answered: Option<&str>,
        began: Timestamp,
    ) -> Vec<PathBuf> {
        let model = answered.and_then(ModelFamily::find_in);
        let mut ended = Vec::new();
        for name in login.limit_names_lifted(model) {
            if matches!(self.read_limit(&name), Some(limit) if limit.was_noted_before(began)) {
                ended.push(self.limit_path(&name));
            }
        }
        if let Some((limit, key)) = self.read_legacy_limit()
            && limit.was_noted_before(began)
            && (key.is_none() || key == login.key)
        {
            ended.push(self.path.join(LEGACY_LIMIT));
        }
        ended
    }

    /// Returns the limits that have not ended.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let mut limits = self.recorded_limits();
        limits.retain(|limit| !limit.is_over());
        limits
    }

    /// Returns the limits that are recorded, also those that have ended.
    pub(crate) fn recorded_limits(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for name in self.file_names(LIMITS) {
            limits.extend(self.read_limit(&name));
        }
        if let Some((limit, _)) = self.read_legacy_limit() {
            limits.push(limit);
        }
        limits
    }

    /// Returns the limits as input for the scheduling.
    pub(super) fn known_limits(&self, limits: &[Limit], now_ms: u64) -> Vec<KnownLimit> {
        let mut known = Vec::new();
        for limit in limits {
            known.push(KnownLimit {
                name: limit.name.clone(),
                left_ms: milliseconds(limit.remaining(LIMIT_GRACE)),
                probe_in_ms: self.probe_delay_ms(limit, now_ms),
            });
        }
        known
    }

    /// Returns the milliseconds until a job may find out whether the limit is over; `None` while
    /// another job is doing so. Once the job that met the limit has ended, the next job does so at
    /// once, and further ones every [`PROBE_INTERVAL`].
    fn probe_delay_ms(&self, limit: &Limit, now_ms: u64) -> Option<u64> {
        let witness = limit.witness.as_ref()?;
        let pause = match witness.probed_ms {
            // The monotonic clock restarts at a reboot.
            Some(at) if at <= now_ms => {
                Some((at + milliseconds(PROBE_INTERVAL)).saturating_sub(now_ms))
            }
            _ => None,
        };
        if self.has_live_witness(limit) {
            return if witness.has_met { pause } else { None };
        }
        let Some(pause) = pause else { return Some(0) };
        // A job that failed because of the limit has found out; one that ended otherwise has not.
        match JobDir::new(&self.jobs, &witness.job).load() {
            Ok(record) if matches!(record.reason, Some(Reason::RateLimit | Reason::Overloaded)) => {
                Some(pause)
            }
            _ => Some(0),
        }
    }

    /// Returns whether the worker that met the limit, or is to find out whether it is over, is
    /// alive.
    fn has_live_witness(&self, limit: &Limit) -> bool {
        let Some(Witness { job, worker, .. }) = &limit.witness else { return false };
        let is_own = *worker == own_pid();
        self.is_live(job) && (is_own || self.marker(job).is_on(*worker))
    }

    /// Returns the jobs that met these limits and their workers' process ids: when one ends,
    /// another job may find out whether the limit is over.
    pub(super) fn witnesses(&self, limits: &[Limit]) -> Vec<(JobId, i32)> {
        let mut witnesses = Vec::new();
        for limit in limits {
            if let Some(Witness { job, worker, .. }) = &limit.witness
                && *worker != own_pid()
                && self.has_live_witness(limit)
                && !witnesses.contains(&(job.clone(), *worker))
            {
                witnesses.push((job.clone(), *worker));
            }
        }
        witnesses
    }

    /// Records that a job was admitted before the end of these limits, to find out whether they are
    /// over. Nothing is written (`writes` is false) for a job that was only offered a slot: its
    /// worker records the probe when it is admitted.
    pub(super) fn begin_probe(
        &self,
        ticket: &Ticket,
        worker: Option<i32>,
        limits: &mut [Limit],
        writes: bool,
    ) {
        for limit in limits {
            let left = milliseconds(limit.remaining(LIMIT_GRACE));
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
        for name in self.file_names(LIMITS) {
            if matches!(self.read_limit(&name), Some(limit) if limit.is_over()) {
                let _ = fs::remove_file(self.limit_path(&name));
            }
        }
    }

    fn limit_path(&self, name: &str) -> PathBuf {
        self.path.join(LIMITS).join(name)
    }

    fn read_limit(&self, name: &str) -> Option<Limit> {
        Limit::parse(name, &read_text(&self.limit_path(name)).ok()?)
    }

    /// Replaces a limit atomically. The caller holds the queue's lock: the temporary name is fixed.
    fn write_limit(&self, limit: &Limit) -> io::Result<()> {
        create_dir(&self.path.join(LIMITS))?;
        let new = self.path.join(".new");
        create_file(&new)?.write_all(limit.to_text().as_bytes())?;
        fs::rename(&new, self.limit_path(&limit.name))
    }

    /// Reads the limit that earlier versions know, with the key of the login that met it if a
    /// worker of this version recorded it.
    fn read_legacy_limit(&self) -> Option<(Limit, Option<String>)> {
        let text = read_text(&self.path.join(LEGACY_LIMIT)).ok()?;
        let limit = Limit::parse(UNKNOWN_LOGIN_LIMIT, &text)?;
        // An earlier version overwrites only the beginning, up to and including a line feed.
        let key = text.lines().next()?.split_whitespace().nth(3).map(str::to_owned);
        Some((Limit { witness: None, ..limit }, key))
    }
}
