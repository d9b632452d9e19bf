//! Arguments of `start`.

use std::time::Duration;

use clap::Args;

use super::StartRequest;
use super::batch::BatchArgs;
use super::job_options::{JobOptions, shorten_help};
use crate::arguments::{duration, parse_job_id};
use crate::error::Error;
use crate::job::JobId;
use crate::text::{one_line, shell_quote};

/// Maximum length of a prompt in a hint.
const MAX_HINT_CHARS: usize = 1_000;

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login -C ~/app -p \"Fix the login test\"\n\
    \nClaude gets the environment of this command; it is not stored.",
    mut_args(shorten_help)
)]
pub(crate) struct StartArgs {
    /// The job's id [default: derived from the time]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Set the job's id
    #[arg(short = 'n', long, alias = "name", value_name = "ID", hide = true)]
    job_id: Option<String>,
    #[command(flatten)]
    pub job: JobOptions,
    /// If the id is in use, return that job instead of an error
    #[arg(long, help_heading = "Job")]
    pub(super) if_absent: bool,
    /// Wait until the job has ended, at most for DURATION
    ///
    /// Output and exit code are those of claudejob wait.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        num_args = 0..=1,
        require_equals = false,
        help_heading = "Job"
    )]
    pub(super) wait: Option<Option<Duration>>,
    #[command(flatten)]
    pub(super) batch: BatchArgs,
}

impl StartArgs {
    /// Converts the arguments into a job to start.
    pub(super) fn into_request(mut self) -> Result<StartRequest, Error> {
        if self.job_id.is_some() && self.id.is_some() {
            if self.job.prompt.is_some() || self.job.prompt_file.is_some() {
                return Err(Error::Usage("the id is given twice".to_owned()));
            }
            // The call is that of `run`: -n NAME "PROMPT".
            self.job.prompt = self.id.take();
        }
        let id = match self.id.or(self.job_id) {
            Some(text) => Some(parse_new_id(&text)?),
            None => None,
        };
        let Some(prompt) = self.job.read_prompt()? else { return Err(Error::NoPrompt("start")) };
        Ok(StartRequest { if_absent: self.if_absent, ..self.job.into_request(id, prompt)? })
    }
}

/// Parses the id of a new job. Several words are probably a prompt.
fn parse_new_id(text: &str) -> Result<JobId, Error> {
    if text.trim().contains(char::is_whitespace) {
        let prompt = shell_quote(&one_line(text, MAX_HINT_CHARS));
        return Err(Error::PromptAsId(text.to_owned(), prompt));
    }
    parse_job_id(text)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> StartArgs {
        let command = StartArgs::augment_args(Command::new("start")).no_binary_name(true);
        StartArgs::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    #[test]
    fn accepts_prompt_with_leading_dashes() {
        let args = parse(&["--prompt", "--help me", "--", "-x"]);
        assert_eq!(args.job.prompt.as_deref(), Some("--help me"));
        assert_eq!(args.job.extra_args, ["-x"]);
    }

    #[test]
    fn a_name_and_a_prompt_are_taken_as_by_run() {
        let request = parse(&["-n", "a", "Fix the test"]).into_request().unwrap();
        assert_eq!(request.id.unwrap().as_str(), "a");
        assert_eq!(request.prompt, b"Fix the test");
        let twice = parse(&["-n", "a", "b", "-p", "x"]).into_request();
        assert!(matches!(twice, Err(Error::Usage(_))));
    }

    #[test]
    fn wait_duration_is_optional() {
        for (arguments, expected) in [
            (&["--prompt", "x"][..], None),
            (&["--prompt", "x", "--wait"], Some(None)),
            (&["--wait", "5s", "--prompt", "x"], Some(Some(Duration::from_secs(5)))),
        ] {
            assert_eq!(parse(arguments).wait, expected);
        }
    }
}
