//! `rerun`: a new job with the request of another.

use std::fs;

use serde_json::Value;

use crate::support::processes::kill;
use crate::support::{Sandbox, await_file};

const SCRIPT: &str = "args $DIR/args-$JOB\nread $DIR/got-$JOB\ninit\nresult ok\neof";

fn spec(sandbox: &Sandbox, id: &str) -> Value {
    let record = fs::read_to_string(sandbox.job(id).join("meta.json")).unwrap();
    serde_json::from_str::<Value>(&record).unwrap()["spec"].take()
}

#[test]
fn repeats_the_request_as_a_new_job() {
    let sandbox = Sandbox::new(SCRIPT);
    let options = ["-m", "opus", "-l", "kind=fix", "-g", "web", "--timeout", "1h", "--", "--debug"];
    sandbox.start(
        "a",
        &[&["--start-delay", "1ms", "--append-system-prompt", "Hi"], &options[..]].concat(),
    );
    sandbox.wait("a").expect_end(0, "completed", None);
    let answer = sandbox.run(["rerun", "a", "-n", "b", "--wait"]);
    answer.expect_end(0, "completed", None);
    let (old, new) = (spec(&sandbox, "a"), spec(&sandbox, "b"));
    for (field, value) in old.as_object().unwrap() {
        match field.as_str() {
            "startDelayMs" => assert_eq!(new[field], 0),
            "rerunOf" => assert_eq!((value, &new[field]), (&Value::Null, &"a".into())),
            _ => assert_eq!(*value, new[field], "{field}"),
        }
    }
    let read = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!(read("got-a"), read("got-b"));
    assert_eq!(
        (sandbox.status("a")["rerunOf"].clone(), &sandbox.status("b")["rerunOf"]),
        (Value::Null, &"a".into())
    );
    // The first one did not change, and is a job of its own.
    assert_eq!(sandbox.status("a")["attempt"], 1);
    assert_ne!(sandbox.status("a")["sessionId"], sandbox.status("b")["sessionId"]);
}

#[test]
fn given_options_replace_those_of_the_request() {
    let sandbox = Sandbox::new(SCRIPT);
    sandbox.start("a", &["-m", "opus", "--max-turns", "3"]);
    sandbox.wait("a");
    let answer = sandbox.run(["rerun", "a", "--name", "b", "-m", "sonnet", "-p", "--other"]);
    assert_eq!((answer.code, answer.text("jobId")), (0, "b"), "{answer:?}");
    assert_eq!(answer["hint"], "claudejob wait b");
    sandbox.wait("b");
    let new = spec(&sandbox, "b");
    assert_eq!((&new["model"], &new["maxTurns"]), (&"sonnet".into(), &3.into()));
    assert_eq!(fs::read_to_string(sandbox.job("b").join("prompt.txt")).unwrap(), "--other");
    fs::write(sandbox.path("prompt"), "from a file").unwrap();
    let file = sandbox.path("prompt");
    sandbox.run(["rerun", "b", "-n", "c", "-f", file.to_str().unwrap(), "--wait"]);
    assert_eq!(fs::read_to_string(sandbox.job("c").join("prompt.txt")).unwrap(), "from a file");
    assert_eq!(spec(&sandbox, "c")["model"], "sonnet");
    // Without a name, as often as wanted.
    let ids = [0, 1].map(|_| sandbox.run(["rerun", "a"]).text("jobId").to_owned());
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        sandbox.wait(&id).expect_end(0, "completed", None);
    }
    let taken = sandbox.run(["rerun", "a", "-n", "b"]);
    assert_eq!((taken.code, &taken["code"]), (1, &"job_exists".into()));
}

