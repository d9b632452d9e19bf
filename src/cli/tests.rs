use clap::Arg;

use super::*;

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn single_verb_parser_equals_complete_parser() {
    for line in [
        "claudejob start --prompt x --after a,b --max-parallel 3 --json",
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
        let single = Cli::parse_single_verb(&args).unwrap();
        assert_eq!(format!("{single:?}"), format!("{complete:?}"), "{line}");
    }
    for line in ["claudejob kill", "claudejob wait a --timeout x", "claudejob list --help"] {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(
            Cli::parse_single_verb(&args).is_none() && Cli::parse_args(&args).is_err(),
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
