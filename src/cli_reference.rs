//! The reference of the command line, as committed in `docs/cli.md` and `docs/cli`, made from the
//! definition of the options: an overview, and a page for each verb.
//!
//! `UPDATE_DOCS=1 cargo test --bins cli_reference` updates the files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};

use crate::cli::{Cli, GROUPS};

const GENERATED: &str = "<!-- Generated: UPDATE_DOCS=1 cargo test --bins cli_reference -->\n\n";

/// Returns the pages by their paths below `docs`.
fn pages() -> BTreeMap<String, String> {
    let mut program = Cli::command();
    program.build();
    let mut pages = BTreeMap::new();
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        if verb.get_name() != "help" {
            pages.insert(format!("cli/{}.md", verb.get_name()), verb_page(verb));
        }
    }
    pages.insert("cli.md".to_owned(), overview(&program));
    pages
}

/// Returns the page with the list of verbs and the options that all of them have.
fn overview(program: &Command) -> String {
    let mut page = format!("{GENERATED}# Command line\n\n");
    page += "A page for each command, with all its options. `claudejob help COMMAND` shows the same text, \
             and so does\n`man claudejob-COMMAND`; `claudejob COMMAND -h` is shorter.\n";
    for (group, names) in GROUPS {
        write!(page, "\n## {group}\n\n| command | |\n|---|---|\n").unwrap();
        for name in names.iter().filter(|name| **name != "help") {
            let verb = program.find_subcommand(name).unwrap();
            let about = text(verb.get_about());
            let about = about.lines().next().unwrap();
            writeln!(page, "| [{}](cli/{name}.md) | {about} |", all_names(verb)).unwrap();
        }
    }
    page += "\n## Options of every command\n\n";
    for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
        page += &list_item(arg);
    }
    page += &notes(program);
    page
}

/// Returns the page of a verb.
fn verb_page(verb: &Command) -> String {
    let name = verb.get_name();
    let long_about = text(verb.get_long_about().or_else(|| verb.get_about()));
    let (about, rest) = long_about.split_once("\n\n").unwrap_or((&long_about, ""));
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace("\n       ", "\n");
    let mut page = format!("{GENERATED}# claudejob {name}\n\n{about}.\n\n```text\n{usage}\n```\n");
    let aliases: Vec<String> =
        verb.get_visible_aliases().map(|alias| format!("`claudejob {alias}`")).collect();
    if !aliases.is_empty() {
        writeln!(page, "\nAlso: {}.", aliases.join(", ")).unwrap();
    }
    if !rest.is_empty() {
        writeln!(page, "\n{rest}").unwrap();
    }
    let mut sections: Vec<(&str, String)> = Vec::new();
    let mut args: Vec<&Arg> = verb.get_arguments().filter(|arg| !is_everywhere(arg)).collect();
    args.sort_by_key(|arg| arg.get_display_order());
    for arg in args.into_iter().filter(|arg| !arg.is_hide_set()) {
        let other = if arg.is_positional() { "Arguments" } else { "Options" };
        let heading = arg.get_help_heading().unwrap_or(other);
        match sections.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, items)) => *items += &list_item(arg),
            None => sections.push((heading, list_item(arg))),
        }
    }
    for verb in verb.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let item = format!("- `{}`: {}\n", verb.get_name(), text(verb.get_about()));
        match sections.iter_mut().find(|(name, _)| *name == "Commands") {
            Some((_, items)) => *items += &item,
            None => sections.push(("Commands", item)),
        }
    }
    // As in the help: first what has no heading of its own.
    sections.sort_by_key(|(heading, _)| {
        let order = ["Arguments", "Commands", "Options"];
        order.iter().position(|name| name == heading).unwrap_or(order.len())
    });
    for (heading, items) in sections {
        write!(page, "\n## {heading}\n\n{items}").unwrap();
    }
    page += &notes(verb);
    page += "\n[Options of every command](../cli.md#options-of-every-command)\n";
    page
}

