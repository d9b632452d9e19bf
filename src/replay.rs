//! Replays a recorded stream instead of running claude.
//!
//! The worker runs this program instead of `claude` for `start --replay` and `demo`; everything
//! else is as usual. The pace is that of the recording as far as it is known: the CLI puts a
//! `timestamp` on `user` events, and `api_retry` contains its delay.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use crate::job::Timestamp;
use crate::json;

/// The built-in recording.
const BUILT_IN: &str = include_str!("replay/demo.ndjson");
/// Pause before a line whose time is unknown.
const DEFAULT_PAUSE: Duration = Duration::from_millis(150);
/// Longest pause: long breaks in a recording are shortened.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Plays the recording to stdout; `file` is its path, or `None` for the built-in one. Returns the
/// exit status that claude would have: 1 if the last result is an error, or if there is none.
pub(crate) fn play(file: Option<&str>, speed: f64) -> io::Result<u8> {
    let recording: Box<dyn BufRead> = match file {
        None => Box::new(BUILT_IN.as_bytes()),
        Some(path) => Box::new(io::BufReader::new(std::fs::File::open(path)?)),
    };
    // Reads the prompt as claude would, and at the end waits for the end of stdin.
    let input = std::thread::spawn(|| {
        let mut input = io::stdin().lock();
        let mut buffer = [0; 8 << 10];
        while matches!(input.read(&mut buffer), Ok(length) if length > 0) {}
    });
    let failed = play_lines(recording, speed, &mut io::stdout().lock(), std::thread::sleep)?;
    if failed.is_some() {
        let _ = input.join();
    }
    // Without a result there is no wait for the end of stdin: such a claude was cut off.
    Ok(u8::from(failed.unwrap_or(true)))
}

/// Writes each line of the recording after its pause. Returns whether the last result was an
/// error; `None` if there is no result.
fn play_lines(
    mut recording: impl BufRead,
    speed: f64,
    out: &mut impl Write,
    mut pause: impl FnMut(Duration),
) -> io::Result<Option<bool>> {
    let mut failed = None;
    let mut pace = Pace::default();
    // Lines whose time is unknown: they share the time until the next known one.
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut line = Vec::new();
        let ended = recording.read_until(b'\n', &mut line)? == 0;
        let event: LineTiming = json::from_bytes(&line).unwrap_or_default();
        if event.kind.as_deref() == Some("result") {
            failed = Some(event.is_error.unwrap_or(true));
        }
        let elapsed = event.at().map(|at| pace.until(at));
        if !ended {
            waiting.push(line);
        }
        // Bounded: a long series of lines without a time is written with default pauses.
        if elapsed.is_some() || ended || event.retry_delay_ms.is_some() || waiting.len() >= 64 {
            let share = match elapsed {
                Some(elapsed) => elapsed / waiting.len().max(1) as u32,
                None => DEFAULT_PAUSE,
            };
            for line in waiting.drain(..) {
                if speed > 0.0 {
                    pause(share.min(MAX_PAUSE).div_f64(speed));
                }
                out.write_all(&line)?;
                out.flush()?;
            }
        }
        if let (Some(delay), true) = (event.retry_delay_ms, speed > 0.0) {
            let delay = Duration::try_from_secs_f64(delay / 1_000.0).unwrap_or_default();
            pause(delay.min(MAX_PAUSE).div_f64(speed));
            pace.add(delay);
        }
        if ended {
            return Ok(failed);
        }
    }
}

/// The fields of a line that determine its time.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct LineTiming {
    #[serde(rename = "type")]
    kind: Option<String>,
    timestamp: Option<String>,
    retry_delay_ms: Option<f64>,
    is_error: Option<bool>,
}

impl LineTiming {
    fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.timestamp.as_deref()?)
    }
}

/// Position of the replay in the recording's time.
#[derive(Default)]
struct Pace {
    last: Option<Timestamp>,
}

impl Pace {
    fn until(&mut self, at: Timestamp) -> Duration {
        match self.last.replace(at) {
            Some(last) => at.since(last),
            None => DEFAULT_PAUSE,
        }
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
    fn keeps_the_pace_of_the_recording() {
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
        let elapsed: u128 = pauses.iter().sum();
        assert!((2_000..20_000).contains(&elapsed), "{elapsed} ms");
    }

    #[test]
    fn plays_a_truncated_recording_to_its_end() {
        let (failed, out, _) = played("{\"type\":\"system\"}\n{\"type\":\"ass", 0.0);
        assert_eq!(failed, None);
        assert_eq!(out, "{\"type\":\"system\"}\n{\"type\":\"ass");
    }
}
