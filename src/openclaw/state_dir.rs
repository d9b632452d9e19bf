//! The directory where OpenClaw keeps its configuration, skills and hooks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of the directory in the home directory, and the name that early versions used.
const NAME: &str = ".openclaw";
const EARLY_NAME: &str = ".clawdbot";

/// Returns OpenClaw's state directory in an environment, as OpenClaw finds it; `None` without a home
/// directory. A profile sets `OPENCLAW_STATE_DIR`; `OPENCLAW_PROFILE` alone changes nothing.
pub(crate) fn state_dir(get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let user_home = get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = match value(&get, "OPENCLAW_HOME") {
        // Only a path with `~` needs the other one.
        Some(home) => expanded(&home, &user_home.unwrap_or_default()),
        None => user_home?,
    };
    if let Some(dir) = value(&get, "OPENCLAW_STATE_DIR") {
        return Some(expanded(&dir, &home));
    }
    let early = home.join(EARLY_NAME);
    if early.exists() && !home.join(NAME).exists() {
        return Some(early);
    }
    Some(home.join(NAME))
}

/// Returns the value of a variable; `None` for those that OpenClaw regards as unset.
fn value(get: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<String> {
    let value = get(name)?.to_string_lossy().trim().to_owned();
    if ["", "undefined", "null"].contains(&value.as_str()) { None } else { Some(value) }
}

/// Returns the absolute path for one that may begin with `~`.
fn expanded(path: &str, home: &Path) -> PathBuf {
    let path = match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    };
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_variables_of_openclaw() {
        for (variables, expected) in [
            (&[][..], None),
            (&[("HOME", "/h")], Some("/h/.openclaw")),
            (&[("HOME", "/h"), ("OPENCLAW_PROFILE", "work")], Some("/h/.openclaw")),
            (&[("HOME", "/h"), ("OPENCLAW_HOME", " /o ")], Some("/o/.openclaw")),
            (&[("HOME", "/h"), ("OPENCLAW_HOME", "~/o")], Some("/h/o/.openclaw")),
            (&[("HOME", "/h"), ("OPENCLAW_HOME", "null")], Some("/h/.openclaw")),
            (&[("OPENCLAW_HOME", "/o")], Some("/o/.openclaw")),
            (&[("HOME", "/h"), ("OPENCLAW_STATE_DIR", "/s")], Some("/s")),
            (&[("HOME", "/h"), ("OPENCLAW_STATE_DIR", "~")], Some("/h")),
            (&[("HOME", "/h"), ("OPENCLAW_STATE_DIR", "~/s")], Some("/h/s")),
            (&[("HOME", "/h"), ("OPENCLAW_STATE_DIR", "")], Some("/h/.openclaw")),
        ] {
            let get = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(state_dir(get), expected.map(PathBuf::from), "{variables:?}");
        }
    }

    #[test]
    fn takes_the_directory_of_early_versions() {
        let home = tempfile::tempdir().unwrap();
        let get = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        std::fs::create_dir(home.path().join(EARLY_NAME)).unwrap();
        assert_eq!(state_dir(get), Some(home.path().join(EARLY_NAME)));
        std::fs::create_dir(home.path().join(NAME)).unwrap();
        assert_eq!(state_dir(get), Some(home.path().join(NAME)));
    }
}
