//! Finds the login that claude will use, without the login itself.

use std::path::PathBuf;
use std::{fmt, fs};

use super::Env;
use super::settings::{PROVIDERS, Settings, SettingsSource, config_dir, read_state, set_value};
use crate::job::Spec;

/// Variables with a login, or with the place of one.
const CREDENTIALS: [&str; 6] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
    "ANTHROPIC_FOUNDRY_API_KEY",
    "ANTHROPIC_IDENTITY_TOKEN_FILE",
];

/// The source of claude's login, without the login itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoginSource {
    /// An environment variable.
    Variable(&'static str),
    /// A login that the CLI has stored in this file.
    Stored(PathBuf),
    /// A program that is named in settings.
    Helper(SettingsSource),
    /// A variable that is set in settings.
    Setting(&'static str, SettingsSource),
}

impl fmt::Display for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Stored(file) => write!(f, "a login stored in {}", file.display()),
            Self::Helper(settings) => write!(f, "apiKeyHelper of {settings}"),
            Self::Setting(name, settings) => write!(f, "{name} of {settings}"),
        }
    }
}

/// Finds the login that claude will use; `None` if there is none. The search is the CLI's, without
/// any request: the API may still refuse the login.
pub(crate) fn login(env: &Env, spec: &Spec) -> Option<LoginSource> {
    for name in variables() {
        if env.get(name).is_some() {
            return Some(LoginSource::Variable(name));
        }
    }
    if let Some(file) = credentials_file(env)
        && file.is_file()
    {
        return Some(LoginSource::Stored(file));
    }
    if let Some((file, state)) = read_state(env) {
        for key in ["oauthAccount", "primaryApiKey"] {
            if set_value(state.get(key)).is_some() {
                return Some(LoginSource::Stored(file));
            }
        }
    }
    for settings in Settings::read_all(env, spec) {
        if settings.get("apiKeyHelper").is_some() {
            return Some(LoginSource::Helper(settings.source));
        }
        for name in variables() {
            if settings.variable(name).is_some() {
                return Some(LoginSource::Setting(name, settings.source));
            }
        }
    }
    None
}

/// Returns the variables that each give claude a login.
fn variables() -> impl Iterator<Item = &'static str> {
    CREDENTIALS.into_iter().chain(PROVIDERS)
}

fn credentials_file(env: &Env) -> Option<PathBuf> {
    Some(config_dir(env)?.join(".credentials.json"))
}

/// Inode, modification time and size of the file with the stored login: changes with every write.
pub(crate) type LoginStamp = (u64, i64, i64, u64);

/// Returns the stamp of the login that the CLI has stored for this process's environment; `None`
/// if there is none.
pub(crate) fn stored_login_stamp() -> Option<LoginStamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(credentials_file(&Env::own())?).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}
