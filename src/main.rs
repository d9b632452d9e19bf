//! claudejob runs coding tasks with Claude Code as persistent, detached jobs. A job's whole state
//! is files. docs/architecture.md describes the processes, the files and the modules.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

mod arguments;
mod claude;
mod cli;
mod clock;
mod commands;
mod error;
mod fault_point;
mod finalize;
mod hidden_verbs;
mod job;
mod launch;
#[cfg(test)]
mod man;
mod notifier;
mod output;
mod page;
mod process;
mod queue;
mod replay;
#[cfg(test)]
mod schemas;
mod store;
mod stream;
mod supervisor;
mod text;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use cli::Cli;
use commands::Call;

fn main() -> ExitCode {
    process::survive_file_size_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden verbs come first: they are started for each job, must be cheap to start, and need
    // no parser.
    if let Some(status) = run_hidden_verb(&args) {
        return status;
    }
    let cli = match Cli::parse_args(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let help = Cli::help_command(&args);
            return ExitCode::from(output::usage(&error, &args, &help) as u8);
        }
    };
    // While this process waits, other users can read its arguments.
    process::hide_arguments(&cli.verb.texts_for_claude());
    let call = Call::new(cli.common);
    let status = match cli.verb.run(&call) {
        Ok(status) => status,
        Err(error) => call.print_error(&error.with_help(|| Cli::help_command(&args))),
    };
    ExitCode::from(status as u8)
}

/// Runs a [hidden verb](hidden_verbs), which this program or a shell's completion script starts.
/// Returns `None` for any other verb.
fn run_hidden_verb(args: &[OsString]) -> Option<ExitCode> {
    let status = match args.get(1)?.to_str()? {
        hidden_verbs::WORKER => {
            let unit = args.get(3).and_then(|unit| unit.to_str());
            worker::run(args.get(2)?.into(), unit).map(|()| 0)
        }
        hidden_verbs::NOTIFIER => {
            notifier::run(args.get(2)?.into(), args.get(3).is_some()).map(|()| 0)
        }
        hidden_verbs::REPLAY => {
            let speed = args.get(3)?.to_str()?.parse().ok()?;
            replay::play(args.get(4).and_then(|file| file.to_str()), speed)
        }
        hidden_verbs::COMPLETE => {
            commands::completions::complete(Cli::command(), &args[2..]);
            Ok(0)
        }
        _ => return None,
    };
    Some(status.map_or_else(
        |error| ExitCode::from(output::print_hidden_error(&error) as u8),
        ExitCode::from,
    ))
}
