//! Lines as arguments of `start`: options are defined once, and checked by one parser.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::keys::{LineKey, OptionValues, ValueKind, keys, unknown_key};
use super::lines::Pairs;
use crate::arguments::{CommonArgs, usage_error, without_empty_variables};
use crate::commands::Call;
use crate::commands::start::StartArgs;
use crate::config::UserConfig;
use crate::error::Error;

/// Name of the option in its definition.
const PROFILE: &str = "profile";

/// Parses lines, with the options of the call for each line that does not set them.
pub(super) struct LineParser<'a> {
    config: &'a UserConfig,
    keys: Vec<LineKey>,
    given: Vec<GivenOption>,
    /// Definitions of `start` by profile and by the options that are not to be set.
    commands: BTreeMap<(Option<String>, Vec<String>), Command>,
}

/// An option, with its arguments.
#[derive(Clone, Debug)]
struct GivenOption {
    id: String,
    /// Options that exclude it.
    conflicts: Vec<String>,
    args: Vec<OsString>,
    is_last: bool,
}

impl<'a> LineParser<'a> {
    /// Returns the parser for the lines of a call.
    pub(super) fn new(call: &'a Call) -> Result<Self, Error> {
        let config = &call.config;
        let verb = StartArgs::augment_args(Command::new("start"));
        let mut program = CommonArgs::augment_args(Command::new("claudejob").subcommand(verb));
        program.build();
        let matches = program
            .try_get_matches_from_mut(&call.args)
            .map_err(|error| usage_error(&error, "claudejob start --help"))?;
        let (Some(matches), Some(verb)) =
            (matches.subcommand_matches("start"), program.find_subcommand("start"))
        else {
            return Err(Error::Usage("--from is an option of claudejob start".to_owned()));
        };
        let mut all_keys = keys(verb);
        // Those of every verb are options of the call.
        let common = CommonArgs::augment_args(Command::new("claudejob"));
        all_keys.retain(|key| common.get_arguments().all(|arg| arg.get_id() != key.id.as_str()));
        let given = given_options(&all_keys, verb, matches);
        Ok(Self { config, keys: all_keys, given, commands: BTreeMap::new() })
    }

    /// Parses a line. The error says what is wrong with it.
    pub(super) fn parse(&mut self, pairs: &Pairs) -> Result<StartArgs, String> {
        let mut options = Vec::new();
        let (mut set, mut unset) = (Vec::new(), Vec::new());
        for (name, raw) in &pairs.0 {
            let Some(key) = self.keys.iter().find(|key| key.name == *name) else {
                return Err(unknown_key(name, &self.keys));
            };
            let Some(values) = key.values(raw)? else { continue };
            set.push(key.id.as_str());
            if values == OptionValues::Unset {
                unset.push(key.id.clone());
            }
            options.push(GivenOption::new(key, &values));
        }
        for given in &self.given {
            if !set.contains(&given.id.as_str())
                && !given.conflicts.iter().any(|other| set.contains(&other.as_str()))
            {
                options.push(given.clone());
            }
        }
        let args = self.parse_options(&options, unset)?;
        if args.job.prompt.as_deref() == Some("-") {
            return Err("the prompt '-' is stdin, which no line can read".to_owned());
        }
        Ok(args)
    }

    fn parse_options(
        &mut self,
        options: &[GivenOption],
        unset: Vec<String>,
    ) -> Result<StartArgs, String> {
        let mut args = vec![OsString::from("start")];
        for option in options.iter().filter(|option| !option.is_last) {
            args.extend(option.args.iter().cloned());
        }
        for option in options.iter().filter(|option| option.is_last) {
            args.push("--".into());
            args.extend(option.args.iter().cloned());
        }
        let profile = options.iter().find(|option| option.id == PROFILE);
        let profile = profile.and_then(|option| option.args.first());
        let profile = profile.and_then(|arg| arg.to_str()?.split_once('='));
        let profile = profile.map(|(_, name)| name.to_owned());
        let message = |error: clap::Error| {
            let message = usage_error(&error, "").to_string();
            with_keys(&message, &self.keys)
        };
        let key = (profile, unset);
        if !self.commands.contains_key(&key) {
            let command = self.definition(&key).map_err(|error| error.to_string())?;
            self.commands.insert(key.clone(), command);
        }
        let Some(command) = self.commands.get_mut(&key) else { return Err(String::new()) };
        let matches = command.try_get_matches_from_mut(args).map_err(message)?;
        StartArgs::from_arg_matches(&matches).map_err(message)
    }

    /// Returns the definition of `start` for a profile. Options that the line does not set have
    /// neither the configured value nor that of their variable.
    fn definition(
        &self,
        (profile, unset): &(Option<String>, Vec<String>),
    ) -> Result<Command, Error> {
        let mut command = StartArgs::augment_args(Command::new("start"));
        command = self.config.defaults(profile.as_deref())?.apply(command);
        for id in unset {
            command = command
                .mut_arg(id, |arg| arg.env(Resettable::Reset).default_value(Resettable::Reset));
        }
        Ok(without_empty_variables(command))
    }

