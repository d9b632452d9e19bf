//! The formats of answers: `-o` and `-q`.

use std::fs;

use serde_json::Value;

use crate::support::{Answer, Sandbox};

const SCRIPT: &str = "read\ninit\nsay hello\nresult **fine**\neof";

/// Two jobs that have completed, and one that has failed.
fn three_jobs() -> Sandbox {
    let sandbox = Sandbox::new(SCRIPT);
    sandbox.run_job("one", &["--label", "k=v"]);
    sandbox.run_job("two", &["--label", "k=v"]);
    sandbox.script("read\ninit\nsay hello\nexit 3");
    sandbox.run_job("bad", &[]).expect_end(1, "failed", Some("no_result"));
    sandbox
}

fn lines(answer: &Answer) -> Vec<&str> {
    answer.stdout.lines().collect()
}

#[test]
fn ids_are_one_a_line_and_fit_other_calls() {
    let sandbox = three_jobs();
    for (call, ids) in [
        (&["list", "--sort", "id"][..], &["bad", "one", "two"][..]),
        (&["list", "--status", "completed", "--sort", "id"], &["one", "two"]),
        (&["list", "--status", "killed"], &[]),
        (&["result", "two", "one"], &["two", "one"]),
        (&["wait", "--label", "k=v"], &["two", "one"]),
        (&["clean", "--dry-run", "--keep", "0"], &["bad", "two", "one"]),
    ] {
        let answer = sandbox.run([call, &["-o", "ids"]].concat());
        assert_eq!((answer.code, lines(&answer)), (0, ids.to_vec()), "{call:?}: {answer:?}");
        assert_eq!(answer.stderr, "", "{call:?}");
    }
    let started = sandbox.run(["start", "new", "-p", "x", "-o", "ids"]);
    assert_eq!((started.code, started.stdout.as_str()), (0, "new\n"));
    sandbox.wait("new");
    // Failures are on stderr, and the exit code is the usual one.
    let failed = sandbox.run(["wait", "one", "bad", "-o", "ids"]);
    assert_eq!((failed.code, lines(&failed)), (1, vec!["one", "bad"]));
    assert!(failed.stderr.contains("no_result"), "{failed:?}");
    let missing = sandbox.run(["result", "one", "none", "-o", "ids"]);
    assert_eq!((missing.code, lines(&missing)), (4, vec!["one"]));
    assert!(missing.stderr.starts_with("error: no job named 'none'\n"), "{missing:?}");
    let missing = sandbox.run(["result", "none", "-o", "ids"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (4, ""));
    assert!(missing.stderr.starts_with("error: no job named 'none'\n"), "{missing:?}");
}

#[test]
fn listed_ids_can_be_waited_for() {
    let mut sandbox = Sandbox::new(SCRIPT);
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "8");
    let ids: Vec<String> =
        (0..40).map(|n| format!("nightly-build-of-the-service-{n:02}")).collect();
    let prompt = "Do the work of the night. ".repeat(8);
    for id in &ids {
        let options = ["--label", "project=a-rather-long-name", "-p", &prompt];
        assert_eq!(sandbox.run([&["start", id.as_str()][..], &options].concat()).code, 0);
    }
    assert_eq!(sandbox.run(["wait", "--all"]).code, 0);
    for agent in ["", "test"] {
        sandbox.set("AI_AGENT", agent);
        for select in [&["--since", "2h"][..], &["--status", "completed", "--since", "1d"]] {
            let list = sandbox.run([&["list"], select].concat());
            let mut found: Vec<&str> = list
                .json
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["jobId"].as_str().unwrap())
                .collect();
            let lines = sandbox.run([&["list", "-o", "ids"], select].concat()).stdout;
            assert_eq!(lines.lines().collect::<Vec<_>>(), found);
            let waited = sandbox.run([&["wait"], &found[..]].concat());
            assert_eq!(waited.code, 0, "{waited:?}");
            assert_eq!(waited.json.as_array().unwrap().len(), 40);
            found.sort_unstable();
            assert_eq!(found, ids, "{agent} {select:?}");
        }
    }
}

#[test]
fn ndjson_has_one_element_a_line() {
    let sandbox = three_jobs();
    for call in [&["list"][..], &["result", "one", "two"], &["wait", "one"], &["stats"]] {
        let usual = sandbox.run(call).json;
        let elements = match usual {
            Value::Array(elements) => elements,
            other => vec![other],
        };
        let answer = sandbox.run([call, &["-o", "ndjson"]].concat());
        let parsed: Vec<Value> =
            answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed, elements, "{call:?}");
        assert!(answer.stdout.ends_with('\n'));
    }
    assert_eq!(sandbox.run(["list", "--status", "killed", "-o", "ndjson"]).stdout, "");
    let missing = sandbox.run(["status", "none", "-o", "ndjson"]);
    assert_eq!((missing.code, missing.text("code")), (4, "not_found"));
    let run = sandbox.run(["run", "x", "-n", "r", "-o", "ndjson"]);
    let documents: Vec<Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, parts) = documents.split_last().unwrap();
    assert_eq!((&last["jobId"], &last["status"]), (&"r".into(), &"failed".into()), "{run:?}");
    assert!(parts.iter().any(|part| part["tail"].as_str().unwrap().contains("hello")), "{run:?}");
}

