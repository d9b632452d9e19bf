//! Permission modes of claude.

use std::path::Path;
use std::time::Duration;

use super::info_command;

/// The modes of the tested versions, in the order of the alphabet.
pub(crate) const PERMISSION_MODES: [&str; 7] =
    ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "manual", "plan"];

/// Likeness, up to 1, from which a mode may be meant.
const MIN_LIKENESS: f64 = 0.7;
/// Time limit for the help of a program that may know other modes.
const HELP_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of bytes of the help that are read.
const MAX_HELP_BYTES: usize = 256 << 10;

/// Returns whether claude has a permission mode. Only for an unknown one its help is read: another
/// version may have added it.
pub(crate) fn has_permission_mode(program: &Path, mode: &str) -> bool {
    if PERMISSION_MODES.contains(&mode) {
        return true;
    }
    let help = crate::process::run_with_timeout(
        info_command(program, "--help"),
        None,
        HELP_TIMEOUT,
        MAX_HELP_BYTES,
    );
    help.is_ok_and(|(help, _)| is_listed(&String::from_utf8_lossy(&help), mode))
}

/// Returns the mode that was probably meant.
pub(crate) fn nearest_permission_mode(mode: &str) -> Option<&'static str> {
    let mode = mode.to_lowercase();
    let mut nearest = (MIN_LIKENESS, None);
    for known in PERMISSION_MODES {
        let likeness = strsim::jaro_winkler(&known.to_lowercase(), &mode);
        if likeness > nearest.0 {
            nearest = (likeness, Some(known));
        }
    }
    nearest.1
}

/// Returns whether the help lists the mode among the choices of its option.
fn is_listed(help: &str, mode: &str) -> bool {
    let Some((_, rest)) = help.split_once("--permission-mode") else { return false };
    // The choices may be wrapped; the next option begins with dashes.
    let option = rest.split("\n  -").next().unwrap_or_default();
    !mode.is_empty() && option.contains(&format!("\"{mode}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_choices_of_the_help() {
        let help = "  --model <m>  Model\n  --permission-mode <mode>  Mode (choices: \"plan\",\n\
                    \x20                 \"later\")\n  --plugin-dir \"dir\"  Plugins\n";
        for (mode, expected) in [("later", true), ("plan", true), ("dir", false), ("", false)] {
            assert_eq!(is_listed(help, mode), expected, "{mode}");
        }
        assert!(!is_listed("no option", "plan"));
    }

    #[test]
    fn finds_the_nearest_mode() {
        for (mode, nearest) in [
            ("acceptedits", Some("acceptEdits")),
            ("bypass", Some("bypassPermissions")),
            ("later", None),
            ("", None),
        ] {
            assert_eq!(nearest_permission_mode(mode), nearest, "{mode}");
        }
    }
}
