//! `logs --follow`: follows a log until the job has ended.

use super::{LogFormat, LogLimits, LogsAnswer, LogsRequest, open, part, start_position};
use crate::commands::observe::observe;
use crate::commands::watch::Watch;
use crate::error::Error;
use crate::process;
use crate::store::{OUTPUT, STDERR, STDERR_MARKS, Store};

/// Maximum number of bytes of the log that are read at once, unless a line is longer.
const PART_BYTES: u64 = 1 << 20;

/// Calls `give` with the requested part of the log and then with new parts, until the job has ended
/// and its log is complete, or `give` returns false.
pub(crate) fn follow(
    store: &Store,
    request: &LogsRequest,
    give: impl FnMut(&LogsAnswer) -> bool,
) -> Result<(), Error> {
    let files: &'static [&'static str] = match request.format {
        _ if request.merged => &[OUTPUT, STDERR, STDERR_MARKS],
        LogFormat::Readable | LogFormat::Raw => &[OUTPUT],
        LogFormat::Stderr => &[STDERR],
    };
    follow_until(store, request, give, files, || false)
}

/// Like [`follow`], and stops when `is_done` returns true; called when one of the files changes.
pub(crate) fn follow_until(
    store: &Store,
    request: &LogsRequest,
    mut give: impl FnMut(&LogsAnswer) -> bool,
    files: &'static [&'static str],
    mut is_done: impl FnMut() -> bool,
) -> Result<(), Error> {
    process::reap_in_background();
    // Watched before the first read, so that no change is missed.
    let dir = store.job(&request.id);
    let mut watch = Watch::for_files(&dir, files);
    let mut first = true;
    let mut from = start_position(request);
    // Nothing is left out of a log that is followed: a part has a limit, and another one follows.
    let max_bytes = Some(request.limits.max_bytes.unwrap_or(PART_BYTES));
    let limits = LogLimits { max_bytes, max_chars: None };
    let next_request = LogsRequest { limits, ..request.clone() };
    loop {
        // Checked before the log is read: if it is true, the log is complete.
        let is_last = is_done();
        let observed = observe(store, &request.id)?;
        let log = open(&observed, request)?;
        loop {
            let request = if from.is_none() { request } else { &next_request };
            let (answer, next) = part(&observed, request, &log, from)?;
            let more = answer.truncated && from.is_some();
            from = Some(next);
            // Parts without text are skipped.
            if (!answer.tail.is_empty() || first) && !give(&answer) {
                return Ok(());
            }
            first = false;
            if !more {
                break;
            }
        }
        if is_last || !observed.live {
            return Ok(());
        }
        watch.add_end(0, &dir);
        watch.next();
    }
}
