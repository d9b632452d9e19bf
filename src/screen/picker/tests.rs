use anstream::adapter::strip_str;
use serde_json::json;

use super::*;
use crate::job::parse_questions;

fn question(text: &str, multi_select: bool) -> Value {
    let options = json!([
        {"label": "Postgres", "description": "what the tests use today, with all features"},
        {"label": "SQLite", "description": "a file"},
    ]);
    json!({"question": text, "header": "h", "options": options, "multiSelect": multi_select})
}

fn picker(questions: &[Value]) -> Picker {
    let input = json!({ "questions": questions });
    let parsed = parse_questions(&input.to_string());
    let description =
        if questions.is_empty() { "claude wants to run a command:\n  make\n" } else { "" };
    Picker::new("r".to_owned(), input, parsed, description.to_owned())
}

/// Types keys: `^` and `v` are arrows, `#` is Enter, `!` is Escape.
fn typed(picker: &mut Picker, keys: &str) -> PickerStep {
    let mut step = PickerStep::Open;
    for c in keys.chars() {
        let key = match c {
            '^' => Key::Up,
            'v' => Key::Down,
            '#' => Key::Enter,
            '!' => Key::Escape,
            c => Key::Char(c),
        };
        step = picker.handle(&key);
    }
    step
}

#[test]
fn keys_choose_an_answer() {
    for (multi, keys, expected) in [
        (false, "#", "Postgres"),
        (false, "v#", "SQLite"),
        (false, "^^#", "SQLite"),
        (false, "2", "SQLite"),
        (false, "jjkk#", "Postgres"),
        (false, "vv#a file, 2#", "a file, 2"),
        (false, "3x!1", "Postgres"),
        (false, "9 #", "Postgres"),
        (true, " v #", "Postgres, SQLite"),
        (true, "12#", "Postgres, SQLite"),
        (true, "1122#", "SQLite"),
        (true, "v#", "SQLite"),
        (true, "13and more#", "Postgres, and more"),
    ] {
        let PickerStep::Answer(response) = typed(&mut picker(&[question("db?", multi)]), keys)
        else {
            panic!("{keys}")
        };
        assert_eq!(response["updatedInput"]["answers"]["db?"], expected, "{keys}");
    }
}

#[test]
fn questions_follow_each_other() {
    let mut picker = picker(&[question("a?", false), question("b?", true)]);
    assert_eq!(typed(&mut picker, "2"), PickerStep::Open);
    let PickerStep::Answer(response) = typed(&mut picker, " #") else { panic!() };
    assert_eq!(response["updatedInput"]["answers"], json!({"a?": "SQLite", "b?": "Postgres"}));
}

#[test]
fn keys_allow_or_deny_a_tool_call() {
    let allowed = json!({"behavior": "allow", "updatedInput": {"questions": []}});
    for (keys, expected) in [
        ("#", Some(allowed.clone())),
        ("y", Some(allowed.clone())),
        ("1", Some(allowed)),
        ("n#", Some(denied_by_person(""))),
        ("2", Some(denied_by_person(""))),
        ("3not here#", Some(denied_by_person("not here"))),
        ("3#", Some(denied_by_person(""))),
        ("n", None),
        ("3x", None),
        ("xz", None),
    ] {
        let step = typed(&mut picker(&[]), keys);
        assert_eq!(step, expected.map_or(PickerStep::Open, PickerStep::Answer), "{keys}");
    }
    for keys in ["!", "q", "3x!!"] {
        assert_eq!(typed(&mut picker(&[]), keys), PickerStep::Closed, "{keys}");
    }
}

#[track_caller]
fn assert_view(picker: &Picker, width: usize, rows: usize, expected: &[&str]) {
    let view = picker.view(width, rows);
    let shown: Vec<String> = view.lines.iter().map(|line| strip_str(line).to_string()).collect();
    let shown: Vec<&str> = shown.iter().map(|line| line.trim_end()).collect();
    assert_eq!(shown, expected);
    assert!(view.lines.len() <= rows);
    if let Some((_, line)) = view.cursor {
        assert!(line < view.lines.len(), "{view:?}");
    }
}

#[test]
fn the_view_shows_choices_and_descriptions() {
    let mut one = picker(&[question("Which database do you want to use?", false)]);
    assert_view(
        &one,
        40,
        20,
        &[
            "Which database do you want to use?",
            "❯ 1. Postgres: what the tests use",
            "     today, with all features",
            "  2. SQLite: a file",
            "  3. Another answer: type it",
        ],
    );
    typed(&mut one, "v");
    assert_view(
        &one,
        40,
        3,
        &[
            "Which database do you want to use?",
            "     today, with all features",
            "❯ 2. SQLite: a file",
        ],
    );
    typed(&mut one, "v#ab");
    assert_view(
        &one,
        40,
        3,
        &["Which database do you want to use?", "❯ 3. Another answer: type it", "  > ab"],
    );
    assert_view(&one, 40, 1, &["  > ab"]);
    assert_eq!(one.view(40, 20).cursor, Some((6, 5)));
}

#[test]
fn a_hostile_question_harms_no_terminal() {
    let hostile =
        json!({"question": "a\u{1b}[2J\nb", "options": [{"label": "x\u{202e}\u{1b}]0;t\u{7}"}]});
    let view = picker(&[hostile]).view(30, 9);
    let text = view.lines.join("\n");
    assert!(
        !text.contains("\u{1b}[2J") && !text.contains("\u{1b}]") && !text.contains('\u{202e}'),
        "{text:?}"
    );
}
