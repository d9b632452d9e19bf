//! Hints that depend on more than the error.

use crate::claude::nearest_permission_mode;
use crate::text::shell_word;

/// Length of the longest path that Linux accepts.
const MAX_PATH_BYTES: usize = 4096;

/// Returns a command that shows what is at this path. A longer one than any directory has is not
/// repeated.
pub(super) fn bad_cwd_hint(path: &str) -> String {
    let shown = if path.len() < MAX_PATH_BYTES { &shell_word(path) } else { "." };
    format!("ls -ld {shown}  # make the directory, or start a job with --cwd in another one")
}

pub(super) fn session_gone_hint(id: &str, recoverable: bool) -> String {
    if recoverable {
        format!("claudejob recover {id}  # starts again from the prompt")
    } else {
        format!(
            "claudejob rerun {id}  # a new job with the same prompt; its answer: \
            claudejob result {id}"
        )
    }
}

pub(super) fn with_nearest_mode(help: &str, mode: &str) -> String {
    match nearest_permission_mode(mode) {
        Some(nearest) => format!("{help}  # did you mean {nearest}?"),
        None => help.to_owned(),
    }
}
