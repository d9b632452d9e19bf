//! The options of a job for which no arguments are given.

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches};

use super::StartArgs;
use crate::arguments::{add_variable_name, without_empty_variables};
use crate::config::UserConfig;
use crate::error::Error;
use crate::job::Spec;
use crate::text::one_line;

/// Returns the specification of a job by the defaults of `start`, its variables and the
/// configuration file.
pub(in crate::commands) fn default_spec(config: &UserConfig) -> Result<Spec, Error> {
    let arguments = ["start", "--prompt", "x"].map(OsString::from);
    let plain = without_empty_variables(StartArgs::augment_args(Command::new("start")));
    // Without the file first: an error is then that of a variable.
    if let Err(error) = plain.clone().try_get_matches_from(&arguments) {
        let error = add_variable_name(error, &arguments, &plain);
        return Err(Error::Usage(one_line(&error.to_string(), 300)));
    }
    let defaults = config.defaults(None)?;
    let parsed = defaults
        .apply(plain)
        .try_get_matches_from(&arguments)
        .and_then(|matches| StartArgs::from_arg_matches(&matches));
    match parsed {
        Ok(args) => Ok(args.into_request()?.spec),
        Err(error) => Err(config.refused(&defaults, &error)),
    }
}
