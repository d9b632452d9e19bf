//! What inputs do, and what the screen shows.

mod screens;

use super::*;
use crate::job::{Blocked, Question, Status};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_epoch_ms(1_800_000_000_000 + seconds * 1_000).unwrap()
}

pub(super) fn id(name: &str) -> JobId {
    JobId::parse(name).unwrap()
}

/// Returns a job of this status that changed last at this second.
pub(super) fn job(name: &str, status: Status, second: i64) -> TopJob {
    let mut job = TopJob::blank(id(name), Some(status));
    job.started_at = Some(at(-100));
    job.prompt = format!("The task of {name}");
    match status {
        Status::Blocked => job.blocked = Some(question(second)),
        Status::Queued => job.position = usize::try_from(second).ok(),
        status if status.is_live() => job.last_event_at = Some(at(second)),
        _ => job.ended_at = Some(at(second)),
    }
    job
}

fn question(second: i64) -> Blocked {
    let question = Question { question: "Which database?".to_owned(), ..Question::default() };
    Blocked {
        kind: "question".to_owned(),
        request_id: "r".to_owned(),
        tool_name: Some("AskUserQuestion".to_owned()),
        input: String::new(),
        questions: vec![question],
        others: Vec::new(),
        since: at(second),
        released: false,
    }
}

/// Returns a model with these jobs.
pub(super) fn model(jobs: Vec<TopJob>) -> TopModel {
    let mut model = TopModel::new(at(0), 80, 24);
    let _ = model.handle(TopInput::Jobs(jobs));
    model
}

fn of_each_status() -> TopModel {
    model(vec![
        job("done", Status::Completed, -10),
        job("work", Status::Running, -3),
        job("wait", Status::Queued, 1),
        job("ask", Status::Blocked, -20),
    ])
}

/// Presses these keys: characters, and in angle brackets `enter`, `esc`, `up`, `down`, `end` or
/// `c-` with a character. Returns the effects.
pub(super) fn press(model: &mut TopModel, keys: &str) -> Vec<TopEffect> {
    let mut effects = Vec::new();
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let (key, length) = match rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
            Some((name, _)) => {
                let key = match name {
                    "enter" => Key::Enter,
                    "esc" => Key::Escape,
                    "up" => Key::Up,
                    "down" => Key::Down,
                    "end" => Key::End,
                    name => Key::Ctrl(name.strip_prefix("c-").unwrap().chars().next().unwrap()),
                };
                (key, name.len() + 2)
            }
            None => (Key::Char(c), c.len_utf8()),
        };
        effects.extend(model.handle(TopInput::Key(key)));
        rest = &rest[length..];
    }
    effects
}

fn shown(model: &TopModel) -> String {
    let ids: Vec<&str> = model.shown.iter().map(|index| model.jobs[*index].id.as_str()).collect();
    ids.join(" ")
}

#[test]
fn jobs_that_need_a_person_come_first() {
    let mut unreadable = job("torn", Status::Running, 0);
    unreadable.status = None;
    let model = model(vec![
        job("ended-1", Status::Completed, -50),
        job("queued-2", Status::Queued, 2),
        job("run-old", Status::Running, -9),
        job("ask-new", Status::Blocked, -1),
        unreadable,
        job("ended-2", Status::Failed, -5),
        job("idle", Status::Idle, -30),
        job("starts", Status::Starting, 0),
        job("ask-old", Status::Blocked, -100),
        job("run-new", Status::Running, -1),
        job("queued-1", Status::Queued, 1),
        job("ended-3", Status::Killed, -4),
    ]);
    let order = "ask-old ask-new idle run-new run-old starts queued-1 queued-2 torn ended-3 \
        ended-2 ended-1";
    assert_eq!(shown(&model), order);
    assert_eq!(model.chosen, Some(id("ask-old")));
}

