//! Hints that depend on more than the error.

use crate::claude::nearest_permission_mode;

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
