//! The `claude` program: where it is, what it is given, and whether it can log in.
//!
//! What is said here about its flags, variables and files was seen with version 2.1.197.

mod account;
mod environment;
mod extra_args;
mod sessions;
mod shown_args;
pub mod tested;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fmt, fs, io};

use serde_json::Value;

use crate::job::{Exit, JobId, Spec};

pub use account::account;
pub use environment::set_environment;
pub use extra_args::refusal;
pub use sessions::session_file;
pub use shown_args::shown as shown_arguments;

/// The option by which a continued session gets the system prompt that it is given now, instead of
/// the recorded one. Claudes that do not know it record none.
pub const SYSTEM_PROMPT_SNAPSHOT: &str = "--system-prompt-snapshot";

/// The longest single argument: the kernel allows 32 pages, 128 KiB, with the closing zero
/// (`MAX_ARG_STRLEN`, execve(2)).
pub const ARGUMENT_MOST: usize = 128 * 1024 - 1;

/// How long `--help` may take.
const HELP_TAKES: Duration = Duration::from_secs(10);
/// Bytes of it that are read.
const HELP_READ: usize = 256 << 10;

/// What a process's surroundings tell, asked through one door so that tests can tell other
/// things.
pub struct Surroundings {
    variables: HashMap<OsString, OsString>,
}

impl Surroundings {
    /// This process's own, with a relative `HOME` or `CLAUDE_CONFIG_DIR` made absolute.
    pub fn own() -> Self {
        let mut variables = std::env::vars_os().collect();
        environment::make_paths_absolute(&mut variables);
        Self { variables }
    }

    /// The value of a variable; `None` where it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

/// Finds `claude`: on PATH, then where its installers put it. The path is absolute.
pub fn find(around: &Surroundings) -> Option<PathBuf> {
    let path = around.get("PATH").cloned().unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let home = around.home();
    let in_home = [
        ".local/bin",
        ".claude/local",
        ".claude/bin",
        ".npm-global/bin",
        ".bun/bin",
        ".volta/bin",
        "node_modules/.bin",
    ];
    let in_home = in_home.iter().filter_map(|folder| Some(home.as_ref()?.join(folder)));
    let elsewhere = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"].map(PathBuf::from);
    on_path
        .chain(in_home)
        .chain(elsewhere)
        .map(|folder| folder.join("claude"))
        .find(|program| is_executable(program))
}

/// Whether the file can be run by us.
pub fn is_executable(program: &Path) -> bool {
    program.is_file() && nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Where claude finds its login. It names the place, and never what lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// This variable.
    Variable(&'static str),
    /// A login that the CLI has stored in this file.
    Stored(PathBuf),
    /// A program that settings name.
    Helper(Settings),
    /// A variable that settings set.
    Setting(&'static str, Settings),
}

/// Which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// Those of this file.
    File(PathBuf),
    /// Those that the job was given.
    Given,
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Stored(file) => write!(f, "a login stored in {}", file.display()),
            Self::Helper(settings) => write!(f, "apiKeyHelper of {settings}"),
            Self::Setting(name, settings) => write!(f, "{name} of {settings}"),
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Given => f.write_str("--settings"),
        }
    }
}

