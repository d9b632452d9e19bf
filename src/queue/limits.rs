//! Limits of the API that jobs have met, each in a file of `.queue/limits` under a name that tells
//! whom it concerns ([`Login::limits`]).
//!
//! A worker of an earlier version knows one limit for all, `.queue/limit`. It is written for those
//! workers, and concerns tickets without a key only.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choice::KnownLimit;
use super::{AT_ONCE, CLOCK_DRIFT, DeskPoll, LIMIT, LIMITS, Queue, SALT, Ticket, make_room};
use crate::clock;
use crate::job::{JobId, LimitMet, Login, Reason, Timestamp, UNKNOWN_LOGIN, milliseconds};
use crate::process::Mark;
use crate::store::{JobDir, open_ordinary};

/// How often a job finds out whether a limit is over before its time.
const PROBE_EVERY: Duration = Duration::from_secs(300);
/// Bytes of the salt.
const SALT_LENGTH: usize = 32;
/// Bytes of a limit's file that are read.
const LIMIT_MOST: u64 = 512;

/// A limit, as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whom it concerns.
    pub(super) name: String,
    /// When it ends.
    until: Timestamp,
    /// When it was noted: by the clock, and by one that never jumps.
    noted: Timestamp,
    steady_ms: i64,
    /// The job that met it last, or is to find out whether it is over; `None` of a limit that a
    /// worker of an earlier version noted.
    witness: Option<Witness>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Witness {
    job: JobId,
    worker: i32,
    /// It has met the limit. Else it was let in as a probe and has not reported yet.
    has_met: bool,
    /// When the last probe was let in, on the clock that never jumps.
    probed_ms: Option<u64>,
}

impl Limit {
    fn new(name: &str, until: Timestamp) -> Self {
        let steady_ms = i64::try_from(clock::monotonic_ms()).unwrap_or(i64::MAX);
        Self { name: name.to_owned(), until, noted: clock::now(), steady_ms, witness: None }
    }

    /// The limit of this text; `None` of any other.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let mut words = text.lines().next()?.split_whitespace();
        let until = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let noted = Timestamp::from_epoch_ms(words.next()?.parse().ok()?)?;
        let steady_ms = words.next()?.parse().ok()?;
        let mut witness = || {
            let has_met = words.next()? == "met";
            let probed_ms = words.next()?.parse().ok();
            let worker = words.next()?.parse().ok()?;
            Some(Witness { has_met, probed_ms, worker, job: JobId::parse(words.next()?).ok()? })
        };
        let witness = witness();
        Some(Self { name: name.to_owned(), until, noted, steady_ms, witness })
    }

    fn text(&self) -> String {
        let (until, noted) = (self.until.epoch_ms(), self.noted.epoch_ms());
        let mut text = format!("{until} {noted} {}", self.steady_ms);
        if let Some(witness) = &self.witness {
            let state = if witness.has_met { "met" } else { "probe" };
            let probed = witness.probed_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            text += &format!(" {state} {probed} {} {}", witness.worker, witness.job);
        }
        text + "\n"
    }

    /// How long it lasts from now, with this `grace`: by the clock, and no longer than it was when
    /// it was noted, whatever became of the clock.
    pub(super) fn left(&self, grace: Duration) -> Duration {
        let left = self.until.after(grace).since(clock::now());
        // After a reboot that clock begins anew.
        let steady = u64::try_from(self.steady_ms).ok();
        let passed = steady.and_then(|at| clock::monotonic_ms().checked_sub(at));
        let most = self.until.after(grace).since(self.noted);
        left.min(most.saturating_sub(Duration::from_millis(passed.unwrap_or_default())))
    }

    /// Files have milliseconds: within one, the order is not known.
    fn was_noted_before(&self, time: Timestamp) -> bool {
        self.noted.epoch_ms() < time.epoch_ms()
    }

    /// When it ends, if that lies ahead.
    pub fn ends(&self) -> Option<Timestamp> {
        let (left, now) = (self.left(Duration::ZERO), clock::now());
        if left.is_zero() {
            return None;
        }
        // A clock that was set back would show a time that is far too late.
        let is_shifted = self.until.since(now) > left + CLOCK_DRIFT;
        Some(if is_shifted { now.after(left) } else { self.until })
    }

    /// Whether it concerns a job with this login.
    pub fn concerns(&self, login: &Login) -> bool {
        login.limits().contains(&self.name)
    }

    /// The job that met it last, or finds out whether it is over.
    pub fn job(&self) -> Option<&JobId> {
        self.witness.as_ref().map(|witness| &witness.job)
    }
}

