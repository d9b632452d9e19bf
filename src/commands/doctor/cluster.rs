//! Checks of a Slurm cluster and, with `--probe`, of one of its nodes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::Check;
use crate::launch::{EngineError, run_on_slurm, slurm_config, slurm_setting};
use crate::process::machine::{self, Medium};
use crate::text::{clip, shell_word};

/// Time limit of a question to Slurm.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit of the probe: it may have to wait for a node.
const PROBE_TIMEOUT: Duration = Duration::from_secs(180);
/// Least seconds between SIGTERM and SIGKILL in which a worker ends its claude.
const MIN_KILL_WAIT: u64 = 8;

/// Checks the cluster. With `probe`, these arguments are those of the job that checks a node.
pub(super) fn checks(root: &Path, probe: Option<&[String]>) -> Vec<Check> {
    let config = match slurm_config(CONFIG_TIMEOUT) {
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
    if let Some(arguments) = probe {
        checks.push(self::probe(root, arguments));
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

#[derive(Deserialize)]
struct NodeCheck {
    name: String,
    level: String,
    detail: String,
}

/// Runs `doctor` on a node, which writes its answer into the jobs directory.
fn probe(root: &Path, arguments: &[String]) -> Check {
    const NAME: &str = "slurm_node";
    const HINT: &str = "look at that node; --on-arg chooses another one";
    if !root.is_dir() {
        let hint = format!("mkdir -p -m 700 {}", shell_word(&root.to_string_lossy()));
        return Check::warning(NAME, "not tried: the jobs directory does not exist yet", hint);
    }
    let file = root.join(format!(".probe-{}", uuid::Uuid::new_v4().simple()));
    let done = run_on_slurm(root, &file, arguments, PROBE_TIMEOUT);
    let text = fs::read_to_string(&file);
    let _ = fs::remove_file(&file);
    let text = match (text, done) {
        (Ok(text), _) => text,
        (Err(_), Err(error)) => return Check::error(NAME, error.to_string(), HINT),
        (Err(error), Ok(())) => {
            let detail = format!("the node has written nothing into the jobs directory: {error}");
            return Check::error(
                NAME,
                detail,
                "use a directory that all nodes share, with --jobs-dir",
            );
        }
    };
    let Ok(answer) = serde_json::from_str::<NodeAnswer>(&text) else {
        let detail = format!("claudejob does not run there: {}", clip(text.trim(), 200));
        return Check::error(NAME, detail, "install it under the same path on all nodes");
    };
    let mut problems = Vec::new();
    for check in answer.checks {
        if check.level == "error" {
            problems.push(format!("{}: {}", check.name, check.detail));
        }
    }
    if answer.ok {
        Check::ok(NAME, "a node sees the jobs directory, claudejob, claude and its login")
    } else {
        Check::error(NAME, problems.join("; "), HINT)
    }
}
