//! Removing jobs, budgets, and limits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use support::processes::{has_open, send};
use support::{Sandbox, await_file, eventually};

const QUICK: &str = "read\ninit\nsay done\nresult ok\neof";

fn ids(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.jobs()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn the_jobs_that_ended_last_stay() {
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
    assert_eq!(ids(&sandbox), ["job-3", "job-4"]);
    for (options, why) in [
        (["--keep", "1"], "kept by --keep 1"),
        (["--older-than", "1h"], "it ended too recently"),
        (["--label", "n=5"], "it does not have these labels"),
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
fn what_lives_is_not_removed() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.start("a", &["--max-parallel", "1"]);
    sandbox.start("queued", &["--max-parallel", "1"]);
    assert_eq!(sandbox.run(["clean", "--keep", "0"])["removed"], 0);
    for (id, why) in [("a", "it is running"), ("queued", "it is queued")] {
        let left = sandbox.run(["clean", id]);
        assert_eq!((left.code, &left["left"][0]["error"]), (1, &why.into()));
    }
    assert_eq!(ids(&sandbox), ["a", "queued"]);
}

#[test]
fn each_start_can_clear_up() {
    let mut sandbox = Sandbox::new(QUICK);
    for id in ["a", "b", "c"] {
        sandbox.run_job(id, &[]);
    }
    sandbox.set("CLAUDE_SKILL_KEEP", "1");
    sandbox.run_job("d", &[]);
    assert!(!sandbox.job("a").exists() && !sandbox.job("b").exists(), "{:?}", ids(&sandbox));
    sandbox.set("CLAUDE_SKILL_KEEP", "many");
    let refused = sandbox.run(["start", "e", "--prompt", "x"]);
    assert_eq!((refused.code, refused.text("code")), (2, "usage"));
}

#[test]
fn a_variable_that_is_empty_counts_as_unset_and_one_that_is_wrong_is_named() {
    const OURS: [&str; 8] = [
        "CLAUDE_SKILL_MAX_PARALLEL",
        "CLAUDE_SKILL_STAGGER",
        "CLAUDE_SKILL_RETRIES",
        "CLAUDE_SKILL_MODEL",
        "CLAUDE_SKILL_CLAUDE",
        "CLAUDE_SKILL_ON_EVENT",
        "CLAUDE_SKILL_KEEP",
        "CLAUDE_SKILL_JOBS_DIR",
    ];
    let mut sandbox = Sandbox::new(QUICK);
    let claude = support::sandbox::fake_claude();
    for name in OURS {
        sandbox.set(name, "");
    }
    let jobs = sandbox.jobs();
    let place = ["--claude", claude.to_str().unwrap(), "--jobs-dir", jobs.to_str().unwrap()];
    sandbox.start("a", &place);
    for verb in ["list", "stats"] {
        assert_eq!(sandbox.run([verb]).code, 0);
    }
    let sidecar = sandbox.run_with_stdin(["sidecar"], "");
    assert!(sidecar.stdout.contains("ready"), "{sidecar:?}");
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", &jobs);
    sandbox.wait("a").expect_end(0, "completed", None);

    for name in &OURS[..3] {
        sandbox.set(name, "several");
        let refused = sandbox.run(["start", "b", "--prompt", "x"]);
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{name}");
        assert!(refused.text("error").contains(&format!("'{name} (--")), "{refused:?}");
        let refused = sandbox.run(["sidecar"]);
        assert!(refused.text("error").contains(name), "{refused:?}");
        sandbox.set(name, "3");
        let flag = name.trim_start_matches("CLAUDE_SKILL_").to_lowercase().replace('_', "-");
        for words in [vec![format!("--{flag}"), "x".to_owned()], vec![format!("--{flag}=x")]] {
            let start = ["start", "b", "--prompt", "x"].map(str::to_owned).to_vec();
            let refused = sandbox.run([start, words].concat());
            assert_eq!(refused.code, 2, "{refused:?}");
            assert!(!refused.text("error").contains(name), "{refused:?}");
        }
        sandbox.unset(name);
    }
}

#[test]
fn nothing_outside_is_touched_and_nothing_foreign() {
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
fn whoever_reads_meanwhile_sees_a_whole_job_or_none() {
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
fn a_clean_that_dies_leaves_nothing_in_the_way() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    sandbox.break_at("discard:renamed", ["clean", "a"]);
    assert_eq!(sandbox.run(["status", "a"]).code, 4);
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0);
}

#[test]
fn what_was_spent_counts_also_when_its_jobs_are_gone() {
    let sandbox = Sandbox::new(
        "read\ninit\nsay hm\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof",
    );
    let label = ["--label", "project=x"];
    let budget = |id: &'static str, usd: &'static str, label: &'static str| {
        let start = ["start", id, "--prompt", "x", "--label", label, "--budget-usd", usd];
        sandbox.run(start)
    };
    for id in ["a", "b"] {
        sandbox.run_job(id, &label);
    }
    sandbox.run_job("other", &["--label", "project=y"]);
    let refused = budget("c", "1.50/day", "project=x");
    assert_eq!((refused.code, refused.text("code")), (1, "budget_exceeded"));
    let said = "budget exceeded: $1.50 of $1.50 spent in the last day by jobs with project=x";
    assert_eq!(refused.text("error"), said);
    let refused = budget("c", "0.0072/30d", "project=x");
    assert!(refused.text("error").contains("$1.50 of $0.0072"), "{refused:?}");
    assert!(refused.text("error").contains("in the last 30 days"), "{refused:?}");
    assert!(!sandbox.job("c").exists());
    assert_eq!(budget("c", "1.60/day", "project=x").code, 0);
    sandbox.wait("c");
    assert_eq!(budget("d", "1/day", "project=y").code, 0);
    sandbox.wait("d");
    sandbox.run(["clean", "--label", "project=x"]);
    let refused = budget("e", "2/day", "project=x");
    assert!(refused.text("error").contains("$2.25 of $2.00"), "{refused:?}");
    for bad in ["2", "0/day", "2/never"] {
        assert_eq!(budget("f", bad, "project=x").code, 2, "{bad}");
    }
}

#[test]
fn a_silent_claude_is_ended_and_a_long_tool_is_not() {
    let sandbox = Sandbox::new("read\ninit\nsay hm\ntouch $DIR/silent\nhang");
    sandbox.start("a", &["--stall-timeout", "400ms"]);
    await_file(&sandbox.path("silent"));
    let ended = sandbox.wait("a");
    ended.expect_end(1, "failed", Some("stalled"));
    assert!(ended["warnings"].to_string().contains("has been silent"), "{ended:?}");
    sandbox.assert_nothing_left("a");
    sandbox
        .script("read\ninit\ntool Bash make\nwait-file $DIR/made\ntool-result ok\nresult ok\neof");
    sandbox.start("b", &["--stall-timeout", "200ms", "--tool-timeout", "1h"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    fs::write(sandbox.path("made"), "").unwrap();
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn memory_is_limited_or_the_job_refused() {
    let sandbox = Sandbox::new(QUICK);
    if std::path::Path::new("/run/systemd/system").is_dir() {
        eprintln!("skipped: there is a systemd, and tests/systemd/run tries it");
        return;
    }
    let refused = sandbox.run(["start", "a", "--prompt", "x", "--memory-max", "1G"]);
    assert_eq!((refused.code, refused.text("code")), (1, "no_memory_limit"));
    assert!(!sandbox.job("a").exists());
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
fn a_job_that_lies_elsewhere_is_neither_removed_nor_told_of_nor_settled() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let (outside, told) = (sandbox.path("outside"), sandbox.path("told"));
    fs::create_dir_all(outside.join("notifications")).unwrap();
    fs::write(outside.join("lock"), "").unwrap();
    let due = r#"{"number":1,"at":"2026-11-20T00:00:00Z","attempt":1,"event":"completed"}"#;
    fs::write(outside.join("notifications/journal.ndjson"), format!("{due}\n")).unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.job("far")).unwrap();
    for status in ["completed", "running"] {
        let record = serde_json::json!({"version": 2, "jobId": "far", "status": status,
            "endedAt": "2026-11-20T00:00:00Z", "costUsd": 1.5,
            "spec": {"onEvent": [format!("touch {}", told.display())]}});
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
        assert!(!told.exists() && sandbox.job("far").exists());
    }
    assert!(!sandbox.jobs().join(".spent.ndjson").exists());
}

#[test]
fn a_start_does_not_clear_its_own_job_away() {
    let mut sandbox = Sandbox::new(QUICK);
    sandbox.run_job("old", &[]);
    sandbox.set("CLAUDE_SKILL_KEEP", "0");
    let start = ["start", "a", "--prompt", "x", "--wait"];
    let ended = sandbox.pause_at("start:launched", start, |sandbox| {
        sandbox.wait("a");
    });
    ended.expect_end(0, "completed", None);
    assert_eq!(ids(&sandbox), ["a"]);
}

#[test]
fn a_record_of_the_node_skill_goes_when_its_process_is_gone() {
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
    assert_eq!(cleaned["left"][0]["error"], "it is running");
    assert_eq!(ids(&sandbox), ["a", "lives"]);
    fs::remove_dir_all(sandbox.job("lives")).unwrap();
}

#[test]
fn a_job_that_has_to_stay_is_left_with_a_word() {
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
fn what_a_queued_job_waits_for_stays() {
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
fn what_a_job_is_just_coming_to_wait_for_stays() {
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
    // It has to stay, or it may go when the other has had its turn.
    sandbox.wait("b").expect_end(0, "completed", None);
}

#[test]
fn what_a_job_that_was_cut_off_waited_for_stays() {
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
fn a_clean_that_is_stopped_holds_up_no_start_for_long() {
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
fn a_staging_directory_that_leads_elsewhere_is_used_by_nobody() {
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
    let doctor = sandbox.run(["doctor"]);
    let checks = doctor["checks"].as_array().unwrap();
    let leftovers = checks.iter().find(|check| check["name"] == "leftovers").unwrap();
    assert!(leftovers["detail"].as_str().unwrap().contains("it is not a directory"), "{leftovers}");
    assert!(outside.join("theirs/precious").exists());
    assert_eq!(ids(&sandbox), ["a"]);
}

/// A job whose claude says that it has cost three quarters of a dollar.
const COSTS: &str = "read\ninit\nsay hm\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof";

/// Asserts that jobs have spent so much, by a start that is refused for it.
#[track_caller]
fn assert_spent(sandbox: &Sandbox, usd: &str) {
    let budget = format!("{usd}/day");
    let refused = sandbox.run(["start", "refused", "--prompt", "x", "--budget-usd", &budget]);
    let said = format!("${usd} of ${usd}");
    assert!(refused["error"].to_string().contains(&said), "{refused:?}");
}

#[test]
fn a_line_that_was_torn_does_not_swallow_the_next() {
    let sandbox = Sandbox::new(COSTS);
    let ledger = sandbox.jobs().join(".spent.ndjson");
    sandbox.run_job("a", &[]);
    // What a version before this one has noted counts, too.
    let at = chrono::Utc::now().to_rfc3339();
    let line = format!(r#"{{"endedAt":"{at}","costUsd":0.25,"labels":{{}}}}"#);
    fs::write(&ledger, format!("{line}\n{line}\n{{\"endedAt\":\"20")).unwrap();
    assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    assert_spent(&sandbox, "1.25");
}

#[test]
fn a_clean_that_dies_does_not_forget_what_was_spent() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    sandbox.break_at("discard:renamed", ["clean", "a"]);
    assert_spent(&sandbox, "0.75");
    sandbox.run(["clean"]);
    assert_eq!(fs::read_dir(sandbox.jobs().join(".new")).unwrap().count(), 0);
    assert_spent(&sandbox, "0.75");
}

#[test]
fn a_cost_that_cannot_be_noted_is_kept_until_it_can() {
    let sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let (ledger, staging) = (sandbox.jobs().join(".spent.ndjson"), sandbox.jobs().join(".new"));
    fs::create_dir(&ledger).unwrap();
    let cleaned = sandbox.run(["clean", "a"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (0, &1.into()), "{cleaned:?}");
    let warning = cleaned["warnings"][0].as_str().unwrap();
    assert!(warning.contains(".spent.ndjson"), "{warning}");
    assert!(!sandbox.job("a").exists());
    assert_spent(&sandbox, "0.75");
    let kept = fs::read_dir(&staging).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(kept).unwrap().count(), 2, "the record and its lock alone");
    fs::remove_dir(&ledger).unwrap();
    sandbox.run(["clean"]);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert_spent(&sandbox, "0.75");
}

#[test]
fn a_job_that_is_not_there_does_not_keep_the_others() {
    let sandbox = Sandbox::new(QUICK);
    sandbox.run_job("a", &[]);
    let cleaned = sandbox.run(["clean", "nobody", "a"]);
    assert_eq!((cleaned.code, &cleaned["removed"]), (1, &1.into()), "{cleaned:?}");
    assert_eq!(cleaned["left"][0]["error"], "no job named 'nobody'");
    assert_eq!(ids(&sandbox), Vec::<String>::new());
}

#[test]
fn what_a_removed_job_has_cost_counts_once() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let staging = sandbox.jobs().join(".new");
    fs::remove_dir(&staging).unwrap();
    fs::write(&staging, "").unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.run(["clean", "a"]).code, 1);
    }
    fs::remove_file(&staging).unwrap();
    assert_spent(&sandbox, "0.75");
    assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    assert_spent(&sandbox, "0.75");
    // Another of the same id is another job.
    sandbox.run_job("a", &[]);
    assert_spent(&sandbox, "1.50");
    sandbox.break_at("discard:noted", ["clean", "a"]);
    assert_spent(&sandbox, "1.50");
    sandbox.run(["clean"]);
    assert_spent(&sandbox, "1.50");
    let ledger = fs::read_to_string(sandbox.jobs().join(".spent.ndjson")).unwrap();
    assert_eq!(ledger.matches("costUsd").count(), 3, "the last of them twice: {ledger}");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn a_job_that_is_removed_while_a_start_counts_is_counted() {
    let mut sandbox = Sandbox::new(COSTS);
    sandbox.run_job("a", &[]);
    let start = ["start", "b", "--prompt", "x", "--budget-usd", "0.75/day"];
    let refused = sandbox.pause_at("start:budget", start, |sandbox| {
        assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
    });
    assert!(refused["error"].to_string().contains("$0.75 of $0.75"), "{refused:?}");
}

/// With enough jobs that have ended some time ago, their summaries are kept in a file.
#[test]
fn the_summaries_of_ended_jobs_are_only_a_cache() {
    let shift = support::sandbox::example("libclock_shift.so");
    if cfg!(not(target_env = "gnu")) || !shift.exists() {
        eprintln!("summaries: skipped, {} was not built", shift.display());
        return;
    }
    let mut sandbox = Sandbox::new(
        "read\ninit\nsay hm\njson {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\",\"num_turns\":1,\"total_cost_usd\":0.75}\neof",
    );
    sandbox.run_job("a", &["--label", "n=0"]);
    let record = fs::read_to_string(sandbox.job("a").join("meta.json")).unwrap();
    for number in 1..=120 {
        let id = format!("a-{number}");
        fs::create_dir(sandbox.job(&id)).unwrap();
        let own = record.replace("\"jobId\":\"a\"", &format!("\"jobId\":\"{id}\""));
        let own = own.replace("\"n\":\"0\"", &format!("\"n\":\"{}\"", number % 3));
        fs::write(sandbox.job(&id).join("meta.json"), own).unwrap();
    }
    fs::write(sandbox.job("a-7").join("meta.json"), "{").unwrap();
    let cache = sandbox.jobs().join(".summaries");
    let seen = |sandbox: &Sandbox| {
        let start = ["start", "b", "--prompt", "x", "--label", "n=1", "--budget-usd", "1/day"];
        let calls: [&[&str]; 6] = [
            &["list"],
            &["list", "--label", "n=2", "--sort", "cost", "--limit", "30"],
            &["list", "--all"],
            &["stats", "--by", "label:n"],
            &["clean", "--keep", "100", "--dry-run"],
            &start,
        ];
        calls.map(|call| sandbox.run(call.iter().copied()).stdout)
    };
    let fresh = seen(&sandbox);
    assert!(fresh[5].contains("budget_exceeded"), "{}", fresh[5]);

    // Looked at later, the records count as settled.
    fs::write(sandbox.path("shift"), "60").unwrap();
    sandbox.set("LD_PRELOAD", &shift);
    sandbox.set("CLOCK_SHIFT", sandbox.path("shift"));
    sandbox.run(["list"]);
    let text = fs::read(&cache).unwrap();
    fs::write(sandbox.path("shift"), "0").unwrap();
    assert_eq!(seen(&sandbox), fresh, "from the cache");
    for spoilt in [&text[..text.len() / 2], &b"foreign"[..], &b""[..]] {
        fs::write(&cache, spoilt).unwrap();
        assert_eq!(seen(&sandbox), fresh);
    }
    fs::write(&cache, &text).unwrap();
    fs::remove_file(sandbox.job("a-9").join("meta.json")).unwrap();
    fs::remove_dir(sandbox.job("a-9")).unwrap();
    sandbox.script("read\ninit\ntouch $DIR/resumed\nhang");
    assert_eq!(sandbox.run(["resume", "a"]).code, 0);
    await_file(&sandbox.path("resumed"));
    let shown = sandbox.run(["list", "--status", "running"]);
    assert!(
        shown.stdout.contains("\"jobId\":\"a\",") && !shown.stdout.contains("a-1"),
        "{shown:?}"
    );
    let of_label = sandbox.run(["list", "--label", "n=0", "--status", "completed"]).stdout;
    assert!(!of_label.contains("\"a-9\"") && !of_label.contains("\"jobId\":\"a\""), "{of_label}");
    assert_eq!(fs::read(&cache).unwrap(), text, "nor was it written again for that");
    sandbox.run(["kill", "a"]);
}