#[test]
fn keys_become_effects() {
    let run = |verb, name: &str| vec![TopEffect::Run(verb, id(name))];
    let none: Vec<TopEffect> = Vec::new();
    for (chosen, keys, effects) in [
        ("ask", "<enter>", run(JobVerb::Attach, "ask")),
        ("done", "<enter>", run(JobVerb::Attach, "done")),
        ("work", "d", run(JobVerb::Diff, "work")),
        ("done", "o", run(JobVerb::Open, "done")),
        ("ask", "a", vec![TopEffect::Ask(id("ask"))]),
        ("work", "a", none.clone()),
        ("work", "i", vec![TopEffect::Interrupt(id("work"))]),
        ("done", "i", none.clone()),
        ("work", "K", none.clone()),
        ("work", "Ky", vec![TopEffect::Kill(id("work"))]),
        ("work", "xy", vec![TopEffect::Kill(id("work"))]),
        ("work", "Kn", none.clone()),
        ("work", "K<enter>y", none.clone()),
        ("done", "Ky", none.clone()),
        ("work", "sStop it<enter>", vec![TopEffect::Send(id("work"), "Stop it".to_owned())]),
        ("work", "sq<esc>", none.clone()),
        ("work", "s <enter>", none.clone()),
        ("done", "s", none.clone()),
        ("work", "r", none.clone()),
        ("done", "r<enter>", vec![TopEffect::Continue(id("done"), None)]),
        ("done", "rTests<enter>", vec![TopEffect::Continue(id("done"), Some("Tests".to_owned()))]),
        ("wait", "p", vec![TopEffect::Pause(id("wait"))]),
        ("done", "p", none.clone()),
        ("work", "?q", none.clone()),
        ("work", "?qq", vec![TopEffect::Quit]),
        ("work", "q", vec![TopEffect::Quit]),
        ("work", "<c-c>", vec![TopEffect::Quit]),
        ("work", "sx<c-c>", none.clone()),
        ("work", "<c-z>", vec![TopEffect::Suspend]),
        ("work", "<c-k>z", none.clone()),
    ] {
        let mut model = of_each_status();
        while model.chosen != Some(id(chosen)) {
            let _ = press(&mut model, "j");
        }
        assert_eq!(press(&mut model, keys), effects, "{chosen} {keys}");
    }
}

#[test]
fn a_paused_job_is_unpaused() {
    let mut model = of_each_status();
    let paused_jobs = BTreeSet::from([id("ask")]);
    let _ = model.handle(TopInput::Queue(QueueState { paused_jobs, ..QueueState::default() }));
    let effects = press(&mut model, "p");
    assert_eq!(effects, [TopEffect::Unpause(id("ask"))]);
    let _ = model.handle(TopInput::Done(effects[0].clone(), Ok(String::new())));
    assert_eq!(press(&mut model, "p"), [TopEffect::Pause(id("ask"))]);
}

#[test]
fn a_key_that_does_nothing_says_why() {
    for (keys, text) in [
        ("ja", "work asks nothing"),
        ("jr", "work is running: s sends a message"),
        ("Gs", "done has ended (completed): r continues it"),
        ("GK", "done has ended (completed)"),
        ("Kn", "ask was not killed"),
        ("/none<enter>K", "no job is chosen"),
    ] {
        let mut model = of_each_status();
        let _ = press(&mut model, keys);
        assert_eq!(model.notice.unwrap().text, text, "{keys}");
    }
    let mut model = of_each_status();
    let _ = model.handle(TopInput::Done(TopEffect::Quit, Err("it has ended".to_owned())));
    assert!(model.notice.as_ref().unwrap().is_error);
    let _ = press(&mut model, "j");
    assert_eq!(model.notice, None, "until the next key");
}

#[test]
fn the_choice_stays_on_its_job() {
    let mut model = of_each_status();
    assert_eq!(press(&mut model, "j"), [TopEffect::Follow(id("work"))]);
    let _ = model.handle(TopInput::Said(id("ask"), vec![entry("not of this job")]));
    assert!(model.conversation.is_empty());
    let _ = model.handle(TopInput::Said(id("work"), vec![entry("working")]));
    assert_eq!(model.conversation.len(), 1);
    let changed = vec![job("work", Status::Blocked, -30), job("new", Status::Blocked, -50)];
    assert_eq!(model.handle(TopInput::Changed(changed)), []);
    assert_eq!(shown(&model), "new work ask wait done");
    assert_eq!((model.row, model.conversation.len()), (1, 1));
    assert_eq!(model.handle(TopInput::Removed(id("wait"))), []);
    assert_eq!(
        press(&mut model, "jjjjjkG<end><down>g<up>"),
        [
            TopEffect::Follow(id("ask")),
            TopEffect::Follow(id("done")),
            TopEffect::Follow(id("ask")),
            TopEffect::Follow(id("done")),
            TopEffect::Follow(id("new")),
        ]
    );
}

