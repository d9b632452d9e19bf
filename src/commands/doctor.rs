//! `doctor`: whether jobs can be run here, and what to do about what stands in the way.
//!
//! It looks and changes nothing: no job is settled, no directory made, and the file with which it
//! tries the disk is gone when it answers. What cannot be checked says so, or is left out where
//! another check tells why.

mod jobs;
mod machine;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::claude::{self, Surroundings, Version, tested};
use crate::clock;
use crate::error::Error;
use crate::job::{Detachment, JobId, Spec};
use crate::launch::{Plan, Wish};
use crate::text::{clip, one_line};

/// How long claude may take to tell its version.
const VERSION_TAKES: Duration = Duration::from_secs(10);

/// Of what surroundings.
#[derive(Debug)]
pub struct Request {
    /// The path of the jobs directory, or why none can be named.
    pub root: Result<PathBuf, Error>,
    /// The `claude` that was named; `None` for the one that is found.
    pub claude: Option<PathBuf>,
    /// The folder in which jobs would work.
    pub cwd: PathBuf,
}

/// The result of all checks.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DoctorAnswer {
    /// No check found an error.
    pub ok: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// Name of the check, a stable word.
    pub name: &'static str,
    /// Its result.
    pub level: Level,
    /// What it found.
    pub found: String,
    /// What to do about it; null where all is well.
    pub advice: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Jobs can be run, with a restriction.
    Warning,
    /// Jobs cannot be run.
    Error,
}

impl Check {
    fn new(name: &'static str, level: Level, found: &str, advice: Option<&str>) -> Self {
        Self { name, level, found: clip(found, 400), advice: advice.map(|text| clip(text, 300)) }
    }

    fn ok(name: &'static str, found: impl AsRef<str>) -> Self {
        Self::new(name, Level::Ok, found.as_ref(), None)
    }

    fn warning(name: &'static str, found: impl AsRef<str>, advice: impl AsRef<str>) -> Self {
        Self::new(name, Level::Warning, found.as_ref(), Some(advice.as_ref()))
    }

    fn error(name: &'static str, found: impl AsRef<str>, advice: impl AsRef<str>) -> Self {
        Self::new(name, Level::Error, found.as_ref(), Some(advice.as_ref()))
    }

    /// Of something that could not be looked at.
    fn unknown(name: &'static str, why: impl std::fmt::Display) -> Self {
        Self::new(name, Level::Warning, &format!("not known: {why}"), None)
    }

    /// With the advice where the level asks for one.
    fn at(name: &'static str, level: Level, found: impl AsRef<str>, advice: &str) -> Self {
        Self::new(name, level, found.as_ref(), (level != Level::Ok).then_some(advice))
    }
}

/// Looks at everything.
pub fn doctor(request: &Request, around: &Surroundings) -> DoctorAnswer {
    let spec = Spec {
        cwd: request.cwd.to_string_lossy().into_owned(),
        permission_mode: "bypassPermissions".to_owned(),
        ..Spec::default()
    };
    let mut checks = check_claude(request.claude.clone().or_else(|| claude::find(around)));
    checks.push(check_login(around, &spec));
    checks.push(check_root(around, &spec));
    let (places, store) = place::checks(request.root.as_deref());
    checks.extend(places);
    let now = clock::now();
    let mut ahead = None;
    if let Some(store) = &store {
        let (jobs, dated) = jobs::checks(store, now);
        checks.extend(jobs);
        ahead = Some(dated);
    }
    checks.push(check_detach(request, around));
    checks.extend(machine::checks());
    checks.push(machine::clock(now, ahead.as_ref()));
    let ok = checks.iter().all(|check| check.level != Level::Error);
    DoctorAnswer { ok, checks }
}

/// What `start` would say to do about it.
fn hint(error: &Error) -> String {
    error.hint().unwrap_or_default()
}

fn check_claude(program: Option<PathBuf>) -> Vec<Check> {
    let error = |found: &str| {
        let advice = hint(&Error::ClaudeNotFound(String::new()));
        vec![Check::error("claude", found, advice)]
    };
    let Some(program) = program else {
        return error("there is none on PATH or where its installers put it");
    };
    let path = program.display();
    if !claude::is_executable(&program) {
        return error(&format!("{path} is no program to run"));
    }
    let version = match claude::version(&program, VERSION_TAKES) {
        Err(why) => return error(&format!("{path} could not be run: {why}")),
        Ok(Version::Refused(exit, said)) => {
            let how = exit.code.map(|code| format!("exit code {code}"));
            let how = how.unwrap_or_else(|| format!("signal {}", exit.signal.unwrap_or_default()));
            let said = one_line(&said, 160);
            return error(&format!("{path} --version ended with {how}: {said}"));
        }
        Ok(Version::Silent) => Check::warning(
            "version",
            format!("{path} --version gave no answer within {} s", VERSION_TAKES.as_secs()),
            "run it by hand and see what it waits for",
        ),
        Ok(Version::Said(said)) => check_version(&said),
    };
    vec![Check::ok("claude", path.to_string()), version]
}

