//! `doctor`: checks whether jobs can run here, and says how to fix what prevents it.
//!
//! It changes nothing: it finalizes no job and creates no directory, and it removes the file with
//! which it tests the disk. A check that cannot be made says so, or is omitted if another check
//! gives the reason.

mod cluster;
mod jobs;
mod machine;
mod node;
mod place;
mod text;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::check::{Check, Level};
use super::start::On;
use super::{Call, gateway};
use crate::arguments::{absolute, program};
use crate::claude::{self, Env, VersionOutput, tested};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::{ClaudeOptions, Detachment, EngineKind, EngineOptions, JobId, Spec};
use crate::launch::{DetachMode, DetachPlan};
use crate::process;
use crate::text::{clip, one_line};
use cluster::ProbeRequest;

/// Time limit of `claude --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node holds locks at most that another one tries.
const HOLD_TIME: Duration = Duration::from_secs(120);

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob doctor\n\n\
    It changes nothing. Exit codes: 0 no errors, possibly warnings; 1 errors.")]
pub(crate) struct DoctorArgs {
    /// Set the path of the claude CLI [default: search PATH]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    claude: Option<PathBuf>,
    /// Check with this profile of the configuration file
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Check a Slurm cluster as well
    #[arg(
        long,
        value_name = "ENGINE",
        value_enum,
        env = "CLAUDE_SKILL_ON",
        hide_env_values = true,
        default_value = "local"
    )]
    on: On,
    /// Check a node of the cluster by a short job
    #[arg(long)]
    probe: bool,
    /// Pass an argument to sbatch for this job
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, requires = "probe")]
    on_arg: Vec<String>,
    /// Check with the variables in this file, as a job's node
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Check this node and locks in a directory, for --probe
    #[arg(long, value_name = "DIR", hide = true)]
    on_node: Option<PathBuf>,
    /// Try the locks that another node holds
    #[arg(long, hide = true, requires = "on_node")]
    second: bool,
}

impl DoctorArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let claude = match self.claude {
            Some(path) if !path.as_os_str().is_empty() => Some(program(&path).unwrap_or(path)),
            _ => None,
        };
        let cwd = std::env::current_dir().unwrap_or_default();
        let request = DoctorRequest { root: call.jobs_dir(), claude, cwd };
        let mut spec = Spec { profile: self.profile.clone(), ..Spec::default() };
        let env_file = self.env_file.as_deref().map(absolute).transpose()?;
        if let Some(file) = &env_file {
            let env_file = Some(file.to_string_lossy().into_owned());
            spec.engine = Some(EngineOptions { env_file, ..EngineOptions::new(EngineKind::Slurm) });
        }
        let env = call.env.for_job(&spec)?;
        if let Some(dir) = &self.on_node {
            return check_node(call, &request, &env, dir, self.second);
        }
        let mut answer = doctor(&request, &env);
        if self.on == On::Slurm
            && let Ok(root) = &request.root
        {
            let (arguments, profile) = (self.on_arg, self.profile);
            let claude = request.claude.clone().or_else(|| claude::find(&env));
            let probe = ProbeRequest { arguments, claude, profile, env_file };
            answer.add(cluster::checks(root, if self.probe { Some(&probe) } else { None }));
        }
        call.print(&answer)
    }
}

/// Checks this node of a cluster. The first one then holds locks until its job is cancelled.
fn check_node(
    call: &Call,
    request: &DoctorRequest,
    env: &Env,
    dir: &Path,
    is_second: bool,
) -> Result<ExitStatus, Error> {
    let taken = node::Taken::take(dir);
    let mut answer = DoctorAnswer { ok: true, checks: vec![node::name()] };
    if is_second {
        answer.add([match taken {
            Ok(taken) => taken.check(),
            Err(error) => {
                Check::error(node::LOCKS, error.to_string(), "check the jobs directory there")
            }
        }]);
        return call.print(&answer);
    }
    answer.add(doctor(request, env).checks);
    answer.add([node::api(env)]);
    let status = call.print(&answer);
    std::thread::sleep(HOLD_TIME);
    drop(taken);
    status
}

