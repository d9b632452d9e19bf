//! Signals to `run` and `wait`: they leave the job running or kill it.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

use crate::support::processes::{kill, send};
use crate::support::{Sandbox, await_file, eventually, is_alive, pid_in};

/// A script whose claude works until a file exists.
const WORKING: &str = "read\ninit\nsay hello\ntouch $DIR/up\nwait-file $DIR/go\nresult fine\neof";

/// A call that runs in the background, and what was read of its stdout.
struct Background(Child, Vec<u8>);

impl Background {
    fn start(mut command: Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
            Vec::new(),
        )
    }

    fn send(&self, signal: Signal) {
        send(self.0.id() as i32, signal);
    }

    /// Reads stderr until it contains a text.
    #[track_caller]
    fn await_stderr(&mut self, text: &str) {
        read_until(self.0.stderr.as_mut().unwrap(), text);
    }

    /// Reads stdout until it contains a text.
    #[track_caller]
    fn await_stdout(&mut self, text: &str) {
        self.1 = read_until(self.0.stdout.as_mut().unwrap(), text);
    }

    /// Waits for the end; returns the exit code, stdout and the rest of stderr.
    fn finish(self) -> (i32, String, String) {
        let output = self.0.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stdout = [self.1, output.stdout].concat();
        (output.status.code().unwrap_or(-1), text(&stdout), text(&output.stderr))
    }
}

#[track_caller]
fn read_until(input: &mut impl Read, text: &str) -> Vec<u8> {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut byte = [0];
        assert_eq!(input.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    read
}

/// Starts `run` for the job `j` and waits until claude works and, where that can be seen, `run`
/// follows it: before that a signal waits, and the process ends if it is not taken in time.
fn start_run(sandbox: &Sandbox, options: &[&str]) -> Background {
    let arguments = [&["run", "-n", "j", "work"], options].concat();
    let mut run = Background::start(sandbox.command(arguments));
    await_file(&sandbox.path("up"));
    if options.contains(&"--plain") {
        run.await_stdout("hello");
    }
    run
}

fn complete(sandbox: &Sandbox) {
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.wait("j").expect_end(0, "completed", None);
}

#[test]
fn one_interrupt_leaves_the_job_running() {
    for options in [&["--plain"][..], &[]] {
        let sandbox = Sandbox::new(WORKING);
        let run = start_run(&sandbox, options);
        run.send(Signal::SIGINT);
        let (code, stdout, stderr) = run.finish();
        assert_eq!(code, 130, "{stdout} {stderr}");
        assert!(
            stderr.ends_with("Left running: claudejob logs -f j (Ctrl-C again: kill)\n"),
            "{stderr}"
        );
        assert_eq!(stdout.is_empty(), options.is_empty(), "{stdout}");
        assert_eq!(sandbox.status("j")["status"], "running");
        complete(&sandbox);
    }
}

#[test]
fn two_interrupts_kill_the_job() {
    let sandbox = Sandbox::new(WORKING);
    let mut run = start_run(&sandbox, &["--plain"]);
    run.send(Signal::SIGINT);
    run.await_stderr("Left running");
    run.send(Signal::SIGINT);
    let (code, _, stderr) = run.finish();
    assert!(code == 3 && stderr.contains("Job j was killed"), "{code} {stderr}");
    assert_eq!(sandbox.status("j")["status"], "killed");
    sandbox.assert_nothing_left("j");
}

#[test]
fn a_hangup_is_silent_and_a_termination_says_so() {
    for (signal, code, expected) in
        [(Signal::SIGHUP, 129, ""), (Signal::SIGTERM, 143, "Left running: claudejob logs -f j\n")]
    {
        let sandbox = Sandbox::new(WORKING);
        let run = start_run(&sandbox, &["--plain"]);
        run.send(signal);
        let (actual, _, stderr) = run.finish();
        assert_eq!((actual, stderr.as_str()), (code, expected));
        assert_eq!(sandbox.status("j")["status"], "running");
        complete(&sandbox);
    }
}

#[test]
fn an_ignored_signal_is_still_ignored() {
    let sandbox = Sandbox::new(WORKING);
    let mut command = sandbox.command(["run", "--kill-on-signal", "-n", "j", "work"]);
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            signal(Signal::SIGHUP, SigHandler::SigIgn)?;
            Ok(())
        });
    }
    let run = Background::start(command);
    await_file(&sandbox.path("up"));
    run.send(Signal::SIGHUP);
    complete(&sandbox);
    let (code, stdout, stderr) = run.finish();
    assert!(code == 0 && stdout.contains("\"fine\""), "{code} {stdout} {stderr}");
}

#[test]
fn kill_on_signal_kills_a_running_job() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let sandbox = Sandbox::new(WORKING);
        let run = start_run(&sandbox, &["--plain", "--kill-on-signal"]);
        let began = Instant::now();
        run.send(signal);
        let (actual, _, stderr) = run.finish();
        // 100 ms, and much more on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!((actual, stderr.as_str()), (code, "Job j is being killed.\n"));
        sandbox.wait("j").expect_end(3, "killed", None);
        sandbox.assert_nothing_left("j");
    }
}

/// Starts `run` with a job that says more than the pipe of stdout holds, which nobody reads. With
/// `one_pipe` it is that of stderr, too.
fn start_unread(sandbox: &Sandbox, options: &[&str], one_pipe: bool) -> Child {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = sandbox.command([&["run", "--plain", "-n", "j", "work"], options].concat());
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap());
    command.stderr(if one_pipe { writer.into() } else { Stdio::piped() });
    let child = command.spawn().unwrap();
    drop(command);
    await_file(&sandbox.path("up"));
    // It stops writing when the pipe is full.
    let mut length = 0;
    eventually("a full pipe", || {
        let earlier = std::mem::replace(&mut length, unread_length(&reader));
        (length > 50_000 && length == earlier).then_some(())
    });
    std::mem::forget(reader);
    child
}

