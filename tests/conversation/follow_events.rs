//! `events --follow` of one job and of all jobs.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::processes::{is_stopped, send};
use crate::support::{Sandbox, await_file, eventually, pid_in};

#[test]
fn events_follow_misses_no_job_started_meanwhile() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nhang");
    sandbox.start("a", &[]);
    let stopped = sandbox.path("stopped");
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    all.env("CLAUDEJOB_STOP_AT", "events:begun").env("CLAUDEJOB_STOP_FILE", &stopped);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    await_file(&stopped);
    eventually("its id", || {
        fs::metadata(&stopped).is_ok_and(|about| about.len() > 0).then_some(())
    });
    // It stops after it has written the file.
    let follower = pid_in(&stopped);
    eventually("the stop", || is_stopped(follower).then_some(()));
    sandbox.start("b", &[]);
    send(follower, Signal::SIGCONT);
    let printed = BufReader::new(all.stdout.take().unwrap()).lines().map_while(Result::ok);
    let of_b = printed.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    assert!(of_b.take(4).any(|event| event["jobId"] == "b"));
    all.kill().unwrap();
    all.wait().unwrap();
}

fn names(stdout: &str, id: &str) -> Vec<(u64, String)> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|event| event["jobId"] == id)
        .map(|event| (event["seq"].as_u64().unwrap(), event["event"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn numbers_events_and_follows_later_jobs() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nsay hi\nwait-file $DIR/go\nresult ok\neof");
    sandbox.start("a", &[]);
    // From the first event, because a follower does not announce when it starts to listen.
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(all.stdout.take().unwrap()).lines();
    let one = thread::scope(|scope| {
        let one = scope.spawn(|| sandbox.run(["events", "a", "--follow"]));
        let worker = sandbox.start("b", &[])["pid"].as_i64().unwrap() as i32;
        // A worker that dies writes nothing; its end is reported all the same.
        let mut until = |id: &str, name: &str| loop {
            let line: Value = serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap();
            if line["jobId"] == id && line["event"] == name {
                return;
            }
        };
        until("b", "launched");
        send(worker, Signal::SIGKILL);
        until("b", "lost");
        fs::write(sandbox.path("go"), "").unwrap();
        until("a", "finished");
        one.join().unwrap()
    });
    all.kill().unwrap();
    all.wait().unwrap();
    let followed = names(&one.stdout, "a");
    let numbers: Vec<u64> = followed.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(followed.last().unwrap().1, "finished");
    let again = sandbox.run(["events", "a", "--since", "2"]);
    assert_eq!(names(&again.stdout, "a"), followed[2..]);
    assert!(names(&sandbox.run(["events", "--all"]).stdout, "b").iter().any(|e| e.1 == "lost"));
    assert_eq!(sandbox.run(["events", "nobody"]).code, 4);
}

#[test]
fn follows_a_job_with_a_reused_id_from_its_start() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::new("read\ninit\nresult ok\neof");
    sandbox.run_job("a", &[]);
    let mut all = sandbox.command(["events", "--all", "--follow", "--since", "0"]);
    let mut all = all.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(all.stdout.take().unwrap()).lines();
    let mut printed = String::new();
    let mut until = |id: &str, printed: &mut String| loop {
        let line = lines.next().unwrap().unwrap();
        *printed += &format!("{line}\n");
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["jobId"] == id && event["event"] == "finished" {
            return;
        }
    };
    until("a", &mut printed);
    for other in ["b", "c"] {
        assert_eq!(sandbox.run(["clean", "a"])["removed"], 1);
        sandbox.run_job("a", &[]);
        // Another job, so that a failing test ends.
        sandbox.run_job(other, &[]);
        until(other, &mut printed);
    }
    all.kill().unwrap();
    all.wait().unwrap();
    let once = names(&sandbox.run(["events", "a"]).stdout, "a");
    assert_eq!(names(&printed, "a"), [once.clone(), once.clone(), once].concat());
}

/// Starts a follower of a job's events and waits until it has printed the launch of claude.
fn follow_events(
    sandbox: &Sandbox,
    id: &str,
) -> (std::process::Child, impl Iterator<Item = String>) {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let mut command = sandbox.command(["events", id, "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"launched\"")));
    (follower, lines)
}

/// How often the threads of a process have gone to sleep.
#[cfg(target_os = "linux")]
fn sleeps(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let sleeps_of = |thread: fs::DirEntry| -> Option<u64> {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse().ok()
    };
    threads.filter_map(sleeps_of).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn lines_without_an_event_do_not_wake_followers() {
    const LINES: u64 = 300;
    let lines = "say hi\nnap 20\n".repeat(LINES as usize);
    let sandbox = Sandbox::new(&format!(
        "read\ninit\nwait-file $DIR/go\n{lines}touch $DIR/said\nwait-file $DIR/end\nresult ok\neof"
    ));
    sandbox.start("j", &[]);
    let (mut follower, printed) = follow_events(&sandbox, "j");
    let before = sleeps(follower.id());
    fs::write(sandbox.path("go"), "").unwrap();
    await_file(&sandbox.path("said"));
    let slept = sleeps(follower.id()) - before;
    // The follower may not have been idle yet.
    assert!(slept < LINES / 10, "it slept {slept} times");
    fs::write(sandbox.path("end"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
    assert!(printed.last().unwrap().contains("finished"));
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn followers_report_a_removed_job_directory() {
    let sandbox = Sandbox::new("read\ninit\nwait-file $DIR/go");
    sandbox.start("j", &[]);
    let (mut follower, printed) = follow_events(&sandbox, "j");
    // The worker may write a file in this moment.
    eventually("the removal", || {
        let _ = fs::remove_dir_all(sandbox.job("j"));
        (!sandbox.job("j").exists()).then_some(())
    });
    assert!(printed.last().unwrap().contains("not_found"));
    assert_eq!(follower.wait().unwrap().code(), Some(4));
    fs::write(sandbox.path("go"), "").unwrap();
}