/// What to check.
#[derive(Debug)]
struct DoctorRequest {
    /// The path of the jobs directory, or why there is none.
    root: Result<PathBuf, Error>,
    /// The given path of `claude`; `None` to search for it.
    claude: Option<PathBuf>,
    /// The directory in which jobs would work.
    cwd: PathBuf,
}

/// The result of all checks.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorAnswer {
    /// No check has the level `error`.
    pub ok: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl DoctorAnswer {
    fn add(&mut self, checks: impl IntoIterator<Item = Check>) {
        self.checks.extend(checks);
        self.ok = self.checks.iter().all(|check| check.level != Level::Error);
    }
}

/// Runs all checks.
fn doctor(request: &DoctorRequest, env: &Env) -> DoctorAnswer {
    let spec = Spec {
        cwd: request.cwd.to_string_lossy().into_owned(),
        options: ClaudeOptions {
            permission_mode: "bypassPermissions".to_owned(),
            ..ClaudeOptions::default()
        },
        ..Spec::default()
    };
    let mut checks = check_claude(request.claude.clone().or_else(|| claude::find(env)));
    checks.push(check_login(env, &spec));
    checks.push(check_root(env, &spec));
    let (directory_checks, store) = place::checks(request.root.as_deref());
    checks.extend(directory_checks);
    let now = clock::now();
    let mut future_dated = None;
    if let Some(store) = &store {
        let (check, named) = jobs::check(store, now);
        checks.push(check);
        future_dated = Some(named);
    }
    checks.push(check_detach(request, env));
    checks.push(machine::open_files(process::machine::open_files()));
    checks.push(machine::clock(now, future_dated.as_ref()));
    let handle = process::ProcessHandle::open(process::own_pid());
    let has_pidfds = handle.map(|handle| handle.pidfd().is_some());
    checks.extend(machine::system(std::env::consts::OS, has_pidfds));
    checks.extend(gateway::summary(env));
    let ok = checks.iter().all(|check| check.level != Level::Error);
    DoctorAnswer { ok, checks }
}

/// Returns the hint that `start` gives for the error.
fn hint_of(error: &Error) -> String {
    error.hint().unwrap_or_default()
}

fn check_claude(program: Option<PathBuf>) -> Vec<Check> {
    let error = |detail: &str| {
        let hint = hint_of(&Error::ClaudeNotFound(String::new()));
        vec![Check::error("claude", detail, hint)]
    };
    let Some(program) = program else {
        return error("not found on PATH or in the directories of its installers");
    };
    let path = program.display();
    if !claude::is_executable(&program) {
        return error(&format!("not an executable file: {path}"));
    }
    let version = match claude::version(&program, VERSION_TIMEOUT) {
        Err(why) => return error(&format!("could not run {path}: {why}")),
        Ok(VersionOutput::Failed(exit, output)) => {
            let how = exit.code.map(|code| format!("exit code {code}"));
            let how = how.unwrap_or_else(|| format!("signal {}", exit.signal.unwrap_or_default()));
            let output = one_line(&output, 160);
            return error(&format!("{path} --version failed with {how}: {output}"));
        }
        Ok(VersionOutput::TimedOut) => Check::warning(
            "version",
            format!(
                "{path} --version did not finish within {}",
                humantime::format_duration(VERSION_TIMEOUT)
            ),
            "run it by hand to see what it waits for",
        ),
        Ok(VersionOutput::Printed(output)) => check_version(&output),
    };
    vec![Check::ok("claude", path.to_string()), version]
}

fn check_version(output: &str) -> Check {
    let Some(version) = claude::parse_version(output) else {
        let detail = format!("no version number in '{}'", one_line(output, 80));
        return Check::warning("version", detail, "check that this is Claude Code");
    };
    let (major, minor, patch) = version;
    let detail =
        format!("{major}.{minor}.{patch} (tested: {} to {})", tested::OLDEST, tested::NEWEST);
    if Some(version) < claude::parse_version(tested::OLDEST) {
        let detail = format!("{detail}, older than every tested version");
        let hint = "npm install -g @anthropic-ai/claude-code@latest, or claude update";
        return Check::warning("version", detail, hint);
    }
    if Some(version) > claude::parse_version(tested::NEWEST) {
        let detail = format!("{detail}, newer than every tested version");
        let hint = "most new versions work; update claudejob if a job's status looks wrong";
        return Check::warning("version", detail, hint);
    }
    Check::ok("version", detail)
}

