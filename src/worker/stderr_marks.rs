//! Notes in `stderr.marks` where claude's stderr stands among its stdout.
//!
//! Claude appends to stderr.log itself, so that what it says there outlives this process. Whenever
//! some of its stdout is about to be appended to output.log, the length of stderr.log tells what
//! came before. It may have grown since that stdout was in the pipe: where the system tells which
//! of the two was first, what came after it counts for later. A mark that cannot be written is no
//! failure of the job: a reader without it takes the stderr for later than it was.

use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::AsFd;

use tokio::net::unix::pipe;

use crate::process::{ArrivalOrder, Arrivals};
use crate::store::{JobDir, STDERR_MARKS, StderrMark};

/// Bytes at the end of the marks in which the last one is looked for.
const MARKS_TAIL: u64 = 256;

#[derive(Default)]
pub(super) struct StderrMarks {
    /// stderr.log, as claude writes to it.
    stderr: Option<File>,
    /// Tells what came first, and when it grows. `None` where that cannot be had.
    arrivals: Option<(Arrivals, pipe::Receiver)>,
    /// The file of the marks, once there is something to mark.
    file: Option<File>,
    /// The length of stderr.log at the last mark.
    marked: u64,
    /// How much of stderr.log came before the next stdout.
    before: u64,
    /// It has grown since, after the next stdout was in the pipe.
    grown_after: bool,
}

impl StderrMarks {
    /// Marks for a claude that writes to this file; `None`: its stderr is not kept.
    pub(super) fn of(job: &JobDir, stderr: Option<File>) -> Self {
        let tail = job.tail(STDERR_MARKS, 0, MARKS_TAIL);
        let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
        let last = tail[..whole].split(|&byte| byte == b'\n').rev().find_map(StderrMark::parse);
        Self { stderr, marked: last.map_or(0, |mark| mark.stderr), ..Self::default() }
    }

    /// Watches stderr.log from now on.
    pub(super) fn watch(&mut self) {
        let watch = |file| {
            let (arrivals, news) = Arrivals::watch_file(file).ok()?;
            Some((arrivals, pipe::Receiver::from_owned_fd_unchecked(news).ok()?))
        };
        self.arrivals = self.stderr.as_ref().and_then(watch);
    }

    /// Watches the pipe of claude's stdout, too.
    pub(super) fn watch_stdout(&mut self, stdout: &impl AsFd) {
        if self.arrivals.as_ref().is_some_and(|(arrivals, _)| arrivals.add_pipe(stdout).is_err()) {
            self.arrivals = None;
        }
    }

