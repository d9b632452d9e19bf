//! The screen at several sizes, as committed texts. `UPDATE_SCREENS=1` writes them anew.

use std::path::Path;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::job::{Reason, WaitKind, WaitingFor, WorkTime};
use crate::output::failure;
use crate::screen::remove_colors;
use crate::stream::transcript::Speaker;

const SIZES: [(u16, u16); 3] = [(40, 10), (80, 24), (200, 50)];

/// Returns the lines that the model draws.
fn drawn(model: &TopModel) -> (String, Buffer) {
    let (width, height) = model.size;
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    model.draw(&mut buffer);
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(symbol.width().max(1)).unwrap();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    (text, buffer)
}

/// Compares the screen of a model at each size with the committed texts.
fn check(name: &str, mut model: TopModel) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/top");
    for (width, height) in SIZES {
        let _ = model.handle(TopInput::Size(width, height));
        let (text, _) = drawn(&model);
        let path = folder.join(format!("{name}-{width}x{height}.txt"));
        if std::env::var_os("UPDATE_SCREENS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, committed, "{}: UPDATE_SCREENS=1 writes it anew", path.display());
    }
}

fn said(speaker: Speaker, text: &str) -> TranscriptLine {
    TranscriptLine { speaker, text: text.to_owned() }
}

fn some_jobs() -> TopModel {
    let mut login = job("fix-login", Status::Running, -2);
    login.text = Some("Bash: cargo test --quiet".to_owned());
    login.cost_usd = Some(0.12);
    login.work_time = Some(WorkTime::running(Duration::from_secs(3_723), at(-5)));
    login.place = JobPlace {
        folder: "/srv/app".to_owned(),
        group: Some("web".to_owned()),
        model: Some("claude-opus-4-8".to_owned()),
        labels: vec!["project=app".to_owned()],
    };
    let mut limited = job("limited", Status::Running, -600);
    limited.waiting_for = Some(WaitingFor::new(WaitKind::Limit, None, "a limit"));
    limited.work_time = Some(WorkTime::running(Duration::from_secs(60), at(-600)));
    limited.cost_usd = Some(1.5);
    let mut failed = job("261126-popokok", Status::Failed, -4_000);
    failed.text = Some(failure(Some(Reason::Auth), "API Error 401"));
    (failed.cost_usd, failed.cost_is_lower_bound) = (Some(0.4), true);
    let mut queued = job("migrate-the-database-of-the-shop", Status::Queued, 1);
    let why = "it is number 1 in the queue for a slot";
    queued.waiting_for = Some(WaitingFor::new(WaitKind::Slot, None, why));
    let mut done = job("done", Status::Completed, -90_000);
    done.text =
        Some("Fixed: `slug` joins the words with single dashes. All 3 tests pass.".to_owned());
    let mut jobs = vec![login, limited, failed, queued, done];
    jobs.push(job("ask", Status::Blocked, -75));
    for index in 0..30 {
        jobs.push(job(&format!("old-{index:02}"), Status::Killed, -100_000 - index));
    }
    let mut model = model(jobs);
    let _ = model.handle(TopInput::Queue(QueueState {
        slots: 2,
        max_slots: Some(2),
        limits: vec![(at(730), "15:40".to_owned())],
        paused: vec!["group web".to_owned()],
        paused_jobs: BTreeSet::new(),
    }));
    model
}

fn conversation() -> Vec<TranscriptLine> {
    let mut entries = vec![said(Speaker::User, "Fix the failing test in src/slug.rs")];
    for index in 1..=12 {
        entries.push(said(Speaker::Tool, &format!("Read: src/part-{index}.rs")));
    }
    entries.push(said(Speaker::ToolError, "no such file"));
    entries.push(said(
        Speaker::Agent,
        "The test fails because `slug` joins the words with two dashes. I change the separator \
         and run the tests again.\n\n```rust\nwords.join(\"-\") // and this line of code is not wrapped, however long it is, because it has a meaning\n```",
    ));
    entries.push(said(Speaker::Tool, "Bash: cargo test --quiet"));
    entries
}

