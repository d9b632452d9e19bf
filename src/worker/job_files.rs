//! What the worker writes into its job's directory, and what it does where that fails.

use std::io::{self, Write};

use super::Worker;
use super::log_writer::{LogDamage, LogWriter};
use crate::fault_point::fault_point;
use crate::job::EventLine;
use crate::process;
use crate::store::{EVENTS, OUTPUT, RECORD};
use crate::supervisor::Input;

/// The sentence on a write that failed. Whose limit it was the system does not say.
fn sentence(error: &io::Error) -> String {
    match (error.kind(), process::file_size_limit()) {
        (io::ErrorKind::FileTooLarge, Some(limit)) => {
            format!("the caller's limit of a file's size ({limit} bytes, ulimit -f) was reached")
        }
        _ => error.to_string(),
    }
}

impl Worker {
    pub(super) fn open_output(&mut self) {
        let opened = self.job.append(OUTPUT).map_err(|error| error.to_string());
        match opened.and_then(|file| LogWriter::into(file).map_err(|error| error.to_string())) {
            Ok(tee) => self.log = tee,
            Err(error) => self.output_is_incomplete(error),
        }
    }

    /// Writes what claude wrote. Behind a gap nothing is written before the record tells of it: so
    /// what the log of a lost job holds is the beginning of what claude wrote, or known not to be.
    pub(super) fn append_output(&mut self, bytes: &[u8]) {
        if self.log.is_cut() {
            self.inspect_output();
        }
        if self.supervisor.record().log_incomplete && !self.gap_told {
            self.save();
            if !self.gap_told {
                self.log.skip();
                return;
            }
        }
        self.stderr_marks.note(&self.job, self.log.length());
        if let Err(error) = self.log.write(bytes) {
            self.output_is_incomplete(sentence(&error));
        }
    }

    fn output_is_incomplete(&mut self, error: String) {
        self.supervisor.log_is_incomplete();
        self.write_failed(OUTPUT, error);
    }

    /// Sets room aside for the verdict.
    pub(super) fn reserve(&self) {
        let record = serde_json::to_vec(self.supervisor.record()).map_or(0, |text| text.len());
        self.job.reserve(record as u64);
    }

    pub(super) fn save(&mut self) {
        if self.has_ended {
            if let Err(error) = self.job.save_end(self.supervisor.record()) {
                self.write_failed(RECORD, error.to_string());
            }
            fault_point("end:saved");
            return;
        }
        self.inspect_output();
        let mut saved = self.job.save(self.supervisor.record(), false);
        if let Err(error) = &saved {
            // That the disk is full is worth the room that was set aside to tell it.
            let tell = error.is_full() && !self.failed.contains(RECORD);
            self.write_failed(RECORD, error.to_string());
            if tell {
                saved = self.job.save(self.supervisor.record(), true);
            }
        }
        if saved.is_ok() {
            self.gap_told = self.supervisor.record().log_incomplete;
        }
    }

    /// What is written must be found under its name: a log that was taken away is begun anew.
    pub(super) fn inspect_output(&mut self) {
        let Some(damage) = self.log.damage(&self.job.file(OUTPUT)) else { return };
        let what = match damage {
            LogDamage::Gone => "was removed while the job ran: what it held is lost",
            LogDamage::Truncated => "was made shorter while the job ran: some of it is lost",
        };
        if damage == LogDamage::Gone {
            self.open_output();
        }
        let start = self.supervisor.record().log_start.min(self.log.length());
        self.supervisor.log_starts_at(start);
        self.supervisor.log_is_incomplete();
        self.take(Input::Damaged { file: OUTPUT, what });
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
            self.job.append(file).map_err(|error| error.to_string()).and_then(|mut to| {
                let text = serde_json::to_string(line).map_err(|error| error.to_string())?;
                to.write_all((text + "\n").as_bytes()).map_err(|error| error.to_string())
            });
        if let Err(error) = appended {
            self.write_failed(file, error);
        }
    }

    pub(super) fn write_failed(&mut self, file: &'static str, error: String) {
        if self.failed.insert(file) {
            self.take(Input::WriteFailed { file, error });
        }
    }
}
