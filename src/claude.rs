//! The `claude` program: its path, arguments, environment, version and login.
//!
//! Its options, variables and files are described as observed with version 2.1.197.

mod account;
mod environment;
mod extra_args;
mod redacted_args;
mod sessions;
pub(crate) mod tested;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, fs, io};

use serde_json::Value;

use crate::hidden_verbs;
use crate::job::{Exit, JobId, Spec};

pub(crate) use account::account;
pub(crate) use environment::set_job_environment;
pub(crate) use extra_args::refusal_reason;
pub(crate) use redacted_args::redacted_arguments;
pub(crate) use sessions::session_file;

/// The option to give a continued session the present system prompt instead of the recorded one.
/// Versions of claude that do not know it do not record the system prompt.
pub(crate) const SYSTEM_PROMPT_SNAPSHOT: &str = "--system-prompt-snapshot";

/// Longest single argument: the kernel allows 32 pages, 128 KiB, including the terminating zero
pub(crate) const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// Timeout of `claude --help`.
const HELP_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of bytes of the help that are read.
const MAX_HELP_BYTES: usize = 256 << 10;

/// Environment variables. Tests can provide their own.
pub(crate) struct Env {
    variables: HashMap<OsString, OsString>,
}

impl Env {
    /// Returns this process's environment, with absolute paths in `HOME` and `CLAUDE_CONFIG_DIR`.
    pub(crate) fn own() -> Self {
        let mut variables = std::env::vars_os().collect();
        environment::make_paths_absolute(&mut variables);
        Self { variables }
    }

    /// Returns the value of a variable; `None` if it is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

/// Finds `claude` in `PATH` or where its installers put it. Returns an absolute path.
pub(crate) fn find(env: &Env) -> Option<PathBuf> {
    let path = env.get("PATH").cloned().unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let home = env.home();
    let in_home = [
        ".local/bin",
        ".claude/local",
        ".claude/bin",
        ".npm-global/bin",
        ".bun/bin",
        ".volta/bin",
        "node_modules/.bin",
    ];
    let in_home = in_home.iter().filter_map(|dir| Some(home.as_ref()?.join(dir)));
    let in_system = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"].map(PathBuf::from);
    on_path
        .chain(in_home)
        .chain(in_system)
        .map(|dir| dir.join("claude"))
        .find(|program| is_executable(program))
}

/// Returns whether this process may execute the file.
pub(crate) fn is_executable(program: &Path) -> bool {
    program.is_file() && nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok()
}

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

/// The source of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingsSource {
    /// A settings file.
    File(PathBuf),
    /// The job's `--settings`.
    Argument,
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

impl fmt::Display for SettingsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Argument => f.write_str("--settings"),
        }
    }
}

/// Finds the login that claude will use; `None` if there is none. The search is the CLI's, without
/// any request: the API may still refuse the login.
pub(crate) fn login(env: &Env, spec: &Spec) -> Option<LoginSource> {
    const VARIABLES: [&str; 13] = [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
        "ANTHROPIC_FOUNDRY_API_KEY",
        "CLAUDE_CODE_USE_ANTHROPIC_AWS",
        "CLAUDE_CODE_USE_MANTLE",
        "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
        "CLAUDE_CODE_USE_GATEWAY",
        "ANTHROPIC_IDENTITY_TOKEN_FILE",
    ];
    if let Some(name) = VARIABLES.into_iter().find(|name| env.get(name).is_some()) {
        return Some(LoginSource::Variable(name));
    }
    let config = env.get("CLAUDE_CONFIG_DIR").map(PathBuf::from);
    let in_config = config_dir(env);
    let credentials = in_config.as_ref().map(|dir| dir.join(".credentials.json"));
    if let Some(file) = credentials.filter(|file| file.is_file()) {
        return Some(LoginSource::Stored(file));
    }
    let state = config
        .map(|dir| dir.join(".claude.json"))
        .or_else(|| Some(env.home()?.join(".claude.json")));
    let names_login = |file: &PathBuf| {
        read_json(file).is_some_and(|state| {
            ["oauthAccount", "primaryApiKey"].iter().any(|key| is_set(state.get(key)))
        })
    };
    if let Some(file) = state.filter(names_login) {
        return Some(LoginSource::Stored(file));
    }
    let cwd = Path::new(&spec.cwd);
    let files = [
        in_config.map(|dir| dir.join("settings.json")),
        Some(cwd.join(".claude/settings.json")),
        Some(cwd.join(".claude/settings.local.json")),
        Some(PathBuf::from("/etc/claude-code/managed-settings.json")),
    ];
    let read = |file: PathBuf| Some((read_json(&file)?, SettingsSource::File(file)));
    let argument = spec.settings.as_deref().and_then(|settings| {
        serde_json::from_str(settings).ok().or_else(|| read_json(Path::new(settings)))
    });
    let argument = argument.map(|settings| (settings, SettingsSource::Argument));
    files.into_iter().flatten().filter_map(read).chain(argument).find_map(|(settings, source)| {
        if is_set(settings.get("apiKeyHelper")) {
            return Some(LoginSource::Helper(source));
        }
        let env = settings.get("env")?;
        let name = VARIABLES.into_iter().find(|name| is_set(env.get(name)))?;
        Some(LoginSource::Setting(name, source))
    })
}

