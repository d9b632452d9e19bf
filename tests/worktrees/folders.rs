//! Several jobs in one folder.

use std::fs;
use std::os::unix::fs::symlink;

use crate::sandbox;
use crate::support::processes::kill;
use crate::support::{Answer, Sandbox};

#[track_caller]
fn assert_warned(answer: &Answer, about: Option<&str>) {
    let warnings = answer["warnings"].to_string();
    match about {
        Some(id) => assert!(warnings.contains(&format!("job {id} works in")), "{answer:?}"),
        None => assert!(!warnings.contains("same folder"), "{answer:?}"),
    }
}

fn kill_worker(sandbox: &Sandbox, id: &str) {
    kill(i32::try_from(sandbox.status(id)["pid"].as_i64().unwrap()).unwrap());
}

#[test]
fn a_start_names_a_live_job_in_its_folder() {
    let sandbox = sandbox();
    let link = sandbox.path("link");
    symlink(sandbox.work(), &link).unwrap();
    let (link, sub) = (link.to_str().unwrap().to_owned(), sandbox.work().join("sub"));
    assert_warned(&sandbox.start("ended", &[]), None);
    sandbox.wait("ended").expect_end(0, "completed", None);
    sandbox.script("session\nread\ninit\nhang");
    assert_warned(&sandbox.start("a", &[]), None);
    assert_warned(&sandbox.start("queued", &["--start-delay", "1h"]), Some("a"));
    assert_warned(&sandbox.start("b", &["--cwd", &link]), Some("a"));
    assert_warned(&sandbox.start("sub", &["--cwd", sub.to_str().unwrap()]), None);
    assert_warned(&sandbox.start("own", &["--worktree"]), None);
    assert_eq!(sandbox.run(["kill", "a"]).code, 0);
    assert_warned(&sandbox.start("c", &[]), Some("b"));
    // A job that continues is entered again.
    assert_eq!(sandbox.run(["kill", "b", "c", "queued"]).code, 0);
    assert_warned(&sandbox.run(["resume", "a", "--message", "more"]), None);
    assert_warned(&sandbox.run(["resume", "b", "--message", "more"]), Some("a"));
    assert_eq!(sandbox.run(["kill", "a", "b", "sub", "own"]).code, 0);
    assert!(fs::read_dir(sandbox.jobs().join(".folders")).unwrap().next().is_some());
    assert_eq!(sandbox.run(["clean", "--keep", "0"]).code, 0);
    assert!(fs::read_dir(sandbox.jobs().join(".folders")).unwrap().next().is_none());
}

#[test]
fn a_recovery_repeats_no_warning_of_a_start() {
    let sandbox = sandbox();
    sandbox.script("session\nread\ninit\nhang");
    for (id, about) in [("a", None), ("b", Some("a")), ("c", Some("a"))] {
        assert_warned(&sandbox.start(id, &[]), about);
    }
    for ids in [&["a", "b", "c"][..], &["b"]] {
        ids.iter().for_each(|id| kill_worker(&sandbox, id));
        let answer = sandbox.run(["recover", "--all"]);
        let recovered = answer["recovered"].as_array().unwrap();
        assert_eq!(recovered.len(), ids.len(), "{answer:?}");
        assert!(!answer.stdout.contains("same folder"), "{answer:?}");
    }
    // Nobody was told about a job that was started while the other one was interrupted.
    kill_worker(&sandbox, "a");
    assert_eq!(sandbox.status("a")["reason"], "worker_died");
    assert_eq!(sandbox.run(["kill", "b", "c"]).code, 0);
    assert_warned(&sandbox.start("0", &[]), None);
    assert_warned(&sandbox.run(["recover", "a"]), Some("0"));
    assert_eq!(sandbox.run(["kill", "0", "a"]).code, 0);
}

#[test]
fn a_start_needs_no_list_of_folders() {
    let sandbox = sandbox();
    fs::create_dir_all(sandbox.jobs()).unwrap();
    fs::write(sandbox.jobs().join(".folders"), "").unwrap();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["clean", "--keep", "0"]).code, 0);
}
