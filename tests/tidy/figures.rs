//! Figures about the source code: how long its functions are, how many flags its structs have and
//! how much of its control flow is in combinators and closures.
//!
//! It relies on the layout of rustfmt: an item ends at the first line that holds a closing brace
//! and is indented as the item's first line.

#![allow(clippy::print_stdout, reason = "prints a table")]

use std::fs;
use std::path::{Path, PathBuf};

/// Directory of the crate to count, if it is not this one.
const DIRECTORY_VAR: &str = "FIGURES_DIR";
pub(crate) const MAX_FUNCTION_LINES: usize = 60;
pub(crate) const MAX_BOOLS: usize = 3;
const COMBINATORS: [&str; 19] = [
    "and_then",
    "chain",
    "filter",
    "filter_map",
    "find_map",
    "flat_map",
    "fold",
    "is_none_or",
    "is_ok_and",
    "is_some_and",
    "map_or",
    "map_or_else",
    "map_while",
    "ok_or_else",
    "or_else",
    "then",
    "then_some",
    "unwrap_or_else",
    "zip",
];

/// A function with its length in lines of code, or a struct with the number of its bools.
pub(crate) struct Counted {
    pub(crate) place: String,
    pub(crate) count: usize,
}

/// A file's lines of code: without blank lines, comments and tests.
struct Code {
    path: PathBuf,
    lines: Vec<String>,
}

/// What is counted in the directory `src` of a crate.
pub(crate) struct Figures {
    files: usize,
    lines: usize,
    pub(crate) functions: Vec<Counted>,
    pub(crate) structs: Vec<Counted>,
    combinators: usize,
    maps: usize,
    closures: usize,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Returns the index of the last line of the item that begins at `start`.
fn last_line(lines: &[&str], start: usize) -> usize {
    let indent = indent(lines[start]);
    for (at, line) in lines.iter().enumerate().skip(start) {
        let is_outermost = self::indent(line) == indent && !line.is_empty();
        if is_outermost && (line.ends_with('}') || line.ends_with(';') || line.ends_with(',')) {
            return at;
        }
    }
    lines.len() - 1
}

/// Returns the lines of a text that are code of the program.
fn code_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut code = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        if line == "#[cfg(test)]" {
            at = last_line(&lines, at + 1);
        } else if !line.is_empty() && !line.starts_with("//") {
            code.push(lines[at].to_owned());
        }
        at += 1;
    }
    code
}

/// Returns the directory that holds the modules of the module in this file.
fn module_directory(path: &Path) -> PathBuf {
    match path.file_stem().unwrap().to_str() {
        Some("main" | "lib" | "mod") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    }
}

/// Returns the paths, without extension, of the modules that a file declares for tests alone.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let mut modules = Vec::new();
    for rest in text.split("#[cfg(test)]\nmod ").skip(1) {
        let name = rest.split([';', ' ']).next().unwrap();
        modules.push(module_directory(path).join(name));
    }
    modules
}

fn read_code(root: &Path) -> Vec<Code> {
    let mut directories = vec![root.join("src")];
    let mut texts = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                texts.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    texts.sort();
    let tests: Vec<PathBuf> =
        texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    texts.retain(|(path, _)| {
        let module = path.with_extension("");
        !tests.iter().any(|test| module.starts_with(test))
    });
    texts.into_iter().map(|(path, text)| Code { path, lines: code_lines(&text) }).collect()
}

/// Returns the name of the item of this kind (`fn`, `struct`) that a line declares.
fn declared<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        if word == kind {
            return words.next()?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
        }
        let is_qualifier = ["async", "const", "unsafe", "extern", "\"C\""].contains(&word);
        if !is_qualifier && !word.starts_with("pub") {
            return None;
        }
    }
    None
}

/// Counts the calls of a method, with or without a type argument.
fn calls(text: &str, method: &str) -> usize {
    text.matches(&format!(".{method}(")).count() + text.matches(&format!(".{method}::<")).count()
}