impl Queue {
    /// The salt of the keys of logins, which is made once for a jobs directory.
    pub fn salt(&self) -> io::Result<Vec<u8>> {
        if let Some(salt) = self.read_salt()? {
            return Ok(salt);
        }
        let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let salt: Vec<u8> = random.iter().flat_map(uuid::Uuid::as_bytes).copied().collect();
        self.make_rooms()?;
        // Without the lock: a link is made once, whoever else is at it.
        let new = self.path.join(format!(".salt-{}", uuid::Uuid::new_v4().simple()));
        self.write_new(&new, &salt)?;
        let path = self.path.join(SALT);
        let made = match fs::hard_link(&new, &path) {
            Ok(()) => Ok(salt),
            // Another was quicker; or it is torn, or there are no links here.
            Err(_) => match self.read_salt() {
                Ok(None) => fs::rename(&new, &path).map(|()| salt),
                Ok(Some(salt)) => Ok(salt),
                Err(error) => Err(error),
            },
        };
        let _ = fs::remove_file(&new);
        made
    }

    fn read_salt(&self) -> io::Result<Option<Vec<u8>>> {
        let mut salt = Vec::new();
        match open_ordinary(&self.path.join(SALT), OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?.take(LIMIT_MOST).read_to_end(&mut salt)?,
        };
        Ok(Some(salt).filter(|salt| salt.len() >= SALT_LENGTH))
    }

    /// A job has met a limit: jobs with its login that wait need not run into it.
    pub fn note_limit(&self, job: &JobId, login: &Login, met: LimitMet) {
        let (job, login) = (job.clone(), login.clone());
        self.with_desk(move |queue| queue.write_limits_met(&job, &login, met));
    }

    /// Does this with the lock of the queue: here, or in a thread of its own where the lock cannot
    /// be had at once, so that the caller need not wait for it.
    fn with_desk(&self, work: impl FnOnce(&Self) + Send + 'static) {
        match self.desk_within(AT_ONCE, &mut DeskPoll::default()) {
            Ok(Some(_desk)) => work(self),
            Ok(None) => {
                let queue = self.clone();
                let wait = move || {
                    if let Ok(_desk) = queue.desk() {
                        work(&queue);
                    }
                };
                let _ = std::thread::Builder::new().spawn(wait);
            }
            Err(_) => {}
        }
    }

    fn write_limits_met(&self, job: &JobId, login: &Login, met: LimitMet) {
        self.remove_ended_limits();
        let mut changed = false;
        for name in login.limits_met(met.model) {
            let worker = std::process::id() as i32;
            let witness = Witness { job: job.clone(), worker, has_met: true, probed_ms: None };
            let known =
                self.read_limit(&name).filter(|known| !known.left(Duration::ZERO).is_zero());
            let limit = match known {
                None => Limit { witness: Some(witness), ..Limit::new(&name, met.until) },
                Some(known) => {
                    let probed_ms = known.witness.as_ref().and_then(|w| w.probed_ms);
                    let witness = Some(Witness { probed_ms, ..witness });
                    if known.until < met.until {
                        Limit { witness, ..Limit::new(&name, met.until) }
                    } else if known.job() == Some(job) || !self.is_witnessed(&known) {
                        Limit { witness, ..known }
                    } else {
                        continue;
                    }
                }
            };
            changed |= self.write_limit(&limit).is_ok();
        }
        let known = self.limit_of_all();
        if known.is_none_or(|(known, _)| known.until < met.until) {
            let limit = Limit::new(UNKNOWN_LOGIN, met.until);
            let key = login.key.as_deref().unwrap_or_default();
            let text = format!("{} {key}", limit.text().trim_end());
            changed |= self.replace(LIMIT, &text).is_ok();
        }
        if changed {
            // Some may not want to wait so long.
            self.ring();
        }
    }

    /// The API has answered a job that began then: limits that its login met before are over.
    pub fn lift_limit(&self, login: &Login, answered: Option<&str>, began: Timestamp) {
        let over = self.limits_over(login, answered, began);
        if over.is_empty() {
            return;
        }
        let (login, answered) = (login.clone(), answered.map(str::to_owned));
        self.with_desk(move |queue| {
            let mut lifted = false;
            for name in queue.limits_over(&login, answered.as_deref(), began) {
                lifted |= fs::remove_file(queue.path.join(name)).is_ok();
            }
            if lifted {
                queue.ring();
            }
        });
    }

    /// The files of the limits that an answer to a job that began then ends.
    fn limits_over(&self, login: &Login, answered: Option<&str>, began: Timestamp) -> Vec<PathBuf> {
        let model = answered.and_then(crate::job::ModelFamily::named_in);
        let mut over = Vec::new();
        for name in login.limits_lifted(model) {
            if self.read_limit(&name).is_some_and(|limit| limit.was_noted_before(began)) {
                over.push(Path::new(LIMITS).join(name));
            }
        }
        let concerns_all = |(limit, key): &(Limit, Option<String>)| {
            limit.was_noted_before(began) && (key.is_none() || *key == login.key)
        };
        if self.limit_of_all().as_ref().is_some_and(concerns_all) {
            over.push(PathBuf::from(LIMIT));
        }
        over
    }

