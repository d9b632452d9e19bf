//! Jobs end to end through the real program, with the fake claude: every recorded stream, every
//! way in which a worker, a claude or a caller can misbehave, and every refusal of `start`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::processes::{kill, send};
use support::{Answer, Sandbox, await_file, filler, install, is_alive, pid_in};

const TRANSCRIPTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/transcripts/2.1.197");

fn transcript(name: &str) -> PathBuf {
    PathBuf::from(TRANSCRIPTS).join(format!("{name}.ndjson"))
}

/// Name, how the fake ends, status, reason.
const VERDICTS: [(&str, &str, &str, Option<&str>); 27] = [
    ("success", "exit 0", "completed", None),
    ("tool_use", "exit 0", "completed", None),
    ("two_turns", "exit 0", "completed", None),
    ("steered_mid_turn", "exit 0", "completed", None),
    ("rate_limited_then_ok", "exit 0", "completed", None),
    ("server_error_then_ok", "exit 0", "completed", None),
    ("permission_denied", "exit 0", "completed", None),
    ("permission_request", "exit 0", "completed", None),
    ("question", "exit 0", "completed", None),
    ("background_task", "exit 0", "completed", None),
    ("background_task_cut", "exit 0", "completed", None),
    ("partial_messages", "exit 0", "completed", None),
    ("rate_limited_failed", "exit 1", "failed", Some("rate_limit")),
    ("overloaded_failed", "exit 1", "failed", Some("overloaded")),
    ("bad_api_key", "exit 1", "failed", Some("auth")),
    ("not_logged_in", "exit 1", "failed", Some("auth")),
    ("malformed_api_answer", "exit 1", "failed", Some("api_error")),
    ("max_turns", "exit 1", "failed", Some("max_turns")),
    ("max_budget", "exit 1", "failed", Some("max_budget")),
    ("structured_output", "exit 0", "failed", Some("invalid_output")),
    ("interrupted_by_control_request", "exit 1", "failed", Some("interrupted")),
    ("interrupted_by_sigint", "exit 0", "failed", Some("interrupted")),
    ("terminated_by_sigterm", "exit 143", "failed", Some("no_result")),
    ("killed_by_sigkill", "die KILL", "failed", Some("no_result")),
    ("unknown_session", "stderr No conversation\nexit 1", "failed", Some("claude_refused")),
    ("root_refused", "stderr not as root\nexit 1", "failed", Some("claude_refused")),
    ("unknown_flag", "stderr error: unknown option\nexit 1", "failed", Some("claude_refused")),
];

#[test]
fn every_recorded_stream_gets_its_verdict_and_is_kept_byte_for_byte() {
    for (name, end, status, reason) in VERDICTS {
        let path = transcript(name);
        let sandbox = Sandbox::new(&format!("read\nplay {}\n{end}", path.display()));
        let options: &[&str] =
            if name == "structured_output" { &["--json-schema", "{}"] } else { &[] };
        let code = match reason {
            None => 0,
            Some("rate_limit" | "overloaded") => 75,
            Some(_) => 1,
        };
        sandbox.run_job(name, options).expect_end(code, status, reason);
        let log = fs::read(sandbox.job(name).join("output.log")).unwrap();
        assert!(log == fs::read(&path).unwrap(), "{name}");
    }
}

