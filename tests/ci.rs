//! The script for CI that docs/ci.md shows, and the workflow with the same command.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use support::processes::send;
use support::{Sandbox, await_file};

fn ci_script() -> &'static str {
    let page = include_str!("../docs/ci.md");
    let (_, rest) = page.split_once("<!-- ci-script -->\n```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// Returns a command that runs the script as a step does, in a shell.
fn step(sandbox: &Sandbox) -> Command {
    fs::write(sandbox.work().join("task.md"), "Fix the login test").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_claudejob")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let known = sandbox.command([""; 0]);
    let mut command = Command::new("sh");
    command.env_clear().current_dir(sandbox.work()).args(["-c", ci_script()]);
    command.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path).env("GITHUB_RUN_ID", "7").stdin(Stdio::null());
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_step_shows_each_end_and_fails_with_it() {
    for (script, code, shown) in [
        ("read\ninit\nsay I am looking.\nresult Fixed.\neof", 0, "\n= completed · "),
        ("read\ninit\nsay I am looking.\ndie KILL", 1, "\n= failed ("),
        ("read\ninit\nsay I am looking.\nrefused 529\neof", 75, "\n= failed (overloaded)"),
    ] {
        let sandbox = Sandbox::new(script);
        let output = step(&sandbox).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{stdout} {stderr}");
        assert!(stdout.contains("\nI am looking.\n") && stdout.contains(shown), "{stdout}");
        let summary = sandbox.run(["result", "ci-7-1", "-o", "markdown"]);
        assert!(summary.code == 0 && summary.stdout.starts_with("### "), "{summary:?}");
    }
}

#[test]
fn a_refused_step_says_why() {
    let mut sandbox = Sandbox::new("");
    sandbox.unset("ANTHROPIC_API_KEY");
    let output = step(&sandbox).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("no credentials to log in"), "{stderr}");
}

#[test]
fn a_cancelled_step_kills_the_job() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let sandbox = Sandbox::new("read\ninit\nsay I am looking.\ntouch $DIR/up\nhang");
        let mut step = step(&sandbox);
        let step = step.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        await_file(&sandbox.path("up"));
        let began = Instant::now();
        send(step.id() as i32, signal);
        let output = step.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{:?}", texts(&output));
        sandbox.wait("ci-7-1").expect_end(3, "killed", None);
        // 1 s at a fake that ends by SIGINT, and much more on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        sandbox.assert_nothing_left("ci-7-1");
    }
}

#[test]
fn the_workflow_runs_the_same_command() {
    let workflow = include_str!("../docs/github-workflow.yml");
    let command = ci_script().lines().last().unwrap().replace("$name", "$NAME");
    assert!(workflow.contains(&command), "{command}");
}

#[test]
fn the_workflow_installs_the_package_of_the_readme() {
    let readme = include_str!("../README.md");
    let row = readme.lines().find(|line| line.starts_with("| npm | ")).unwrap();
    let command = row.split('`').nth(1).unwrap();
    let workflow = include_str!("../docs/github-workflow.yml");
    assert!(workflow.contains(command) && !workflow.contains("cargo "), "{command}");
}
