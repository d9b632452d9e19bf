//! Nothing of a log is left out without a word.

use std::fs;

use serde_json::Value;

use crate::support::Sandbox;

const STEPS: usize = 61;

/// A job with a log of many steps, about 60 kB.
fn long_log() -> Sandbox {
    let mut script = "read\ninit\n".to_owned();
    for step in 0..STEPS {
        script += &format!("say STEP-{step}-BEGIN {}\n", "x".repeat(900));
    }
    let sandbox = Sandbox::new(&(script + "result ok\neof"));
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    sandbox
}

/// Returns the number of steps in a text.
fn steps(text: &str) -> usize {
    (0..STEPS).filter(|step| text.contains(&format!("STEP-{step}-BEGIN"))).count()
}

#[test]
fn raw_and_follow_are_whole() {
    let mut sandbox = long_log();
    let whole = fs::read_to_string(sandbox.job("j").join("output.log")).unwrap();
    for agent in ["", "test"] {
        sandbox.set("AI_AGENT", agent);
        for options in [&["--raw", "--plain"][..], &["--raw", "--follow"], &["--raw", "-q"]] {
            let answer = sandbox.run([&["logs", "j"], options].concat());
            assert!(answer.stdout == whole, "{agent} {options:?}: {} bytes", answer.stdout.len());
        }
        let raw = sandbox.run(["logs", "j", "--raw"]);
        assert!(raw["tail"] == whole && raw["truncated"] == false);
        let merged = sandbox.run(["logs", "j", "--raw", "--merged", "--plain"]).stdout;
        assert!(merged == whole, "{} bytes", merged.len());
        for options in [&["--plain"][..], &["--json"], &["-o", "ndjson"]] {
            let follow = ["logs", "j", "--follow", "--since-offset", "0"];
            let answer = sandbox.run([&follow, options].concat());
            assert_eq!(steps(&answer.stdout), STEPS, "{agent} {options:?}");
        }
        let few = sandbox.run(["logs", "j", "--raw", "--tail", "2", "--plain"]).stdout;
        assert!(few.lines().count() == 2 && whole.ends_with(&few), "{few}");
    }
}

#[test]
fn a_long_tail_is_whole_but_for_agents() {
    let mut sandbox = long_log();
    for options in [&["--plain"][..], &["--json"]] {
        let answer = sandbox.run([&["logs", "j", "--tail", "500"], options].concat());
        assert_eq!(steps(&answer.stdout), STEPS, "{options:?}");
        assert!(!answer.stdout.contains('…'), "{options:?}");
        let since = sandbox.run([&["logs", "j", "--since-offset", "0"], options].concat());
        assert_eq!(steps(&since.stdout), STEPS, "{options:?}");
    }
    sandbox.set("AI_AGENT", "test");
    let json = sandbox.run(["logs", "j", "--tail", "500"]);
    assert_eq!(json["truncated"], true);
    assert!(json.stdout.chars().count() < 8_000 && steps(&json.stdout) >= 5, "{json:?}");
    let text = sandbox.run(["logs", "j", "--tail", "500", "--plain"]).stdout;
    let shown = steps(&text);
    let note = format!(
        "… {} earlier entries: claudejob logs j -n {} --max-chars 0",
        STEPS - shown,
        STEPS + 1
    );
    assert_eq!(text.lines().next(), Some(note.as_str()));
}

#[test]
fn text_says_what_it_leaves_out() {
    let sandbox = long_log();
    let note = |options: &[&str]| {
        let text = sandbox.run([&["logs", "j"], options].concat()).stdout;
        (text.lines().next().unwrap().to_owned(), steps(&text))
    };
    // The verdict is an entry.
    let (first, shown) = note(&["--plain"]);
    assert_eq!((first.as_str(), shown), ("… 12 earlier entries: claudejob logs j -n 62", 49));
    assert_eq!(note(&["-f", "--plain"]), (first, shown));
    assert_eq!(note(&["-n", "61", "--plain"]).0, "… 1 earlier entry: claudejob logs j -n 62");
    for options in [&["-n", "62", "--plain"][..], &["-n", "5", "-q"]] {
        assert!(note(options).0.starts_with("STEP-"), "{options:?}");
    }
    let merged = note(&["-n", "2", "--merged", "--plain"]).0;
    assert_eq!(merged, "… 60 earlier entries: claudejob logs j --merged -n 62");
    let first = sandbox.run(["logs", "j", "--since-offset", "0", "--max-bytes", "3000", "--plain"]);
    let last = first.stdout.lines().last().unwrap();
    let offset = last.strip_prefix("… more: claudejob logs j --since-offset ").unwrap();
    let rest = sandbox.run(["logs", "j", "--since-offset", offset, "--plain"]).stdout;
    assert_eq!(steps(&first.stdout) + steps(&rest), STEPS);
    // The JSON is as before.
    let json: Value = sandbox.run(["logs", "j"]).json;
    assert_eq!((&json["truncated"], json["tail"].as_str().map(steps)), (&false.into(), Some(49)));
}

#[test]
fn a_long_message_is_whole_but_for_agents() {
    let text = "x".repeat(5_000);
    let mut sandbox = Sandbox::new(&format!("read\ninit\nsay {text}\nresult ok\neof"));
    sandbox.run_job("j", &[]).expect_end(0, "completed", None);
    for (agent, options, is_whole) in [
        ("", &["--plain"][..], true),
        ("", &["--json"], true),
        ("test", &["--plain"], false),
        ("test", &["--plain", "--max-chars", "0"], true),
        ("test", &["--plain", "--follow", "--since-offset", "0"], true),
    ] {
        sandbox.set("AI_AGENT", agent);
        let shown = sandbox.run([&["logs", "j"], options].concat()).stdout;
        assert_eq!(shown.contains(&text), is_whole, "{agent} {options:?}");
        assert_eq!(shown.contains("x […1000 more characters]"), !is_whole, "{shown}");
    }
}