    /// The limits that have not ended.
    pub fn limits(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for entry in fs::read_dir(self.path.join(LIMITS)).into_iter().flatten().flatten() {
            limits.extend(entry.file_name().to_str().and_then(|name| self.read_limit(name)));
        }
        limits.extend(self.limit_of_all().map(|(limit, _)| limit));
        limits.retain(|limit| !limit.left(super::LIMIT_GRACE).is_zero());
        limits
    }

    /// The limit as the choice of the next job sees it.
    pub(super) fn known(&self, limit: &Limit, now_ms: u64) -> KnownLimit {
        KnownLimit {
            name: limit.name.clone(),
            left_ms: milliseconds(limit.left(super::LIMIT_GRACE)),
            probe_in_ms: self.probe_in(limit, now_ms),
        }
    }

    /// Milliseconds until a job may find out whether the limit is over; `None` as long as another
    /// is about to. Once the job that met it has ended, the next does so at once, and further ones
    /// every few minutes.
    fn probe_in(&self, limit: &Limit, now_ms: u64) -> Option<u64> {
        let witness = limit.witness.as_ref()?;
        // After a reboot the clock begins anew.
        let probed = witness.probed_ms.filter(|at| *at <= now_ms);
        let pause = probed.map(|at| (at + milliseconds(PROBE_EVERY)).saturating_sub(now_ms));
        if self.is_witnessed(limit) {
            return if witness.has_met { pause } else { None };
        }
        let Some(pause) = pause else { return Some(0) };
        // One that failed because of the limit has found out; another one has not.
        let record = JobDir::at(self.jobs.join(witness.job.as_str())).load();
        let reason = record.ok().and_then(|record| record.reason);
        let found = matches!(reason, Some(Reason::RateLimit | Reason::Overloaded));
        Some(if found { pause } else { 0 })
    }

    /// Whether the worker lives that met the limit or is to find out whether it is over.
    fn is_witnessed(&self, limit: &Limit) -> bool {
        let Some(Witness { job, worker, .. }) = &limit.witness else { return false };
        let own = *worker == std::process::id() as i32;
        let is_on = || Mark::new(&self.jobs.join(job.as_str())).is_on(*worker);
        self.lives(job) && (own || is_on())
    }

    /// The workers of the jobs that met these limits: when one ends, another job may find out.
    pub(super) fn witnesses(&self, limits: &[Limit]) -> Vec<(JobId, i32)> {
        let mut witnesses = Vec::new();
        for limit in limits {
            if let Some(Witness { job, worker, .. }) = &limit.witness
                && *worker != std::process::id() as i32
                && self.is_witnessed(limit)
                && !witnesses.contains(&(job.clone(), *worker))
            {
                witnesses.push((job.clone(), *worker));
            }
        }
        witnesses
    }

    /// A job was let in although these limits stand in its way: it finds out whether they are
    /// over.
    pub(super) fn note_probe(&self, ticket: &Ticket, worker: Option<i32>, limits: &mut [Limit]) {
        self.probe(ticket, worker, limits, true);
    }

    /// The same; a job that was called only, which `writes` nothing, notes it when it comes.
    pub(super) fn probe(
        &self,
        ticket: &Ticket,
        worker: Option<i32>,
        limits: &mut [Limit],
        writes: bool,
    ) {
        for limit in limits {
            let left = milliseconds(limit.left(super::LIMIT_GRACE));
            let waits = ticket.admission.waits_for_limit(left);
            if !waits || !limit.concerns(&ticket.login) || limit.witness.is_none() {
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
            if limit.is_some_and(|limit| limit.left(super::LIMIT_GRACE).is_zero()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn read_limit(&self, name: &str) -> Option<Limit> {
        let mut text = String::new();
        let path = self.path.join(LIMITS).join(name);
        let file = open_ordinary(&path, OpenOptions::new().read(true)).ok()?;
        file.take(LIMIT_MOST).read_to_string(&mut text).ok()?;
        Limit::parse(name, &text)
    }

    fn write_limit(&self, limit: &Limit) -> io::Result<()> {
        make_room(&self.path.join(LIMITS))?;
        self.publish(&format!("{LIMITS}/{}", limit.name), limit.text().as_bytes())
    }

    /// The one limit that a worker of an earlier version knows, with the key of the login that met
    /// it, if a worker of this version noted it.
    fn limit_of_all(&self) -> Option<(Limit, Option<String>)> {
        let mut text = String::new();
        let file = open_ordinary(&self.path.join(LIMIT), OpenOptions::new().read(true)).ok()?;
        file.take(LIMIT_MOST).read_to_string(&mut text).ok()?;
        let limit = Limit::parse(UNKNOWN_LOGIN, &text)?;
        // An earlier version overwrites the beginning alone, which ends in a line feed.
        let key = text.lines().next()?.split_whitespace().nth(3).map(str::to_owned);
        Some((Limit { witness: None, ..limit }, key))
    }

    /// Puts a file with this content in place, whole. Only for the holder of the desk.
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
