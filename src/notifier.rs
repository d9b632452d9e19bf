//! The notifier: delivers a job's notifications in a process of its own, so that a command that
//! hangs does not delay the verdict.

mod message;
mod retry;
mod sending;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{Notification, Record};
use crate::process::{self, AwaitedSignals};
use crate::store::{JobDir, LOCK_BOUND, LoadError, Lock};

pub(crate) use sending::check_token;

/// Longest pause between two tries in versions whose notifier does not yield.
const LEGACY_MAX_PAUSE: Duration = Duration::from_secs(4);

/// Delivers the notifications of the job in this directory. This is the hidden command that
/// [`crate::launch`] starts. `locked`: the starter passed the lock to this process.
pub(crate) fn run(job_dir: PathBuf, locked: bool) -> io::Result<()> {
    let job = JobDir::at(job_dir).ok_or(io::ErrorKind::InvalidInput)?;
    // Before the lock file says that they are accepted.
    let requests = YieldRequests::accept().ok();
    let lock = match locked {
        true => Lock::inherited(process::take_inherited_lock()?),
        // If the other notifier is stopped, the next command that reads the job starts another one.
        false => {
            let bound = sending::max_duration(&job) + LEGACY_MAX_PAUSE + LOCK_BOUND;
            job.lock_notifications(bound).map_err(io::Error::other)?
        }
    };
    lock.record_holder(requests.is_some());
    let mut round = Round::begin(&job).map_err(io::Error::other)?;
    while let Some(pause) = round.try_due() {
        match &requests {
            Some(requests) if requests.arrive_within(pause) => break,
            Some(_) => {}
            None => thread::sleep(pause),
        }
    }
    Ok(())
}

/// Tries all notifications once, including those that had failed. Returns those that were not
/// delivered, and whether a notifier has to try them again. `bound`: how long another process may
/// hold the lock without progress.
pub(crate) fn redeliver(
    job: &JobDir,
    bound: Duration,
) -> Result<(Vec<Notification>, bool), LoadError> {
    let lock = job.lock_notifications(bound)?;
    lock.record_holder(false);
    Ok(Round::begin(job)?.try_all_once())
}

/// Requests to end in the next pause: another process wants to deliver the notifications at once.
struct YieldRequests(Receiver<Signal>);

impl YieldRequests {
    /// Accepts requests from now on.
    fn accept() -> io::Result<Self> {
        let signals = AwaitedSignals::keep(&[Signal::SIGUSR1])?;
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::Builder::new().name("yield".to_owned());
        waiter.spawn(move || {
            while let Some(signal) = signals.next() {
                let _ = sender.send(signal);
            }
        })?;
        Ok(Self(receiver))
    }

    /// Pauses, and returns whether a request has ended the pause.
    fn arrive_within(&self, pause: Duration) -> bool {
        match self.0.recv_timeout(pause) {
            Ok(_) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(pause);
                false
            }
        }
    }
}

/// Number and recipient of a notification.
type NotificationKey = (u64, String);

/// The last try of a notification by this process.
struct Tried {
    /// When this process first tried it.
    began: Instant,
    /// When it is tried again; `None` for never.
    again: Option<Instant>,
    error: Option<String>,
}

/// The tries of one process, which holds the lock.
struct Round<'a> {
    job: &'a JobDir,
    record: Record,
    tried: BTreeMap<NotificationKey, Tried>,
}

impl<'a> Round<'a> {
    fn begin(job: &'a JobDir) -> Result<Self, LoadError> {
        fault_point("notifier:locked");
        // Processes that a command starts become children of this one when the command is killed.
        let _ = process::adopt_orphans();
        let record = job.load()?;
        job.record_end_due(&record, clock::now())?;
        // An earlier notifier was killed during this attempt, and its command may still run.
        if job.notifications(&record).iter().any(|it| it.error.is_none() && it.tries > 0) {
            sending::sweep(job);
        }
        Ok(Self { job, record, tried: BTreeMap::new() })
    }

    /// Tries the notifications that are due. Returns the pause until the next one is; `None` if
    /// there is none.
    fn try_due(&mut self) -> Option<Duration> {
        loop {
            let mut next: Option<(Duration, Notification)> = None;
            // In order, but one that failed delays no other.
            for notification in self.job.notifications(&self.record) {
                let pause = match self.tried.get(&key(&notification)) {
                    _ if notification.error.is_some() => continue,
                    Some(Tried { again: None, .. }) => continue,
                    Some(Tried { again: Some(at), .. }) => {
                        at.saturating_duration_since(Instant::now())
                    }
                    None => Duration::ZERO,
                };
                if next.as_ref().is_none_or(|(least, _)| pause < *least) {
                    next = Some((pause, notification));
                }
            }
            let (pause, notification) = next?;
            if !pause.is_zero() {
                return Some(pause);
            }
            self.attempt(notification, true);
        }
    }

    /// Tries each notification once. Returns those that were not delivered, and whether one of them
    /// is to be tried again.
    fn try_all_once(&mut self) -> (Vec<Notification>, bool) {
        loop {
            let mut left = self.job.notifications(&self.record);
            let next = left.iter().find(|it| !self.tried.contains_key(&key(it)));
            if let Some(notification) = next {
                self.attempt(notification.clone(), false);
                continue;
            }
            for notification in &mut left {
                if let Some(tried) = self.tried.get(&key(notification)) {
                    notification.error.clone_from(&tried.error);
                }
            }
            return (left, self.tried.values().any(|tried| tried.again.is_some()));
        }
    }

    /// Tries to deliver a notification, and records the result. An interrupted try counts as one.
    fn attempt(&mut self, mut notification: Notification, may_give_up: bool) {
        let (due_at, to) = (notification.due_at, notification.to.clone());
        let began = self.tried.get(&key(&notification)).map_or(Instant::now(), |it| it.began);
        let age = || retry::age(due_at, clock::now(), began.elapsed());
        let mut again = None;
        if may_give_up && retry::is_given_up(&to, notification.tries, age()) {
            notification.error = Some("the notifier was killed at each attempt".to_owned());
        } else {
            notification.tries += 1;
            // If the attempt cannot be recorded, it is made all the same.
            let _ = self.job.record_try(&notification, clock::now());
            notification.error = None;
            if let Err(failure) = self.send(&notification) {
                notification.error = Some(failure.why);
                if failure.is_retryable {
                    let pause = retry::pause(&to, notification.tries, age());
                    again = pause.map(|pause| Instant::now() + pause);
                }
            }
        }
        // Until the last try the error is not recorded: it would mark the end of the tries. If the
        // result cannot be recorded, the notification is sent again later: twice is better than
        // never.
        if again.is_none() {
            let _ = self.job.record_delivery(&notification, clock::now());
        }
        self.tried.insert(key(&notification), Tried { began, again, error: notification.error });
    }

    fn send(&mut self, notification: &Notification) -> Result<(), sending::DeliveryError> {
        match self.job.load() {
            Ok(record) => self.record = record,
            Err(error) => {
                return Err(sending::DeliveryError { why: error.to_string(), is_retryable: false });
            }
        }
        sending::send(self.job, &self.record, notification)
    }
}

fn key(notification: &Notification) -> NotificationKey {
    (notification.number, notification.to.clone())
}