/// The way in which claude will log in; `None` if there is none. It looks where the CLI looks,
/// without asking anybody: a login that is there can still be refused.
pub fn login(around: &Surroundings, spec: &Spec) -> Option<Login> {
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
    if let Some(name) = VARIABLES.into_iter().find(|name| around.get(name).is_some()) {
        return Some(Login::Variable(name));
    }
    let config = around.get("CLAUDE_CONFIG_DIR").map(PathBuf::from);
    let in_config = config_dir(around);
    let credentials = in_config.as_ref().map(|folder| folder.join(".credentials.json"));
    if let Some(file) = credentials.filter(|file| file.is_file()) {
        return Some(Login::Stored(file));
    }
    let state = config
        .map(|folder| folder.join(".claude.json"))
        .or_else(|| Some(around.home()?.join(".claude.json")));
    let names_login = |file: &PathBuf| {
        read_json(file).is_some_and(|state| {
            ["oauthAccount", "primaryApiKey"].iter().any(|key| is_set(state.get(key)))
        })
    };
    if let Some(file) = state.filter(names_login) {
        return Some(Login::Stored(file));
    }
    let cwd = Path::new(&spec.cwd);
    let files = [
        in_config.map(|folder| folder.join("settings.json")),
        Some(cwd.join(".claude/settings.json")),
        Some(cwd.join(".claude/settings.local.json")),
        Some(PathBuf::from("/etc/claude-code/managed-settings.json")),
    ];
    let read = |file: PathBuf| Some((read_json(&file)?, Settings::File(file)));
    let given = spec.settings.as_deref().and_then(|settings| {
        serde_json::from_str(settings).ok().or_else(|| read_json(Path::new(settings)))
    });
    let given = given.map(|settings| (settings, Settings::Given));
    files.into_iter().flatten().filter_map(read).chain(given).find_map(|(settings, whose)| {
        if is_set(settings.get("apiKeyHelper")) {
            return Some(Login::Helper(whose));
        }
        let env = settings.get("env")?;
        let name = VARIABLES.into_iter().find(|name| is_set(env.get(name)))?;
        Some(Login::Setting(name, whose))
    })
}

/// Where claude keeps its settings, logins and conversations.
fn config_dir(env: &Surroundings) -> Option<PathBuf> {
    let named = env.get("CLAUDE_CONFIG_DIR").map(PathBuf::from);
    named.or_else(|| Some(env.home()?.join(".claude")))
}

/// What changes when the file of the stored login is replaced or written.
pub type LoginStamp = (u64, i64, i64, u64);

/// The stamp of the login that the CLI has stored for this process's environment; `None` if there
/// is none.
pub fn stored_login_stamp() -> Option<LoginStamp> {
    use std::os::unix::fs::MetadataExt;
    let env = Surroundings::own();
    let folder = config_dir(&env)?;
    let about = fs::metadata(folder.join(".credentials.json")).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.size()))
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

/// Whether claude will refuse to start: as root it does not skip permissions, unless told that it
/// is in a sandbox.
pub fn refuses_root(around: &Surroundings, spec: &Spec) -> bool {
    let skips = spec.permission_mode == "bypassPermissions"
        || spec.extra_args.iter().any(|arg| arg == "--dangerously-skip-permissions");
    let sandboxed = ["IS_SANDBOX", "CLAUDE_CODE_BUBBLEWRAP"]
        .iter()
        .any(|name| around.get(name).is_some_and(|value| value == "1" || value == "true"));
    skips && nix::unistd::geteuid().is_root() && !sandboxed
}

/// The arguments for one run: everything but the prompt, which goes to stdin, where it has no
/// limit, shows in no process list, and may begin with a dash.
pub fn arguments(spec: &Spec, session: &Session<'_>) -> Vec<String> {
    let mut args: Vec<String> =
        ["-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]
            .map(str::to_owned)
            .to_vec();
    // Claude then says of each message when it takes it in.
    args.push("--replay-user-messages".to_owned());
    let mut give = |flag: &str, value: &str| {
        args.push(flag.to_owned());
        args.push(value.to_owned());
    };
    match session {
        Session::New(id) => give("--session-id", id),
        Session::Old { id, .. } => give("--resume", id),
    }
    give("--permission-mode", &spec.permission_mode);
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
            give(flag, value);
        }
    }
    // One argument with commas: the flag takes any number of words and would swallow what follows.
    for (flag, tools) in
        [("--allowedTools", &spec.allowed_tools), ("--disallowedTools", &spec.disallowed_tools)]
    {
        if !tools.is_empty() {
            give(flag, &tools.join(","));
        }
    }
    for folder in &spec.add_dirs {
        give("--add-dir", folder);
    }
    for config in &spec.mcp_config {
        give("--mcp-config", config);
    }
    if spec.ask {
        // Not in claude's help; its SDKs use it. Requests then come as `control_request`.
        args.extend(["--permission-prompt-tool", "stdio"].map(str::to_owned));
    }
    if let Session::Old { fork, .. } = session {
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

/// The conversation of a run of claude.
#[derive(Clone, Copy, Debug)]
pub enum Session<'a> {
    /// A new one, of this id.
    New(&'a str),
    /// One to go on with.
    Old {
        /// Its id.
        id: &'a str,
        /// It is left as it is, and goes on under another id.
        fork: bool,
    },
}

/// The command for one run: program, arguments, folder, and the worker's environment with the
/// marks of the job.
pub fn command(spec: &Spec, id: &JobId, job_dir: &Path, session: &Session<'_>) -> Command {
    let mut command = match &spec.replay {
        None => {
            let mut command = Command::new(&spec.claude);
            command.args(arguments(spec, session));
            command
        }
        Some(replay) => {
            let mut command = Command::new(own_executable());
            command.arg("replay").arg("--speed").arg(replay.speed.to_string());
            command.args(replay.file.iter());
            command
        }
    };
    environment::enter_directory(&mut command, &spec.cwd);
    command.env("CLAUDEJOB_ID", id.as_str());
    crate::process::mark(&mut command, job_dir);
    command
}

/// What a program that should be claude says of its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// What it printed.
    Said(String),
    /// It ended otherwise than well: how, and what it complained of.
    Refused(Exit, String),
    /// It was ended because it did not answer.
    Silent,
}