#[test]
fn quiet_prints_ids_or_the_answer_alone() {
    let sandbox = three_jobs();
    for (call, code, stdout) in [
        (&["result", "one"][..], 0, "**fine**\n"),
        (&["wait", "one"], 0, "**fine**\n"),
        (&["wait", "one", "two"], 0, ""),
        (&["result", "one", "two"], 0, "**fine**\n**fine**\n"),
        (&["status", "bad"], 0, "failed\n"),
        (&["list", "--label", "k=v"], 0, "two\none\n"),
        (&["start", "new", "-p", "x"], 0, "new\n"),
        (&["wait", "new"], 1, ""),
        (&["run", "x"], 1, ""),
    ] {
        let answer = sandbox.run([call, &["-q"]].concat());
        assert_eq!((answer.code, answer.stdout.as_str()), (code, stdout), "{call:?}: {answer:?}");
        assert_eq!(answer.stderr.contains("error: no_result: "), code == 1, "{answer:?}");
    }
    sandbox.script(SCRIPT);
    let run = sandbox.run(["run", "x", "-q"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "**fine**\n", ""));
}

#[test]
fn markdown_has_verdict_answer_and_figures() {
    let sandbox = three_jobs();
    let one = sandbox.run(["result", "one", "-o", "markdown"]).stdout;
    let mut parts = one.splitn(5, '\n');
    assert_eq!(parts.next(), Some("### completed: one"));
    assert_eq!(parts.next(), Some(""));
    assert_eq!(parts.next(), Some("**fine**"));
    assert_eq!(parts.next(), Some(""));
    let table: Vec<&str> = parts.next().unwrap().lines().collect();
    assert_eq!(table[..2], ["| turns | time | cost | model |", "| --- | --- | --- | --- |"]);
    assert!(table.len() == 3 && table[2].starts_with("| 1 | "), "{one}");
    for verb in ["wait", "result"] {
        let both = sandbox.run([verb, "one", "bad", "none", "-o", "markdown"]);
        if verb == "result" {
            assert!(both.stdout.starts_with(&one), "{both:?}");
            let bad = "\n\n### failed: bad\n\n> no_result: claude ended with exit code 3";
            assert!(both.stdout.contains(bad), "{both:?}");
            assert!(both.stdout.contains("### error: none\n\n> no job named"), "{both:?}");
        }
        assert_eq!(both.code, 4, "{both:?}");
    }
    let run = sandbox.run(["run", "x", "-n", "r", "-o", "markdown"]);
    assert!(run.stdout.starts_with("### failed: r\n\n> no_result: "), "{run:?}");
    assert_eq!(run.stdout, sandbox.run(["wait", "r", "-o", "markdown"]).stdout);
}

#[test]
fn refuses_a_format_without_a_meaning() {
    let sandbox = Sandbox::new(SCRIPT);
    for (call, option) in [
        (&["stats", "-o", "markdown"][..], "-o markdown"),
        (&["status", "one", "-o", "ids"], "-o ids"),
        (&["list", "-o", "markdown"], "-o markdown"),
        (&["send", "one", "-p", "x", "-q"], "--quiet"),
        (&["start", "new", "-p", "x", "-o", "markdown"], "-o markdown"),
    ] {
        let refused = sandbox.run(call);
        assert_eq!(refused.code, 2, "{refused:?}");
        let verb = call[0];
        let message = format!("error: '{option}' is not available for {verb}\n");
        assert!(refused.stderr.starts_with(&message), "{refused:?}");
        assert!(refused.stderr.contains(&format!("hint: claudejob {verb} --help")), "{refused:?}");
    }
    assert!(!fs::exists(sandbox.job("new")).unwrap(), "refused before anything is done");
    for call in [
        &["list", "-o", "ids", "-q"][..],
        &["list", "-o", "json", "--plain"],
        &["list", "-q", "--json"],
        &["list", "-o", "yaml"],
    ] {
        assert_eq!(sandbox.run(call).code, 2, "{call:?}");
    }
}

#[test]
fn wide_text_has_more_columns() {
    let sandbox = three_jobs();
    let head = |format: &str| {
        let text = sandbox.run(["list", "-o", format]).stdout;
        text.lines().next().unwrap().to_owned()
    };
    assert!(head("wide").len() > head("text").len(), "{}", head("wide"));
    let same = sandbox.run(["status", "one", "-o", "wide"]).stdout;
    assert_eq!(same, sandbox.run(["status", "one", "--plain"]).stdout);
}
