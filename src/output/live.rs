//! A line on the terminal that shows the progress of a job.

use std::io::{self, Write as _};

use unicode_width::UnicodeWidthStr;

use super::layout::fit;
use super::text::{DIM, activity_text, painted, wait_reason};
use crate::clock;
use crate::job::StatusView;
use crate::text::{format_duration, one_line};

/// The line that shows a job's status during `wait`. It is cleared when dropped.
#[derive(Default)]
pub(crate) struct LiveLine {
    shown: bool,
}

impl LiveLine {
    /// Shows the job's current status.
    pub(crate) fn show(&mut self, status: &StatusView) {
        let now = clock::now();
        let now_text = match (&status.waiting_for, &status.activity) {
            (Some(wait), _) => wait_reason(wait),
            (None, Some(activity)) => activity_text(activity),
            (None, None) => String::new(),
        };
        let head =
            format!("{} {} {} ", status.job_id, status.status, format_duration(status.age(now)));
        let width = terminal_size::terminal_size_of(io::stderr())
            .map_or(80, |(width, _)| usize::from(width.0));
        let rest = fit(&one_line(&now_text, 200), width.saturating_sub(head.width() + 1));
        let mut err = anstream::stderr().lock();
        // Clear the line first: the previous text may have been longer.
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
