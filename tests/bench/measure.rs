//! The stopwatch: runs a program to its end, and two programs in alternation, so that other load
//! (another program, a slow disk) affects both alike.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use crate::{Outcome, interrupt};

/// One run of a program.
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    /// The CPU time, with that of the processes that it waited for.
    pub(crate) cpu: Duration,
    /// The peak resident memory in bytes. The kernel counts from the fork on, so this is never less
    /// than the bench's own resident memory: the bench keeps nothing large.
    pub(crate) peak: u64,
    /// What it printed, if that was requested.
    pub(crate) answer: Vec<u8>,
}

/// Runs the program to its end and discards its output.
pub(crate) fn run(command: &mut Command) -> Outcome<Run> {
    finish(command.stdout(Stdio::null()))
}

/// Runs the program to its end, however it ends, and discards its output.
pub(crate) fn run_whatever_status(command: &mut Command) -> Outcome<Run> {
    Ok(run_to_end(command.stdout(Stdio::null()))?.0)
}

/// Runs the program to its end, its output written into this file.
pub(crate) fn run_into(command: &mut Command, file: File) -> Outcome<Run> {
    finish(command.stdout(file))
}

/// Runs the program to its end and keeps its output, which has to fit into a pipe: the clock stops
/// when the program ends, even if other processes still hold its output.
pub(crate) fn ask(command: &mut Command) -> Outcome<Run> {
    finish(command.stdout(Stdio::piped()))
}

fn finish(command: &mut Command) -> Outcome<Run> {
    let (run, status) = run_to_end(command)?;
    if status != 0 {
        let said = String::from_utf8_lossy(&run.answer);
        return Err(format!("{command:?} ended with wait status {status:#x}: {said}").into());
    }
    Ok(run)
}

/// Returns the wait status, too.
fn run_to_end(command: &mut Command) -> Outcome<(Run, i32)> {
    interrupt::check()?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("could not run {:?}: {error}", command.get_program()))?;
    let (status, usage) = wait_with_usage(child.id())?;
    let elapsed = start.elapsed();

    let mut answer = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut answer)?;
    }
    let peak = u64::try_from(usage.ru_maxrss)? * 1024;
    let cpu = duration(usage.ru_utime)? + duration(usage.ru_stime)?;
    Ok((Run { elapsed, cpu, peak, answer }, status))
}

fn duration(time: libc::timeval) -> Outcome<Duration> {
    let micros = Duration::from_micros(u64::try_from(time.tv_usec)?);
    Ok(Duration::from_secs(u64::try_from(time.tv_sec)?) + micros)
}

/// The wait status and the resources of a child. The child is reaped here: `std` must not wait
/// for it afterwards.
fn wait_with_usage(pid: u32) -> Outcome<(i32, libc::rusage)> {
    let mut status = 0;
    // SAFETY: `rusage` is plain data, for which zeros are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live, writable values of the right type.
        let got = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage) };
        match nix::errno::Errno::result(got) {
            Ok(_) => return Ok((status, usage)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Rounds that run first and are not counted: they fill caches and read the loader's files.
const WARM_UP: usize = 2;

/// Measures two things in alternation: A B A B ….
pub(crate) fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> Outcome<Duration>,
    mut reference: impl FnMut() -> Outcome<Duration>,
) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let mut times = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..WARM_UP.min(rounds) + rounds {
        let pair = (ours()?.as_secs_f64(), reference()?.as_secs_f64());
        if round >= WARM_UP.min(rounds) {
            times.0.push(pair.0);
            times.1.push(pair.1);
        }
    }
    Ok(times)
}
