//! The command line itself: errors of its arguments, help and aliases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::process::Command;

use support::Sandbox;
use support::terminal::run_on_terminal;

#[test]
fn usage_errors_are_the_same_in_text_and_json() {
    let sandbox = Sandbox::new("");
    for (args, message, hint) in [
        (&["lits"][..], "unknown command 'lits'", "claudejob --help  # did you mean list?"),
        (&["fix it"], "unknown command 'fix it'", "claudejob run 'fix it'  # did you mean this?"),
        (
            &["list", "--statu", "x"],
            "unexpected argument '--statu' found",
            "claudejob list --help  # did you mean --status?",
        ),
        (
            &["list", "--sort", "costs"],
            "invalid value 'costs' for '--sort <BY>' [possible values: started, ended, cost, \
             turns, status, id]",
            "claudejob list --help  # did you mean cost?",
        ),
        (
            &["--jobs-dir", "list", "finish"],
            "no job given",
            "claudejob finish --help  # claudejob list shows the ids",
        ),
        (&["--pretty"], "no command given", "claudejob --help"),
        (
            &["update", "x", "--priority", "high"],
            "invalid value 'high' for '--priority <N>': expected a whole number",
            "claudejob update --help",
        ),
        (
            &["start", "x", "--prompt", "p", "--fork"],
            "--fork needs --resume or --resume-job",
            "claudejob start --help",
        ),
    ] {
        let json = sandbox.run([args, &["--json"]].concat());
        assert_eq!((json.code, json.text("code"), json.stderr.as_str()), (2, "usage", ""));
        assert_eq!((json.text("error"), json.text("hint")), (message, hint), "{args:?}");
        let text = sandbox.run([args, &["--plain"]].concat());
        assert_eq!((text.code, text.stdout.as_str()), (2, ""), "{args:?}");
        assert_eq!(text.stderr, format!("error: {message}\nhint: {hint}\n"));
    }
}

#[test]
fn durations_need_a_unit() {
    let mut sandbox = Sandbox::new("");
    for (args, error) in [
        (
            &["start", "--prompt", "x", "--timeout", "30"][..],
            "invalid value '30' for '--timeout <DURATION>': say 30s",
        ),
        (
            &["wait", "a", "--timeout", "1000"],
            "invalid value '1000' for '--timeout <DURATION>': say 1000s",
        ),
        (&["stats", "--since", "7"], "invalid value '7' for '--since <TIME>': say 7s"),
    ] {
        let answer = sandbox.run(args);
        assert_eq!((answer.code, answer.text("error")), (2, error));
    }
    let since_now = sandbox.run(["stats", "--since", "0"]);
    assert_eq!(since_now.code, 0, "{since_now:?}");
    sandbox.set("CLAUDE_SKILL_STAGGER", "5");
    let answer = sandbox.run(["start", "--prompt", "x"]);
    assert_eq!(answer.code, 2);
    assert_eq!(
        answer["error"],
        "invalid value '5' for 'CLAUDE_SKILL_STAGGER (--stagger <DURATION>)': say 5s"
    );
}

#[test]
fn usage_errors_escape_control_characters() {
    let sandbox = Sandbox::new("");
    let text = sandbox.run(["\u{1b}[31m", "--plain"]);
    assert!(text.code == 2 && !text.stderr.contains('\u{1b}'), "{text:?}");
    assert!(!sandbox.run(["\u{1b}[31m"]).stdout.contains('\u{1b}'));
}

#[test]
fn errors_in_json_are_shown_on_a_terminal() {
    let sandbox = Sandbox::new("");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" status x >answer", env!("CARGO_BIN_EXE_claudejob")]);
    let known = sandbox.command([""; 0]);
    command.env_clear().current_dir(sandbox.work());
    command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, shown) = run_on_terminal(command, "");
    assert_eq!((code, shown.trim_end()), (4, "error: no job named 'x'"));
    let answer = fs::read_to_string(sandbox.work().join("answer")).unwrap();
    assert!(answer.starts_with("{\"jobId\":\"x\"") && answer.lines().count() == 1, "{answer}");
}

#[test]
fn aliases_are_the_verbs() {
    let sandbox = Sandbox::new("");
    for (alias, verb) in [("ls", "list"), ("ps", "list"), ("stop", "kill"), ("tail", "logs")] {
        assert_eq!(
            sandbox.run([alias, "--help"]).stdout,
            sandbox.run([verb, "--help"]).stdout,
            "{alias}"
        );
    }
    assert_eq!(sandbox.run(["ls"]).stdout, "[]\n");
}

#[test]
fn hidden_verbs_refuse_foreign_arguments() {
    let sandbox = Sandbox::new("");
    for args in [
        &["worker"][..],
        &["worker", "--help"],
        &["courier", "-h"],
        &["courier"],
        &["replay", "--help"],
        &["replay", "--speed", "fast"],
        &["replay", "x", "1"],
        &["prepare"],
        &["prepare", "--help", "x"],
        &["prepare", "x"],
    ] {
        let answer = sandbox.run(args);
        let expected = format!("claudejob {}: internal command, see claudejob --help\n", args[0]);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{args:?}");
        assert_eq!(answer.stderr, expected, "{args:?}");
    }
    let completed = sandbox.run(["__complete", "--help"]);
    assert!(completed.code == 0 && completed.stdout.starts_with("--help\t"), "{completed:?}");
    assert!(!sandbox.jobs().exists());
}

#[test]
fn short_help_leaves_out_rare_options() {
    let sandbox = Sandbox::new("");
    let short = sandbox.run(["start", "-h"]).stdout;
    let long = sandbox.run(["help", "start"]).stdout;
    assert_eq!(long, sandbox.run(["start", "--help"]).stdout);
    let options = |help: &str| help.matches("\n      --").count() + help.matches("\n  -").count();
    assert_eq!(options(&short), 20, "{short}");
    assert!(options(&long) > 50 && long.contains("--stagger"), "{long}");
    assert_eq!(sandbox.run(["help", "nothing"])["error"], "unknown command 'nothing'");
}

#[test]
fn help_explains_itself() {
    let sandbox = Sandbox::new("");
    let expected = sandbox.run(["help", "help"]);
    assert!(expected.code == 0 && expected.stdout.contains("claudejob help"), "{expected:?}");
    for option in ["--help", "-h"] {
        let help = sandbox.run(["help", option]);
        assert_eq!((help.code, &help.stdout), (0, &expected.stdout), "{help:?}");
    }
}
