//! A recorded stream in place of claude.
//!
//! This is the program that the worker runs instead of `claude` for `start --replay` and `demo`:
//! everything else is the real path. It keeps the recording's pace as far as the recording tells
//! it: the CLI puts a `timestamp` on `user` events, and `api_retry` names its delay.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use crate::job::Timestamp;

/// The recording that is built in.
const BUILT_IN: &str = include_str!("replay/demo.ndjson");
/// How long a line takes of which the recording tells nothing.
const LINE_TAKES: Duration = Duration::from_millis(150);
/// The longest pause that is kept: nobody wants to wait for a lunch break.
const LONGEST: Duration = Duration::from_secs(60);

/// Plays the recording to stdout; `file` is its path, or `None` for the one that is built in.
/// Gives the exit status that claude would have: 1 if the last result is an error, or there is none.
pub fn play(file: Option<&str>, speed: f64) -> io::Result<u8> {
    let recording: Box<dyn BufRead> = match file {
        None => Box::new(BUILT_IN.as_bytes()),
        Some(path) => Box::new(io::BufReader::new(std::fs::File::open(path)?)),
    };
    // The prompt is taken, as claude would; the end of stdin is waited for at the end.
    let input = std::thread::spawn(|| {
        let mut input = io::stdin().lock();
        let mut piece = [0; 8 << 10];
        while matches!(input.read(&mut piece), Ok(length) if length > 0) {}
    });
    let failed = play_lines(recording, speed, &mut io::stdout().lock(), std::thread::sleep)?;
    if failed.is_some() {
        let _ = input.join();
    }
    // Of a claude that gave no result nothing is to be waited for: it ended in the middle.
    Ok(u8::from(failed.unwrap_or(true)))
}

/// Writes each line of the recording, with the pauses before them; says whether the last result
/// was an error, if there was any.
fn play_lines(
    mut recording: impl BufRead,
    speed: f64,
    out: &mut impl Write,
    mut pause: impl FnMut(Duration),
) -> io::Result<Option<bool>> {
    let mut failed = None;
    let mut pace = Pace::default();
    // Lines whose time is not known yet: they share the time up to the next one that is.
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut line = Vec::new();
        let ended = recording.read_until(b'\n', &mut line)? == 0;
        let event: Hint = serde_json::from_slice(&line).unwrap_or_default();
        if event.kind.as_deref() == Some("result") {
            failed = Some(event.is_error.unwrap_or(true));
        }
        let whole = event.at().map(|at| pace.until(at));
        if !ended {
            waiting.push(line);
        }
        // Bounded: without a time for long, lines come at a pace of their own.
        if whole.is_some() || ended || event.retry_delay_ms.is_some() || waiting.len() >= 64 {
            let share = match whole {
                Some(whole) => whole / waiting.len().max(1) as u32,
                None => LINE_TAKES,
            };
            for line in waiting.drain(..) {
                if speed > 0.0 {
                    pause(share.min(LONGEST).div_f64(speed));
                }
                out.write_all(&line)?;
                out.flush()?;
            }
        }
        if let (Some(delay), true) = (event.retry_delay_ms, speed > 0.0) {
            let delay = Duration::try_from_secs_f64(delay / 1_000.0).unwrap_or_default();
            pause(delay.min(LONGEST).div_f64(speed));
            pace.add(delay);
        }
        if ended {
            return Ok(failed);
        }
    }
}

/// What a line tells of its time.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Hint {
    #[serde(rename = "type")]
    kind: Option<String>,
    timestamp: Option<String>,
    retry_delay_ms: Option<f64>,
    is_error: Option<bool>,
}

impl Hint {
    fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.timestamp.as_deref()?)
    }
}

/// Where on the recording's clock the replay stands.
#[derive(Default)]
struct Pace {
    last: Option<Timestamp>,
}

impl Pace {
    fn until(&mut self, at: Timestamp) -> Duration {
        let whole = self.last.map_or(LINE_TAKES, |last| at.since(last));
        self.last = Some(at);
        whole
    }

    fn add(&mut self, delay: Duration) {
        self.last = self.last.map(|last| last.after(delay));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(recording: &str, speed: f64) -> (Option<bool>, String, Vec<u128>) {
        let (mut out, mut pauses) = (Vec::new(), Vec::new());
        let failed =
            play_lines(recording.as_bytes(), speed, &mut out, |p| pauses.push(p.as_millis()));
        (failed.unwrap(), String::from_utf8(out).unwrap(), pauses)
    }

    #[test]
    fn the_pace_is_that_of_the_recording() {
        let recording = concat!(
            "{\"type\":\"user\",\"timestamp\":\"2026-11-20T10:00:00.000Z\"}\n",
            "{\"type\":\"assistant\"}\n",
            "{\"type\":\"user\",\"timestamp\":\"2026-11-20T10:00:04.000Z\"}\n",
            "{\"type\":\"system\",\"subtype\":\"api_retry\",\"retry_delay_ms\":1500.5}\n",
            "{\"type\":\"result\",\"is_error\":true}",
        );
        let (failed, out, pauses) = played(recording, 2.0);
        assert_eq!(failed, Some(true));
        assert_eq!(out, recording);
        assert_eq!(pauses, [75, 1000, 1000, 75, 750, 75]);
        assert_eq!(played(recording, 0.0).2, [0; 0]);
    }

    #[test]
    fn the_built_in_recording_is_a_completed_job() {
        let (failed, out, pauses) = played(BUILT_IN, 1.0);
        assert_eq!(failed, Some(false));
        assert!(out.lines().count() > 5);
        let whole: u128 = pauses.iter().sum();
        assert!((2_000..20_000).contains(&whole), "{whole} ms");
    }

    #[test]
    fn what_was_cut_off_is_played_as_far_as_it_goes() {
        let (failed, out, _) = played("{\"type\":\"system\"}\n{\"type\":\"ass", 0.0);
        assert_eq!(failed, None);
        assert_eq!(out, "{\"type\":\"system\"}\n{\"type\":\"ass");
    }
}
