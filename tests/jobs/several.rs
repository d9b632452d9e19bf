//! Calls for several jobs, by ids or by a selection: shapes of the answers and exit codes.

use std::os::unix::process::CommandExt;

use nix::sys::resource::{Resource, setrlimit};
use serde_json::json;

use crate::support::processes::kill;
use crate::support::{Answer, Sandbox, await_file, is_alive, pid_in};

/// A sandbox in which jobs run until they are killed.
fn with_hanging_jobs(jobs: &[(&str, &[&str])]) -> Sandbox {
    let sandbox = Sandbox::new("read\ninit\nhang");
    for (id, options) in jobs {
        sandbox.start(id, options);
    }
    sandbox
}

/// The ids in an array of answers.
fn ids(answer: &Answer) -> Vec<&str> {
    let elements = answer.json.as_array().unwrap_or_else(|| panic!("no array: {answer:?}"));
    elements.iter().map(|element| element["jobId"].as_str().unwrap()).collect()
}

#[track_caller]
fn assert_ids(answer: &Answer, code: i32, expected: &[&str]) {
    assert_eq!((answer.code, ids(answer).as_slice()), (code, expected), "{answer:?}");
}

#[track_caller]
fn assert_error(answer: &Answer, code: i32, name: &str) {
    assert_eq!((answer.code, &answer["code"]), (code, &json!(name)), "{answer:?}");
}

#[test]
fn kill_ends_the_selected_live_jobs() {
    let a = ["--label", "team=web"];
    let b = ["--label", "team=web", "--group", "night", "--max-parallel", "0"];
    let sandbox = with_hanging_jobs(&[("a", &a), ("b", &b), ("c", &[]), ("d", &[])]);
    let answer = sandbox.run(["kill", "-l", "team=web", "-g", "night"]);
    assert_ids(&answer, 0, &["b"]);
    let answer = sandbox.run(["kill", "-l", "team=web"]);
    assert_ids(&answer, 0, &["a"]);
    assert_eq!(answer.json[0]["killed"], true);
    assert_ids(&sandbox.run(["kill", "-l", "team=web"]), 0, &[]);
    assert_ids(&sandbox.run(["kill", "--status", "completed"]), 0, &[]);
    let answer = sandbox.run(["kill", "d", "nobody", "c", "d"]);
    assert_ids(&answer, 4, &["d", "nobody", "c"]);
    let failed = json!({
        "jobId": "nobody", "status": "not_found", "error": "no job named 'nobody'",
        "code": "not_found", "hint": "claudejob list --all",
    });
    assert_eq!(answer.json[1], failed);
    assert_eq!(answer.json[2]["killed"], true);
    assert_ids(&sandbox.run(["kill", "--all"]), 0, &[]);
    for id in ["a", "b", "c", "d"] {
        sandbox.assert_nothing_left(id);
    }
}

#[test]
fn kill_names_its_jobs() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &[]);
    sandbox.run_job("b", &[]);
    for (arguments, why) in [
        (&["kill"][..], "no job given"),
        (&["kill", "a", "--all"], "ids and --all exclude each other"),
        (&["kill", "a", "--status", "running"], "ids and a selection exclude each other"),
        (&["wait", "a", "-g", "g"], "ids and a selection exclude each other"),
    ] {
        let answer = sandbox.run(arguments);
        assert_error(&answer, 2, "usage");
        assert_eq!(answer["error"], why, "{arguments:?}");
    }
    // One job is no array, and fails as a whole.
    assert_eq!(sandbox.run(["kill", "a", "a"])["killed"], false);
    assert_error(&sandbox.run(["kill", "c"]), 4, "not_found");
    // Two jobs that have ended in another way.
    assert_ids(&sandbox.run(["kill", "b", "a"]), 1, &["b", "a"]);
    let text = sandbox.run(["kill", "b", "c", "--plain"]);
    assert_eq!((text.code, text.stderr.as_str()), (4, ""));
    let expected = "Job b was not killed: the job has already completed.\n\
                    error: no job named 'c'\nhint: claudejob list --all\n";
    assert_eq!(text.stdout, expected);
}

