//! `demo`: runs a recorded job from start to result.

use clap::Args;

use super::logs::{self, LogsRequest};
use super::result::result_within;
use super::start::{StartRequest, start};
use super::wait::exit_status;
use super::{Call, MAX_ANSWER_CHARS};
use crate::arguments::cwd;
use crate::error::{Error, ExitStatus};
use crate::job::{ClaudeOptions, Replay, Spec};
use crate::output::{BOLD, Printer, painted, print_text};

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob demo --real \"Say hello\"")]
pub(crate) struct DemoArgs {
    /// Run the installed claude with this prompt
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true)]
    real: Option<String>,
}

impl DemoArgs {
    /// Starts a job, follows its log to the end, and shows its result.
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let started = start(&store, self.into_request()?, &call.env)?;
        let id = &started.job_id;
        // The job goes on if the reader has closed stdout, and its verdict is the exit status.
        let _ = print_call(&call.printer, "", &format!("start --job-id {id} --prompt …"));
        let _ = call.print(&started);
        let _ = print_call(&call.printer, "\n", &format!("logs {id} --follow"));
        let log = LogsRequest::from_offset(id.clone(), 0);
        logs::follow(&store, &log, |part| part.print(call))?;
        let ended = result_within(&store, id, MAX_ANSWER_CHARS)?;
        let _ = print_call(&call.printer, "\n", &format!("result {id}"));
        let _ = call.print(&ended);
        Ok(exit_status(&ended))
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

/// Shows the call that a person would make, if answers are printed as text.
fn print_call(printer: &Printer, before: &str, call: &str) -> Result<(), Error> {
    if printer.is_json() {
        return Ok(());
    }
    print_text(&format!("{before}{}", painted(BOLD, &format!("$ claudejob {call}\n"))))
}
