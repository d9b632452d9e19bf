use super::*;
use crate::job::{Choice, Question, Reason, Spec, Verdict};

fn record() -> Record {
    let at = Timestamp::from_epoch_ms(1_795_204_010_000).unwrap();
    Record::new(JobId::parse("a").unwrap(), Spec::default(), "work".to_owned(), at)
}

fn question(text: &str, header: &str, labels: &[&str]) -> Question {
    let option = |label: &&str| Choice { label: (*label).to_owned(), description: String::new() };
    Question {
        question: text.to_owned(),
        header: header.to_owned(),
        options: labels.iter().map(option).collect(),
        multi_select: false,
    }
}

fn blocked(kind: &str, questions: Vec<Question>, others: &[&str]) -> String {
    let mut record = record();
    record.status = Status::Blocked;
    record.blocked = Some(Blocked {
        kind: kind.to_owned(),
        request_id: "r 1".to_owned(),
        tool_name: None,
        input: String::new(),
        questions,
        others: others.iter().map(|id| (*id).to_owned()).collect(),
        since: Timestamp::from_epoch_ms(0).unwrap(),
        released: false,
    });
    record.hint().unwrap()
}

#[test]
fn every_status_but_completed_has_a_hint() {
    for status in Status::ALL {
        let hint = Record { status, ..record() }.hint();
        assert_eq!(hint.is_none(), status == Status::Completed, "{status}");
    }
    for reason in Reason::ALL {
        for version in [0, crate::job::FORMAT_VERSION, 99] {
            let mut record = record();
            record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
            record.version = version;
            let hint = record.hint().unwrap();
            let ours = version == crate::job::FORMAT_VERSION;
            assert!(ours || hint.contains("claudejob logs a"), "{reason} {version}: {hint}");
        }
    }
}

fn failed(reason: Reason) -> Record {
    let mut record = record();
    record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
    record
}

fn hint_of(record: &Record) -> String {
    record.hint().unwrap()
}

#[test]
fn failures_have_a_next_command() {
    let at = record().times.started_at;
    for (reason, resumable_at, hint) in [
        (
            Reason::Auth,
            None,
            "claudejob recover a  # after logging in: run claude and /login, or replace the key",
        ),
        (Reason::WakeupMissed, None, "claudejob recover a"),
        (Reason::WorkerDied, None, "claudejob recover a"),
        (Reason::RateLimit, at, "claudejob resume a  # after 2026-11-20T19:46:50.000Z"),
        (Reason::RateLimit, None, "claudejob resume a  # after the limit has ended"),
        (Reason::MaxTurns, None, "claudejob resume a"),
        (
            Reason::PromptRejected,
            None,
            "claudejob logs a  # then start a new job with another prompt: \
             claudejob rerun a --prompt TEXT",
        ),
        (
            Reason::LaunchFailed,
            None,
            "claudejob logs a --stderr  # a person must remove the cause (see error); then: \
             claudejob resume a",
        ),
    ] {
        let mut record = failed(reason);
        record.limit.resumable_at = resumable_at;
        assert_eq!(hint_of(&record), hint, "{reason}");
    }
}

#[test]
fn a_limit_that_ended_the_job_is_doubled() {
    for (reason, hint) in [
        (Reason::MaxTurns, "claudejob resume a --max-turns 14"),
        (Reason::MaxBudget, "claudejob resume a --max-budget-usd 0.3  # if that much may be spent"),
        (Reason::Timeout, "claudejob resume a --timeout 3s"),
        (Reason::Stalled, "claudejob resume a --stall-timeout 20m --tool-timeout 2ms"),
    ] {
        let mut record = failed(reason);
        record.spec.limits = Limits {
            max_turns: Some(7),
            max_budget_usd: Some(0.15),
            timeout_ms: Some(1_500),
            stall_timeout_ms: Some(600_000),
            tool_timeout_ms: 1,
            ..Limits::default()
        };
        assert_eq!(hint_of(&record), hint, "{reason}");
    }
}

#[test]
fn a_denied_tool_is_allowed_or_given_up() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (allowed, disallowed, denied, command) in [
        (&["Read"][..], &[][..], &["Bash"][..], "--allowed-tools 'Read' --allowed-tools 'Bash'"),
        (&["Bash"], &[], &["Bash"], "--message 'Go on without Bash.'"),
        (&[], &["Bash"], &["Bash"], "--message 'Go on without Bash.'"),
        (&[], &["Bash"], &["Bash", "Write"], "--allowed-tools 'Write'"),
        (&[], &[], &[], "--message 'Go on without the denied tool.'"),
    ] {
        let mut record = failed(Reason::PermissionDenied);
        record.spec.options.allowed_tools = names(allowed);
        record.spec.options.disallowed_tools = names(disallowed);
        record.progress.denied_tools = names(denied);
        let hint = hint_of(&record);
        let command = format!("claudejob resume a {command}");
        assert_eq!(hint.split("  # ").next(), Some(command.as_str()));
    }
}

#[test]
fn a_third_failure_in_a_row_ends_the_hints() {
    for reason in Reason::ALL {
        let mut record = failed(reason);
        let first = hint_of(&record);
        for _ in 0..2 {
            record.begin_resumption();
            // The worker starts claude again by itself.
            record.begin_attempt();
            record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
        }
        let hint = hint_of(&record);
        assert!(hint.starts_with("claudejob logs a"), "{reason}: {hint}");
        let (command, _) = first.split_once("  # ").unwrap_or((&first, ""));
        assert!(hint.contains(command) || reason == Reason::LaunchFailed, "{reason}: {hint}");
        record.begin_recovery();
        record.end(&Verdict::Completed, record.times.started_at.unwrap());
        record.begin_resumption();
        record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
        assert_eq!(record.end_state().failures_in_row, 1, "{reason}");
    }
}

#[test]
fn answers_with_the_first_label() {
    const NUMBER: &str = "claudejob answer a --choice 1  # all options: claudejob status a --full";
    const TEXT: &str =
        "claudejob answer a --text 'Decide yourself.'  # the question: claudejob status a --full";
    let db = || question("Which db?", "db", &["It's SQLite", "Postgres"]);
    let os = || question("Which os?", "os", &["Linux"]);
    for (questions, hint) in [
        (vec![db()], "claudejob answer a --choice 'It'\\''s SQLite'  # or: 'Postgres'"),
        (
            vec![db(), os()],
            "claudejob answer a --choice 'Which db?=It'\\''s SQLite' \
             --choice 'Which os?=Linux'",
        ),
        (vec![question("?", "", &["-x"])], "claudejob answer a --choice='-x'"),
        (vec![question("a=b?", "h", &["h=1"])], NUMBER),
        (vec![question("?", "", &[])], TEXT),
        (vec![question("?", "", &["a", "b\nreboot"])], NUMBER),
        (vec![question("?", "", &["cut…"])], NUMBER),
        (
            vec![question("a=b?", "x", &["1"]), question("c", "x", &["2"])],
            "claudejob answer a --choice 1 --choice 1  # all options: claudejob status a --full",
        ),
        (vec![], TEXT),
    ] {
        assert_eq!(blocked("question", questions, &[]), hint);
    }
    assert_eq!(blocked("permission", vec![], &[]), "claudejob answer a --allow  # or: --deny");
    assert_eq!(
        blocked("permission", vec![], &["r2"]),
        "claudejob answer a --request-id 'r 1' --allow  # or: --deny"
    );
}
