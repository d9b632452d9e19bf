//! Profiles: logins, their limits, later attempts, and what is never stored.

use std::fs;

use serde_json::Value;

use super::support::{Sandbox, eventually};
use super::{WORKS, assert_error, configure, spec, write};

/// Profiles `red` and `blue`, each with its own directory and key; the caller has no login.
fn with_two_logins() -> Sandbox {
    let mut sandbox = Sandbox::new("env $DIR/env\nhear\ninit\nresult ok\neof");
    sandbox.unset("ANTHROPIC_API_KEY");
    sandbox.set("COLOUR", "grey");
    let mut text = String::new();
    for name in ["red", "blue"] {
        text.push_str(&format!(
            "[profile.{name}]\nclaude-config-dir = \"~/.claude-{name}\"\n\
             env-file = \"~/{name}.env\"\n"
        ));
        let variables = format!("# login\nANTHROPIC_API_KEY='sk-ant-{name}'\nCOLOUR={name}\n");
        write(&sandbox.path(&format!("home/{name}.env")), &variables, 0o600);
    }
    configure(&sandbox, &text);
    sandbox
}

/// A variable of the claude that ran last.
fn variable(sandbox: &Sandbox, name: &str) -> Value {
    let text = fs::read_to_string(sandbox.path("env")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

/// Asserts that no file below the jobs directory contains the text.
fn assert_not_stored(sandbox: &Sandbox, secret: &str) {
    let mut open = vec![sandbox.jobs()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(secret), "{}: {text}", entry.path().display());
            }
        }
    }
}

#[test]
fn a_job_has_the_login_of_its_profile() {
    let mut sandbox = with_two_logins();
    let refused = sandbox.run(["start", "-p", "x"]);
    assert_eq!(refused["code"], "not_logged_in");
    for name in ["red", "blue"] {
        sandbox.run_job(name, &["--profile", name]);
        assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), format!("sk-ant-{name}"));
        assert_eq!(variable(&sandbox, "COLOUR"), name);
        let directory = sandbox.path(&format!("home/.claude-{name}"));
        assert_eq!(variable(&sandbox, "CLAUDE_CONFIG_DIR"), directory.to_str().unwrap());
        let status = sandbox.status(name);
        assert_eq!(status["profile"], name);
        let text = sandbox.run(["status", name, "--plain"]).stdout;
        assert!(text.contains(&format!("  profile {name}\n")), "{text}");
        assert!(!status.stdout.contains("sk-ant") && !text.contains("sk-ant"));
    }
    // The login of the caller does not win.
    sandbox.set("ANTHROPIC_API_KEY", "sk-ant-caller");
    sandbox.set("CLAUDE_CONFIG_DIR", "/caller");
    sandbox.run_job("own", &["--profile", "red"]);
    assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), "sk-ant-red");
    sandbox.run_job("caller", &[]);
    assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), "sk-ant-caller");
    assert_eq!(variable(&sandbox, "CLAUDE_CONFIG_DIR"), "/caller");
    assert_eq!(sandbox.status("caller")["profile"], Value::Null);
    assert_not_stored(&sandbox, "sk-ant");
}

#[test]
fn a_directory_with_a_login_is_enough() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.unset("ANTHROPIC_API_KEY");
    configure(
        &sandbox,
        "default-profile = 'home'\n[profile.home]\nclaude-config-dir = '~/c'\nmax-budget-usd = 5\n",
    );
    assert_eq!(sandbox.run(["start", "-p", "x"])["code"], "not_logged_in");
    write(&sandbox.path("home/c/.credentials.json"), "{}", 0o600);
    sandbox.run_job("a", &[]).expect_end(0, "completed", None);
    let spec = spec(&sandbox, "a");
    assert_eq!((&spec["profile"], &spec["maxBudgetUsd"]), (&"home".into(), &5.0.into()));
    let doctor = sandbox.run(["doctor"]);
    let detail =
        format!("a login stored in {}", sandbox.path("home/c/.credentials.json").display());
    assert!(doctor.stdout.contains(&detail), "{doctor:?}");
    // A variable without a value hides the caller's.
    sandbox.set("ANTHROPIC_API_KEY", "sk-ant-caller");
    let doctor = sandbox.run(["doctor"]);
    assert!(doctor.stdout.contains("the variable ANTHROPIC_API_KEY"), "{doctor:?}");
    write(&sandbox.path("home/empty.env"), "ANTHROPIC_API_KEY=\n", 0o600);
    configure(
        &sandbox,
        "default-profile = 'home'\n[profile.home]\nclaude-config-dir = '~/c'\n\
         env-file = '~/empty.env'\n",
    );
    let doctor = sandbox.run(["doctor"]);
    assert!(doctor.stdout.contains(&detail), "{doctor:?}");
    // A query of the sidecar is a start with the defaults of the file.
    let query = r#"{"type":"query","sessionId":"s","prompt":"x"}"#;
    let output = sandbox.run_with_stdin(["sidecar"], query);
    assert!(output.stdout.contains("agent_stopped"), "{output:?}");
    assert_eq!(super::spec(&sandbox, "s")["profile"], "home");
}

