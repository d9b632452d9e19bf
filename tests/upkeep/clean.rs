//! What `clean` removes and what it keeps.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::support::processes::{has_open, send};
use crate::support::{Sandbox, eventually};
use crate::{QUICK, ids};

#[test]
fn clean_keeps_the_jobs_that_ended_last() {
    let sandbox = Sandbox::new(QUICK);
    for n in 1..=5 {
        sandbox.run_job(&format!("job-{n}"), &["--label", &format!("n={n}")]);
    }
    let dry = sandbox.run(["clean", "--keep", "2", "--dry-run"]);
    assert_eq!((&dry["removed"], &dry["dryRun"]), (&3.into(), &true.into()));
    assert_eq!(dry["jobs"], serde_json::json!(["job-3", "job-2", "job-1"]));
    assert!(dry["freedBytes"].as_u64().unwrap() > 3 * 4096);
    assert_eq!(ids(&sandbox).len(), 5);
    assert_eq!(sandbox.run(["clean"])["removed"], 0, "fifty stay");
    assert_eq!(sandbox.run(["clean", "--older-than", "1h"])["removed"], 0);
    assert_eq!(sandbox.run(["clean", "--label", "n=5"])["removed"], 1);
    assert_eq!(sandbox.run(["clean", "--keep", "2"])["removed"], 2);
    let text = sandbox.run(["clean", "--plain"]).stdout;
    assert_eq!(text, "Nothing to remove: --keep spares 2 ended jobs.\n");
    assert_eq!(ids(&sandbox), ["job-3", "job-4"]);
    for (options, why) in [
        (["--keep", "1"], "kept by --keep 1"),
        (["--older-than", "1h"], "it ended too recently"),
        (["--label", "n=5"], "it does not match the selection"),
    ] {
        let left = sandbox.run([&["clean", "job-4"][..], &options].concat());
        assert_eq!((left.code, &left["left"][0]["error"]), (1, &why.into()), "{left:?}");
    }
    assert_eq!(sandbox.run(["clean", "job-4"])["removed"], 1);
    let gone = sandbox.run(["clean", "job-4"]);
    assert_eq!((gone.code, gone.text("code")), (4, "not_found"));
    assert_eq!(sandbox.run(["clean", "--older-than", "0s"])["removed"], 1);
}

#[test]
fn clean_removes_no_live_job() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.start("a", &["--max-parallel", "1"]);
    sandbox.start("queued", &["--max-parallel", "1"]);
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    for (id, why) in [("a", "job a is running"), ("queued", "job queued is queued")] {
        let left = sandbox.run(["clean", id]);
        assert_eq!((left.code, &left["left"][0]["error"]), (1, &why.into()));
    }
    assert_eq!(ids(&sandbox), ["a", "queued"]);
}

#[test]
fn clean_touches_nothing_outside_or_foreign() {
    let sandbox = Sandbox::new(QUICK);
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]);
    }
    std::os::unix::fs::symlink(&outside, sandbox.job("a").join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.jobs().join("elsewhere")).unwrap();
    fs::create_dir(sandbox.jobs().join("foreign")).unwrap();
    fs::write(sandbox.jobs().join("foreign/file"), "x").unwrap();
    fs::write(sandbox.jobs().join("notes.txt"), "x").unwrap();
    fs::create_dir(sandbox.jobs().join("broken")).unwrap();
    fs::write(sandbox.jobs().join("broken/meta.json"), "{").unwrap();
    let cleaned = sandbox.run(["clean", "--keep", "0"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &2.into()));
    assert!(outside.join("precious").exists());
    assert_eq!(ids(&sandbox), ["broken", "elsewhere", "foreign", "notes.txt"]);
    assert_eq!(sandbox.run(["clean", "elsewhere"]).code, 1);
    assert!(outside.join("precious").exists());
    assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0);
}

