//! The environment of a job: the caller's environment with absolute paths, and without the
//! variables of a Claude session in which the caller runs.
//!
//! The lists contain the variables that the Bash tools of 2.1.197 and 2.1.332 add to claude's
//! environment, and those that the documentation of hooks and plugins names.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use super::Env;
use crate::process;

/// Variables that a Claude session sets for its children, and that a user has no reason to set.
pub(super) const SESSION_VARIABLES: [&str; 22] = [
    "AI_AGENT",
    "CLAUDECODE",
    "CLAUDE_CODE_CHILD_NOTES_DIR",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_MESSAGING_SOCKET",
    "CLAUDE_CODE_MESSAGING_TOKEN",
    "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST",
    "CLAUDE_CODE_SESSION_ATTENDED",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_CODE_TOOL_USE_ID",
    "CLAUDE_EFFORT",
    "CLAUDE_ENV_FILE",
    "CLAUDE_JOB_DIR",
    "CLAUDE_PID",
    "CLAUDE_PLUGIN_DATA",
    "CLAUDE_PLUGIN_ROOT",
    "CLAUDE_PROJECT_DIR",
    "CLAUDE_SESSION_ID",
    "CLAUDE_SKILL_DIR",
];

/// Prefixes of variables that belong to a session in any version. They are removed only within a
/// session: otherwise a user may have set them.
const SESSION_PREFIXES: [&str; 12] = [
    "CLAUDE_BG_",
    "CLAUDE_BRIDGE_",
    "CLAUDE_CODE_BRIDGE_",
    "CLAUDE_CODE_CHILD_",
    "CLAUDE_CODE_DESKTOP_",
    "CLAUDE_CODE_HOST_",
    "CLAUDE_CODE_MESSAGING_",
    "CLAUDE_CODE_RELAUNCH_",
    "CLAUDE_CODE_REMOTE_SESSION_",
    "CLAUDE_CODE_SESSION_",
    "CLAUDE_PLUGIN_",
    "CLAUDE_RUNNER_",
];

/// Variables that the Bash tool sets for its commands, with their values. They are removed only
/// within a session.
const TOOL_SETTINGS: [(&str, &str); 3] = [
    ("COREPACK_ENABLE_AUTO_PIN", "0"),
    ("GIT_EDITOR", "true"),
    ("NoDefaultCurrentDirectoryInExePath", "1"),
];

/// Prefixes of variables that users set, also in the `env` of claude's settings. From there they
/// reach the Bash tool as if the session had set them.
const USER_SETTINGS: [&str; 17] = [
    "CLAUDE_CODE_API_KEY_",
    "CLAUDE_CODE_AUTO_",
    "CLAUDE_CODE_CLIENT_",
    "CLAUDE_CODE_DISABLE_",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_ENABLE_",
    "CLAUDE_CODE_EXTRA_",
    "CLAUDE_CODE_GATEWAY_",
    "CLAUDE_CODE_GIT_BASH_PATH",
    "CLAUDE_CODE_MAX_",
    "CLAUDE_CODE_OAUTH_",
    "CLAUDE_CODE_SHELL",
    "CLAUDE_CODE_SKIP_",
    "CLAUDE_CODE_SUBAGENT_",
    "CLAUDE_CODE_TMPDIR",
    "CLAUDE_CODE_USE_",
    "CLAUDE_CONFIG_DIR",
];

/// Prefix of this program's variables.
const OWN_SETTINGS: &str = "CLAUDE_SKILL_";

/// Variables whose paths are made absolute, because the job works in another directory.
const PATHS: [&str; 2] = ["HOME", "CLAUDE_CONFIG_DIR"];

/// Makes the paths in the caller's variables absolute.
pub(super) fn make_paths_absolute(variables: &mut HashMap<OsString, OsString>) {
    for name in PATHS {
        let Some(value) = variables.get_mut(OsStr::new(name)) else { continue };
        if !value.is_empty()
            && Path::new(value).is_relative()
            && let Ok(path) = std::path::absolute(&*value)
        {
            *value = path.into_os_string();
        }
    }
}

/// Sets the environment of a job on its worker's command: see the module.
pub(crate) fn set_job_environment(command: &mut Command, env: &Env) {
    for name in session_variables(env) {
        command.env_remove(name);
    }
    for name in PATHS {
        if let Some(path) = env.get(name) {
            command.env(name, path);
        }
    }
    for name in &env.profile_variables {
        if let Some(value) = env.variables.get(name) {
            command.env(name, value);
        }
    }
}

/// Sets the working directory. Removes the known variables of a session and of the caller's
/// directory.
pub(super) fn enter_directory(command: &mut Command, cwd: &str) {
    for name in SESSION_VARIABLES {
        command.env_remove(name);
    }
    command.env_remove("OLDPWD").env("PWD", cwd).current_dir(cwd);
}