    /// Sleeps until stderr.log has grown; for ever where that is not told.
    pub(super) async fn grown(&self) {
        let Some((_, news)) = &self.arrivals else { return pending().await };
        if news.readable().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Takes the news that stderr.log has grown.
    pub(super) fn has_grown(&mut self) {
        self.look();
        let read = self.arrivals.as_ref().map(|(_, news)| news.try_read(&mut [0; 4096]));
        match read {
            Some(Ok(length)) if length > 0 => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // It would tell for ever.
            _ => self.arrivals = None,
        }
    }

    /// Looks how much of stderr.log came before the stdout that is still to be read. Once that is
    /// read, the order is not told any more.
    pub(super) fn look(&mut self) {
        let arrived = match &self.arrivals {
            Some((arrivals, news)) => {
                let arrived = arrivals.file_order();
                if arrived.is_some() {
                    // What comes while there is news is added to it, and not told.
                    let _ = nix::unistd::read(news, &mut [0; 4096]);
                }
                arrived
            }
            None => Some(ArrivalOrder::First),
        };
        match arrived {
            Some(ArrivalOrder::First) if !self.grown_after => self.count_all(),
            Some(_) => self.grown_after = true,
            None => {}
        }
    }

    fn count_all(&mut self) {
        self.before = self.length().unwrap_or(self.before);
    }

    /// Notes what of stderr.log came before the stdout that is about to be appended at this offset.
    pub(super) fn note(&mut self, job: &JobDir, output: u64) {
        self.write(job, StderrMark { stderr: self.before, output });
        if std::mem::take(&mut self.grown_after) {
            self.count_all();
        }
    }

    /// Notes that all of stderr.log came before what may be appended at this offset.
    pub(super) fn note_all(&mut self, job: &JobDir, output: u64) {
        self.count_all();
        self.write(job, StderrMark { stderr: self.before, output });
    }

    fn length(&self) -> Option<u64> {
        Some(self.stderr.as_ref()?.metadata().ok()?.len())
    }

    fn write(&mut self, job: &JobDir, mark: StderrMark) {
        if self.stderr.is_none() || mark.stderr == self.marked {
            return;
        }
        let Some(mut file) = self.file.take().or_else(|| open(job)) else { return };
        // After a failure the file is opened anew, and a torn line ended.
        if file.write_all(format!("{mark}\n").as_bytes()).is_ok() {
            self.marked = mark.stderr;
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
        marks.look();
        marks.note(&job, 0);
        assert!(!job.file(STDERR_MARKS).exists());
        stderr.write_all(b"one\n").unwrap();
        marks.look();
        marks.note(&job, 7);
        marks.note(&job, 9);
        assert_eq!(text(), "4 7\n");
        // The next attempt goes on there, also behind a line that was torn.
        fs::write(job.file(STDERR_MARKS), "4 7\n123 4").unwrap();
        let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
        marks.look();
        marks.note(&job, 20);
        stderr.write_all(b"two\n").unwrap();
        marks.look();
        marks.note(&job, 30);
        assert_eq!(text(), "4 7\n123 4 -\n8 30\n");
        // One that cannot be written is no failure, and is made up for.
        fs::remove_file(job.file(STDERR_MARKS)).unwrap();
        fs::create_dir(job.file(STDERR_MARKS)).unwrap();
        let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
        marks.note_all(&job, 40);
        fs::remove_dir(job.file(STDERR_MARKS)).unwrap();
        marks.note_all(&job, 50);
        assert_eq!(text(), "8 50\n");
        StderrMarks::of(&job, None).note_all(&job, 60);
        assert_eq!(text(), "8 50\n");
    }

    #[test]
    fn stderr_that_came_after_stdout_is_marked_after_it() {
        use std::io::Read;

        let folder = tempfile::tempdir().unwrap();
        let job = JobDir::at(folder.path().to_owned());
        let mut stderr = job.append("stderr.log").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut marks = StderrMarks::of(&job, stderr.try_clone().ok());
            marks.watch();
            let (mut reader, mut writer) = io::pipe().unwrap();
            marks.watch_stdout(&reader);
            if marks.arrivals.is_none() {
                // Not everywhere: a container may forbid it.
                return;
            }
            let mut say = |first: &str, second: &str| {
                for stream in [first, second] {
                    match stream {
                        "stderr" => stderr.write_all(b"e").unwrap(),
                        _ => writer.write_all(b"o").unwrap(),
                    }
                }
            };
            let mut hear = |marks: &mut StderrMarks, offset| {
                marks.look();
                reader.read_exact(&mut [0]).unwrap();
                marks.note(&job, offset);
            };
            say("stdout", "stderr");
            hear(&mut marks, 0);
            say("stderr", "stdout");
            hear(&mut marks, 1);
            // What was in the pipe already when the news came is heard later.
            say("stdout", "stderr");
            marks.grown().await;
            marks.has_grown();
            hear(&mut marks, 2);
            assert_eq!(fs::read_to_string(job.file(STDERR_MARKS)).unwrap(), "2 1\n");
            // More of it before the news of the first is taken.
            say("stderr", "stdout");
            hear(&mut marks, 3);
            say("stderr", "stdout");
            hear(&mut marks, 4);
            let text = fs::read_to_string(job.file(STDERR_MARKS)).unwrap();
            assert_eq!(text, "2 1\n4 3\n5 4\n");
        });
    }
}