#[test]
fn a_key_for_a_job_that_is_gone_hits_no_other() {
    type Gone = fn(&mut TopModel);
    let removed: Gone = |model| drop(model.handle(TopInput::Removed(id("ask"))));
    let filtered: Gone =
        |model| drop(model.handle(TopInput::Changed(vec![job("ask", Status::Running, 0)])));
    for gone in [removed, filtered] {
        for keys in ["i", "p", "a", "d", "o", "Ky", "sx<enter>", "<enter>"] {
            let mut model = of_each_status();
            let _ = model.handle(TopInput::Changed(vec![job("ask-2", Status::Blocked, 0)]));
            let _ = press(&mut model, "/blocked<enter>");
            assert_eq!(model.chosen, Some(id("ask")));
            let _ = model.handle(TopInput::Said(id("ask"), vec![entry("not of the next job")]));
            gone(&mut model);
            assert_eq!((shown(&model).as_str(), model.chosen.clone()), ("ask-2", None));
            assert!(model.conversation.is_empty());
            assert_eq!(press(&mut model, keys), [], "{keys}");
            // An arrow chooses the job in its row, and none is left out.
            assert_eq!(press(&mut model, "<down>"), [TopEffect::Follow(id("ask-2"))], "{keys}");
        }
    }
}

#[test]
fn a_question_about_a_removed_job_closes() {
    let mut model = of_each_status();
    let _ = press(&mut model, "jK");
    let jobs = vec![job("ask", Status::Blocked, -20)];
    let _ = model.handle(TopInput::Jobs(jobs));
    // Another job with its id must not be killed.
    let _ = model.handle(TopInput::Changed(vec![job("work", Status::Running, 0)]));
    assert_eq!(press(&mut model, "y"), []);
    let picker = Picker::new("r".to_owned(), Value::Null, Vec::new(), String::new());
    let _ = press(&mut model, "g");
    let _ = model.handle(TopInput::Asked(id("ask"), picker));
    let _ = model.handle(TopInput::Removed(id("ask")));
    assert_eq!(press(&mut model, "y"), []);
}

fn entry(text: &str) -> TranscriptLine {
    TranscriptLine { speaker: crate::stream::transcript::Speaker::Agent, text: text.to_owned() }
}

#[test]
fn the_filter_applies_while_it_is_typed() {
    let mut model = of_each_status();
    let _ = press(&mut model, "/TASK o");
    assert_eq!(shown(&model), "ask work wait done");
    let _ = press(&mut model, "f work");
    assert_eq!(shown(&model), "work");
    let _ = press(&mut model, "<enter>");
    assert!(shown(&model) == "work" && matches!(model.mode, TopMode::Choosing));
    // Another one, given up: the filter before is back.
    let _ = press(&mut model, "/nothing");
    assert_eq!((shown(&model).as_str(), model.chosen.clone()), ("", None));
    let _ = press(&mut model, "<esc>");
    assert_eq!(shown(&model), "work");
    let _ = press(&mut model, "<esc>");
    assert_eq!(shown(&model), "ask work wait done");
    // A paste is no command, and part of a line.
    let _ = model.handle(TopInput::Key(Key::Paste("q".to_owned())));
    let _ = press(&mut model, "/");
    let _ = model.handle(TopInput::Key(Key::Paste("done".to_owned())));
    assert_eq!(shown(&model), "done");
}

