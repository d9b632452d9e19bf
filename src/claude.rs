//! The `claude` program: its path, arguments, environment, version and login.
//!
//! Its options, variables and files are described as observed with version 2.1.197.

mod account;
mod environment;
mod extra_args;
mod login;
mod permission_mode;
mod profile;
mod redacted_args;
mod sessions;
mod settings;
pub(crate) mod tested;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::hidden_verbs;
use crate::job::{ClaudeOptions, Exit, JobId, Spec};

pub(crate) use account::account;
pub(crate) use environment::set_job_environment;
pub(crate) use extra_args::refusal_reason;
pub(crate) use login::{LoginSource, LoginStamp, login, stored_login_stamp};
pub(crate) use permission_mode::{PERMISSION_MODES, has_permission_mode, nearest_permission_mode};
pub(crate) use profile::{Profile, ProfileError, is_variable_name};
pub(crate) use redacted_args::redacted_arguments;
pub(crate) use sessions::session_file;
pub(crate) use settings::config_dir;

/// The option to give a continued session the present system prompt instead of the recorded one.
/// Versions of claude that do not know it do not record the system prompt.
pub(crate) const SYSTEM_PROMPT_SNAPSHOT: &str = "--system-prompt-snapshot";

/// Arguments of every run. With the last one claude reports when it takes in a message.
const STREAM_ARGS: [&str; 7] = [
    "-p",
    "--output-format",
    "stream-json",
    "--input-format",
    "stream-json",
    "--verbose",
    "--replay-user-messages",
];
/// Longest single argument: the kernel allows 32 pages, 128 KiB, including the terminating zero
pub(crate) const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// Timeout of `claude --help`.
const HELP_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of bytes of the help that are read.
const MAX_HELP_BYTES: usize = 256 << 10;

/// Environment variables, and profiles that can replace some of them. Tests can provide their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    variables: HashMap<OsString, OsString>,
    /// Names of the variables that a profile has set.
    profile_variables: Vec<OsString>,
    profiles: BTreeMap<String, Profile>,
}

impl Env {
    /// Returns this process's environment, with absolute paths in `HOME` and `CLAUDE_CONFIG_DIR`.
    pub(crate) fn own() -> Self {
        let mut variables = std::env::vars_os().collect();
        environment::make_paths_absolute(&mut variables);
        Self { variables, ..Self::default() }
    }

    /// Returns this process's environment and the profiles of the user's configuration.
    pub(crate) fn own_with(profiles: BTreeMap<String, Profile>) -> Self {
        Self { profiles, ..Self::own() }
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), ..Self::default() }
    }

    /// Returns the value of a variable; `None` if it is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        let value = self.variables.get(OsStr::new(name))?;
        if value.is_empty() { None } else { Some(value) }
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

/// Directories below the home directory into which installers put claude.
const HOME_DIRS: [&str; 7] = [
    ".local/bin",
    ".claude/local",
    ".claude/bin",
    ".npm-global/bin",
    ".bun/bin",
    ".volta/bin",
    "node_modules/.bin",
];
/// The same for the whole machine.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"];

/// Finds `claude` in `PATH` or where its installers put it. Returns an absolute path.
pub(crate) fn find(env: &Env) -> Option<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(home) = env.home() {
        dirs.extend(HOME_DIRS.map(|dir| home.join(dir)));
    }
    dirs.extend(SYSTEM_DIRS.map(PathBuf::from));
    find_program("claude", env, &dirs)
}

/// Finds a program in the absolute directories of `PATH` or in one of `more` directories.
pub(crate) fn find_program(name: &str, env: &Env, more: &[PathBuf]) -> Option<PathBuf> {
    let path = env.get("PATH").cloned().unwrap_or_default();
    if let Some(program) = programs_on_path(name, path).find(|program| program.is_absolute()) {
        return Some(program);
    }
    more.iter().map(|dir| dir.join(name)).find(|program| is_executable(program))
}

/// Returns the programs of this name in the directories of `path`, a value of `PATH`.
pub(crate) fn programs_on_path(
    name: impl AsRef<OsStr>,
    path: OsString,
) -> impl Iterator<Item = PathBuf> {
    which::which_in_global(name, Some(path)).into_iter().flatten()
}

