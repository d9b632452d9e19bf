//! The default jobs directory, and the option with which a command names another one.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::OnceLock;

use crate::text::{shell_quote, unquoted};

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

    /// Adds the option to a `claudejob` command, so that the command runs unchanged, and to those
    /// that its comment names, such as `# or: claudejob logs a`.
    pub(crate) fn apply(&self, command: String) -> String {
        let (Some(option), Some(rest)) = (&self.0, command.strip_prefix("claudejob ")) else {
            return command;
        };
        let mut text = format!("claudejob {option} ");
        let mut copied = 0;
        for at in unquoted(rest) {
            for start in [": claudejob ", "; claudejob "] {
                let begin = at + start.len();
                if rest.as_bytes()[at..].starts_with(start.as_bytes())
                    && !rest[begin..].starts_with("--jobs-dir ")
                {
                    text += &format!("{}{option} ", &rest[copied..begin]);
                    copied = begin;
                }
            }
        }
        text + &rest[copied..]
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
            "claudejob --jobs-dir '/an/o'\\''ther' wait a  # or: claudejob --jobs-dir '/an/o'\\''ther' logs a"
        );
        // The words of an agent stay as they are, and a command that is addressed, too.
        let labels =
            "answer a --choice 'it'\\''s'  # or: '; claudejob x'; claudejob --jobs-dir /b y";
        assert_eq!(
            addressed(Path::new("/b"), format!("claudejob {labels}")),
            format!("claudejob --jobs-dir '/b' {labels}")
        );
        let own = default_root(|name| env::var_os(name)).unwrap_or_default();
        if env::var_os(JOBS_DIR).is_none() {
            assert_eq!(addressed(&own, command()), command());
        }
    }
}