/// Returns the directory of claude's settings, logins and sessions.
fn config_dir(env: &Env) -> Option<PathBuf> {
    let named = env.get("CLAUDE_CONFIG_DIR").map(PathBuf::from);
    named.or_else(|| Some(env.home()?.join(".claude")))
}

/// Inode, modification time and size of the file with the stored login: changes with every write.
pub(crate) type LoginStamp = (u64, i64, i64, u64);

/// Returns the stamp of the login that the CLI has stored for this process's environment; `None`
/// if there is none.
pub(crate) fn stored_login_stamp() -> Option<LoginStamp> {
    use std::os::unix::fs::MetadataExt;
    let env = Env::own();
    let dir = config_dir(&env)?;
    let metadata = fs::metadata(dir.join(".credentials.json")).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Returns whether claude will refuse to start: as root it does not skip permissions, unless a
/// variable says that it is in a sandbox.
pub(crate) fn refuses_root(env: &Env, spec: &Spec) -> bool {
    let skips = spec.permission_mode == "bypassPermissions"
        || spec.extra_args.iter().any(|arg| arg == "--dangerously-skip-permissions");
    let sandboxed = ["IS_SANDBOX", "CLAUDE_CODE_BUBBLEWRAP"]
        .iter()
        .any(|name| env.get(name).is_some_and(|value| value == "1" || value == "true"));
    skips && nix::unistd::geteuid().is_root() && !sandboxed
}

/// Returns the arguments for one run. The prompt is not among them: it goes to stdin, where its
/// length is not limited, no process list shows it, and it may begin with a dash.
pub(crate) fn arguments(spec: &Spec, session: &SessionStart<'_>) -> Vec<String> {
    let mut args: Vec<String> =
        ["-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]
            .map(str::to_owned)
            .to_vec();
    // Claude then reports when it takes in a message.
    args.push("--replay-user-messages".to_owned());
    let mut add = |flag: &str, value: &str| {
        args.push(flag.to_owned());
        args.push(value.to_owned());
    };
    match session {
        SessionStart::New(id) => add("--session-id", id),
        SessionStart::Resume { id, .. } => add("--resume", id),
    }
    add("--permission-mode", &spec.permission_mode);
    let max_turns = spec.max_turns.map(|n| n.to_string());
    let max_budget = spec.max_budget_usd.map(|usd| usd.to_string());
    let single = [
        ("--model", &spec.model),
        ("--fallback-model", &spec.fallback_model),
        ("--effort", &spec.effort),
        ("--append-system-prompt", &spec.append_system_prompt),
        ("--max-turns", &max_turns),
        ("--max-budget-usd", &max_budget),
        ("--json-schema", &spec.json_schema),
        ("--settings", &spec.settings),
    ];
    for (flag, value) in single {
        if let Some(value) = value {
            add(flag, value);
        }
    }
    // One argument with commas: the option takes any number of values, also the arguments after it.
    for (flag, tools) in
        [("--allowedTools", &spec.allowed_tools), ("--disallowedTools", &spec.disallowed_tools)]
    {
        if !tools.is_empty() {
            add(flag, &tools.join(","));
        }
    }
    for dir in &spec.add_dirs {
        add("--add-dir", dir);
    }
    for config in &spec.mcp_config {
        add("--mcp-config", config);
    }
    if spec.ask {
        // Not in claude's help, but used by its SDKs. Requests then arrive as `control_request`.
        args.extend(["--permission-prompt-tool", "stdio"].map(str::to_owned));
    }
    if let SessionStart::Resume { fork, .. } = session {
        if *fork {
            args.push("--fork-session".to_owned());
        }
        if spec.fresh_system_prompt {
            args.extend([SYSTEM_PROMPT_SNAPSHOT, "off"].map(str::to_owned));
        }
    }
    args.extend(spec.extra_args.iter().cloned());
    args
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
    output.lines().find_map(|line| {
        let word = line.split_whitespace().next()?;
        let mut parts = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
        let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let patch = rest.split(['-', '+']).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
    })
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
