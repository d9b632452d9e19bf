//! The `openclaw` command: where it is, and how it is run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::GatewayUnit;
use crate::claude::{self, Env};
use crate::job::{AgentSession, Chat, OpenClawCommand};

/// Environment variable with the path of the command.
const PROGRAM: &str = "CLAUDE_SKILL_OPENCLAW";

/// Directories below the home directory into which installers put the command.
const HOME_DIRS: [&str; 7] = [
    ".local/bin",
    "bin",
    ".npm-global/bin",
    ".openclaw/bin",
    ".volta/bin",
    ".bun/bin",
    ".local/share/pnpm",
];
/// Directory below the home directory with one for each version of node that nvm has installed.
const NVM_VERSIONS: &str = ".nvm/versions/node";
/// Directories of the whole machine into which they put it.
const SYSTEM_DIRS: [&str; 4] =
    ["/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin", "/usr/bin"];

/// Variables by which the command finds the configuration and the port of its gateway. A notifier
/// can be started from another environment than the job was. Tokens are not among them.
const GATEWAY_VARIABLES: [&str; 5] = [
    "OPENCLAW_HOME",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_PROFILE",
    "OPENCLAW_GATEWAY_PORT",
];

/// Parts of the messages of failures that a retry would meet again, or make worse: the gateway
/// itself tries to send a message again that its channel could not send.
const FINAL_MESSAGES: [&str; 9] = [
    "OutboundDeliveryError",
    "cannot target a subagent session",
    "malformed session key",
    "agent is unavailable",
    "unauthorized",
    "Unknown channel",
    "Unknown target",
    "unknown option",
    "unknown command",
];

/// Finds the command, and the part of the environment that it needs.
///
/// # Errors
/// A sentence that says why there is none.
pub(crate) fn find(env: &Env) -> Result<OpenClawCommand, String> {
    let mut found = locate(env)?;
    for name in GATEWAY_VARIABLES {
        if let Some(value) = env.get(name).and_then(|value| value.to_str()) {
            found.environment.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(found)
}

/// Finds the command: by its variable, on `PATH`, where installers put it, as the gateway's service
/// runs it, or among the versions of nvm.
///
/// # Errors
/// A sentence that says why there is none.
fn locate(env: &Env) -> Result<OpenClawCommand, String> {
    let unit = env.get("HOME").and_then(|home| GatewayUnit::find(Path::new(home)));
    let service = unit.as_ref().and_then(program_of_service);
    // The service runs the script with its own `node`.
    let service_node = service.as_ref().and_then(|program| Path::new(&program[0]).parent());
    if let Some(named) = env.get(PROGRAM) {
        let path = Path::new(named);
        if path.is_relative() || !claude::is_executable(path) {
            return Err(format!("{PROGRAM} is not the path of a program: {named:?}"));
        }
        return from_program(path, None, service_node);
    }
    // On PATH it gets the `node` that is on PATH, too.
    if let Some(program) = claude::find_program("openclaw", env, &[]) {
        let node = claude::find_program("node", env, &[]);
        return from_program(&program, node.as_deref().and_then(Path::parent), service_node);
    }
    for directory in usual_directories(env) {
        let program = directory.join("openclaw");
        if claude::is_executable(&program) {
            return from_program(&program, None, service_node);
        }
    }
    if let Some([node, script]) = &service {
        let mut found = from_program(Path::new(node), None, None)?;
        found.program.push(script.clone());
        return Ok(found);
    }
    match env.get("HOME").and_then(|home| program_of_nvm(Path::new(home))) {
        Some(program) => from_program(&program, None, None),
        None => Err("it is neither on PATH nor where installers put it".to_owned()),
    }
}

/// Returns the command of the newest version of node that has one among those of nvm, which changes
/// only the PATH of shells.
fn program_of_nvm(home: &Path) -> Option<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home.join(NVM_VERSIONS)).ok()?.flatten() {
        let program = entry.path().join("bin/openclaw");
        if claude::is_executable(&program) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let numbers = name.trim_start_matches('v').split('.').map(str::parse::<u32>);
            found.push((numbers.flatten().collect::<Vec<_>>(), program));
        }
    }
    found.into_iter().max().map(|(_, program)| program)
}

/// Returns the interpreter and the script with which the service runs the gateway, if both are
/// there.
fn program_of_service(unit: &GatewayUnit) -> Option<[String; 2]> {
    let [node, script, ..] = unit.program.as_slice() else { return None };
    let is_command = claude::is_executable(Path::new(node)) && Path::new(script).is_file();
    if is_command { Some([node.clone(), script.clone()]) } else { None }
}

fn usual_directories(env: &Env) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(home) = env.get("HOME") {
        for directory in HOME_DIRS {
            directories.push(Path::new(home).join(directory));
        }
    }
    directories.extend(SYSTEM_DIRS.map(PathBuf::from));
    directories
}

/// Returns the command of this program, which needs its own directory in front of `PATH`, with
/// `first` before it and `last` after it.
fn from_program(
    program: &Path,
    first: Option<&Path>,
    last: Option<&Path>,
) -> Result<OpenClawCommand, String> {
    let mut search_dirs = Vec::new();
    for directory in first.into_iter().chain(program.parent()).chain(last) {
        search_dirs.push(utf8(directory)?);
    }
    Ok(OpenClawCommand { program: vec![utf8(program)?], search_dirs, ..OpenClawCommand::default() })
}

fn utf8(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("its path is not UTF-8: {path:?}")),
    }
}

