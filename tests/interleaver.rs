//! Callers that start, send, kill, resume, recover, finish and clean at random, while processes of
//! this program are stopped and continued at random; then an oracle reads the files independently
//! of the program.
//!
//! `INTERLEAVER_SECONDS` sets the duration (default 20), `INTERLEAVER_SEED` repeats the choices of
//! a run, `INTERLEAVER_THREADS` sets the number of callers (4). With `-- --nocapture` it prints
//! what was done how often.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the figures are printed with --nocapture")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::chance::{Dice, number, seed};
use support::processes::{processes_of, program_of, send};
use support::{Answer, Sandbox, eventually};

/// A claude that works for a short time and answers every message until its input ends.
const SCRIPT: &str =
    "count-running $DIR/running\nsession\nhear\ninit\nsay hi\nnap 40\nresult one\nhear-all";
const SLOTS: usize = 6;
/// Ids that are reused.
const IDS: usize = 24;
/// Longer than any job takes to end.
const TIMEOUT: Duration = Duration::from_secs(240);
/// The longest time for which a process is stopped.
const MAX_STOP_MILLIS: u64 = 3_500;

/// The answer to a `send` or `resume`.
struct Sent {
    id: String,
    text: String,
    /// `None`: no answer, or one that does not say what happened to the message.
    accepted: Option<bool>,
}

#[derive(Default)]
struct Notes {
    sent: Mutex<Vec<Sent>>,
    /// Ids whose directory was removed at least once: its content cannot be checked.
    cleaned: Mutex<BTreeSet<String>>,
    done: Mutex<BTreeMap<String, u64>>,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    fn count(&self, what: &str) {
        *locked(&self.done).entry(what.to_owned()).or_default() += 1;
    }
}

/// One caller, which makes calls until the time is over.
fn call_at_random(sandbox: &Sandbox, notes: &Notes, caller: usize, mut dice: Dice) {
    let notified =
        format!("printf '%s\\n' \"$CLAUDEJOB_ID $CLAUDEJOB_EVENT\" >> {}", notified(sandbox));
    let mut message = 0;
    while !notes.over.load(Ordering::Relaxed) {
        let id = format!("j{}", dice.below(IDS));
        let kept = dice.below(2) == 0;
        let mut text = || {
            message += 1;
            format!("<{caller}-{message}>")
        };
        let (verb, options): (&str, Vec<String>) = match dice.below(40) {
            0..=11 => {
                let mut options = vec!["--prompt".to_owned(), "work".to_owned()];
                options.extend(["--on-event".to_owned(), notified.clone()]);
                options.extend(kept.then(|| "--keep-alive".to_owned()));
                ("start", options)
            }
            12..=22 => ("send", vec!["--message".to_owned(), text()]),
            23..=24 => ("kill", vec![]),
            25..=30 => ("resume", vec!["--message".to_owned(), text()]),
            31 => ("recover", vec![]),
            32..=36 => ("finish", vec![]),
            37 => ("clean", vec![]),
            38 => ("status", vec![]),
            _ => ("list", vec![]),
        };
        let mut arguments = vec![verb.to_owned()];
        if verb != "list" {
            arguments.push(id.clone());
        }
        arguments.extend(options);
        let mut command = sandbox.command(&arguments);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let code = answer["code"].as_str();
        notes.count(&code.map_or_else(|| verb.to_owned(), |code| format!("{verb}: {code}")));
        match verb {
            "clean" if answer["removed"] == 1 => {
                locked(&notes.cleaned).insert(id);
            }
            "send" | "resume" => {
                let accepted = match (output.status.success(), code) {
                    (true, _) => Some(true),
                    (false, Some("job_ended" | "not_found" | "not_resumable")) => Some(false),
                    _ => None,
                };
                let text = arguments.pop().unwrap();
                locked(&notes.sent).push(Sent { id, text, accepted });
            }
            _ => {}
        }
    }
}

