//! `completions`: prints the completion script of a shell. The script asks the hidden verb
//! `__complete` for the words that can follow.

mod jobs;

use std::ffi::OsString;
use std::io::Write;

use clap::{Arg, ArgAction, Args, Command};

use crate::arguments::Typed;
use crate::claude::PERMISSION_MODES;
use crate::config::UserConfig;
use crate::error::{Error, ExitStatus};
use crate::job::{NotifyEvent, Status};
use crate::output::print_text;
use crate::process;
use crate::text::{harmless, has_harmful};
use jobs::{JobValue, job_values};

/// Line that tells the shell to complete names of files.
const FILES: &str = ":files";

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    eval \"$(claudejob completions bash)\"                   in ~/.bashrc\n  \
    eval \"$(claudejob completions zsh)\"                    in ~/.zshrc, after compinit\n  \
    claudejob completions fish > ~/.config/fish/completions/claudejob.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionsArgs {
    /// Prints the script, also where other verbs print JSON: a shell reads it.
    pub(crate) fn run(self) -> Result<ExitStatus, Error> {
        print_text(match self.shell {
            Shell::Bash => include_str!("completions/claudejob.bash"),
            Shell::Zsh => include_str!("completions/claudejob.zsh"),
            Shell::Fish => include_str!("completions/claudejob.fish"),
        })?;
        Ok(ExitStatus::Done)
    }
}

/// A word that can complete the one being typed, and its help.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    help: String,
}

impl Candidate {
    fn new(word: impl Into<String>, help: impl Into<String>) -> Self {
        Self { word: word.into(), help: help.into() }
    }
}

/// Prints the words that can complete the last one of these words, which follow the program's name.
/// Prints no errors, because they would appear between the words that the user types.
pub(crate) fn complete(mut command: Command, words: &[OsString]) {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // The line may have a prompt, and other users can read the arguments of this process.
    process::hide_arguments(&words.iter().map(String::as_str).collect::<Vec<_>>());
    command.build();
    let mut lines = String::new();
    for candidate in candidates(&command, &words) {
        // Its line would be taken for another word.
        if has_harmful(&candidate.word) || candidate.word.contains(['\n', '\t']) {
            continue;
        }
        lines.push_str(&candidate.word);
        if let Some(help) = candidate.help.lines().next() {
            lines.push('\t');
            lines.push_str(&harmless(help).replace('\t', " "));
        }
        lines.push('\n');
    }
    let _ = std::io::stdout().write_all(lines.as_bytes());
}

fn candidates(command: &Command, words: &[String]) -> Vec<Candidate> {
    let Some((word, before)) = words.split_last() else { return Vec::new() };
    let typed = Typed::parse(command, before);
    let mut found = unfiltered(&typed, word);
    found.retain(|candidate| candidate.word.starts_with(word) || candidate.word == FILES);
    found
}

/// Returns the candidates for the word, and others that do not begin like it.
fn unfiltered(typed: &Typed<'_>, word: &str) -> Vec<Candidate> {
    if let Some(option) = typed.open_option {
        return values(typed, option, word);
    }
    if typed.is_after_dashes {
        return vec![Candidate::new(FILES, "")];
    }
    if let Some((name, value)) = word.split_once('=')
        && let Some(option) = typed.option(name)
    {
        let mut found = values(typed, option, value);
        for candidate in &mut found {
            if candidate.word != FILES {
                candidate.word.insert_str(0, &word[..=name.len()]);
            }
        }
        return found;
    }
    if word.starts_with('-') {
        return options(typed, word);
    }
    if typed.command.has_subcommands() && typed.positionals.is_empty() {
        return verbs(typed.command);
    }
    let mut found = match typed.next_positional() {
        Some(argument) => values(typed, argument, word),
        None => Vec::new(),
    };
    found.retain(|candidate| !typed.positionals.contains(&candidate.word.as_str()));
    if found.is_empty() && word.is_empty() { options(typed, word) } else { found }
}

fn verbs(command: &Command) -> Vec<Candidate> {
    let mut found = Vec::new();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        for name in [verb.get_name()].into_iter().chain(verb.get_visible_aliases()) {
            found.push(Candidate::new(name, &about));
        }
    }
    found
}

/// Returns the options that can still be given; the short ones only after a single dash.
fn options(typed: &Typed<'_>, word: &str) -> Vec<Candidate> {
    let mut found = Vec::new();
    for option in typed.command.get_arguments() {
        let is_repeatable = matches!(option.get_action(), ArgAction::Append);
        let is_given = typed.options.iter().any(|given| given.get_id() == option.get_id());
        if option.is_positional() || option.is_hide_set() || (is_given && !is_repeatable) {
            continue;
        }
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(name) = option.get_long() {
            found.push(Candidate::new(format!("--{name}"), &help));
        }
        if word == "-"
            && let Some(name) = option.get_short()
        {
            found.push(Candidate::new(format!("-{name}"), &help));
        }
    }
    found
}

/// Returns the values of an argument, where a word may be the last one of a list with commas.
fn values(typed: &Typed<'_>, argument: &Arg, word: &str) -> Vec<Candidate> {
    let last = match argument.get_value_delimiter().and_then(|delimiter| word.rfind(delimiter)) {
        Some(end) => end + 1,
        None => 0,
    };
    let mut found = single_values(typed, argument, &word[last..]);
    for candidate in &mut found {
        candidate.word.insert_str(0, &word[..last]);
    }
    found
}

fn single_values(typed: &Typed<'_>, argument: &Arg, word: &str) -> Vec<Candidate> {
    let mut found = Vec::new();
    for value in argument.get_possible_values() {
        if !value.is_hide_set() {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            found.push(Candidate::new(value.get_name(), help));
        }
    }
    if !found.is_empty() {
        return found;
    }
    let verb = typed.command.get_name();
    let name = argument.get_value_names().and_then(|names| names.first());
    match name.map_or("", |name| name.as_str()) {
        "STATUS" => Status::ALL.iter().map(|status| Candidate::new(status.as_str(), "")).collect(),
        "MODE" => PERMISSION_MODES.iter().map(|mode| Candidate::new(*mode, "")).collect(),
        "EVENT" => {
            NotifyEvent::ALL.iter().map(|event| Candidate::new(event.as_str(), "")).collect()
        }
        // The id of a new job.
        "ID" if ["run", "start"].contains(&verb)
            && ["id", "job_id", "name"].contains(&argument.get_id().as_str()) =>
        {
            Vec::new()
        }
        "ID" => job_values(typed, JobValue::Id, word),
        "KEY=VALUE" => job_values(typed, JobValue::Label, word),
        "NAME" if argument.get_id() == "group" => job_values(typed, JobValue::Group, word),
        "NAME" if argument.get_id() == "profile" => profiles(),
        "DIR" | "FILE" | "PATH" | "SCHEMA" | "CONFIG" | "SETTINGS" => {
            vec![Candidate::new(FILES, "")]
        }
        _ => Vec::new(),
    }
}

fn profiles() -> Vec<Candidate> {
    let config = UserConfig::load().unwrap_or_default();
    config.profiles().into_keys().map(|name| Candidate::new(name, "")).collect()
}

#[cfg(test)]
mod tests;
