//! What a person sees on a terminal, at 80 and at 120 columns. The jobs are records in the sandbox;
//! a live one has a lock that the test holds.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "screens/live.rs"]
mod live;
#[path = "screens/records.rs"]
mod records;
mod support;

use serde_json::json;

use records::Records;
use support::terminal::Terminal;

/// Runs a call on a terminal. Returns the lines that it leaves there.
#[track_caller]
fn screen(jobs: &Records, arguments: &[&str], columns: u16) -> Vec<String> {
    let (_, output) = Terminal::of_size(jobs.sandbox.command(arguments), columns, 40).finish();
    support::screen::Screen::after(&output)
}

#[track_caller]
fn assert_screen(jobs: &Records, arguments: &[&str], columns: u16, expected: &str) {
    let lines = screen(jobs, arguments, columns);
    assert_eq!(lines.join("\n"), expected.trim_matches('\n'), "{arguments:?} {columns}");
}

fn some_jobs() -> Records {
    let mut jobs = Records::new();
    jobs.ended("261126-popabar", 195, json!({"status": "completed", "elapsedMs": 12_000, "costUsd": 0.045, "numTurns": 5, "model": "claude-opus-4-8"}));
    jobs.result(
        "261126-popabar",
        "Fixed: `slug` joins the words with single dashes. All 3 tests pass.\nMore.",
    );
    jobs.ended(
        "261126-popokok",
        65,
        json!({
            "status": "failed", "reason": "auth", "error": "API Error 401", "elapsedMs": 191_000,
            "costUsd": 0.4, "costIsLowerBound": true, "spec": {"labels": {"project": "app"}},
        }),
    );
    jobs.live("261126-popupup", 64, &json!({
        "status": "blocked", "countedSince": jobs.minutes_ago(63), "costUsd": 0.08, "blocked": {
            "kind": "question", "requestId": "r", "since": jobs.minutes_ago(62),
            "questions": [{"question": "Which database?", "header": "", "options": [], "multiSelect": false}],
        },
    }));
    jobs.live(
        "261126-popupur",
        62,
        &json!({"status": "queued", "spec": {"after": ["261126-popupup"]}}),
    );
    jobs.live("fix-login", 61, &json!({
        "status": "running", "countedSince": jobs.minutes_ago(60), "costUsd": 0.12, "model": "opus",
        "activity": {"tool": "Bash", "text": "cargo test --quiet"},
        "spec": {"cwd": jobs.home("app"), "admission": {"group": "web"}, "labels": {"project": "app"}},
    }));
    jobs
}

#[test]
fn list_shows_what_jobs_do_or_answered() {
    let jobs = some_jobs();
    assert_screen(
        &jobs,
        &["list"],
        80,
        "
JOB             STATUS        AGE    TIME    COST  NOW OR RESULT
fix-login       running    1h 01m  1h 00m   $0.12  Bash: cargo test --quiet
261126-popupur  queued     1h 02m                  job 261126-popupup has not e…
261126-popupup  blocked    1h 04m  1h 03m   $0.08  asks: Which database?
261126-popokok  failed     1h 05m  3m 11s  ≥$0.40  auth: API Error 401
261126-popabar  completed  3h 15m     12s   $0.05  Fixed: `slug` joins the word…
",
    );
    let lines = screen(&jobs, &["list"], 120);
    assert!(
        lines[5].ends_with("Fixed: `slug` joins the words with single dashes. All 3 tests pass.")
    );
    // Not a terminal: nothing is cut.
    let text = jobs.sandbox.run(["list", "--plain"]).stdout;
    assert_eq!(text.lines().collect::<Vec<&str>>(), lines);
    // JSON has neither the answers nor the values of columns.
    let json = jobs.sandbox.run(["list"]).stdout;
    assert!(!json.contains("slug") && !json.contains("workTime"), "{json}");
}