/// Counts the closures that `let` gives a name.
fn let_bound_closures(text: &str) -> usize {
    let mut closures = 0;
    for statement in text.split("let ").skip(1) {
        let Some((_, value)) = statement.split_once('=') else { continue };
        let value = value.trim_start();
        let value = value.strip_prefix("async ").unwrap_or(value);
        if value.strip_prefix("move ").unwrap_or(value).starts_with('|') {
            closures += 1;
        }
    }
    closures
}

impl Figures {
    /// Counts the program's code in `src` of the crate in a directory.
    pub(crate) fn of(root: &Path) -> Figures {
        let mut figures = Figures {
            files: 0,
            lines: 0,
            functions: Vec::new(),
            structs: Vec::new(),
            combinators: 0,
            maps: 0,
            closures: 0,
        };
        for file in read_code(root) {
            figures.add(&file);
        }
        figures.functions.sort_by_key(|function| function.count);
        figures.structs.sort_by_key(|item| item.count);
        figures
    }

    fn add(&mut self, file: &Code) {
        let path = file.path.display();
        let lines: Vec<&str> = file.lines.iter().map(String::as_str).collect();
        for (at, line) in lines.iter().enumerate() {
            if let Some(name) = declared(line, "fn") {
                let last = last_line(&lines, at);
                // A function without a body is declared by a trait or another language.
                if lines[last].ends_with('}') {
                    let place = format!("{path} {name}");
                    self.functions.push(Counted { place, count: last + 1 - at });
                }
            }
            if let Some(name) = declared(line, "struct") {
                let fields = &lines[at..=last_line(&lines, at)];
                let count = fields.iter().filter(|field| field.ends_with(": bool,")).count();
                self.structs.push(Counted { place: format!("{path} {name}"), count });
            }
        }
        let text = lines.join("\n");
        self.files += 1;
        self.lines += lines.len();
        self.combinators += COMBINATORS.iter().map(|name| calls(&text, name)).sum::<usize>();
        self.maps += calls(&text, "map");
        self.closures += let_bound_closures(&text);
    }

    /// Returns the length of the function that is longer than this percentage of all.
    fn function_length(&self, percentage: usize) -> usize {
        self.functions[self.functions.len() * percentage / 100].count
    }

    fn per_1000_lines(&self, count: usize) -> f64 {
        count as f64 * 1000.0 / self.lines as f64
    }

    fn print(&self) {
        println!("| figure | value |\n|---|---|");
        println!("| files | {} |", self.files);
        println!("| lines of code | {} |", self.lines);
        println!("| functions | {} |", self.functions.len());
        println!("| function length, median | {} |", self.function_length(50));
        println!("| function length, 90th percentile | {} |", self.function_length(90));
        let long = over(&self.functions, MAX_FUNCTION_LINES);
        println!("| functions over {MAX_FUNCTION_LINES} lines | {} |", long.len());
        let flagged = over(&self.structs, MAX_BOOLS);
        println!("| structs with more than {MAX_BOOLS} bools | {} |", flagged.len());
        println!("| bools in these structs | {} |", flagged.iter().map(|s| s.count).sum::<usize>());
        let combinators = self.per_1000_lines(self.combinators);
        println!("| combinators for each 1,000 lines | {combinators:.1} |");
        println!("| `map` for each 1,000 lines | {:.1} |", self.per_1000_lines(self.maps));
        let closures = self.per_1000_lines(self.closures);
        println!("| closures with a name for each 1,000 lines | {closures:.1} |");
        println!();
        for Counted { place, count } in long {
            println!("{place}: {count} lines");
        }
        for Counted { place, count } in flagged {
            println!("{place}: {count} bools");
        }
    }
}

/// Returns the items whose count is above a limit, the largest first.
pub(crate) fn over(all: &[Counted], limit: usize) -> Vec<&Counted> {
    all.iter().rev().filter(|counted| counted.count > limit).collect()
}

/// Prints the figures of this crate, or of the one in the directory of the variable.
#[test]
#[ignore = "prints figures and checks nothing"]
fn figures() {
    let root = std::env::var_os(DIRECTORY_VAR).unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    Figures::of(Path::new(&root)).print();
}
