//! Errors of the parser as errors of the program: one line, and a hint.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::Error;
use crate::text::{one_line, shell_quote};

/// Maximum length of the message: it may quote a long argument.
const MAX_CHARS: usize = 1_000;

/// Words of the parser, and those of the program.
const WORDS: [(&str, &str); 3] = [
    ("unrecognized subcommand", "unknown command"),
    (": invalid digit found in string", ": expected a whole number"),
    (": number too large to fit in target type", ": the number is too large"),
];

/// Converts an error of the parser. `help` is the command that shows the help of the verb.
pub(crate) fn usage_error(error: &clap::Error, help: &str) -> Error {
    let message = match error.kind() {
        ErrorKind::MissingSubcommand => "no command given".to_owned(),
        _ => first_paragraph(&error.to_string()),
    };
    let hint = match (strings(error, ContextKind::InvalidSubcommand).pop(), suggestion(error)) {
        // A command of several words is a prompt.
        (Some(prompt), _) if prompt.contains(char::is_whitespace) => {
            let prompt = shell_quote(&one_line(&prompt, MAX_CHARS));
            format!("claudejob run {prompt}  # did you mean this?")
        }
        (_, Some(suggestion)) => format!("{help}  # did you mean {suggestion}?"),
        _ => help.to_owned(),
    };
    Error::Arguments { message, hint }
}

/// Returns the first paragraph of an error; usage and suggestions follow in others.
fn first_paragraph(text: &str) -> String {
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let mut message = one_line(message, MAX_CHARS);
    for (parser, ours) in WORDS {
        if let Some(at) = message.rfind(parser) {
            message.replace_range(at..at + parser.len(), ours);
        }
    }
    message
}

/// Returns the arguments, values or commands that the parser suggests.
fn suggestion(error: &clap::Error) -> Option<String> {
    for kind in
        [ContextKind::SuggestedArg, ContextKind::SuggestedValue, ContextKind::SuggestedSubcommand]
    {
        let suggested = strings(error, kind);
        if !suggested.is_empty() {
            return Some(suggested.join(" or "));
        }
    }
    None
}

fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
