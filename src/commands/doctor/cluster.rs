//! Checks of a Slurm cluster and, with `--probe`, of one of its nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Check, node};
use crate::claude;
use crate::job::EngineRef;
use crate::launch::{Engine, EngineError, EngineSignal, EngineStatus, Slurm, slurm_setting};
use crate::process::machine::{self, Medium};
use crate::text::{clip, shell_quote, shell_word};

/// The cluster, with the time limit of a question.
const SLURM: Slurm = Slurm { timeout: Duration::from_secs(15) };
/// Time limit of the probe: it may have to wait for a node.
const PROBE_TIMEOUT: Duration = Duration::from_secs(180);
/// The same for a second node.
const SECOND_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const NODE_CHECK: &str = "slurm_node";
const LOCKS_CHECK: &str = "slurm_locks";
/// Least seconds between SIGTERM and SIGKILL in which a worker ends its claude.
const MIN_KILL_WAIT: u64 = 8;

/// How nodes are checked.
#[derive(Debug)]
pub(super) struct ProbeRequest {
    /// For `sbatch`.
    pub arguments: Vec<String>,
    /// The claude that a job would use.
    pub claude: Option<PathBuf>,
    pub profile: Option<String>,
    pub env_file: Option<PathBuf>,
}

/// Checks the cluster and, if that is requested, nodes.
pub(super) fn checks(root: &Path, probe: Option<&ProbeRequest>) -> Vec<Check> {
    let config = match SLURM.config() {
        Ok(config) => config,
        Err(error) => return vec![unreachable(&error)],
    };
    let setting = |name| slurm_setting(&config, name).unwrap_or("unknown");
    let number = |name| setting(name).split(' ').next().and_then(|text| text.parse::<u64>().ok());
    let mut checks = vec![Check::ok(
        "slurm",
        format!(
            "version {}, cluster {}, MaxArraySize {}, JobRequeue {} (jobs ask for it themselves)",
            setting("SLURM_VERSION"),
            setting("ClusterName"),
            setting("MaxArraySize"),
            setting("JobRequeue"),
        ),
    )];
    let kill_wait = setting("KillWait");
    checks.push(match number("KillWait") {
        Some(seconds) if seconds < MIN_KILL_WAIT => Check::warning(
            "slurm_kill",
            format!("KillWait is {kill_wait}: claude may be ended before it reports its cost"),
            "ask the administrator for KillWait=30, or end jobs with claudejob kill",
        ),
        _ => Check::ok("slurm_kill", format!("KillWait is {kill_wait}")),
    });
    let tracking = setting("ProctrackType");
    checks.push(if tracking.ends_with("/cgroup") {
        Check::ok("slurm_processes", tracking)
    } else {
        Check::warning(
            "slurm_processes",
            format!("{tracking} does not find all processes of a job whose worker was killed"),
            "ask the administrator for ProctrackType=proctrack/cgroup",
        )
    });
    checks.push(file_system(root));
    if let Some(request) = probe {
        checks.extend(self::probe(root, request));
    }
    checks
}

fn unreachable(error: &EngineError) -> Check {
    let hint = "run this on a login node of the cluster, with Slurm's commands on PATH";
    Check::error("slurm", error.to_string(), hint)
}

fn file_system(root: &Path) -> Check {
    let existing = root.ancestors().find(|path| path.is_dir()).unwrap_or(root);
    match machine::file_system(existing) {
        Ok(Some(name)) if Medium::of(&name).is_local() => Check::warning(
            "slurm_files",
            format!("the jobs directory is on {name}, which other machines may not see"),
            "use a directory that all nodes share, with --jobs-dir; claudejob doctor --on slurm --probe \
             tries it",
        ),
        Ok(Some(name)) => Check::ok("slurm_files", format!("the jobs directory is on {name}")),
        Ok(None) => Check::ok("slurm_files", "the jobs directory is on an unknown file system"),
        Err(error) => Check::unknown("slurm_files", error),
    }
}

/// The answer of `doctor` on the node.
#[derive(Deserialize)]
struct NodeAnswer {
    ok: bool,
    checks: Vec<NodeCheck>,
}

impl NodeAnswer {
    /// Returns what a check has found.
    fn detail(&self, name: &str) -> &str {
        let check = self.checks.iter().find(|check| check.name == name);
        check.map_or("", |check| &check.detail)
    }

    fn problems(&self) -> String {
        let mut problems = Vec::new();
        for check in &self.checks {
            if check.level == "error" {
                problems.push(format!("{}: {}", check.name, check.detail));
            }
        }
        problems.join("; ")
    }
}

#[derive(Deserialize)]
struct NodeCheck {
    name: String,
    level: String,
    detail: String,
}

/// A job that checks a node, with the directory in which nodes meet.
struct Probe<'a> {
    request: &'a ProbeRequest,
    dir: PathBuf,
    jobs: Vec<EngineRef>,
}

