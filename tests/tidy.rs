//! Rules that the compiler does not check: plain words, short files, functions and test names, few
//! flags, one name for one type, and modules that depend on each other in one direction.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "tidy/figures.rs"]
mod figures;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use figures::{Counted, Figures, MAX_BOOLS, MAX_FUNCTION_LINES, over};

const MAX_FILE_LINES: usize = 500;
const MAX_TEST_NAME_CHARS: usize = 50;
/// One `match` over the kinds of event.
const LONG_FUNCTIONS: [&str; 1] = ["src/stream/digest.rs apply"];
/// The formats of a file and of an answer.
const FLAG_STRUCTS: [&str; 2] = ["src/job/summary.rs Summary", "src/commands/result.rs EndedView"];
/// The names of hidden verbs are a protocol between versions: these files may use this word.
const PROTOCOL_WORD: &str = "courier";
const PROTOCOL_FILES: [&str; 4] =
    ["src/hidden_verbs.rs", "tests/command_line.rs", ARCHITECTURE, INVARIANTS];
const ARCHITECTURE: &str = "docs/architecture.md";
const INVARIANTS: &str = "docs/invariants.md";

struct SourceFile {
    path: PathBuf,
    text: String,
}

/// Reads the files of a directory, and of those below it, that have one of the extensions.
fn files(directory: &str, extensions: &[&str]) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join(directory)];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                directories.push(path);
            } else if extensions.contains(&extension.as_str()) {
                let text = fs::read_to_string(&path).unwrap();
                files.push(SourceFile { path: path.strip_prefix(root).unwrap().into(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn rust_files() -> Vec<SourceFile> {
    let mut all = files("src", &["rs"]);
    all.extend(files("tests", &["rs"]));
    all
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Splits a text into lower-case words; identifiers are split at `_` and before capitals.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for c in text.chars() {
        let begins = c.is_uppercase() && was_lower;
        if (begins || !(c.is_alphanumeric() || c == '\'')) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() || c == '\'' {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Returns the words of a file with the number of the line of each. The marks of comments and the
/// ends of lines inside string literals are no words.
fn numbered_words(text: &str) -> Vec<(usize, String)> {
    let numbered = text.lines().enumerate();
    let words = numbered.flat_map(|(at, line)| words(line).into_iter().map(move |w| (at + 1, w)));
    words.collect()
}

#[test]
fn uses_no_private_words() {
    let list = include_str!("tidy/private-words.txt");
    let list = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let list = list.map(|line| line.split_once(" = ").expect("WORD = WHAT TO SAY INSTEAD"));
    let list: Vec<(Vec<String>, &str)> =
        list.map(|(word, instead)| (words(word), instead)).collect();
    let mut all = rust_files();
    all.extend(files("docs", &["md", "json"]));
    for name in ["README.md", "SKILL.md", ".github/CONTRIBUTING.md"] {
        let path = PathBuf::from(name);
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).unwrap();
        all.push(SourceFile { path, text });
    }
    let mut found = Vec::new();
    for file in all.iter().filter(|file| file.path != Path::new("tests/tidy.rs")) {
        let numbered = numbered_words(&file.text);
        for (phrase, instead) in &list {
            let hits = numbered.windows(phrase.len()).filter(|window| {
                window.iter().zip(phrase).all(|((_, word), private)| word == private)
            });
            for hit in hits {
                let path = file.path.display().to_string();
                let phrase = phrase.join(" ");
                if phrase != PROTOCOL_WORD || !PROTOCOL_FILES.contains(&path.as_str()) {
                    found.push(format!("{path}:{}: '{phrase}': {instead}", hit[0].0));
                }
            }
        }
    }
    assert_none(&found, "private words");
}

#[test]
fn no_file_is_too_long() {
    let mut found = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > MAX_FILE_LINES {
            found.push(format!("{}: {lines} lines", file.path.display()));
        }
    }
    assert_none(&found, &format!("files of more than {MAX_FILE_LINES} lines"));
}

#[test]
fn no_test_name_is_too_long() {
    let mut found = Vec::new();
    for file in rust_files() {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = name.and_then(|rest| rest.split('(').next()) {
                if is_test && name.len() > MAX_TEST_NAME_CHARS {
                    found.push(format!("{}: {name}", file.path.display()));
                }
                is_test = false;
            } else if line == "#[test]" {
                is_test = true;
            }
        }
    }
    assert_none(&found, &format!("names of tests of more than {MAX_TEST_NAME_CHARS} characters"));
}

/// Asserts that no item is above a limit but the exceptions, and that each exception is needed.
#[track_caller]
fn assert_limit(items: &[Counted], limit: usize, exceptions: &[&str], what: &str) {
    let above = over(items, limit);
    let mut found = Vec::new();
    for item in &above {
        if !exceptions.contains(&item.place.as_str()) {
            found.push(format!("{}: {}", item.place, item.count));
        }
    }
    for exception in exceptions {
        if !above.iter().any(|item| item.place == *exception) {
            found.push(format!("{exception}: no exception is needed"));
        }
    }
    assert_none(&found, &format!("more than {limit} {what}"));
}

#[test]
fn no_function_is_too_long() {
    let figures = Figures::of(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_limit(&figures.functions, MAX_FUNCTION_LINES, &LONG_FUNCTIONS, "lines in a function");
}

#[test]
fn no_struct_has_too_many_bools() {
    let figures = Figures::of(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_limit(&figures.structs, MAX_BOOLS, &FLAG_STRUCTS, "bools in a struct");
}

#[test]
fn no_type_name_is_used_twice() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files("src", &["rs"]) {
        let is_test = file.path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            name == "tests" || name == "tests.rs"
        });
        let items = file.text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        for line in items.lines().filter(|_| !is_test) {
            let item = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let item = item.trim_start_matches("pub(super) ");
            let Some((kind, rest)) = item.split_once(' ') else { continue };
            if ["struct", "enum", "trait", "type"].contains(&kind) && !line.starts_with(' ') {
                let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                let place = file.path.display().to_string();
                places.entry(name.to_owned()).or_default().insert(place);
            }
        }
    }
    // The second is that of systems other than Linux.
    places.remove("Arrivals");
    let twice = places.iter().filter(|(_, files)| files.len() > 1);
    let found: Vec<String> = twice.map(|(name, files)| format!("{name}: {files:?}")).collect();
    assert_none(&found, "type names that are used twice");
}

type ModulePath = Vec<String>;

/// Returns the module that a file of `src` holds, without those of tests.
fn module_of(path: &Path) -> Option<ModulePath> {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let mut parts: ModulePath =
        path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|name| name == "mod" || name == "main") {
        parts.pop();
    }
    if parts.iter().any(|name| name == "tests") { None } else { Some(parts) }
}

/// Returns the paths that a `use` tree names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().to_owned()];
    };
    // The word can also be in a string.
    let Some(inner) = rest.strip_suffix('}') else { return Vec::new() };
    let mut paths = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let parts = expand(&inner[start..at]).into_iter();
                paths.extend(
                    parts.filter(|part| !part.is_empty()).map(|part| format!("{prefix}{part}")),
                );
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// Returns the paths to other modules that the text of a module names.
fn paths_in(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    let text: String = lines.collect::<Vec<_>>().join(" ");
    let mut paths = Vec::new();
    for statement in text.split(';') {
        if let Some((_, tree)) = statement.rsplit_once("use ") {
            paths.extend(expand(tree));
        }
    }
    for part in text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        paths.push(part.to_owned());
    }
    paths.retain(|path| path.contains("::"));
    paths
}

