//! Environment variables that set options.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// Makes a command treat an empty environment variable as unset.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
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
    let flag = argument.strip_prefix("--").and_then(|rest| rest.split([' ', '=', '[']).next());
    let Some(flag) = flag else { return error };
    let is_flag = |arg: &OsString| {
        let rest = arg.to_str().and_then(|arg| arg.strip_prefix("--")?.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if args.iter().take_while(|arg| *arg != "--").any(is_flag) {
        return error;
    }
    let commands = [command].into_iter().chain(command.get_subcommands());
    let definition =
        commands.flat_map(Command::get_arguments).find(|arg| arg.get_long() == Some(flag));
    if let Some(name) = definition.and_then(Arg::get_env) {
        let both = format!("{} ({argument})", name.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}
