//! Lines that follow jobs.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::records::Records;
use crate::support::screen::Screen;
use crate::support::terminal::Terminal;
use crate::support::{eventually, processes};
use nix::sys::signal::Signal;

fn running(jobs: &Records, text: &str) -> Value {
    json!({
        "status": "running", "countedSince": jobs.minutes_ago(61), "costUsd": 0.12,
        "activity": {"tool": "Bash", "text": text},
    })
}

fn last_line(terminal: &Terminal) -> String {
    Screen::after(&terminal.screen()).pop().unwrap_or_default()
}

#[test]
fn wait_follows_changes_during_a_flood_of_them() {
    let mut jobs = Records::new();
    let first = running(&jobs, "step 0.");
    jobs.live("one", 65, &first);
    let terminal = Terminal::of_size(jobs.sandbox.command(["wait", "one"]), 80, 24);
    terminal.await_text("step 0.");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut step = 0;
            while !is_over.load(Ordering::Relaxed) {
                step += 1;
                jobs.write("one", 65, &running(&jobs, &format!("step {step}.")));
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        eventually("a line that follows the changes", || {
            seen.insert(last_line(&terminal));
            (seen.len() > 5).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
    });
    jobs.write("one", 65, &running(&jobs, "the last step"));
    terminal.await_text("the last step");
    assert_eq!(last_line(&terminal), "running 1h 01m · $0.12 · Bash: the last step");
    jobs.end("one", json!({"status": "killed", "elapsedMs": 61_000}));
    let (code, output) = terminal.finish();
    assert_eq!(code, 3, "{output}");
    // The line is gone.
    assert_eq!(Screen::after(&output)[0], "one killed · 0 turns · 1m 01s", "{output:?}");
}

#[test]
fn wait_of_several_shows_them_all() {
    let mut jobs = Records::new();
    let [work, limited] = ["cargo test", "x"].map(|text| running(&jobs, text));
    jobs.live("fix-login", 65, &work);
    let mut limited = limited;
    let until = jobs.minutes_ahead(72);
    limited["waitingFor"] = json!({"kind": "limit", "until": until, "why": "a limit"});
    jobs.live("limited", 65, &limited);
    for index in 0..9 {
        jobs.live(&format!("j{index}"), 65, &running_quietly(&jobs));
    }
    jobs.ended(
        "over",
        60,
        json!({"status": "failed", "reason": "auth", "error": "refused", "elapsedMs": 5_000}),
    );
    let ids = ["over", "fix-login", "limited"].map(str::to_owned);
    let others = (0..9).map(|index| format!("j{index}"));
    let arguments: Vec<String> = ["wait".to_owned(), "--through-blocked".to_owned()]
        .into_iter()
        .chain(ids)
        .chain(others)
        .collect();
    let terminal = Terminal::of_size(jobs.sandbox.command(&arguments), 80, 24);
    terminal.await_text("more");
    let lines = Screen::after(&terminal.screen());
    assert_eq!(lines[0], "1 of 12 done, 1 failed, 10 running, 1 waiting", "{lines:#?}");
    assert_eq!(lines[1], "  fix-login  running  1h 01m  Bash: cargo test");
    let wait = "  limited    waiting  1h 01m  rate limit, until ";
    assert!(lines[2].starts_with(wait) && lines[2].ends_with("left)"), "{lines:#?}");
    assert_eq!(lines[11..], ["  … and 1 more"], "{lines:#?}");
    jobs.end("j0", json!({"status": "killed"}));
    terminal.await_text("2 of 12 done, 1 failed, 1 killed, 9 running, 1 waiting");
    processes::send(terminal.pid(), Signal::SIGINT);
    let (code, output) = terminal.finish();
    assert_eq!(code, 130, "{output}");
    let lines = Screen::after(&output);
    assert!(lines[0].starts_with("Left running: 10 jobs"), "{lines:#?}");
}

fn running_quietly(jobs: &Records) -> Value {
    json!({"status": "running", "countedSince": jobs.minutes_ago(61)})
}

#[test]
fn a_timeout_ends_a_wait_during_a_flood() {
    let mut jobs = Records::new();
    let first = running(&jobs, "x");
    jobs.live("one", 65, &first);
    let call = ["wait", "one", "--timeout", "1s"];
    let terminal = Terminal::of_size(jobs.sandbox.command(call), 80, 24);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                jobs.write("one", 65, &running(&jobs, "y"));
            }
        });
        assert_eq!(terminal.finish().0, 124);
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn without_colour_only_the_cursor_is_moved() {
    let mut jobs = Records::new();
    jobs.sandbox.set("NO_COLOR", "1");
    for id in ["one", "two"] {
        let fields = running(&jobs, "x");
        jobs.live(id, 65, &fields);
    }
    let call = ["wait", "one", "two", "--timeout", "3s"];
    let (code, output) = Terminal::of_size(jobs.sandbox.command(call), 80, 24).finish();
    assert_eq!(code, 124);
    assert!(output.contains("0 of 2 done, 2 running"), "{output:?}");
    let sequences = output.split('\u{1b}').skip(1);
    for sequence in sequences {
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        assert!(["[J", "[2A"].contains(&&sequence[..=end]), "{output:?}");
    }
}