/// Whether an option belongs to every verb.
fn is_everywhere(arg: &Arg) -> bool {
    arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version")
}

/// Returns the names of a verb, as in a table.
fn all_names(verb: &Command) -> String {
    let names = [verb.get_name()].into_iter().chain(verb.get_visible_aliases());
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the entry of an argument in a list.
fn list_item(arg: &Arg) -> String {
    let help = text(arg.get_long_help().or_else(|| arg.get_help()));
    let (help, default) = split_default(&help);
    let mut parts: Vec<String> = help.split("\n\n").map(sentence).collect();
    parts.extend(default);
    let values = arg.get_possible_values();
    let takes_values = arg.get_action().takes_values();
    if takes_values && !arg.is_hide_possible_values_set() {
        let mut names = Vec::new();
        for value in values.iter().filter(|value| !value.is_hide_set()) {
            let help = value.get_help().map(|help| format!(" ({})", text(Some(help))));
            names.push(format!("`{}`{}", value.get_name(), help.unwrap_or_default()));
        }
        if !names.is_empty() {
            parts.push(format!("Values: {}.", names.join(", ")));
        }
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if takes_values && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        parts.push(format!("Default: {}.", defaults.join(", ")));
    }
    if let Some(variable) = arg.get_env() {
        parts.push(format!("Variable: `{}`.", variable.display()));
    }
    format!("- `{}`: {}\n", synopsis(arg), parts.join(" "))
}

/// Takes a default that is described by words, such as `[default: the current one]`, out of a help
/// text, and returns it as a sentence.
fn split_default(help: &str) -> (String, Option<String>) {
    let split = help.split_once(" [").and_then(|(before, rest)| {
        let (words, after) = rest.split_once(']')?;
        let value = words.strip_prefix("default: ")?;
        Some((format!("{before}{after}"), sentence(&format!("Default: {value}"))))
    });
    match split {
        Some((help, default)) => (help, Some(default)),
        None => (help.to_owned(), None),
    }
}

/// Returns an argument as it is written, such as `-p, --prompt <TEXT>`.
fn synopsis(arg: &Arg) -> String {
    let written = arg.to_string();
    match arg.get_short() {
        Some(short) if arg.get_long().is_some() => format!("-{short}, {written}"),
        _ => written,
    }
}

/// Returns the examples and remarks after the options of a command.
fn notes(command: &Command) -> String {
    let all = text(command.get_after_long_help().or_else(|| command.get_after_help()));
    let mut notes = String::new();
    for paragraph in all.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let one = paragraph.strip_prefix("Example: ").map(|line| ("Example", line));
        let Some((heading, rest)) = one.or_else(|| paragraph.split_once(":\n")) else {
            writeln!(notes, "\n{paragraph}").unwrap();
            continue;
        };
        let lines: Vec<&str> =
            rest.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        write!(notes, "\n## {heading}\n\n```text\n{}\n```\n", lines.join("\n")).unwrap();
    }
    notes
}

/// Returns a paragraph of a help text as a sentence on one line.
fn sentence(paragraph: &str) -> String {
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "\\<");
    if line.ends_with(['.', ':', '…', '?']) { line } else { line + "." }
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

#[test]
fn committed_reference_is_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = pages();
    if env::var_os("UPDATE_DOCS").is_some() {
        let _ = fs::remove_dir_all(docs.join("cli"));
        fs::create_dir_all(docs.join("cli")).unwrap();
        for (path, page) in &pages {
            fs::write(docs.join(path), page).unwrap();
        }
    }
    for (path, page) in &pages {
        let committed = fs::read_to_string(docs.join(path)).unwrap_or_default();
        assert!(
            committed == *page,
            "docs/{path} differs: run UPDATE_DOCS=1 cargo test --bins cli_reference"
        );
    }
    let committed = fs::read_dir(docs.join("cli")).unwrap().count();
    assert_eq!(committed, pages.len() - 1, "a page in docs/cli has no command");
}