/// Returns the module that a path leads to, seen from a module; items are cut off.
fn resolve(path: &str, from: &ModulePath, modules: &BTreeSet<ModulePath>) -> Option<ModulePath> {
    let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut base = from.clone();
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
            parts.insert(0, "super");
        }
        name => {
            let child: ModulePath = [from.as_slice(), &[name.to_owned()]].concat();
            if !modules.contains(&child) {
                return None;
            }
            parts.insert(0, "self");
        }
    }
    base.extend(parts[1..].iter().map(|&part| part.to_owned()));
    while !modules.contains(&base) {
        base.pop()?;
    }
    Some(base)
}

#[test]
fn modules_depend_in_one_direction() {
    let texts: BTreeMap<ModulePath, String> = files("src", &["rs"])
        .into_iter()
        .filter_map(|file| Some((module_of(&file.path)?, file.text)))
        .collect();
    let modules: BTreeSet<ModulePath> = texts.keys().cloned().collect();
    // What each module needs of those beside it, by the module that holds both.
    let mut needs: BTreeMap<(ModulePath, String), BTreeSet<String>> = BTreeMap::new();
    for (module, text) in &texts {
        let targets = paths_in(text).into_iter();
        for target in targets.filter_map(|path| resolve(&path, module, &modules)) {
            let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let key = (module[..common].to_vec(), from.clone());
                needs.entry(key).or_default().insert(to.clone());
            }
        }
    }
    let mut found = Vec::new();
    for (parent, name) in needs.keys() {
        let mut reached = BTreeSet::new();
        let mut open = vec![name.clone()];
        while let Some(module) = open.pop() {
            for next in needs.get(&(parent.clone(), module)).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        if reached.contains(name) {
            found.push(format!("{}::{name}", parent.join("::")));
        }
    }
    assert_none(&found, "modules that need themselves through others");
}

