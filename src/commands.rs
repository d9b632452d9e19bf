//! The verbs. Each is one file: its arguments, its work and its answer.

pub(crate) mod answer;
pub(crate) mod attach;
mod caller;
mod check;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
mod engine_jobs;
pub(crate) mod events;
pub(crate) mod export;
mod failed_dependency;
pub(crate) mod finish;
mod freezing;
mod gateway;
pub(crate) mod host_takeover;
pub(crate) mod interrupt;
pub(crate) mod kill;
mod launching;
pub(crate) mod list;
pub(crate) mod logs;
mod markdown;
pub(crate) mod mcp;
mod naming;
mod observe;
pub(crate) mod open;
mod parallel;
pub(crate) mod pause;
mod recipient;
pub(crate) mod recover;
pub(crate) mod redeliver;
mod requests;
pub(crate) mod rerun;
pub(crate) mod result;
pub(crate) mod resume;
pub(crate) mod run;
mod selecting;
pub(crate) mod send;
pub(crate) mod setup;
pub(crate) mod several;
mod shortened;
pub(crate) mod sidecar;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
mod stdin_lines;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::arguments::{CommonArgs, absolute};
use crate::claude::Env;
use crate::config::UserConfig;
use crate::error::{Error, ExitStatus};
use crate::output::{Answer, Printer, Sink};
use crate::store::{self, Store};

/// What a verb needs beside its arguments.
pub(crate) struct Call {
    /// The option `--jobs-dir` or its variable.
    jobs_dir: Option<PathBuf>,
    /// The option `--max-chars` or its variable.
    max_chars: Option<usize>,
    /// The arguments of the process.
    args: Vec<OsString>,
    pub(crate) env: Env,
    pub(crate) printer: Printer,
    config: UserConfig,
}

impl Call {
    pub(crate) fn new(
        common: CommonArgs,
        args: Vec<OsString>,
        config: &UserConfig,
        sink: Sink,
    ) -> Self {
        let printer = Printer::new(&common, sink);
        let CommonArgs { jobs_dir, max_chars, .. } = common;
        let env = Env::own_with(config.profiles());
        Self { jobs_dir, max_chars, args, env, printer, config: config.clone() }
    }

    /// Returns the path of the jobs directory: the option, its variable, or the platform's default.
    pub(crate) fn jobs_dir(&self) -> Result<PathBuf, Error> {
        match &self.jobs_dir {
            Some(path) if !path.as_os_str().is_empty() => absolute(path),
            _ => {
                let root = store::default_root(|name| self.env.get(name).cloned());
                let missing = "neither HOME nor XDG_STATE_HOME is set: use --jobs-dir";
                root.ok_or_else(|| Error::Usage(missing.to_owned()))
            }
        }
    }

    /// Opens the jobs directory.
    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(&self.jobs_dir()?)?)
    }

    /// Prints an error and returns its exit status.
    pub(crate) fn print_error(&self, error: &Error) -> ExitStatus {
        let hint = match self.store() {
            Ok(store) => naming::hint(&store, error),
            Err(_) => error.hint(),
        };
        self.printer.error(error, hint)
    }

    /// Prints the answer of the verb.
    pub(crate) fn print(&self, answer: &dyn Answer) -> Result<ExitStatus, Error> {
        self.printer.print(answer)
    }
}
