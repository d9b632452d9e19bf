//! Several jobs in one folder.

use std::fs;
use std::os::unix::fs::symlink;

use crate::sandbox;
use crate::support::Answer;

#[track_caller]
fn assert_warned(answer: &Answer, about: Option<&str>) {
    let warnings = answer["warnings"].to_string();
    match about {
        Some(id) => assert!(warnings.contains(&format!("job {id} works in")), "{answer:?}"),
        None => assert!(!warnings.contains("same folder"), "{answer:?}"),
    }
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
fn a_start_needs_no_list_of_folders() {
    let sandbox = sandbox();
    fs::create_dir_all(sandbox.jobs()).unwrap();
    fs::write(sandbox.jobs().join(".folders"), "").unwrap();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["clean", "--keep", "0"]).code, 0);
}
