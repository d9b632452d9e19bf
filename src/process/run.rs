//! Running a program with a time limit.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::poll::readable_within;
use super::reaping::detach;
use super::spawn::set_default_signals;
use crate::fault_point::fault_point;
use crate::job::Exit;

/// Largest part of a program's stderr that is returned.
const MAX_STDERR_BYTES: u64 = 64 << 10;
/// How long the end of stderr is awaited after the program has ended.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);
/// How often [`run_with_timeout`] checks whether the program has ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Runs a program with `input` on its stdin. Returns the first `max_bytes` bytes of its output, on
/// stdout or stderr, and how it ended. A program that still runs after `timeout` is killed with its
/// process group, and its exit is `None`.
pub(crate) fn run_with_timeout(
    mut command: Command,
    input: Option<Vec<u8>>,
    timeout: Duration,
    max_bytes: usize,
) -> io::Result<(Vec<u8>, Option<Exit>)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    run(command, &reader, input, timeout, max_bytes)
}

/// What a program has written, and how it ended; `None` if it was killed after its time.
pub(crate) struct ProgramOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Option<Exit>,
}

/// Like [`run_with_timeout`], but with an empty stdin, and with the two outputs apart.
pub(crate) fn run_with_outputs(
    mut command: Command,
    timeout: Duration,
    max_bytes: usize,
) -> io::Result<ProgramOutput> {
    let (reader, writer) = io::pipe()?;
    let (mut errors, error_writer) = io::pipe()?;
    command.stdout(writer).stderr(error_writer);
    let (sender, receiver) = mpsc::channel();
    // Not joined: processes that the program left running may hold the pipe without end.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = (&mut errors).take(MAX_STDERR_BYTES).read_to_end(&mut text);
        let _ = sender.send(text);
        let _ = io::copy(&mut errors, &mut io::sink());
    });
    let (stdout, exit) = run(command, &reader, None, timeout, max_bytes)?;
    let stderr = receiver.recv_timeout(STDERR_TIMEOUT).unwrap_or_default();
    Ok(ProgramOutput { stdout, stderr, exit })
}

/// Runs a program whose output can be read from `reader`, as [`run_with_timeout`] does.
fn run(
    mut command: Command,
    mut reader: &io::PipeReader,
    input: Option<Vec<u8>>,
    timeout: Duration,
    max_bytes: usize,
) -> io::Result<(Vec<u8>, Option<Exit>)> {
    let deadline = Instant::now() + timeout;
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.process_group(0).stdin(stdin);
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(|| {
            // This process may block signals that the program does not expect to be blocked.
            set_default_signals();
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // The program may never read its input, so that the thread is not joined.
        std::thread::spawn(move || io::Write::write_all(&mut stdin, &input));
    }
    // It holds the pipe's other end, too.
    drop(command);
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    let mut open = true;
    loop {
        // Before the look at the pipe: a program that has ended by now has written everything.
        let status = child.try_wait()?;
        let is_readable = open && readable_within(reader.as_fd(), EXIT_POLL_INTERVAL);
        fault_point("run:looked");
        if is_readable {
            let length = reader.read(&mut buffer).unwrap_or(0);
            open = length > 0;
            output.extend_from_slice(&buffer[..length.min(max_bytes - output.len())]);
        } else if let Some(status) = status {
            // Processes that the program started can hold the pipe indefinitely.
            let exit = Exit { code: status.code(), signal: status.signal() };
            return Ok((output, Some(exit)));
        } else if !open {
            std::thread::sleep(EXIT_POLL_INTERVAL);
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    let _ = nix::sys::signal::killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    // Not waited for: a process that hangs in the kernel, such as on a dead file server, does not
    // react to signals.
    if !matches!(child.try_wait(), Ok(Some(_))) {
        detach(child);
    }
    Ok((output, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn reads_what_was_written_after_the_last_look() {
        let folder = tempfile::tempdir().unwrap();
        let (go, pid) = (folder.path().join("go"), folder.path().join("pid"));
        let mut command = Command::new("sh");
        let script = "echo $$ >pid; until [ -e go ]; do sleep 0.01; done; echo out";
        command.args(["-c", script]).current_dir(folder.path());
        crate::fault_point::hook::set(move || {
            if go.exists() {
                return;
            }
            std::fs::write(&go, "").unwrap();
            let ended = || {
                let pid = std::fs::read_to_string(&pid).unwrap_or_default();
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
                stat.is_ok_and(|stat| stat.contains(") Z "))
            };
            while !ended() {
                std::thread::yield_now();
            }
        });
        let (found, exit) = run_with_timeout(command, None, Duration::from_secs(60), 100).unwrap();
        assert_eq!((found.as_slice(), exit.unwrap().code), (&b"out\n"[..], Some(0)));
    }

    #[test]
    fn returns_output_and_exit_within_the_time_limit() {
        let run = |script: &str, max_bytes| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            // `yes` needs time to begin.
            let seconds = match script {
                script if !script.contains("hang") => 60,
                script if script.contains("yes") => 5,
                _ => 1,
            };
            let timeout = Duration::from_secs(seconds);
            run_with_timeout(command, None, timeout, max_bytes)
        };
        let code = |code| Some(Exit { code: Some(code), signal: None });
        for (script, max_bytes, output, exit) in [
            ("echo out; echo err >&2", 100, "out\nerr\n", code(0)),
            ("echo out; exit 3", 2, "ou", code(3)),
            ("kill -9 $$", 9, "", Some(Exit { code: None, signal: Some(9) })),
            ("cat", 9, "", code(0)),
            ("sleep 30 & echo done", 9, "done\n", code(0)),
            ("exec >&- 2>&-; sleep 30; : hang", 9, "", None),
            ("yes; : hang", 4, "y\ny\n", None),
        ] {
            let began = Instant::now();
            let (found, how) = run(script, max_bytes).unwrap();
            assert_eq!((String::from_utf8_lossy(&found).as_ref(), how), (output, exit), "{script}");
            assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        }
        assert!(run_with_timeout(Command::new("/nowhere"), None, Duration::ZERO, 9).is_err());
    }
}
