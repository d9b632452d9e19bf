//! Recording in `stderr.marks` at which offsets of claude's stdout its stderr was written.
//!
//! Claude appends to stderr.log itself, so that its stderr survives the end of this process. When
//! stdout is about to be appended to output.log, the part of stderr.log that exists by then came
//! before it. The file may have grown after that stdout was in the pipe: if the system reports
//! which of the two came first, later stderr counts for the next mark. A mark that cannot be
//! written is not an error: readers then show the stderr later than it was written.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use super::wake_source::{WakeSource, woken};
use crate::process::{ArrivalOrder, Arrivals};
use crate::store::{JobDir, STDERR_MARKS, StderrMark};

/// Number of bytes at the end of the file in which the last mark is searched.
const MARKS_TAIL_BYTES: u64 = 256;

#[derive(Default)]
pub(super) struct StderrMarks {
    /// stderr.log, to which claude appends.
    stderr: Option<File>,
    /// The order of stderr and stdout, and a descriptor that is readable when stderr.log has grown.
    /// `None` if the system does not report them.
    arrivals: Option<(Arrivals, WakeSource)>,
    /// stderr.marks, once there is a mark to write.
    file: Option<File>,
    /// Length of stderr.log at the last mark.
    last_marked: u64,
    /// Length of the part of stderr.log that came before the next stdout.
    length_before: u64,
    /// stderr.log has grown after the next stdout was in the pipe.
    has_grown_after: bool,
}

impl StderrMarks {
    /// `stderr`: the file to which claude appends; `None` if its stderr is discarded.
    pub(super) fn for_job(job: &JobDir, stderr: Option<File>) -> Self {
        let last = job.last_line(STDERR_MARKS, MARKS_TAIL_BYTES, StderrMark::parse);
        Self { stderr, last_marked: last.map_or(0, |mark| mark.stderr), ..Self::default() }
    }

    /// Starts to watch stderr.log.
    pub(super) fn watch(&mut self) {
        self.arrivals = self.stderr.as_ref().and_then(watch_growth);
    }

    /// Starts to watch the pipe of claude's stdout.
    pub(super) fn watch_stdout(&mut self, stdout: &impl AsFd) {
        if self.arrivals.as_ref().is_some_and(|(arrivals, _)| arrivals.add_pipe(stdout).is_err()) {
            self.arrivals = None;
        }
    }

    /// Sleeps until stderr.log has grown; forever if the system does not report it.
    pub(super) async fn grown(&self) {
        woken(self.arrivals.as_ref().map(|(_, changes)| changes)).await;
    }

    /// Handles the growth of stderr.log.
    pub(super) fn handle_growth(&mut self) {
        self.check_order();
        if self.arrivals.as_ref().is_some_and(|(_, changes)| !changes.drain()) {
            self.arrivals = None;
        }
    }

    /// Checks how much of stderr.log came before the stdout that is to be read next. Must be called
    /// before the stdout is read, because the system does not report the order afterwards.
    pub(super) fn check_order(&mut self) {
        let order = match &self.arrivals {
            Some((arrivals, changes)) => {
                let order = arrivals.file_order();
                if order.is_some() {
                    // While an event is unread, later ones are merged into it and not reported.
                    let _ = nix::unistd::read(changes, &mut [0; 4096]);
                }
                order
            }
            None => Some(ArrivalOrder::First),
        };
        match order {
            Some(ArrivalOrder::First) if !self.has_grown_after => self.count_all(),
            Some(_) => self.has_grown_after = true,
            None => {}
        }
    }

    fn count_all(&mut self) {
        self.length_before = self.length().unwrap_or(self.length_before);
    }

    /// Writes a mark: how much of stderr.log came before the stdout that is about to be appended at
    /// this offset.
    pub(super) fn mark(&mut self, job: &JobDir, output: u64) {
        self.write(job, StderrMark { stderr: self.length_before, output });
        if std::mem::take(&mut self.has_grown_after) {
            self.count_all();
        }
    }

    /// Writes a mark: all of stderr.log came before the stdout that may be appended at this offset.
    pub(super) fn mark_all(&mut self, job: &JobDir, output: u64) {
        self.count_all();
        self.write(job, StderrMark { stderr: self.length_before, output });
    }

    fn length(&self) -> Option<u64> {
        Some(self.stderr.as_ref()?.metadata().ok()?.len())
    }