/// The call that asks a program something about itself, by this option.
fn question(program: &Path, option: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(option);
    for name in environment::MARKS {
        command.env_remove(name);
    }
    // Asking changes nothing, not even the program itself.
    command.env("DISABLE_AUTOUPDATER", "1");
    command
}

/// Returns whether the help of a program names the option. An unknown one is fatal to claude, and
/// which version brought it is not known for each; to ask takes it about 0.3 s.
pub fn knows_option(program: &Path, option: &str) -> bool {
    let said = crate::process::ask(question(program, "--help"), None, HELP_TAKES, HELP_READ);
    said.is_ok_and(|(said, _)| memchr::memmem::find(&said, option.as_bytes()).is_some())
}

/// Asks a program for its version. An error says why it could not be run.
pub fn version(program: &Path, within: Duration) -> io::Result<Version> {
    let (said, exit) = crate::process::ask(question(program, "--version"), None, within, 16 << 10)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(match exit {
        None => Version::Silent,
        Some(exit) if exit.code == Some(0) => Version::Said(said),
        Some(exit) => Version::Refused(exit, said),
    })
}

/// The numbers of a version, as claude prints it: `2.1.197 (Claude Code)`. Lines before it, such
/// as a warning of its runtime, are passed over.
pub fn version_numbers(said: &str) -> Option<(u64, u64, u64)> {
    said.lines().find_map(|line| {
        let word = line.split_whitespace().next()?;
        let mut parts = word.strip_prefix('v').unwrap_or(word).splitn(3, '.');
        let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let patch = rest.split(['-', '+']).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
    })
}

