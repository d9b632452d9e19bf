//! The verdicts and logs of recorded, truncated and invalid streams.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Sandbox, filler};

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
fn recorded_streams_get_their_verdict_and_exact_log() {
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
fn a_truncated_stream_is_never_falsely_completed() {
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
fn fifty_jobs_lose_no_byte_and_show_no_torn_record() {
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
fn a_misbehaving_claude_gets_a_true_verdict() {
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
fn timeouts_are_enforced() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.run_job("t", &["--timeout", "1s"]).expect_end(1, "failed", Some("timeout"));
    let answer = sandbox.run(["start", "w", "--prompt", "x", "--wait", "1s"]);
    assert_eq!((answer.code, &answer["status"]), (124, &"running".into()));
    assert!(sandbox.run(["result", "w"])["result"].is_null());
    assert_eq!(sandbox.run(["wait", "t", "w", "--any"]).code, 1);
    assert_eq!(sandbox.run(["wait", "nobody"]).code, 4);
}
