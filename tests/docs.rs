//! README.md and the pages in docs/: each command in them runs, its output there is current, each
//! link leads somewhere, and no page is long.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` writes the outputs that differ into the pages, and
//! `DOCS_PAGE=fleets cargo test --test docs` runs only the pages whose path contains the word.
//!
//! A page is read from top to bottom by one shell, in a home directory with a git repository
//! `~/app`, on a terminal of 100 columns. In its `console` blocks the lines after `$ ` are commands,
//! and the others their output; `sh` blocks are commands without output. Comments above a block say
//! how it is run:
//!
//! | comment | meaning |
//! |---|---|
//! | `<!-- claude: NAME -->` | jobs that are started from here on run the stand-in for `claude` with the script `tests/docs/claude/NAME` |
//! | `<!-- before: COMMAND -->` | commands before the block that the reader does not see, separated by `; `; one of them may be `reboot`, and `$CHECKOUT` is the repository of this program |
//! | `<!-- types: TEXT -->` | what the reader types when the output ends with a question, several lines separated by ` / `; in a program that reads single keys also `Enter`, `Esc`, `Ctrl-C` and `Ctrl-D` |
//! | `<!-- exits: N -->` | the exit status that commands of this block may have, besides 0 |
//! | `<!-- not run: REASON -->` | this block is not run |
//! | `<!-- ci-script -->` | this block is run by `tests/ci.rs` |
//!
//! An output may leave something out: `…` stands for any text in a line, and a line of `…` for any
//! lines. Times, durations, costs, sizes, pids and similar values may differ. A generated id in a
//! command stands for the id that the job has this time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "docs/compare.rs"]
mod compare;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/reader.rs"]
mod reader;
#[path = "docs/settled.rs"]
mod settled;
#[path = "docs/spans.rs"]
mod spans;
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use page::Page;
use reader::read;

/// What a reader reads at once.
const MAX_PAGE_LINES: usize = 200;
/// Blocks that no test can run. Each has its reason in the page.
const MAX_NOT_RUN: usize = 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths of the Markdown files below a folder, relative to the repository.
fn markdown_files(folder: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            // Its package is built there.
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    paths.sort();
    paths
}

/// Returns the paths of README.md and of all pages in docs/.
fn page_paths() -> Vec<PathBuf> {
    let mut paths = markdown_files("docs");
    paths.push(PathBuf::from("README.md"));
    paths
}

fn pages() -> Vec<Page> {
    page_paths().into_iter().map(|path| Page::read(root(), path)).collect()
}

/// Works on all items in threads, and returns the problems of all of them. Readers sleep most of
/// the time.
fn in_threads<T: Sync>(items: &[T], work: impl Fn(&T) -> Vec<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut problems = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            problems.extend(work(item));
        }
        problems
    };
    let count = thread::available_parallelism().map_or(2, usize::from) * 2;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_command_runs_and_its_output_is_current() {
    let wanted = env::var("DOCS_PAGE").unwrap_or_default();
    let updates = env::var_os("UPDATE_DOCS").is_some();
    let pages: Vec<Page> = pages()
        .into_iter()
        .filter(|page| page.path.to_string_lossy().contains(&wanted))
        .filter(|page| !page.steps.is_empty())
        .collect();
    let problems = in_threads(&pages, |page| {
        let reading = read(page);
        if updates && let Some(text) = reading.updated {
            fs::write(root().join(&page.path), text).unwrap();
        }
        reading.problems
    });
    assert_none(&problems);
}

#[test]
fn a_page_that_is_not_current_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let text = r"# A page

```console
$ echo one
two
$ false
$ printf 'a\nb\nc\n'
a
…
```

<!-- before: n=7 -->
```sh
exit $n
```
";
    fs::write(folder.path().join("page.md"), text).unwrap();
    let reading = read(&Page::read(folder.path(), PathBuf::from("page.md")));
    let problems = reading.problems.join("\n");
    for part in [
        "page.md:4: the output of `echo one` has changed. In the page:\ntwo\nNow:\none",
        "page.md:6: `false` exits with 1",
        "page.md:14: `exit $n` does not end",
    ] {
        assert!(problems.contains(part), "{problems}");
    }
    assert_eq!(reading.problems.len(), 3, "{problems}");
    let updated = reading.updated.unwrap();
    assert!(updated.contains("$ echo one\none\n$ false\n$ printf"), "{updated}");
}

#[test]
#[allow(clippy::print_stdout, reason = "a reader of the test wants to know them")]
fn few_blocks_are_not_run() {
    let pages = pages();
    assert_none(&pages.iter().flat_map(|page| page.problems.clone()).collect::<Vec<_>>());
    let not_run: Vec<String> = pages.iter().flat_map(|page| page.not_run.clone()).collect();
    println!("{} blocks are not run:\n{}", not_run.len(), not_run.join("\n"));
    assert!(not_run.len() <= MAX_NOT_RUN, "{} blocks: {not_run:#?}", not_run.len());
}

#[test]
fn every_inline_command_exists() {
    let help = spans::Help::read();
    let mut pages = pages();
    pages.extend(markdown_files("packaging").into_iter().map(|path| Page::read(root(), path)));
    let problems = in_threads(&pages, |page| help.problems(page));
    assert_none(&problems);
}

#[test]
fn every_link_leads_somewhere() {
    let mut paths = page_paths();
    paths.extend(["SKILL.md", "CHANGELOG.md"].map(PathBuf::from));
    for folder in [".github", "packaging", "tests"] {
        paths.extend(markdown_files(folder));
    }
    let problems: Vec<String> =
        paths.iter().flat_map(|path| links::problems(root(), path)).collect();
    assert_none(&problems);
}

#[test]
fn every_page_is_short_and_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap_or_default();
    let mut problems = Vec::new();
    for page in pages() {
        let path = page.path.display().to_string();
        let lines = page.text.lines().count();
        if lines > MAX_PAGE_LINES && !page.is_generated() {
            problems.push(format!("{path}: {lines} lines, more than {MAX_PAGE_LINES}"));
        }
        let name = path.strip_prefix("docs/").unwrap_or_default();
        let is_listed = !index.is_empty() && !name.is_empty() && !name.contains('/');
        if is_listed && name != "README.md" && !index.contains(&format!("]({name})")) {
            problems.push(format!("docs/README.md does not list {path}"));
        }
    }
    assert_none(&problems);
}