    /// Returns an error of a line's request with the names of keys in place of those of options.
    pub(super) fn message(&self, error: &Error) -> String {
        with_keys(&error.to_string(), &self.keys)
    }
}

impl GivenOption {
    fn new(key: &LineKey, values: &OptionValues) -> Self {
        let texts = match values {
            OptionValues::Texts(texts) => texts.iter().map(OsString::from).collect(),
            OptionValues::Flag | OptionValues::Unset => Vec::new(),
        };
        let mut args = Vec::new();
        for text in texts {
            args.push(match &key.long {
                Some(long) => assignment(long, &text),
                None => text,
            });
        }
        if let (OptionValues::Flag, Some(long)) = (values, &key.long) {
            args.push(format!("--{long}").into());
        }
        Self { id: key.id.clone(), conflicts: Vec::new(), args, is_last: key.long.is_none() }
    }
}

fn assignment(long: &str, value: &OsStr) -> OsString {
    let mut arg = OsString::from(format!("--{long}="));
    arg.push(value);
    arg
}

/// Returns the options that the call sets for every line.
fn given_options(keys: &[LineKey], verb: &Command, matches: &ArgMatches) -> Vec<GivenOption> {
    let mut given = Vec::new();
    for key in keys {
        if matches.value_source(&key.id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values = matches.get_raw(&key.id).into_iter().flatten();
        let mut args = Vec::new();
        match (&key.long, key.kind) {
            (Some(long), ValueKind::Flag) => args.push(format!("--{long}").into()),
            (Some(long), ValueKind::FlagOrText) => {
                let values = values.filter(|value| !value.is_empty());
                args.extend(values.map(|value| assignment(long, value)));
            }
            (Some(long), _) => args.extend(values.map(|value| assignment(long, value))),
            (None, _) => args.extend(values.map(OsStr::to_owned)),
        }
        // An option whose value is omitted.
        if let (Some(long), true) = (&key.long, args.is_empty()) {
            args.push(format!("--{long}").into());
        }
        let conflicts = conflicts(verb, &key.id);
        let (id, is_last) = (key.id.clone(), key.long.is_none());
        given.push(GivenOption { id, conflicts, args, is_last });
    }
    given
}

/// Returns the options that exclude an option, or are excluded by it.
fn conflicts(verb: &Command, id: &str) -> Vec<String> {
    let mut conflicts = Vec::new();
    for arg in verb.get_arguments() {
        let others = verb.get_arg_conflicts_with(arg);
        for other in others {
            let (a, b) = (arg.get_id().as_str(), other.get_id().as_str());
            if a == id {
                conflicts.push(b.to_owned());
            } else if b == id {
                conflicts.push(a.to_owned());
            }
        }
    }
    conflicts
}

/// Replaces the names of options in an error by those of the keys, and `'--cwd <DIR>'` by `'cwd'`.
fn with_keys(message: &str, keys: &[LineKey]) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some(at) = rest.find("--") {
        let (before, option) = rest.split_at(at);
        text.push_str(before);
        let name = &option[2..];
        let end = name.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(name.len());
        let key = keys.iter().find(|key| key.long.as_deref() == Some(&name[..end]));
        match key {
            Some(key) if !before.ends_with(|c: char| c.is_alphanumeric() || c == '-') => {
                text.push_str(&key.name);
                rest = without_placeholder(&name[end..]);
            }
            _ => {
                text.push_str(&option[..2 + end]);
                rest = &name[end..];
            }
        }
    }
    text + rest
}

/// Removes ` <VALUE>` or `[=<VALUE>]` from the beginning of a text.
fn without_placeholder(text: &str) -> &str {
    for (open, close) in [(" <", ">"), ("=<", ">"), ("[=<", ">]")] {
        if let Some(value) = text.strip_prefix(open)
            && let Some(end) = value.find(close)
        {
            return &value[end + close.len()..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_keys() {
        let mut command = StartArgs::augment_args(Command::new("start"));
        command.build();
        let keys = keys(&command);
        for (message, expected) in [
            ("invalid value 'x' for '--max-turns <N>': no", "invalid value 'x' for 'maxTurns': no"),
            (
                "the argument '--prompt <TEXT>' cannot be used with '--prompt-file <FILE>'",
                "the argument 'prompt' cannot be used with 'promptFile'",
            ),
            ("--fork needs --resume or --resume-job", "fork needs resume or resumeJob"),
            ("a--ask -- x --unknown <A>", "a--ask -- x --unknown <A>"),
        ] {
            assert_eq!(with_keys(message, &keys), expected);
        }
    }
}
