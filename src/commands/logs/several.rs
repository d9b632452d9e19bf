//! `logs --follow`: prints the logs of jobs as they grow, until all of the jobs have ended.

use std::time::Instant;

use super::follow::{FollowedLog, LogState};
use super::held_turn::HeldTurn;
use super::text::{NameColumn, passage_text};
use super::{LogsAnswer, LogsRequest};
use crate::commands::Call;
use crate::commands::several::{FailedJob, failures, first_exit_status};
use crate::commands::watch::{Notice, Watch};
use crate::error::{Error, ExitStatus};
use crate::output::{print_note, print_text};
use crate::process;
use crate::store::Store;

/// Follows the logs. With `is_several`, each line of text begins with the job's name.
pub(super) fn follow(
    call: &Call,
    store: &Store,
    requests: Vec<LogsRequest>,
    is_several: bool,
) -> Result<ExitStatus, Error> {
    process::reap_in_background();
    let names = requests.iter().map(|request| request.id.as_str());
    let column = if is_several { Some(NameColumn::new(names)) } else { None };
    let mut watch = Watch::new();
    let mut jobs = Vec::new();
    for (index, request) in requests.into_iter().enumerate() {
        let log = FollowedLog::new(store, request);
        // Watched before the first read, so that no change is missed.
        watch.add_files(index, &log.dir, log.files());
        watch.add_removal(index, &log.dir);
        jobs.push(FollowedJob { index, log, held: HeldTurn::default(), state: LogState::Live });
    }
    let mut output = LogOutput { call, store, column, statuses: Vec::new() };
    let mut changed: Vec<usize> = (0..jobs.len()).collect();
    loop {
        for index in changed.drain(..) {
            let job = &mut jobs[index];
            if job.state != LogState::Live {
                continue;
            }
            match output.print_new(job) {
                Ok(state) => job.state = state,
                Err(error) if !is_several => return Err(error),
                Err(error) => {
                    job.state = LogState::Ended;
                    output.print_failure(job, &error)?;
                }
            }
            match job.state {
                LogState::Live => watch.add_end(index, &job.log.dir),
                LogState::Ended => {}
                LogState::Closed => return Ok(ExitStatus::Done),
            }
        }
        if jobs.iter().all(|job| job.state == LogState::Ended) {
            return Ok(first_exit_status(&output.statuses).unwrap_or(ExitStatus::Done));
        }
        let deadline = jobs.iter().filter_map(|job| job.held.deadline()).min();
        match watch.next_until(deadline) {
            Some(Notice::Changed(index) | Notice::Ended(index)) => changed.push(index),
            Some(_) => {}
            None => {
                for job in &mut jobs {
                    if job.held.deadline().is_some_and(|deadline| deadline <= Instant::now())
                        && !output.print_held(job)
                    {
                        return Ok(ExitStatus::Done);
                    }
                }
            }
        }
    }
}

/// A job whose log is followed.
struct FollowedJob {
    /// The position in the call.
    index: usize,
    log: FollowedLog,
    held: HeldTurn,
    state: LogState,
}

/// Where parts of the logs are printed.
struct LogOutput<'a> {
    call: &'a Call,
    store: &'a Store,
    column: Option<NameColumn>,
    /// The exit statuses of the jobs that could not be followed.
    statuses: Vec<ExitStatus>,
}

impl LogOutput<'_> {
    /// Prints the parts of the log that were not printed yet.
    fn print_new(&self, job: &mut FollowedJob) -> Result<LogState, Error> {
        let (index, held) = (job.index, &mut job.held);
        job.log.read(self.store, |part| {
            if !self.call.printer.is_json() {
                held.arrange(part);
            }
            self.print(index, part)
        })
    }

    /// Prints a part of a log. Returns false if the reader has closed stdout.
    fn print(&self, index: usize, part: &LogsAnswer) -> bool {
        match &self.column {
            Some(column) if !self.call.printer.is_json() => {
                print_text(&column.text(index, part)).is_ok()
            }
            _ => part.print(self.call),
        }
    }

    /// Prints the end of a turn that was held back.
    fn print_held(&self, job: &mut FollowedJob) -> bool {
        let Some(held) = job.held.take() else { return true };
        let text = match &self.column {
            Some(column) => column.passage(job.index, &held),
            None => passage_text(&held) + "\n",
        };
        print_text(&text).is_ok()
    }

    /// Prints why a job cannot be followed.
    fn print_failure(&mut self, job: &FollowedJob, error: &Error) -> Result<(), Error> {
        let failed = FailedJob::new(self.store, job.log.dir.id().clone(), error);
        self.statuses.push(failed.exit_status);
        if self.call.printer.is_json() {
            return self.call.printer.print_json(&failed);
        }
        print_note(&failures([&failed]));
        Ok(())
    }
}