#[test]
fn a_list_with_a_conversation() {
    let mut model = some_jobs();
    let _ = press(&mut model, "j");
    let _ = model.handle(TopInput::Said(id("fix-login"), conversation()));
    check("list", model);
}

#[test]
fn a_filtered_list() {
    let mut model = some_jobs();
    let _ = press(&mut model, "/old-1");
    check("filter", model);
}

#[test]
fn a_message_that_is_typed() {
    let mut model = some_jobs();
    let _ = press(&mut model, "sLeave the API as it is, and tell me which of the tests failed");
    check("send", model);
}

#[test]
fn choices_of_an_answer() {
    let mut model = some_jobs();
    let option = |label: &str, description: &str| crate::job::Choice {
        label: label.to_owned(),
        description: description.to_owned(),
    };
    let question = Question {
        question: "Which database shall the shop use?".to_owned(),
        options: vec![
            option("Postgres", "what the tests use today, with all its features"),
            option("SQLite", "one file"),
        ],
        ..Question::default()
    };
    let input = serde_json::json!({});
    let picker = Picker::new("r".to_owned(), input, vec![question], String::new());
    let _ = model.handle(TopInput::Asked(id("ask"), picker));
    let _ = press(&mut model, "j");
    check("answer", model);
}

#[test]
fn a_kill_that_is_confirmed() {
    let mut model = some_jobs();
    let _ = press(&mut model, "jK");
    check("kill", model);
}

#[test]
fn the_keys() {
    let mut model = some_jobs();
    let _ = press(&mut model, "?");
    check("help", model);
}

#[test]
fn no_jobs() {
    check("empty", model(Vec::new()));
}

#[test]
fn hostile_text_does_no_harm() {
    let text = "\u{1b}[2J\u{1b}]0;title\u{7}one\ntwo\tthree \u{202e}evil \u{9b}31m 日本語 👩\u{200d}👧 e\u{301}";
    let mut hostile = job("hostile", Status::Running, 0);
    hostile.text = Some(text.repeat(20));
    hostile.prompt = text.to_owned();
    hostile.place = JobPlace {
        folder: text.to_owned(),
        group: Some(text.to_owned()),
        model: Some(text.to_owned()),
        labels: vec![text.to_owned()],
    };
    let mut asks = job("asks", Status::Blocked, 0);
    asks.blocked.as_mut().unwrap().questions[0].question = text.to_owned();
    let mut model = model(vec![hostile, asks]);
    let _ = press(&mut model, "j");
    let _ = model.handle(TopInput::Done(TopEffect::Quit, Err(text.to_owned())));
    let _ = model.handle(TopInput::Said(id("hostile"), vec![said(Speaker::Agent, text)]));
    check("hostile", model);
}

#[test]
fn every_size_is_drawn() {
    let mut model = some_jobs();
    let _ = press(&mut model, "j");
    let _ = model.handle(TopInput::Said(id("fix-login"), conversation()));
    for keys in ["", "?", "q/x", "<esc>s", "<esc>K"] {
        let _ = press(&mut model, keys);
        for width in [0, 1, 2, 5, 10, 39, 81, 300] {
            for height in 0..20 {
                let _ = model.handle(TopInput::Size(width, height));
                drawn(&model);
            }
        }
    }
}

#[test]
fn without_colour_attributes_remain() {
    let mut model = some_jobs();
    let _ = press(&mut model, "j");
    let (text, coloured) = drawn(&model);
    let mut plain = coloured.clone();
    remove_colors(&mut plain);
    assert!(text.contains("fix-login"));
    let colours = |buffer: &Buffer| {
        buffer.content().iter().any(|cell| cell.fg != ratatui::style::Color::Reset)
    };
    assert!(colours(&coloured) && !colours(&plain));
    let has = |modifier| plain.content().iter().any(|cell| cell.modifier.contains(modifier));
    assert!(has(ratatui::style::Modifier::REVERSED) && has(ratatui::style::Modifier::BOLD));
}
