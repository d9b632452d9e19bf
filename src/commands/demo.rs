//! `demo`: runs a recorded job from start to result.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Call;
use super::clean::{CleanOptions, clean};
use super::result::result_within;
use super::run::Follower;
use super::start::{StartAnswer, StartRequest, start};
use crate::arguments::cwd;
use crate::error::{Error, ExitStatus};
use crate::job::{ClaudeOptions, Replay, Spec};
use crate::output::{BOLD, painted, print_text, short_path};
use crate::process;
use crate::store::{JOBS_DIR, Store, default_root};
use crate::text::shell_quote;

/// Number of demos whose jobs are kept.
const KEPT_DEMOS: usize = 5;

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob demo --real \"Say hello\"")]
pub(crate) struct DemoArgs {
    /// Run the installed claude with this prompt
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true)]
    real: Option<String>,
}

impl DemoArgs {
    /// Starts a job, follows it to its end, and shows its result.
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        process::reap_in_background();
        let store = Store::open(&call.demo_dir()?)?;
        let keep = CleanOptions { keep: Some(KEPT_DEMOS - 1), ..CleanOptions::default() };
        // Old demos do no harm.
        let _ = clean(&store, &[], None, &keep);
        let request = self.into_request()?;
        let prompt = shell_quote(&String::from_utf8_lossy(&request.prompt));
        let place = short_path(&store.root().to_string_lossy());
        print_part(call, &format!("A demo in a jobs directory of its own: {place}\n\n"))?;
        print_call(call, &format!("start -p {prompt}"))?;
        let started = StartAnswer { next: Vec::new(), ..start(&store, request, &call.env)? };
        call.print(&started)?;
        let id = started.job_id;
        print_call(call, &format!("logs -f {id}"))?;
        let status = Follower::new(call, &store, id.clone(), false).run()?;
        if !call.printer.is_text() {
            return Ok(status);
        }
        let ended = result_within(&store, &id, call.bound())?;
        print_call(call, &format!("result {id}"))?;
        call.print(&ended)?;
        print_part(call, "\nNext: claudejob run \"PROMPT\"\n")?;
        Ok(status)
    }

    /// Returns the job: a built-in recording, or the installed claude.
    fn into_request(self) -> Result<StartRequest, Error> {
        let is_real = self.real.is_some();
        let prompt = self.real.unwrap_or_else(|| "Fix the failing test in src/slug.rs".to_owned());
        let spec = Spec {
            cwd: cwd(None)?,
            replay: if is_real { None } else { Some(Replay { file: None, speed: 1.0 }) },
            options: ClaudeOptions {
                permission_mode: "default".to_owned(),
                ..ClaudeOptions::default()
            },
            ..Spec::default()
        };
        Ok(StartRequest { prompt: prompt.into_bytes(), spec, ..StartRequest::default() })
    }
}

impl Call {
    /// Returns the jobs directory of demos: that of `--jobs-dir`, or one beside the default.
    fn demo_dir(&self) -> Result<PathBuf, Error> {
        let variable = self.env.get(JOBS_DIR).map(Path::new);
        if self.jobs_dir.is_some() && self.jobs_dir.as_deref() != variable {
            return self.jobs_dir();
        }
        match default_root(|name| self.env.get(name).cloned()) {
            Some(root) => Ok(root.with_file_name("demo")),
            None => self.jobs_dir(),
        }
    }
}

/// Prints a text, if answers are text.
fn print_part(call: &Call, text: &str) -> Result<(), Error> {
    if call.printer.is_text() { print_text(text) } else { Ok(()) }
}

/// Shows the call that a person would make.
fn print_call(call: &Call, shown: &str) -> Result<(), Error> {
    print_part(call, &format!("{}\n", painted(BOLD, &format!("$ claudejob {shown}"))))
}
