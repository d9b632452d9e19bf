use clap::Arg;

use super::*;

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn single_verb_parser_equals_complete_parser() {
    for line in [
        "claudejob run x --kill-on-signal -n a",
        "claudejob start --prompt x --after a,b --max-parallel 3 --json",
        "claudejob run x -n a --timeout 5m",
        "claudejob ls -a",
        "claudejob ps --sort cost",
        "claudejob tail a -f",
        "claudejob stop a",
        "claudejob status a --jobs-dir /j",
        "claudejob status --job-id a --full",
        "claudejob wait a b --any --timeout 5s",
        "claudejob list --status running,failed --sort cost",
        "claudejob logs a --tail 3",
        "claudejob kill a",
        "claudejob send a --message hi --wait",
        "claudejob result a --pretty",
    ] {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let complete = Cli::try_parse_from(&args).unwrap();
        let single = Cli::parse_single_verb(&args, &Defaults::default()).unwrap();
        assert_eq!(format!("{single:?}"), format!("{complete:?}"), "{line}");
    }
    for line in ["claudejob send --nowait", "claudejob wait a --timeout x", "claudejob list --help"]
    {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(
            Cli::parse_single_verb(&args, &Defaults::default()).is_none()
                && Cli::parse_args(&args).is_err(),
            "{line}"
        );
    }
}

#[test]
fn help_lines_are_at_most_60_characters() {
    let command = Cli::command();
    for command in [&command].into_iter().chain(command.get_subcommands()) {
        let about = command.get_about().map(ToString::to_string);
        let helps = command.get_arguments().filter_map(Arg::get_help).map(ToString::to_string);
        for help in about.into_iter().chain(helps) {
            let line = help.split(['\n', '[']).next().unwrap_or_default();
            assert!(line.chars().count() <= 60, "{}: {line}", command.get_name());
        }
    }
}

#[test]
fn each_verb_is_in_one_group() {
    let command = Cli::command();
    let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
    let mut names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    names.push("help");
    assert_eq!(grouped, names, "the help and the enum have the same order");
}

#[test]
fn examples_in_help_can_be_parsed() {
    let command = Cli::command();
    let mut count = 0;
    for verb in [&command].into_iter().chain(command.get_subcommands()) {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        // The examples come first.
        for line in help.lines().take_while(|line| !line.is_empty()) {
            let line = line.trim_start().trim_start_matches("Example: ");
            // A comment is set off by several spaces, and another program follows a pipe.
            let line = line.split("   ").next().unwrap_or_default();
            let line = line.split(" | ").next().unwrap_or_default();
            if !line.starts_with("claudejob ") || line.contains(" > ") {
                continue;
            }
            let args = words(line);
            if let Err(error) = Cli::try_parse_from(&args) {
                panic!("{line}\n{error}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// Splits a command line at spaces outside double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words
}
