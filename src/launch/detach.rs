//! How a worker is detached from the process that starts it, and what can end it nevertheless.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cgroup_unit::{CgroupUnit, Manager, SCOPE_PREFIX, kills_user_processes};
use crate::claude::{self, Env};
use crate::job::{Detached, Detachment, JobId};
use crate::process::cgroup;

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
    /// The sentence about the container.
    container_risk: Option<String>,
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
        let mut risks = Vec::new();
        let unit =
            cgroup::own().map_or(CgroupUnit::Open, |cgroup| CgroupUnit::from_cgroup(&cgroup));
        let find_scope = |manager| Scope::find(manager, id, env);
        if mode == DetachMode::Scope {
            let manager = match &unit {
                CgroupUnit::Service(_, manager)
                | CgroupUnit::Job(_, manager)
                | CgroupUnit::Scope(_, manager) => *manager,
                CgroupUnit::Open | CgroupUnit::Login(_) => Manager::User(euid()),
            };
            let scope = find_scope(manager)?;
            risks.extend(risk_of_logout(scope.manager));
            return Ok(Self {
                scope: Some(scope),
                required: true,
                memory_max: None,
                risks,
                container_risk: None,
            });
        }
        let mut scope = None;
        match &unit {
            CgroupUnit::Open => {}
            CgroupUnit::Service(name, manager) => {
                risks.extend(risks_of_service(name, dirs, env));
                let why = match mode {
                    DetachMode::Session => Err("--detach session was given".to_owned()),
                    _ => find_scope(*manager),
                };
                match why {
                    Ok(found) => {
                        risks.extend(risk_of_logout(found.manager));
                        scope = Some(found);
                    }
                    Err(why) => risks.push(format!("a restart of {name} ends this job: {why}")),
                }
            }
            // The outer job spares its inner jobs when it ends its processes, but somebody may end
            // its scope as a whole.
            CgroupUnit::Job(_, manager) if mode == DetachMode::Auto => {
                scope = find_scope(*manager).ok();
            }
            CgroupUnit::Login(name) if logout_kills() => {
                let lingers = lingers(euid());
                match (mode, find_scope(Manager::User(euid()))) {
                    (DetachMode::Auto, Ok(found)) if lingers => scope = Some(found),
                    _ => risks.push(format!(
                        "the end of {name} (logout) ends this job: loginctl enable-linger"
                    )),
                }
            }
            CgroupUnit::Job(_, manager) | CgroupUnit::Scope(_, manager) => {
                risks.extend(risk_of_logout(*manager));
            }
            CgroupUnit::Login(_) => {}
        }
        Ok(Self { scope, required: false, memory_max: None, risks, container_risk: None })
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
        self.container_risk = risk_of_container(env);
        for risk in risk_of_runner(env).into_iter().chain(self.container_risk.clone()) {
            if !self.risks.contains(&risk) {
                self.risks.push(risk);
            }
        }
    }

    /// Returns the risk that is the same for every job of the container.
    pub(crate) fn container_risk(&self) -> Option<&str> {
        self.container_risk.as_deref()
    }

    /// Returns the job record's entry until the worker has checked for itself.
    pub(crate) fn expected(&self) -> Detached {
        let by = if self.scope.is_some() { Detachment::Scope } else { Detachment::Session };
        Detached { by, unit: None, cgroup: None, risks: self.risks.clone() }
    }

    pub(super) fn unit(&self) -> Option<&str> {
        self.scope.as_ref().map(|scope| scope.unit.as_str())
    }

    /// Returns whether the launch fails if the scope cannot be created.
    pub(super) fn requires_scope(&self) -> bool {
        self.required
    }

    /// Gives up the scope, for this reason.
    pub(super) fn drop_scope(&mut self, why: &str) {
        self.scope = None;
        self.risks.push(format!("a restart of the surrounding service ends this job: {why}"));
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
        for name in SERVICE_VARIABLES.iter().chain(&RUNNER_VARIABLES) {
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
        let requested = env.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        let default_dir = PathBuf::from(format!("/run/user/{uid}"));
        let requested = requested.filter(|dir| has_manager(dir));
        let runtime_dir = match requested {
            Some(_) => None,
            None if has_manager(&default_dir) => Some(default_dir),
            None => {
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
    let ours = fs::metadata(dir).is_ok_and(|metadata| metadata.uid() == euid());
    ours && ["systemd/private", "bus"].iter().any(|socket| dir.join(socket).exists())
}

/// Returns whether the user's manager runs without a login (loginctl(1), `enable-linger`).
fn lingers(uid: u32) -> bool {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user.name).exists())
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
    let dirs = [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ];
    for dir in dirs {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        files.extend(found);
    }
    let texts: Vec<String> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    kills_user_processes(texts.iter().map(String::as_str))
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
    let files = ["/.dockerenv", "/run/.containerenv"];
    files.iter().any(|file| Path::new(file).exists())
        || env.get("KUBERNETES_SERVICE_HOST").is_some()
        || env.get("container").is_some()
}

/// Returns whether the container's main process is not systemd, and is an ancestor of this process.
/// A process that was started from outside (`docker exec`) has no parent in the container.
fn descends_from_init() -> bool {
    if Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let mut pid = std::process::id() as i32;
    // Far deeper than any process tree.
    for _ in 0..1_000 {
        match crate::process::parent_of(pid) {
            Some(1) => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return pid == 1,
        }
    }
    false
}

/// Returns a sentence for each directory that disappears when the service stops. The job stays in
/// the service's mount namespace.
fn risks_of_service(name: &str, dirs: &[&Path], env: &Env) -> Vec<String> {
    let runtime = env.get("RUNTIME_DIRECTORY").cloned().unwrap_or_default();
    let mut vanishing: Vec<PathBuf> =
        runtime.to_string_lossy().split(':').filter(|f| !f.is_empty()).map(PathBuf::from).collect();
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
    let within = |dir: &&Path| vanishing.iter().any(|root| dir.starts_with(root));
    dirs.iter()
        .copied()
        .filter(within)
        .map(|dir| format!("{} disappears when {name} stops", dir.display()))
        .collect()
}
