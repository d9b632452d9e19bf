//! `open`: a job's session in the interactive claude.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;

use support::terminal::Terminal;
use support::{Sandbox, await_file, eventually};

fn open(sandbox: &Sandbox, options: &[&str]) -> Terminal {
    let mut arguments = vec!["open", "j"];
    arguments.extend(options);
    Terminal::start(sandbox.command(arguments))
}

#[test]
fn a_live_job_is_interrupted_after_a_question() {
    for (options, is_kept_alive) in [(&[][..], false), (&["--keep-alive"], true)] {
        let sandbox =
            Sandbox::new("session\nread\ninit\nsay hi\ntouch $DIR/up\nhear\nhear-all $DIR/heard");
        sandbox.start("j", options);
        await_file(&sandbox.path("up"));
        // The record has the session up to a second later.
        let record = sandbox.job("j").join("meta.json");
        eventually("the session", || {
            let record = fs::read_to_string(&record).unwrap();
            record.contains("\"sessionBegan\":true").then_some(())
        });
        let mut declined = open(&sandbox, &[]);
        declined.answer("Interrupt it and open its session? [y/N] ", "n\n");
        let (code, output) = declined.finish();
        assert!(code == 1 && output.contains("nothing was opened"), "{output}");
        assert_eq!(sandbox.status("j")["status"], "running");

        sandbox.script("args $DIR/args\nprint opened\ntouch $DIR/open\nwait-file $DIR/go");
        let mut terminal = open(&sandbox, &["--", "--model", "opus"]);
        terminal.answer("[y/N] ", "y\n");
        await_file(&sandbox.path("open"));
        let status = sandbox.status("j");
        let expected = if is_kept_alive { "completed" } else { "failed" };
        assert_eq!(status["status"], expected, "{status:?}");
        let resumed = sandbox.run(["resume", "j"]);
        assert_eq!(resumed["code"], "not_resumable", "{resumed:?}");
        fs::write(sandbox.path("go"), "").unwrap();
        let (code, output) = terminal.finish();
        assert!(code == 0 && output.contains("Continue with what was said: "), "{output}");
        let session = status["sessionId"].as_str().unwrap();
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        let expected = format!(",\"--resume\",\"{session}\",\"--model\",\"opus\"]");
        assert!(args.trim().ends_with(&expected), "{args}");
        sandbox.script("session\ninit\nhear-all $DIR/heard");
        assert_eq!(sandbox.run(["resume", "j", "-p", "on"]).code, 0);
        sandbox.run(["finish", "j"]);
        sandbox.wait("j").expect_end(0, "completed", None);
    }
}

#[test]
fn the_command_is_printed_for_programs() {
    let mut sandbox = Sandbox::new("session\nread\ninit\nsay hi\nresult one\neof");
    sandbox.run_job("j", &[]);
    let refused = sandbox.run(["open", "j"]);
    assert_eq!((refused.code, refused.text("code")), (2, "not_a_terminal"), "{refused:?}");
    assert!(refused.text("hint").ends_with("open j --print"), "{refused:?}");
    sandbox.set("CLAUDE_CONFIG_DIR", "/tmp/my config");
    let printed = sandbox.run(["open", "j", "--print", "--", "--model", "a b"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let (session, cwd) = (printed.text("sessionId"), printed.text("cwd"));
    let command = printed.text("command");
    assert!(command.starts_with(&format!("cd {cwd} && CLAUDE_CONFIG_DIR='/tmp/my config' /")));
    assert!(command.ends_with(&format!(" --resume {session} --model 'a b'")), "{command}");
}

#[test]
fn a_job_without_a_session_cannot_be_opened() {
    let sandbox = Sandbox::new("read\nhang");
    sandbox.start("j", &[]);
    eventually("running", || (sandbox.status("j")["status"] == "running").then_some(()));
    let answer = sandbox.run(["open", "j", "--print"]);
    assert_eq!((answer.code, answer.text("code")), (1, "no_session"), "{answer:?}");
}

#[test]
fn a_claude_that_fails_is_reported() {
    let sandbox = Sandbox::new("session\nread\ninit\nsay hi\nresult one\neof");
    sandbox.run_job("j", &[]);
    for (script, said) in [("exit 3", "exit status: 3"), ("die KILL", "signal: 9 (SIGKILL)")] {
        sandbox.script(script);
        let (code, output) = open(&sandbox, &[]).finish();
        assert!(code == 1 && output.contains(&format!("claude failed: {said}")), "{output}");
    }
    fs::remove_dir_all(sandbox.work()).unwrap();
    let mut call = sandbox.command(["open", "j"]);
    call.current_dir("/");
    let (code, output) = Terminal::start(call).finish();
    assert!(code == 1 && output.contains("make the directory, or start a job"), "{output}");
}
