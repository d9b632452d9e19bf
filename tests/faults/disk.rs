//! Disks that are full or read-only.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::faults::Disk;
use crate::support::processes::kill;
use crate::support::{Sandbox, await_file, eventually};
use crate::{START, WORKS};

#[test]
#[ignore = "needs root"]
fn a_full_disk_refuses_a_start_and_keeps_nothing() {
    let mut sandbox = Sandbox::new(WORKS);
    let disk = Disk::mount(sandbox.path("disk"), 256 << 10);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    fs::create_dir(disk.path("jobs")).unwrap();
    fs::set_permissions(disk.path("jobs"), fs::Permissions::from_mode(0o700)).unwrap();
    disk.fill();
    let refused = sandbox.run(START);
    assert_eq!((refused.code, &refused["code"]), (1, &"no_space".into()), "{refused:?}");
    let left: Vec<_> = fs::read_dir(disk.path("jobs")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".new"), "{left:?}");
    fs::remove_file(disk.path("filler")).unwrap();
    assert_eq!(sandbox.run(START).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_during_a_job_is_reported() {
    for (end, code, status) in [("result ok\neof", 0, "completed"), ("hang", 3, "killed")] {
        let script = format!(
            "read\ninit\ntouch $DIR/up\nwait-file $DIR/go\nfill 300000 1\n\
             touch $DIR/filled\n{end}"
        );
        let mut sandbox = Sandbox::new(&script);
        let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
        sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
        sandbox.run(START);
        await_file(&sandbox.path("up"));
        disk.fill_beside(&sandbox, "j");
        fs::write(sandbox.path("go"), "").unwrap();
        await_file(&sandbox.path("filled"));
        if status == "killed" {
            eventually("the warning", || {
                (!sandbox.status("j")["warnings"][0].is_null()).then_some(())
            });
            assert_eq!(sandbox.run(["kill", "j"])["killed"], true);
        }
        let answer = sandbox.wait("j");
        assert_eq!((answer.code, &answer["status"]), (code, &status.into()), "{answer:?}");
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("output.log is incomplete"), "{warnings}");
        assert!(warnings.contains("meta.json is incomplete"), "{warnings}");
        let record = fs::read(disk.path("jobs/j/meta.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["status"], status);
        let log = fs::read_to_string(disk.path("jobs/j/output.log")).unwrap();
        // Reporting the loss in the record frees some space once, which the log fills up again.
        let torn = log.lines().filter(|line| !line.ends_with('}')).count();
        assert!(torn <= 2, "whole lines: {log}");
        let names: Vec<_> = fs::read_dir(disk.path("jobs/j")).unwrap().flatten().collect();
        assert!(names.iter().all(|name| !name.file_name().to_string_lossy().starts_with('.')));
    }
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_changes_no_slots() {
    let mut sandbox = Sandbox::new(
        "read\ninit\nonce $DIR/refused refused 529\nonce $DIR/left exit 1\ntouch $DIR/up-$JOB\n\
         wait-file $DIR/go-$JOB\nresult ok\neof",
    );
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let one = ["--max-parallel", "1", "--retries", "1", "--max-backoff", "1s"];
    sandbox.start("a", &one);
    eventually("the pause", || (sandbox.status("a")["attempt"] == 2).then_some(()));
    disk.fill();
    await_file(&sandbox.path("up-a"));
    fs::remove_file(disk.path("filler")).unwrap();
    assert_eq!(sandbox.start("b", &one)["status"], "queued");
    for id in ["a", "b"] {
        fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
        let end = sandbox.wait(id);
        assert_eq!((end.code, &end["status"]), (0, &"completed".into()), "{end:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn reads_a_read_only_directory() {
    let mut sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    let worker = sandbox.start("lost", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    kill(worker);
    disk.make_read_only();
    let refused = sandbox.run(START);
    assert_eq!(refused["code"], "jobs_dir_denied", "{refused:?}");
    for _ in 0..2 {
        assert_eq!(sandbox.status("lost")["reason"], "worker_died");
    }
    assert_eq!(sandbox.run(["list"]).json[0]["reason"], "worker_died");
    assert_eq!(sandbox.run(["recover", "lost"])["code"], "jobs_dir_denied");
}

#[test]
#[ignore = "needs root"]
fn cleans_a_full_disk_and_keeps_the_costs() {
    let mut sandbox = Sandbox::new(
        "read\ninit\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof",
    );
    let disk = Disk::mount(sandbox.path("disk"), 1 << 20);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", disk.path("jobs"));
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]).expect_end(0, "completed", None);
    }
    disk.fill();
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &2.into()), "{cleaned:?}");
    assert_eq!(cleaned["warnings"], serde_json::json!([]), "{cleaned:?}");
    let refused = sandbox.run(["start", "c", "--prompt", "x", "--budget-usd", "1.50/day"]);
    assert_eq!(refused["code"], "budget_exceeded", "{refused:?}");
    assert!(refused.text("error").contains("$1.50 of $1.50"), "{refused:?}");
    let left: Vec<_> = fs::read_dir(disk.path("jobs/.new")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs root"]
fn clean_skips_a_job_that_cannot_be_removed() {
    let sandbox = Sandbox::new(WORKS);
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]);
    }
    // A mount point cannot be renamed.
    let disk = Disk::mount(sandbox.job("stuck"), 1 << 20);
    let record = fs::read_to_string(sandbox.job("a").join("meta.json")).unwrap();
    fs::write(disk.path("meta.json"), record.replace("\"jobId\":\"a\"", "\"jobId\":\"stuck\""))
        .unwrap();
    fs::write(disk.path("lock"), "").unwrap();
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (1, &2.into()), "{cleaned:?}");
    assert_eq!(cleaned["left"][0]["jobId"], "stuck", "{cleaned:?}");
    let refused = sandbox.run(["clean", "stuck"]);
    assert_eq!((refused.code, &refused["code"]), (1, &"jobs_dir_error".into()), "{refused:?}");
    assert!(disk.path("meta.json").exists());
}
