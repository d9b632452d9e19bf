//! The configuration file: precedence, keys, permissions, profiles with their own logins.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "config/profiles.rs"]
mod profiles;
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use serde_json::{Value, json};
use support::{Answer, Sandbox, eventually};

const WORKS: &str = "read\ninit\nresult ok\neof";

/// Writes a file with this mode and its directories.
fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn config_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("home/.config/claudejob/config.toml")
}

fn configure(sandbox: &Sandbox, text: &str) {
    write(&config_file(sandbox), text, 0o600);
}

/// The request of a job, as it is stored.
fn spec(sandbox: &Sandbox, id: &str) -> Value {
    let record = fs::read_to_string(sandbox.job(id).join("meta.json")).unwrap();
    serde_json::from_str::<Value>(&record).unwrap()["spec"].clone()
}

#[track_caller]
fn assert_error(answer: &Answer, code: &str, error: &str) {
    assert_eq!((answer.code, answer.text("code")), (2, code), "{answer:?}");
    assert_eq!(answer.text("error"), error);
}

#[test]
fn flag_variable_profile_file_default() {
    let mut sandbox = Sandbox::new(WORKS);
    let limit = |sandbox: &Sandbox, id: &str, options: &[&str]| {
        sandbox.run_job(id, options);
        spec(sandbox, id)["admission"]["maxParallel"].clone()
    };
    assert_eq!(limit(&sandbox, "a", &[]), 32);
    configure(&sandbox, "max-parallel = 5\n[profile.p]\nmax-parallel = 6\n[profile.q]\n");
    assert_eq!(limit(&sandbox, "b", &[]), 5);
    assert_eq!(limit(&sandbox, "c", &["--profile", "p"]), 6);
    assert_eq!(limit(&sandbox, "d", &["--profile", "q"]), 5);
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "7");
    assert_eq!(limit(&sandbox, "e", &["--profile", "p"]), 7);
    assert_eq!(limit(&sandbox, "f", &["--profile", "p", "--max-parallel", "8"]), 8);
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "");
    assert_eq!(limit(&sandbox, "g", &["--profile", "p"]), 6);
    assert_eq!(limit(&sandbox, "h", &["--no-config"]), 32);
    assert_eq!(sandbox.run(["--json", "start", "i", "-p", "x", "--wait"]).code, 0);
    assert_eq!(spec(&sandbox, "i")["admission"]["maxParallel"], 5);
}

#[test]
fn each_key_sets_its_option() {
    let mut sandbox = Sandbox::new(WORKS);
    for name in ["CLAUDE_SKILL_CLAUDE", "CLAUDE_SKILL_STAGGER", "CLAUDE_SKILL_RETRIES"] {
        sandbox.unset(name);
    }
    let claude = support::sandbox::fake_claude();
    fs::write(sandbox.path("home/mcp.json"), "{}").unwrap();
    configure(
        &sandbox,
        &format!(
            r#"
model = "opus"
effort = "high"
fallback-model = 'sonnet'
permission-mode = "plan"
allowed-tools = ["Read", "Bash(git *)"]
disallowed-tools = ["Write"]
add-dir = ["~/lib", "/tmp"]
append-system-prompt = """
Be
brief"""
mcp-config = ["~/mcp.json", "{{\"mcpServers\":{{}}}}"]
settings = "{{\"a\":1}}"
claude = "{}"
timeout = "10m"
stall-timeout = "0"
tool-timeout = "5m"
background-wait = "20m"
max-turns = 1_0
max-budget-usd = 2.50
group = "web"
group-limit = 3
max-parallel = 4
priority = -5
stagger = "1ms"
retries = 2
max-backoff = "1s"
max-wait = "2s"
no-wait-for-reset = true
no-recover = true
fail-on-denial = true
fail-on-mcp = true
ask = true
block-timeout = "1h"
detach = "session"
label = ["team=web", "kind=ci"]
on-event = ["true", "cat"]
on-event-filter = ["failed", "killed"]
on-event-timeout = "3s"
"#,
            claude.display()
        ),
    );
    sandbox.run_job("all", &[]);
    let home = sandbox.path("home");
    let expected = json!({
        "model": "opus", "effort": "high", "fallbackModel": "sonnet", "permissionMode": "plan",
        "allowedTools": ["Read", "Bash(git *)"], "disallowedTools": ["Write"],
        "addDirs": [home.join("lib"), "/tmp"], "appendSystemPrompt": "Be\nbrief",
        "mcpConfig": [home.join("mcp.json"), "{\"mcpServers\":{}}"], "settings": "{\"a\":1}",
        "claude": claude, "timeoutMs": 600_000, "stallTimeoutMs": null, "toolTimeoutMs": 300_000,
        "backgroundWaitMs": 1_200_000, "maxTurns": 10, "maxBudgetUsd": 2.5, "retries": 2,
        "maxBackoffMs": 1_000, "maxWaitMs": 2_000, "noWaitForReset": true, "noRecover": true,
        "ask": true, "blockTimeoutMs": 3_600_000, "labels": {"team": "web", "kind": "ci"},
        "onEvent": ["true", "cat"], "onEventFilter": ["failed", "killed"],
        "onEventTimeoutMs": 3_000, "profile": null,
    });
    let spec = spec(&sandbox, "all");
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(spec[key], *value, "{key} of {spec}");
    }
    assert_eq!((&spec["failOnDenial"], &spec["failOnMcp"]), (&json!(true), &json!(true)));
    let queue = &spec["admission"];
    let numbers = ["groupLimit", "maxParallel", "priority", "staggerMs"].map(|key| &queue[key]);
    assert_eq!(json!(numbers), json!([3, 4, -5, 1]));
    assert_eq!(queue["group"], "web");
    let answer = sandbox.run(["start", "-p", "x", "--memory-max", "1G"]);
    assert!(answer.text("error").contains("--detach session"), "{answer:?}");
}

