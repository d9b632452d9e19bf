//! A call, from its arguments to its exit status.

use std::ffi::OsString;
use std::sync::Arc;

use super::Cli;
use crate::commands::Call;
use crate::commands::mcp::MemoryAnswer;
use crate::config::UserConfig;
use crate::error::{Error, ExitStatus};
use crate::output::{self, MemorySink, Printer, Sink};
use crate::process;

/// Parses the arguments and runs the verb. The first argument is the name of the program. JSON
/// answers and errors go to `sink`.
pub(crate) fn run_call(args: Vec<OsString>, sink: &Sink) -> ExitStatus {
    let mut cli = match Cli::parse_args(&args) {
        Ok(cli) => cli,
        Err(error) => {
            return output::usage(&error, &args, &Cli::help_command(&args), sink.clone());
        }
    };
    if matches!(sink, Sink::Stdout) {
        // While this process waits, other users can read its arguments.
        process::hide_arguments(&cli.verb.texts_for_claude());
    }
    let config = match check_format(&cli, &args).and_then(|()| cli.configure(&args)) {
        Ok(config) => config,
        Err(error) => {
            let call = Call::new(cli.common, args, &UserConfig::default(), sink.clone());
            return call.print_error(&error);
        }
    };
    let call = Call::new(cli.common, args.clone(), &config, sink.clone());
    match cli.verb.run(&call) {
        Ok(status) => status,
        Err(error) => call.print_error(&error.with_help(|| Cli::help_command(&args))),
    }
}

/// Makes a call whose answer is JSON, and returns the answer instead of printing it.
pub(super) fn call_in_memory(args: Vec<OsString>) -> MemoryAnswer {
    let memory = Arc::new(MemorySink::default());
    let status = run_call(args, &Sink::Memory(memory.clone()));
    MemoryAnswer { status, json: memory.take(), is_error: memory.is_error() }
}

/// Refuses a format that has no meaning for the verb, before anything is done.
fn check_format(cli: &Cli, args: &[OsString]) -> Result<(), Error> {
    let format = Printer::new(&cli.common, Sink::Stdout).format();
    if cli.verb.has_format(format) {
        return Ok(());
    }
    let verb = Cli::verb_name(args).unwrap_or_default();
    let error = Error::Usage(format!("'{}' is not available for {verb}", format.option()));
    Err(error.with_help(|| Cli::help_command(args)))
}
