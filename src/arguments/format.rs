//! The options that choose the format of answers.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};

use super::GLOBAL;

/// Fewer characters would not hold the fields of one job.
const MIN_CHARS: usize = 500;

/// The format of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Text,
    /// Text with more columns
    Wide,
    /// One JSON document
    Json,
    /// A JSON document for each element, one a line
    Ndjson,
    /// The ids of the jobs, one a line
    Ids,
    /// Markdown, for a summary or a comment
    Markdown,
    /// Only the ids or the answer, without any other text (`--quiet`)
    #[value(skip)]
    Quiet,
}

impl Format {
    /// Whether answers and errors are JSON.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Ndjson)
    }

    /// Whether answers are text for people, with the progress before an answer.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Wide)
    }

    /// Returns the option that selects the format.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Text => "-o text",
            Self::Wide => "-o wide",
            Self::Json => "-o json",
            Self::Ndjson => "-o ndjson",
            Self::Ids => "-o ids",
            Self::Markdown => "-o markdown",
            Self::Quiet => "--quiet",
        }
    }
}

/// The format of answers; at most one option.
#[derive(Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Set the output format
    #[arg(short = 'o', long, global = true, value_name = "FORMAT", value_enum)]
    #[arg(hide_possible_values = true, help_heading = GLOBAL)]
    #[arg(conflicts_with_all = ["quiet", "json", "plain"])]
    #[arg(
        long_help = "Set the output format: text, wide (text with more columns), json, ndjson (a \
        document for each element), ids (one a line) or markdown"
    )]
    format: Option<Format>,
    /// Print only ids, or only the answer
    #[arg(short, long, global = true, conflicts_with_all = ["json", "plain"])]
    #[arg(help_heading = GLOBAL)]
    quiet: bool,
    /// Print JSON; the same as -o json
    #[arg(long, global = true, conflicts_with = "plain", help_heading = GLOBAL)]
    json: bool,
    /// Print text; the same as -o text
    #[arg(long, global = true, hide_short_help = true, help_heading = GLOBAL)]
    plain: bool,
}

impl OutputArgs {
    /// Returns the format: that of the options, else text on a terminal and JSON elsewhere.
    pub(crate) fn format(&self) -> Format {
        match self.format {
            Some(format) => format,
            None if self.quiet => Format::Quiet,
            None if self.json => Format::Json,
            None if self.plain => Format::Text,
            None => default_format(),
        }
    }
}

/// Returns the format of a call without an option for it.
fn default_format() -> Format {
    if io::stdout().is_terminal() { Format::Text } else { Format::Json }
}

/// Returns the format of errors for arguments that could not be parsed.
pub(crate) fn format_of_unparsed<'a>(args: impl Iterator<Item = &'a str>) -> Format {
    let mut format = default_format();
    let mut is_value = false;
    for arg in args {
        let value = match arg {
            "--" => break,
            "--json" => "json",
            "--plain" | "-q" | "--quiet" => "text",
            "-o" | "--format" => {
                is_value = true;
                continue;
            }
            _ if is_value => arg,
            _ => match arg.strip_prefix("--format=").or(arg.strip_prefix("-o")) {
                Some(value) => value.trim_start_matches('='),
                None => continue,
            },
        };
        is_value = false;
        format = Format::from_str(value, false).unwrap_or(format);
    }
    format
}

/// Parses a maximum number of characters; 0 is none.
pub(crate) fn max_chars(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number == 0 || number >= MIN_CHARS => Ok(number),
        _ => Err(format!("expected a number of at least {MIN_CHARS}, or 0 for no limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_format_of_unparsed_arguments() {
        for (line, format) in [
            ("list --json --wrong", Format::Json),
            ("list --json --wrong --plain", Format::Text),
            ("list -o ndjson", Format::Ndjson),
            ("list --format ids --wrong", Format::Ids),
            ("list --format=markdown", Format::Markdown),
            ("list -otext", Format::Text),
            ("list --plain -- --json", Format::Text),
            ("list --plain -o wrong", Format::Text),
        ] {
            assert_eq!(format_of_unparsed(line.split(' ')), format, "{line}");
        }
    }

    #[test]
    fn parses_a_maximum_of_characters() {
        assert_eq!((max_chars("0"), max_chars("500")), (Ok(0), Ok(500)));
        for text in ["1", "499", "-1", "x", ""] {
            assert!(max_chars(text).is_err(), "{text}");
        }
    }
}
