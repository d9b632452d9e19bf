//! The command line itself: errors of its arguments, help and aliases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::Sandbox;

#[test]
fn usage_errors_are_the_same_in_text_and_json() {
    let sandbox = Sandbox::new("");
    for (args, message, hint) in [
        (&["lits"][..], "unknown command 'lits'", "claudejob --help  # did you mean list?"),
        (
            &["fix it"],
            "unknown command 'fix it'",
            "claudejob start --prompt 'fix it'  # did you mean this?",
        ),
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
            "the following required arguments were not provided: <ID|--job-id <ID>>",
            "claudejob finish --help",
        ),
        (&["--pretty"], "no command given", "claudejob --help"),
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
fn usage_errors_escape_control_characters() {
    let sandbox = Sandbox::new("");
    let text = sandbox.run(["\u{1b}[31m", "--plain"]);
    assert!(text.code == 2 && !text.stderr.contains('\u{1b}'), "{text:?}");
    assert!(!sandbox.run(["\u{1b}[31m"]).stdout.contains('\u{1b}'));
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
fn short_help_leaves_out_rare_options() {
    let sandbox = Sandbox::new("");
    let short = sandbox.run(["start", "-h"]).stdout;
    let long = sandbox.run(["help", "start"]).stdout;
    assert_eq!(long, sandbox.run(["start", "--help"]).stdout);
    let options = |help: &str| help.lines().filter(|line| line.starts_with("      --")).count();
    assert_eq!(options(&short), 14, "{short}");
    assert!(options(&long) > 50 && long.contains("--stagger"), "{long}");
    assert_eq!(sandbox.run(["help", "nothing"])["error"], "unknown command 'nothing'");
}