/// Stops random processes of this program for some time each.
fn stop_at_random(sandbox: &Sandbox, notes: &Notes, mut dice: Dice) {
    while !notes.over.load(Ordering::Relaxed) {
        let ours = processes_of(&sandbox.jobs());
        let mut ours: Vec<i32> =
            ours.into_iter().filter(|pid| program_of(*pid) == "claudejob").collect();
        ours.extend(callers());
        if !ours.is_empty() {
            let pid = ours[dice.below(ours.len())];
            send(pid, Signal::SIGSTOP);
            // Mostly for a short time, and sometimes for longer than any caller waits.
            let max = if dice.below(4) == 0 { MAX_STOP_MILLIS } else { 60 };
            thread::sleep(Duration::from_millis(dice.below(max as usize) as u64));
            send(pid, Signal::SIGCONT);
            notes.count("stopped");
        }
        thread::sleep(Duration::from_millis(dice.below(20) as u64));
    }
}

/// The calls in progress.
fn callers() -> Vec<i32> {
    support::processes::children_of(std::process::id() as i32)
}

fn notified(sandbox: &Sandbox) -> String {
    sandbox.path("notified").display().to_string()
}

#[test]
fn random_calls_lose_and_duplicate_nothing() {
    let seconds = number("INTERLEAVER_SECONDS", 20);
    let seed = seed("INTERLEAVER_SEED");
    let mut sandbox = Sandbox::new(SCRIPT);
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", SLOTS.to_string());
    let (sandbox, notes) = (&sandbox, &Notes::default());
    thread::scope(|scope| {
        for caller in 0..number("INTERLEAVER_THREADS", 4) as usize {
            let dice = Dice(seed.wrapping_mul(caller as u64 + 2) | 1);
            scope.spawn(move || call_at_random(sandbox, notes, caller, dice));
        }
        scope.spawn(|| stop_at_random(sandbox, notes, Dice(seed | 1)));
        thread::sleep(Duration::from_secs(seconds));
        notes.over.store(true, Ordering::Relaxed);
    });
    println!("{:?}", locked(&notes.done));
    let max = sandbox.most_running();
    assert!(max <= SLOTS, "{max} claudes at once, with {SLOTS} slots");
    let ids: Vec<String> = fs::read_dir(sandbox.jobs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    end(sandbox, &ids);
    eventually("the notifiers", || processes_of(&sandbox.jobs()).is_empty().then_some(()));
    for id in &ids {
        check_job(sandbox, id);
    }
    check_messages(sandbox, notes);
    check_notifications(sandbox, notes, &ids);
    let new = fs::read_dir(sandbox.jobs().join(".new")).into_iter().flatten();
    assert_eq!(new.count(), 0, "unfinished jobs");
    for directory in ["waiting", "running", "lost"] {
        let left =
            fs::read_dir(sandbox.jobs().join(".queue").join(directory)).into_iter().flatten();
        assert_eq!(left.count(), 0, "{directory}");
    }
}

/// Ends all jobs. Idle ones hold slots for which others wait.
fn end(sandbox: &Sandbox, ids: &[String]) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let statuses: Vec<(&String, Answer)> =
            ids.iter().map(|id| (id, sandbox.status(id))).collect();
        let is_over = |status: &Answer| {
            ["completed", "failed", "killed", "not_found"].contains(&status.text("status"))
        };
        let open: Vec<_> = statuses.iter().filter(|(_, status)| !is_over(status)).collect();
        let Some((first, status)) = open.first() else { return };
        let events = || fs::read_to_string(sandbox.job(first).join("events.ndjson"));
        assert!(Instant::now() < until, "{first} does not end: {status:?}\n{:?}", events());
        let idle = open.iter().filter(|(_, status)| status.text("status") == "idle");
        for (id, _) in idle {
            sandbox.run(["finish", id]);
        }
        sandbox.run(["wait", first, "--timeout", "500ms"]);
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn record(sandbox: &Sandbox, id: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.job(id).join("meta.json")).unwrap()).unwrap()
}

