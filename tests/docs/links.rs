//! Links between the files of the repository, and to their headings.

use std::fs;
use std::path::Path;

/// Returns the links that lead nowhere.
pub(crate) fn problems(root: &Path, path: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(path)).unwrap();
    let mut problems = Vec::new();
    for (number, line) in prose(&text) {
        for target in targets(line) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = path.parent().unwrap_or(Path::new(""));
            let linked = if file.is_empty() { path.to_owned() } else { folder.join(file) };
            let place = format!("{}:{number}", path.display());
            if !root.join(&linked).exists() {
                problems.push(format!("{place}: no file {target}"));
            } else if !heading.is_empty() {
                let linked = fs::read_to_string(root.join(&linked)).unwrap_or_default();
                if !headings(&linked).iter().any(|it| it == heading) {
                    problems.push(format!("{place}: no heading {target}"));
                }
            }
        }
    }
    problems
}

/// Returns the lines outside of code blocks, with their numbers.
pub(crate) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut is_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((at + 1, line));
        }
    }
    lines
}

/// Returns the targets of `[text](target)`, of `![text](target)`, and of `src` and `href`.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for (begin, end) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        for rest in line.split(begin).skip(1) {
            let target = rest.split(end).next().unwrap_or_default();
            targets.push(target.split(' ').next().unwrap_or_default());
        }
    }
    targets
}

/// Returns the anchors of the headings, as GitHub makes them.
fn headings(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let Some((marks, title)) = line.split_once(' ') else { continue };
        if marks.is_empty() || !marks.bytes().all(|byte| byte == b'#') {
            continue;
        }
        let mut anchor = String::new();
        for c in title.trim().to_lowercase().chars() {
            match c {
                ' ' => anchor.push('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => anchor.push(c),
                _ => {}
            }
        }
        let earlier = anchors.iter().filter(|it| **it == anchor).count();
        anchors.push(if earlier == 0 { anchor } else { format!("{anchor}-{earlier}") });
    }
    anchors
}

#[test]
fn makes_anchors_as_github_does() {
    let text = "# A fleet, on one machine\n```sh\n# no\n```\n## `send`, interrupt\n## A\n## A\n";
    assert_eq!(headings(text), ["a-fleet-on-one-machine", "send-interrupt", "a", "a-1"]);
    assert_eq!(targets("[a](b.md#c) ![d](e.svg \"f\") <img src=\"g\">"), ["b.md#c", "e.svg", "g"]);
}
