//! Workers and callers of two versions of the program in one jobs directory. Files that both use
//! while a job is live (the lock, the queue, the inbox) must mean the same to both.
//!
//! `CLAUDEJOB_OTHER_VERSION=/path/to/claudejob cargo test --test versions -- --ignored`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::processes::send;
use support::{Answer, Sandbox, await_file, eventually};

/// Ends its first turn at once and answers each message; a job that is not kept alive waits for a
/// file named after it.
const SCRIPT: &str = "session\nread\ninit\ntouch begun\nwait-file go\nresult one\nhear-all heard";

/// The two programs: `old` runs the workers and `new` makes the calls, or the other way round.
struct Programs<'a> {
    sandbox: &'a Sandbox,
    worker: PathBuf,
    caller: PathBuf,
}

impl Programs<'_> {
    #[track_caller]
    fn run(&self, program: &Path, arguments: &[&str]) -> Answer {
        let known = self.sandbox.command(arguments);
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.sandbox.work()).args(arguments);
        command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // Another version need not follow the schemas of this one.
        let output = command.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Answer {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn call(&self, arguments: &[&str]) -> Answer {
        let answer = self.run(&self.caller, arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:#?}");
        answer
    }

    /// Starts a job of one slot in a directory of its own, where its claude works.
    #[track_caller]
    fn start(&self, program: &Path, id: &str, options: &[&str]) -> Answer {
        let cwd = self.cwd(id);
        fs::create_dir_all(&cwd).unwrap();
        let start = ["start", id, "--prompt", "work", "--cwd", cwd.to_str().unwrap()];
        let answer = self.run(program, &[&start, options].concat());
        assert_eq!(answer.code, 0, "{answer:#?}");
        answer
    }

    fn cwd(&self, id: &str) -> PathBuf {
        self.sandbox.path(&format!("work/{id}"))
    }

    fn await_start(&self, id: &str) {
        await_file(&self.cwd(id).join("begun"));
    }

    fn release(&self, id: &str) {
        fs::write(self.cwd(id).join("go"), "").unwrap();
    }

    #[track_caller]
    fn await_status(&self, id: &str, status: &str) {
        eventually(&format!("{id} to be {status}"), || {
            (self.call(&["status", id])["status"] == status).then_some(())
        });
    }

    #[track_caller]
    fn completed(&self, id: &str) {
        self.release(id);
        for program in [&self.worker, &self.caller] {
            let end = self.run(program, &["wait", id, "--timeout", "1m"]);
            end.expect_end(0, "completed", None);
        }
    }
}

fn other_version() -> PathBuf {
    env::var_os("CLAUDEJOB_OTHER_VERSION").expect("CLAUDEJOB_OTHER_VERSION names a program").into()
}

/// Sends to a job, queues beside it, kills one and recovers one, each across the two versions.
fn work_together(worker: PathBuf, caller: PathBuf) {
    let sandbox = Sandbox::new(SCRIPT);
    let both = Programs { sandbox: &sandbox, worker, caller };
    let slots = ["--max-parallel", "2"];

    // A conversation.
    both.start(&both.worker, "talk", &["--keep-alive", "--max-parallel", "2"]);
    both.release("talk");
    both.await_status("talk", "idle");
    let answer = both.call(&["send", "talk", "--message", "two", "--wait", "1m"]);
    assert_eq!(answer["turn"]["result"], "heard two", "{answer:#?}");

    // The queue: both slots are taken, and the jobs of both versions wait in one order.
    both.start(&both.worker, "first", &slots);
    both.await_start("first");
    let queued = |program: &Path, id| both.start(program, id, &slots)["status"].clone();
    assert_eq!(queued(&both.caller, "second"), "queued");
    assert_eq!(queued(&both.worker, "third"), "queued");
    for program in [&both.worker, &both.caller] {
        let position = |id| both.run(program, &["status", id])["position"].clone();
        assert_eq!((position("second"), position("third")), (json!(1), json!(2)));
    }
    both.completed("first");
    both.await_start("second");
    assert_eq!(both.call(&["status", "third"])["status"], "queued");

    // A kill of a running job, and the slot that it frees.
    let killed = both.call(&["kill", "talk"]);
    assert_eq!((&killed["killed"], &killed["status"]), (&json!(true), &json!("killed")));
    both.await_start("third");
    sandbox.assert_nothing_left("talk");
    both.completed("second");

    // A worker that dies: the other version writes its end and recovers it.
    let pid = both.call(&["status", "third"])["pid"].as_i64().unwrap();
    send(i32::try_from(pid).unwrap(), Signal::SIGKILL);
    both.await_status("third", "failed");
    assert_eq!(both.call(&["status", "third"])["reason"], "worker_died");
    fs::remove_file(both.cwd("third").join("begun")).unwrap();
    assert_eq!(both.call(&["recover", "third"])["attempt"], 2);
    both.await_start("third");
    both.completed("third");

    // A job that has completed is resumed by the other version.
    let resumed = both.call(&["resume", "second", "--message", "three"]);
    assert_eq!(resumed["attempt"], 2, "{resumed:#?}");
    both.completed("second");
    let jobs = both.call(&["list", "--all"]);
    assert_eq!(jobs.json.as_array().map(Vec::len), Some(4));
    assert_eq!(both.call(&["clean", "--keep", "0"])["removed"], 4);
    let jobs: Value = both.run(&both.worker, &["list", "--all"]).json;
    assert_eq!(jobs, json!([]));
}

#[test]
#[ignore = "needs another version of the program: CLAUDEJOB_OTHER_VERSION"]
fn new_callers_work_with_old_workers() {
    work_together(other_version(), env!("CARGO_BIN_EXE_claudejob").into());
}

#[test]
#[ignore = "needs another version of the program: CLAUDEJOB_OTHER_VERSION"]
fn old_callers_work_with_new_workers() {
    work_together(env!("CARGO_BIN_EXE_claudejob").into(), other_version());
}

#[test]
#[ignore = "needs another version of the program: CLAUDEJOB_OTHER_VERSION"]
fn an_old_worker_refuses_what_it_does_not_know() {
    let sandbox = Sandbox::new(SCRIPT);
    let caller: PathBuf = env!("CARGO_BIN_EXE_claudejob").into();
    let both = Programs { sandbox: &sandbox, worker: other_version(), caller };
    let one = ["--max-parallel", "1"];
    both.start(&both.worker, "first", &one);
    both.await_start("first");
    both.start(&both.worker, "second", &one);

    // A later version may know the requests.
    let update = both.run(&both.caller, &["update", "second", "--priority", "1"]);
    if update.code != 0 {
        assert_eq!((update.code, &update["code"]), (1, &json!("not_queued")), "{update:#?}");
    }
    let paused = both.run(&both.caller, &["pause", "first", "--stop"]);
    if paused.code != 0 {
        assert_eq!((paused.code, &paused["stopped"]), (1, &json!([])), "{paused:#?}");
        assert_eq!(paused["failed"][0]["code"], "not_frozen", "{paused:#?}");
    }
    both.call(&["unpause", "--all"]);
    both.completed("first");
    both.completed("second");
}