#[test]
fn pure_modules_touch_nothing_outside() {
    const PURE: [&str; 5] = ["job", "json", "stream", "supervisor", "text"];
    const OUTSIDE: [&str; 9] = [
        "std::fs",
        "std::process",
        "std::env",
        "std::thread",
        "std::net",
        "Instant",
        "SystemTime",
        "tokio",
        "libc",
    ];
    let mut found = Vec::new();
    for file in files("src", &["rs"]) {
        let module = module_of(&file.path).unwrap_or_default();
        if !module.first().is_some_and(|name| PURE.contains(&name.as_str())) {
            continue;
        }
        let code = file.text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if let Some(name) = OUTSIDE.iter().find(|name| line.contains(*name)) {
                found.push(format!("{}: {name}", file.path.display()));
            }
        }
    }
    assert_none(&found, "modules without files, processes and clocks that use one");
}

fn is_identifier_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the texts in backticks, with the number of the line of each, outside of code blocks.
fn code_spans(text: &str) -> Vec<(usize, &str)> {
    let mut spans = Vec::new();
    let mut is_in_block = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_in_block = !is_in_block;
        } else if !is_in_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(|span| (at + 1, span)));
        }
    }
    spans
}

#[test]
fn the_architecture_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = rust_files();
    let identifiers: BTreeSet<&str> =
        all.iter().flat_map(|file| file.text.split(|c: char| !is_identifier_char(c))).collect();
    let mut spans = Vec::new();
    for page in [ARCHITECTURE, INVARIANTS] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for (line, span) in code_spans(&text) {
            spans.push((page, line, span.to_owned()));
        }
    }
    let mut found = Vec::new();
    for (page, line, span) in &spans {
        let parts: Vec<&str> = span.trim_end_matches("()").split("::").collect();
        let is_path = ["src/", "tests/", "docs/"].iter().any(|folder| span.starts_with(folder));
        let is_name = parts.iter().all(|part| part.chars().all(is_identifier_char));
        let is_gone = match (is_path, is_name) {
            (true, _) => !root.join(span).exists(),
            (_, true) => parts.iter().any(|part| !identifiers.contains(part)),
            _ => false,
        };
        if is_gone {
            found.push(format!("{page}:{line}: {span}"));
        }
    }
    assert_none(&found, "files and names that do not exist");
}

#[test]
fn the_architecture_has_a_line_for_each_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(ARCHITECTURE)).unwrap();
    let main = fs::read_to_string(root.join("src/main.rs")).unwrap();
    let mut found = Vec::new();
    for line in main.lines() {
        let name = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        let Some(name) = name else { continue };
        let has_line = |end: &str| text.contains(&format!("\n  {name}{end} "));
        if !has_line(".rs") && !has_line("/") {
            found.push(name.to_owned());
        }
    }
    assert_none(&found, &format!("modules without a line in {ARCHITECTURE}"));
}
