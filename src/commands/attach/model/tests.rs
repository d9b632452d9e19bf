use anstream::adapter::strip_str;
use serde_json::json;

use super::*;
use crate::job::{allow_response, denied_by_person};

fn permission() -> Picker {
    let description = "claude wants to run a command in ~/app:\n  make\n".to_owned();
    Picker::new("r".to_owned(), json!({"command": "make"}), Vec::new(), description)
}

/// Types keys: `#` is Enter, `!` Escape, `@` Tab, and `^` makes a control key of the next letter.
fn typed(model: &mut AttachModel, keys: &str) -> Vec<AttachEffect> {
    let mut effects = Vec::new();
    let mut is_control = false;
    for c in keys.chars() {
        let key = match c {
            '^' => {
                is_control = true;
                continue;
            }
            c if is_control => Key::Ctrl(c),
            '#' => Key::Enter,
            '!' => Key::Escape,
            '@' => Key::Tab,
            c => Key::Char(c),
        };
        is_control = false;
        effects.extend(model.handle(&key));
    }
    effects
}

fn send(text: &str) -> AttachEffect {
    AttachEffect::Send(text.to_owned())
}

fn answer(response: Value) -> AttachEffect {
    AttachEffect::Answer("r".to_owned(), response)
}

#[test]
fn keys_have_effects_by_status() {
    use Status::{Blocked, Completed, Failed, Idle, Queued, Running};
    let resume = |text: &str| AttachEffect::Resume(Some(text.to_owned()));
    for (status, keys, effects) in [
        (Running, "hello#", vec![send("hello")]),
        (Idle, " a b #", vec![send("a b")]),
        (Queued, "x#", vec![send("x")]),
        (Running, "#  #", vec![]),
        // Ctrl-C clears the line, then asks, then interrupts.
        (Running, "x^c", vec![]),
        (Running, "^c", vec![]),
        (Running, "^c^c", vec![AttachEffect::Interrupt]),
        (Running, "x^c^c^c", vec![AttachEffect::Interrupt]),
        (Running, "^cx^c^c", vec![]),
        (Blocked, "^c^c", vec![AttachEffect::Interrupt]),
        (Idle, "^c^c", vec![]),
        (Queued, "^c^c", vec![]),
        (Completed, "^c^c", vec![]),
        // One call at a time.
        (Running, "a#b#", vec![send("a")]),
        // Ctrl-D leaves with an empty line.
        (Running, "^d", vec![AttachEffect::Leave]),
        (Running, "x^d", vec![]),
        (Running, "x^z", vec![AttachEffect::Suspend]),
        // An ended job is resumed after a question.
        (Completed, "more#", vec![]),
        (Completed, "more#y", vec![resume("more")]),
        (Completed, "more##", vec![resume("more")]),
        (Failed, "#y", vec![AttachEffect::Resume(None)]),
        (Failed, "more#n#y", vec![resume("more")]),
        (Failed, "more#^c!#xy", vec![resume("more")]),
    ] {
        let mut model = AttachModel::new(status);
        assert_eq!(typed(&mut model, keys), effects, "{status} {keys}");
    }
}

#[test]
fn requests_are_answered_where_they_appear() {
    let allowed = allow_response(&json!({"command": "make"}), &Default::default());
    for (keys, effects) in [
        ("#", vec![answer(allowed.clone())]),
        ("n#", vec![answer(denied_by_person(""))]),
        ("3no#", vec![answer(denied_by_person("no"))]),
        // Escape leads to the line, Tab back.
        ("!wait#", vec![send("wait")]),
        ("!@#", vec![answer(allowed.clone())]),
        ("^c!#", vec![answer(allowed.clone())]),
        ("^c^c", vec![AttachEffect::Interrupt]),
        ("^d", vec![AttachEffect::Leave]),
    ] {
        let mut model = AttachModel::new(Status::Blocked);
        model.open_picker(permission());
        assert_eq!(typed(&mut model, keys), effects, "{keys}");
    }
    // What is being typed is never taken for an answer.
    let mut model = AttachModel::new(Status::Running);
    assert!(typed(&mut model, "ye").is_empty());
    model.open_picker(permission());
    assert_eq!(typed(&mut model, "s#"), [send("yes")]);
}

#[test]
fn a_typed_text_survives_a_failed_call() {
    let mut model = AttachModel::new(Status::Running);
    assert_eq!(typed(&mut model, "one#two"), [send("one")]);
    assert_eq!(model.line.text(), "two");
    model.end_call(Some("job x has ended".to_owned()));
    assert_eq!(model.line.text(), "one\ntwo");
    // A new status or request hides no error, and the error not what the keys do.
    model.set_status(Status::Idle);
    model.set_status(Status::Running);
    model.open_picker(permission());
    let lines = shown(&model, 80, 24);
    assert!(lines[lines.len() - 2].ends_with("job x has ended"), "{lines:?}");
    assert!(lines[lines.len() - 1].starts_with("Tab: answer the request"), "{lines:?}");
    model.close_picker();
    assert!(shown(&model, 60, 8).concat().contains("job x has ended"));
    assert!(typed(&mut model, "^c").is_empty());
    assert!(!shown(&model, 60, 24).concat().contains("job x has ended"));
    // A job that ends meanwhile is no longer sent a message.
    typed(&mut model, "more");
    model.set_status(Status::Completed);
    assert_eq!(typed(&mut model, "#y"), [AttachEffect::Resume(Some("more".to_owned()))]);
    model.end_call(None);
    assert!(model.line.is_empty());
}

#[test]
fn a_confirmation_ends_with_its_reason() {
    let mut model = AttachModel::new(Status::Running);
    assert!(typed(&mut model, "^c").is_empty());
    model.set_status(Status::Idle);
    assert_eq!(typed(&mut model, "^c"), []);
    model.set_status(Status::Completed);
    assert!(typed(&mut model, "x#").is_empty());
    model.set_status(Status::Running);
    assert_eq!(typed(&mut model, "#"), [send("x")]);
}

fn shown(model: &AttachModel, width: usize, rows: usize) -> Vec<String> {
    let (lines, cursor) = model.view("x running 5s", width, rows);
    assert!(lines.len() <= rows && cursor.1 < lines.len(), "{lines:?} {cursor:?}");
    lines.iter().map(|line| strip_str(line).to_string().trim_end().to_owned()).collect()
}

#[test]
fn the_view_has_status_line_and_keys() {
    let mut model = AttachModel::new(Status::Running);
    typed(&mut model, "some text");
    assert_eq!(
        shown(&model, 40, 10),
        [
            "── x running 5s ────────────────────────",
            "> some text",
            "Enter sends · Ctrl-C interrupts the turn",
            "  · Ctrl-D leaves",
        ]
    );
    typed(&mut model, "^c");
    model.open_picker(permission());
    assert_eq!(
        shown(&model, 60, 10),
        [
            "── x running 5s ────────────────────────────────────────────",
            "claude wants to run a command in ~/app:",
            "  make",
            "❯ 1. Allow",
            "  2. Deny",
            "  3. Deny, and say why",
            "↑↓ choose · Enter answers · Esc: type a message instead",
        ]
    );
    for (width, rows) in [(40, 10), (20, 5), (10, 4), (3, 3), (80, 24)] {
        shown(&model, width, rows);
    }
}
