//! The default jobs directory, and the option with which a command names another one.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::OnceLock;

use crate::text::shell_quote;

/// Environment variable that names the jobs directory.
pub(crate) const JOBS_DIR: &str = "CLAUDE_SKILL_JOBS_DIR";

/// The jobs directory that the user's configuration file names.
static CONFIGURED: OnceLock<PathBuf> = OnceLock::new();

/// Sets the jobs directory of calls for which no option and no variable names one.
pub(crate) fn set_configured_root(root: PathBuf) {
    // Only the first call of a process counts, and there is one.
    let _ = CONFIGURED.set(root);
}

/// Returns the jobs directory of a user for whom no option and no variable names one.
pub(crate) fn default_root(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(state) = non_empty(variable("XDG_STATE_HOME"))
        && state.is_absolute()
    {
        return Some(state.join("claudejob/jobs"));
    }
    Some(non_empty(variable("HOME"))?.join(".local/state/claudejob/jobs"))
}

fn non_empty(value: Option<OsString>) -> Option<PathBuf> {
    let value = value?;
    if value.is_empty() { None } else { Some(value.into()) }
}

/// The option with which a command reaches a jobs directory, if it needs one.
#[derive(Clone, Debug)]
pub(crate) struct Address(Option<String>);

impl Address {
    /// Returns the address of the jobs directory `root`: `--jobs-dir` if the environment leads to
    /// another one.
    pub(crate) fn of(root: &Path) -> Self {
        let found = match non_empty(env::var_os(JOBS_DIR)) {
            Some(named) => Some(named),
            None => match CONFIGURED.get() {
                Some(configured) => Some(configured.clone()),
                None => default_root(|name| env::var_os(name)),
            },
        };
        Self::unless_at(found, root)
    }

    /// Returns the address of `root` for a reader whose jobs directory is `found`.
    fn unless_at(found: Option<PathBuf>, root: &Path) -> Self {
        if let Some(found) = found
            && is_same(&found, root)
        {
            return Self(None);
        }
        Self(root.to_str().map(|root| format!("--jobs-dir {}", shell_quote(root))))
    }

    /// Adds the option to a `claudejob` command, so that the command runs unchanged.
    pub(crate) fn apply(&self, command: String) -> String {
        match (&self.0, command.strip_prefix("claudejob ")) {
            (Some(option), Some(rest)) => format!("claudejob {option} {rest}"),
            _ => command,
        }
    }
}

/// Adds `--jobs-dir` to a `claudejob` command where it is needed to reach the directory `root`.
pub(crate) fn addressed(root: &Path, command: String) -> String {
    Address::of(root).apply(command)
}

/// The same for a reader whose variables and configuration file are unknown.
pub(crate) fn addressed_from_anywhere(root: &Path, command: String) -> String {
    let default = default_root(|name| if name == "HOME" { env::var_os(name) } else { None });
    Address::unless_at(default, root).apply(command)
}

fn is_same(one: &Path, other: &Path) -> bool {
    are_equal(path::absolute(one), path::absolute(other))
        || are_equal(one.canonicalize(), other.canonicalize())
}

fn are_equal(one: io::Result<PathBuf>, other: io::Result<PathBuf>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_jobs_dir_if_the_environment_does_not_name_it() {
        let command = || "claudejob wait a  # or: claudejob logs a".to_owned();
        assert_eq!(
            addressed(Path::new("/an/o'ther"), command()),
            "claudejob --jobs-dir '/an/o'\\''ther' wait a  # or: claudejob logs a"
        );
        let own = default_root(|name| env::var_os(name)).unwrap_or_default();
        if env::var_os(JOBS_DIR).is_none() {
            assert_eq!(addressed(&own, command()), command());
        }
    }
}