#[test]
fn kill_ends_many_stubborn_jobs_in_the_time_of_one() {
    let sandbox = Sandbox::new("ignore INT\nignore TERM\nread\ninit\nhang");
    let names: Vec<String> = (0..6).map(|number| format!("j{number}")).collect();
    for name in &names {
        sandbox.start(name, &["--max-parallel", "0"]);
    }
    let began = std::time::Instant::now();
    let answer = sandbox.run(["kill", "--all"]);
    let took = began.elapsed();
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(ids(&answer).len(), names.len());
    // One after the other they take 27 s.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    for name in &names {
        sandbox.assert_nothing_left(name);
    }
}

#[test]
fn kill_all_ends_lost_jobs_for_good() {
    let sandbox = Sandbox::new("read\ninit\nspawn $DIR/child-$JOB\ntouch $DIR/up-$JOB\nhang");
    let (mut workers, mut processes) = (Vec::new(), Vec::new());
    for id in ["a", "b", "live"] {
        let started = sandbox.start(id, &["--max-parallel", "0"]);
        workers.push(started["pid"].as_i64().unwrap() as i32);
        await_file(&sandbox.path(&format!("up-{id}")));
        processes.push(sandbox.claude_pid(id));
        processes.push(pid_in(&sandbox.path(&format!("child-{id}"))));
    }
    kill(workers[0]);
    kill(workers[1]);
    assert_ids(&sandbox.run(["kill", "b", "a"]), 0, &["b", "a"]);
    assert!(processes[..4].iter().all(|pid| !is_alive(*pid)));
    assert!(processes[4..].iter().all(|pid| is_alive(*pid)), "processes of another job");
    assert_eq!(sandbox.status("a")["status"], "killed");
    kill(workers[2]);
    assert_ids(&sandbox.run(["kill", "--all"]), 0, &["live"]);
    assert_eq!(sandbox.status("live")["status"], "killed");
    assert!(processes.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(sandbox.run(["recover", "--all"]).json, json!({"recovered": [], "failed": []}));
}

#[test]
fn kill_all_ends_a_job_without_a_readable_record() {
    let sandbox = with_hanging_jobs(&[("a", &[]), ("b", &["--max-parallel", "0"])]);
    let record = sandbox.job("a").join("meta.json");
    let claude = sandbox.claude_pid("a");
    std::fs::write(&record, "{").unwrap();
    // It has no status and no label that could be compared.
    assert_ids(&sandbox.run(["kill", "--status", "queued"]), 0, &[]);
    assert!(is_alive(claude));
    let answer = sandbox.run(["kill", "--all"]);
    assert_ids(&answer, 0, &["b", "a"]);
    assert!(!is_alive(claude), "{answer:?}");
}

#[test]
fn result_shows_several_jobs() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--label", "team=web"]);
    sandbox.run_job("b", &["--label", "team=web"]);
    let answer = sandbox.run(["result", "-l", "team=web"]);
    assert_ids(&answer, 0, &["b", "a"]);
    assert_eq!(answer.json[1]["result"], "ok");
    let answer = sandbox.run(["result", "a", "x", "b"]);
    assert_ids(&answer, 4, &["a", "x", "b"]);
    assert_eq!(answer.json[1]["code"], "not_found");
    assert_eq!(sandbox.run(["result", "a"])["result"], "ok");
    assert_error(&sandbox.run(["result", "-g", "night"]), 4, "no_match");
    assert_error(&sandbox.run(["result"]), 2, "usage");
    assert_error(&sandbox.run(["result", "--all"]), 2, "usage");
    let text = sandbox.run(["result", "a", "x", "--plain"]);
    assert!(text.stdout.starts_with("==> a <==\nok\n\na completed"), "{text:?}");
    assert!(
        text.stdout
            .ends_with("\n\n==> x <==\nerror: no job named 'x'\nhint: claudejob list --all\n"),
        "{text:?}"
    );
    let text = sandbox.run(["result", "a", "--plain"]).stdout;
    assert!(text.starts_with("ok\n"), "{text}");
}

