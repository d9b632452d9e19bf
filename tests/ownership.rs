//! Which worker owns a job with an engine: workers of two machines that share the jobs directory, some
//! of them killed, frozen, revived or superfluous. Machines are names here, and locks are not trusted
//! between two of them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::machines::Machine;
use support::processes::{is_alive, is_stopped, kill, processes_of, program_of, send};
use support::{Sandbox, await_file, eventually};

/// Each claude adds a line to `begun`, and works until the file `go` exists.
const GATED: &str = "append $DIR/begun x\ninit\nread $DIR/heard\ntouch $DIR/up\n\
    wait-file $DIR/go\nresult Done.";
/// Milliseconds of a lease: renewal, expiry, stillness. Longer than any test.
const LEASE: &str = "100 300000 600000";
/// The variable with these times, of a sandbox in which a successor waits for the stillness.
const LEASE_VARIABLE: &str = "CLAUDEJOB_TEST_LEASE";
/// Its value: long enough for a busy machine.
const SHORT_LEASE: &str = "100 10000 12000";

/// Creates a job with an engine, as a caller of `start` does before it submits the job.
fn submit(sandbox: &Sandbox) -> PathBuf {
    sandbox.start("like", &["--start-delay", "1h"]);
    let text = fs::read_to_string(sandbox.job("like").join("meta.json")).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    sandbox.run(["kill", "like"]).expect_end(0, "killed", None);
    record["jobId"] = "j".into();
    record["status"] = "queued".into();
    for field in ["pid", "pidStartTime", "waitingFor", "bootId", "host", "machineId", "detached"] {
        record[field] = Value::Null;
    }
    record.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    record["spec"]["startDelayMs"] = 0.into();
    record["spec"]["engine"] = json!({"kind": "slurm"});
    let job = sandbox.job("j");
    fs::DirBuilder::new().mode(0o700).create(&job).unwrap();
    for (name, text) in [("meta.json", record.to_string()), ("prompt.txt", "work".to_owned())] {
        fs::write(job.join(name), text).unwrap();
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(job.join("lock")).unwrap();
    job
}

/// A worker that an engine starts as a batch process. It is killed if it outlives the test.
struct Batch(Child);

impl Batch {
    fn command(sandbox: &Sandbox, machine: &str, engine_job: &str) -> Command {
        let job = sandbox.job("j");
        let mut command = sandbox.command(["worker-here".as_ref(), job.as_os_str()]);
        command.env("CLAUDEJOB_TEST_MACHINE", machine);
        Self::with_variables(command, machine, engine_job)
    }

    fn start_on(sandbox: &Sandbox, machine: &Machine, name: &str) -> Self {
        let job = sandbox.job("j");
        let command = machine.command(sandbox, ["worker-here".as_ref(), job.as_os_str()]);
        Self(Self::with_variables(command, name, "7").spawn().unwrap())
    }

    fn with_variables(mut command: Command, machine: &str, engine_job: &str) -> Command {
        if command.get_envs().all(|(name, _)| name != LEASE_VARIABLE) {
            command.env(LEASE_VARIABLE, LEASE);
        }
        command
            .env("SLURM_JOB_ID", engine_job)
            .env("SLURMD_NODENAME", machine)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn start(sandbox: &Sandbox, machine: &str) -> Self {
        Self(Self::command(sandbox, machine, "7").spawn().unwrap())
    }

    /// Starts a worker, and stops it at a fault point.
    fn stop_at(sandbox: &Sandbox, machine: &str, engine_job: &str, point: &str) -> Self {
        let reached = sandbox.path(&format!("{machine}-{}", point.replace(':', "-")));
        let mut command = Self::command(sandbox, machine, engine_job);
        command.env("CLAUDEJOB_STOP_AT", point).env("CLAUDEJOB_STOP_FILE", &reached);
        let batch = Self(command.spawn().unwrap());
        eventually(point, || is_stopped(batch.pid()).then_some(()));
        assert!(reached.exists());
        batch
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn send(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the exit status; `None` after a signal.
    fn exits(mut self) -> Option<i32> {
        let status = eventually("the worker's end", || self.0.try_wait().unwrap());
        status.code()
    }

    fn kill(self) {
        kill(self.pid());
        assert_eq!(self.exits(), None);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The record of the epoch with this number.
fn record_of(sandbox: &Sandbox, epoch: u32) -> Option<Value> {
    record_in(&sandbox.job("j"), epoch)
}

fn record_in(job: &Path, epoch: u32) -> Option<Value> {
    let path = job.join(format!("epochs/{epoch}/meta.json"));
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Waits until the claude of an epoch works, and returns its process id.
fn claude_of(sandbox: &Sandbox, epoch: u32) -> i32 {
    let claude = eventually("claude", || {
        let record = record_of(sandbox, epoch)?;
        // The record is a copy of the predecessor's at first.
        let is_own = record["status"] == "running" && record["attempt"] == epoch;
        if is_own { record["claudePid"].as_i64() } else { None }
    });
    await_file(&sandbox.path("up"));
    i32::try_from(claude).unwrap()
}

fn begun(sandbox: &Sandbox) -> usize {
    fs::read_to_string(sandbox.path("begun")).unwrap_or_default().lines().count()
}

/// The entries of a job that are an end.
fn ends(sandbox: &Sandbox) -> Vec<Value> {
    ends_in(&sandbox.job("j"))
}

fn ends_in(job: &Path) -> Vec<Value> {
    let mut ends = Vec::new();
    for number in 1.. {
        let path = job.join(format!("epochs/{number}.json"));
        let Ok(text) = fs::read_to_string(path) else { return ends };
        let entry: Value = serde_json::from_str(&text).unwrap();
        if entry["claim"].is_null() {
            ends.push(entry["status"].clone());
        }
    }
    ends
}

#[track_caller]
fn assert_completed(sandbox: &Sandbox) {
    assert_eq!(sandbox.status("j").text("status"), "completed");
    assert_eq!(sandbox.run(["result", "j"]).text("result"), "Done.");
    let list = sandbox.run(["list", "--all", "--status", "completed"]);
    assert_eq!(list.json[0]["jobId"], "j", "{list:?}");
}

#[test]
fn a_worker_runs_the_job_and_exits_by_its_end() {
    for (script, code, status) in [
        ("append $DIR/begun x\ninit\nread\nresult Done.", 0, "completed"),
        ("append $DIR/begun x\ninit\nread\nexit 3", 1, "failed"),
    ] {
        let sandbox = Sandbox::new(script);
        submit(&sandbox);
        assert_eq!(sandbox.status("j").text("status"), "queued");

        assert_eq!(Batch::start(&sandbox, "one").exits(), Some(code));

        assert_eq!(sandbox.status("j").text("status"), status);
        // The engine starts it again.
        assert_eq!(Batch::start(&sandbox, "two").exits(), Some(code));
        assert_eq!((begun(&sandbox), ends(&sandbox)), (1, vec![json!(status)]));
        sandbox.assert_nothing_left("j");
    }
}

#[test]
fn a_killed_job_is_not_started_again() {
    let sandbox = Sandbox::new(GATED);
    submit(&sandbox);
    let worker = Batch::start(&sandbox, "one");
    let claude = claude_of(&sandbox, 1);
    worker.send(Signal::SIGUSR1);
    assert_eq!(worker.exits(), Some(3));
    assert!(!is_alive(claude));
    assert_eq!(sandbox.status("j").text("status"), "killed");
    assert_eq!(Batch::start(&sandbox, "one").exits(), Some(3));
    assert_eq!((begun(&sandbox), ends(&sandbox)), (1, vec![json!("killed")]));
}

#[test]
fn a_terminated_job_continues_when_it_is_requeued() {
    let sandbox = Sandbox::new(GATED);
    submit(&sandbox);
    let worker = Batch::start(&sandbox, "one");
    claude_of(&sandbox, 1);
    worker.send(Signal::SIGTERM);
    assert_eq!(worker.exits(), Some(1));
    assert_eq!(sandbox.status("j").text("reason"), "terminated");

    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(Batch::start(&sandbox, "two").exits(), Some(0));

    assert_completed(&sandbox);
    assert_eq!((begun(&sandbox), ends(&sandbox)), (2, vec![json!("failed"), json!("completed")]));
    assert_eq!(record_of(&sandbox, 3).unwrap()["attempt"], 2);
}

#[test]
fn a_successor_on_the_same_machine_begins_at_once() {
    let sandbox = Sandbox::new(GATED);
    submit(&sandbox);
    let worker = Batch::start(&sandbox, "one");
    let first = claude_of(&sandbox, 1);
    let log_of = |epoch: u32| {
        let path = sandbox.job("j").join(format!("epochs/{epoch}/output.log"));
        fs::read_to_string(path).unwrap_or_default()
    };
    eventually("the log", || log_of(1).contains("init").then_some(()));
    worker.kill();
    assert_eq!(
        sandbox.status("j").text("status"),
        "running",
        "its engine knows whether it is lost"
    );

    let worker = Batch::start(&sandbox, "one");
    claude_of(&sandbox, 2);
    assert!(!is_alive(first));
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(worker.exits(), Some(0));

    assert_completed(&sandbox);
    assert_eq!((begun(&sandbox), ends(&sandbox)), (2, vec![json!("completed")]));
    let record = record_of(&sandbox, 2).unwrap();
    assert_eq!((&record["attempt"], &record["engine"]["id"]), (&json!(2), &json!("7")));
    let log = log_of(2);
    assert_eq!(log.matches("\"subtype\":\"init\"").count(), 2, "the copy goes on: {log}");
}

#[test]
fn a_worker_waits_for_one_that_lives_elsewhere() {
    let sandbox = Sandbox::new(GATED);
    submit(&sandbox);
    let worker = Batch::start(&sandbox, "one");
    claude_of(&sandbox, 1);
    let waiting = Batch::stop_at(&sandbox, "two", "7", "here:waits");
    waiting.send(Signal::SIGCONT);
    // The owner belongs to another job of the engine, which need not be waited for.
    let other = Batch::command(&sandbox, "three", "8").spawn().unwrap();
    assert_eq!(Batch(other).exits(), Some(76));

    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(worker.exits(), Some(0));
    assert_eq!(waiting.exits(), Some(0), "it exits by the end of the job");
    assert_completed(&sandbox);
    assert_eq!((begun(&sandbox), ends(&sandbox)), (1, vec![json!("completed")]));
}

#[test]
fn a_revived_owner_is_fenced() {
    let mut sandbox = Sandbox::new(GATED);
    sandbox.set(LEASE_VARIABLE, SHORT_LEASE);
    submit(&sandbox);
    let frozen = Batch::start(&sandbox, "one");
    let claude = claude_of(&sandbox, 1);
    // The machine is suspended, with all its processes.
    for pid in [frozen.pid(), claude] {
        send(pid, Signal::SIGSTOP);
        eventually("the stop", || is_stopped(pid).then_some(()));
    }
    let worker = Batch::start(&sandbox, "two");
    claude_of(&sandbox, 2);
    assert_eq!(sandbox.status("j").text("host"), "two");
    fs::write(sandbox.path("go"), "").unwrap();

    for pid in [claude, frozen.pid()] {
        send(pid, Signal::SIGCONT);
    }
    assert_eq!(frozen.exits(), Some(76));
    assert!(!is_alive(claude));
    assert_eq!(worker.exits(), Some(0));
    assert_completed(&sandbox);
    assert_eq!(ends(&sandbox), [json!("completed")]);
    sandbox.assert_nothing_left("j");
}

#[test]
fn a_late_verdict_does_not_count() {
    let mut sandbox = Sandbox::new("append $DIR/begun x\ninit\nread\nresult Done.");
    sandbox.set(LEASE_VARIABLE, SHORT_LEASE);
    submit(&sandbox);
    // Its claude has ended, and the verdict is written, but not published.
    let late = Batch::stop_at(&sandbox, "one", "7", "end:outcome-saved");
    assert_eq!(sandbox.status("j").text("status"), "running");

    assert_eq!(Batch::start(&sandbox, "two").exits(), Some(0));
    assert_completed(&sandbox);
    late.send(Signal::SIGCONT);
    assert_eq!(late.exits(), Some(76));
    assert_completed(&sandbox);
    assert_eq!(ends(&sandbox), [json!("completed")]);
}

#[test]
fn a_worker_killed_at_any_step_has_a_successor() {
    for point in [
        "here:claimed",
        "here:copied",
        "here:began",
        "worker:began",
        "worker:launched",
        "worker:logged",
        "worker:swept",
        "inbox:closed",
        "end:outcome-saved",
        "end:linked",
    ] {
        let mut sandbox = Sandbox::new("append $DIR/begun x\ninit\nread\nresult Done.");
        // One that has not yet locked its files is known to have ended only by its lease.
        sandbox.set(LEASE_VARIABLE, SHORT_LEASE);
        submit(&sandbox);
        let worker = Batch::stop_at(&sandbox, "one", "7", point);
        let before = sandbox.status("j").text("status").to_owned();
        worker.kill();
        assert_eq!(sandbox.status("j").text("status"), before, "{point}");

        assert_eq!(Batch::start(&sandbox, "one").exits(), Some(0), "{point}");

        assert_completed(&sandbox);
        assert_eq!(ends(&sandbox), [json!("completed")], "{point}");
        assert!(begun(&sandbox) <= 2, "{point}");
        sandbox.assert_nothing_left("j");
    }
}

#[test]
fn a_message_reaches_the_successor_once() {
    let script = "append $DIR/begun x\ninit\nread\ntouch $DIR/up\nhear $DIR/heard\nhear $DIR/heard\nresult Done.";
    let sandbox = Sandbox::new(script);
    submit(&sandbox);
    let worker = Batch::start(&sandbox, "one");
    claude_of(&sandbox, 1);
    let sent = sandbox.run(["send", "j", "--message", "first"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    // The worker has seen that claude accepted the message.
    await_file(&sandbox.job("j").join("epochs/1/inbox.taken/0000000001.json"));
    worker.kill();
    let sent = sandbox.run(["send", "j", "--message", "second"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    sandbox.script("append $DIR/begun x\ninit\nread\nhear $DIR/heard\nresult Done.");
    let worker = Batch::start(&sandbox, "one");
    assert_eq!(worker.exits(), Some(0));
    let heard = fs::read_to_string(sandbox.path("heard")).unwrap();
    assert_eq!(heard.lines().collect::<Vec<_>>(), ["first", "second"]);
    assert_completed(&sandbox);
}

#[test]
fn reads_the_variables_of_the_file_on_its_machine() {
    let sandbox = Sandbox::new("init\nread\nenv $DIR/env\nresult Done.");
    let job = submit(&sandbox);
    let variables = sandbox.path("variables");
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(&variables).unwrap();
    fs::write(&variables, "# a login\nMY_KEY=\"two words\"\n").unwrap();
    let path = job.join("meta.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["spec"]["engine"]["envFile"] = variables.to_str().unwrap().into();
    fs::write(&path, record.to_string()).unwrap();

    assert_eq!(Batch::start(&sandbox, "one").exits(), Some(0));

    let variables = fs::read_to_string(sandbox.path("env")).unwrap();
    let variables: Value = serde_json::from_str(&variables).unwrap();
    assert_eq!(variables["MY_KEY"], "two words");
    for path in [job.join("meta.json"), job.join("epochs/1/meta.json"), job.join("epochs/1.json")] {
        assert!(!fs::read_to_string(path).unwrap().contains("two words"));
    }
}

#[test]
#[ignore = "needs root and bindfs"]
fn an_owner_without_the_file_server_ends_claude() {
    let mut sandbox = Sandbox::new(GATED);
    sandbox.set(LEASE_VARIABLE, SHORT_LEASE);
    let shared = sandbox.path("shared");
    fs::DirBuilder::new().mode(0o700).create(&shared).unwrap();
    let (job, seen) = (submit(&sandbox), shared.join("j"));
    fs::rename(job, &seen).unwrap();
    // The network's file system is mounted there.
    fs::remove_dir_all(sandbox.jobs()).unwrap();
    let [one, two] =
        ["host-one", "host-two"].map(|host| Machine::on_network(&sandbox, host, &shared));
    let claudes = || -> Vec<i32> {
        let mut processes = processes_of(&sandbox.job("j"));
        processes.retain(|pid| program_of(*pid).ends_with("fake-claude") && is_alive(*pid));
        processes
    };
    let lost = Batch::start_on(&sandbox, &one, "host-one");
    await_file(&sandbox.path("up"));
    let [claude] = claudes()[..] else { panic!("{:?}", claudes()) };

    send(one.file_server(), Signal::SIGSTOP);
    let worker = Batch::start_on(&sandbox, &two, "host-two");
    // The worker itself remains until the server has answered its requests.
    eventually("the fence", || (!is_alive(claude)).then_some(()));
    eventually("the successor", || {
        let record = record_in(&seen, 2)?;
        (record["status"] == "running" && record["attempt"] == 2).then_some(())
    });
    assert_eq!(claudes().len(), 1);
    send(one.file_server(), Signal::SIGCONT);
    assert_eq!(lost.exits(), Some(76));
    fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(worker.exits(), Some(0));
    let list = two.run(&sandbox, ["list", "--all", "--status", "completed"]);
    assert_eq!(list.json[0]["jobId"], "j", "{list:?}");
    assert_eq!((begun(&sandbox), ends_in(&seen)), (2, vec![json!("completed")]));
}
