//! How a worker is detached from the process that starts it, and what can end it nevertheless.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cgroup_unit::{CgroupUnit, Manager, SCOPE_PREFIX, kills_user_processes};
use crate::claude::{self, Env};
use crate::job::{Detached, Detachment, JobId};
use crate::process::{self, cgroup};

/// Time that a scope has to end when it is stopped: a little more than a worker needs for its
/// signals and the end of its processes.
const STOP_TAKES: &str = "TimeoutStopSec=10";
/// Delegates the control group to the job. If the kernel then ends one of the job's processes for
/// lack of memory, systemd does not end them all (`OOMPolicy=`, systemd.service(5); scopes of
/// versions before 253 do not have that setting, and are not ended).
const DELEGATE: &str = "Delegate=yes";
/// Variables by which CI runners (of GitHub, Azure and Jenkins) find the processes that they end at
/// the end of a step.
const RUNNER_VARIABLES: [&str; 6] = [
    "RUNNER_TRACKING_ID",
    "VSTS_PROCESS_LOOKUP_ID",
    "JENKINS_NODE_COOKIE",
    "JENKINS_SERVER_COOKIE",
    "HUDSON_COOKIE",
    "HUDSON_SERVER_COOKIE",
];
/// Variables that a service manager sets for the service itself, and that a job must not inherit.
const SERVICE_VARIABLES: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
];

/// Requested way to detach a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DetachMode {
    /// A systemd scope if the job would not survive in a session
    #[default]
    Auto,
    /// A new session
    Session,
    /// A systemd scope, or fail
    Scope,
}

/// Planned way to detach a job.
#[derive(Debug)]
pub(crate) struct DetachPlan {
    scope: Option<Scope>,
    /// The launch fails if the scope cannot be created.
    required: bool,
    /// Bytes of memory that all processes of the job may use together.
    memory_max: Option<u64>,
    /// What would end the job nevertheless, one sentence each.
    risks: Vec<String>,
}

#[derive(Debug)]
struct Scope {
    program: PathBuf,
    manager: Manager,
    /// The user manager's socket directory, if the caller's environment does not name it.
    runtime_dir: Option<PathBuf>,
    unit: String,
}

impl DetachPlan {
    /// Plans how to detach a job. The error says why a required scope is not possible.
    pub(crate) fn new(
        mode: DetachMode,
        id: &JobId,
        dirs: &[&Path],
        env: &Env,
    ) -> Result<Self, String> {
        let unit = match cgroup::own() {
            Some(cgroup) => CgroupUnit::from_cgroup(&cgroup),
            None => CgroupUnit::Open,
        };
        let mut plan = Self {
            scope: None,
            required: mode == DetachMode::Scope,
            memory_max: None,
            risks: Vec::new(),
        };
        match mode {
            DetachMode::Scope => {
                let manager = match &unit {
                    CgroupUnit::Service(_, manager)
                    | CgroupUnit::Job(_, manager)
                    | CgroupUnit::Scope(_, manager) => *manager,
                    CgroupUnit::Open | CgroupUnit::Login(_) => Manager::User(euid()),
                };
                plan.use_scope(Scope::find(manager, id, env)?);
            }
            DetachMode::Session => plan.add_risks_of_session(&unit, dirs, env),
            DetachMode::Auto => plan.choose(&unit, id, dirs, env),
        }
        Ok(plan)
    }

    fn use_scope(&mut self, scope: Scope) {
        self.risks.extend(risk_of_logout(scope.manager));
        self.scope = Some(scope);
    }

    /// Adds what ends a job that is detached by a session alone.
    fn add_risks_of_session(&mut self, unit: &CgroupUnit, dirs: &[&Path], env: &Env) {
        match unit {
            CgroupUnit::Open => {}
            CgroupUnit::Service(name, _) => {
                self.risks.extend(risks_of_service(name, dirs, env));
                self.risks.push(risk_of_restart(name, "--detach session was given"));
            }
            CgroupUnit::Login(name) => {
                if logout_kills() {
                    self.risks.push(risk_of_session_end(name));
                }
            }
            CgroupUnit::Job(_, manager) | CgroupUnit::Scope(_, manager) => {
                self.risks.extend(risk_of_logout(*manager));
            }
        }
    }

