//! Arguments of `logs`.

use clap::Args;

use super::{LogFormat, LogsRequest, follow, logs};
use crate::arguments::JobName;
use crate::commands::Call;
use crate::error::{Error, ExitStatus};
use crate::output::print_job;

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob logs -f fix-login\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000\n  \
    claudejob logs fix-login --merged    with the lines of stderr, in order",
    mut_group("JobName", |group| group.required(false))
)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    target: JobName,
    /// Show the last N entries
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 50,
        conflicts_with = "since_offset"
    )]
    tail: usize,
    /// Start at this byte of the log (nextOffset of the last call)
    #[arg(long, value_name = "N")]
    since_offset: Option<u64>,
    /// Read at most N bytes of the log, but at least one line
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
    #[command(flatten)]
    form: FormatArgs,
    /// Print new output until the job has ended
    #[arg(long, short)]
    follow: bool,
}

/// The streams to show, and their format.
#[derive(Debug, Args)]
struct FormatArgs {
    /// Print claude's stream unchanged (NDJSON)
    #[arg(long, conflicts_with = "stderr")]
    raw: bool,
    /// Print claude's stderr
    #[arg(long)]
    stderr: bool,
    /// Show stdout and stderr in order; ! marks stderr
    #[arg(long, conflicts_with = "stderr")]
    merged: bool,
}

impl FormatArgs {
    fn format(&self) -> LogFormat {
        if self.stderr {
            LogFormat::Stderr
        } else if self.raw {
            LogFormat::Raw
        } else {
            LogFormat::Readable
        }
    }
}

impl LogsArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        if self.form.merged && self.since_offset.is_some() {
            let why = "--since-offset cannot be used with --merged, because an offset counts bytes of one \
                stream: use --merged with --tail or --follow, or --since-offset without --merged";
            return Err(Error::Usage(why.to_owned()));
        }
        let request = LogsRequest {
            id: call.job(&store, &self.target)?,
            tail: self.tail,
            since: self.since_offset,
            max_bytes: self.max_bytes,
            format: self.form.format(),
            merged: self.form.merged,
        };
        if self.target.is_empty() && !call.printer.is_json() {
            print_job(&request.id);
        }
        if self.follow {
            follow(&store, &request, |part| part.print(call))?;
            return Ok(ExitStatus::Done);
        }
        call.print(&logs(&store, &request)?)
    }
}