#[test]
fn doctor_checks_a_profile() {
    let sandbox = with_two_logins();
    let login = |args: &[&str]| {
        let answer = sandbox.run([&["doctor"], args].concat());
        assert!(!answer.stdout.contains("sk-ant"));
        let checks = answer["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "login").unwrap()["detail"].clone()
    };
    assert_eq!(login(&[]), "claude has no credentials to log in with");
    assert_eq!(login(&["--profile", "red"]), "the variable ANTHROPIC_API_KEY");
    let answer = sandbox.run(["doctor", "--profile", "green"]);
    assert_error(&answer, "unknown_profile", "no profile named 'green' in the configuration file");
    assert_eq!(answer["hint"], "use one of these profiles: blue, red");
}

#[test]
fn a_limit_is_that_of_the_profiles_login() {
    let sandbox = with_two_logins();
    sandbox.script(
        "read\ninit\nonce $DIR/met limit 600\nonce $DIR/refused refused 429\n\
         once $DIR/left exit 1\nsay fine\nresult ok\neof",
    );
    sandbox.start("a", &["--profile", "red", "--retries", "1"]);
    eventually("the limit", || {
        let status = sandbox.status("a");
        (status["rateLimited"] == true && status["attempt"] == 2).then_some(())
    });
    let waiting = sandbox.start("b", &["--profile", "red"]);
    assert_eq!(waiting["waitingFor"]["kind"], "limit", "{waiting:?}");
    sandbox.run_job("c", &["--profile", "blue"]).expect_end(0, "completed", None);
    assert_eq!(sandbox.status("b")["waitingFor"]["kind"], "limit");
    for id in ["a", "b"] {
        sandbox.run(["kill", id]);
    }
}

#[test]
fn later_attempts_read_the_profile_anew() {
    let sandbox = with_two_logins();
    sandbox.run_job("a", &["--profile", "red"]);
    write(&sandbox.path("home/red.env"), "ANTHROPIC_API_KEY=sk-ant-new\n", 0o600);
    assert_eq!(sandbox.run(["resume", "a"]).code, 0);
    sandbox.wait("a");
    assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), "sk-ant-new");
    assert_eq!(variable(&sandbox, "COLOUR"), "grey");
    assert_eq!(sandbox.run(["resume", "a", "--profile", "blue"]).code, 0);
    sandbox.wait("a");
    assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), "sk-ant-blue");
    assert_eq!(sandbox.status("a")["profile"], "blue");
    for (id, options, name) in [("b", &[][..], "blue"), ("c", &["--profile", "red"], "new")] {
        let answer = sandbox.run([&["rerun", "a", "--name", id, "--wait"], options].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), format!("sk-ant-{name}"));
    }
    assert_not_stored(&sandbox, "sk-ant");
}

#[test]
fn recover_uses_the_profile() {
    let sandbox = with_two_logins();
    sandbox.script("env $DIR/env\nread\ninit\nhang");
    for (id, options, key) in
        [("a", &[][..], "sk-ant-red"), ("b", &["--profile", "blue"], "sk-ant-blue")]
    {
        sandbox.start(id, &["--profile", "red"]);
        super::support::await_file(&sandbox.path("env"));
        let worker = i32::try_from(sandbox.status(id)["pid"].as_i64().unwrap()).unwrap();
        super::support::processes::kill(worker);
        eventually("the end", || (sandbox.status(id)["status"] == "failed").then_some(()));
        fs::remove_file(sandbox.path("env")).unwrap();
        let answer = sandbox.run([&["recover", id], options].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        super::support::await_file(&sandbox.path("env"));
        assert_eq!(variable(&sandbox, "ANTHROPIC_API_KEY"), key);
        sandbox.run(["kill", id]);
        fs::remove_file(sandbox.path("env")).unwrap();
    }
}

#[test]
fn a_job_of_a_removed_profile_is_not_changed() {
    let sandbox = with_two_logins();
    sandbox.run_job("a", &["--profile", "red"]);
    configure(&sandbox, "[profile.green]\n");
    let before = fs::read(sandbox.job("a").join("meta.json")).unwrap();
    let error = "no profile named 'red' in the configuration file";
    assert_error(&sandbox.run(["resume", "a"]), "unknown_profile", error);
    assert_error(&sandbox.run(["start", "-p", "x", "--profile", "red"]), "unknown_profile", error);
    let without = sandbox.run(["resume", "a", "--no-config"]);
    let error = "no profile named 'red': the configuration file has none";
    assert_error(&without, "unknown_profile", error);
    assert_eq!(fs::read(sandbox.job("a").join("meta.json")).unwrap(), before);
    assert_eq!(sandbox.status("a")["status"], "completed");
}

#[test]
fn a_file_with_variables_must_be_secret() {
    let sandbox = with_two_logins();
    let file = sandbox.path("home/red.env");
    let shown = file.display();
    let start = || sandbox.run(["start", "-p", "x", "--profile", "red"]);
    for mode in [0o640, 0o604, 0o620] {
        write(&file, "SECRET=sk-ant-x", mode);
        let why = format!("{shown}: others can access it (mode {mode:o})");
        assert_error(&start(), "bad_config", &why);
        assert_eq!(start()["hint"], format!("chmod go= '{shown}'"));
    }
    write(&file, "A=1\nsk-ant-secret\n", 0o600);
    let answer = start();
    assert_error(&answer, "bad_config", &format!("{shown}: line 2 is not NAME=VALUE"));
    assert!(!answer.stdout.contains("sk-ant"));
    fs::remove_file(&file).unwrap();
    assert_error(&start(), "bad_config", &format!("{shown}: there is no such file"));
    assert!(!sandbox.jobs().exists() || sandbox.run(["list", "--all"]).stdout == "[]\n");
}
