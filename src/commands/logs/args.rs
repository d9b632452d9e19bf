//! Arguments of `logs`.

use clap::Args;

use super::follow::read_whole;
use super::{LogFormat, LogLimits, LogsRequest, logs, several};
use crate::arguments::SelectorArgs;
use crate::commands::Call;
use crate::commands::selecting::Among;
use crate::commands::several::Several;
use crate::commands::shortened::ArrayLimit;
use crate::error::{Error, ExitStatus};
use crate::job::JobId;
use crate::output::print_job;

/// Default number of entries of a readable log.
const READABLE_TAIL: usize = 50;

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob logs -f fix-login\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000\n  \
    claudejob logs fix-login --merged    with the lines of stderr, in order\n  \
    claudejob logs --all -n 3            of every live job")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Show every live job
    #[arg(long, help_heading = "Selection")]
    all: bool,
    /// Show the last N entries [default: 50, of an unchanged log all]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "since_offset")]
    tail: Option<usize>,
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
    /// Returns the number of entries from the end that are shown by default.
    fn default_tail(&self) -> usize {
        if self.stderr || self.raw { usize::MAX } else { READABLE_TAIL }
    }

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
        let is_named = self.all || self.targets.has_ids() || !self.targets.filter.is_empty();
        let among = if self.all { Among::Live } else { Among::Every };
        let option_for_one = self.option_for_one();
        let printer = &call.printer;
        let selected = call.select_some(&store, self.targets, self.all, among)?;
        if !is_named && printer.is_text() {
            selected.ids.iter().for_each(print_job);
        }
        if let Some(option) = option_for_one
            && selected.is_several()
        {
            return Err(Error::Usage(format!("{option} is for one job, not for several")));
        }
        let bound = call.bound_unless(self.form.raw || self.follow || self.max_bytes.is_some());
        let part = bound.map(|bound| bound / selected.ids.len().max(1));
        let limits = LogLimits::new(part, self.max_bytes);
        // An unchanged log is read from its beginning, in parts.
        let is_whole = (self.form.raw || self.form.stderr)
            && self.tail.is_none()
            && limits == LogLimits::default();
        let request = |id: &JobId| LogsRequest {
            id: id.clone(),
            tail: self.tail.unwrap_or(self.form.default_tail()),
            since: if is_whole { self.since_offset.or(Some(0)) } else { self.since_offset },
            limits,
            format: self.form.format(),
            merged: self.form.merged,
            notes_rest: printer.is_text(),
        };
        if self.follow {
            let requests = selected.ids.iter().map(request).collect();
            return several::follow(call, &store, requests, selected.is_several());
        }
        if let [id] = selected.ids.as_slice()
            && is_whole
            && !printer.is_json()
        {
            read_whole(&store, &request(id), |part| part.print(call))?;
            return Ok(ExitStatus::Done);
        }
        let logs = Several::of(&store, selected, |id| logs(&store, &request(id)))?;
        call.print(&logs.with_headings().within(ArrayLimit::new(call, &store, bound, "logs")))
    }

    /// Returns an option that is given and makes sense for one job only.
    fn option_for_one(&self) -> Option<&'static str> {
        let options = [
            (self.form.raw, "--raw"),
            (self.form.stderr, "--stderr"),
            (self.since_offset.is_some(), "--since-offset"),
            (self.max_bytes.is_some(), "--max-bytes"),
        ];
        options.into_iter().find(|(is_given, _)| *is_given).map(|(_, option)| option)
    }
}