/// Runs `doctor` on a node, then, while that one holds locks, on another one, which tries to take them.
fn probe(root: &Path, request: &ProbeRequest) -> Vec<Check> {
    if !root.is_dir() {
        let hint = format!("mkdir -p -m 700 {}", shell_word(&root.to_string_lossy()));
        let detail = "not tried: the jobs directory does not exist yet";
        return vec![Check::warning(NODE_CHECK, detail, hint)];
    }
    let dir = root.join(format!(".probe-{}", uuid::Uuid::new_v4().simple()));
    if let Err(error) = fs::create_dir(&dir) {
        return vec![Check::unknown(NODE_CHECK, error)];
    }
    let mut probe = Probe { request, dir, jobs: Vec::new() };
    let checks = probe.checks(root);
    // The first one holds its locks until then.
    let _ = SLURM.signal(&probe.jobs, EngineSignal::End);
    let _ = fs::remove_dir_all(&probe.dir);
    checks
}

impl Probe<'_> {
    fn checks(&mut self, root: &Path) -> Vec<Check> {
        const HINT: &str = "look at that node; --on-arg chooses another one";
        let first = match self.run(root, &[], "", PROBE_TIMEOUT) {
            Ok(answer) => answer,
            Err(why) => return vec![Check::error(NODE_CHECK, why, HINT)],
        };
        let name = first.detail(node::NODE).to_owned();
        let api = first.detail(node::API);
        let mut checks = vec![if first.ok {
            let detail =
                format!("{name} sees the jobs directory, claudejob, claude and its login; {api}");
            Check::ok(NODE_CHECK, detail)
        } else {
            Check::error(NODE_CHECK, format!("{name}: {}", first.problems()), HINT)
        }];
        let exclude = [format!("--exclude={name}")];
        checks.push(match self.run(root, &exclude, " --second", SECOND_TIMEOUT) {
            Ok(second) => {
                let found = second.detail(node::LOCKS);
                let detail = format!("{name} and {}: {found}", second.detail(node::NODE));
                if second.ok {
                    Check::ok(LOCKS_CHECK, detail)
                } else {
                    let hint =
                        "use a file system with hard links that all nodes share, with --jobs-dir";
                    Check::error(LOCKS_CHECK, detail, hint)
                }
            }
            Err(why) => Check::ok(LOCKS_CHECK, format!("not tried with a second node: {why}")),
        });
        checks
    }

    /// Runs a job. Returns its answer, or why there is none.
    fn run(
        &mut self,
        root: &Path,
        arguments: &[String],
        word: &str,
        timeout: Duration,
    ) -> Result<NodeAnswer, String> {
        let output = self.dir.join(format!("answer-{}", self.jobs.len()));
        let quoted = |path: &Path| shell_quote(&path.to_string_lossy());
        let mut words = format!("--json --jobs-dir {} doctor --on local", quoted(root));
        if let Some(claude) = &self.request.claude {
            words += &format!(" --claude {}", quoted(claude));
        }
        if let Some(profile) = &self.request.profile {
            words += &format!(" --profile {}", shell_quote(profile));
        }
        if let Some(file) = &self.request.env_file {
            words += &format!(" --env-file {}", quoted(file));
        }
        words += &format!(" --on-node {}{word}", quoted(&self.dir));
        let arguments = [self.request.arguments.as_slice(), arguments].concat();
        let job = submit(&words, &output, arguments).map_err(|error| error.to_string())?;
        self.jobs.push(job.clone());
        let until = Instant::now() + timeout;
        loop {
            let states = SLURM.query(Some(std::slice::from_ref(&job)));
            let text = fs::read_to_string(&output).unwrap_or_default();
            if let Ok(answer) = serde_json::from_str(&text) {
                return Ok(answer);
            }
            let known = states.map_err(|error| error.to_string())?.remove(&job.id);
            let why = match known.map(|known| known.status) {
                Some(EngineStatus::Running { node, .. }) => format!("no answer from {node}"),
                Some(EngineStatus::Pending(why)) => format!("no node was free ({why})"),
                _ if text.is_empty() => {
                    return Err("the node has written nothing into the jobs directory".to_owned());
                }
                _ => {
                    return Err(format!(
                        "claudejob does not run there: {}",
                        clip(text.trim(), 200)
                    ));
                }
            };
            if Instant::now() >= until {
                return Err(why);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Submits a short job that runs this program with these words as `sh` takes them, and with these arguments
/// for `sbatch`. It writes to the file `output`.
fn submit(
    words: &str,
    output: &Path,
    mut arguments: Vec<String>,
) -> Result<EngineRef, EngineError> {
    let program = shell_quote(&claude::own_executable().to_string_lossy());
    let output = output.to_string_lossy().replace('%', "%%");
    arguments.insert(0, "--chdir=/".to_owned());
    let fixed = ["--parsable", "--export=NONE", "--job-name=claudejob-probe", "--time=5"];
    arguments.extend(fixed.map(str::to_owned));
    arguments.extend([format!("--output={output}"), format!("--wrap=exec {program} {words}")]);
    SLURM.sbatch(&arguments).map(EngineRef::from_id)
}
