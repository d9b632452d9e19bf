//! A page as a list of steps.

use std::fs;
use std::path::{Path, PathBuf};

/// Languages of blocks without commands.
const OTHER_LANGUAGES: [&str; 8] =
    ["json", "toml", "yaml", "text", "ini", "dockerfile", "javascript", "diff"];

#[derive(Debug)]
pub(crate) struct Page {
    /// The path in the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) steps: Vec<Step>,
    /// Places and reasons of the blocks that are not run.
    pub(crate) not_run: Vec<String>,
    /// Blocks and comments that are written in a wrong way.
    pub(crate) problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// A command of a `console` block, with its output.
    Shown,
    /// A whole `sh` block.
    Silent,
    /// A whole `sh` block that sets options of its shell or replaces it, and so is a script.
    Script,
}

/// A command with its output, or a block.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) run: Run,
    /// Number of its first line, from 1.
    pub(crate) line: usize,
    pub(crate) command: String,
    /// The lines of the page with the output: index of the first, and of the one behind the last.
    pub(crate) output: (usize, usize),
    pub(crate) settings: Settings,
}

/// The comments above a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Also of the blocks before.
    pub(crate) claude: Option<String>,
    /// A command that the reader does not see, before the first command of the block.
    pub(crate) before: Option<String>,
    pub(crate) types: Vec<String>,
    pub(crate) exits: Option<i32>,
    not_run: Option<String>,
    is_ci_script: bool,
}

struct Block<'a> {
    language: &'a str,
    /// Index of the line after the opening fence.
    first: usize,
    lines: Vec<&'a str>,
}

impl Page {
    pub(crate) fn read(root: &Path, path: PathBuf) -> Self {
        let text = fs::read_to_string(root.join(&path)).unwrap();
        let mut page =
            Self { path, text, steps: Vec::new(), not_run: Vec::new(), problems: Vec::new() };
        page.parse();
        page
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.text.lines().take(3).any(|line| line.contains("<!-- Generated"))
    }

    pub(crate) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn parse(&mut self) {
        let text = self.text.clone();
        let lines: Vec<&str> = text.lines().collect();
        let mut settings = Settings::default();
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at];
            let trimmed = line.trim_start();
            if let Some(language) = trimmed.strip_prefix("```") {
                let indent = line.len() - trimmed.len();
                let mut end = at + 1;
                while end < lines.len() && lines[end].trim() != "```" {
                    end += 1;
                }
                let body = &lines[at + 1..end.min(lines.len())];
                let body = body.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
                self.add(&Block { language, first: at + 1, lines: body }, &settings);
                settings = Settings { claude: settings.claude, ..Settings::default() };
                at = end;
            } else if let Some(comment) = comment(line) {
                self.set(&mut settings, comment, at + 1);
            }
            at += 1;
        }
    }

    fn set(&mut self, settings: &mut Settings, comment: &str, line: usize) {
        let (key, value) = comment.split_once(':').unwrap_or((comment, ""));
        let value = value.trim();
        match (key, value.is_empty()) {
            ("claude", false) => settings.claude = Some(value.to_owned()),
            ("before", false) => settings.before = Some(value.to_owned()),
            ("types", false) => {
                settings.types = value.split(" / ").map(|text| text.trim().to_owned()).collect();
            }
            ("exits", false) => settings.exits = value.parse().ok(),
            ("not run", false) => settings.not_run = Some(value.to_owned()),
            ("ci-script", true) => settings.is_ci_script = true,
            ("claude" | "before" | "types" | "exits" | "not run" | "ci-script", _) => {
                self.problems.push(format!("{}: {comment:?} has no value", self.place(line)));
            }
            _ => {}
        }
    }

    fn add(&mut self, block: &Block<'_>, settings: &Settings) {
        if settings.is_ci_script {
            return;
        }
        if let Some(reason) = &settings.not_run {
            let place = self.place(block.first);
            self.not_run.push(format!("{place}: {reason}"));
            return;
        }
        match block.language {
            "console" => self.add_console(block, settings),
            "sh" => {
                let sets = block.lines.iter().any(|line| line.starts_with("set -"));
                let step = Step {
                    run: if sets { Run::Script } else { Run::Silent },
                    line: block.first + 1,
                    command: block.lines.join("\n"),
                    output: (block.first, block.first),
                    settings: settings.clone(),
                };
                self.steps.push(step);
            }
            language if OTHER_LANGUAGES.contains(&language) => {}
            language => {
                let place = self.place(block.first);
                self.problems.push(format!("{place}: a block of the language {language:?}"));
            }
        }
    }

    fn add_console(&mut self, block: &Block<'_>, settings: &Settings) {
        let mut at = 0;
        if !block.lines.first().is_some_and(|line| line.starts_with("$ ")) {
            let place = self.place(block.first + 1);
            self.problems.push(format!("{place}: a console block begins with a command"));
        }
        while at < block.lines.len() {
            let start = at;
            let (command, after) = command_at(&block.lines, at);
            at = after;
            while at < block.lines.len() && !block.lines[at].starts_with("$ ") {
                at += 1;
            }
            let before = if start == 0 { settings.before.clone() } else { None };
            self.steps.push(Step {
                run: Run::Shown,
                line: block.first + start + 1,
                command,
                output: (block.first + after, block.first + at),
                settings: Settings { before, ..settings.clone() },
            });
        }
    }
}

fn comment(line: &str) -> Option<&str> {
    Some(line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim())
}

/// Returns the command that begins in a line, and the index of the first line after it. It
/// continues after a backslash, and to the end of a here-document.
fn command_at(lines: &[&str], at: usize) -> (String, usize) {
    let first = lines[at].strip_prefix("$ ").unwrap_or(lines[at]);
    let mut command = first.to_owned();
    let mut next = at + 1;
    let plain = |line: &str| line.strip_prefix("> ").unwrap_or(line).to_owned();
    while command.ends_with('\\') && next < lines.len() {
        command = format!("{command}\n{}", plain(lines[next]));
        next += 1;
    }
    if let Some((_, word)) = command.split_once("<<") {
        let word = word.trim_start_matches('-').split_whitespace().next().unwrap_or_default();
        let word = word.trim_matches(['\'', '"']).to_owned();
        while next < lines.len() {
            let line = plain(lines[next]);
            command = format!("{command}\n{line}");
            next += 1;
            if line == word {
                break;
            }
        }
    }
    (command, next)
}