#[test]
fn readers_during_clean_see_complete_jobs_or_none() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..40 {
                sandbox.run_job(&format!("job-{n}"), &[]);
            }
            over.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let cleaned = sandbox.run(["clean", "--keep", "1"]);
                    assert_eq!(cleaned.code, 0, "{cleaned:?}");
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let list = sandbox.run(["list", "--all"]);
                assert_eq!(list.code, 0, "{list:?}");
                for job in list.json.as_array().unwrap() {
                    assert!(job["status"].is_string(), "{job}");
                    let status = sandbox.run(["status", job["jobId"].as_str().unwrap()]);
                    assert!(matches!(status.code, 0 | 4), "{status:?}");
                }
            }
        });
    });
    sandbox.run(["clean", "--keep", "0"]);
    assert_eq!(ids(&sandbox), Vec::<String>::new());
}

#[test]
fn a_killed_clean_blocks_no_new_job() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    sandbox.break_at("discard:renamed", ["clean", "a"]);
    assert_eq!(sandbox.run(["status", "a"]).code, 4);
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0);
}

#[test]
fn a_job_that_is_named_twice_is_one_job() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    assert_eq!(sandbox.run(["clean", "--dry-run", "a", "--job-id", "a"])["removed"], 1);
    assert_eq!(sandbox.run(["clean", "--keep", "1", "a", "a"])["removed"], 0);
    assert_eq!(ids(&sandbox), ["a"]);
}

#[test]
fn ignores_a_job_behind_a_symbolic_link() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let (outside, notified) = (sandbox.path("outside"), sandbox.path("notified"));
    fs::create_dir_all(outside.join("notifications")).unwrap();
    fs::write(outside.join("lock"), "").unwrap();
    let due = r#"{"number":1,"at":"2026-11-20T00:00:00Z","attempt":1,"event":"completed"}"#;
    fs::write(outside.join("notifications/journal.ndjson"), format!("{due}\n")).unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.job("far")).unwrap();
    for status in ["completed", "running"] {
        let record = serde_json::json!({"version": 2, "jobId": "far", "status": status,
            "endedAt": "2026-11-20T00:00:00Z", "costUsd": 1.5,
            "spec": {"onEvent": [format!("touch {}", notified.display())]}});
        fs::write(outside.join("meta.json"), record.to_string()).unwrap();
        for call in [&["redeliver", "far"][..], &["clean", "far"], &["clean", "--dry-run", "far"]] {
            let refused = sandbox.run(call);
            assert_eq!(
                (refused.code, &refused["code"]),
                (1, &"record_unreadable".into()),
                "{refused:?}"
            );
        }
        let after = fs::read_to_string(outside.join("meta.json")).unwrap();
        assert_eq!(after, record.to_string());
        assert!(!notified.exists() && sandbox.job("far").exists());
    }
    assert!(!sandbox.jobs().join(".spent.ndjson").exists());
}

#[test]
fn removes_a_node_skill_job_without_a_process() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let put = |id: &str, pid: u32| {
        let record = serde_json::json!({"jobId": id, "pid": pid, "status": "running",
            "prompt": "p", "cwd": "/", "startedAt": "2025-11-02T08:00:00.000Z"});
        fs::create_dir(sandbox.job(id)).unwrap();
        fs::write(sandbox.job(id).join("meta.json"), record.to_string()).unwrap();
    };
    put("old", i32::MAX as u32);
    put("lives", std::process::id());
    assert_eq!(sandbox.run(["clean", "--dry-run", "old"])["removed"], 1);
    let cleaned = sandbox.run(["clean", "old", "lives"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (1, &1.into()), "{cleaned:?}");
    assert_eq!(cleaned["left"][0]["code"], "job_live");
    assert_eq!(ids(&sandbox), ["a", "lives"]);
    fs::remove_dir_all(sandbox.job("lives")).unwrap();
}

#[test]
fn clean_says_why_it_keeps_a_job() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    fs::remove_file(sandbox.job("a").join("lock")).unwrap();
    for call in [&["clean", "--dry-run", "a"][..], &["clean", "a"]] {
        let left = sandbox.run(call);
        assert_eq!((left.code, &left["removed"]), (1, &0.into()), "{left:?}");
        assert!(left["left"][0]["error"].as_str().unwrap().contains("lock"), "{left:?}");
    }
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    assert_eq!(ids(&sandbox), ["a"]);
}