fn unread_length(reader: &std::io::PipeReader) -> i32 {
    let mut length = 0;
    // SAFETY: FIONREAD writes one integer.
    unsafe { nix::libc::ioctl(reader.as_raw_fd(), nix::libc::FIONREAD, &raw mut length) };
    length
}

#[test]
fn kill_on_signal_needs_no_reader_of_the_output() {
    for one_pipe in [false, true] {
        let sandbox = Sandbox::new(&format!("read\ninit\n{}touch $DIR/up\nhang", much_speech()));
        let mut run = start_unread(&sandbox, &["--kill-on-signal"], one_pipe);
        send(run.id() as i32, Signal::SIGTERM);
        assert_eq!(run.wait().unwrap().code(), Some(143));
        sandbox.wait("j").expect_end(3, "killed", None);
    }
}

#[test]
fn kill_on_signal_says_nothing_of_an_ended_job() {
    let script = format!("read\ninit\n{}touch $DIR/up\nresult fine\neof", much_speech());
    let sandbox = Sandbox::new(&script);
    let run = start_unread(&sandbox, &["--kill-on-signal"], false);
    sandbox.wait("j").expect_end(0, "completed", None);
    send(run.id() as i32, Signal::SIGTERM);
    let output = run.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(143), &b""[..]));
}

#[test]
fn kill_on_signal_ends_the_processes_of_a_lost_job() {
    let script =
        format!("read\ninit\nspawn-stubborn $DIR/child\n{}touch $DIR/up\nhang", much_speech());
    let sandbox = Sandbox::new(&script);
    let mut run = start_unread(&sandbox, &["--kill-on-signal"], true);
    let record = || fs::read_to_string(sandbox.job("j").join("meta.json")).unwrap();
    let record = || serde_json::from_str::<serde_json::Value>(&record()).unwrap();
    kill(i32::try_from(record()["pid"].as_i64().unwrap()).unwrap());
    send(run.id() as i32, Signal::SIGTERM);
    assert_eq!(run.wait().unwrap().code(), Some(143));
    // No other command looks at the job.
    eventually("the kill", || (record()["status"] == "killed").then_some(()));
    eventually("its end", || (!is_alive(pid_in(&sandbox.path("child")))).then_some(()));
}

#[test]
fn signals_end_a_call_whose_output_nobody_reads() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let script = format!(
            "read\ninit\n{}touch $DIR/up\nwait-file $DIR/go\nresult fine\neof",
            much_speech()
        );
        let sandbox = Sandbox::new(&script);
        let mut run = start_unread(&sandbox, &[], true);
        send(run.id() as i32, signal);
        assert_eq!(run.wait().unwrap().code(), Some(code));
        assert_eq!(sandbox.status("j")["status"], "running");
        complete(&sandbox);
    }
}

fn much_speech() -> String {
    format!("say {}\n", "y".repeat(9_000)).repeat(60)
}

#[test]
fn kill_on_signal_kills_a_queued_job() {
    let mut sandbox = Sandbox::new(WORKING);
    sandbox.set("CLAUDE_SKILL_MAX_PARALLEL", "1");
    sandbox.start("first", &[]);
    let run = Background::start(sandbox.command(["run", "--kill-on-signal", "-n", "j", "work"]));
    eventually("the queue", || (sandbox.run(["status", "j"])["status"] == "queued").then_some(()));
    run.send(Signal::SIGINT);
    assert_eq!(run.finish().0, 130);
    sandbox.wait("j").expect_end(3, "killed", None);
    assert_eq!(sandbox.status("first")["status"], "running");
}

#[test]
fn kill_on_signal_kills_a_job_being_started() {
    for point in ["start:published", "start:spawned", "start:launched"] {
        let mut sandbox = Sandbox::new(WORKING);
        let run = ["run", "--kill-on-signal", "-n", "j", "work"];
        let answer = sandbox.pause_at(point, run, |sandbox| {
            let file = sandbox.path(&format!("stopped-{}", point.replace(':', "-")));
            send(pid_in(&file), Signal::SIGINT);
        });
        assert_eq!(answer.code, 130, "{point} {answer:?}");
        sandbox.wait("j").expect_end(3, "killed", None);
    }
}

#[test]
fn an_interrupted_wait_says_that_the_jobs_go_on() {
    let sandbox = Sandbox::new(WORKING);
    sandbox.start("j", &[]);
    sandbox.start("k", &[]);
    for (ids, expected) in [
        (&["j"][..], "Left running: claudejob wait j\n"),
        (&["j", "k"], "Left running: 2 jobs (claudejob list)\n"),
    ] {
        let wait = Background::start(sandbox.command([&["wait"], ids].concat()));
        // Kept or handled: it must not end by the default action of the signal.
        eventually("the wait to keep the signal", || {
            let status = fs::read_to_string(format!("/proc/{}/status", wait.0.id())).ok()?;
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
            let mask = u64::from_str_radix(blocked.trim(), 16).ok()?;
            (mask & 0b10 != 0).then_some(())
        });
        wait.send(Signal::SIGINT);
        let (code, stdout, stderr) = wait.finish();
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (130, "", expected));
    }
    complete(&sandbox);
}