#[test]
fn logs_shows_several_jobs() {
    let sandbox = Sandbox::new("read\ninit\nsay hello\nresult ok\neof");
    sandbox.run_job("a", &["--label", "team=web"]);
    sandbox.run_job("b", &["--label", "team=web"]);
    let answer = sandbox.run(["logs", "-l", "team=web", "-n", "1"]);
    assert_ids(&answer, 0, &["b", "a"]);
    assert!(answer.json[1]["tail"].as_str().unwrap().starts_with("= completed"), "{answer:?}");
    assert_ids(&sandbox.run(["logs", "a", "x"]), 4, &["a", "x"]);
    assert_ids(&sandbox.run(["logs", "--all"]), 0, &[]);
    assert_error(&sandbox.run(["logs", "--status", "running"]), 4, "no_match");
    let text = sandbox.run(["logs", "a", "b", "--plain"]).stdout;
    let (first, second) = text.split_once("\n\n==> b <==\n").unwrap();
    assert!(first.starts_with("==> a <==\nhello\n= completed"), "{text}");
    assert!(second.starts_with("hello\n= completed"), "{text}");
    for option in [&["--raw"][..], &["--stderr"], &["--since-offset", "0"], &["--max-bytes", "9"]] {
        for jobs in [&["a", "b"][..], &["--all"], &["-l", "team=web"]] {
            let answer = sandbox.run([&["logs"], jobs, option].concat());
            assert_error(&answer, 2, "usage");
            assert_eq!(answer["error"], format!("{} is for one job, not for several", option[0]));
        }
        assert_eq!(sandbox.run([&["logs", "a"], option].concat()).code, 0);
    }
}

/// The ids of the jobs that continue, and of those that failed.
fn continued(answer: &Answer) -> (Vec<&str>, Vec<&str>) {
    let ids = |field: &str| {
        let jobs = answer.json[field].as_array().unwrap_or_else(|| panic!("{answer:?}"));
        jobs.iter().map(|job| job["jobId"].as_str().unwrap()).collect()
    };
    (ids("recovered"), ids("failed"))
}

#[test]
fn resume_continues_several_jobs() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--label", "team=web"]);
    sandbox.run_job("b", &["--label", "team=web"]);
    sandbox.script("read\ninit\nexit 1");
    sandbox.run_job("c", &["--label", "team=web"]);
    sandbox.script("read\ninit\nhang");
    sandbox.start("live", &["--label", "team=web", "--max-parallel", "0"]);
    let answer = sandbox.run(["resume", "live", "x", "a", "-p", "again"]);
    assert_eq!((answer.code, continued(&answer)), (4, (vec!["a"], vec!["live", "x"])));
    assert_eq!(answer.json["failed"][0]["code"], "not_resumable");
    assert_eq!(sandbox.run(["resume", "live", "a"]).code, 1);
    sandbox.run(["kill", "a"]);
    let answer = sandbox.run(["resume", "--all", "-l", "team=web", "--max-parallel", "0"]);
    assert_error(&answer, 2, "usage");
    let answer = sandbox.run(["resume", "--all", "-l", "team=web"]);
    assert_eq!((answer.code, continued(&answer)), (0, (vec!["c", "a"], vec![])), "{answer:?}");
    assert_eq!(sandbox.run(["resume", "--all"]).json, json!({"recovered": [], "failed": []}));
    let answer = sandbox.run(["resume", "-l", "team=web"]);
    assert_eq!((answer.code, continued(&answer)), (0, (vec!["b"], vec![])), "{answer:?}");
    assert_error(&sandbox.run(["resume"]), 2, "usage");
    assert_error(&sandbox.run(["resume", "x"]), 4, "not_found");
    let text = sandbox.run(["resume", "--all", "--plain"]).stdout;
    assert_eq!(text, "No job to continue.\n");
    sandbox.run(["kill", "--all"]);
}

#[test]
fn recover_continues_several_jobs() {
    let sandbox = Sandbox::new("read\ninit\nhang");
    for (id, label) in [("a", "n=1"), ("b", "n=2"), ("c", "n=2"), ("d", "n=2")] {
        let worker = sandbox.start(id, &["--label", label, "--max-parallel", "0"]);
        if id != "d" {
            kill(worker["pid"].as_i64().unwrap() as i32);
        }
    }
    let answer = sandbox.run(["recover", "-l", "n=2", "--status", "failed", "-g", "x"]);
    assert_eq!(answer.json, json!({"recovered": [], "failed": []}));
    let answer = sandbox.run(["recover", "-l", "n=2"]);
    assert_eq!((answer.code, continued(&answer)), (0, (vec!["b", "c"], vec![])), "{answer:?}");
    let answer = sandbox.run(["recover", "b", "a"]);
    assert_eq!((answer.code, continued(&answer)), (1, (vec!["a"], vec!["b"])), "{answer:?}");
    assert_eq!(answer.json["failed"][0]["code"], "not_recoverable");
    assert_eq!(sandbox.run(["recover", "b", "x"]).code, 4);
    assert_error(&sandbox.run(["recover", "b"]), 1, "not_recoverable");
    assert_error(&sandbox.run(["recover"]), 2, "usage");
    sandbox.run(["kill", "--all"]);
}