#[test]
fn a_request_is_answered_by_choices() {
    let choices = || {
        let options = vec![crate::job::Choice::default(); 2];
        let question = Question { question: "db?".to_owned(), options, ..Question::default() };
        let input = serde_json::json!({});
        Picker::new("r".to_owned(), input, vec![question], String::new())
    };
    let mut model = of_each_status();
    let _ = model.handle(TopInput::Asked(id("ask"), choices()));
    let effects = press(&mut model, "j<enter>");
    let [TopEffect::Answer { id: answered, request_id, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((answered.as_str(), request_id.as_str()), ("ask", "r"));

    // Not now, not while something is typed, not for another job.
    let _ = model.handle(TopInput::Asked(id("ask"), choices()));
    assert_eq!(press(&mut model, "<esc>"), []);
    let _ = press(&mut model, "s");
    let _ = model.handle(TopInput::Asked(id("ask"), choices()));
    assert!(matches!(model.mode, TopMode::Typing(..)));
    let _ = press(&mut model, "<esc>j");
    let _ = model.handle(TopInput::Asked(id("ask"), choices()));
    assert!(matches!(model.mode, TopMode::Choosing));

    // An answer from elsewhere closes the choices.
    let _ = press(&mut model, "k");
    let _ = model.handle(TopInput::Asked(id("ask"), choices()));
    let _ = model.handle(TopInput::Changed(vec![job("work", Status::Running, 0)]));
    assert!(matches!(model.mode, TopMode::Answering(..)));
    let _ = model.handle(TopInput::Changed(vec![job("ask", Status::Running, 0)]));
    assert_eq!(model.notice.unwrap().text, "ask no longer waits for this answer");
}

#[test]
fn two_texts_that_were_not_sent_are_not_lost() {
    let mut model = of_each_status();
    let sent = press(&mut model, "sone<enter>jstwo");
    let _ = model.handle(TopInput::Done(sent[0].clone(), Err("refused".to_owned())));
    let again = press(&mut model, "!<enter>");
    assert!(matches!(&again[..], [TopEffect::Send(_, text)] if text == "two!"), "{again:?}");
    assert_eq!(press(&mut model, "<enter>"), [sent[0].clone()]);
}

#[test]
fn a_text_that_was_not_sent_can_be_sent_again() {
    for (effect, keys) in [
        (TopEffect::Send(id("work"), "Stop".to_owned()), "s"),
        (TopEffect::Continue(id("work"), Some("Stop".to_owned())), "r"),
    ] {
        let mut model = of_each_status();
        let _ = model.handle(TopInput::Done(effect.clone(), Err("it has ended".to_owned())));
        assert_eq!(press(&mut model, "<enter>"), [effect], "{keys}");
    }
}

#[test]
fn the_clock_has_steps_of_what_is_shown() {
    let step = |model: &TopModel| model.clock_step().map(|step| step.as_secs());
    assert_eq!(step(&model(Vec::new())), None);
    let mut model = model(vec![job("old", Status::Completed, -4_000)]);
    assert_eq!(step(&model), Some(60));
    let _ = model.handle(TopInput::Changed(vec![job("new", Status::Completed, -3)]));
    assert_eq!(step(&model), Some(1));
    let _ = model.handle(TopInput::Removed(id("new")));
    let _ = model.handle(TopInput::Changed(vec![job("work", Status::Running, 0)]));
    assert_eq!(step(&model), Some(1));
}

#[test]
fn the_list_scrolls_with_the_choice() {
    let mut jobs = Vec::new();
    for index in 0..100 {
        jobs.push(job(&format!("job-{index:02}"), Status::Completed, -index));
    }
    let mut model = model(jobs);
    let visible = |model: &TopModel| {
        let ids: Vec<String> = model.visible_jobs().map(|job| job.id.to_string()).collect();
        (ids.first().unwrap().clone(), ids.last().unwrap().clone())
    };
    let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
    assert_eq!(visible(&model), pair("job-00", "job-07"));
    let _ = press(&mut model, "jjjjjjjjj");
    assert_eq!(visible(&model), pair("job-02", "job-09"));
    let _ = press(&mut model, "G");
    assert_eq!(visible(&model), pair("job-92", "job-99"));
    let _ = press(&mut model, "kkkkkkkkk");
    assert_eq!(visible(&model), pair("job-90", "job-97"));
    let _ = model.handle(TopInput::Size(80, 10));
    assert!(model.visible_jobs().any(|job| Some(&job.id) == model.chosen.as_ref()));
}