    /// Uses a scope if a session is not sufficient and a scope is possible.
    fn choose(&mut self, unit: &CgroupUnit, id: &JobId, dirs: &[&Path], env: &Env) {
        match unit {
            CgroupUnit::Service(name, manager) => {
                self.risks.extend(risks_of_service(name, dirs, env));
                match Scope::find(*manager, id, env) {
                    Ok(scope) => self.use_scope(scope),
                    Err(why) => self.risks.push(risk_of_restart(name, &why)),
                }
            }
            // The outer job spares its inner jobs when it ends its processes, but somebody may end
            // its scope as a whole.
            CgroupUnit::Job(_, manager) => self.scope = Scope::find(*manager, id, env).ok(),
            CgroupUnit::Login(name) if logout_kills() => {
                match Scope::find(Manager::User(euid()), id, env) {
                    Ok(scope) if lingers(euid()) => self.scope = Some(scope),
                    _ => self.risks.push(risk_of_session_end(name)),
                }
            }
            CgroupUnit::Scope(_, manager) => self.risks.extend(risk_of_logout(*manager)),
            CgroupUnit::Open | CgroupUnit::Login(_) => {}
        }
    }

    /// Limits the memory of the job. Only a scope can do so.
    pub(crate) fn with_memory_max(mut self, bytes: Option<u64>) -> Self {
        self.memory_max = bytes;
        self
    }

    /// Returns what would end the job nevertheless.
    pub(crate) fn risks(&self) -> &[String] {
        &self.risks
    }

    /// Adds the risks that do not depend on the unit: the end of a container or of a CI runner.
    /// This takes some time, which there is while the worker starts.
    pub(crate) fn detect_risks(&mut self, env: &Env) {
        for risk in [risk_of_runner(env), risk_of_container(env)].into_iter().flatten() {
            if !self.risks.contains(&risk) {
                self.risks.push(risk);
            }
        }
    }

    /// Returns the job record's entry until the worker has checked for itself.
    pub(crate) fn expected(&self) -> Detached {
        let by = if self.scope.is_some() { Detachment::Scope } else { Detachment::Session };
        Detached { by, unit: None, cgroup: None, risks: self.risks.clone() }
    }

    pub(super) fn unit(&self) -> Option<&str> {
        Some(&self.scope.as_ref()?.unit)
    }

    /// Returns whether the launch fails if the scope cannot be created.
    pub(super) fn requires_scope(&self) -> bool {
        self.required
    }

    /// Gives up the scope, for this reason.
    pub(super) fn drop_scope(&mut self, why: &str) {
        self.scope = None;
        self.risks.push(risk_of_restart("the surrounding service", why));
    }

    /// Returns the command that runs `program` with these arguments, in the scope if there is one.
    pub(super) fn command(&self, program: &Path, arguments: &[OsString], env: &Env) -> Command {
        let mut command = match &self.scope {
            None => Command::new(program),
            Some(scope) => {
                // With --scope, systemd-run moves itself into the scope and executes the program:
                // its descriptors stay open, and no process is forked.
                let mut command = Command::new(&scope.program);
                if let Manager::User(_) = scope.manager {
                    command.arg("--user");
                }
                command.args(["--scope", "--quiet", "--collect", "--unit", &scope.unit]);
                command.args(["-p", STOP_TAKES, "-p", DELEGATE]);
                if let Some(bytes) = self.memory_max {
                    command.arg("-p").arg(format!("MemoryMax={bytes}"));
                }
                command.arg("--").arg(program);
                if let Some(dir) = &scope.runtime_dir {
                    command.env("XDG_RUNTIME_DIR", dir);
                }
                command
            }
        };
        command.args(arguments);
        claude::set_job_environment(&mut command, env);
        for name in SERVICE_VARIABLES {
            command.env_remove(name);
        }
        for name in RUNNER_VARIABLES {
            command.env_remove(name);
        }
        command
    }
}

