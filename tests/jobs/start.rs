//! What `start` refuses, and what a job gets from its caller.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

use crate::support::{Answer, Sandbox, await_file, install};

#[test]
fn one_of_twenty_starts_with_the_same_id_wins() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let start = |options: &[&str]| -> Vec<i32> {
        let args = [&["start", "one", "--prompt", "x"], options].concat();
        thread::scope(|scope| {
            let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| sandbox.run(&args))).collect();
            calls
                .into_iter()
                .map(|call| {
                    let answer = call.join().unwrap();
                    assert!(answer.code == 0 || answer["code"] == "job_exists", "{answer:?}");
                    answer.code
                })
                .collect()
        })
    };
    assert_eq!(start(&[]).iter().filter(|code| **code == 0).count(), 1);
    sandbox.wait("one").expect_end(0, "completed", None);
    assert_eq!(start(&["--if-absent"]), [0; 20]);
    let entries = fs::read_dir(sandbox.jobs()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    // This folder exists if the tests run in a container or in a service.
    names.retain(|name| name != ".warned");
    names.sort();
    assert_eq!(names, [".folders", ".new", ".queue", "one"]);
}

#[test]
fn a_fleet_is_warned_once() {
    let mut sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.set("RUNNER_TRACKING_ID", "github_1");
    let warned = |answer: &Answer| answer["warnings"].to_string().matches("CI runner").count();
    assert_eq!(warned(&sandbox.start("a", &["--label", "fleet=1"])), 1);
    for id in ["b", "c"] {
        assert_eq!(warned(&sandbox.start(id, &["--label", "fleet=1"])), 0);
    }
    fs::write(sandbox.path("go"), "").unwrap();
    for id in ["a", "b", "c"] {
        sandbox.wait(id).expect_end(0, "completed", None);
    }
    assert_eq!(warned(&sandbox.run(["resume", "a"])), 0);
    sandbox.wait("a").expect_end(0, "completed", None);
    fs::remove_dir_all(sandbox.jobs().join(".warned")).unwrap();
    assert_eq!(warned(&sandbox.start("d", &[])), 1);
    sandbox.wait("d").expect_end(0, "completed", None);
}

#[test]
fn a_hundred_starts_at_once_have_ids_of_their_own() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let mut ids = thread::scope(|scope| {
        let calls: Vec<_> =
            (0..100).map(|_| scope.spawn(|| sandbox.run(["start", "--prompt", "x"]))).collect();
        let ids = calls.into_iter().map(|call| call.join().unwrap().text("jobId").to_owned());
        ids.collect::<Vec<_>>()
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100, "{ids:?}");
    let of_form = |id: &String| {
        let (date, word) = id.split_once('-').unwrap();
        date.len() == 6 && date.parse::<u32>().is_ok() && word.len() == 7
    };
    assert!(ids.iter().all(of_form), "{ids:?}");
    let waited = sandbox.run(["wait"].into_iter().chain(ids.iter().map(String::as_str)));
    assert_eq!(waited.code, 0, "{waited:?}");
}

#[test]
fn start_reports_a_claude_that_cannot_be_executed() {
    let mut sandbox = Sandbox::new("");
    let program = sandbox.path("broken");
    install(&program, b"#!/nowhere/at/all\n");
    sandbox.set("CLAUDE_SKILL_CLAUDE", &program);
    let answer = sandbox.run(["start", "b", "--prompt", "x"]);
    assert_eq!((answer.code, answer["code"].as_str()), (1, Some("launch_failed")), "{answer:?}");
    let status = sandbox.status("b");
    assert_eq!((&status["status"], &status["reason"]), (&"failed".into(), &"launch_failed".into()));
}

#[test]
fn a_prompt_arrives_unchanged() {
    let big = "All 10 MB: \"quotes\", \\ and \u{2028} 🦀 e\u{301} \u{e000}\n".repeat(200_000);
    for prompt in ["--help me", "'\"`$(x)\n\t\\", "\u{feff}日本\u{2028}🦀\u{1}\u{7f}", &big] {
        let sandbox = Sandbox::new("args $DIR/args\nread $DIR/got\ninit\nresult ok\neof");
        let start = sandbox.run_with_stdin(["start", "p", "--prompt", "-"], prompt);
        assert_eq!(start.code, 0, "{start:?}");
        sandbox.wait("p").expect_end(0, "completed", None);
        let got: Value = serde_json::from_slice(&fs::read(sandbox.path("got")).unwrap()).unwrap();
        assert!(got["message"]["content"] == prompt);
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        assert!(prompt == big || !args.contains(&prompt[..6]));
        if prompt != big {
            let again = sandbox.run(["start", "q", "--prompt", prompt]);
            assert_eq!(again.code, 0, "{again:?}");
            sandbox.wait("q");
            let text = fs::read_to_string(sandbox.job("q").join("prompt.txt")).unwrap();
            assert_eq!(text, prompt);
        }
    }
}

