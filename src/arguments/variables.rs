//! Environment variables that set options.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// Makes a command treat an empty environment variable as unset.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    // Few environments have one, and clap moves every argument to change one.
    if !reads_empty_variable(&command) {
        return command;
    }
    command
        .mut_args(|arg| if is_variable_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

fn reads_empty_variable(command: &Command) -> bool {
    command.get_arguments().any(is_variable_empty)
        || command.get_subcommands().any(reads_empty_variable)
}

fn is_variable_empty(arg: &Arg) -> bool {
    arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
}

/// Adds the name of the environment variable to an error if the invalid value came from one. The
/// parser names only the flag, which the caller did not use.
pub(crate) fn add_variable_name(
    mut error: clap::Error,
    args: &[OsString],
    command: &Command,
) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let end = argument.find([' ', '=', '[']).unwrap_or(argument.len());
    let Some(flag) = argument[..end].strip_prefix("--") else { return error };
    for arg in args {
        if arg == "--" {
            break;
        }
        if is_flag(arg, flag) {
            return error;
        }
    }
    // A variable that is not set has no part in the error.
    if let Some(name) = variable_of(command, flag)
        && std::env::var_os(name).is_some()
    {
        let both = format!("{} ({argument})", name.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}

/// Returns whether an argument is this flag, with or without a value.
fn is_flag(arg: &OsStr, flag: &str) -> bool {
    let name = arg.to_string_lossy();
    let name = name.split('=').next().unwrap_or_default();
    name.strip_prefix("--") == Some(flag)
}

/// Returns the variable that sets a flag of a command or of its subcommands.
fn variable_of<'a>(command: &'a Command, flag: &str) -> Option<&'a OsStr> {
    for command in std::iter::once(command).chain(command.get_subcommands()) {
        for arg in command.get_arguments() {
            if arg.get_long() == Some(flag) {
                return arg.get_env();
            }
        }
    }
    None
}