#[test]
fn list_leaves_out_columns_that_do_not_fit() {
    let jobs = some_jobs();
    let arguments = ["list", "-o", "wide", "--status", "running,failed"];
    assert_screen(
        &jobs,
        &arguments,
        120,
        "
JOB             STATUS      AGE    TIME    COST  FOLDER  GROUP  MODEL  LABELS       NOW OR RESULT
fix-login       running  1h 01m  1h 00m   $0.12  ~/app   web    opus   project=app  Bash: cargo test --quiet
261126-popokok  failed   1h 05m  3m 11s  ≥$0.40                        project=app  auth: API Error 401
",
    );
    assert_screen(
        &jobs,
        &arguments,
        80,
        "
JOB             STATUS      AGE    TIME    COST  FOLDER  GROUP  MODEL
fix-login       running  1h 01m  1h 00m   $0.12  ~/app   web    opus
261126-popokok  failed   1h 05m  3m 11s  ≥$0.40
… left out at this width: LABELS, NOW OR RESULT
",
    );
    // A column of the wide format that is empty in all rows is not shown.
    let lines = screen(&jobs, &["list", "-o", "wide", "--status", "failed"], 120);
    assert!(lines[0].contains("LABELS") && !lines[0].contains("GROUP"), "{lines:#?}");
    let columns = ["list", "--columns", "turns,JOB,reason,attempt", "-n", "2"];
    assert_screen(
        &jobs,
        &columns,
        80,
        "
TURNS  JOB             REASON  ATTEMPT
    0  fix-login                     1
    0  261126-popupur                1
… and 3 more
",
    );
    let wrong = jobs.sandbox.run(["list", "--columns", "job,colour", "--plain"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("'colour'") && wrong.stderr.contains("folder"), "{wrong:?}");
    let json = jobs.sandbox.run(["list", "--columns", "job"]);
    assert_eq!((json.code, json["code"].as_str()), (2, Some("usage")), "{json:?}");
}

#[test]
fn list_says_how_many_jobs_are_left_out() {
    let jobs = Records::new();
    assert_screen(&jobs, &["list"], 80, "No jobs. Start one: claudejob run \"PROMPT\"");
    for index in 0..25 {
        let minutes = 100 + index;
        jobs.ended(&format!("j{index}"), minutes, json!({"status": "killed", "elapsedMs": 60_000}));
    }
    let lines = screen(&jobs, &["list"], 80);
    assert_eq!(lines.len(), 22, "{lines:?}");
    assert!(lines[21].starts_with("… and 5 more: claudejob"), "{lines:?}");
    assert!(lines[21].ends_with("list --all"), "{lines:?}");
    assert_eq!(screen(&jobs, &["list", "--all"], 80).len(), 26);
    let none = screen(&jobs, &["list", "-l", "a=b"], 80);
    assert_eq!(none, ["No job matches; claudejob list --all shows all."]);
}

#[test]
fn status_shows_the_most_important_first() {
    let jobs = some_jobs();
    let lines = screen(&jobs, &["status", "fix-login"], 80);
    let names: Vec<&str> =
        lines.iter().map(|line| line.trim().split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        ["job", "status", "now", "started", "spent", "model", "folder", "prompt", "label", "hint"],
        "{lines:#?}"
    );
    assert!(lines[3].ends_with("(for 1h 00m)"), "{lines:#?}");
    assert_eq!(lines[4].trim(), "spent $0.12");
    assert_eq!(lines[6].trim(), "folder ~/app");
    // The local time of Kolkata, which is half an hour beside others.
    let started = chrono::DateTime::parse_from_rfc3339(&jobs.minutes_ago(61)).unwrap();
    let local = started + chrono::TimeDelta::minutes(330);
    assert!(lines[3].contains(&local.format("%H:%M:%S ").to_string()), "{lines:#?}");

    let failed = screen(&jobs, &["status", "261126-popokok"], 80);
    assert_eq!(failed[1].trim(), "status failed");
    assert_eq!(failed[2].trim(), "error auth: API Error 401");
    assert!(failed[3].ends_with("(took 3m 11s)"), "{failed:#?}");
    assert_eq!(failed[4].trim(), "spent ≥$0.40");
}

#[test]
fn the_time_of_a_job_is_one_number() {
    let jobs = some_jobs();
    // Claude's own time is in the result, for programs.
    for verb in ["list", "status", "result", "wait", "logs"] {
        let lines =
            screen(&jobs, &[verb, "261126-popabar"][..if verb == "list" { 1 } else { 2 }], 80);
        assert!(lines.iter().any(|line| line.contains("12s")), "{verb}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("1m 39s")), "{verb}: {lines:#?}");
    }
    let result = screen(&jobs, &["result", "261126-popabar"], 80);
    assert_eq!(result[2..], ["", "261126-popabar completed · 5 turns · 12s · $0.05"]);
    assert_eq!(jobs.sandbox.run(["result", "261126-popabar"])["duration_ms"], 99_000);
}

#[test]
fn wait_of_several_ends_with_a_table() {
    let jobs = some_jobs();
    let ids = ["261126-popokok", "261126-popabar"];
    assert_screen(
        &jobs,
        &["wait", ids[0], ids[1]],
        80,
        "
JOB             STATUS       TIME    COST  RESULT
261126-popokok  failed     3m 11s  ≥$0.40  auth: API Error 401
261126-popabar  completed     12s   $0.05  Fixed: `slug` joins the words with s…
2 jobs: 1 completed, 1 failed · 2h 11m · ≥$0.45
claudejob result 261126-popabar shows the whole answer
claudejob status 261126-popokok shows why it failed
",
    );
    let lines = screen(&jobs, &["wait", "--label", "project=app", "--any"], 120);
    let live = "fix-login       running  1h 00m   $0.12  Bash: cargo test --quiet";
    assert_eq!(lines[1..3], [live, "261126-popokok  failed   3m 11s  ≥$0.40  auth: API Error 401"]);
    assert_eq!(
        lines[3..],
        [
            "2 jobs: 1 failed, 1 running · 1h 05m · ≥$0.52",
            "claudejob status 261126-popokok shows why it failed"
        ]
    );
    let lines = screen(&jobs, &["wait", ids[1], "261126-popupup"], 120);
    assert_eq!(lines.last().unwrap(), "claudejob answer 261126-popupup answers its request");
}

#[test]
fn no_colour_and_no_dim_text_is_needed() {
    let mut jobs = some_jobs();
    let on_terminal =
        |arguments: &[&str]| Terminal::of_size(jobs.sandbox.command(arguments), 80, 40).finish().1;
    for arguments in [
        ["list", "--all"],
        ["status", "fix-login"],
        ["wait", "261126-popokok"],
        ["logs", "261126-popokok"],
        ["stats", "--all"],
    ] {
        let coloured = on_terminal(&arguments);
        assert!(coloured.contains("\u{1b}["), "{coloured:?}");
        // White, black and dim letters cannot be read on every background; only the mark of a hint
        // is dim.
        let coloured = coloured.replace("\u{1b}[2mhint:", "");
        for style in ["\u{1b}[2m", "\u{1b}[30m", "\u{1b}[37m", "\u{1b}[97m"] {
            assert!(!coloured.contains(style), "{coloured:?}");
        }
    }
    let coloured = on_terminal(&["list"]);
    jobs.sandbox.set("NO_COLOR", "1");
    let (_, plain) = Terminal::of_size(jobs.sandbox.command(["list"]), 80, 40).finish();
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert_eq!(support::screen::Screen::after(&coloured), support::screen::Screen::after(&plain));
}

#[test]
fn sentences_are_wrapped_between_words() {
    let jobs = some_jobs();
    let warning =
        "the first attempt met an overload of the API, and the second one has not ended yet";
    jobs.ended(
        "warned",
        90,
        json!({"status": "killed", "warnings": [warning], "elapsedMs": 1_000}),
    );
    let lines = screen(&jobs, &["result", "warned"], 60);
    assert_eq!(
        lines[1..3],
        [
            "warning: the first attempt met an overload of the API, and",
            "  the second one has not ended yet"
        ]
    );
    // A command stays on its line, so that it can be copied.
    assert!(lines[3].starts_with("hint: claudejob "), "{lines:#?}");
    let plain = jobs.sandbox.run(["result", "warned", "--plain"]).stdout;
    assert!(plain.contains(warning), "{plain}");
}

#[test]
fn answers_are_wrapped_but_code_is_not() {
    let jobs = some_jobs();
    jobs.ended("answered", 90, json!({"status": "completed", "elapsedMs": 1_000, "numTurns": 1}));
    let prose = "The words of a title are joined by single dashes now, so all tests pass again.";
    let code = "cargo test --quiet --package slug --test words -- --nocapture --test-threads 1";
    jobs.result("answered", &format!("{prose}\n```sh\n{code}\n```"));
    let lines = screen(&jobs, &["result", "answered"], 60);
    assert_eq!(lines[0], "The words of a title are joined by single dashes now, so all");
    assert_eq!(lines[1..4], ["  tests pass again.", "```sh", code]);
    let plain = jobs.sandbox.run(["result", "answered", "--plain"]).stdout;
    assert!(plain.starts_with(prose), "{plain}");
}
