use clap::{Parser, Subcommand};

use super::*;
use crate::arguments::CommonArgs;
use crate::commands::answer::AnswerArgs;
use crate::commands::list::ListArgs;
use crate::commands::start::StartArgs;

#[derive(Parser)]
#[command(name = "claudejob")]
struct Program {
    #[command(flatten)]
    _common: CommonArgs,
    #[command(subcommand)]
    _verb: Verb,
}

#[derive(Subcommand)]
#[allow(dead_code, reason = "only the definition is used")]
enum Verb {
    /// Start a job
    Start(Box<StartArgs>),
    /// List jobs
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Answer(AnswerArgs),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    Secret,
}

/// Returns the words that complete the last word of a line.
fn complete_line(line: &str) -> Vec<String> {
    let mut command = <Program as clap::CommandFactory>::command();
    command.build();
    let words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
    candidates(&command, &words).into_iter().map(|candidate| candidate.word).collect()
}

#[test]
fn completes_by_the_definition_of_the_options() {
    for (line, expected) in [
        ("claudejob st", "start"),
        ("claudejob l", "list ls"),
        ("claudejob --json --jobs-dir x completions ", "bash zsh fish"),
        ("claudejob sec", ""),
        ("claudejob list --sor", "--sort"),
        ("claudejob ls --sort s", "started status"),
        ("claudejob list --sort=c", "--sort=cost"),
        ("claudejob list --sort cost --so", ""),
        ("claudejob list --label a=b --la", "--label"),
        ("claudejob list --status running,fa", "running,failed"),
        ("claudejob list --status=running,fa", "--status=running,failed"),
        ("claudejob list --pla", "--plain"),
        ("claudejob list --hel", "--help"),
        ("claudejob start --prompt --cwd --perm", "--permission-mode"),
        ("claudejob start --wait --timeo", "--timeout"),
        ("claudejob start --on-event-filter blocked,k", "blocked,killed"),
        ("claudejob start --cwd ", ":files"),
        ("claudejob start --prompt-file=/tm", ":files"),
        ("claudejob start --prompt ", ""),
        ("claudejob start a -- --mod", ":files"),
        ("claudejob start a -- x ", ":files"),
        ("claudejob start --unknown --if-", "--if-absent"),
        ("claudejob answer a --request-id ", ""),
    ] {
        assert_eq!(complete_line(line).join(" "), expected, "{line}");
    }
    assert!(complete_line("claudejob list -").contains(&"-h".to_owned()));
}
