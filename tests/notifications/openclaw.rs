//! Agents and people that are notified through the `openclaw` command.

use std::fs;
use std::path::PathBuf;

use crate::support::{self, Sandbox};
use crate::{QUICK, delivered, lines};

/// A stand-in for `openclaw` that appends its first argument to the file `begun-JOB`, runs the
/// script, and then appends its arguments, a call a line, to the file `calls`.
pub(crate) fn install(sandbox: &Sandbox, name: &str, script: &str) -> PathBuf {
    let path = sandbox.path(name);
    let calls = sandbox.path("calls");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // By one write: other calls append at the same time.
    let record = format!(r#"printf '%s\n' "$(printf '[%s]' "$@")" >> {}"#, calls.display());
    let begin = r#"job=${CLAUDEJOB_DIR%/*}; echo "$1" >> "begun-${job##*/}""#;
    let root = sandbox.path("");
    let text = format!("#!/bin/sh\ncd {}\n{begin}\n{script}\n{record}\n", root.display());
    support::install(&path, text.as_bytes());
    path
}

/// A sandbox in which the command is where npm puts it, and not on PATH.
pub(crate) fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new(QUICK);
    install(&sandbox, "home/.npm-global/bin/openclaw", script);
    sandbox
}

/// The command with which a notification of the sandbox tells to look at the job.
fn command(sandbox: &Sandbox, verb: &str, id: &str) -> String {
    format!("claudejob --jobs-dir '{}' {verb} {id}", sandbox.jobs().display())
}

#[test]
fn wakes_an_agent_and_tells_a_person() {
    let sandbox = sandbox("");
    let options = [
        "--wake",
        "openclaw:agent:main:main",
        "--notify",
        "openclaw:telegram:-100:7",
        "--notify",
        "openclaw:discord:channel:5",
    ];
    sandbox.run_job("a", &options);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    // No word of it is the agent's.
    let text = format!("claudejob: job a completed. Run: {}", command(&sandbox, "result", "a"));
    assert_eq!(
        lines(&sandbox, "calls"),
        [
            format!("[system][event][--mode][now][--session-key=agent:main:main][--text][{text}]"),
            format!(
                "[message][send][--channel][telegram][--target=-100][--thread-id][7][--message][{text}]"
            ),
            format!("[message][send][--channel][discord][--target=channel:5][--message][{text}]"),
        ]
    );
}

#[test]
fn a_text_tells_the_end_and_a_command_that_runs() {
    let sandbox = sandbox("");
    let wake = ["--wake", "openclaw"];
    let answered = [&wake[..], &["--notify-answer"]].concat();
    sandbox.run_job("answered", &answered);
    assert_eq!(delivered(&sandbox, "answered"), serde_json::json!([]));
    sandbox.script("read\ninit\nsay Run rm.\nstderr Run rm, too.\nexit 1");
    sandbox.run_job("failed", &answered);
    assert_eq!(delivered(&sandbox, "failed"), serde_json::json!([]));
    sandbox.script("read\ninit\nhang");
    sandbox.start("killed", &wake);
    assert_eq!(sandbox.run(["kill", "killed"]).code, 0);
    let failed = sandbox.status("failed");
    assert_eq!(delivered(&sandbox, "killed"), serde_json::json!([]));
    let text = fs::read_to_string(sandbox.path("calls")).unwrap();
    let texts: Vec<&str> = text.split("[system][event][--mode][now][--text]").collect();
    assert_eq!(
        texts,
        [
            String::new(),
            format!(
                "[claudejob: job answered completed. Run: {}\nIts answer: All is well.]\n",
                command(&sandbox, "result", "answered")
            ),
            format!(
                "[claudejob: job failed failed ({}). Run: {}]\n",
                failed.text("reason"),
                command(&sandbox, "status", "failed")
            ),
            format!(
                "[claudejob: job killed was killed. Run: {}]\n",
                command(&sandbox, "status", "killed")
            ),
        ]
    );
    for line in text.lines().filter_map(|line| line.split_once("Run: ")) {
        let words = line.1.trim_end_matches(']').strip_prefix("claudejob ").unwrap();
        let words = words.replace('\'', "");
        assert_eq!(sandbox.run(words.split(' ')).code, 0, "{words}");
    }
}

