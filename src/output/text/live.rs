//! How a job stands, on a line of the terminal that changes.

use std::io::{self, Write as _};

use unicode_width::UnicodeWidthStr;

use super::layout::fit;
use super::{DIM, doing, painted, waited};
use crate::clock;
use crate::commands::status::StatusAnswer;
use crate::text::{one_line, short};

/// The line that shows how a job stands while it is waited for; it disappears after that.
#[derive(Default)]
pub struct LiveLine {
    shown: bool,
}

impl LiveLine {
    /// Shows how the job stands now.
    pub fn show(&mut self, status: &StatusAnswer) {
        let now = clock::now();
        let doing = match (&status.waiting_for, &status.activity) {
            (Some(wait), _) => waited(wait),
            (None, Some(activity)) => doing(activity),
            (None, None) => String::new(),
        };
        let head = format!("{} {} {} ", status.job_id, status.status, short(status.age(now)));
        let width = terminal_size::terminal_size_of(io::stderr())
            .map_or(80, |(width, _)| usize::from(width.0));
        let rest = fit(&one_line(&doing, 200), width.saturating_sub(head.width() + 1));
        let mut err = anstream::stderr().lock();
        // The line is cleared first: it may have been longer.
        let _ = write!(err, "\r\x1b[2K{}{rest}", painted(DIM, &head));
        let _ = err.flush();
        self.shown = true;
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(anstream::stderr(), "\r\x1b[2K");
        }
    }
}
