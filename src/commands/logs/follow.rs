//! `logs --follow`: on and on until the job has ended.

use super::{LogsAnswer, Request, part};
use crate::commands::seen::look;
use crate::commands::watch::Changes;
use crate::error::Error;
use crate::store::Store;

/// Gives the part of the log that was asked for, and then what is added, until the job has ended
/// and all was given, or `give` says false.
pub fn follow(
    store: &Store,
    request: &Request,
    mut give: impl FnMut(&LogsAnswer) -> bool,
) -> Result<(), Error> {
    let mut request = request.clone();
    // Watched before the first look, so that nothing falls between the two.
    let mut changes = Changes::of(store.job(&request.id).path());
    let mut first = true;
    loop {
        let seen = look(store, &request.id)?;
        loop {
            let answer = part(&seen, &request)?;
            let more = answer.truncated && request.since.is_some();
            request.since = Some(answer.next_offset);
            // Lines that say nothing are passed over; the next part goes on behind them.
            if (!answer.tail.is_empty() || first) && !give(&answer) {
                return Ok(());
            }
            first = false;
            if !more {
                break;
            }
        }
        if !seen.live {
            return Ok(());
        }
        changes.wait(None);
    }
}
