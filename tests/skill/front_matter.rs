//! The front matter of SKILL.md by the rules of agentskills.io and of OpenClaw.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::text::parts;

/// The keys that agentskills.io allows.
const KEYS: [&str; 6] =
    ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];
/// The keys below `metadata.openclaw` that OpenClaw reads.
const OPENCLAW_KEYS: [&str; 5] = ["emoji", "homepage", "os", "requires", "install"];
/// Maximum length of a description that OpenClaw shows whole.
const MAX_DESCRIPTION: usize = 159;
const MAX_COMPATIBILITY: usize = 500;
const MAX_NAME: usize = 64;
const MAX_BODY_LINES: usize = 499;

type Lines = VecDeque<(usize, String)>;

/// Parses the part of YAML that every parser reads in the same way: maps, lists and scalars, each
/// on a line of its own. The validator of agentskills.io refuses the `{…}` and `[…]` of YAML.
fn parse(lines: &mut Lines) -> Value {
    let (indent, first) = lines.front().cloned().expect("a value");
    let mut list = Vec::new();
    let mut map = Map::new();
    while lines.front().is_some_and(|(at, _)| *at == indent) {
        let (_, line) = lines.pop_front().unwrap();
        if let Some(item) = line.strip_prefix("- ") {
            if item.contains(": ") {
                lines.push_front((indent + 2, item.to_owned()));
                list.push(parse(lines));
            } else {
                list.push(scalar(item));
            }
            continue;
        }
        let (key, rest) = line.split_once(':').expect("KEY: VALUE");
        let value = if rest.is_empty() { parse(lines) } else { scalar(rest) };
        assert!(map.insert(key.to_owned(), value).is_none(), "{key} is there twice");
    }
    assert!(lines.front().is_none_or(|(at, _)| *at < indent), "indentation: {lines:?}");
    if first.starts_with("- ") { list.into() } else { map.into() }
}

fn scalar(text: &str) -> Value {
    let text = text.trim();
    if let Some(quoted) = text.strip_prefix('"') {
        let inner = quoted.strip_suffix('"').expect("a closing quote");
        assert!(!inner.contains(['"', '\\']), "{text}");
        return inner.into();
    }
    let first = text.chars().next().expect("a value");
    assert!(!"'{}[]&*!|>%@`?,#-".contains(first), "more than a plain scalar: {text}");
    assert!(!text.contains(": ") && !text.contains(" #"), "YAML reads this otherwise: {text}");
    text.into()
}

fn front_matter() -> Value {
    let mut lines = Lines::new();
    for line in parts().0 {
        let text = line.trim_start();
        lines.push_back((line.len() - text.len(), text.to_owned()));
    }
    parse(&mut lines)
}

#[test]
fn it_follows_the_rules_of_agentskills() {
    let front = front_matter();
    for key in front.as_object().unwrap().keys() {
        assert!(KEYS.contains(&key.as_str()), "{key}");
    }
    let name = front["name"].as_str().unwrap();
    // The folder in which packages contain it has the same name, as the rules demand.
    assert_eq!(name, "claudejob");
    assert!(name.len() <= MAX_NAME && !name.starts_with('-') && !name.ends_with('-'));
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    assert!(front["compatibility"].as_str().unwrap().len() <= MAX_COMPATIBILITY);
    assert_eq!(front["license"], env!("CARGO_PKG_LICENSE"));
    let lines = parts().1.len();
    assert!(lines <= MAX_BODY_LINES, "{lines} lines");
}

#[test]
fn it_follows_the_rules_of_openclaw() {
    let front = front_matter();
    let description = front["description"].as_str().unwrap();
    let length = description.chars().count();
    assert!(length <= MAX_DESCRIPTION, "{length} characters: {description}");
    assert_eq!(front["metadata"].as_object().unwrap().len(), 1);
    let openclaw = &front["metadata"]["openclaw"];
    for key in openclaw.as_object().unwrap().keys() {
        assert!(OPENCLAW_KEYS.contains(&key.as_str()), "{key}");
    }
    // A required variable would hide it from people who are logged in with a subscription.
    assert_eq!(openclaw["requires"], json!({"bins": ["claudejob"]}));
    assert_eq!(openclaw["os"], json!(["linux", "darwin"]));
    assert!(openclaw["homepage"].as_str().unwrap().starts_with("https://"));
    // OpenClaw does not replace it when the model reads the file.
    assert!(!crate::text::SKILL.contains("{baseDir}"));
}

#[test]
fn it_can_be_installed_from_our_packages() {
    let front = front_matter();
    let install = front["metadata"]["openclaw"]["install"].as_array().unwrap();
    let kinds: Vec<&str> = install.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    // OpenClaw drops other kinds, such as cargo, without a message.
    assert_eq!(kinds, ["node", "brew"]);
    for option in install {
        assert_eq!(option["bins"], json!(["claudejob"]));
        assert!(option["id"].is_string() && option["label"].is_string(), "{option}");
    }
    let package = include_str!("../../packaging/npm/package.json");
    let name = format!("\"name\": \"{}\"", install[0]["package"].as_str().unwrap());
    assert!(package.contains(&name), "{name}");
    let formula = install[1]["formula"].as_str().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    // Homebrew installs from a tap alone.
    let file = formula.strip_prefix("claudejob/tap/").unwrap();
    let file = format!("{root}/packaging/homebrew/{file}.rb");
    assert!(std::path::Path::new(&file).exists(), "{file}");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("`brew install {formula}`")), "{formula}");
}
