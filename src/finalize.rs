//! Finalizes a lost job, whose worker died: ends its processes, replays its log, and writes its
//! verdict. The first process that finds the job does this while it holds the job's lock.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::fault_point::fault_point;
use crate::job::{
    EngineRef, EventKind, EventLine, Exit, InboxMessage, NotifyEvent, Outcome, Record, Status,
    Timestamp, UndeliveredMessage, Verdict,
};
use crate::launch::spawn_notifier;
use crate::process::{self, JobMarker, Orphans};
use crate::queue::Queue;
use crate::store::{
    self, Claim, ClaimKind, EVENTS, EpochEntry, InboxItem, JobDir, LastEntry, Liveness, LoadError,
    Lock, OUTPUT, RESULT, STDERR, UNCONFIRMED_RESULT,
};
use crate::supervisor::{LoggedEvents, MAX_STDERR_BYTES, PostMortem};

/// Time limit for ending the processes that a dead worker has left.
pub(crate) const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the verdict of a lost job: the one that follows from its log, else the `requested` one, else
/// that its worker died. A `requested` kill is permanent even if another process has already
/// recorded the job as interrupted. A job that another machine may be running is left as it is.
/// Returns the job's record after that.
pub(crate) fn finalize_lost(dir: &JobDir, record: Record, requested: Option<Verdict>) -> Record {
    finalize_lost_until(dir, record, requested, Instant::now() + SWEEP_TIMEOUT)
}

/// As [`finalize_lost`]; waits for the end of the job's processes until this time.
pub(crate) fn finalize_lost_until(
    dir: &JobDir,
    record: Record,
    requested: Option<Verdict>,
    until: Instant,
) -> Record {
    // The job may have ended since its record was read. Then the lock is not needed, and it would
    // block others if this process were stopped.
    let record = dir.load().unwrap_or(record);
    match dir.liveness_if_unlocked(&record) {
        Liveness::Lost => {}
        // A job that was interrupted is marked as killed.
        Liveness::Ended if requested.is_some() => {}
        Liveness::Ended | Liveness::Live | Liveness::OtherMachine(_) => return record,
    }
    match dir.try_lock() {
        // Another process is finalizing the job, or a worker has started: its record counts.
        Ok(None) => dir.load().unwrap_or(record),
        Ok(Some(lock)) => {
            fault_point("settle:locked");
            // The job may have ended between the check and the lock.
            let record = dir.load().unwrap_or(record);
            match dir.liveness_if_unlocked(&record) {
                Liveness::Lost => write_lost_verdict(dir, record, requested, Some(&lock), until),
                Liveness::Ended if requested == Some(Verdict::Killed) && record.is_cut_off() => {
                    mark_killed(dir, record)
                }
                Liveness::Ended | Liveness::Live | Liveness::OtherMachine(_) => record,
            }
        }
        // The job may be alive: leave it alone.
        Err(_) if dir.may_live() => record,
        Err(_) => write_lost_verdict(dir, record, requested, None, until),
    }
}

/// Writes the verdict of a job whose engine runs no worker for it, or whose worker is to lose it, unless
/// the job has one by now. A job that was cut off is marked as killed, if that is requested. Returns the
/// record.
pub(crate) fn end_on_engine(dir: &JobDir, record: Record, requested: Option<Verdict>) -> Record {
    let is_kill = requested == Some(Verdict::Killed);
    let last = dir.last_entry();
    // Read later: the claim fails if the job is continued after that.
    match dir.load() {
        Ok(now) if !is_kill && !is_same_attempt(&now, &record) => return now,
        _ => {}
    }
    let number = match last {
        Ok(Some(LastEntry { entry: EpochEntry::End(ended), .. }))
            if !(is_kill && ended.is_cut_off()) =>
        {
            return *ended;
        }
        Ok(Some(last)) => last.number + 1,
        Ok(None) => 1,
        Err(_) => return record,
    };
    // If this process dies before it has written the verdict, a killed job ends nevertheless, and any
    // other one continues.
    let kind = if is_kill { ClaimKind::Kill } else { ClaimKind::Submit };
    if let Ok(Some((owner, lock))) = dir.begin_epoch(number, &Claim::new(kind, None))
        && let Ok(record) = owner.load()
    {
        let until = Instant::now() + SWEEP_TIMEOUT;
        if is_kill {
            let _ = kill_claimed(&owner, &lock, record, until);
        } else {
            write_lost_verdict(&owner, record, requested, Some(&lock), until);
        }
    }
    dir.load().unwrap_or(record)
}

