//! What `top` costs beside a thousand jobs, when thirty of them run. Prints figures: `cargo test
//! --release --test top -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "prints figures")]

use std::fs;
use std::time::{Duration, Instant};

use super::{await_line, leave, sandbox};
use crate::support::eventually;
use crate::support::terminal::Terminal;

const JOBS: usize = 1_000;
const RUNNING: usize = 30;
/// Time over which the work of a resting `top` is measured.
const REST: Duration = Duration::from_secs(60);
const EVENTS: usize = 40;
const MAX_CPU: f64 = 0.02;
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Returns the CPU time of a process in seconds.
fn cpu_seconds(pid: i32) -> f64 {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        nanoseconds += text.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    nanoseconds as f64 / 1e9
}

#[test]
#[ignore = "takes more than a minute, and needs an idle machine"]
fn rests_beside_many_jobs_and_shows_events_at_once() {
    let sandbox = sandbox("read\ninit\nresult done");
    sandbox.run_job("ended", &[]);
    for index in 1..=JOBS - RUNNING - 1 {
        let dir = sandbox.job(&format!("ended-{index}"));
        fs::create_dir(&dir).unwrap();
        for file in ["output.log", "result.json", "lock"] {
            fs::copy(sandbox.job("ended").join(file), dir.join(file)).unwrap();
        }
        let record = fs::read_to_string(sandbox.job("ended").join("meta.json")).unwrap();
        let name = format!("\"jobId\":\"ended-{index}\"");
        fs::write(dir.join("meta.json"), record.replace("\"jobId\":\"ended\"", &name)).unwrap();
    }
    sandbox.script("read\ninit\nsay hello\nhang");
    for index in 1..RUNNING {
        sandbox.start(&format!("run-{index}"), &[]);
    }
    let mut script = "read\ninit\n".to_owned();
    for event in 0..EVENTS {
        script += &format!("wait-file $DIR/go-{event}\nsay {}\n", text_of(event));
    }
    sandbox.script(&(script + "hang"));
    sandbox.start("talks", &[]);
    let mut terminal = Terminal::of_size(sandbox.command(["top"]), 120, 40);
    await_line(&terminal, &format!("{RUNNING} running"), "ended");
    terminal.press("/talks\r");
    await_line(&terminal, "> talks", "work");

    let mut delays: Vec<Duration> =
        (0..EVENTS).map(|event| delay(&sandbox, &terminal, event)).collect();
    delays.sort();
    let (median, longest) = (delays[EVENTS / 2], delays[EVENTS - 1]);
    println!("from an event to the screen: median {median:?}, longest {longest:?} of {EVENTS}");

    terminal.press("\u{1b}");
    await_line(&terminal, &format!("{RUNNING} running"), "ended");
    let before = cpu_seconds(terminal.pid());
    std::thread::sleep(REST);
    let share = (cpu_seconds(terminal.pid()) - before) / REST.as_secs_f64();
    println!(
        "at rest beside {JOBS} jobs, {RUNNING} of them running: {:.2} % of a core",
        share * 100.0
    );
    leave(terminal);
    assert!(longest < MAX_DELAY && share < MAX_CPU);
}

/// The text of an event. No letter is that of another event: of a line that moves up on the screen
/// only the characters that differ are written.
fn text_of(event: usize) -> String {
    let letter = char::from_u32(0x410 + u32::try_from(event).unwrap()).unwrap();
    letter.to_string().repeat(8)
}

/// Returns the time from a line of the log to the screen.
fn delay(sandbox: &crate::support::Sandbox, terminal: &Terminal, event: usize) -> Duration {
    let log = sandbox.job("talks").join("output.log");
    let length = || fs::metadata(&log).unwrap().len();
    let before = length();
    let text = text_of(event);
    fs::write(sandbox.path(&format!("go-{event}")), "").unwrap();
    while length() == before {
        std::hint::spin_loop();
    }
    let written = Instant::now();
    let deadline = written + Duration::from_secs(10);
    while !terminal.screen().contains(&text) {
        assert!(Instant::now() < deadline, "{text} is not shown");
        std::thread::sleep(Duration::from_micros(200));
    }
    let delay = written.elapsed();
    // The next event comes to a resting `top`.
    eventually("rest", || (written.elapsed() > Duration::from_millis(150)).then_some(()));
    delay
}