#[test]
fn clean_keeps_dependencies_of_a_queued_job() {
    let mut sandbox = Sandbox::new("read\ninit\nsay done\nresult ok\neof");
    for id in ["a", "b", "c"] {
        sandbox.run_job(id, &[]);
    }
    sandbox.script("read\ninit\nwait-file $DIR/go\nsay done\nresult ok\neof");
    sandbox.start("gate", &[]);
    sandbox.start("dep", &["--after", "a,gate", "--after-any", "b"]);
    for call in [&["clean", "--dry-run", "--keep", "0"][..], &["clean", "--keep", "0"]] {
        let cleaned = sandbox.run(call);
        assert_eq!((cleaned.code, &cleaned["jobs"]), (0, &serde_json::json!(["c"])), "{cleaned:?}");
    }
    for call in [&["clean", "--dry-run", "a", "b"][..], &["clean", "a", "b"]] {
        let left = sandbox.run(call);
        assert_eq!((left.code, &left["removed"]), (1, &0.into()), "{left:?}");
        for n in 0..2 {
            assert_eq!(left["left"][n]["error"], "job dep waits for it", "{left:?}");
        }
    }
    sandbox.set("CLAUDE_SKILL_KEEP", "0");
    sandbox.start("other", &[]);
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("dep").expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["clean", "a", "b"])["removed"], 2);
    sandbox.wait("other");
}

#[test]
fn clean_keeps_dependencies_of_a_starting_job() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let start = ["start", "b", "--after", "a", "--prompt", "x"];
    let mut clean = sandbox.command(["clean", "a"]);
    let mut cleans = None;
    let started = sandbox.pause_at("start:written", start, |sandbox| {
        let mut call = clean.stdout(Stdio::null()).spawn().unwrap();
        let pid = call.id() as i32;
        eventually("the clean to wait or to end", || {
            let waits = has_open(pid, &sandbox.jobs());
            (waits || call.try_wait().unwrap().is_some()).then_some(())
        });
        cleans = Some(call);
    });
    assert_eq!(started.code, 0, "{started:?}");
    cleans.unwrap().wait().unwrap();
    // It has to stay, or it may be removed after the other job was admitted.
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn clean_keeps_dependencies_of_a_lost_job() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    fs::remove_file(sandbox.path("go")).unwrap();
    sandbox.start("gate", &[]);
    let worker = sandbox.start("b", &["--after", "a,gate"])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGKILL);
    eventually("the end", || (sandbox.status("b")["reason"] == "worker_died").then_some(()));
    assert_eq!(sandbox.run(["clean", "a"])["left"][0]["error"], "job b waits for it");
    sandbox.run(["recover", "b"]);
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("b").expect_end(0, "completed", None);
    assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
}

#[test]
fn a_stopped_clean_delays_no_start_for_long() {
    let mut sandbox = Sandbox::new(QUICK);
    for id in ["a", "b"] {
        sandbox.run_job(id, &[]);
    }
    let cleaned = sandbox.pause_at("discard:renamed", ["clean", "a"], |sandbox| {
        sandbox.run_job("c", &["--after", "b"]).expect_end(0, "completed", None);
    });
    assert_eq!(cleaned["removed"], 1, "{cleaned:?}");
}

#[test]
fn refuses_a_staging_directory_that_is_a_link() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let (outside, staging) = (sandbox.path("outside"), sandbox.jobs().join(".new"));
    fs::create_dir_all(outside.join("theirs")).unwrap();
    fs::write(outside.join("theirs/precious"), "x").unwrap();
    fs::remove_dir(&staging).unwrap();
    std::os::unix::fs::symlink(&outside, &staging).unwrap();
    for call in [&["start", "b", "--prompt", "x"][..], &["clean", "a"], &["clean", "--keep", "0"]] {
        let refused = sandbox.run(call);
        assert_eq!((refused.code, refused.text("code")), (1, "jobs_dir_error"), "{refused:?}");
        assert!(refused.text("error").contains(".new: it is not a directory"), "{refused:?}");
    }
    assert!(outside.join("theirs/precious").exists());
    assert_eq!(ids(&sandbox), ["a"]);
}