#[test]
fn a_dumb_terminal_gets_no_live_line() {
    let mut jobs = Records::new();
    jobs.sandbox.set("TERM", "dumb");
    let first = running(&jobs, "never shown");
    jobs.live("one", 65, &first);
    let call = ["wait", "one", "--timeout", "1s"];
    let (code, output) = Terminal::of_size(jobs.sandbox.command(call), 80, 24).finish();
    assert_eq!(code, 124);
    assert!(!output.contains('\u{1b}'), "{output:?}");
    let (code, output) =
        Terminal::of_size(jobs.sandbox.command(["list", "--watch"]), 80, 24).finish();
    assert_eq!(code, 2, "{output}");
}

#[test]
fn the_watched_list_follows_changes() {
    let mut jobs = Records::new();
    for index in 0..30 {
        jobs.ended(
            &format!("j{index}"),
            90 + index,
            json!({"status": "killed", "elapsedMs": 60_000}),
        );
    }
    let first = running(&jobs, "the first step");
    jobs.live("one", 65, &first);
    let terminal = Terminal::of_size(jobs.sandbox.command(["list", "--watch"]), 80, 10);
    terminal.await_text("the first step");
    terminal.await_text("… and 24 more: claudejob");
    let lines = Screen::after(&terminal.screen());
    assert_eq!(lines.len(), 9, "{lines:#?}");
    assert!(lines[1].starts_with("one  running  1h 05m  1h 01m  $0.12  Bash: the"), "{lines:#?}");
    assert!(lines[8].starts_with("… and 24 more: claudejob"), "{lines:#?}");
    jobs.write("one", 65, &running(&jobs, "the next step"));
    terminal.await_text("the next step");
    jobs.ended("new", 60, json!({"status": "failed", "reason": "auth", "error": "refused"}));
    terminal.await_text("auth: refused");
    jobs.end("one", json!({"status": "completed", "elapsedMs": 60_000}));
    terminal.await_text("completed");
    // What was there before is shown again while the call is stopped, and after its end.
    processes::send(terminal.pid(), Signal::SIGTSTP);
    eventually("the stop", || processes::is_stopped(terminal.pid()).then_some(()));
    let is_empty = |output: &str| Screen::after(output).is_empty();
    eventually("an empty screen", || is_empty(&terminal.screen()).then_some(()));
    processes::send(terminal.pid(), Signal::SIGCONT);
    eventually("the list", || (!is_empty(&terminal.screen())).then_some(()));
    processes::send(terminal.pid(), Signal::SIGQUIT);
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    assert!(is_empty(&output), "{output:?}");

    let refused = jobs.sandbox.run(["list", "--watch", "--plain"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("events --all --follow"), "{refused:?}");
}
