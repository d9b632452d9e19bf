//! Shell completion: the words that the program offers, and its script in each installed shell.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::{Sandbox, eventually};

/// Creates jobs as their records say, the first one the newest.
fn write_jobs(sandbox: &Sandbox) {
    for (hour, id, status, spec) in [
        (4, "web-2", "completed", r#"{"labels":{"team":"web","note":"a b; $(x)"}}"#),
        (3, "web-1", "failed", r#"{"labels":{"team":"web"},"admission":{"group":"ci"}}"#),
        (2, "fix", "running", r#"{"labels":{"team":"ops"},"admission":{"group":"cd"}}"#),
        (1, "ask", "blocked", r#"{"labels":{"team":"\u001b[31m","two":"x\n--all"}}"#),
    ] {
        fs::create_dir_all(sandbox.job(id)).unwrap();
        let record = format!(
            r#"{{"version":2,"jobId":"{id}","status":"{status}","prompt":"do\tit",
                 "startedAt":"2026-11-26T0{hour}:00:00.000Z","spec":{spec}}}"#
        );
        fs::write(sandbox.job(id).join("meta.json"), record).unwrap();
    }
    fs::set_permissions(sandbox.jobs(), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Returns the offered words for a line; reading the jobs may take too long for once.
fn complete(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let call = sandbox.run([&["__complete"], words].concat());
    assert_eq!((call.code, call.stderr.as_str()), (0, ""), "{call:?}");
    call.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_completes(sandbox: &Sandbox, words: &[&str], expected: &[&str]) {
    eventually(&format!("{words:?} to become {expected:?}"), || {
        (complete(sandbox, words) == expected).then_some(())
    });
}

#[test]
fn offers_the_profiles() {
    let sandbox = Sandbox::new("");
    assert_completes(&sandbox, &["start", "--profile", ""], &[]);
    let file = sandbox.path("home/.config/claudejob/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[profile.work]\nmodel = 'opus'\n[profile.home]\n").unwrap();
    for verb in ["start", "resume", "recover", "rerun", "doctor"] {
        assert_completes(&sandbox, &[verb, "--profile", ""], &["home", "work"]);
    }
    assert_completes(&sandbox, &["start", "--profile=w"], &["--profile=work"]);
    assert_completes(&sandbox, &["start", "--no-c"], &["--no-config"]);
    fs::write(&file, "[profile.work]\nmodle = 'opus'\n").unwrap();
    assert_completes(&sandbox, &["start", "--profile", ""], &[]);
}

#[test]
fn offers_the_jobs_that_a_verb_accepts() {
    let sandbox = Sandbox::new("");
    write_jobs(&sandbox);
    assert_completes(&sandbox, &["status", ""], &["web-2", "web-1", "fix", "ask"]);
    assert_completes(&sandbox, &["status", "web"], &["web-2", "web-1"]);
    assert_completes(&sandbox, &["kill", ""], &["fix", "ask"]);
    assert_completes(&sandbox, &["answer", ""], &["ask"]);
    assert_completes(&sandbox, &["resume", ""], &["web-2", "web-1"]);
    assert_completes(&sandbox, &["wait", "fix", ""], &["ask"]);
    assert_completes(&sandbox, &["status", "fix", "web"], &[]);
    assert_completes(&sandbox, &["start", "--after", "fix,we"], &["fix,web-2", "fix,web-1"]);
    assert_completes(&sandbox, &["start", "we"], &[]);
    assert_completes(&sandbox, &["run", "--name", "we"], &[]);
    assert_completes(&sandbox, &["run", "we"], &[]);
    let modes = ["acceptEdits", "auto"];
    assert_completes(&sandbox, &["run", "--permission-mode", "a"], &modes);
    assert_completes(&sandbox, &["list", "--group", ""], &["cd", "ci"]);
    // A label with a control character or two lines is left out.
    let labels = ["note=a b; $(x)", "team=ops", "team=web"];
    assert_completes(&sandbox, &["list", "--label", ""], &labels);
    assert_completes(&sandbox, &["list", "--label=team=o"], &["--label=team=ops"]);
    let help = sandbox.run(["__complete", "status", "fix"]).stdout;
    assert!(help.is_empty() || help == "fix\trunning: do it\n", "{help}");
}

#[test]
fn a_completion_without_jobs_is_silent() {
    let mut sandbox = Sandbox::new("");
    assert!(complete(&sandbox, &["kill", "x"]).is_empty());
    assert!(complete(&sandbox, &[]).is_empty());
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", "/proc/1/nowhere");
    assert!(complete(&sandbox, &["status", "x"]).is_empty());
    write_jobs(&sandbox);
    let jobs = sandbox.jobs();
    assert_completes(&sandbox, &["--jobs-dir", jobs.to_str().unwrap(), "status", "f"], &["fix"]);
}

/// Runs a script with the program on PATH and returns its stdout; `None` without the shell.
fn run_shell(sandbox: &Sandbox, shell: &str, script: &str) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_claudejob"));
    let call = sandbox.command([""; 0]);
    let mut command = Command::new(shell);
    command.env_clear().current_dir(sandbox.work()).args(["-c", script]);
    for (name, value) in call.get_envs() {
        command.env(name, value.unwrap());
    }
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    let output = command.output().ok()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn completes_in_bash() {
    let sandbox = Sandbox::new("");
    write_jobs(&sandbox);
    fs::write(sandbox.work().join("task.md"), "").unwrap();
    for (words, expected) in [
        ("claudejob stat", "status stats"),
        ("claudejob kill ''", "fix ask"),
        ("claudejob list --status = ru", "running"),
        (
            "claudejob list --status =",
            "queued starting running blocked idle completed failed killed",
        ),
        ("claudejob list --label team = w", "web"),
        ("claudejob list --label note =", "a\\ b\\;\\ \\$\\(x\\)"),
        ("claudejob start --wake-url http : //x --cw", "--cwd"),
        ("claudejob start --prompt-file = ta", "task.md"),
    ] {
        let script = format!(
            "eval \"$(claudejob completions bash)\"; COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _claudejob; echo \"${{COMPREPLY[*]}}\""
        );
        eventually(words, || {
            let found = run_shell(&sandbox, "bash", &script);
            found.is_none_or(|found| found.trim_end() == expected).then_some(())
        });
    }
}

#[test]
fn completes_in_fish() {
    let sandbox = Sandbox::new("");
    write_jobs(&sandbox);
    fs::write(sandbox.work().join("task.md"), "").unwrap();
    for (line, expected) in [
        ("claudejob stat", "stats status"),
        ("claudejob kill ", "ask fix"),
        ("claudejob list --label team=w", "team=web"),
        ("claudejob start --prompt-file ta", "task.md"),
        ("claudejob start --prompt-file=ta", "--prompt-file=task.md"),
    ] {
        let script = format!("claudejob completions fish | source; complete -C '{line}' | sort");
        eventually(line, || {
            let Some(found) = run_shell(&sandbox, "fish", &script) else { return Some(()) };
            let words: Vec<&str> =
                found.lines().map(|line| line.split('\t').next().unwrap()).collect();
            (words.join(" ") == expected).then_some(())
        });
    }
}

#[test]
fn the_zsh_script_is_valid() {
    let sandbox = Sandbox::new("");
    let script = "autoload -U compinit; compinit -u; eval \"$(claudejob completions zsh)\"; \
                  echo $_comps[claudejob]";
    if let Some(found) = run_shell(&sandbox, "zsh", script) {
        assert_eq!(found, "_claudejob\n");
    }
}

#[test]
fn zsh_shows_a_text_only_where_there_is_one() {
    let sandbox = Sandbox::new("");
    for (words, expected) in
        [("stat", "status:Show a job's status\n"), ("start --permission-mode pl", "plan\n")]
    {
        // Instead of the menu, prints what would be in it.
        let script = format!(
            "autoload -U compinit; compinit -u; eval \"$(claudejob completions zsh)\"; \
             _describe() {{ print -l -- ${{(P)3}} }}; \
             words=(claudejob {words}) CURRENT=$#words PREFIX=$words[-1]; _claudejob"
        );
        if let Some(found) = run_shell(&sandbox, "zsh", &script) {
            assert!(found.starts_with(expected), "{words}: {found}");
        }
    }
}
