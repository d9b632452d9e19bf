//! claudejob runs coding tasks with Claude Code as persistent, detached jobs. A job's whole state
//! is files. docs/architecture.md describes the processes, the files and the modules.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic"))]

mod arguments;
mod claude;
mod cli;
#[cfg(test)]
mod cli_reference;
mod clock;
mod commands;
mod config;
mod error;
mod fault_point;
mod finalize;
mod hidden_verbs;
mod job;
mod json;
mod launch;
#[cfg(test)]
mod man;
mod notifier;
mod openclaw;
mod output;
mod own_file;
mod page;
mod process;
mod queue;
mod replay;
#[cfg(test)]
mod schemas;
mod screen;
mod store;
mod stream;
mod supervisor;
mod text;
mod worker;
mod worktree;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use cli::Cli;
use error::ExitStatus;
use output::Sink;

fn main() -> ExitCode {
    process::survive_file_size_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden verbs come first: they are started for each job, must be cheap to start, and need
    // no parser.
    if let Some(status) = run_hidden_verb(&args) {
        return status;
    }
    ExitCode::from(cli::run_call(args, &Sink::Stdout) as u8)
}

/// Runs a [hidden verb](hidden_verbs), which this program or a shell's completion script starts.
/// Returns `None` for any other verb.
fn run_hidden_verb(args: &[OsString]) -> Option<ExitCode> {
    let name = args.get(1)?.to_str()?;
    if !hidden_verbs::ALL.contains(&name) {
        return None;
    }
    let Some(status) = try_hidden_verb(name, &args[2..]) else {
        return Some(ExitCode::from(output::refuse_hidden_verb(name) as u8));
    };
    Some(status.map_or_else(
        |error| ExitCode::from(output::print_hidden_error(&error) as u8),
        ExitCode::from,
    ))
}

/// Runs the hidden verb; `None` if the arguments are not its own. It accepts more of them than it
/// knows, which may be those of a later version.
fn try_hidden_verb(name: &str, args: &[OsString]) -> Option<io::Result<u8>> {
    // The line that is completed may end with an option, and an error would appear within it.
    if name == hidden_verbs::COMPLETE {
        commands::completions::complete(Cli::command(), args);
        return Some(Ok(0));
    }
    let first = args.first()?.to_str();
    if name == hidden_verbs::REPLAY {
        let speed = args.get(1)?.to_str()?.parse().ok()?;
        let file = args.get(2).and_then(|file| file.to_str());
        return if first == Some("--speed") { Some(replay::play(file, speed)) } else { None };
    }
    if first.is_some_and(|first| first.starts_with('-')) {
        return None;
    }
    let job = args[0].as_os_str().into();
    if name == hidden_verbs::PREPARE {
        return Some(worktree::prepare(job, args.get(1)?, &args[2..]));
    }
    if name == hidden_verbs::REDELIVERY {
        return Some(commands::redeliver::background::run(job, &args[1..]).map(|()| 0));
    }
    if name == hidden_verbs::WORKER_HERE {
        return Some(worker::run_here(args[0].as_ref()).map(|record| match record {
            Some(record) => ExitStatus::of_record(&record) as u8,
            None => ExitStatus::NotOwner as u8,
        }));
    }
    Some(if name == hidden_verbs::WORKER {
        worker::run(job, args.get(1).and_then(|unit| unit.to_str())).map(|()| 0)
    } else {
        notifier::run(job, args.len() > 1).map(|()| 0)
    })
}
