//! `setup`: installs what another program needs to use claudejob, and says what is missing there.

mod hook;
mod service;

use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Call;
use super::check::{self, Check, Level};
use super::gateway::Installation;
use crate::claude::{Env, config_dir};
use crate::error::{Error, ExitStatus};
use crate::openclaw::{self, BundledFile, FILES, FileState, SKILL};
use crate::output::{Answer, BOLD, GREEN, RED, YELLOW, painted};
use crate::text::harmless;

/// Arguments of `setup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob setup claude\n  claudejob setup openclaw --dry-run\n\n\
    claude: writes the skill into claude's directory (CLAUDE_CONFIG_DIR or ~/.claude).\n\n\
    openclaw: writes the skill and a hook into OpenClaw's state directory, enables the hook, and \
    checks whether the gateway's service would find the programs. It can be repeated. Exit codes: \
    0 nothing needed is missing; 1 something is."
)]
pub(crate) struct SetupArgs {
    /// Set the program that is to use claudejob
    #[arg(value_name = "PROGRAM")]
    target: SetupTarget,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// The programs that can be set up.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum SetupTarget {
    /// Claude Code, whose agents run claudejob's commands.
    #[value(name = "claude", help = "The skill of Claude Code")]
    Claude,
    /// OpenClaw, whose agents run claudejob's commands.
    #[value(name = "openclaw", help = "The skill and the hook of OpenClaw")]
    OpenClaw,
}

impl SetupArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let no_home = || Error::Usage("HOME is not set".to_owned());
        call.print(&match self.target {
            SetupTarget::Claude => {
                set_up_claude(&config_dir(&call.env).ok_or_else(no_home)?, self.dry_run)
            }
            SetupTarget::OpenClaw => {
                let installation = Installation::find(&call.env).ok_or_else(no_home)?;
                set_up_openclaw(&installation, &call.env, self.dry_run)
            }
        })
    }
}

/// The result of a `setup`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetupAnswer {
    /// The program that was set up.
    pub target: SetupTarget,
    /// Nothing was written.
    pub dry_run: bool,
    /// The files; empty if the program is not there.
    pub files: Vec<SetupFile>,
    /// What else it needs.
    pub checks: Vec<Check>,
    /// No check has the level `error`.
    pub ok: bool,
}

/// A file of `setup`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetupFile {
    /// Path of the file.
    pub path: String,
    /// What was done.
    pub action: FileAction,
    /// Why it was not written, or that another text of it is replaced; else null.
    pub why: Option<String>,
}

/// What `setup` did with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) enum FileAction {
    /// It was created or replaced.
    Written,
    /// It is already what it should be.
    Unchanged,
    /// It would be created or replaced without `--dry-run`.
    WouldWrite,
    /// It is another's file, and was left as it is.
    Refused,
    /// It could not be written.
    Failed,
}

impl Answer for SetupAnswer {
    fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let (style, word) = match file.action {
                FileAction::Written => (GREEN, "written"),
                FileAction::Unchanged => (GREEN, "unchanged"),
                FileAction::WouldWrite => (YELLOW, "would be written"),
                FileAction::Refused => (RED, "left as it is"),
                FileAction::Failed => (RED, "not written"),
            };
            let why = match &file.why {
                Some(why) => format!(": {}", harmless(why)),
                None => String::new(),
            };
            let path = painted(BOLD, &harmless(&file.path));
            text.push_str(&format!("{path} {}{why}\n", painted(style, word)));
        }
        text.push_str(&check::table(&self.checks));
        let counts = check::counts(&self.checks);
        let program = match self.target {
            SetupTarget::Claude => "Claude Code",
            SetupTarget::OpenClaw => "OpenClaw",
        };
        let summary = match (self.ok, counts.is_empty()) {
            (true, true) => painted(GREEN, &format!("{program} can use claudejob.")),
            (true, false) => painted(YELLOW, &format!("{program} can use claudejob: {counts}.")),
            (false, _) => painted(RED, &format!("{program} cannot use claudejob yet: {counts}.")),
        };
        text + &summary + "\n"
    }

    fn exit_status(&self) -> ExitStatus {
        if self.ok { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

fn set_up_claude(config_dir: &Path, dry_run: bool) -> SetupAnswer {
    let files = write_files(config_dir, &[SKILL], dry_run);
    let checks: Vec<Check> = files.iter().filter_map(check_file).collect();
    let ok = checks.is_empty();
    SetupAnswer { target: SetupTarget::Claude, dry_run, files, checks, ok }
}

fn set_up_openclaw(installation: &Installation, env: &Env, dry_run: bool) -> SetupAnswer {
    let command = openclaw::find(env);
    let mut files = Vec::new();
    let mut checks = Vec::new();
    match &command {
        Ok(command) => checks.push(Check::ok("openclaw", command.program.join(" "))),
        Err(why) => {
            let detail = format!("no openclaw command: {why}");
            let hint = "npm install -g openclaw  # or set CLAUDE_SKILL_OPENCLAW to its path";
            checks.push(Check::error("openclaw", detail, hint));
        }
    }
    if command.is_ok() || installation.is_there() {
        files = write_files(&installation.state_dir, &FILES, dry_run);
        checks.extend(files.iter().filter_map(check_file));
        checks.extend(hook::checks(command.as_ref().ok(), &installation.state_dir, dry_run));
        checks.extend(service::checks(installation));
    }
    let ok = checks.iter().all(|check| check.level != Level::Error);
    SetupAnswer { target: SetupTarget::OpenClaw, dry_run, files, checks, ok }
}

/// What is said of a file that was there and is not as it should be.
const REPLACED: &str = "it differed: of another version, or edited";

/// Writes the files that are missing or differ.
fn write_files(directory: &Path, bundled: &[BundledFile], dry_run: bool) -> Vec<SetupFile> {
    let mut files = Vec::new();
    for file in bundled {
        let (action, why) = match file.state(directory) {
            FileState::Current => (FileAction::Unchanged, None),
            FileState::Foreign(why) => (FileAction::Refused, Some(why)),
            state => {
                let done = if dry_run {
                    Ok(FileAction::WouldWrite)
                } else {
                    file.write(directory).map(|()| FileAction::Written)
                };
                let replaced = (state == FileState::Outdated).then(|| REPLACED.to_owned());
                done.map_or_else(
                    |error| (FileAction::Failed, Some(error.to_string())),
                    |action| (action, replaced),
                )
            }
        };
        files.push(SetupFile { path: file.path(directory).display().to_string(), action, why });
    }
    files
}

/// Returns the error about a file that is not there.
fn check_file(file: &SetupFile) -> Option<Check> {
    let why = file.why.as_deref()?;
    let (detail, hint) = match file.action {
        FileAction::Written | FileAction::WouldWrite | FileAction::Unchanged => return None,
        FileAction::Refused => (
            format!("{} is not claudejob's: {why}", file.path),
            "move it away if claudejob's is to be used, then repeat the command",
        ),
        FileAction::Failed => (
            format!("could not write {}: {why}", file.path),
            "check that path and its free space, then repeat the command",
        ),
    };
    Some(Check::error("files", detail, hint))
}