/// Returns whether this process may execute the file.
pub(crate) fn is_executable(program: &Path) -> bool {
    program.is_file() && nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Returns whether claude will refuse to start: as root it does not skip permissions, unless a
/// variable says that it is in a sandbox.
pub(crate) fn refuses_root(env: &Env, spec: &Spec) -> bool {
    for name in ["IS_SANDBOX", "CLAUDE_CODE_BUBBLEWRAP"] {
        if matches!(env.get(name), Some(value) if value == "1" || value == "true") {
            return false;
        }
    }
    let skips = spec.options.permission_mode == "bypassPermissions"
        || spec.options.extra_args.iter().any(|arg| arg == "--dangerously-skip-permissions");
    skips && nix::unistd::geteuid().is_root()
}

/// Returns the arguments for one run. The prompt is not among them: it goes to stdin, where its
/// length is not limited, no process list shows it, and it may begin with a dash.
pub(crate) fn arguments(spec: &Spec, session: &SessionStart<'_>) -> Vec<String> {
    let mut args = Vec::new();
    for arg in STREAM_ARGS {
        args.push(arg.to_owned());
    }
    match session {
        SessionStart::New(id) => add_option(&mut args, "--session-id", id),
        SessionStart::Resume { id, .. } => add_option(&mut args, "--resume", id),
    }
    add_options(&mut args, spec);
    if let SessionStart::Resume { fork, .. } = session {
        if *fork {
            args.push("--fork-session".to_owned());
        }
        if spec.session.fresh_system_prompt {
            add_option(&mut args, SYSTEM_PROMPT_SNAPSHOT, "off");
        }
    }
    args.extend_from_slice(&spec.options.extra_args);
    args
}

/// Adds the options that do not depend on the session.
fn add_options(args: &mut Vec<String>, spec: &Spec) {
    // Every field is named, so that the compiler notices an option that is not passed on. The extra
    // arguments come last.
    let ClaudeOptions {
        model,
        effort,
        fallback_model,
        permission_mode,
        allowed_tools,
        disallowed_tools,
        add_dirs,
        append_system_prompt,
        json_schema,
        mcp_config,
        settings,
        extra_args: _,
    } = &spec.options;
    add_option(args, "--permission-mode", permission_mode);
    let max_turns = spec.limits.max_turns.map(|n| n.to_string());
    let max_budget = spec.limits.max_budget_usd.map(|usd| usd.to_string());
    for (flag, value) in [
        ("--model", model),
        ("--fallback-model", fallback_model),
        ("--effort", effort),
        ("--append-system-prompt", append_system_prompt),
        ("--max-turns", &max_turns),
        ("--max-budget-usd", &max_budget),
        ("--json-schema", json_schema),
        ("--settings", settings),
    ] {
        if let Some(value) = value {
            add_option(args, flag, value);
        }
    }
    // One argument with commas: the option takes any number of values, also the arguments after it.
    for (flag, tools) in
        [("--allowedTools", allowed_tools), ("--disallowedTools", disallowed_tools)]
    {
        if !tools.is_empty() {
            add_option(args, flag, &tools.join(","));
        }
    }
    for dir in add_dirs {
        add_option(args, "--add-dir", dir);
    }
    for config in mcp_config {
        add_option(args, "--mcp-config", config);
    }
    if spec.ask.enabled {
        // Not in claude's help, but used by its SDKs. Requests then arrive as `control_request`.
        add_option(args, "--permission-prompt-tool", "stdio");
    }
}

fn add_option(args: &mut Vec<String>, flag: &str, value: &str) {
    args.push(flag.to_owned());
    args.push(value.to_owned());
}

/// The session of a run of claude.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionStart<'a> {
    /// A new session with this id.
    New(&'a str),
    /// An existing session to continue.
    Resume {
        id: &'a str,
        /// Continue a copy with another id, and leave the session unchanged.
        fork: bool,
    },
}

/// Returns the command for one run: program, arguments, working directory, and the worker's
/// environment with the job's variables.
pub(crate) fn command(
    spec: &Spec,
    id: &JobId,
    job_dir: &Path,
    session: &SessionStart<'_>,
) -> Command {
    let mut command = match &spec.replay {
        None => {
            let mut command = Command::new(&spec.claude);
            command.args(arguments(spec, session));
            command
        }
        Some(replay) => {
            let mut command = Command::new(own_executable());
            command.arg(hidden_verbs::REPLAY).arg("--speed").arg(replay.speed.to_string());
            command.args(replay.file.iter());
            command
        }
    };
    environment::enter_directory(&mut command, &spec.cwd);
    command.env("CLAUDEJOB_ID", id.as_str());
    crate::process::set_marker(&mut command, job_dir);
    command
}

/// Returns the command that continues a session for a person, in the job's directory and
/// environment.
pub(crate) fn interactive_command(spec: &Spec, session: &str, env: &Env) -> Command {
    let mut command = Command::new(&spec.claude);
    command.args(["--resume", session]);
    set_job_environment(&mut command, env);
    environment::enter_directory(&mut command, &spec.cwd);
    command
}

/// Result of calling a program with `--version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VersionOutput {
    /// The printed text.
    Printed(String),
    /// The program failed; with its exit status and output.
    Failed(Exit, String),
    /// The program was ended because it did not answer in time.
    TimedOut,
}

/// Returns the command that calls a program with one option, such as `--version`.
fn info_command(program: &Path, option: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(option);
    for name in environment::SESSION_VARIABLES {
        command.env_remove(name);
    }
    // The call must have no effect, such as an update of the program.
    command.env("DISABLE_AUTOUPDATER", "1");
    command
}

/// Returns whether the help of a program names the option. Claude fails on unknown options, and it
/// is not known for each option which version added it. The call takes about 0.3 s.
pub(crate) fn supports_option(program: &Path, option: &str) -> bool {
    let output = crate::process::run_with_timeout(
        info_command(program, "--help"),
        None,
        HELP_TIMEOUT,
        MAX_HELP_BYTES,
    );
    output.is_ok_and(|(output, _)| memchr::memmem::find(&output, option.as_bytes()).is_some())
}

/// Calls a program with `--version`. The error says why it could not be run.
pub(crate) fn version(program: &Path, timeout: Duration) -> io::Result<VersionOutput> {
    let (output, exit) = crate::process::run_with_timeout(
        info_command(program, "--version"),
        None,
        timeout,
        16 << 10,
    )?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(match exit {
        None => VersionOutput::TimedOut,
        Some(exit) if exit.code == Some(0) => VersionOutput::Printed(output),
        Some(exit) => VersionOutput::Failed(exit, output),
    })
}

/// Parses a version as claude prints it: `2.1.197 (Claude Code)`. Lines before it, such as a
/// warning of its runtime, are skipped.
pub(crate) fn parse_version(output: &str) -> Option<(u64, u64, u64)> {
    output.lines().find_map(version_in_line)
}

fn version_in_line(line: &str) -> Option<(u64, u64, u64)> {
    let word = line.split_whitespace().next()?;
    let mut parts = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
    let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let patch = rest.split(['-', '+']).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
}

/// Returns the path of this program, also while its file is being replaced.
pub(crate) fn own_executable() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

#[cfg(test)]
mod tests;
