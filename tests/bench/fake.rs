//! The fake `claude`: the bench executable plays it when a worker, or the bench itself, starts it
//! with a part. It reads a prompt from stdin, prints a stream like the real one's, and ends when
//! its stdin is closed.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::stream::Recorded;
use crate::{gate, stream};

/// The pause between two lines that a reader is to receive one by one.
const BETWEEN_LINES: Duration = Duration::from_millis(3);

/// The environment variable that makes this executable a fake `claude`, and names its part.
pub(crate) const PART: &str = "CLAUDEJOB_BENCH_FAKE";

/// A part that the fake can play.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Answers at once.
    Answer,
    /// Answers at once and leaves a process behind.
    Leave,
    /// Announces itself and then prints nothing more.
    Idle,
    /// Waits at the gate, prints this many bytes of events, and answers.
    Flood(u64),
    /// Waits at the gate, prints one line of this many bytes, and answers.
    LongLine(u64),
    /// Waits at the gate, prints this many bytes of recorded events, and answers.
    Recorded(Recorded, u64),
    /// Waits at the gate, prints this many lines one by one that are not events of the job, waits
    /// at the gate again, and answers.
    Trickle(u64),
}

impl Part {
    /// Returns the value of the environment variable.
    pub(crate) fn name(self) -> String {
        match self {
            Part::Answer => "answer".into(),
            Part::Leave => "leave".into(),
            Part::Idle => "idle".into(),
            Part::Flood(bytes) => format!("flood:{bytes}"),
            Part::LongLine(bytes) => format!("line:{bytes}"),
            Part::Recorded(recorded, bytes) => {
                let known = Recorded::ALL.iter().find(|(known, _)| *known == recorded);
                format!("{}:{bytes}", known.map_or("", |(_, word)| *word))
            }
            Part::Trickle(lines) => format!("trickle:{lines}"),
        }
    }

    fn from_name(word: &str) -> Option<Part> {
        match word.split_once(':') {
            None if word == "answer" => Some(Part::Answer),
            None if word == "leave" => Some(Part::Leave),
            None if word == "idle" => Some(Part::Idle),
            Some(("flood", bytes)) => Some(Part::Flood(bytes.parse().ok()?)),
            Some(("line", bytes)) => Some(Part::LongLine(bytes.parse().ok()?)),
            Some(("trickle", lines)) => Some(Part::Trickle(lines.parse().ok()?)),
            Some((name, bytes)) => {
                let (recorded, _) = Recorded::ALL.into_iter().find(|(_, word)| *word == name)?;
                Some(Part::Recorded(recorded, bytes.parse().ok()?))
            }
            None => None,
        }
    }
}

pub(crate) fn play(word: &str) -> ExitCode {
    let Some(part) = Part::from_name(word) else {
        let _ = writeln!(io::stderr(), "no such part: {word}");
        return ExitCode::FAILURE;
    };
    // A broken pipe means a kill or the end of the bench: nobody reads an error message.
    match perform(part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(part: Part) -> io::Result<()> {
    let session = session_id();
    // Not `Stdout`, which would search every byte for line ends.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut stdin = io::stdin().lock();
    stdin.skip_until(b'\n')?;

    out.write_all(stream::init(&session).as_bytes())?;
    match part {
        Part::Answer => {}
        Part::Leave => {
            let mut left = Command::new("sleep");
            left.arg("10000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            left.spawn()?;
        }
        Part::Idle => return pass_gate(),
        Part::Flood(bytes) => stream::flood(&mut out, &session, bytes, pass_gate)?,
        Part::LongLine(bytes) => {
            pass_gate()?;
            stream::long_line(&mut out, &session, bytes)?;
        }
        Part::Recorded(recorded, bytes) => {
            stream::replay(&mut out, &session, recorded, bytes, pass_gate)?;
        }
        Part::Trickle(lines) => {
            pass_gate()?;
            let line = stream::unnoticed(&session);
            for _ in 0..lines {
                out.write_all(line.as_bytes())?;
                std::thread::sleep(BETWEEN_LINES);
            }
            pass_gate()?;
        }
    }
    out.write_all(stream::result(&session).as_bytes())?;
    // The worker closes our stdin when it has read the result: at the gate, everything is read.
    while stdin.skip_until(b'\n')? > 0 {}
    pass_gate()
}

fn pass_gate() -> io::Result<()> {
    match std::env::var_os(gate::DIRECTORY_VARIABLE) {
        Some(directory) => gate::pass(&PathBuf::from(directory)),
        None => Ok(()),
    }
}

/// The session that the worker chose, if a worker started this process.
fn session_id() -> String {
    let mut args = std::env::args();
    let chosen = args.find(|arg| arg == "--session-id").and_then(|_| args.next());
    chosen.unwrap_or_else(|| stream::SESSION.to_owned())
}
