//! `logs --follow`: on and on until the job has ended.

use super::{Form, LogsAnswer, Request, open, part, start};
use crate::commands::seen::look;
use crate::commands::watch::Watch;
use crate::error::Error;
use crate::process;
use crate::store::{OUTPUT, STDERR, STDERR_MARKS, Store};

/// Gives the part of the log that was asked for, and then what is added, until the job has ended
/// and all was given, or `give` says false.
pub fn follow(
    store: &Store,
    request: &Request,
    give: impl FnMut(&LogsAnswer) -> bool,
) -> Result<(), Error> {
    let files: &'static [&'static str] = match request.form {
        _ if request.merged => &[OUTPUT, STDERR, STDERR_MARKS],
        Form::Readable | Form::Raw => &[OUTPUT],
        Form::Stderr => &[STDERR],
    };
    follow_until(store, request, give, files, || false)
}

/// The same, no longer than `over` says, which is asked when one of the files changes.
pub fn follow_until(
    store: &Store,
    request: &Request,
    mut give: impl FnMut(&LogsAnswer) -> bool,
    files: &'static [&'static str],
    mut over: impl FnMut() -> bool,
) -> Result<(), Error> {
    process::stay();
    // Watched before the first look, so that nothing falls between the two.
    let dir = store.job(&request.id);
    let mut watch = Watch::of_files(&dir, files);
    let mut first = true;
    let mut from = start(request);
    loop {
        // Asked before the log is read: what is read then is all.
        let is_over = over();
        let seen = look(store, &request.id)?;
        let log = open(&seen, request)?;
        loop {
            let (answer, next) = part(&seen, request, &log, from)?;
            let more = answer.truncated && from.is_some();
            from = Some(next);
            // Lines that say nothing are passed over; the next part goes on behind them.
            if (!answer.tail.is_empty() || first) && !give(&answer) {
                return Ok(());
            }
            first = false;
            if !more {
                break;
            }
        }
        if is_over || !seen.live {
            return Ok(());
        }
        watch.add_end(0, &dir);
        watch.next();
    }
}