/// The path of this very program, also while its file is being replaced.
pub fn own_executable() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        Surroundings { variables: variables.collect() }
    }

    #[test]
    fn the_prompt_is_in_no_argument_and_every_option_is() {
        let spec = Spec {
            permission_mode: "plan".to_owned(),
            model: Some("opus".to_owned()),
            allowed_tools: vec!["Bash(git *)".to_owned(), "Read".to_owned()],
            max_budget_usd: Some(0.5),
            max_turns: Some(3),
            add_dirs: vec!["/a".to_owned(), "/b".to_owned()],
            extra_args: vec!["--betas".to_owned(), "x".to_owned()],
            ..Spec::default()
        };
        let line = arguments(&spec, &Session::New("SESSION")).join(" ");
        assert_eq!(
            line,
            "-p --output-format stream-json --input-format stream-json --verbose \
             --replay-user-messages --session-id SESSION --permission-mode plan --model opus --max-turns 3 \
             --max-budget-usd 0.5 --allowedTools Bash(git *),Read --add-dir /a --add-dir /b \
             --betas x"
        );
    }

    #[test]
    fn a_resumed_session_is_not_named_again() {
        let args = arguments(&Spec::default(), &Session::Old { id: "OLD", fork: false });
        assert!(args.windows(2).any(|pair| pair == ["--resume", "OLD"]));
        assert!(!args.contains(&"--session-id".to_owned()));
    }

    #[test]
    fn the_surrounding_session_is_forgotten() {
        let id = JobId::parse("a").unwrap();
        let spec = Spec { cwd: "/work".to_owned(), ..Spec::default() };
        let command = command(&spec, &id, Path::new("/jobs/a"), &Session::New("S"));
        let changed: HashMap<_, _> = command.get_envs().collect();
        assert_eq!(changed[std::ffi::OsStr::new("CLAUDECODE")], None);
        assert_eq!(changed[std::ffi::OsStr::new("OLDPWD")], None);
        let cwd = changed[std::ffi::OsStr::new("PWD")];
        assert_eq!(cwd, Some(std::ffi::OsStr::new("/work")));
        let mark = changed[std::ffi::OsStr::new("CLAUDEJOB_DIR")];
        assert_eq!(mark, Some(std::ffi::OsStr::new("/jobs/a")));
    }

    #[test]
    fn logins_are_found_where_the_cli_keeps_them() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        let spec = Spec { cwd: path.to_owned(), ..Spec::default() };
        let bare = around(&[("HOME", path)]);
        assert_eq!(login(&bare, &spec), None);
        for provider in ["CLAUDE_CODE_USE_MANTLE", "ANTHROPIC_IDENTITY_TOKEN_FILE"] {
            let provided = around(&[("HOME", path), (provider, "1")]);
            assert_eq!(login(&provided, &spec), Some(Login::Variable(provider)));
        }
        let key = around(&[("ANTHROPIC_API_KEY", "k")]);
        assert_eq!(login(&key, &spec), Some(Login::Variable("ANTHROPIC_API_KEY")));
        assert_eq!(login(&around(&[("HOME", path), ("ANTHROPIC_API_KEY", "")]), &spec), None);
        let put = |file: &str, text: &str| {
            fs::create_dir_all(home.path().join(".claude")).unwrap();
            fs::write(home.path().join(file), text).unwrap();
        };
        let at = |file: &str| home.path().join(file);
        let of = |file: &str| Settings::File(at(file));
        let [state, settings] = [".claude.json", ".claude/settings.json"];
        let token = Login::Setting("ANTHROPIC_AUTH_TOKEN", of(settings));
        let cloud = Login::Setting("CLAUDE_CODE_USE_ANTHROPIC_AWS", of(settings));
        let credentials = ".claude/.credentials.json";
        for (file, text, found) in [
            (state, r#"{"numStartups":3}"#, None),
            (state, r#"{"oauthAccount":{"x":1}}"#, Some(Login::Stored(at(state)))),
            (state, "{}", None),
            (settings, r#"{"apiKeyHelper":"~/key.sh"}"#, Some(Login::Helper(of(settings)))),
            (settings, r#"{"env":{"ANTHROPIC_AUTH_TOKEN":"t"}}"#, Some(token)),
            (settings, r#"{"env":{"CLAUDE_CODE_USE_ANTHROPIC_AWS":"1"}}"#, Some(cloud)),
            (settings, "no json", None),
            (credentials, "{}", Some(Login::Stored(at(credentials)))),
        ] {
            put(file, text);
            assert_eq!(login(&bare, &spec), found, "{file}: {text}");
        }
        let given = r#"{"env":{"ANTHROPIC_API_KEY":"secret"}}"#.to_owned();
        let spec = Spec { settings: Some(given), ..Spec::default() };
        let found = login(&around(&[]), &spec).unwrap().to_string();
        assert_eq!(found, "ANTHROPIC_API_KEY of --settings", "and nothing secret");
    }

    #[test]
    fn versions_are_read_as_claude_prints_them() {
        for (said, numbers) in [
            ("2.1.197 (Claude Code)\n", Some((2, 1, 197))),
            ("1.0.0", Some((1, 0, 0))),
            ("v3.0.0-beta.2 (Claude Code)", Some((3, 0, 0))),
            ("(node:1) Warning: old\n\n2.0.14 (Claude Code)", Some((2, 0, 14))),
            ("2.1", None),
            ("Claude Code", None),
            ("99999999999999999999.1.1", None),
            ("", None),
        ] {
            assert_eq!(version_numbers(said), numbers, "{said:?}");
        }
    }
}
