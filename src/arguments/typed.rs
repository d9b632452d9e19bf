//! The words of a command line that is incomplete or invalid, read by the definition of the options.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

/// The words of a command line, without the last one if it is being typed. Unknown options are
/// skipped.
#[derive(Debug)]
pub(crate) struct Typed<'a> {
    /// The command of the verb, or the program's if there is no verb yet.
    pub command: &'a Command,
    has_verb: bool,
    pub options: Vec<&'a Arg>,
    /// The option whose value is the next word.
    pub open_option: Option<&'a Arg>,
    pub positionals: Vec<&'a str>,
    /// Whether there is a `--` before the next word.
    pub is_after_dashes: bool,
    pub jobs_dir: Option<PathBuf>,
}

impl<'a> Typed<'a> {
    pub(crate) fn parse(command: &'a Command, words: &'a [String]) -> Self {
        let mut typed = Self {
            command,
            has_verb: false,
            options: Vec::new(),
            open_option: None,
            positionals: Vec::new(),
            is_after_dashes: false,
            jobs_dir: None,
        };
        for word in words {
            typed.add(word);
        }
        typed
    }

    fn add(&mut self, word: &'a str) {
        if let Some(option) = self.open_option.take() {
            return self.set_value(option, word);
        }
        if self.is_after_dashes {
            return;
        }
        if word == "--" {
            self.is_after_dashes = true;
        } else if word.starts_with("--") {
            self.add_long_option(word);
        } else if word.len() > 1 && word.starts_with('-') {
            self.add_short_options(&word[1..]);
        } else if self.has_verb {
            self.positionals.push(word);
        } else if let Some(verb) = self.command.find_subcommand(word) {
            self.command = verb;
            self.has_verb = true;
        }
    }

    fn add_long_option(&mut self, word: &str) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let Some(option) = self.option(name) else { return };
        self.options.push(option);
        match value {
            Some(value) => self.set_value(option, value),
            None if needs_value(option) => self.open_option = Some(option),
            None => {}
        }
    }

    /// Adds short options that are given as one word, the last one perhaps with its value.
    fn add_short_options(&mut self, names: &str) {
        for (at, name) in names.char_indices() {
            let mut arguments = self.command.get_arguments();
            let Some(option) = arguments.find(|argument| argument.get_short() == Some(name)) else {
                return;
            };
            self.options.push(option);
            if takes_value(option) {
                if at + name.len_utf8() == names.len() {
                    self.open_option = Some(option);
                }
                return;
            }
        }
    }

    fn set_value(&mut self, option: &Arg, value: &str) {
        if option.get_id() == "jobs_dir" {
            self.jobs_dir = Some(value.into());
        }
    }

    /// Returns the option with this name, which begins with two dashes.
    pub(crate) fn option(&self, name: &str) -> Option<&'a Arg> {
        let name = name.strip_prefix("--")?;
        self.command.get_arguments().find(|argument| argument.get_long() == Some(name))
    }

    /// Returns the positional argument that a word without a dash would be.
    pub(crate) fn next_positional(&self) -> Option<&'a Arg> {
        let mut last = None;
        for (at, argument) in self.command.get_positionals().enumerate() {
            if argument.is_last_set() {
                break;
            }
            if at == self.positionals.len() {
                return Some(argument);
            }
            last = Some(argument);
        }
        let last = last?;
        if matches!(last.get_action(), ArgAction::Append) { Some(last) } else { None }
    }
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// Whether the next word is the option's value in any case.
fn needs_value(option: &Arg) -> bool {
    let is_optional = option.get_num_args().is_some_and(|values| values.min_values() == 0);
    takes_value(option) && !is_optional
}