fn check_version(said: &str) -> Check {
    let Some(version) = claude::version_numbers(said) else {
        let found = format!("no version: {:?}", one_line(said, 80));
        return Check::warning("version", found, "see whether this is the claude that is meant");
    };
    let (major, minor, patch) = version;
    let found =
        format!("{major}.{minor}.{patch} (tested: {} to {})", tested::OLDEST, tested::NEWEST);
    if Some(version) < claude::version_numbers(tested::OLDEST) {
        let found = format!("{found}, older than every tested version");
        let advice = "npm install -g @anthropic-ai/claude-code@latest, or claude update";
        return Check::warning("version", found, advice);
    }
    if Some(version) > claude::version_numbers(tested::NEWEST) {
        let found = format!("{found}, newer than every tested version");
        let advice = "most new versions work; update claudejob if a job's verdict looks wrong";
        return Check::warning("version", found, advice);
    }
    Check::ok("version", found)
}

fn check_login(around: &Surroundings, spec: &Spec) -> Check {
    match claude::login(around, spec) {
        Some(login) => Check::ok("login", login.to_string()),
        None => Check::error("login", Error::NotLoggedIn.to_string(), hint(&Error::NotLoggedIn)),
    }
}

fn check_root(around: &Surroundings, spec: &Spec) -> Check {
    if claude::refuses_root(around, spec) {
        let found = "root, as which claude does not skip permissions, and IS_SANDBOX is not set";
        Check::error("root", found, hint(&Error::RootNeedsSandbox))
    } else if nix::unistd::geteuid().is_root() {
        Check::ok("root", "root, in what is named a sandbox")
    } else {
        Check::ok("root", "not root")
    }
}

/// What would take a job from here along.
fn check_detach(request: &Request, around: &Surroundings) -> Check {
    let id = JobId::generated(clock::now(), 0);
    let root = request.root.as_deref().unwrap_or(Path::new("/"));
    let mut plan = match Plan::make(Wish::Auto, &id, &[root, &request.cwd], around) {
        Ok(plan) => plan,
        Err(why) => return Check::unknown("detach", why),
    };
    // They are told as `start` tells them of its job.
    let told = |plan: &Plan| format!("of a job started here: {}", plan.risks().join("; "));
    if !plan.risks().is_empty() {
        let advice = "claudejob recover --all goes on with what was cut off";
        return Check::warning("detach", told(&plan), advice);
    }
    let by = match plan.expected().by {
        Detachment::Scope => "a systemd scope for each job, which a restart of the service spares",
        Detachment::Session => "a session for each job: no service or login takes it along",
    };
    // Nothing can be done about what is found now: no reason to warn.
    plan.look_around(around);
    if plan.risks().is_empty() {
        return Check::ok("detach", by);
    }
    Check::ok("detach", format!("{by}; {}", told(&plan)))
}

/// A number of things, of which the first are named.
#[derive(Clone, Debug, Default)]
struct Named {
    count: usize,
    names: Vec<String>,
}

impl Named {
    /// How many are named.
    const SHOWN: usize = 3;

    fn add(&mut self, name: impl Into<String>) {
        self.count += 1;
        if self.names.len() < Self::SHOWN {
            self.names.push(clip(&name.into(), 60));
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.count > self.names.len() { ", …" } else { "" };
        write!(f, "{} ({}{more})", self.count, self.names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_outside_the_tested_range_is_warned_of() {
        let within = "(tested: 2.1.197 to 2.1.332)";
        let older = "(tested: 2.1.197 to 2.1.332), older than every tested version";
        let newer = "(tested: 2.1.197 to 2.1.332), newer than every tested version";
        for (said, level, found) in [
            ("2.1.197 (Claude Code)", Level::Ok, format!("2.1.197 {within}")),
            ("2.1.332 (Claude Code)", Level::Ok, format!("2.1.332 {within}")),
            ("2.1.200", Level::Ok, format!("2.1.200 {within}")),
            ("2.1.196", Level::Warning, format!("2.1.196 {older}")),
            ("1.9.999", Level::Warning, format!("1.9.999 {older}")),
            ("2.1.333", Level::Warning, format!("2.1.333 {newer}")),
            ("3.0.1", Level::Warning, format!("3.0.1 {newer}")),
            ("hello\nworld", Level::Warning, "no version: \"hello world\"".to_owned()),
            ("", Level::Warning, "no version: \"\"".to_owned()),
        ] {
            let check = check_version(said);
            assert_eq!((check.level, check.found), (level, found), "{said:?}");
            assert_eq!(check.advice.is_some(), level != Level::Ok, "{said:?}");
        }
    }

    #[test]
    fn of_many_the_first_are_named() {
        let mut named = Named::default();
        let mut shown = Vec::new();
        for name in ["a", "b", "c", "d"] {
            named.add(name);
            shown.push(named.to_string());
        }
        assert_eq!(shown, ["1 (a)", "2 (a, b)", "3 (a, b, c)", "4 (a, b, c, …)"]);
    }
}
