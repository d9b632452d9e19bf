//! How a job gets away from whoever starts it, and what can take it along all the same.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::{Manager, Place, SCOPE_PREFIX, ends_at_logout};
use crate::claude::{self, Surroundings};
use crate::job::{Detached, Detachment, JobId};
use crate::process::cgroup;

/// How long a scope may take to end when it is stopped: a little more than a worker's ladder of
/// signals and its sweep.
const STOP_TAKES: &str = "TimeoutStopSec=10";
/// A part of the tree that is left to its processes: then the kernel's ending one of them for
/// lack of memory does not end them all (`OOMPolicy=`, systemd.service(5); before version 253 a
/// scope knows that word not, and does not end).
const DELEGATE: &str = "Delegate=yes";
/// Marks by which a runner of a CI system finds, at the end of its step, what it has to end: of
/// GitHub, of Azure, of Jenkins.
const RUNNER_MARKS: [&str; 6] = [
    "RUNNER_TRACKING_ID",
    "VSTS_PROCESS_LOOKUP_ID",
    "JENKINS_NODE_COOKIE",
    "JENKINS_SERVER_COOKIE",
    "HUDSON_COOKIE",
    "HUDSON_SERVER_COOKIE",
];
/// What a service's manager tells the service, and no job of it.
const SERVICE_MARKS: [&str; 9] = [
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

/// How the caller wants a job to be detached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// By a scope where a session would not do.
    #[default]
    Auto,
    /// By a session.
    Session,
    /// By a scope, or not at all.
    Scope,
}

/// How a job will be detached.
#[derive(Debug)]
pub struct Plan {
    scope: Option<Scope>,
    /// There is no doing without the scope.
    strict: bool,
    /// Bytes of memory that all processes of the job may take together.
    memory_max: Option<u64>,
    /// What would take the job along all the same, a sentence each.
    risks: Vec<String>,
    /// The one of these sentences that is about the container.
    container_risk: Option<String>,
}

#[derive(Debug)]
struct Scope {
    program: PathBuf,
    manager: Manager,
    /// The user manager's socket directory, where the caller does not name it.
    runtime_dir: Option<PathBuf>,
    unit: String,
}

impl Plan {
    /// Looks around. An error says why there can be no scope although one must be.
    pub fn make(
        wish: Wish,
        id: &JobId,
        folders: &[&Path],
        around: &Surroundings,
    ) -> Result<Self, String> {
        let mut risks = Vec::new();
        let place = cgroup::own().map_or(Place::Open, |cgroup| Place::of(&cgroup));
        let reach = |manager| Scope::within_reach(manager, id, around);
        if wish == Wish::Scope {
            let manager = match &place {
                Place::Service(_, manager) | Place::Job(_, manager) | Place::Scope(_, manager) => {
                    *manager
                }
                Place::Open | Place::Login(_) => Manager::User(euid()),
            };
            let scope = reach(manager)?;
            risks.extend(risk_of_logout(scope.manager));
            return Ok(Self {
                scope: Some(scope),
                strict: true,
                memory_max: None,
                risks,
                container_risk: None,
            });
        }
        let mut scope = None;
        match &place {
            Place::Open => {}
            Place::Service(name, manager) => {
                risks.extend(risks_of_service(name, folders, around));
                let why = match wish {
                    Wish::Session => Err("--detach session was asked for".to_owned()),
                    _ => reach(*manager),
                };
                match why {
                    Ok(found) => {
                        risks.extend(risk_of_logout(found.manager));
                        scope = Some(found);
                    }
                    Err(why) => risks.push(format!("a restart of {name} ends this job: {why}")),
                }
            }
            // Its sweep spares a job of its own; but a scope can be ended as a whole, too.
            Place::Job(_, manager) if wish == Wish::Auto => scope = reach(*manager).ok(),
            Place::Login(name) if logout_kills() => {
                let lingers = lingers(euid());
                match (wish, reach(Manager::User(euid()))) {
                    (Wish::Auto, Ok(found)) if lingers => scope = Some(found),
                    _ => risks.push(format!(
                        "the end of {name} (logout) ends this job: loginctl enable-linger"
                    )),
                }
            }
            Place::Job(_, manager) | Place::Scope(_, manager) => {
                risks.extend(risk_of_logout(*manager));
            }
            Place::Login(_) => {}
        }
        Ok(Self { scope, strict: false, memory_max: None, risks, container_risk: None })
    }

    /// The same, with this limit to the memory of the job; only a scope has one.
    pub fn with_memory_max(mut self, bytes: Option<u64>) -> Self {
        self.memory_max = bytes;
        self
    }

    /// What would take the job along all the same.
    pub fn risks(&self) -> &[String] {
        &self.risks
    }

    /// Looks for what would end the job wherever it stands: a container's end, a CI runner's. It
    /// takes some looking around, for which there is time while the worker starts.
    pub fn look_around(&mut self, around: &Surroundings) {
        self.container_risk = risk_of_container(around);
        for risk in risk_of_runner(around).into_iter().chain(self.container_risk.clone()) {
            if !self.risks.contains(&risk) {
                self.risks.push(risk);
            }
        }
    }

    /// Returns the risk that is the same for every job of the container.
    pub fn container_risk(&self) -> Option<&str> {
        self.container_risk.as_deref()
    }

    /// What the job's record says until the worker has seen for itself.
    pub fn expected(&self) -> Detached {
        let by = if self.scope.is_some() { Detachment::Scope } else { Detachment::Session };
        Detached { by, unit: None, cgroup: None, risks: self.risks.clone() }
    }

    /// The scope's unit.
    pub(super) fn unit(&self) -> Option<&str> {
        self.scope.as_ref().map(|scope| scope.unit.as_str())
    }