#[test]
fn reruns_a_live_job_and_forgets_jobs_that_are_gone() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("first", &[]);
    sandbox.start("a", &["--after", "first", "--after-any", "first"]);
    fs::write(sandbox.path("go"), "").unwrap();
    for id in ["first", "a"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    sandbox.run(["clean", "first"]);
    fs::remove_file(sandbox.path("go")).unwrap();
    let answer = sandbox.run(["rerun", "a", "-n", "b"]);
    assert_eq!(
        answer["warnings"][0], "it does not wait for job first, which is gone",
        "{answer:?}"
    );
    let answer = sandbox.run(["rerun", "b", "-n", "c"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(!answer["warnings"].to_string().contains("gone"), "{answer:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    for id in ["b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn continues_a_session_only_as_the_request_did() {
    let sandbox =
        Sandbox::new("args $DIR/args-$JOB\nread\ninit\nwait-file $DIR/go\nresult ok\neof");
    let args = |id: &str| fs::read_to_string(sandbox.path(&format!("args-{id}"))).unwrap();
    sandbox.start("a", &["--resume", "5f1b0c55-cd42-4a23-a6a9-0fd5a2f6a6b5"]);
    let refused = sandbox.run(["rerun", "a", "-n", "b"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"not_resumable".into()), "{refused:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("a");
    sandbox.run(["rerun", "a", "-n", "b", "--wait"]).expect_end(0, "completed", None);
    assert!(args("b").contains("5f1b0c55-cd42-4a23-a6a9-0fd5a2f6a6b5"), "{}", args("b"));
    sandbox.run_job("c", &[]);
    let session = sandbox.status("c").text("sessionId").to_owned();
    sandbox.run(["rerun", "c", "-n", "d", "--wait"]).expect_end(0, "completed", None);
    assert!(!args("d").contains(&session), "{}", args("d"));
}

#[test]
fn refuses_what_cannot_be_repeated() {
    let sandbox = Sandbox::new(SCRIPT);
    let unknown = sandbox.run(["rerun", "nobody"]);
    assert_eq!((unknown.code, &unknown["code"]), (4, &"not_found".into()));
    sandbox.run_job("a", &[]);
    let file = sandbox.job("a").join("meta.json");
    let record = fs::read_to_string(&file).unwrap();
    let newer = record.replacen("\"version\":2", "\"version\":99", 1);
    assert_ne!(newer, record);
    fs::write(&file, newer).unwrap();
    let refused = sandbox.run(["rerun", "a", "-n", "b"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"not_resumable".into()), "{refused:?}");
    assert!(!sandbox.job("b").exists());
    fs::write(&file, &record).unwrap();
    fs::remove_file(sandbox.job("a").join("prompt.txt")).unwrap();
    let refused = sandbox.run(["rerun", "a", "-n", "b"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"prompt_unreadable".into()), "{refused:?}");
    assert!(!sandbox.job("b").exists());
    assert_eq!(sandbox.run(["rerun", "a", "-n", "b", "-p", "x", "--wait"]).code, 0);
    let both = sandbox.run(["rerun", "a", "-p", "x", "-f", "y"]);
    assert_eq!((both.code, &both["code"]), (2, &"usage".into()));
}

#[test]
fn a_kill_after_the_end_changes_no_request() {
    for (id, options, own) in [("a", &[][..], false), ("b", &["--no-recover"], true)] {
        let mut sandbox =
            Sandbox::new("hear\ninit\nonce $DIR/hung-$JOB hang\nresult ok\nhear-all $DIR/heard");
        let worker = sandbox.start(id, options)["pid"].as_i64().unwrap() as i32;
        await_file(&sandbox.path(&format!("hung-{id}")));
        // Another command writes the verdict while this one is about to.
        sandbox.pause_at("kill:looked", ["kill", id], |sandbox| {
            kill(worker);
            assert_eq!(sandbox.status(id)["reason"], "worker_died");
        });
        assert_eq!(spec(&sandbox, id)["noRecover"], true);
        assert_eq!(sandbox.run(["recover", id])["code"], "not_recoverable");
        let new = format!("{id}2");
        assert_eq!(sandbox.run(["rerun", id, "-n", &new]).code, 0);
        assert_eq!(spec(&sandbox, &new)["noRecover"], own);
        assert_eq!(sandbox.run(["kill", &new]).code, 0);
        assert_eq!(sandbox.run(["resume", id]).code, 0);
        sandbox.wait(id).expect_end(0, "completed", None);
        assert_eq!(spec(&sandbox, id)["noRecover"], own);
    }
}