#[test]
fn budget_and_memory_are_keys() {
    let sandbox = Sandbox::new(WORKS);
    configure(&sandbox, "memory-max = \"1G\"\ndetach = \"session\"\n");
    assert_eq!(sandbox.run(["start", "-p", "x"])["code"], "no_memory_limit");
    configure(&sandbox, "budget-usd = \"0.000001/day\"\n");
    sandbox.script("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &[]);
    assert_eq!(sandbox.run(["start", "-p", "x"])["code"], "budget_exceeded");
    assert_eq!(sandbox.run(["start", "b", "-p", "x", "--no-config", "--wait"]).code, 0);
}

#[test]
fn a_profile_replaces_lists_and_flags() {
    let sandbox = Sandbox::new(WORKS);
    configure(
        &sandbox,
        "ask = true\nlabel = [\"a=1\", \"b=2\"]\non-event = [\"true\"]\n\
         [profile.p]\nask = false\nlabel = [\"c=3\"]\non-event = []\n",
    );
    sandbox.run_job("file", &[]);
    sandbox.run_job("profile", &["--profile", "p"]);
    sandbox.run_job("flag", &["--profile", "p", "--label", "d=4", "--ask"]);
    for (id, ask, labels, commands) in [
        ("file", true, json!({"a": "1", "b": "2"}), json!(["true"])),
        ("profile", false, json!({"c": "3"}), json!([])),
        ("flag", true, json!({"d": "4"}), json!([])),
    ] {
        let spec = spec(&sandbox, id);
        assert_eq!((&spec["ask"], &spec["labels"]), (&json!(ask), &labels), "{id}");
        assert_eq!(spec["onEvent"], commands, "{id}");
    }
}

#[test]
fn run_takes_the_same_options() {
    let sandbox = Sandbox::new(WORKS);
    configure(&sandbox, "ask = true\nmax-turns = 3\n[profile.p]\nmax-turns = 4\n");
    for (id, options, ask, turns) in [
        ("file", &[][..], true, 3),
        ("no-ask", &["--no-ask"], false, 3),
        ("profile", &["--profile", "p"], true, 4),
        ("flag", &["--profile", "p", "--max-turns", "5"], true, 5),
    ] {
        let answer = sandbox.run([&["run", "x", "--name", id], options].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        let spec = spec(&sandbox, id);
        assert_eq!((&spec["ask"], &spec["maxTurns"]), (&json!(ask), &json!(turns)), "{id}");
    }
}

#[test]
fn a_jobs_directory_is_that_of_every_verb() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.unset("CLAUDE_SKILL_JOBS_DIR");
    configure(&sandbox, "jobs-dir = \"~/../jobs\"");
    let started = sandbox.start("a", &[]);
    assert_eq!(started["hint"], "claudejob wait a", "the file leads to the directory");
    assert!(sandbox.job("a").exists());
    assert_eq!(sandbox.wait("a")["status"], "completed");
    assert_eq!(sandbox.run(["list", "--all"]).json.as_array().unwrap().len(), 1);
    // Reading the jobs may take too long for one key.
    eventually("the completion", || {
        let found = sandbox.run(["__complete", "status", ""]).stdout;
        (found == "a\tcompleted: work\n").then_some(())
    });
    let elsewhere = sandbox.run(["--no-config", "status", "a"]);
    assert_eq!(elsewhere.code, 4);
    let flag = sandbox.run(["status", "a", "--jobs-dir", "other"]);
    assert_eq!(flag.code, 4);
    sandbox.set("CLAUDE_SKILL_JOBS_DIR", sandbox.path("variable"));
    assert_eq!(sandbox.run(["status", "a"]).code, 4);
}

#[test]
fn errors_name_the_line_and_the_nearest_key() {
    let sandbox = Sandbox::new(WORKS);
    let file = config_file(&sandbox).display().to_string();
    let ignore = "correct the file, or ignore it with --no-config";
    let mean = |key: &str| format!("did you mean '{key}'? (--no-config ignores the file)");
    for (text, line, error, hint) in [
        ("\nmodle = 'x'", 2, "unknown key 'modle'", mean("model")),
        ("max_parallel = 3", 1, "unknown key 'max_parallel'", mean("max-parallel")),
        ("cwd = '/'", 1, "unknown key 'cwd'", ignore.to_owned()),
        ("env-file = '/x'", 1, "unknown key 'env-file'", ignore.to_owned()),
        ("[profile.a]\njobs-dir = '/x'", 2, "unknown key 'jobs-dir'", ignore.to_owned()),
        ("[profile.a]\ntimeot = '1s'", 2, "unknown key 'timeot'", mean("timeout")),
        ("model = \"a\\u0000b\"", 1, "'model' contains a NUL character", ignore.to_owned()),
        ("timeout = 30", 1, "'timeout' takes a text: timeout = \"…\"", ignore.to_owned()),
        ("label = 'a=b'", 1, "'label' takes an array of texts: label = [\"…\"]", ignore.to_owned()),
        ("ask = 'yes'", 1, "'ask' takes true or false: ask = true", ignore.to_owned()),
        ("retries = '3'", 1, "'retries' takes a number: retries = 5", ignore.to_owned()),
        (
            "add-dir = [1]",
            1,
            "'add-dir' takes an array of paths: add-dir = [\"~/…\"]",
            ignore.to_owned(),
        ),
        (
            "claude = 'bin/claude'",
            1,
            "the path 'bin/claude' is not absolute and does not begin with ~/",
            ignore.to_owned(),
        ),
        ("default-profile = 'x'", 1, "there is no profile 'x'", ignore.to_owned()),
        (
            "profile = 'x'",
            1,
            "'profile' is a table: [profile.NAME]; the default one is 'default-profile'",
            ignore.to_owned(),
        ),
        ("[profile]\nx = 1", 2, "a profile is a table: [profile.x]", ignore.to_owned()),
        (
            "[profile.'a b']",
            1,
            "invalid profile name 'a b': use letters, digits, '_' and '-'",
            ignore.to_owned(),
        ),
        ("a = 1\na = 2", 2, "duplicate key", ignore.to_owned()),
        ("# x\nmodel", 2, "key with no value, expected `=`", ignore.to_owned()),
    ] {
        configure(&sandbox, text);
        for verb in [&["list"][..], &["start", "-p", "x"], &["doctor"]] {
            let answer = sandbox.run(verb);
            assert_error(&answer, "bad_config", &format!("{file}, line {line}: {error}"));
            assert_eq!(answer.text("hint"), hint, "{text}");
        }
        assert_eq!(sandbox.run(["list", "--no-config"]).code, 0);
        assert_eq!(sandbox.run(["--version"]).code, 0);
        assert_eq!(sandbox.run(["start", "--help"]).code, 0);
        assert_eq!(sandbox.run(["completions", "bash"]).code, 0);
    }
    assert!(!sandbox.jobs().exists());
}

#[test]
fn values_are_checked_like_arguments() {
    let mut sandbox = Sandbox::new(WORKS);
    sandbox.unset("CLAUDE_SKILL_STAGGER");
    let file = config_file(&sandbox).display().to_string();
    for (text, error) in [
        ("\n\ntimeout = '30'", "line 3: invalid value '30' for 'timeout': say 30s"),
        ("stagger = '5'", "line 1: invalid value '5' for 'stagger': say 5s"),
        (
            "detach = 'docker'",
            "line 1: invalid value 'docker' for 'detach' [possible values: auto, session, scope]",
        ),
        (
            "[profile.p]\npriority = 2000",
            "line 2: invalid value '2000' for 'priority': 2000 is not in -1000..=1000",
        ),
    ] {
        configure(&sandbox, text);
        let profile: &[&str] = if text.contains("profile") { &["--profile", "p"] } else { &[] };
        let answer = sandbox.run([&["start", "-p", "x"], profile].concat());
        assert_error(&answer, "bad_config", &format!("{file}, {error}"));
        if profile.is_empty() {
            assert_error(&sandbox.run(["sidecar"]), "bad_config", &format!("{file}, {error}"));
        }
        // An option replaces the value, but does not correct the file.
        let both = sandbox.run([&["start", "-p", "x", "--no-config", "--wait"], profile].concat());
        assert_eq!(both.code, if profile.is_empty() { 0 } else { 2 });
        assert_eq!(sandbox.run(["list"]).code, 0, "other verbs do not need the value");
    }
}

#[test]
fn the_file_must_be_the_users_own() {
    let mut sandbox = Sandbox::new(WORKS);
    let file = config_file(&sandbox);
    let shown = file.display();
    for mode in [0o620, 0o602, 0o666] {
        write(&file, "retries = 1", mode);
        let answer = sandbox.run(["list"]);
        let why = format!("{shown}: others can change it (mode {mode:o})");
        assert_error(&answer, "bad_config", &why);
        assert_eq!(answer.text("hint"), format!("chmod go-w '{shown}'"));
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(sandbox.run(["list"]).code, 0);
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chown(&file, Some(12_345.into()), None).unwrap();
        let why = format!("{shown}: it belongs to another user (uid 12345)");
        assert_error(&sandbox.run(["list"]), "bad_config", &why);
    }
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
    assert_error(&sandbox.run(["list"]), "bad_config", &format!("{shown}: not a regular file"));
    fs::remove_file(&file).unwrap();
    write(&file, &"#".repeat(70_000), 0o600);
    let why = format!("{shown}: it has more than 65536 bytes");
    assert_error(&sandbox.run(["list"]), "bad_config", &why);
    // A link of the user to a file of the user is no other file.
    write(&sandbox.path("home/dotfiles.toml"), "max-parallel = 9", 0o644);
    fs::remove_file(&file).unwrap();
    symlink(sandbox.path("home/dotfiles.toml"), &file).unwrap();
    sandbox.run_job("linked", &[]);
    assert_eq!(spec(&sandbox, "linked")["admission"]["maxParallel"], 9);
    sandbox.set("XDG_CONFIG_HOME", sandbox.path("xdg"));
    write(&sandbox.path("xdg/claudejob/config.toml"), "max-parallel = 10", 0o600);
    sandbox.run_job("xdg", &[]);
    assert_eq!(spec(&sandbox, "xdg")["admission"]["maxParallel"], 10);
    sandbox.set("XDG_CONFIG_HOME", "work");
    sandbox.run_job("relative", &[]);
    assert_eq!(spec(&sandbox, "relative")["admission"]["maxParallel"], 9);
}

#[test]
fn no_file_of_a_project_is_read() {
    let sandbox = Sandbox::new(WORKS);
    let bad = "on-event = [\"touch $HOME/ran\"]\nclaude = \"/evil\"\n";
    for name in
        ["config.toml", ".claudejob.toml", "claudejob.toml", ".config/claudejob/config.toml"]
    {
        write(&sandbox.work().join(name), bad, 0o600);
    }
    sandbox.run_job("a", &[]);
    let spec = spec(&sandbox, "a");
    assert_eq!(spec["onEvent"], json!([]));
    assert_eq!(spec["claude"], support::sandbox::fake_claude().to_str().unwrap());
}
