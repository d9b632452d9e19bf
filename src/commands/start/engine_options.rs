//! Options of jobs on a cluster.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::{absolute, text};
use crate::claude;
use crate::error::Error;
use crate::job::{EngineKind, EngineOptions};

/// Where the job runs.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Run the job on this machine, or on a Slurm cluster
    #[arg(
        long,
        value_name = "ENGINE",
        value_enum,
        env = "CLAUDE_SKILL_ON",
        hide_env_values = true,
        default_value = "local"
    )]
    on: On,
    /// Pass an argument, such as --partition=x, to sbatch
    ///
    /// The option can be repeated: --on-arg=--partition=x --on-arg=--time=2:00:00.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    on_arg: Vec<String>,
    /// Read variables, such as a key, from this file on the node
    ///
    /// A line is NAME=VALUE. Others must not be able to access the file.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Pass a variable to the node; the scheduler stores its value
    ///
    /// Without this option no variable of the caller reaches the node or the scheduler's files.
    /// For a key use --env-file.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    export_env: Vec<String>,
}

/// `--on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::commands) enum On {
    /// On this machine
    Local,
    /// On a node of a Slurm cluster, through sbatch
    Slurm,
}

impl EngineArgs {
    /// Returns the options of the engine; `None` for a job of this machine.
    pub(super) fn into_options(self) -> Result<Option<EngineOptions>, Error> {
        if self.on == On::Local {
            // The configuration file may set arguments for jobs on the cluster.
            if self.env_file.is_some() || !self.export_env.is_empty() {
                let why = "--env-file and --export-env need --on slurm";
                return Err(Error::Usage(why.to_owned()));
            }
            return Ok(None);
        }
        for name in &self.export_env {
            if !is_variable_name(name) {
                return Err(Error::Usage(format!(
                    "not a variable's name: '{}'",
                    name.escape_debug()
                )));
            }
        }
        let env_file = match &self.env_file {
            Some(file) => Some(text(absolute(file)?)?),
            None => None,
        };
        let (kind, args, export_env) = (EngineKind::Slurm, self.on_arg, self.export_env);
        Ok(Some(EngineOptions { kind, args, env_file, export_env }))
    }
}

fn is_variable_name(name: &str) -> bool {
    // These words have a meaning for sbatch.
    !["ALL", "NONE", "NIL"].contains(&name) && claude::is_variable_name(name)
}
