//! The manual pages, as committed in `docs/man`, made from the definition of the options. They name
//! no version and no date, so that only a changed definition changes them.
//!
//! `UPDATE_MAN=1 cargo test --bins man` updates the files.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use clap::builder::Resettable;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;

/// Returns the page of the program and those of the verbs, by the names of their files.
fn pages() -> BTreeMap<String, String> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = BTreeMap::new();
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let page = page(verb.clone()) + ".SH \"SEE ALSO\"\nclaudejob(1)\n";
        pages.insert(format!("claudejob-{}.1", verb.get_name()), page);
    }
    pages.insert("claudejob.1".to_owned(), page(program));
    pages
}

/// Returns the manual page of a command.
fn page(mut command: Command) -> String {
    let usage = command.render_usage().to_string();
    let about = command.get_about().unwrap().to_string();
    let name = command.get_display_name().unwrap_or("claudejob").to_uppercase();
    let command = command
        .version(Resettable::Reset)
        .about(about.lines().next().unwrap().to_owned())
        .long_about(about)
        // The synopsis need not name all options, because the page does.
        .override_usage(usage.trim_start_matches("Usage: ").to_owned())
        // Otherwise the page lacks the help of these options.
        .mut_args(|arg| arg.hide_short_help(false));
    let man = Man::new(command).title(name).source("claudejob").manual("User Commands");
    let mut page = Vec::new();
    // An empty date would be left out, and the next field taken for it.
    man.date(" ").render(&mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    // Justified lines would change the spaces in the examples.
    let page = page.replace(".SH NAME", ".ad l\n.nh\n.SH NAME");
    page.replace(".SH SUBCOMMANDS", ".SH COMMANDS").replace(".SH EXTRA", ".SH NOTES")
}

#[test]
fn committed_manual_is_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let pages = pages();
    if env::var_os("UPDATE_MAN").is_some() {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (name, page) in &pages {
            fs::write(dir.join(name), page).unwrap();
        }
    }
    let mut committed = BTreeMap::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        committed.insert(name, fs::read_to_string(entry.path()).unwrap());
    }
    let names: Vec<&String> = pages.keys().collect();
    assert_eq!(committed.keys().collect::<Vec<_>>(), names);
    for (name, page) in &pages {
        assert!(
            committed[name] == *page,
            "docs/man/{name} differs: run UPDATE_MAN=1 cargo test --bins man"
        );
    }
}
