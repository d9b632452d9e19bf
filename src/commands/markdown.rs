//! Parts of answers as Markdown, for a summary or a comment.

use crate::job::JobId;
use crate::text::harmless;

/// Returns the heading of a job.
pub(super) fn heading(id: &JobId, status: &str) -> String {
    format!("### {status}: {id}\n")
}

/// Returns a job for which the call failed.
pub(super) fn failed(id: &JobId, error: &str) -> String {
    format!("{}\n{}", heading(id, "error"), quotation(error))
}

/// Returns a text as a quotation.
pub(super) fn quotation(text: &str) -> String {
    harmless(text).lines().map(|line| format!("> {line}\n")).collect()
}