#[test]
fn clean_removes_the_others_of_a_missing_job() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let cleaned = sandbox.run(["clean", "nobody", "a"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (1, &1.into()), "{cleaned:?}");
    assert_eq!(cleaned["left"][0]["error"], "no job named 'nobody'");
    assert_eq!(ids(&sandbox), Vec::<String>::new());
}

#[test]
fn rm_removes_the_named_ended_jobs() {
    let sandbox = Sandbox::new(QUICK);
    for id in ["a", "b", "c"] {
        sandbox.run_job(id, &["--label", &format!("is={id}")]);
    }
    sandbox.script("read\ninit\nhang");
    sandbox.start("live", &["--label", "is=a"]);
    let dry = sandbox.run(["rm", "--dry-run", "a", "live"]);
    assert_eq!((dry.code, &dry["jobs"]), (1, &serde_json::json!(["a"])), "{dry:?}");
    assert_eq!(ids(&sandbox).len(), 4);
    let answer = sandbox.run(["rm", "live"]);
    assert_eq!((answer.code, &answer["removed"]), (1, &0.into()));
    let left = serde_json::json!([{
        "jobId": "live", "status": null, "error": "job live is running", "code": "job_live",
        "hint": "claudejob kill live",
    }]);
    assert_eq!(answer["left"], left);
    let text = sandbox.run(["rm", "live", "--plain"]);
    let expected = "Nothing to remove.\nerror: job live is running\nhint: claudejob kill live\n";
    assert_eq!((text.code, text.stdout.as_str()), (1, expected));
    // A selection considers ended jobs only.
    let answer = sandbox.run(["rm", "-l", "is=a"]);
    assert_eq!((answer.code, &answer["jobs"]), (0, &serde_json::json!(["a"])), "{answer:?}");
    let answer = sandbox.run(["rm", "-l", "is=a"]);
    assert_eq!((answer.code, &answer["removed"]), (0, &0.into()), "{answer:?}");
    let answer = sandbox.run(["rm", "nobody"]);
    assert_eq!((answer.code, answer.text("code")), (4, "not_found"));
    assert_eq!(sandbox.run(["rm", "b", "nobody"]).code, 1);
    assert_eq!(ids(&sandbox), ["c", "live"]);
}

#[test]
fn rm_without_a_choice_removes_nothing() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    for arguments in [
        &["rm"][..],
        &["rm", "--dry-run"],
        &["rm", "--force-host"],
        &["rm", "--all"],
        &["rm", "a", "--status", "completed"],
        &["rm", ""],
    ] {
        assert_eq!(sandbox.run(arguments).code, 2, "{arguments:?}");
    }
    for filter in [["-l", "x=y"], ["-g", "x"], ["--status", "running"], ["--since", "0s"]] {
        let answer = sandbox.run([&["rm"][..], &filter].concat());
        assert_eq!((answer.code, &answer["removed"]), (0, &0.into()), "{filter:?}");
    }
    assert_eq!(ids(&sandbox), ["a"]);
}

#[test]
fn clean_narrows_by_each_property() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &["--group", "night"]);
    sandbox.run_job("b", &["--label", "x=y"]);
    for (filter, jobs) in [
        (&["-g", "night"][..], &["a"][..]),
        (&["-l", "x=y"], &["b"]),
        (&["--status", "completed", "--since", "1h"], &["b", "a"]),
        (&["--status", "failed"], &[]),
        (&["a", "-g", "night"], &["a"]),
    ] {
        let answer = sandbox.run([&["clean", "--dry-run"], filter].concat());
        assert_eq!(answer["jobs"], serde_json::json!(jobs), "{filter:?}");
    }
    let left = sandbox.run(["clean", "a", "-l", "x=y"]);
    assert_eq!((left.code, left["left"][0]["code"].as_str()), (1, Some("job_kept")), "{left:?}");
}
