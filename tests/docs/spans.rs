//! Commands and options in the text of a page: each exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::{fs, str};

use regex::Regex;

use crate::links::prose;
use crate::page::Page;
use crate::root;

/// Options of claude and of other programs that pages name.
const OTHER_OPTIONS: [&str; 12] = [
    "--bg",
    "--cloud",
    "--continue",
    "--hostname",
    "--ignore-scripts",
    "--permission-prompt-tool",
    "--resume",
    "--session-id",
    "--system-prompt-snapshot",
    "--to",
    "--uninstall",
    "--user",
];
/// A page about the program, which names verbs that are hidden from users.
const INTERNAL_PAGES: [&str; 2] = ["docs/architecture.md", "docs/invariants.md"];

static OPTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[\s\[(/|])(--?[a-zA-Z][a-z0-9-]*)").unwrap());

/// The options of each verb, from its help.
pub(crate) struct Help {
    verbs: BTreeMap<String, BTreeSet<String>>,
}

impl Help {
    pub(crate) fn read() -> Self {
        let mut verbs = BTreeMap::from([(String::new(), options_of(&[]))]);
        // A file for each verb.
        for entry in fs::read_dir(root().join("docs/man")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if let Some(verb) = name.strip_prefix("claudejob-").and_then(|it| it.strip_suffix(".1"))
            {
                let verb = verb.to_owned();
                let options = options_of(&[&verb]);
                verbs.insert(verb, options);
            }
        }
        for (alias, verb) in [("ls", "list"), ("ps", "list"), ("stop", "kill"), ("tail", "logs")] {
            let options = verbs[verb].clone();
            verbs.insert(alias.to_owned(), options);
        }
        Self { verbs }
    }

    /// Returns the spans with a verb or an option that does not exist.
    pub(crate) fn problems(&self, page: &Page) -> Vec<String> {
        let mut problems = Vec::new();
        if INTERNAL_PAGES.iter().any(|path| page.path == Path::new(path)) {
            return problems;
        }
        for (line, text) in prose(&page.text) {
            for span in text.split('`').skip(1).step_by(2) {
                if let Err(unknown) = self.check(span) {
                    problems.push(format!("{}: no {unknown}: `{span}`", page.place(line)));
                }
            }
        }
        problems
    }

    fn check(&self, span: &str) -> Result<(), String> {
        let known: Vec<&BTreeSet<String>>;
        if let Some(rest) = span.strip_prefix("claudejob ") {
            let verb = rest.split_whitespace().next().unwrap_or_default();
            let verb = if verb.starts_with('-') || verb == "help" { "" } else { verb };
            let Some(options) = self.verbs.get(verb) else {
                return if is_placeholder(verb) { Ok(()) } else { Err(format!("verb {verb:?}")) };
            };
            known = vec![options, &self.verbs[""]];
        } else if span.starts_with("--") && !span.starts_with("-- ") {
            known = self.verbs.values().collect();
        } else {
            return Ok(());
        }
        // After `--` are the options of claude, and after `|` those of another program.
        let own = span.split(" -- ").next().unwrap_or_default();
        let own = own.split(['|', ';', '$', '&']).next().unwrap_or_default();
        for found in OPTION.captures_iter(&without_quotes(own)) {
            let option = &found[1];
            let is_known = known.iter().any(|options| options.contains(option));
            if !is_known && !OTHER_OPTIONS.contains(&option) && !option.ends_with('-') {
                return Err(format!("option {option}"));
            }
        }
        Ok(())
    }
}

/// `claudejob VERB` stands for all.
fn is_placeholder(verb: &str) -> bool {
    !verb.is_empty() && verb.chars().all(|c| c.is_uppercase() || c == '.' || c == '…')
}

fn without_quotes(command: &str) -> String {
    command.split('\'').step_by(2).flat_map(|part| part.split('"').step_by(2)).collect()
}

fn options_of(verb: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claudejob"));
    let output = command.args(verb).arg("--help").env("NO_COLOR", "1").output().unwrap();
    let help = str::from_utf8(&output.stdout).unwrap();
    OPTION.captures_iter(help).map(|found| found[1].to_owned()).collect()
}
