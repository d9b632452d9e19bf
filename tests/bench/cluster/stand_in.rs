//! Stands in for a Slurm cluster: `sbatch`, `squeue`, `scancel` and `scontrol` answer from a file.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::stage::Stage;

/// Environment variable with the folder of the stand-ins.
const FOLDER: &str = "CLAUDEJOB_BENCH_CLUSTER";

/// Answers as Slurm does for a client: the work of its controller is not measured.
const SCRIPT: &str = r#"#!/bin/sh
cd "$CLAUDEJOB_BENCH_CLUSTER" || exit 1
echo "${0##*/}" >>calls
case ${0##*/} in
sbatch)
  for argument; do case $argument in --wrap=*) printf '%s\n' "${argument#--wrap=}" >script ;; esac; done
  read -r last <last-id; echo $((last + 1)) >last-id; echo $((last + 1)) ;;
squeue)
  for last; do :; done
  case $* in *' -j '*) exec grep -E "^($(echo "$last" | tr , '|'))[|]" states ;; *) exec cat states ;; esac ;;
scontrol) echo 'MaxArraySize = 1001' ;;
esac
"#;

/// The first id of the engine is the next number.
pub(super) const FIRST_ID: u64 = 10_000_000;

/// The stand-ins.
pub(super) struct StandIn {
    folder: PathBuf,
}

impl StandIn {
    pub(super) fn new(stage: &Stage) -> Outcome<Self> {
        let folder = stage.path("cluster");
        fs::create_dir(&folder)?;
        let script = folder.join("stand-in");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        for name in ["sbatch", "squeue", "scancel", "scontrol"] {
            symlink(&script, folder.join(name))?;
        }
        fs::write(folder.join("last-id"), format!("{FIRST_ID}\n"))?;
        fs::write(folder.join("states"), "")?;
        Ok(Self { folder })
    }

    /// Makes a command use the stand-ins.
    pub(super) fn set(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = self.folder.clone().into_os_string();
        all.push(":");
        all.push(path);
        command.env("PATH", all).env(FOLDER, &self.folder);
    }

    /// Returns the batch script that was submitted last.
    pub(super) fn script(&self) -> PathBuf {
        self.folder.join("script")
    }

    /// Opens the answer of `squeue` for writing: a line
    /// `ID|STATE|RESTARTS|NODE|REASON|COMMENT` for each job.
    pub(super) fn states(&self) -> Outcome<BufWriter<File>> {
        Ok(BufWriter::new(File::create(self.folder.join("states"))?))
    }

    /// Returns how often each command was called since the last time, such as `squeue 1`.
    pub(super) fn calls(&self) -> Outcome<String> {
        let path = self.folder.join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        File::create(&path)?.flush()?;
        let mut calls = Vec::new();
        for name in ["sbatch", "squeue", "scancel", "scontrol"] {
            match text.lines().filter(|line| *line == name).count() {
                0 => {}
                count => calls.push(format!("{name} {count}")),
            }
        }
        Ok(if calls.is_empty() { "none".to_owned() } else { calls.join(", ") })
    }
}