/// Asserts that the job's own files agree with each other.
fn check_job(sandbox: &Sandbox, id: &str) {
    let record = record(sandbox, id);
    let dir = sandbox.job(id);
    let log = fs::read(dir.join("output.log")).unwrap_or_default();
    if record["status"] == "completed" {
        let start = record["logStart"].as_u64().unwrap() as usize;
        let last = String::from_utf8_lossy(&log[start..])
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .rfind(|event| event["type"] == "result");
        let interrupted = json!("error_during_execution");
        let fine = last.as_ref().is_none_or(|last| {
            last["is_error"] == false || (last["subtype"] == interrupted && is_kept_alive(&record))
        });
        // A claude that was restarted while idle has printed nothing more.
        assert!(fine && (last.is_some() || is_kept_alive(&record)), "{id}: {last:?}");
    }
    let mut seq = 0;
    for event in lines(&dir.join("events.ndjson")) {
        let next = event["seq"].as_u64().unwrap();
        assert!(next > seq, "{id}: event {next} behind {seq}");
        seq = next;
    }
    // The whole log in pieces.
    let (mut read, mut offset) = (String::new(), 0);
    loop {
        let since = offset.to_string();
        let part =
            sandbox.run(["logs", id, "--raw", "--since-offset", &since, "--max-bytes", "700"]);
        read += part.text("tail");
        let next = part["nextOffset"].as_u64().unwrap();
        if next == offset {
            break;
        }
        offset = next;
    }
    assert_eq!(read, String::from_utf8_lossy(&log), "{id}: the log in pieces");
}

fn is_kept_alive(record: &Value) -> bool {
    record["spec"]["keepAlive"] == true
}

/// Asserts that each accepted message was delivered once, or is among the undelivered ones.
fn check_messages(sandbox: &Sandbox, notes: &Notes) {
    let cleaned = locked(&notes.cleaned);
    for Sent { id, text, accepted } in locked(&notes.sent).iter() {
        let dir = sandbox.job(id);
        let log = fs::read_to_string(dir.join("output.log")).unwrap_or_default();
        let is_taken = |line: &&str| line.contains("\"isReplay\":true") && line.contains(text);
        let taken = log.lines().filter(is_taken).count();
        let waits = waiting(&dir).iter().filter(|file| file.contains(text)).count();
        match accepted {
            Some(true) if cleaned.contains(id) => assert!(taken + waits <= 1, "{id} {text}"),
            Some(true) => assert_eq!(taken + waits, 1, "{id} {text}: taken {taken}, waits {waits}"),
            Some(false) => assert_eq!(taken + waits, 0, "{id} {text}: refused"),
            None => assert!(taken + waits <= 1, "{id} {text}: taken {taken}, waits {waits}"),
        }
    }
}

/// The messages in a job's inbox, or in its result.
fn waiting(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && (name.contains("inbox") || path.parent() != Some(dir)) {
                folders.push(path);
            } else if path.parent() != Some(dir) && name.ends_with(".json") {
                found.push(fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    found
}

/// Asserts that each end was notified once.
fn check_notifications(sandbox: &Sandbox, notes: &Notes, ids: &[String]) {
    let notified = fs::read_to_string(sandbox.path("notified")).unwrap_or_default();
    let cleaned = locked(&notes.cleaned);
    for id in ids.iter().filter(|id| !cleaned.contains(*id)) {
        let ends = lines(&sandbox.job(id).join("events.ndjson"));
        let mut ends: Vec<String> = ends
            .iter()
            .filter(|event| event["event"] == "finished")
            .map(|event| event["status"].as_str().unwrap().to_owned())
            .collect();
        let of_id = |line: &str| line.strip_prefix(&format!("{id} ")).map(str::to_owned);
        let mut delivered: Vec<String> = notified.lines().filter_map(of_id).collect();
        ends.sort();
        delivered.sort();
        assert_eq!(delivered, ends, "{id}");
    }
}
