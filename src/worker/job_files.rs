//! Writing the files of the job's directory, and handling write errors.

use std::io::{self, Write};

use super::log_writer::{LogDamage, LogWriter};
use super::{Progress, Worker};
use crate::fault_point::fault_point;
use crate::job::EventLine;
use crate::process;
use crate::store::{EVENTS, OUTPUT, RECORD};
use crate::supervisor::Input;

/// Describes a failed write. The system's error does not say which limit was reached.
fn write_error(error: &io::Error) -> String {
    match (error.kind(), process::file_size_limit()) {
        (io::ErrorKind::FileTooLarge, Some(limit)) => {
            format!("the caller's file size limit ({limit} bytes, ulimit -f) was reached")
        }
        _ => error.to_string(),
    }
}

impl Worker {
    pub(super) fn open_output(&mut self) {
        let opened = self.job.append(OUTPUT).map_err(|error| error.to_string());
        match opened.and_then(|file| LogWriter::append_to(file).map_err(|error| error.to_string()))
        {
            Ok(log) => self.log = log,
            Err(error) => self.output_is_incomplete(error),
        }
    }

    /// Appends claude's output to the log. After a gap nothing is appended before the saved record
    /// mentions the gap: so the log of a lost job has the beginning of claude's output, or the record
    /// says that it is incomplete.
    pub(super) fn append_output(&mut self, bytes: &[u8]) {
        if self.log.is_truncated() {
            self.inspect_output();
        }
        if self.supervisor.record().attempt.log_incomplete && !self.is_gap_recorded {
            self.save();
            if !self.is_gap_recorded {
                self.log.skip_line();
                return;
            }
        }
        self.stderr_marks.mark(&self.job, self.log.length());
        if let Err(error) = self.log.write(bytes) {
            self.output_is_incomplete(write_error(&error));
        }
    }

    fn output_is_incomplete(&mut self, error: String) {
        self.take(Input::LogIncomplete);
        self.write_failed(OUTPUT, error);
    }

    /// Reserves disk space for the verdict.
    pub(super) fn reserve(&self) {
        let record = serde_json::to_vec(self.supervisor.record()).map_or(0, |text| text.len());
        self.job.reserve(record as u64);
    }

    pub(super) fn save(&mut self) {
        if self.progress == Progress::Lost {
            return;
        }
        if self.progress == Progress::Ended {
            match self.job.save_end(self.supervisor.record()) {
                Ok(()) => {}
                // The verdict does not count, and nobody is notified of it.
                Err(error) if error.is_lost_job() => self.progress = Progress::Lost,
                Err(error) => self.write_failed(RECORD, error.to_string()),
            }
            fault_point("end:saved");
            return;
        }
        self.inspect_output();
        let mut saved = self.job.save(self.supervisor.record(), false);
        if let Err(error) = &saved {
            // The reserve is used to record that the disk is full.
            let use_reserve = error.is_full() && !self.failed_files.contains(RECORD);
            self.write_failed(RECORD, error.to_string());
            if use_reserve {
                saved = self.job.save(self.supervisor.record(), true);
            }
        }
        if saved.is_ok() {
            self.is_gap_recorded = self.supervisor.record().attempt.log_incomplete;
        }
    }

    /// Checks that the log can be read under its name. A log that was removed is created again.
    pub(super) fn inspect_output(&mut self) {
        let Some(damage) = self.log.damage(&self.job.file(OUTPUT)) else { return };
        let what = match damage {
            LogDamage::Gone => "was removed while the job ran: its content is lost",
            LogDamage::Truncated => "was truncated while the job ran: part of it is lost",
        };
        if damage == LogDamage::Gone {
            self.open_output();
        }
        self.take(Input::LogDamaged { file: OUTPUT, what, length: self.log.length() });
    }

    pub(super) fn log(&mut self, entry: &EventLine) {
        let Some(events) = &mut self.events else { return };
        let written = serde_json::to_vec(entry).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            events.write_all(&line)
        });
        if let Err(error) = written {
            self.write_failed(EVENTS, error.to_string());
        }
    }

    pub(super) fn append_line(&mut self, file: &'static str, line: &impl serde::Serialize) {
        let appended =
            self.job.append(file).map_err(|error| error.to_string()).and_then(|mut file| {
                let text = serde_json::to_string(line).map_err(|error| error.to_string())?;
                file.write_all((text + "\n").as_bytes()).map_err(|error| error.to_string())
            });
        if let Err(error) = appended {
            self.write_failed(file, error);
        }
    }

    pub(super) fn write_failed(&mut self, file: &'static str, error: String) {
        if self.failed_files.insert(file) {
            self.take(Input::WriteFailed { file, error });
        }
    }
}
