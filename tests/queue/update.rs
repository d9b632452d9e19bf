//! `update`: other priorities, slots and groups of queued jobs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::processes::{is_stopped, send};
use super::support::{Sandbox, eventually};
use super::{GATED, await_start, events, order, record, release, worker_of};

const ONE: [&str; 2] = ["--max-parallel", "1"];

/// Starts a job that holds the only slot, and these that wait for it.
fn sandbox_with_queue(waiting: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new(GATED);
    sandbox.start("first", &ONE);
    await_start(&sandbox, "first");
    for id in waiting {
        assert_eq!(sandbox.start(id, &ONE)["status"], "queued");
    }
    sandbox
}

fn ends(sandbox: &Sandbox, id: &str) {
    await_start(sandbox, id);
    release(sandbox, id);
    sandbox.wait(id).expect_end(0, "completed", None);
}

/// The names of the tickets of waiting jobs.
fn tickets(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.jobs().join(".queue/waiting")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_higher_priority_passes_the_others() {
    let sandbox = sandbox_with_queue(&["a", "b", "c"]);
    let answer = sandbox.run(["update", "c", "--priority", "5"]);
    let expected = json!({"jobId": "c", "status": "queued", "priority": 5, "maxParallel": 1,
        "group": null, "groupLimit": 1, "position": 1, "applied": "queue",
        "hint": "claudejob wait c"});
    assert_eq!((answer.code, &answer.json), (0, &expected), "{answer:?}");
    let position = |id: &str| sandbox.status(id)["position"].clone();
    assert_eq!(["c", "a", "b"].map(position), [json!(1), json!(2), json!(3)]);
    // Its rank among those of its priority stays.
    sandbox.run(["update", "c", "--priority", "0"]);
    assert_eq!(position("c"), 3);
    let text = sandbox.run(["update", "c", "--priority", "7", "--plain"]);
    let line = "Job c is number 1 in the queue: priority 7, max-parallel 1.\n";
    assert_eq!(text.stdout, line, "{text:?}");
    assert_eq!(record(&sandbox, "c")["spec"]["admission"]["priority"], 7);
    let updated = |event: &&Value| event["event"] == "updated";
    assert_eq!(events(&sandbox, "c").iter().filter(updated).count(), 3);
    // The worker removes a request after its answer.
    eventually("the removal of the requests", || {
        let mut left = fs::read_dir(sandbox.job("c").join("inbox")).unwrap().flatten();
        left.all(|entry| !entry.file_name().to_string_lossy().ends_with(".json")).then_some(())
    });
    assert_eq!(tickets(&sandbox).len(), 3);
    release(&sandbox, "first");
    for id in ["c", "a", "b"] {
        ends(&sandbox, id);
    }
    assert_eq!(order(&sandbox), ["first", "c", "a", "b"]);
    sandbox.wait("first").expect_end(0, "completed", None);
}

#[test]
fn more_slots_start_the_job_at_once() {
    let sandbox = sandbox_with_queue(&["a", "b"]);
    let answer = sandbox.run(["update", "b", "--max-parallel", "2"]);
    assert_eq!(answer["applied"], "queue", "{answer:?}");
    // The first one in the queue still holds it up.
    assert_eq!(sandbox.status("b")["status"], "queued");
    sandbox.run(["update", "a", "--max-parallel", "3"]);
    await_start(&sandbox, "a");
    sandbox.run(["update", "b", "--max-parallel", "0"]);
    await_start(&sandbox, "b");
    let late = sandbox.run(["update", "b", "--priority", "1"]);
    assert_eq!((late.code, &late["code"]), (1, &"not_queued".into()), "{late:?}");
    for id in ["first", "a", "b"] {
        release(&sandbox, id);
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn moves_jobs_to_a_group_with_a_limit() {
    let sandbox = sandbox_with_queue(&[]);
    for id in ["a", "b"] {
        sandbox.start(id, &["--max-parallel", "1", "-l", "kind=test"]);
    }
    let group = ["--set-group", "web", "--group-limit", "1", "--max-parallel", "9"];
    sandbox.run(["pause"]);
    let answer = sandbox.run([&["update", "-l", "kind=test"], &group[..]].concat());
    let jobs = answer.json.as_array().unwrap();
    assert_eq!((answer.code, jobs.len()), (0, 2), "{answer:?}");
    assert_eq!((&jobs[0]["group"], &jobs[0]["groupLimit"]), (&"web".into(), &1.into()));
    sandbox.run(["unpause"]);
    await_start(&sandbox, "a");
    assert_eq!(sandbox.status("b")["status"], "queued");
    assert_eq!(sandbox.status("b")["group"], "web");
    // It also stands in the record, for the next request.
    assert_eq!(record(&sandbox, "b")["spec"]["admission"]["group"], "web");
    release(&sandbox, "a");
    ends(&sandbox, "b");
    release(&sandbox, "first");
    for id in ["a", "first"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
}

#[test]
fn a_job_that_waits_for_others_joins_with_the_change() {
    let sandbox = sandbox_with_queue(&["a"]);
    sandbox.start("b", &["--max-parallel", "1", "--after", "a"]);
    let answer = sandbox.run(["update", "b", "--max-parallel", "7", "--priority", "-3"]);
    assert_eq!((&answer["applied"], &answer["position"]), (&"later".into(), &Value::Null));
    release(&sandbox, "first");
    ends(&sandbox, "a");
    await_start(&sandbox, "b");
    let running = fs::read_dir(sandbox.jobs().join(".queue/running")).unwrap();
    let names: Vec<String> =
        running.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let ticket = names.iter().find(|name| name.ends_with(".b")).unwrap();
    assert!(ticket.starts_with("1003.") && ticket.contains(".7."), "{ticket}");
    release(&sandbox, "b");
    sandbox.wait("b").expect_end(0, "completed", None);
    sandbox.wait("first");
}

#[test]
fn reports_each_of_several_jobs() {
    let sandbox = sandbox_with_queue(&["a"]);
    let answer = sandbox.run(["update", "a", "first", "nobody", "--priority", "3"]);
    let codes: Vec<&Value> = answer.json.as_array().unwrap().iter().map(|it| &it["code"]).collect();
    assert_eq!(codes, [&Value::Null, &"not_queued".into(), &"not_found".into()], "{answer:?}");
    assert_eq!((answer.code, &answer.json[0]["priority"]), (4, &3.into()));
    let ids = sandbox.run(["update", "a", "first", "--priority", "3", "-q"]);
    assert_eq!((ids.code, ids.stdout.as_str()), (1, "a\n"), "{ids:?}");
    // A selection is of queued jobs only.
    let all = sandbox.run(["update", "--all", "--priority", "4"]);
    assert_eq!((all.code, all.json.as_array().unwrap().len()), (0, 1), "{all:?}");
    let none = sandbox.run(["update", "-l", "x=y", "--priority", "4"]);
    assert_eq!((none.code, &none.json), (0, &json!([])));
    for wrong in [
        &["update", "a"][..],
        &["update", "--priority", "3"],
        &["update", "a", "--priority", "5000"],
    ] {
        assert_eq!(sandbox.run(wrong).code, 2, "{wrong:?}");
    }
    sandbox.run(["kill", "--all"]);
}

#[test]
fn a_stopped_worker_is_busy_and_changes_later() {
    let sandbox = sandbox_with_queue(&["a", "b"]);
    let worker = worker_of(&sandbox, "b");
    send(worker, Signal::SIGSTOP);
    eventually("the stop of b", || is_stopped(worker).then_some(()));
    let answer = sandbox.run(["update", "b", "--priority", "9"]);
    assert_eq!((answer.code, &answer["code"]), (75, &"busy".into()), "{answer:?}");
    assert!(answer.text("error").contains(&worker.to_string()), "{answer:?}");
    // The others are not affected.
    assert_eq!(sandbox.run(["update", "a", "--priority", "1"])["applied"], "queue");
    send(worker, Signal::SIGCONT);
    eventually("the change", || (sandbox.status("b")["position"] == 1).then_some(()));
    release(&sandbox, "first");
    for id in ["b", "a"] {
        ends(&sandbox, id);
    }
    assert_eq!(order(&sandbox), ["first", "b", "a"]);
    sandbox.wait("first");
}

#[test]
fn a_worker_stopped_in_an_update_keeps_the_limit() {
    let mut sandbox = sandbox_with_queue(&[]);
    let reached = sandbox.path("reached");
    sandbox.set("CLAUDEJOB_STOP_AT", "queue:replacing");
    sandbox.set("CLAUDEJOB_STOP_FILE", &reached);
    sandbox.start("a", &ONE);
    sandbox.unset("CLAUDEJOB_STOP_AT");
    sandbox.unset("CLAUDEJOB_STOP_FILE");
    sandbox.start("b", &ONE);
    // It holds the lock of the queue.
    let answer = sandbox.run(["update", "a", "--priority", "9"]);
    assert_eq!(answer["code"], "busy", "{answer:?}");
    let worker = worker_of(&sandbox, "a");
    eventually("the stop of a", || is_stopped(worker).then_some(()));
    release(&sandbox, "first");
    await_start(&sandbox, "b");
    assert!(is_stopped(worker));
    send(worker, Signal::SIGCONT);
    eventually("the change", || {
        (record(&sandbox, "a")["spec"]["admission"]["priority"] == 9).then_some(())
    });
    assert_eq!(sandbox.status("a")["status"], "queued");
    release(&sandbox, "b");
    ends(&sandbox, "a");
    assert_eq!(order(&sandbox), ["first", "b", "a"]);
    for id in ["first", "b"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    let offers = sandbox.jobs().join(".queue/called");
    assert_eq!(fs::read_dir(offers).map_or(0, Iterator::count), 0);
}