/// Whether the worker of the job, if there is one, is the same by both records.
fn is_same_attempt(a: &Record, b: &Record) -> bool {
    let (x, y) = (&a.worker, &b.worker);
    a.attempt.number == b.attempt.number
        && (&x.engine, x.pid, &x.host) == (&y.engine, y.pid, &y.host)
}

/// Writes the verdict of a job that this process owns by a claim, and whose lock it holds.
pub(crate) fn end_claimed(dir: &JobDir, mut record: Record, verdict: &Verdict) {
    record.end(verdict, crate::clock::now());
    let outcome = Outcome::from_record(&record);
    write_end(dir, &record, Some(outcome), None, &[], crate::clock::now());
}

/// Reaches the verdict of a lost job and returns its record. The record is written only if the lock
/// is held.
pub(crate) fn write_lost_verdict(
    dir: &JobDir,
    record: Record,
    requested: Option<Verdict>,
    lock: Option<&Lock>,
    until: Instant,
) -> Record {
    let writable = lock.is_some() && record.is_writable();
    let use_of = if writable { FileUse::Write } else { FileUse::Read };
    let mut reached = conclude_lost(dir, record, requested, use_of, lock.is_some(), until);
    if writable {
        remove_logged(dir, reached.record.attempt.number, &mut reached.entries);
        let is_new = !reached.has_outcome || !reached.outcome.undelivered.is_empty();
        let outcome = if is_new { Some(reached.outcome) } else { None };
        write_end(dir, &reached.record, outcome, reached.events, &reached.entries, reached.at);
    }
    reached.record
}

/// How the files of a lost job are used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileUse {
    Read,
    /// The inbox is closed, and a result that does not follow from the log is set aside.
    Write,
    /// The job continues: only the messages of its turns are sorted.
    Continue,
}

/// The verdict of a lost job, and what is to be written.
struct LostVerdict {
    record: Record,
    outcome: Outcome,
    /// The outcome is in the result already.
    has_outcome: bool,
    events: Option<File>,
    entries: Vec<EventLine>,
    at: Timestamp,
}

fn conclude_lost(
    dir: &JobDir,
    mut record: Record,
    requested: Option<Verdict>,
    use_of: FileUse,
    is_locked: bool,
    until: Instant,
) -> LostVerdict {
    end_processes(dir, &mut record, is_locked, until);
    let at = dir.last_activity_at(&record);
    let writable = use_of == FileUse::Write;
    let events = if use_of == FileUse::Read { None } else { dir.open_events().ok() };
    let number = record.attempt.number;
    // A worker that died after it had written the result had reached a verdict.
    let (reached, before) = match dir.outcome() {
        Some(outcome) if !outcome.status.is_live() && outcome.attempt == number => {
            (Some(outcome), None)
        }
        before => (None, before),
    };
    let log_start = record.attempt.log_start;
    let last_seq = events.as_ref().map_or(0, |(_, last_seq)| *last_seq);
    let mut post_mortem = PostMortem::new(record, last_seq, at);
    if let Some(before) = before {
        post_mortem.continue_from(before);
    }
    // Needed even if the verdict was reached: the record may be older than the log.
    let _ = replay_log(dir, log_start, &mut post_mortem);
    let reached = match reached {
        Some(found) if !is_confirmed(dir, &mut post_mortem, &found) => {
            set_result_aside(dir, &mut post_mortem, &found, writable);
            None
        }
        reached => reached,
    };
    let has_outcome = reached.is_some();
    let boot_id = process::boot_id();
    let left = match use_of {
        FileUse::Write => collect_undelivered(dir, post_mortem.taken_in()),
        FileUse::Read => Vec::new(),
        FileUse::Continue => {
            let items = dir.pending(&BTreeSet::new()).unwrap_or_default();
            sort_messages(dir, items, post_mortem.taken_in());
            Vec::new()
        }
    };
    let (done, _) = post_mortem.taken_in();
    if dir.aside_items().iter().any(|item| !is_one_of(item, done)) {
        post_mortem.mark_turn_open();
    }
    let (record, outcome, entries) =
        post_mortem.conclude(reached, requested, boot_id.as_deref(), left);
    let events = events.map(|(file, _)| file);
    LostVerdict { record, outcome, has_outcome, events, entries, at }
}

/// Ends the processes that the worker has left.
fn end_processes(dir: &JobDir, record: &mut Record, is_locked: bool, until: Instant) {
    if dir.is_claimed() && !record.is_of_this_machine() {
        // The engine ends what its worker has left on its machine.
        return;
    }
    let cgroup = record.worker.detached.as_ref().and_then(|detached| detached.cgroup.clone());
    let markers = [JobMarker::new(dir.path()).in_scope(cgroup)];
    // No process of another boot is left, so any list of processes is complete.
    let is_of_this_boot = record.worker.boot_id == process::boot_id();
    let worker_start = if is_of_this_boot { record.worker.pid_start_time } else { Some(0) };
    let is_independent = &store::is_independent;
    let orphans = Orphans { markers: &markers, worker_start, is_locked, is_independent };
    let (_, left) = orphans.end(until);
    record.record_leftovers(left);
}

