//! `open`: a session that is continued in the interactive claude, and then by the job.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;
use crate::support::terminal::Terminal;

/// Answers what claude asks a person at its first start: the look, the key, and the folder.
fn set_up(sandbox: &RealSandbox) {
    let path = sandbox.path("home").join(".claude.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["hasCompletedOnboarding"] = true.into();
    config["theme"] = "dark".into();
    config["customApiKeyResponses"] = json!({"approved": ["sk-ant-test"], "rejected": []});
    let work = fs::canonicalize(sandbox.work()).unwrap();
    let folder = &mut config["projects"][Path::new(&work).to_str().unwrap()];
    folder["hasTrustDialogAccepted"] = true.into();
    folder["hasCompletedProjectOnboarding"] = true.into();
    fs::write(&path, config.to_string()).unwrap();
}

each_cli!(a_resumed_job_knows_what_was_said);
fn a_resumed_job_knows_what_was_said(cli: Cli) {
    let mut sandbox = RealSandbox::new(
        cli,
        [Step::text("banana"), Step::text("kiwi"), Step::text("it was kiwi")],
    );
    sandbox.set("TERM", "xterm-256color");
    let first = sandbox.run_job("j", &[]);
    first.expect_end(0, "completed", None);
    set_up(&sandbox);
    let mut terminal = Terminal::of_size(sandbox.command(["open", "j"]), 100, 30);
    terminal.await_text("banana");
    eventually("raw mode", || terminal.is_raw().then_some(()));
    terminal.press("cherry");
    terminal.answer("cherry", "\r");
    terminal.await_text("kiwi");
    // The session is open: nobody else continues it.
    let second = sandbox.run(["resume", "j", "-p", "more"]);
    assert_eq!((second.code, second.text("code")), (1, "not_resumable"), "{second:?}");
    terminal.press("/exit");
    terminal.press("\r");
    terminal.await_text("Continue with what was said: claudejob");
    let (code, output) = terminal.finish();
    assert_eq!(code, 0, "{output}");
    assert_eq!(sandbox.run(["resume", "j", "-p", "Which fruit?"]).code, 0);
    let resumed = sandbox.wait("j");
    assert_eq!(resumed["session_id"], first["session_id"]);
    assert_eq!(resumed["result"], "it was kiwi");
    let request = sandbox.api.wait_for_request(3);
    assert!(request.text.contains("cherry") && request.text.contains("kiwi"), "{request:?}");
}