#[test]
fn listings_select_by_each_property() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--label", "team=web", "--group", "night"]);
    sandbox.run_job("b", &["--label", "team=web"]);
    for (filter, jobs) in [
        (&["-l", "team=web"][..], &["b", "a"][..]),
        (&["-l", "team=web", "-g", "night"], &["a"]),
        (&["-g", "night", "-g", "day"], &["a"]),
        (&["--status", "completed,failed", "--since", "1h"], &["b", "a"]),
        (&["--status", "failed"], &[]),
        (&["-g", "day"], &[]),
    ] {
        assert_ids(&sandbox.run([&["list"], filter].concat()), 0, jobs);
        let stats = sandbox.run([&["stats"], filter].concat());
        assert_eq!(stats["total"]["jobs"], jobs.len(), "{filter:?}");
        let page = sandbox.path("page.html");
        let export = ["export", "--html", page.to_str().unwrap()];
        let export = sandbox.run([&export, filter].concat());
        assert_eq!((export.code, &export["jobs"]), (0, &json!(jobs.len())), "{filter:?}");
    }
}

#[test]
fn wait_selects_ended_jobs_too() {
    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &["--label", "team=web"]);
    sandbox.run_job("b", &["--label", "team=web", "--group", "night"]);
    assert_ids(&sandbox.run(["wait", "-l", "team=web"]), 0, &["b", "a"]);
    assert_ids(&sandbox.run(["wait", "-g", "night"]), 0, &["b"]);
    assert_ids(&sandbox.run(["wait", "-g", "night", "-g", "x"]), 0, &["b"]);
    assert_ids(&sandbox.run(["wait", "--since", "1h", "--status", "completed"]), 0, &["b", "a"]);
    assert_eq!(sandbox.run(["wait", "a", "a"])["jobId"], "a");
    let answer = sandbox.run(["wait", "-l", "team=it's", "--status", "failed"]);
    assert_error(&answer, 4, "no_match");
    assert_eq!(answer["error"], "no job matches --label 'team=it'\\''s' --status failed");
    assert_ids(&sandbox.run(["wait", "--all"]), 0, &[]);
    sandbox.script("read\ninit\ntouch $DIR/up\nhang");
    sandbox.start("c", &["--label", "team=web"]);
    await_file(&sandbox.path("up"));
    assert_ids(&sandbox.run(["wait", "--all", "--timeout", "10ms"]), 124, &["c"]);
    assert_ids(&sandbox.run(["wait", "--all", "-l", "team=x", "--timeout", "10ms"]), 0, &[]);
    let waited = sandbox.run(["wait", "-l", "team=web", "--any"]);
    assert_ids(&waited, 0, &["c", "b", "a"]);
    // An unknown id is reported at once.
    for option in [&[][..], &["--through-blocked"], &["--timeout", "1h"]] {
        let waited = sandbox.run([&["wait", "c", "nobody"], option].concat());
        assert_ids(&waited, 4, &["c", "nobody"]);
        assert_eq!(waited.json[0]["status"], "running");
        assert_eq!(waited.json[1]["status"], "not_found");
    }
    assert_error(&sandbox.run(["wait", "nobody", "nobody"]), 4, "not_found");
    sandbox.run(["kill", "c"]);
    assert_ids(&sandbox.run(["wait", "-l", "team=web"]), 3, &["c", "b", "a"]);
}

#[test]
fn a_wait_for_more_jobs_than_open_files() {
    let mut sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go\nresult ok\neof");
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "1");
    let names: Vec<String> = (0..20).map(|index| format!("j{index}")).collect();
    for name in &names {
        sandbox.start(name, &[]);
    }
    let mut command = sandbox.command(["wait", "--timeout", "8m"]);
    command.args(&names);
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_NOFILE, 24, 24)?));
    }
    let wait = std::thread::spawn(move || Answer::from_command(command, Vec::new()));
    // The jobs end one after the other.
    std::fs::write(sandbox.path("go"), "").unwrap();
    let answer = wait.join().unwrap();
    assert_ids(&answer, 0, &names.iter().map(String::as_str).collect::<Vec<_>>());
    for job in answer.json.as_array().unwrap() {
        assert_eq!(job["status"], "completed", "{answer:?}");
    }
}
