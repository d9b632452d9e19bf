//! Follows logs until their jobs have ended.

use super::log::LogPosition;
use super::{
    LogFormat, LogLimits, LogsAnswer, LogsRequest, note_earlier, open, part, start_position,
};
use crate::commands::observe::observe;
use crate::commands::watch::Watch;
use crate::error::Error;
use crate::process;
use crate::store::{JobDir, OUTPUT, STDERR, STDERR_MARKS, Store};

/// Maximum number of bytes of the log that are read at once, unless a line is longer.
const PART_BYTES: u64 = 1 << 20;

/// What is known after all of a log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogState {
    /// The job may write more.
    Live,
    /// The job has ended, and its log is complete.
    Ended,
    /// The reader takes no more.
    Closed,
}

/// A log that is read as it grows.
pub(super) struct FollowedLog {
    request: LogsRequest,
    /// The request for what follows the first part.
    next_request: LogsRequest,
    pub dir: JobDir,
    from: Option<LogPosition>,
    is_first: bool,
}

impl FollowedLog {
    pub(super) fn new(store: &Store, request: LogsRequest) -> Self {
        // Nothing is left out of a log that is followed: a part has a limit, and another one follows.
        let max_bytes = Some(request.limits.max_bytes.unwrap_or(PART_BYTES));
        let limits = LogLimits { max_bytes, max_chars: None };
        Self {
            next_request: LogsRequest { limits, ..request.clone() },
            dir: store.job(&request.id),
            from: start_position(&request),
            is_first: true,
            request,
        }
    }

    /// Returns the files of the log.
    pub(super) fn files(&self) -> &'static [&'static str] {
        match self.request.format {
            _ if self.request.merged => &[OUTPUT, STDERR, STDERR_MARKS],
            LogFormat::Readable | LogFormat::Raw => &[OUTPUT],
            LogFormat::Stderr => &[STDERR],
        }
    }

    /// Calls `give` with the parts that were not read yet, until it returns false. The first call is
    /// made even if there is no text.
    pub(super) fn read(
        &mut self,
        store: &Store,
        mut give: impl FnMut(&mut LogsAnswer) -> bool,
    ) -> Result<LogState, Error> {
        let observed = observe(store, &self.request.id)?;
        let log = open(&observed, &self.request)?;
        loop {
            let request = if self.from.is_none() { &self.request } else { &self.next_request };
            let (mut answer, next) = part(&observed, request, &log, self.from)?;
            if self.from.is_none() {
                note_earlier(store, request, &observed, &log, &mut answer);
            }
            answer.note_request(store, request, &observed);
            let more = answer.truncated && self.from.is_some();
            self.from = Some(next);
            // Parts without text are skipped.
            if (!answer.tail.is_empty() || self.is_first) && !give(&mut answer) {
                return Ok(LogState::Closed);
            }
            self.is_first = false;
            if !more {
                return Ok(if observed.live { LogState::Live } else { LogState::Ended });
            }
        }
    }
}

/// Calls `give` with the whole present log, part by part, until it returns false.
pub(super) fn read_whole(
    store: &Store,
    request: &LogsRequest,
    give: impl FnMut(&mut LogsAnswer) -> bool,
) -> Result<(), Error> {
    FollowedLog::new(store, request.clone()).read(store, give)?;
    Ok(())
}

/// Calls `give` with the requested part of the log and then with new parts, until the job has ended
/// and its log is complete, `give` returns false, or `is_done` returns true, which is called when
/// one of the files changes.
pub(crate) fn follow_until(
    store: &Store,
    request: &LogsRequest,
    mut give: impl FnMut(&mut LogsAnswer) -> bool,
    files: &'static [&'static str],
    mut is_done: impl FnMut() -> bool,
) -> Result<(), Error> {
    process::reap_in_background();
    let mut log = FollowedLog::new(store, request.clone());
    // Watched before the first read, so that no change is missed.
    let mut watch = Watch::for_files(&log.dir, files);
    loop {
        // Checked before the log is read: if it is true, the log is complete.
        let is_last = is_done();
        if log.read(store, &mut give)? != LogState::Live || is_last {
            return Ok(());
        }
        watch.add_end(0, &log.dir);
        watch.next();
    }
}