fn check_login(env: &Env, spec: &Spec) -> Check {
    match claude::login(env, spec) {
        Some(login) => Check::ok("login", login.to_string()),
        None => Check::error("login", Error::NotLoggedIn.to_string(), hint_of(&Error::NotLoggedIn)),
    }
}

fn check_root(env: &Env, spec: &Spec) -> Check {
    if claude::refuses_root(env, spec) {
        let detail = "root, and IS_SANDBOX is not 1: claude refuses to skip permission checks";
        Check::error("root", detail, hint_of(&Error::RootNeedsSandbox))
    } else if nix::unistd::geteuid().is_root() {
        Check::ok("root", "root, with IS_SANDBOX set")
    } else {
        Check::ok("root", "not root")
    }
}

/// Checks what could end a job that is started here.
fn check_detach(request: &DoctorRequest, env: &Env) -> Check {
    let id = JobId::generated(clock::now(), 0);
    let root = request.root.as_deref().unwrap_or(Path::new("/"));
    let mut plan = match DetachPlan::new(DetachMode::Auto, &id, &[root, &request.cwd], env) {
        Ok(plan) => plan,
        Err(why) => return Check::unknown("detach", why),
    };
    // The risks have the same wording as in the answer of `start`.
    let risks =
        |plan: &DetachPlan| format!("risks of a job started here: {}", plan.risks().join("; "));
    if !plan.risks().is_empty() {
        let hint = "claudejob recover --all continues interrupted jobs";
        return Check::warning("detach", risks(&plan), hint);
    }
    let by = match plan.expected().by {
        Detachment::Scope => {
            "each job runs in a systemd scope, which survives a restart of the service"
        }
        Detachment::Session => {
            "each job runs in its own session, independent of services and logins"
        }
    };
    // Nothing can be done about these risks, so they are no warning.
    plan.detect_risks(env);
    if plan.risks().is_empty() {
        return Check::ok("detach", by);
    }
    Check::ok("detach", format!("{by}; {}", risks(&plan)))
}

/// A count with the names of the first items.
#[derive(Clone, Debug, Default)]
struct Named {
    count: usize,
    names: Vec<String>,
}

impl Named {
    const MAX_NAMES: usize = 3;

    fn add(&mut self, name: impl Into<String>) {
        self.count += 1;
        if self.names.len() < Self::MAX_NAMES {
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
    fn warns_about_untested_versions() {
        let within = "(tested: 2.1.197 to 2.1.332)";
        let older = "(tested: 2.1.197 to 2.1.332), older than every tested version";
        let newer = "(tested: 2.1.197 to 2.1.332), newer than every tested version";
        for (output, level, detail) in [
            ("2.1.197 (Claude Code)", Level::Ok, format!("2.1.197 {within}")),
            ("2.1.332 (Claude Code)", Level::Ok, format!("2.1.332 {within}")),
            ("2.1.200", Level::Ok, format!("2.1.200 {within}")),
            ("2.1.196", Level::Warning, format!("2.1.196 {older}")),
            ("1.9.999", Level::Warning, format!("1.9.999 {older}")),
            ("2.1.333", Level::Warning, format!("2.1.333 {newer}")),
            ("3.0.1", Level::Warning, format!("3.0.1 {newer}")),
            ("hello\nworld", Level::Warning, "no version number in 'hello world'".to_owned()),
            ("", Level::Warning, "no version number in ''".to_owned()),
        ] {
            let check = check_version(output);
            assert_eq!((check.level, check.detail), (level, detail), "{output:?}");
            assert_eq!(check.hint.is_some(), level != Level::Ok, "{output:?}");
        }
    }

    #[test]
    fn names_the_first_items() {
        let mut named = Named::default();
        let mut shown = Vec::new();
        for name in ["a", "b", "c", "d"] {
            named.add(name);
            shown.push(named.to_string());
        }
        assert_eq!(shown, ["1 (a)", "2 (a, b)", "3 (a, b, c)", "4 (a, b, c, …)"]);
    }
}
