//! Questions, permissions, and permissions that are denied.

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;
use crate::support::terminal::Terminal;

/// Pushes a use of a tool outside of `cwd`, where no rule allows it.
fn forbid(sandbox: &RealSandbox) {
    let path = sandbox.path("home/outside.txt").to_str().unwrap().to_owned();
    sandbox.api.push(Step::Write { path, content: "hello\n".to_owned() });
    sandbox.api.push(Step::text("I could not."));
}

each_cli!(a_denied_permission_is_named);
fn a_denied_permission_is_named(cli: Cli) {
    let sandbox = RealSandbox::new(cli, []);
    forbid(&sandbox);

    let result = sandbox.run_job("denied", &["--permission-mode", "default"]);

    result.expect_end(0, "completed", None);
    let denials = result["permission_denials"].as_array().unwrap();
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert!(denials[0].to_string().contains("Write"), "{denials:?}");
}

each_cli!(a_denied_permission_fails_with_fail_on_denial);
fn a_denied_permission_fails_with_fail_on_denial(cli: Cli) {
    let sandbox = RealSandbox::new(cli, []);
    forbid(&sandbox);

    let result = sandbox.run_job("denied", &["--permission-mode", "default", "--fail-on-denial"]);

    result.expect_end(1, "failed", Some("permission_denied"));
}

each_cli!(answers_a_question_by_label_and_by_free_text);
fn answers_a_question_by_label_and_by_free_text(cli: Cli) {
    for (options, said) in
        [(["--choice", "Postgres"], "Postgres"), (["--text", "a plain file"], "a plain file")]
    {
        let sandbox =
            RealSandbox::new(cli, [Step::Ask("Which database?".to_owned()), Step::text("Noted.")]);
        sandbox.start("asks", &["--ask"]);

        let blocked = sandbox.run(["wait", "asks", "--timeout", "3m"]);

        assert_eq!((blocked.code, &blocked["status"]), (5, &"blocked".into()), "{blocked:?}");
        assert_eq!(blocked["blocked"]["questions"][0]["question"], "Which database?");
        let answer = sandbox.run([&["answer", "asks"], &options[..]].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("asks").expect_end(0, "completed", None);
        let seen = sandbox.api.wait_for_request(2);
        assert!(seen.last.to_string().contains(said), "{}", seen.last);
    }
}

each_cli!(an_answer_reaches_a_released_conversation);
fn an_answer_reaches_a_released_conversation(cli: Cli) {
    let sandbox =
        RealSandbox::new(cli, [Step::Ask("Which database?".to_owned()), Step::text("Noted.")]);
    sandbox.start("asks", &["--ask", "--fail-on-denial"]);
    sandbox.run(["wait", "asks", "--timeout", "3m"]);

    let released = sandbox.run(["answer", "asks", "--release"]);

    assert_eq!((released.code, &released["released"]), (0, &true.into()), "{released:?}");
    let status = sandbox.status("asks");
    assert_eq!((status.text("status"), &status["costIsLowerBound"]), ("blocked", &false.into()));
    assert_eq!(sandbox.run(["answer", "asks", "--choice", "Postgres"])["answered"], true);
    sandbox.wait("asks").expect_end(0, "completed", None);
    let seen = sandbox.api.wait_for_request(2);
    assert!(seen.last.to_string().contains("Answer: Postgres"), "{}", seen.last);
    assert_eq!(sandbox.status("asks")["warnings"], serde_json::json!([]));
}

each_cli!(allows_and_denies_a_permission);
fn allows_and_denies_a_permission(cli: Cli) {
    for (options, is_there) in
        [(&["--allow"][..], true), (&["--deny", "--message", "not there"], false)]
    {
        let sandbox = RealSandbox::new(cli, []);
        forbid(&sandbox);
        sandbox.start("asks", &["--ask", "--permission-mode", "default"]);

        let blocked = sandbox.run(["wait", "asks", "--timeout", "3m"]);

        assert_eq!(blocked.code, 5, "{blocked:?}");
        let asked = &blocked["blocked"];
        assert_eq!((&asked["kind"], &asked["toolName"]), (&"permission".into(), &"Write".into()));
        let answer = sandbox.run([&["answer", "asks"], options].concat());
        assert_eq!((answer.code, &answer["answered"]), (0, &true.into()), "{answer:?}");
        sandbox.wait("asks").expect_end(0, "completed", None);
        let seen = sandbox.api.wait_for_request(2);
        assert_eq!(seen.last.to_string().contains("not there"), !is_there, "{}", seen.last);
        assert_eq!(sandbox.path("home/outside.txt").exists(), is_there);
    }
}

each_cli!(run_answers_a_question_and_a_permission_in_place);
fn run_answers_a_question_and_a_permission_in_place(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::Ask("Which database?".to_owned())]);
    forbid(&sandbox);
    let run = ["run", "-n", "asks", "--permission-mode", "default", "Add a database"];
    let mut terminal = Terminal::start(sandbox.command(run));
    terminal.answer("your own text: ", "2\n");
    terminal.answer("Allow it? [y]es / [n]o: ", "n\n");
    terminal.answer("no reason): ", "not there\n");
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("outside.txt:") && output.contains("+ hello"), "{output}");
    assert!(output.contains("I could not.") && output.contains("= completed"), "{output}");
    let seen = sandbox.api.wait_for_request(3);
    assert!(seen.last.to_string().contains("not there"), "{}", seen.last);
    assert!(!sandbox.path("home/outside.txt").exists());
}

each_cli!(a_plan_changes_nothing_until_it_is_resumed);
fn a_plan_changes_nothing_until_it_is_resumed(cli: Cli) {
    let sandbox = RealSandbox::new(cli, []);
    let file = sandbox.work().join("new.txt");
    let write =
        || Step::Write { path: file.to_str().unwrap().to_owned(), content: "hello\n".to_owned() };
    let plan = "The plan: write new.txt.";
    let steps = [
        write(),
        Step::bash("touch other.txt"),
        Step::text(plan),
        // What follows is for the resumed job.
        write(),
        Step::text("Written."),
    ];
    for step in steps {
        sandbox.api.push(step);
    }

    let planned = sandbox.run_job("plan", &["--permission-mode", "plan"]);

    planned.expect_end(0, "completed", None);
    assert_eq!(planned["result"], plan);
    assert!(!file.exists() && !sandbox.work().join("other.txt").exists());
    let resumed = sandbox.run(["resume", "plan", "--permission-mode", "bypassPermissions"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let end = sandbox.wait("plan");
    end.expect_end(0, "completed", None);
    assert_eq!(
        (&end["result"], &end["permission_denials"]),
        (&"Written.".into(), &serde_json::json!([]))
    );
    assert!(file.exists());
}