#[test]
fn refuses_invalid_starts_and_leaves_nothing() {
    let mut sandbox = Sandbox::new("");
    fs::write(sandbox.path("nul"), "a\0b").unwrap();
    fs::write(sandbox.path("latin1"), [b'a', 0xe4]).unwrap();
    let (nul, latin1) = (sandbox.path("nul"), sandbox.path("latin1"));
    let (nul, latin1) = (nul.to_str().unwrap(), latin1.to_str().unwrap());
    let long = "a".repeat(129);
    let refused = |sandbox: &Sandbox, args: &[&str], code: &str| {
        let args = [&["start"], args].concat();
        let answer = sandbox.run(&args);
        assert_eq!(answer["code"], code, "{answer:?}");
        assert_eq!(
            answer.code,
            if ["usage", "empty_prompt"].contains(&code) { 2 } else { 1 },
            "{answer:?}"
        );
        assert!(!sandbox.jobs().exists(), "{code} left something");
    };
    for (args, code) in [
        (&["--prompt", ""][..], "empty_prompt"),
        (&["--prompt", "x", "--timeout", "0"], "usage"),
        (&["--prompt", "x", "--stall-timeout", "soon"], "usage"),
        (&["--prompt", "x", "--stall-timeout", "1s", "--tool-timeout", "0"], "usage"),
        (&["--prompt", "x", "--on-event", "true", "--on-event-timeout", "0"], "usage"),
        (&["--prompt", " \n\t"], "empty_prompt"),
        (&["--prompt-file", nul], "prompt_has_nul"),
        (&["--prompt-file", latin1], "prompt_not_utf8"),
        (&["--prompt-file", "/nowhere/at/all"], "prompt_unreadable"),
        (&["../x", "--prompt", "x"], "invalid_job_id"),
        (&[".hidden", "--prompt", "x"], "invalid_job_id"),
        (&[&long, "--prompt", "x"], "invalid_job_id"),
        (&["--prompt", "x", "--cwd", "/nowhere/at/all"], "bad_cwd"),
        (&["--prompt", "x", "--cwd", nul], "bad_cwd"),
        (&["--prompt", "x", "--claude", "/nowhere/claude"], "claude_not_found"),
        (&["--prompt", "x", "--", "--output-format", "text"], "usage"),
        (&["--prompt", "x", "--json-schema", "{"], "usage"),
        (&["--prompt", "x", "--no-such-flag"], "usage"),
        (&[], "usage"),
    ] {
        refused(&sandbox, args, code);
    }
    sandbox.unset("ANTHROPIC_API_KEY");
    refused(&sandbox, &["--prompt", "x"], "not_logged_in");
    sandbox.set("ANTHROPIC_API_KEY", "k");
    fs::create_dir(sandbox.jobs()).unwrap();
    fs::set_permissions(sandbox.jobs(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(sandbox.run(["start", "--prompt", "x"])["code"], "jobs_dir_denied");
    assert_eq!(fs::read_dir(sandbox.jobs()).unwrap().count(), 0);
}

#[test]
fn only_root_needs_a_sandbox() {
    let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.unset("IS_SANDBOX");
    let answer = sandbox.run(["start", "j", "--prompt", "x"]);
    if nix::unistd::geteuid().is_root() {
        assert_ne!(answer.code, 0, "{answer:?}");
        assert_eq!(answer["code"], "root_needs_sandbox");
        assert!(!sandbox.jobs().exists());
    } else {
        sandbox.wait("j").expect_end(0, "completed", None);
    }
}

#[test]
fn a_job_inherits_nothing_from_its_caller() {
    let sandbox = Sandbox::new("fds $DIR/fds\nread\ninit\ntouch $DIR/up\nhang");
    let pipes: Vec<_> = (0..50).map(|_| std::io::pipe().unwrap()).collect();
    for (_, writer) in &pipes {
        fcntl(writer, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert!(writer.as_raw_fd() > 2);
    }
    let start = sandbox.start("f", &["--cwd", "."]);
    for (mut reader, writer) in pipes {
        drop(writer);
        // Returns only when no process holds the other end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
    await_file(&sandbox.path("up"));
    assert_eq!(sandbox.status("f")["status"], "running");
    let fds: Value = serde_json::from_slice(&fs::read(sandbox.path("fds")).unwrap()).unwrap();
    let numbers: Vec<&String> = fds.as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{fds}");
    let worker = start["pid"].as_i64().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{worker}/cwd")).unwrap().as_os_str(), "/");
    let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, worker.to_string(), "a session of its own");
}

#[test]
fn accepts_unusual_paths() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let odd = sandbox.path("work/with spaces and 'quotes'");
    fs::create_dir(&odd).unwrap();
    let odd = odd.to_str().unwrap();
    let args = ["--jobs-dir", "here/jobs", "start", "o", "--prompt", "x", "--cwd", odd];
    assert_eq!(sandbox.run(args).code, 0);
    let answer = sandbox.run(["wait", "o", "--jobs-dir", "here/../here/jobs"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(sandbox.work().join("here/jobs/o/meta.json").exists());
}

#[test]
fn a_job_started_by_a_job_is_independent() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let outer = sandbox.path("outer");
    let program = env!("CARGO_BIN_EXE_claudejob");
    let script = format!(
        "#!/bin/sh\nCLAUDE_SKILL_CLAUDE={} {program} start inner --prompt x >/dev/null\n\
         echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\"}}'\n",
        crate::support::sandbox::fake_claude().display()
    );
    install(&outer, script.as_bytes());
    let answer = sandbox.run_job("outer", &["--claude", outer.to_str().unwrap()]);
    answer.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("inner")["status"], "running");
    assert_eq!(sandbox.run(["kill", "inner"])["killed"], true);
}

#[test]
fn a_job_has_the_environment_of_its_directory() {
    let mut sandbox = Sandbox::new("env $DIR/env\ninit\nread\nresult Done.");
    sandbox.set("HOME", "home-in-work");
    sandbox.unset("CLAUDE_SKILL_JOBS_DIR");
    sandbox.set("PWD", sandbox.work());
    sandbox.set("OLDPWD", "/");
    sandbox.set("CLAUDECODE", "1");
    sandbox.set("CLAUDE_CODE_MESSAGING_TOKEN", "secret");
    sandbox.set("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "9000");
    let cwd = sandbox.path("elsewhere");
    fs::create_dir(&cwd).unwrap();

    let result = sandbox.run_job("there", &["--cwd", cwd.to_str().unwrap()]);

    result.expect_end(0, "completed", None);
    let home = sandbox.work().join("home-in-work");
    let jobs = home.join(".local/state/claudejob/jobs");
    assert!(jobs.join("there/meta.json").is_file());
    let seen: Value =
        serde_json::from_str(&fs::read_to_string(sandbox.path("env")).unwrap()).unwrap();
    assert_eq!(seen["HOME"], home.to_str().unwrap());
    assert_eq!(seen["PWD"], cwd.to_str().unwrap());
    assert_eq!(seen["CLAUDE_CODE_MAX_OUTPUT_TOKENS"], "9000");
    for absent in ["OLDPWD", "CLAUDECODE", "CLAUDE_CODE_MESSAGING_TOKEN"] {
        assert_eq!(seen[absent], Value::Null, "{absent}");
    }
}

#[test]
fn start_does_not_query_claude() {
    let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let program = sandbox.path("claude");
    let fake = crate::support::sandbox::fake_claude();
    let body = format!(
        "#!/bin/sh\necho \"$1\" >> \"$FAKE_DIR/calls\"\nexec '{}' \"$@\"\n",
        fake.display()
    );
    install(&program, body.as_bytes());
    sandbox.set("CLAUDE_SKILL_CLAUDE", &program);
    sandbox.run_job("j", &["--append-system-prompt", "x"]).expect_end(0, "completed", None);
    assert_eq!(fs::read_to_string(sandbox.path("calls")).unwrap(), "-p\n");
}

#[test]
fn start_refuses_unusable_claude_arguments() {
    let sandbox = Sandbox::new("args $DIR/args\nread\ninit\nresult ok\neof");
    for (args, named) in [
        (&["--bg"][..], "--bg"),
        (&["--debug", "-c"], "--resume-job"),
        (&["--session-id=x"], "--resume"),
        (&["Fix", "the", "test"], "--prompt"),
    ] {
        let start = [&["start", "j", "--prompt", "x", "--"], args].concat();
        let answer = sandbox.run(start);
        assert_eq!((answer.code, &answer["code"]), (2, &"usage".into()), "{answer:?}");
        assert!(answer.text("error").contains(named), "{answer:?}");
        assert!(!sandbox.job("j").exists());
    }
    sandbox.run_job("j", &["--", "--append-system-prompt", "--bg"]).expect_end(
        0,
        "completed",
        None,
    );
    let args = fs::read_to_string(sandbox.path("args")).unwrap();
    assert!(args.ends_with("\"--append-system-prompt\",\"--bg\"]"), "{args}");
}