    fn write(&mut self, job: &JobDir, mark: StderrMark) {
        if self.stderr.is_none() || mark.stderr == self.last_marked {
            return;
        }
        // An incomplete line is turned into one that is not a mark.
        let open = || job.append_lines(STDERR_MARKS, b" -\n").ok();
        let Some(mut file) = self.file.take().or_else(open) else { return };
        // After an error the file is opened again.
        if file.write_all(format!("{mark}\n").as_bytes()).is_ok() {
            self.last_marked = mark.stderr;
            self.file = Some(file);
        }
    }
}

/// Returns a watch of stderr.log, and the descriptor that is readable when the file has grown.
fn watch_growth(stderr: &File) -> Option<(Arrivals, WakeSource)> {
    let (arrivals, changes) = Arrivals::watch_file(stderr).ok()?;
    Some((arrivals, WakeSource::from_fd(changes).ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;

    use super::*;
    use crate::job::JobId;

    #[test]
    fn writes_marks_only_after_stderr_has_grown() {
        let directory = tempfile::tempdir().unwrap();
        let job = JobDir::new(directory.path(), &JobId::parse("a").unwrap());
        fs::create_dir(job.path()).unwrap();
        let text = || fs::read_to_string(job.file(STDERR_MARKS)).unwrap_or_default();
        let mut stderr = job.append("stderr.log").unwrap();
        let mut marks = StderrMarks::for_job(&job, stderr.try_clone().ok());
        marks.check_order();
        marks.mark(&job, 0);
        assert!(!job.file(STDERR_MARKS).exists());
        stderr.write_all(b"one\n").unwrap();
        marks.check_order();
        marks.mark(&job, 7);
        marks.mark(&job, 9);
        assert_eq!(text(), "4 7\n");
        // The next attempt continues there, also after an incomplete line.
        fs::write(job.file(STDERR_MARKS), "4 7\n123 4").unwrap();
        let mut marks = StderrMarks::for_job(&job, stderr.try_clone().ok());
        marks.check_order();
        marks.mark(&job, 20);
        stderr.write_all(b"two\n").unwrap();
        marks.check_order();
        marks.mark(&job, 30);
        assert_eq!(text(), "4 7\n123 4 -\n8 30\n");
        // A mark that cannot be written is not an error, and is written later.
        fs::remove_file(job.file(STDERR_MARKS)).unwrap();
        fs::create_dir(job.file(STDERR_MARKS)).unwrap();
        let mut marks = StderrMarks::for_job(&job, stderr.try_clone().ok());
        marks.mark_all(&job, 40);
        fs::remove_dir(job.file(STDERR_MARKS)).unwrap();
        marks.mark_all(&job, 50);
        assert_eq!(text(), "8 50\n");
        StderrMarks::for_job(&job, None).mark_all(&job, 60);
        assert_eq!(text(), "8 50\n");
    }

    #[test]
    fn marks_stderr_that_came_after_stdout_behind_it() {
        use std::io::Read;

        let directory = tempfile::tempdir().unwrap();
        let job = JobDir::new(directory.path(), &JobId::parse("a").unwrap());
        fs::create_dir(job.path()).unwrap();
        let mut stderr = job.append("stderr.log").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut marks = StderrMarks::for_job(&job, stderr.try_clone().ok());
            marks.watch();
            let (mut reader, mut writer) = io::pipe().unwrap();
            marks.watch_stdout(&reader);
            if marks.arrivals.is_none() {
                // A container may forbid it.
                return;
            }
            let mut write = |first: &str, second: &str| {
                for stream in [first, second] {
                    match stream {
                        "stderr" => stderr.write_all(b"e").unwrap(),
                        _ => writer.write_all(b"o").unwrap(),
                    }
                }
            };
            let mut read_and_mark = |marks: &mut StderrMarks, offset| {
                marks.check_order();
                reader.read_exact(&mut [0]).unwrap();
                marks.mark(&job, offset);
            };
            write("stdout", "stderr");
            read_and_mark(&mut marks, 0);
            write("stderr", "stdout");
            read_and_mark(&mut marks, 1);
            // Stdout that was in the pipe before stderr is read after it.
            write("stdout", "stderr");
            marks.grown().await;
            marks.handle_growth();
            read_and_mark(&mut marks, 2);
            assert_eq!(fs::read_to_string(job.file(STDERR_MARKS)).unwrap(), "2 1\n");
            // More stderr before the event of the first is read.
            write("stderr", "stdout");
            read_and_mark(&mut marks, 3);
            write("stderr", "stdout");
            read_and_mark(&mut marks, 4);
            let text = fs::read_to_string(job.file(STDERR_MARKS)).unwrap();
            assert_eq!(text, "2 1\n4 3\n5 4\n");
        });
    }
}
