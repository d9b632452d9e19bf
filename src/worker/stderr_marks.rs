//! Notes in `stderr.marks` where claude's stderr stands among its stdout.
//!
//! Claude appends to stderr.log itself, so that what it says there outlives this process. Whenever
//! some of its stdout is about to be appended to output.log, the length of stderr.log tells what
//! came before. A mark that cannot be written is no failure of the job: a reader without it takes
//! the stderr for later than it was.

use std::fs::File;
use std::io::Write;

use crate::store::{JobDir, STDERR_MARKS, StderrMark};

/// Bytes at the end of the marks in which the last one is looked for.
const MARKS_TAIL: u64 = 256;

#[derive(Default)]
pub(super) struct StderrMarks {
    /// stderr.log, as claude writes to it.
    stderr: Option<File>,
    /// The file of the marks, once there is something to mark.
    file: Option<File>,
    /// The length of stderr.log at the last mark.
    marked: u64,
}

impl StderrMarks {
    /// Marks for a claude that writes to this file; `None`: its stderr is not kept.
    pub(super) fn of(job: &JobDir, stderr: Option<File>) -> Self {
        let tail = job.tail(STDERR_MARKS, 0, MARKS_TAIL);
        let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
        let last = tail[..whole].split(|&byte| byte == b'\n').rev().find_map(StderrMark::parse);
        Self { stderr, file: None, marked: last.map_or(0, |mark| mark.stderr) }
    }

    /// Notes that what is new in stderr.log came before the output from this offset on.
    pub(super) fn note(&mut self, job: &JobDir, output: u64) {
        let Some(about) = self.stderr.as_ref().and_then(|file| file.metadata().ok()) else {
            return;
        };
        let stderr = about.len();
        if stderr == self.marked {
            return;
        }
        let Some(mut file) = self.file.take().or_else(|| open(job)) else { return };
        let line = format!("{}\n", StderrMark { stderr, output });
        // After a failure the file is opened anew, and a torn line ended.
        if file.write_all(line.as_bytes()).is_ok() {
            self.marked = stderr;
            self.file = Some(file);
        }
    }
}

/// Opens the marks for appending. A torn line is made one that is no mark.
fn open(job: &JobDir) -> Option<File> {
    let mut file = job.append(STDERR_MARKS).ok()?;
    let tail = job.tail(STDERR_MARKS, 0, 1);
    if !tail.is_empty() && tail != b"\n" {
        file.write_all(b" -\n").ok()?;
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mark_is_written_only_where_stderr_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobDir::at(folder.path().to_owned());
        let text = || fs::read_to_string(job.file(STDERR_MARKS)).unwrap_or_default();
        let mut stderr = job.append("stderr.log").unwrap();
        let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
        marks.note(&job, 0);
        assert!(!job.file(STDERR_MARKS).exists());
        stderr.write_all(b"one\n").unwrap();
        marks.note(&job, 7);
        marks.note(&job, 9);
        assert_eq!(text(), "4 7\n");
        // The next attempt goes on there, also behind a line that was torn.
        fs::write(job.file(STDERR_MARKS), "4 7\n123 4").unwrap();
        let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
        marks.note(&job, 20);
        stderr.write_all(b"two\n").unwrap();
        marks.note(&job, 30);
        assert_eq!(text(), "4 7\n123 4 -\n8 30\n");
        // One that cannot be written is no failure, and is made up for.
        fs::remove_file(job.file(STDERR_MARKS)).unwrap();
        fs::create_dir(job.file(STDERR_MARKS)).unwrap();
        let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
        marks.note(&job, 40);
        fs::remove_dir(job.file(STDERR_MARKS)).unwrap();
        marks.note(&job, 50);
        assert_eq!(text(), "8 50\n");
        StderrMarks::of(&job, None).note(&job, 60);
        assert_eq!(text(), "8 50\n");
    }
}