    /// Whether the job may go on without the scope.
    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Does without the scope, for this reason.
    pub(super) fn without_scope(&mut self, why: &str) {
        self.scope = None;
        self.risks.push(format!("a restart of the service around it ends this job: {why}"));
    }

    /// The command that becomes `program` with these arguments, and where it is put.
    pub(super) fn command(
        &self,
        program: &Path,
        arguments: &[OsString],
        env: &Surroundings,
    ) -> Command {
        let mut command = match &self.scope {
            None => Command::new(program),
            Some(scope) => {
                // In a scope, systemd-run becomes the program that it starts: its process is
                // moved, its descriptors are kept, and nothing is forked.
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
                if let Some(folder) = &scope.runtime_dir {
                    command.env("XDG_RUNTIME_DIR", folder);
                }
                command
            }
        };
        command.args(arguments);
        claude::set_environment(&mut command, env);
        for name in SERVICE_MARKS.iter().chain(&RUNNER_MARKS) {
            command.env_remove(name);
        }
        command
    }
}

impl Scope {
    /// A scope of `manager` or, where that is not ours to ask, of the user's own.
    fn within_reach(manager: Manager, id: &JobId, around: &Surroundings) -> Result<Self, String> {
        let program = find_systemd_run(around).ok_or("there is no systemd-run")?;
        // Random, too: a name in use is refused, and may belong to a job in another directory.
        let random = uuid::Uuid::new_v4().simple().to_string();
        let unit = format!("{SCOPE_PREFIX}{id}-{}.scope", &random[..8]);
        let us = euid();
        if us == 0 && manager != Manager::User(0) {
            if !Path::new("/run/systemd/system").is_dir() {
                return Err("there is no systemd".to_owned());
            }
            return Ok(Self { program, manager: Manager::System, runtime_dir: None, unit });
        }
        let given = around.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        let usual = PathBuf::from(format!("/run/user/{us}"));
        let known = given.filter(|folder| has_manager(folder));
        let runtime_dir = match known {
            Some(_) => None,
            None if has_manager(&usual) => Some(usual),
            None => {
                return Err(format!(
                    "no systemd of user {us} is within reach (loginctl enable-linger)"
                ));
            }
        };
        Ok(Self { program, manager: Manager::User(us), runtime_dir, unit })
    }
}

fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether the folder is ours and holds a user manager's socket.
fn has_manager(folder: &Path) -> bool {
    let ours = fs::metadata(folder).is_ok_and(|about| about.uid() == euid());
    ours && ["systemd/private", "bus"].iter().any(|socket| folder.join(socket).exists())
}

fn find_systemd_run(around: &Surroundings) -> Option<PathBuf> {
    let path = around.get("PATH").cloned().unwrap_or_default();
    let usual = ["/usr/bin", "/bin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders
        .chain(usual)
        .map(|folder| folder.join("systemd-run"))
        .find(|program| claude::is_executable(program))
}

/// Whether the user's manager goes on without a login (loginctl(1), `enable-linger`).
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

/// logind's own word on what a logout ends.
fn logout_kills() -> bool {
    let mut files = vec![PathBuf::from("/etc/systemd/logind.conf")];
    let folders = [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ];
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        files.extend(found);
    }
    let texts: Vec<String> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    ends_at_logout(texts.iter().map(String::as_str))
}

fn risk_of_runner(env: &Surroundings) -> Option<String> {
    let mark = RUNNER_MARKS.iter().find(|mark| env.get(mark).is_some())?;
    Some(format!(
        "a CI runner set {mark}, which is kept from this job so that it outlives the step; \
         the end of the runner's machine ends it"
    ))
}

fn risk_of_container(env: &Surroundings) -> Option<String> {
    if !in_container(env) || !descends_from_init() {
        return None;
    }
    let main = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    Some(format!(
        "this container ends with its main process ({}), and this job with it",
        main.trim()
    ))
}

fn in_container(around: &Surroundings) -> bool {
    let files = ["/.dockerenv", "/run/.containerenv"];
    files.iter().any(|file| Path::new(file).exists())
        || around.get("KUBERNETES_SERVICE_HOST").is_some()
        || around.get("container").is_some()
}

/// Whether the container's main process is no systemd, and the one from which we were started:
/// who came in from outside (`docker exec`) has no parent in here.
fn descends_from_init() -> bool {
    if Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let mut pid = std::process::id() as i32;
    // Far deeper than any tree of processes.
    for _ in 0..1_000 {
        match crate::process::parent_of(pid) {
            Some(1) => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return pid == 1,
        }
    }
    false
}

/// Folders that vanish for the job when the service stops: it keeps the service's view of them.
fn risks_of_service(name: &str, folders: &[&Path], around: &Surroundings) -> Vec<String> {
    let runtime = around.get("RUNTIME_DIRECTORY").cloned().unwrap_or_default();
    let mut vanishing: Vec<PathBuf> =
        runtime.to_string_lossy().split(':').filter(|f| !f.is_empty()).map(PathBuf::from).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // ID PARENT DEVICE ROOT MOUNT-POINT …, proc(5); PrivateTmp= mounts a folder of this name.
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(3);
        if let (Some(root), Some(point)) = (fields.next(), fields.next())
            && root.contains("/systemd-private-")
        {
            vanishing.push(PathBuf::from(point));
        }
    }
    let within = |folder: &&Path| vanishing.iter().any(|root| folder.starts_with(root));
    folders
        .iter()
        .copied()
        .filter(within)
        .map(|folder| format!("{} vanishes when {name} stops", folder.display()))
        .collect()
}
