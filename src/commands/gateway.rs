//! Checks of OpenClaw on this machine: would the service of its gateway find the programs that its
//! agents run, and does it have claudejob's skill and hook?

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::{Check, Level};
use crate::claude::{Env, own_executable, programs_on_path};
use crate::json;
use crate::openclaw::{FILES, FileState, GatewayUnit, state_dir};
use crate::text::shell_word;

/// The folder for links to programs, if the service searches in no folder below the home directory.
const SYSTEM_BIN: &str = "/usr/local/bin";

/// OpenClaw as an environment sees it.
#[derive(Debug)]
pub(super) struct Installation {
    pub home: PathBuf,
    pub state_dir: PathBuf,
    /// The service of the gateway; `None` if it has none.
    pub unit: Option<GatewayUnit>,
    /// The search path of the environment.
    own_path: OsString,
}

impl Installation {
    /// Finds OpenClaw's directory and service; `None` without a home directory.
    pub(super) fn find(env: &Env) -> Option<Self> {
        let home = PathBuf::from(env.get("HOME")?);
        let state_dir = state_dir(|name| env.get(name).cloned())?;
        let unit = GatewayUnit::with_state_dir(&home, &state_dir);
        let own_path = env.get("PATH").cloned().unwrap_or_default();
        Some(Self { home, state_dir, unit, own_path })
    }

    /// Whether OpenClaw was ever used here.
    pub(super) fn is_there(&self) -> bool {
        self.state_dir.is_dir() || self.unit.is_some()
    }

    /// Returns the program of this name that the gateway finds.
    pub(super) fn find_program(&self, name: &str) -> Option<PathBuf> {
        programs_on_path(name, self.search_path()).next()
    }

    fn search_path(&self) -> OsString {
        match &self.unit {
            Some(unit) => unit.search_path(),
            None => self.own_path.clone(),
        }
    }

    /// Checks whether the gateway finds this program, which is `level` if not.
    pub(super) fn check_program(&self, check: &'static str, level: Level) -> Check {
        let searcher = match &self.unit {
            Some(unit) => format!("the gateway's service ({})", unit.path.display()),
            None => "a gateway that is started here".to_owned(),
        };
        if let Some(found) = self.find_program("claudejob") {
            return Check::ok(check, format!("{searcher} finds {}", found.display()));
        }
        let path = self.search_path();
        let detail = format!(
            "{searcher} does not find claudejob, so that no agent sees the skill: PATH={}",
            path.to_string_lossy()
        );
        let hint = link_command(&own_executable(), "claudejob", &path, &self.home);
        Check::with_level(check, level, detail, &hint)
    }

    /// Returns the command that links a program of this environment to where the gateway finds it;
    /// `None` if this environment has none, or the gateway finds one.
    pub(super) fn link_to(&self, name: &str) -> Option<String> {
        if self.find_program(name).is_some() {
            return None;
        }
        let program = programs_on_path(name, self.own_path.clone()).next()?;
        Some(link_command(&program, name, &self.search_path(), &self.home))
    }

    /// Whether the plugin is enabled, which brings the skill and does the work of the hook. A
    /// configuration that is not plain JSON is not understood.
    fn has_plugin(&self) -> bool {
        let text = std::fs::read(self.state_dir.join("openclaw.json")).unwrap_or_default();
        let config: Value = json::from_bytes(&text).unwrap_or_default();
        config["plugins"]["entries"]["claudejob"]["enabled"] == true
    }
}

/// Checks OpenClaw for `doctor`; `None` if it is not used here.
pub(super) fn summary(env: &Env) -> Option<Check> {
    let installation = Installation::find(env)?;
    if !installation.is_there() {
        return None;
    }
    let program = installation.check_program("openclaw", Level::Warning);
    if program.level != Level::Ok || installation.has_plugin() {
        return Some(program);
    }
    let mut old = Vec::new();
    for file in &FILES {
        let path = file.path(&installation.state_dir);
        match file.state(&installation.state_dir) {
            FileState::Missing => old.push(format!("{} is missing", path.display())),
            FileState::Outdated => old.push(format!("{} has another version", path.display())),
            // Another's file is left alone.
            FileState::Current | FileState::Foreign(_) => {}
        }
    }
    if old.is_empty() {
        return Some(program);
    }
    let hint = "claudejob setup openclaw  # writes the skill and the hook";
    Some(Check::warning("openclaw", old.join("; "), hint))
}

/// Returns the command that links a program into a folder that the service searches.
fn link_command(program: &Path, name: &str, search_path: &OsStr, home: &Path) -> String {
    let own = std::env::split_paths(search_path).find(|dir| dir.starts_with(home));
    let (sudo, dir) = match own {
        Some(dir) => ("", dir),
        None => ("sudo ", PathBuf::from(SYSTEM_BIN)),
    };
    let [program, dir, link] =
        [program, &dir, &dir.join(name)].map(|path| shell_word(&path.to_string_lossy()));
    format!("{sudo}mkdir -p {dir} && {sudo}ln -sf {program} {link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_a_folder_of_the_service() {
        let (home, program) = (Path::new("/home/a"), Path::new("/home/a/.cargo/bin/claudejob"));
        for (path, expected) in [
            (
                "/usr/bin:/home/a/.local/bin:/home/a/bin",
                "mkdir -p /home/a/.local/bin && \
                 ln -sf /home/a/.cargo/bin/claudejob /home/a/.local/bin/claudejob",
            ),
            (
                "/usr/bin:/home/ab/bin",
                "sudo mkdir -p /usr/local/bin && \
                 sudo ln -sf /home/a/.cargo/bin/claudejob /usr/local/bin/claudejob",
            ),
            (
                "/home/a/my bin",
                "mkdir -p '/home/a/my bin' && \
                 ln -sf /home/a/.cargo/bin/claudejob '/home/a/my bin/claudejob'",
            ),
        ] {
            assert_eq!(link_command(program, "claudejob", path.as_ref(), home), expected);
        }
    }
}