/// A call of the command with a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OpenClawCall<'a> {
    /// To an agent, which begins a turn.
    Wake(&'a AgentSession),
    /// To a chat.
    Send(&'a Chat),
}

/// Returns the command that delivers the text. A command that is gone is searched for again.
///
/// # Errors
/// A sentence that says why there is none.
pub(crate) fn command(
    stored: &OpenClawCommand,
    call: OpenClawCall<'_>,
    text: &str,
) -> Result<Command, String> {
    command_with(stored, arguments(call, text))
}

/// Returns the command with these arguments. A command that is gone is searched for again.
///
/// # Errors
/// A sentence that says why there is none.
pub(crate) fn command_with(
    stored: &OpenClawCommand,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Command, String> {
    let is_there = stored.program.iter().enumerate().all(|(index, path)| match index {
        0 => claude::is_executable(Path::new(path)),
        _ => Path::new(path).is_file(),
    });
    let found =
        if is_there && !stored.program.is_empty() { stored.clone() } else { locate(&Env::own())? };
    let [program, rest @ ..] = found.program.as_slice() else {
        return Err("no openclaw command".to_owned());
    };
    let mut command = Command::new(program);
    command.args(rest).args(arguments).envs(&stored.environment);
    command.env("PATH", search_path(&found.search_dirs, env::var_os("PATH")));
    // It reads `.env` in its working directory, which may be anyone's.
    command.current_dir("/");
    Ok(command)
}

fn arguments(call: OpenClawCall<'_>, text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    match call {
        OpenClawCall::Wake(session) => {
            add(&["system", "event", "--mode", "now"]);
            if let Some(key) = &session.key {
                add(&[&format!("--session-key={key}")]);
            }
            add(&["--text", text]);
        }
        OpenClawCall::Send(chat) => {
            add(&["message", "send", "--channel", &chat.channel]);
            // As one word: it may begin with a dash.
            add(&[&format!("--target={}", chat.target)]);
            if let Some(thread) = &chat.thread {
                add(&["--thread-id", thread]);
            }
            add(&["--message", text]);
        }
    }
    arguments
}

fn search_path(first: &[String], path: Option<OsString>) -> OsString {
    let mut directories: Vec<PathBuf> = first.iter().map(PathBuf::from).collect();
    if let Some(path) = &path {
        directories.extend(env::split_paths(path));
    }
    // A directory with a colon in its name cannot be in PATH.
    env::join_paths(directories).unwrap_or(path.unwrap_or_default())
}

/// Returns whether the output of a failed call tells of a failure that no retry can mend.
pub(crate) fn is_final(output: &str) -> bool {
    FINAL_MESSAGES.iter().any(|message| output.contains(message))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn finds_the_command_without_path() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        program(&at("home/.npm-global/bin/openclaw"));
        program(&at("path/openclaw"));
        program(&at("node/node"));
        program(&at("named"));
        let (home, path) = (text("home"), format!("{}:{}", text("node"), text("path")));
        let named = text("named");
        let mut variables = vec![("HOME", &*home), ("OPENCLAW_STATE_DIR", "/state")];
        let found = find(&Env::of(&variables)).unwrap();
        assert_eq!(found.program, [text("home/.npm-global/bin/openclaw")]);
        assert_eq!(found.search_dirs, [text("home/.npm-global/bin")]);
        assert_eq!(found.environment["OPENCLAW_STATE_DIR"], "/state");
        variables.push(("PATH", &path));
        variables.push(("OPENCLAW_GATEWAY_TOKEN", "s3cret"));
        let found = find(&Env::of(&variables)).unwrap();
        assert_eq!(found.program, [text("path/openclaw")]);
        assert_eq!(found.search_dirs, [text("node"), text("path")]);
        assert_eq!(found.environment.len(), 1, "no token");
        variables.push((PROGRAM, &named));
        assert_eq!(find(&Env::of(&variables)).unwrap().program[0], named);
        // As the gateway's service runs it, without PATH.
        fs::write(at("cli.mjs"), "").unwrap();
        let units = at("other/.config/systemd/user");
        fs::create_dir_all(&units).unwrap();
        let exec = format!("{} {} gateway --port 7", text("node/node"), text("cli.mjs"));
        let unit = format!("[Service]\nExecStart={exec}\n");
        fs::write(units.join("openclaw-gateway.service"), unit).unwrap();
        let found = find(&Env::of(&[("HOME", &text("other"))])).unwrap();
        assert_eq!(found.program, [text("node/node"), text("cli.mjs")]);
        assert_eq!(found.search_dirs, [text("node")]);
        for version in ["v9.11.2", "v24.11.1", "v24.4.0"] {
            program(&at(&format!("nvm/.nvm/versions/node/{version}/bin/openclaw")));
        }
        fs::create_dir_all(at("nvm/.nvm/versions/node/v26.0.0/bin")).unwrap();
        let found = find(&Env::of(&[("HOME", &text("nvm"))])).unwrap();
        let newest = "nvm/.nvm/versions/node/v24.11.1/bin";
        assert_eq!(found.program, [text(&format!("{newest}/openclaw"))]);
        assert_eq!(found.search_dirs, [text(newest)]);
        for missing in ["/no/openclaw", "named"] {
            let error = find(&Env::of(&[(PROGRAM, missing)])).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn passes_the_text_as_one_argument() {
        let text = "a \"$(b)\"\n--c";
        let chat = Chat::parse("openclaw:telegram:-100:7").unwrap();
        assert_eq!(
            arguments(OpenClawCall::Send(&chat), text),
            ["message", "send", "--channel", "telegram", "--target=-100", "--thread-id", "7"]
                .into_iter()
                .chain(["--message", text])
                .collect::<Vec<_>>()
        );
        let main = AgentSession { key: None };
        assert_eq!(
            arguments(OpenClawCall::Wake(&main), text),
            ["system", "event", "--mode", "now", "--text", text]
        );
    }
}