/// Returns whether the verdict that a worker wrote follows from the evidence.
fn is_confirmed(dir: &JobDir, post_mortem: &mut PostMortem, found: &Outcome) -> bool {
    let stderr = dir.tail(STDERR, dir.preparation().stderr_end, MAX_STDERR_BYTES);
    let stderr = String::from_utf8_lossy(&stderr);
    post_mortem.confirms(found, read_witnessed(dir, found.attempt), &stderr)
}

/// Renames a result that was not confirmed, if it may be changed.
fn set_result_aside(dir: &JobDir, post_mortem: &mut PostMortem, found: &Outcome, writable: bool) {
    let is_kept = !writable || dir.set_result_aside().is_ok();
    let note =
        if is_kept { format!("; it is kept as {UNCONFIRMED_RESULT}") } else { String::new() };
    post_mortem
        .warn(&format!("{RESULT} said {}, which does not follow from the log{note}", found.status));
}

/// Returns the result of a job of the Node skill, which wrote none: the result of its log with the
/// verdict of its record.
pub(crate) fn outcome_from_log(dir: &JobDir, record: Record) -> Outcome {
    let at = dir.last_activity_at(&record);
    let mut post_mortem = PostMortem::new(record.clone(), 0, at);
    let _ = replay_log(dir, record.attempt.log_start, &mut post_mortem);
    let (_, mut outcome, _) = post_mortem.conclude(None, None, None, Vec::new());
    if record.status == Status::Completed && outcome.status != Status::Completed {
        let why = outcome.error.as_deref().unwrap_or_default();
        outcome.warnings.push(format!("its record says completed, which its log does not: {why}"));
    }
    let (status, reason, error, exit) =
        (record.status, record.reason, record.error, record.ending.exit);
    Outcome { status, reason, error, exit, ..outcome }
}

/// Makes sure that no process recovers a job whose verdict another process has written. The verdict
/// itself stays: notifications of it may have been sent. The caller holds the lock.
fn mark_killed(dir: &JobDir, mut record: Record) -> Record {
    if let Ok((mut events, last_seq)) = dir.open_events() {
        record.last_seq = record.last_seq.max(last_seq) + 1;
        let entry = EventLine {
            seq: record.last_seq,
            at: crate::clock::now(),
            attempt: record.attempt.number,
            kind: EventKind::KillRequested,
        };
        let _ = append(&mut events, &entry);
    }
    // Earlier versions know only this field.
    record.ending.killed_after_end |= !record.spec.retry.no_recover;
    record.spec.retry.no_recover = true;
    let _ = dir.save(&record, false);
    record
}

/// Removes the events of the end that are logged already: a process that wrote them may have died
/// before it saved the record.
fn remove_logged(dir: &JobDir, attempt: u32, entries: &mut Vec<EventLine>) {
    let (mut is_lost, mut is_finished) = (false, false);
    for logged in dir.json_lines::<LoggedEvent>(EVENTS, 0) {
        if logged.attempt != attempt {
            continue;
        }
        match logged.event.as_str() {
            "lost" => is_lost = true,
            "finished" => is_finished = is_lost,
            _ => {}
        }
    }
    entries.retain(|entry| match entry.kind {
        EventKind::Lost => !is_lost,
        EventKind::Finished { .. } => !is_finished,
        _ => true,
    });
}

/// Writes the end: the result, the record, and then the notification. If the result or the record
/// cannot be written, the next process that reads the job reaches the same verdict. A notification
/// that is not recorded is due by the record.
fn write_end(
    dir: &JobDir,
    record: &Record,
    outcome: Option<Outcome>,
    mut events: Option<File>,
    entries: &[EventLine],
    at: Timestamp,
) {
    if let Some(events) = &mut events {
        for entry in entries {
            let _ = append(events, entry);
        }
    }
    fault_point("settle:told");
    if let Some(outcome) = outcome {
        let _ = dir.save_outcome(&outcome, Some(record));
    }
    let queue = Queue::for_jobs_dir(dir.root());
    queue.remove_stale_tickets(&record.job_id);
    queue.remove_pause_of(&record.job_id);
    if dir.save_end(record).is_err() {
        return;
    }
    fault_point("settle:saved");
    if let Some(event) = NotifyEvent::from_status(record.status)
        && !matches!(dir.record_due(&record.spec, event, record.attempt.number, at), Ok(false))
    {
        spawn_notifier(dir);
    }
}