/// Returns the variables that the caller's session has set.
fn session_variables(env: &Env) -> Vec<OsString> {
    let is_in_session = env.get("CLAUDECODE").is_some();
    let session = if is_in_session { CallerSession::find(env) } else { None };
    let mut found = Vec::new();
    for (name, value) in &env.variables {
        let Some(text) = name.to_str() else { continue };
        if SESSION_VARIABLES.contains(&text)
            || is_in_session && is_set_by_any_session(text, value)
            || matches!(&session, Some(session) if session.has_set(text, value))
        {
            found.push(name.clone());
        }
    }
    found
}

/// Returns whether the variable belongs to a session, in which the caller must be.
fn is_set_by_any_session(name: &str, value: &OsStr) -> bool {
    has_prefix(name, &SESSION_PREFIXES)
        || TOOL_SETTINGS.iter().any(|setting| name == setting.0 && value == setting.1)
}

fn has_prefix(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The environments of the caller's session.
struct CallerSession {
    /// The environment of its claude.
    claude_env: HashMap<OsString, OsString>,
    /// The environment that its claude gave to the ancestor of the caller.
    child_env: HashMap<OsString, OsString>,
}

impl CallerSession {
    /// Finds the session's claude among the ancestors of this process. `None` if it is not among
    /// them or cannot be inspected.
    fn find(env: &Env) -> Option<Self> {
        let program = Path::new(env.get("CLAUDE_CODE_EXECPATH")?);
        let (claude, child) = process::ancestor_running(program)?;
        let claude_env = process::environment(claude)?;
        let child_env = process::environment(child)?;
        Some(Self { claude_env, child_env })
    }

    /// Returns whether claude has set the variable and nothing has changed it since. This finds the
    /// variables of versions that are newer than our lists.
    fn has_set(&self, name: &str, value: &OsStr) -> bool {
        let is_user_setting = has_prefix(name, &USER_SETTINGS) || name.starts_with(OWN_SETTINGS);
        let name = OsStr::new(name);
        name.as_encoded_bytes().starts_with(b"CLAUDE_")
            && !is_user_setting
            && !self.claude_env.contains_key(name)
            && self.child_env.get(name).map(OsString::as_os_str) == Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> HashMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn marks(pairs: &[(&str, &str)]) -> Vec<String> {
        let env = Env { variables: variables(pairs), ..Env::default() };
        let mut marks = session_variables(&env);
        marks.sort();
        marks.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn keeps_settings_of_the_user() {
        let settings = [
            ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "9000"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "t"),
            ("CLAUDE_CODE_USE_BEDROCK", "1"),
            ("CLAUDE_CONFIG_DIR", "/c"),
            ("CLAUDE_SKILL_JOBS_DIR", "/j"),
            ("GIT_EDITOR", "vi"),
            ("PATH", "/bin"),
        ];
        assert!(marks(&settings).is_empty());
        let in_session = [&settings[..], &[("CLAUDECODE", "1")]].concat();
        assert_eq!(marks(&in_session), ["CLAUDECODE"]);
    }

    #[test]
    fn removes_prefixes_only_within_a_session() {
        let kinds = [("CLAUDE_CODE_SESSION_NEW", "x"), ("GIT_EDITOR", "true")];
        assert!(marks(&kinds).is_empty());
        let in_session = [&kinds[..], &[("CLAUDECODE", "1")]].concat();
        assert_eq!(marks(&in_session), ["CLAUDECODE", "CLAUDE_CODE_SESSION_NEW", "GIT_EDITOR"]);
    }

    #[test]
    fn recognizes_variables_of_newer_versions() {
        let claude_env = variables(&[("CLAUDE_OLD", "1")]);
        let child_env = variables(&[
            ("CLAUDE_OLD", "1"),
            ("CLAUDE_NEW", "1"),
            ("CLAUDE_CODE_USE_VERTEX", "1"),
            ("OTHER", "1"),
        ]);
        let session = CallerSession { claude_env, child_env };
        for (name, value, set) in [
            ("CLAUDE_NEW", "1", true),
            ("CLAUDE_NEW", "changed in the shell", false),
            ("CLAUDE_OLD", "1", false),
            ("CLAUDE_CODE_USE_VERTEX", "1", false),
            ("CLAUDE_EXPORTED", "1", false),
            ("OTHER", "1", false),
        ] {
            assert_eq!(session.has_set(name, OsStr::new(value)), set, "{name}={value}");
        }
    }

    #[test]
    fn makes_relative_paths_absolute() {
        let mut found = variables(&[("HOME", "home"), ("CLAUDE_CONFIG_DIR", "/c"), ("X", "y")]);
        make_paths_absolute(&mut found);
        let home = std::env::current_dir().unwrap().join("home").into_os_string();
        assert_eq!(found[OsStr::new("HOME")], home);
        assert_eq!(found[OsStr::new("CLAUDE_CONFIG_DIR")], "/c");
        assert_eq!(found[OsStr::new("X")], "y");
    }
}
