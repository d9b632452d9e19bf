//! Jobs of another machine in a directory that machines share, and of a container that is gone.
//! Machines are namespaces, and the network's file system is FUSE, by bindfs: both need root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::machines::Machine;
use support::{Answer, Sandbox, await_file};

/// Works until the file `go` exists.
const GATED: &str = "init\nread\ntouch $DIR/up\nwait-file $DIR/go\nresult Done.";

/// A sandbox and the directory that its machines share.
fn network() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new(GATED);
    let shared = sandbox.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o700)).unwrap();
    (sandbox, shared)
}

#[track_caller]
fn start(machine: &Machine, sandbox: &Sandbox, id: &str) -> Answer {
    let answer = machine.run(sandbox, ["start", id, "--prompt", "work"]);
    assert_eq!((answer.code, answer.text("status")), (0, "running"), "{answer:?}");
    await_file(&sandbox.path("up"));
    answer
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    assert_eq!((answer.code, answer.text("code")), (1, "other_host"), "{answer:?}");
    assert!(answer.text("error").contains("host-"), "{answer:?}");
    assert!(answer.text("hint").starts_with("claudejob status j  # "), "{answer:?}");
}

#[test]
#[ignore = "needs root and bindfs"]
fn leaves_a_live_job_of_another_machine_alone() {
    let (sandbox, shared) = network();
    let one = Machine::on_network(&sandbox, "host-one", &shared);
    let two = Machine::on_network(&sandbox, "host-two", &shared);
    start(&one, &sandbox, "j");

    let status = two.run(&sandbox, ["status", "j"]);
    assert_eq!((status.text("status"), status.text("host")), ("running", "host-one"));
    let card = two.run(&sandbox, ["status", "j", "--plain"]).stdout;
    let names_it = |line: &str| line.split_whitespace().eq(["host", "host-one"]);
    assert!(card.lines().any(names_it), "{card}");
    assert!(status["warnings"].to_string().contains("host-one"), "{status:?}");
    let list = two.run(&sandbox, ["list"]);
    assert_eq!(list.json[0]["status"], "running");
    assert!(list.json[0]["warnings"].to_string().contains("host-one"), "{list:?}");
    let send = ["send", "j", "--message", "x"];
    for call in
        [&send[..], &["kill", "j"], &["recover", "j"], &["resume", "j"], &["interrupt", "j"]]
    {
        assert_refused(&two.run(&sandbox, call));
    }
    let all = two.run(&sandbox, ["recover", "--all"]);
    assert_eq!(all.json.to_string(), r#"{"failed":[],"recovered":[]}"#);
    let clean = two.run(&sandbox, ["clean", "j"]);
    assert_eq!(clean["left"][0]["code"], "other_host", "{clean:?}");
    assert_eq!(two.run(&sandbox, ["wait", "j", "--timeout", "200ms"]).code, 124);
    let checks = two.run(&sandbox, ["doctor"])["checks"].to_string();
    assert!(checks.contains("fuse, served by a program"), "{checks}");
    assert!(checks.contains("no job has lost its worker"), "{checks}");

    // The machine itself sees its job as usual, and the other one sees the job's end.
    let home = one.run(&sandbox, ["status", "j"]);
    assert_eq!((home.text("status"), home["warnings"].to_string()), ("running", "[]".to_owned()));
    fs::write(sandbox.path("go"), "").unwrap();
    let ended = two.run(&sandbox, ["wait", "j", "--timeout", "1m"]);
    ended.expect_end(0, "completed", None);
}

#[test]
#[ignore = "needs root and bindfs"]
fn takes_over_jobs_of_a_machine_that_is_gone() {
    let (sandbox, shared) = network();
    let one = Machine::on_network(&sandbox, "host-one", &shared);
    for id in ["j", "killed", "cleaned"] {
        start(&one, &sandbox, id);
    }
    one.end();
    let two = Machine::on_network(&sandbox, "host-two", &shared);
    assert_eq!(two.run(&sandbox, ["status", "j"]).text("status"), "running");

    let status = two.run(&sandbox, ["status", "j", "--force-host"]);
    assert_eq!(
        (status.text("status"), status.text("reason")),
        ("failed", "host_restarted"),
        "{status:?}"
    );
    assert!(status["warnings"].to_string().contains("host-one"), "{status:?}");
    let killed = two.run(&sandbox, ["kill", "killed", "--force-host"]);
    assert_eq!((killed.code, killed.text("status")), (0, "killed"), "{killed:?}");
    let cleaned = two.run(&sandbox, ["clean", "cleaned", "--force-host"]);
    assert_eq!(cleaned["jobs"][0], "cleaned", "{cleaned:?}");

    let recovered = two.run(&sandbox, ["recover", "j"]);
    assert_eq!((recovered.code, &recovered["attempt"]), (0, &2.into()), "{recovered:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    two.run(&sandbox, ["wait", "j", "--timeout", "1m"]).expect_end(0, "completed", None);
    assert_eq!(two.run(&sandbox, ["status", "j"]).text("host"), "host-two");
}

#[test]
#[ignore = "needs root and bindfs"]
fn one_machine_wins_the_recovery_of_a_job() {
    let (sandbox, shared) = network();
    let before = Machine::on_network(&sandbox, "host-one", &shared);
    start(&before, &sandbox, "j");
    before.end();
    let [one, two] =
        ["host-one", "host-two"].map(|host| Machine::on_network(&sandbox, host, &shared));
    assert_eq!(one.run(&sandbox, ["status", "j"]).text("status"), "failed");
    // The other machine is about to launch the next attempt, and no record says so yet.
    fs::write(shared.join("j/.attempt-2"), "host-one\nsome id\n").unwrap();

    assert_refused(&two.run(&sandbox, ["recover", "j"]));
    assert_eq!(two.run(&sandbox, ["status", "j"]).text("status"), "failed");

    let recovered = two.run(&sandbox, ["recover", "j", "--force-host"]);
    assert_eq!((recovered.code, &recovered["attempt"]), (0, &2.into()), "{recovered:?}");
    assert_refused(&one.run(&sandbox, ["kill", "j"]));
    fs::write(sandbox.path("go"), "").unwrap();
    two.run(&sandbox, ["wait", "j", "--timeout", "1m"]).expect_end(0, "completed", None);
}

#[test]
#[ignore = "needs root and bindfs"]
fn jobs_of_a_machine_that_has_rebooted_are_lost() {
    let (sandbox, shared) = network();
    let before = Machine::on_network(&sandbox, "host-one", &shared);
    start(&before, &sandbox, "j");
    before.end();
    let after = Machine::on_network(&sandbox, "host-one", &shared);

    let status = after.run(&sandbox, ["status", "j"]);

    assert_eq!(
        (status.text("status"), status.text("reason")),
        ("failed", "host_restarted"),
        "{status:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn recovers_jobs_of_a_renamed_container() {
    let mut sandbox = Sandbox::new(GATED);
    // As container engines set it for the main process.
    sandbox.set("container", "oci");
    let program = env!("CARGO_BIN_EXE_claudejob");
    let cwd = sandbox.work();
    let main = format!(
        "cd '{}' && for id in first second; do {program} start $id --prompt work \
         >'{}'/$id.answer || exit 1; done",
        cwd.display(),
        sandbox.path("").display()
    );
    let container = Machine::container(&sandbox, "4c0ffee0", &main);
    await_file(&sandbox.path("up"));
    // The container's main process started these jobs, so they end with the container; the warning
    // is printed once.
    let [first, second] = ["first", "second"]
        .map(|id| fs::read_to_string(sandbox.path(&format!("{id}.answer"))).unwrap());
    assert!(first.contains("this container ends with its main process"), "{first}");
    assert!(!second.contains("this container ends"), "{second}");
    container.end();

    let again = Machine::container(&sandbox, "5eaf00d5", "true");
    let status = again.run(&sandbox, ["status", "first"]);
    assert_eq!(
        (status.text("status"), status.text("reason"), status.text("host")),
        ("failed", "worker_died", "4c0ffee0"),
        "{status:?}"
    );
    let recovered = again.run(&sandbox, ["recover", "--all"]);
    assert_eq!(recovered["recovered"].as_array().unwrap().len(), 2, "{recovered:?}");
    fs::write(sandbox.path("go"), "").unwrap();
    for id in ["first", "second"] {
        again.run(&sandbox, ["wait", id, "--timeout", "1m"]).expect_end(0, "completed", None);
    }
    assert_eq!(again.run(&sandbox, ["status", "first"]).text("host"), "5eaf00d5");
}