#[test]
fn a_stream_cut_at_any_line_is_never_falsely_completed() {
    thread::scope(|scope| {
        for names in VERDICTS.chunks(9) {
            scope.spawn(move || {
                for (name, ..) in names {
                    let path = transcript(name);
                    let stream = fs::read(&path).unwrap();
                    let ends = memchr::memchr_iter(b'\n', &stream).map(|at| at + 1);
                    // After each line, and in the middle of each.
                    for cut in ends.flat_map(|end| [end - 40, end]) {
                        let script = format!("read\nplay {} {cut}\ndie KILL", path.display());
                        let sandbox = Sandbox::new(&script);
                        let answer = sandbox.run_job("cut", &[]);
                        let heard = String::from_utf8_lossy(&stream[..cut]).into_owned();
                        let last = heard.lines().last().unwrap();
                        let is_end = heard.ends_with('\n')
                            && (last.contains(r#""type":"result""#)
                                || last.contains(r#""subtype":"task_"#));
                        assert!(answer.code != 0 || is_end, "{name} cut at {cut}: {answer:?}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_worker_that_is_killed_leaves_nothing_and_the_truth() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child\ntouch $DIR/up\nhang");
    let worker = sandbox.start("lost", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    let child = pid_in(&sandbox.path("child"));
    kill(worker);
    let status = sandbox.status("lost");
    assert_eq!((&status["status"], &status["reason"]), (&"failed".into(), &"worker_died".into()));
    assert!(!is_alive(child), "swept by whoever finds the job lost");
    sandbox.assert_nothing_left("lost");
    assert_eq!(sandbox.run(["list"]).json[0]["reason"], "worker_died");
    assert_eq!(sandbox.run(["start", "lost", "--prompt", "x"])["code"], "job_exists");
}

#[test]
fn a_kill_ends_what_ignores_it_and_what_has_fled() {
    let sandbox = Sandbox::new(
        "ignore INT\nignore TERM\nread\ninit\nspawn $DIR/a\nspawn-clean $DIR/b\n\
         spawn-stubborn $DIR/c\ntouch $DIR/up\nhang",
    );
    sandbox.start("k", &[]);
    await_file(&sandbox.path("up"));
    let children = ["a", "b", "c"].map(|name| pid_in(&sandbox.path(name)));
    let answer = sandbox.run(["kill", "k"]);
    assert_eq!((answer.code, &answer["killed"]), (0, &true.into()), "{answer:?}");
    assert!(children.into_iter().all(|pid| !is_alive(pid)));
    sandbox.assert_nothing_left("k");
    assert_eq!(sandbox.run(["kill", "k"]).code, 0, "it is killed: asking again changes nothing");
    assert_eq!(sandbox.run(["wait", "k"]).code, 3);
}

#[test]
fn a_kill_changes_no_verdict() {
    let sandbox = Sandbox::new("read\ninit\nresult fine\neof");
    sandbox.run_job("done", &[]).expect_end(0, "completed", None);
    let answer = sandbox.run(["kill", "done"]);
    assert_eq!((answer.code, &answer["killed"]), (1, &false.into()));
    assert_eq!(sandbox.status("done")["status"], "completed");
}

#[test]
fn a_stopped_worker_hears_a_kill() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let worker = sandbox.start("k", &[])["pid"].as_i64().unwrap() as i32;
    send(worker, Signal::SIGSTOP);
    assert_eq!(sandbox.run(["kill", "k"])["killed"], true);
}

#[test]
fn a_shutdown_is_no_kill() {
    let sandbox = Sandbox::new("read\ninit\ntouch $DIR/up\nhang");
    let worker = sandbox.start("t", &[])["pid"].as_i64().unwrap() as i32;
    await_file(&sandbox.path("up"));
    send(worker, Signal::SIGTERM);
    sandbox.wait("t").expect_end(1, "failed", Some("terminated"));
}

#[test]
fn of_twenty_starts_of_one_id_one_wins() {
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
    // Where the tests run in a container.
    names.retain(|name| name != ".container-warned");
    names.sort();
    assert_eq!(names, [".new", ".queue", "one"]);
}

#[test]
fn fifty_jobs_at_once_lose_no_byte_and_show_no_torn_record() {
    const BYTES: u64 = 10_000_000;
    let sandbox = Sandbox::new(&format!("read\ninit\nfill {BYTES} 7\nresult ok\neof"));
    let over = AtomicBool::new(false);
    let mut expected = Vec::new();
    filler::fill(BYTES, 7, &mut expected).unwrap();
    let ids: Vec<String> = (0..50).map(|n| format!("job-{n}")).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let list = sandbox.run(["list", "--all"]);
                for item in list.json.as_array().unwrap() {
                    assert!(item["status"].is_string(), "{item}");
                    let status = sandbox.run(["status", item["jobId"].as_str().unwrap()]);
                    assert_eq!(status.code, 0, "{status:?}");
                }
            }
        });
        let starts: Vec<_> = ids.iter().map(|id| scope.spawn(|| sandbox.start(id, &[]))).collect();
        for start in starts {
            start.join().unwrap();
        }
        for id in &ids {
            sandbox.wait(id).expect_end(0, "completed", None);
        }
        over.store(true, Ordering::Relaxed);
    });
    for id in &ids {
        let log = fs::read(sandbox.job(id).join("output.log")).unwrap();
        let from = memchr::memchr(b'\n', &log).unwrap() + 1;
        assert!(log[from..].starts_with(&expected), "{id}");
    }
}

#[test]
fn claudes_that_misbehave_get_a_true_verdict() {
    for (script, code, status, reason) in [
        ("read\ninit\nline 100000000\nresult ok\neof", 0, "completed", None),
        (
            "hex 00ff0a7b7d0a\nprint garbage\nwrite {\"type\":\"resul",
            1,
            "failed",
            Some("no_result"),
        ),
        ("read\ninit\nclose-stdout\nhang", 1, "failed", Some("no_result")),
        ("read\ninit\nresult ok\nignore INT\nignore TERM\nhang", 0, "completed", None),
        ("exit 0", 1, "failed", Some("no_result")),
        (
            "write {\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"x\"}",
            0,
            "completed",
            None,
        ),
    ] {
        let sandbox = Sandbox::new(script);
        sandbox.run_job("odd", &[]).expect_end(code, status, reason);
        sandbox.assert_nothing_left("odd");
    }
}

#[test]
fn a_claude_that_cannot_be_executed_is_told_at_once() {
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
fn limits_of_time_are_kept() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.run_job("t", &["--timeout", "1s"]).expect_end(1, "failed", Some("timeout"));
    let answer = sandbox.run(["start", "w", "--prompt", "x", "--wait", "1s"]);
    assert_eq!((answer.code, &answer["status"]), (124, &"running".into()));
    assert!(sandbox.run(["result", "w"])["result"].is_null());
    assert_eq!(sandbox.run(["wait", "t", "w", "--any"]).code, 1);
    assert_eq!(sandbox.run(["wait", "nobody"]).code, 4);
}

#[test]
fn a_prompt_arrives_as_it_was_given() {
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
fn what_cannot_work_is_refused_and_leaves_nothing() {
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
        assert_eq!(answer.code, if code == "usage" { 2 } else { 1 }, "{answer:?}");
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
    if nix::unistd::geteuid().is_root() {
        sandbox.unset("IS_SANDBOX");
        refused(&sandbox, &["--prompt", "x"], "root_needs_sandbox");
        sandbox.set("IS_SANDBOX", "1");
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
fn a_start_holds_nothing_of_its_callers() {
    let sandbox = Sandbox::new("fds $DIR/fds\nread\ninit\ntouch $DIR/up\nhang");
    let pipes: Vec<_> = (0..50).map(|_| std::io::pipe().unwrap()).collect();
    for (_, writer) in &pipes {
        fcntl(writer, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert!(writer.as_raw_fd() > 2);
    }
    let start = sandbox.start("f", &["--cwd", "."]);
    for (mut reader, writer) in pipes {
        drop(writer);
        // Comes back only when nobody holds the other end.
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
fn odd_places_are_places() {
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
fn a_log_is_read_while_it_grows_and_nothing_comes_twice() {
    let sandbox = Sandbox::new("read\ninit\nfill 3000000 3\nresult ok\neof");
    sandbox.start("l", &[]);
    let (mut read, mut at) = (String::new(), 0);
    loop {
        let offset = at.to_string();
        let args = ["logs", "l", "--raw", "--since-offset", &offset, "--max-bytes", "100000"];
        let answer = sandbox.run(args);
        read.push_str(answer.text("tail"));
        let next = answer["nextOffset"].as_u64().unwrap();
        if next == at && answer["status"] == "completed" {
            break;
        }
        at = next;
    }
    let log = fs::read_to_string(sandbox.job("l").join("output.log")).unwrap();
    assert!(read == log);
    let followed = sandbox.run(["logs", "l", "--raw", "--follow", "--since-offset", "0"]);
    assert!(followed.stdout == log);
    assert_eq!(sandbox.run(["logs", "l", "--since-offset", "99999999"])["code"], "bad_offset");
    let tail = sandbox.run(["logs", "l", "--tail", "1"]);
    assert!(tail.text("tail").starts_with("= completed"), "{tail:?}");
}

#[test]
fn answers_stay_short_and_harmless() {
    let sandbox = Sandbox::new("");
    let text = "\u{1b}[31m\u{9b}2J\u{202e}\\\"".repeat(30_000);
    let said = serde_json::to_string(&text).unwrap();
    sandbox.script(&format!(
        "read\ninit\nstderr \u{1b}[2J\njson {{\"type\":\"assistant\",\"message\":{{\"content\":[{{\"type\":\
         \"text\",\"text\":{said}}}]}}}}\njson {{\"type\":\"result\",\"subtype\":\"success\",\
         \"is_error\":false,\"result\":{said}}}\neof"
    ));
    let id = "a".repeat(128);
    sandbox.run_job(&id, &[]).expect_end(0, "completed", None);
    for verb in ["status", "result", "logs", "wait"] {
        let answer = sandbox.run([verb, &id]);
        assert!(answer.stdout.chars().count() < 8_000, "{verb}: {}", answer.stdout.len());
        assert!(answer.json.is_object(), "{verb}");
        for args in [&[verb, &id, "--plain"][..], &[verb, &id], &["logs", &id, "--stderr"]] {
            let shown = sandbox.run(args).stdout;
            let harmful = |c: char| c != '\n' && c != '\t' && (c.is_control() || c == '\u{202e}');
            assert!(!shown.contains(harmful), "{args:?}");
        }
    }
    assert_eq!(sandbox.run(["result", &id])["truncated"], true);
    assert!(sandbox.run(["result", &id, "--full"])["result"] == text);
}

#[test]
fn what_is_foreign_spoils_nothing() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("good", &[]);
    let put = |id: &str, meta: &str| {
        fs::create_dir(sandbox.job(id)).unwrap();
        fs::write(sandbox.job(id).join("meta.json"), meta).unwrap();
    };
    put("torn", "{\"jobId\":\"torn\",\"sta");
    put("empty", "");
    put("false", r#"{"version":2,"jobId":"../x","status":"completed","prompt":1}"#);
    put("newer", r#"{"version":9,"jobId":"newer","status":"failed","reason":"auth","x":1}"#);
    put("legacy", r#"{"jobId":"legacy","pid":1,"status":"completed","prompt":"p","cwd":"/"}"#);
    fs::write(sandbox.jobs().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/", sandbox.jobs().join("link")).unwrap();
    let list = sandbox.run(["list"]);
    let of = |id: &str| {
        let items = list.json.as_array().unwrap();
        items.iter().find(|item| item["jobId"] == id).unwrap_or_else(|| panic!("{id}: {list:?}"))
    };
    assert_eq!(list.json.as_array().unwrap().len(), 6);
    for id in ["torn", "empty", "false"] {
        assert!(of(id)["error"].is_string() && of(id)["status"].is_null());
        assert_eq!(sandbox.run(["status", id])["code"], "record_unreadable");
    }
    assert_eq!(of("newer")["reason"], "auth");
    assert_eq!(of("legacy")["status"], "completed");
    assert_eq!(of("good")["status"], "completed");
    for filter in [["--status", "completed"], ["--since", "1000years"]] {
        let list = sandbox.run([&["list"][..], &filter].concat());
        assert!(
            list.json.as_array().unwrap().iter().all(|item| item["status"].is_string()),
            "{list:?}"
        );
    }
    let status = sandbox.status("good");
    for field in ["jobId", "pid", "status", "startedAt", "endedAt", "error", "rateLimited"] {
        assert!(status.json.as_object().unwrap().contains_key(field), "{field}");
    }
}

#[test]
fn a_job_started_by_a_job_is_a_job_of_its_own() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    let outer = sandbox.path("outer");
    let program = env!("CARGO_BIN_EXE_claudejob");
    let script = format!(
        "#!/bin/sh\nCLAUDE_SKILL_CLAUDE={} {program} start inner --prompt x >/dev/null\n\
         echo '{{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\"}}'\n",
        support::sandbox::fake_claude().display()
    );
    install(&outer, script.as_bytes());
    let answer = sandbox.run_job("outer", &["--claude", outer.to_str().unwrap()]);
    answer.expect_end(0, "completed", None);
    assert_eq!(sandbox.status("inner")["status"], "running");
    assert_eq!(sandbox.run(["kill", "inner"])["killed"], true);
}

/// A record as far as a list needs it, `age` hours old.
fn put_record(sandbox: &Sandbox, id: &str, age: u64, fields: &str) {
    let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age * 3_600);
    let at = chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339();
    fs::create_dir_all(sandbox.job(id)).unwrap();
    fs::set_permissions(sandbox.jobs(), fs::Permissions::from_mode(0o700)).unwrap();
    let record = format!(
        r#"{{"version":2,"jobId":"{id}","status":"completed","startedAt":"{at}","endedAt":"{at}",{fields}}}"#
    );
    fs::write(sandbox.job(id).join("meta.json"), record).unwrap();
}

#[test]
fn a_list_is_of_the_jobs_asked_for_in_the_order_asked_for() {
    let sandbox = Sandbox::new("");
    put_record(
        &sandbox,
        "a",
        1,
        r#""costUsd":0.5,"numTurns":3,"spec":{"admission":{"group":"ci"}}"#,
    );
    put_record(
        &sandbox,
        "b",
        5,
        r#""costUsd":2.5,"numTurns":1,"spec":{"admission":{"group":"ci"}}"#,
    );
    put_record(&sandbox, "c", 50, r#""numTurns":7,"spec":{"labels":{"k":"v"}}"#);
    put_record(&sandbox, "bad", 0, "torn");
    let ids = |args: &[&str]| {
        let answer = sandbox.run([&["list"], args].concat());
        let items = answer.json.as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        let ids: Vec<String> =
            items.iter().map(|item| item["jobId"].as_str().unwrap().to_owned()).collect();
        ids.join(" ")
    };
    let since = (chrono::Utc::now() - chrono::TimeDelta::hours(3)).to_rfc3339();
    for (args, found) in [
        (&[][..], "a b c bad"),
        (&["--reverse"], "c b a bad"),
        (&["--since", "2h"], "a"),
        (&["--since", "1day"], "a b"),
        (&["--since", &since], "a"),
        (&["--group", "ci"], "a b"),
        (&["--group", "none"], ""),
        (&["--group", "ci", "--since", "2h"], "a"),
        (&["--limit", "2"], "a b"),
        (&["--all", "--limit", "1", "--reverse"], "c"),
        (&["--sort", "cost"], "b a c bad"),
        (&["--sort", "cost", "--reverse"], "a b c bad"),
        (&["--sort", "turns", "--limit", "1"], "c"),
        (&["--sort", "ended", "--reverse"], "c b a bad"),
        (&["--sort", "id", "--status", "completed"], "a b c"),
        (&["--sort", "status", "--label", "k=v"], "c"),
    ] {
        assert_eq!(ids(args), found, "{args:?}");
    }
    let items = sandbox.run(["list"]).json;
    assert_eq!(items[0]["group"], "ci");
    assert_eq!(items[2].get("group"), Some(&Value::Null), "null where it is not set");
    for (args, word) in [
        (["--since", "soon"], "7d"),
        (["--limit", "0"], "1.."),
        (["--limit", "some"], "digit"),
        (["--sort", "colour"], "started, ended, cost, turns, status, id"),
        (["--group", ""], "group"),
        (["--status", "done"], "completed"),
    ] {
        let refused = sandbox.run([&["list"][..], &args].concat());
        assert_eq!((refused.code, refused.text("code")), (2, "usage"), "{refused:?}");
        assert!(refused.text("error").contains(word), "{args:?}: {refused:?}");
    }
}

#[test]
fn a_list_that_is_filtered_stays_short_and_says_so() {
    let sandbox = Sandbox::new("");
    for n in 0..60 {
        let prompt =
            format!(r#""prompt":"{}","spec":{{"admission":{{"group":"g"}}}}"#, "p".repeat(200));
        put_record(&sandbox, &format!("j{n}"), n, &prompt);
    }
    for args in [["--group", "g"], ["--since", "9d"], ["--limit", "55"]] {
        let answer = sandbox.run([&["list"][..], &args].concat());
        let items = answer.json.as_array().unwrap();
        assert!(answer.stdout.chars().count() < 8_000, "{args:?}");
        let wanted = if args[0] == "--limit" { 55 } else { 60 };
        let last = items.last().unwrap();
        assert_eq!(last["truncated"], true, "{args:?}");
        assert_eq!(last["omitted"], wanted - (items.len() - 1), "{args:?}");
    }
    assert_eq!(sandbox.run(["list", "--all"]).json.as_array().unwrap().len(), 60);
}

#[test]
fn a_job_that_is_removed_while_others_are_waited_for_is_answered() {
    let mut sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go-$JOB\nresult ok\neof");
    let end = |sandbox: &Sandbox, id: &str| {
        fs::write(sandbox.path(&format!("go-{id}")), "").unwrap();
        sandbox.wait(id);
    };
    // One that had ended before, and one that ends while it is waited for.
    for (before, id, other) in [(true, "a", "b"), (false, "c", "d")] {
        sandbox.start(id, &[]);
        sandbox.start(other, &[]);
        if before {
            end(&sandbox, id);
        }
        let go = sandbox.path(&format!("go-{id}"));
        let answer = thread::scope(|scope| {
            scope.spawn(|| fs::write(go, "").unwrap());
            sandbox.pause_at("wait:kept", ["wait", id, other], |sandbox| {
                assert_eq!(sandbox.run(["clean", id])["removed"], 1);
                end(sandbox, other);
            })
        });
        assert_eq!(answer.code, 0, "{answer:?}");
        for (place, id) in [id, other].into_iter().enumerate() {
            let job = &answer.json[place];
            assert_eq!((&job["jobId"], &job["result"]), (&id.into(), &"ok".into()), "{answer:?}");
        }
        fs::remove_file(sandbox.path("stopped-wait-kept")).unwrap();
    }
    // One that is gone before anybody saw what it came to takes no answer of others along.
    for id in ["e", "f"] {
        sandbox.start(id, &[]);
    }
    end(&sandbox, "e");
    let answer = sandbox.pause_at("wait:kept", ["wait", "e", "f"], |sandbox| {
        end(sandbox, "f");
        assert_eq!(sandbox.run(["clean", "e", "f"])["removed"], 2);
    });
    assert_eq!(answer.code, 4, "{answer:?}");
    let [e, f] = [0, 1].map(|place| &answer.json[place]);
    assert_eq!(
        (&e["result"], &f["jobId"], &f["code"]),
        (&"ok".into(), &"f".into(), &"not_found".into())
    );
}

#[test]
fn a_wait_for_many_jobs_is_answered_in_short() {
    let answer = "a long answer ".repeat(60);
    let sandbox = Sandbox::new(&format!("read\ninit\nsay hm\nresult {answer}\neof"));
    let ids: Vec<String> = (0..24).map(|n| format!("job-{n}")).collect();
    for id in &ids {
        sandbox.start(id, &["--max-parallel", "0"]);
    }
    let wait = |ids: &[String]| {
        let ids = ids.iter().map(String::as_str);
        let all = sandbox.run(["wait"].into_iter().chain(ids));
        assert_eq!(all.code, 0, "{all:?}");
        assert!(all.stdout.len() < 8_000, "{}", all.stdout.len());
        for job in all.json.as_array().unwrap() {
            assert_eq!((&job["status"], &job["truncated"]), (&"completed".into(), &true.into()));
            assert!(job["result"].as_str().unwrap().starts_with("a long"), "{job}");
            assert_eq!(job["usage"], Value::Null);
        }
        all.json
    };
    let many = wait(&ids);
    let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
    let told = many.as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), asked);
    // Fewer have room for the rest.
    assert!(wait(&ids[..9])[0]["session_id"].is_string());
    let text = sandbox.run(["wait", "--plain"].into_iter().chain(asked)).stdout;
    assert!(text.starts_with("Job job-0 is completed: a long answer a long"), "{text}");
}

#[test]
fn the_environment_of_a_job_is_that_of_its_directory() {
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
fn a_start_asks_claude_nothing_beforehand() {
    let mut sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    let program = sandbox.path("claude");
    let fake = support::sandbox::fake_claude();
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
fn arguments_that_cannot_work_are_refused_at_the_start() {
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

#[test]
fn the_result_of_a_job_of_the_node_skill_is_read_from_its_log() {
    let sandbox = Sandbox::new("eof");
    let session = "6f9fb695-65a0-40f6-bcf8-00af6730366b";
    let init = json!({"type": "system", "subtype": "init", "session_id": session, "model": "m"});
    let said = json!({"type": "assistant", "session_id": session, "message": {"id": "m1",
        "role": "assistant", "content": [{"type": "text", "text": "half"}]}});
    let end = json!({"type": "result", "subtype": "success", "is_error": false, "result": "whole",
        "num_turns": 3, "duration_ms": 5, "total_cost_usd": 0.5, "session_id": session});
    let put = |id: &str, status: &str, log: &[&Value]| {
        let record = json!({"jobId": id, "pid": i32::MAX, "status": status, "prompt": "p",
            "cwd": "/", "startedAt": "2025-11-02T08:00:00.000Z"});
        fs::create_dir_all(sandbox.job(id)).unwrap();
        fs::write(sandbox.job(id).join("meta.json"), record.to_string()).unwrap();
        let log: String = log.iter().map(|line| format!("{line}\n")).collect();
        fs::write(sandbox.job(id).join("output.log"), log).unwrap();
    };
    let figures = |result: &Answer| {
        let field = |name: &str| result[name].clone();
        (field("result"), field("cost_usd"), field("num_turns"), field("partial"))
    };
    for (id, status, log, expected) in [
        ("whole", "completed", &[&init, &said, &end][..], json!(["whole", 0.5, 3, false])),
        ("killed", "killed", &[&init, &said], json!(["half", null, 1, true])),
        ("empty", "failed", &[], json!([null, null, 0, false])),
        ("dead", "running", &[&init, &said, &end][..], json!(["whole", 0.5, 3, false])),
    ] {
        put(id, status, log);
        let result = sandbox.run(["result", id]);
        assert_eq!(json!(figures(&result)), expected, "{result:?}");
        assert_eq!(result["status"], sandbox.status(id)["status"], "{result:?}");
    }
    assert_eq!(sandbox.run(["result", "whole"])["warnings"], json!([]));
    put("doubtful", "completed", &[&init, &said]);
    let doubtful = sandbox.run(["result", "doubtful"]);
    assert_eq!(doubtful.text("status"), "completed");
    assert!(doubtful["warnings"].to_string().contains("its log does not"), "{doubtful:?}");
}

#[test]
fn events_tell_how_claude_was_called_and_what_it_said_last() {
    let sandbox = Sandbox::new("read\ninit\nstderr \u{1b}[2Jone\nstderr two\nresult ok\neof");
    let settings = r#"{"env":{"ANTHROPIC_API_KEY":"not-to-be-seen"}}"#;
    let options = [
        "--settings",
        settings,
        "--max-turns",
        "3",
        "--append-system-prompt",
        &"Be brief. ".repeat(30),
        "--",
        "--some-token",
        "not-to-be-seen",
    ];
    sandbox.run_job("j", &options).expect_end(0, "completed", None);
    sandbox.script("init\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "more"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
    let events = |name: &str| -> Vec<Value> {
        let text = sandbox.run(["events", "j"]).stdout;
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["event"] == name).collect()
    };
    let launched = events("launched");
    assert_eq!(launched.len(), 2);
    assert_eq!(launched[0]["program"], support::sandbox::fake_claude().to_str().unwrap());
    let arguments: Vec<&str> = launched[0]["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    let size = format!("{{…}} ({} bytes)", settings.len());
    for pair in [
        ["--max-turns", "3"],
        ["--settings", &size],
        ["--append-system-prompt", "… (300 bytes)"],
        ["--some-token", "***"],
    ] {
        assert!(arguments.windows(2).any(|two| two == pair), "{pair:?}: {arguments:?}");
    }
    assert!(launched[1]["arguments"].to_string().contains("--resume"), "{launched:?}");
    let exits = events("exited");
    assert_eq!(exits[0]["stderr"], "\u{fffd}[2Jone\ntwo");
    assert_eq!(exits[1]["stderr"], Value::Null, "that of its own attempt");
    let file = sandbox.job("j").join("events.ndjson");
    let written = fs::read_to_string(&file).unwrap();
    assert!(!written.contains("not-to-be-seen"), "{written}");
    // As an earlier version wrote them.
    let older = |line: &str| {
        let mut event: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        event.retain(|name, _| !["program", "arguments", "stderr"].contains(&name.as_str()));
        serde_json::to_string(&event).unwrap() + "\n"
    };
    fs::write(&file, written.lines().map(older).collect::<String>()).unwrap();
    let launched = events("launched");
    assert_eq!((&launched[0]["program"], &launched[0]["arguments"]), (&Value::Null, &Value::Null));
    assert!(events("exited").iter().all(|event| event["stderr"].is_null()));
    sandbox.script("init\nhear-all $DIR/heard");
    assert_eq!(sandbox.run(["resume", "j", "--message", "again"]).code, 0);
    sandbox.wait("j").expect_end(0, "completed", None);
}
