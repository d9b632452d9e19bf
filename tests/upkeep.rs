//! Removal of jobs, budgets, and limits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "upkeep/clean.rs"]
mod clean;
#[path = "upkeep/costs.rs"]
mod costs;
mod support;

use std::fs;
use std::path::Path;

use support::{Sandbox, await_file};

const QUICK: &str = "read\ninit\nsay done\nresult ok\neof";

fn ids(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.jobs()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn start_cleans_up_as_configured() {
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
fn ignores_empty_and_names_invalid_variables() {
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
    let options = ["--claude", claude.to_str().unwrap(), "--jobs-dir", jobs.to_str().unwrap()];
    sandbox.start("a", &options);
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
        for option in [vec![format!("--{flag}"), "x".to_owned()], vec![format!("--{flag}=x")]] {
            let start = ["start", "b", "--prompt", "x"].map(str::to_owned).to_vec();
            let refused = sandbox.run([start, option].concat());
            assert_eq!(refused.code, 2, "{refused:?}");
            assert!(!refused.text("error").contains(name), "{refused:?}");
        }
        sandbox.unset(name);
    }
}

#[test]
fn ends_a_silent_claude_but_no_long_tool() {
    let sandbox = Sandbox::new("");
    // On a busy machine a claude may be silent for seconds before its next line.
    let options = ["--stall-timeout", "8s", "--tool-timeout", "1h"];
    // Two jobs whose tool outlasts the timeout; one is silent after that.
    for (id, rest) in [("ends", "result ok\neof"), ("stalls", "hang")] {
        sandbox.script(&format!(
            "read\ninit\ntool Bash make\ntouch $DIR/{id}\nwait-file $DIR/made\ntool-result ok\n{rest}"
        ));
        sandbox.start(id, &options);
        await_file(&sandbox.path(id));
    }

    sandbox.script("read\ninit\nsay hm\ntouch $DIR/silent\nhang");
    sandbox.start("a", &options);
    await_file(&sandbox.path("silent"));
    let ended = sandbox.wait("a");
    ended.expect_end(1, "failed", Some("stalled"));
    assert!(ended["warnings"].to_string().contains("has been silent"), "{ended:?}");
    sandbox.assert_nothing_left("a");

    // The timeout of the job that started last has run out, and so have theirs.
    for id in ["ends", "stalls"] {
        assert_eq!(sandbox.status(id)["status"], "running", "{id}");
    }
    fs::write(sandbox.path("made"), "").unwrap();
    sandbox.wait("ends").expect_end(0, "completed", None);
    sandbox.wait("stalls").expect_end(1, "failed", Some("stalled"));
}

#[test]
fn limits_memory_or_refuses_the_job() {
    let sandbox = Sandbox::new(QUICK);
    let answer = sandbox.run(["start", "a", "--prompt", "x", "--memory-max", "1G"]);
    if answer.code == 0 {
        // tests/systemd/run checks the limit itself.
        assert!(Path::new("/run/systemd/system").is_dir(), "limited by nothing: {answer:?}");
        sandbox.wait("a").expect_end(0, "completed", None);
    } else {
        assert_eq!((answer.code, answer.text("code")), (1, "no_memory_limit"));
        assert!(!sandbox.job("a").exists());
    }
}

#[test]
fn start_does_not_remove_its_own_job() {
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

/// With enough jobs that ended some time ago, their summaries are cached in a file.
#[test]
#[cfg_attr(not(target_env = "gnu"), ignore = "needs a preloaded library")]
fn the_summaries_of_ended_jobs_are_only_a_cache() {
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

    // The records count as final some time after their last change.
    sandbox.shift_clock(60);
    sandbox.run(["list"]);
    let text = fs::read(&cache).unwrap();
    sandbox.shift_clock(0);
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