/// Continues a job with an engine whose earlier owner is gone; this process owns it by a claim, and its
/// files begin as a copy of the owner's. Returns the record of the next attempt, or, if the job has
/// ended by its log or `is_killed`, its final record: then `load` returns that as well, unless a
/// successor has claimed the job.
pub(crate) fn take_over(
    dir: &JobDir,
    lock: &Lock,
    engine: Option<EngineRef>,
    is_killed: bool,
) -> Result<Record, LoadError> {
    let until = Instant::now() + SWEEP_TIMEOUT;
    let mut record = dir.load()?;
    if is_killed {
        return kill_claimed(dir, lock, record, until);
    }
    if !record.status.is_live() {
        record.begin_recovery();
    } else if record.worker.pid.is_some() {
        let before = record.clone();
        let mut lost = conclude_lost(dir, record, None, FileUse::Continue, true, until);
        if !lost.record.is_cut_off() {
            return Ok(write_lost_verdict(dir, before, None, Some(lock), until));
        }
        lost.entries.retain(|entry| matches!(entry.kind, EventKind::Lost));
        for entry in &lost.entries {
            if let Some(events) = &mut lost.events {
                let _ = append(events, entry);
            }
        }
        // What the cut-off attempt has answered counts for the next one.
        dir.save_outcome(&lost.outcome, None)?;
        record = lost.record;
        record.begin_recovery();
    }
    record.set_host();
    record.worker.pid = None;
    record.worker.pid_start_time = None;
    record.worker.engine = engine;
    record.attempt.log_start = dir.length(OUTPUT);
    dir.save(&record, false)?;
    Ok(record)
}

/// Ends a job that this process has claimed in order to kill it.
fn kill_claimed(
    dir: &JobDir,
    lock: &Lock,
    record: Record,
    until: Instant,
) -> Result<Record, LoadError> {
    if record.status.is_live() {
        return Ok(write_lost_verdict(dir, record, Some(Verdict::Killed), Some(lock), until));
    }
    let record = mark_killed(dir, record);
    dir.save_end(&record)?;
    Ok(record)
}

fn append(events: &mut File, entry: &EventLine) -> std::io::Result<()> {
    events.write_all((serde_json::to_string(entry)? + "\n").as_bytes())
}

/// Closes the inbox and returns the messages that were not delivered.
fn collect_undelivered(dir: &JobDir, taken_in: (&[String], &[String])) -> Vec<UndeliveredMessage> {
    // The worker may have died between the end of a turn and the removal of its messages.
    for item in dir.aside_items() {
        if is_one_of(&item, taken_in.0) {
            dir.remove_message(item.number);
        }
    }
    let items = dir.close_inbox().unwrap_or_default();
    store::undelivered_messages(sort_messages(dir, items, taken_in))
}

/// Removes the messages of completed turns, sets those of an interrupted turn aside, and returns the
/// others.
fn sort_messages(
    dir: &JobDir,
    mut items: Vec<InboxItem>,
    (done, interrupted): (&[String], &[String]),
) -> Vec<InboxItem> {
    items.retain(|item| {
        if is_one_of(item, done) {
            dir.remove_message(item.number);
            false
        } else if is_one_of(item, interrupted) {
            dir.set_aside(item.number);
            false
        } else {
            true
        }
    });
    items
}

/// Whether this is the message with one of these UUIDs.
fn is_one_of(item: &InboxItem, uuids: &[String]) -> bool {
    matches!(&item.content, Ok(InboxMessage::Message { uuid, .. }) if uuids.contains(uuid))
}

/// Reads the evidence in `events.ndjson` for the end of this attempt.
fn read_witnessed(dir: &JobDir, attempt: u32) -> LoggedEvents {
    let mut witnessed = LoggedEvents::default();
    for logged in dir.json_lines::<LoggedEvent>(EVENTS, 0) {
        if logged.attempt != attempt {
            continue;
        }
        witnessed.add(&logged.event, logged.exit);
    }
    witnessed
}

/// The fields of a line of `events.ndjson` that are needed here.
#[derive(serde::Deserialize)]
struct LoggedEvent {
    attempt: u32,
    event: String,
    #[serde(default)]
    exit: Option<Exit>,
}

/// Reads the attempt's part of the log.
fn replay_log(dir: &JobDir, log_start: u64, post_mortem: &mut PostMortem) -> std::io::Result<()> {
    let Ok(Some(log)) = dir.open(OUTPUT) else { return Ok(()) };
    store::each_line(&log, log_start..u64::MAX, |line| {
        if line.is_complete {
            post_mortem.line(line.text);
        } else {
            post_mortem.torn_line(line.text);
        }
        true
    })
}