impl Scope {
    /// Finds a scope of `manager` or, if this user may not use that, of the user's own manager.
    fn find(manager: Manager, id: &JobId, env: &Env) -> Result<Self, String> {
        let program = claude::find_program("systemd-run", env, &["/usr/bin".into(), "/bin".into()])
            .ok_or("systemd-run is not installed")?;
        // With a random part: a name in use is refused, and may belong to a job in another
        // directory.
        let random = uuid::Uuid::new_v4().simple().to_string();
        let unit = format!("{SCOPE_PREFIX}{id}-{}.scope", &random[..8]);
        let uid = euid();
        if uid == 0 && manager != Manager::User(0) {
            if !Path::new("/run/systemd/system").is_dir() {
                return Err("systemd is not running".to_owned());
            }
            return Ok(Self { program, manager: Manager::System, runtime_dir: None, unit });
        }
        let default_dir = PathBuf::from(format!("/run/user/{uid}"));
        let runtime_dir = match env.get("XDG_RUNTIME_DIR") {
            Some(dir) if has_manager(Path::new(dir)) => None,
            _ if has_manager(&default_dir) => Some(default_dir),
            _ => {
                return Err(format!(
                    "systemd of user {uid} is not running (loginctl enable-linger)"
                ));
            }
        };
        Ok(Self { program, manager: Manager::User(uid), runtime_dir, unit })
    }
}

fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns whether the directory is ours and contains a user manager's socket.
fn has_manager(dir: &Path) -> bool {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.uid() == euid() => {
            dir.join("systemd/private").exists() || dir.join("bus").exists()
        }
        _ => false,
    }
}

/// Returns whether the user's manager runs without a login (loginctl(1), `enable-linger`).
pub(crate) fn lingers(uid: u32) -> bool {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => Path::new("/var/lib/systemd/linger").join(user.name).exists(),
        Ok(None) | Err(_) => false,
    }
}

fn risk_of_restart(service: &str, why: &str) -> String {
    format!("a restart of {service} ends this job: {why}")
}

fn risk_of_session_end(session: &str) -> String {
    format!("the end of {session} (logout) ends this job: loginctl enable-linger")
}

fn risk_of_logout(manager: Manager) -> Option<String> {
    match manager {
        Manager::User(uid) if !lingers(uid) => {
            Some("the user's last logout ends this job: loginctl enable-linger".to_owned())
        }
        _ => None,
    }
}

/// Returns whether logind ends the processes of a session at logout.
fn logout_kills() -> bool {
    let mut files = vec![PathBuf::from("/etc/systemd/logind.conf")];
    for dir in [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ] {
        let first = files.len();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            files.push(entry.path());
        }
        files[first..].sort();
    }
    let mut text = String::new();
    for file in files {
        text += &fs::read_to_string(file).unwrap_or_default();
        text.push('\n');
    }
    kills_user_processes(&text)
}

fn risk_of_runner(env: &Env) -> Option<String> {
    let name = RUNNER_VARIABLES.iter().find(|name| env.get(name).is_some())?;
    Some(format!(
        "a CI runner set {name}, which is not passed to this job so that it outlives the step; \
         the end of the runner's machine ends it"
    ))
}

fn risk_of_container(env: &Env) -> Option<String> {
    if !in_container(env) || !descends_from_init() {
        return None;
    }
    let main = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    Some(format!(
        "this container ends with its main process ({}), and this job with it",
        main.trim()
    ))
}

fn in_container(env: &Env) -> bool {
    Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
        || env.get("KUBERNETES_SERVICE_HOST").is_some()
        || env.get("container").is_some()
}

/// Returns whether the container's main process is not systemd, and is an ancestor of this process.
/// A process that was started from outside (`docker exec`) has no parent in the container.
fn descends_from_init() -> bool {
    if Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let own = process::own_pid();
    own == 1 || process::descends_from(own, 1)
}

/// Returns a sentence for each directory that disappears when the service stops. The job stays in
/// the service's mount namespace.
fn risks_of_service(name: &str, dirs: &[&Path], env: &Env) -> Vec<String> {
    let mut vanishing = Vec::new();
    if let Some(runtime) = env.get("RUNTIME_DIRECTORY") {
        for dir in runtime.to_string_lossy().split(':') {
            if !dir.is_empty() {
                vanishing.push(PathBuf::from(dir));
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // ID PARENT DEVICE ROOT MOUNT-POINT …, proc(5); PrivateTmp= mounts a directory of this name.
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(3);
        if let (Some(root), Some(point)) = (fields.next(), fields.next())
            && root.contains("/systemd-private-")
        {
            vanishing.push(PathBuf::from(point));
        }
    }
    let mut risks = Vec::new();
    for dir in dirs {
        if vanishing.iter().any(|root| dir.starts_with(root)) {
            risks.push(format!("{} disappears when {name} stops", dir.display()));
        }
    }
    risks
}