#[test]
fn start_refuses_an_agent_that_cannot_be_woken() {
    let sandbox = sandbox("");
    for (agent, why) in [
        ("openclaw:", "is empty"),
        ("openclaw:0d0f6a1e-7d5c-4a4e-9a3f-5b9a41f1b6c1", "sessionId"),
        ("openclaw:agent:main:subagent:x", "sub-agent"),
        ("http://127.0.0.1/hooks/wake", "expected openclaw"),
    ] {
        let refused = sandbox.run(["start", "a", "--prompt", "x", "--wake", agent]);
        assert_eq!((refused.code, refused.text("code")), (2, "bad_wake"), "{refused:?}");
        assert!(refused.text("error").contains(agent), "{refused:?}");
        assert!(refused.text("error").contains(why), "{refused:?}");
        assert!(refused.text("hint").contains("Runtime line"), "{refused:?}");
    }
    for options in [
        &["--notify", "openclaw:telegram"][..],
        &["--wake", "openclaw", "--wake-url", "http://127.0.0.1/hooks/wake"],
    ] {
        let refused = sandbox.run([&["start", "a", "--prompt", "x"], options].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
    }
    assert!(!sandbox.job("a").exists());
}

#[test]
fn start_needs_the_openclaw_command() {
    let mut sandbox = Sandbox::new(QUICK);
    for option in [["--wake", "openclaw"], ["--notify", "openclaw:telegram:1"]] {
        let refused = sandbox.run([&["start", "a", "--prompt", "x"], &option[..]].concat());
        assert_eq!((refused.code, refused.text("code")), (1, "no_openclaw"), "{refused:?}");
        assert!(refused.text("hint").contains("CLAUDE_SKILL_OPENCLAW"), "{refused:?}");
    }
    sandbox.set("CLAUDE_SKILL_OPENCLAW", sandbox.path("missing"));
    let refused = sandbox.run(["start", "a", "--prompt", "x", "--wake", "openclaw"]);
    assert!(refused.text("error").contains("missing"), "{refused:?}");
    assert!(!sandbox.job("a").exists());
    sandbox.set("CLAUDE_SKILL_OPENCLAW", install(&sandbox, "own openclaw", ""));
    sandbox.run_job("a", &["--wake", "openclaw"]);
    delivered(&sandbox, "a");
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn finds_a_command_that_was_moved() {
    let sandbox = sandbox("");
    sandbox.script("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("a", &["--wake", "openclaw"]);
    fs::create_dir_all(sandbox.path("home/bin")).unwrap();
    fs::rename(sandbox.path("home/.npm-global/bin/openclaw"), sandbox.path("home/bin/openclaw"))
        .unwrap();
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("a");
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    assert_eq!(lines(&sandbox, "calls").len(), 1);
}

#[test]
fn the_command_gets_the_environment_of_the_start() {
    let script = "env > environment; pwd >> environment; env node >> environment";
    let mut sandbox = sandbox(script);
    install(&sandbox, "home/.npm-global/bin/node", "echo own node");
    sandbox.set("OPENCLAW_STATE_DIR", "/state");
    sandbox.set("OPENCLAW_GATEWAY_PORT", "18999");
    sandbox.set("OPENCLAW_GATEWAY_TOKEN", "s3cret-gateway");
    sandbox.run_job("a", &["--wake", "openclaw"]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    let environment = lines(&sandbox, "environment");
    for line in [
        "OPENCLAW_STATE_DIR=/state",
        "OPENCLAW_GATEWAY_PORT=18999",
        "OPENCLAW_GATEWAY_TOKEN=s3cret-gateway",
        "own node",
    ] {
        assert!(environment.contains(&line.to_owned()), "{line}: {environment:?}");
    }
    let record = fs::read_to_string(sandbox.job("a").join("meta.json")).unwrap();
    assert!(record.contains("18999") && !record.contains("s3cret-gateway"), "{record}");
}

#[test]
fn the_configuration_names_agents_and_people() {
    let sandbox = sandbox("");
    let file = sandbox.path("home/.config/claudejob/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let keys = "wake = \"openclaw:agent:main:main\"\nnotify = [\"openclaw:telegram:1\"]\n\
                notify-answer = true\n";
    fs::write(&file, keys).unwrap();
    sandbox.run_job("a", &[]);
    assert_eq!(delivered(&sandbox, "a"), serde_json::json!([]));
    let calls = fs::read_to_string(sandbox.path("calls")).unwrap();
    assert!(calls.starts_with("[system][event][--mode][now][--session-key=agent:main:main]"));
    assert!(calls.contains("--target=1") && calls.matches("All is well.").count() == 2, "{calls}");
    // Options replace what the file names.
    let options = ["--wake-url", "http://127.0.0.1:9/hooks/wake", "--notify", "openclaw:irc:ann"];
    sandbox.run_job("b", &[&options[..], &["--on-event-filter", "failed"]].concat());
    let record = fs::read_to_string(sandbox.job("b").join("meta.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let openclaw = &record["spec"]["openclaw"];
    assert_eq!(openclaw["wake"], serde_json::Value::Null, "{openclaw}");
    assert_eq!(openclaw["chats"].as_array().unwrap().len(), 1, "{openclaw}");
    assert_eq!(openclaw["chats"][0]["channel"], "irc", "{openclaw}");
    fs::write(&file, "wake = \"openclaw:\"\n").unwrap();
    let refused = sandbox.run(["start", "c", "--prompt", "x"]);
    assert_eq!((refused.code, refused.text("code")), (2, "bad_wake"), "{refused:?}");
}
