//! The keys of a line, which are the options of `start`, and their values as arguments.

use std::any::TypeId;

use clap::{Arg, ArgAction, Command};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::lines::{Pairs, without_place};

/// Arguments of `start` that belong to the call, not to one job.
const OF_THE_CALL: [&str; 6] = ["id", "if_absent", "wait", "from", "from_schema", "set_label"];
/// Options whose value may be a JSON text, which a line may contain as an object.
const JSON_OPTIONS: [&str; 3] = ["json_schema", "mcp_config", "settings"];
/// Option with key and value.
const LABEL: &str = "label";
/// Key of the arguments for claude, which have no name.
const CLAUDE_ARGS: &str = "claudeArgs";
/// Other names of keys, which are not like them.
const SYNONYMS: [(&str, &str); 6] = [
    ("id", "jobId"),
    ("name", "jobId"),
    ("dir", "cwd"),
    ("directory", "cwd"),
    ("workdir", "cwd"),
    ("dependson", "after"),
];
/// Least likeness of a key that is suggested.
const MIN_LIKENESS: f64 = 0.8;

/// A key of a line.
#[derive(Debug)]
pub(super) struct LineKey {
    pub name: String,
    /// Name of the argument in its definition.
    pub id: String,
    /// Name of the option; `None` for arguments that follow `--`.
    pub long: Option<String>,
    pub kind: ValueKind,
}

/// What the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Flag,
    /// An option whose value may be omitted.
    FlagOrText,
    Integer,
    Number,
    /// An integer, or a text with a unit.
    Size,
    Text,
    /// A text, or a JSON object.
    Json,
    /// One text, or an array of texts.
    Texts,
    /// The same, of texts or JSON objects.
    Jsons,
    /// `KEY=VALUE`, an array of them, or an object.
    Labels,
}

impl ValueKind {
    fn of(arg: &Arg) -> Self {
        let id = arg.get_id().as_str();
        let is_json = JSON_OPTIONS.contains(&id);
        let takes_no_value = arg.get_num_args().is_some_and(|values| values.min_values() == 0);
        let value_type = arg.get_value_parser().type_id();
        match arg.get_action() {
            ArgAction::SetTrue => Self::Flag,
            ArgAction::Append if id == LABEL => Self::Labels,
            ArgAction::Append if is_json => Self::Jsons,
            ArgAction::Append => Self::Texts,
            _ if takes_no_value => Self::FlagOrText,
            _ if is_json => Self::Json,
            _ if value_type == TypeId::of::<u32>() || value_type == TypeId::of::<i32>() => {
                Self::Integer
            }
            _ if value_type == TypeId::of::<f64>() => Self::Number,
            _ if value_type == TypeId::of::<u64>() => Self::Size,
            _ => Self::Text,
        }
    }

    /// Returns what a line may have, for errors.
    fn expected(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::FlagOrText => "true, false or a text",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Size => "an integer or a text",
            Self::Text => "a text",
            Self::Json => "a text or an object",
            Self::Texts => "a text or an array of texts",
            Self::Jsons => "a text, an object or an array of them",
            Self::Labels => "an object with texts, or KEY=VALUE or an array of it",
        }
    }
}

/// Returns the keys by the definition of `start`, which must be built.
pub(super) fn keys(command: &Command) -> Vec<LineKey> {
    let mut keys = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        if OF_THE_CALL.contains(&id) || matches!(arg.get_action(), ArgAction::Help) {
            continue;
        }
        let long = arg.get_long().map(str::to_owned);
        let name = match &long {
            Some(long) => camel_case(long),
            None => CLAUDE_ARGS.to_owned(),
        };
        keys.push(LineKey { name, id: id.to_owned(), long, kind: ValueKind::of(arg) });
    }
    keys
}

fn camel_case(long: &str) -> String {
    let mut name = String::new();
    for word in long.split('-') {
        match word.chars().next() {
            Some(first) if !name.is_empty() => {
                name.push(first.to_ascii_uppercase());
                name.push_str(&word[first.len_utf8()..]);
            }
            _ => name.push_str(word),
        }
    }
    name
}

/// Returns the error for a key that is none.
pub(super) fn unknown_key(name: &str, keys: &[LineKey]) -> String {
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let mut best = None;
    for key in keys {
        let likeness = strsim::jaro_winkler(&plain(name), &plain(&key.name));
        if likeness > MIN_LIKENESS && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, &key.name));
        }
    }
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == plain(name));
    let name = name.escape_debug();
    match (synonym, best) {
        (Some((_, near)), _) => format!("unknown key '{name}': did you mean '{near}'?"),
        (None, Some((_, near))) => format!("unknown key '{name}': did you mean '{near}'?"),
        (None, None) => format!("unknown key '{name}'"),
    }
}

impl LineKey {
    /// Returns the texts that the option's parser gets for a value: none for an option without a
    /// value. `None` if the value is null: the line does not set the option.
    pub(super) fn values(&self, raw: &RawValue) -> Result<Option<OptionValues>, String> {
        let value: Value = serde_json::from_str(raw.get()).map_err(|error| {
            format!("invalid value of '{}': {}", self.name, without_place(&error))
        })?;
        let values = match (self.kind, &value) {
            (_, Value::Null) => return Ok(None),
            (ValueKind::Flag | ValueKind::FlagOrText, Value::Bool(is_set)) => {
                if *is_set {
                    OptionValues::Flag
                } else {
                    OptionValues::Unset
                }
            }
            (ValueKind::Labels, Value::Object(_)) => OptionValues::Texts(labels(raw)?),
            _ => match self.texts(&value) {
                Some(texts) if texts.is_empty() => OptionValues::Unset,
                Some(texts) => OptionValues::Texts(texts),
                None => {
                    let (name, expected) = (&self.name, self.kind.expected());
                    return Err(format!("'{name}' takes {expected}"));
                }
            },
        };
        Ok(Some(values))
    }

    fn texts(&self, value: &Value) -> Option<Vec<String>> {
        match (self.kind, value) {
            (ValueKind::Texts | ValueKind::Jsons | ValueKind::Labels, Value::Array(items)) => {
                let mut texts = Vec::new();
                for item in items {
                    texts.push(self.text(item)?);
                }
                Some(texts)
            }
            _ => Some(vec![self.text(value)?]),
        }
    }

    fn text(&self, value: &Value) -> Option<String> {
        match (self.kind, value) {
            (ValueKind::Flag | ValueKind::Integer | ValueKind::Number, Value::String(_)) => None,
            (_, Value::String(text)) => Some(text.clone()),
            (ValueKind::Integer | ValueKind::Size, Value::Number(number)) => integer(number),
            (ValueKind::Number, Value::Number(number)) => Some(number.to_string()),
            (ValueKind::Json | ValueKind::Jsons, Value::Object(_)) => Some(value.to_string()),
            _ => None,
        }
    }
}

/// Returns the text of an integer, which JSON may also write as `3.0` or `1e2`.
fn integer(number: &Number) -> Option<String> {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.trunc() != value => None,
        Some(value) if number.is_f64() => Some(format!("{value:.0}")),
        _ => Some(number.to_string()),
    }
}

/// Returns the labels of an object as `KEY=VALUE`.
fn labels(raw: &RawValue) -> Result<Vec<String>, String> {
    let pairs: Pairs = serde_json::from_str(raw.get())
        .map_err(|_| format!("'{LABEL}' has a key twice, or is not an object with texts"))?;
    let mut labels = Vec::new();
    for (key, value) in pairs.0 {
        if key.contains('=') {
            return Err(format!("the key '{}' of '{LABEL}' contains '='", key.escape_debug()));
        }
        match serde_json::from_str(value.get()) {
            Ok(Value::String(value)) => labels.push(format!("{key}={value}")),
            _ => return Err(format!("the values of '{LABEL}' are texts")),
        }
    }
    Ok(labels)
}

/// The value of an option.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OptionValues {
    /// The option has no value.
    Flag,
    /// The option is not set, whatever the call and the configuration say.
    Unset,
    Texts(Vec<String>),
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::commands::start::StartArgs;

    fn start_keys() -> Vec<LineKey> {
        let mut command = StartArgs::augment_args(Command::new("start"));
        command.build();
        keys(&command)
    }

    fn values(kind: ValueKind, json: &str) -> Result<Option<OptionValues>, String> {
        let (name, id) = ("x".to_owned(), "x".to_owned());
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        LineKey { name, id, long: None, kind }.values(&raw)
    }

    #[test]
    fn keys_are_the_options_in_camel_case() {
        let keys = start_keys();
        for (name, kind) in [
            ("jobId", ValueKind::Text),
            ("prompt", ValueKind::Text),
            ("promptFile", ValueKind::Text),
            ("cwd", ValueKind::Text),
            ("ask", ValueKind::Flag),
            ("maxTurns", ValueKind::Integer),
            ("priority", ValueKind::Integer),
            ("maxBudgetUsd", ValueKind::Number),
            ("memoryMax", ValueKind::Size),
            ("timeout", ValueKind::Text),
            ("detach", ValueKind::Text),
            ("allowedTools", ValueKind::Texts),
            ("after", ValueKind::Texts),
            ("jsonSchema", ValueKind::Json),
            ("mcpConfig", ValueKind::Jsons),
            ("label", ValueKind::Labels),
            ("claudeArgs", ValueKind::Texts),
        ] {
            let key = keys.iter().find(|key| key.name == name);
            assert_eq!(key.map(|key| key.kind), Some(kind), "{name}");
        }
        for name in ["id", "wait", "from", "fromSchema", "setLabel", "ifAbsent", "help"] {
            assert!(keys.iter().all(|key| key.name != name), "{name}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_option() {
        use ValueKind::{
            Flag, FlagOrText, Integer, Json, Jsons, Labels, Number, Size, Text, Texts,
        };
        let texts = |texts: &[&str]| {
            Some(OptionValues::Texts(texts.iter().map(|text| (*text).to_owned()).collect()))
        };
        for (kind, json, expected) in [
            (Flag, "true", Some(OptionValues::Flag)),
            (Flag, "false", Some(OptionValues::Unset)),
            (Flag, "null", None),
            (FlagOrText, "true", Some(OptionValues::Flag)),
            (FlagOrText, "\"a\"", texts(&["a"])),
            (Integer, "-5", texts(&["-5"])),
            (Integer, "3.0", texts(&["3"])),
            (Size, "1e3", texts(&["1000"])),
            (Number, "0.5", texts(&["0.5"])),
            (Number, "2", texts(&["2"])),
            (Size, "1024", texts(&["1024"])),
            (Size, "\"2G\"", texts(&["2G"])),
            (Text, "\"-\\u00e4\"", texts(&["-ä"])),
            (Texts, "\"a\"", texts(&["a"])),
            (Texts, "[\"a\",\"b\"]", texts(&["a", "b"])),
            (Texts, "[]", Some(OptionValues::Unset)),
            (Json, "{\"a\":[1]}", texts(&["{\"a\":[1]}"])),
            (Jsons, "[{},\"f\"]", texts(&["{}", "f"])),
            (Labels, "{\"a\":\"b\",\"c\":\"\"}", texts(&["a=b", "c="])),
            (Labels, "[\"a=b\"]", texts(&["a=b"])),
            (Labels, "\"a=b\"", texts(&["a=b"])),
        ] {
            assert_eq!(values(kind, json), Ok(expected), "{kind:?} {json}");
        }
        for (kind, json) in [
            (Flag, "\"true\""),
            (Flag, "1"),
            (FlagOrText, "1"),
            (Integer, "1.5"),
            (Integer, "\"1\""),
            (Number, "\"1\""),
            (Size, "1.5"),
            (Text, "5"),
            (Text, "[\"a\"]"),
            (Text, "{}"),
            (Texts, "[1]"),
            (Texts, "{}"),
            (Json, "[]"),
            (Labels, "{\"a\":1}"),
            (Labels, "{\"a\":\"1\",\"a\":\"2\"}"),
            (Labels, "{\"a=b\":\"1\"}"),
            (Labels, "7"),
        ] {
            assert!(values(kind, json).is_err(), "{kind:?} {json}");
        }
    }

    #[test]
    fn names_the_nearest_key() {
        let keys = start_keys();
        for (name, near) in [
            ("promt", "prompt"),
            ("prompt-file", "promptFile"),
            ("job_id", "jobId"),
            ("maxturns", "maxTurns"),
            ("allowedtool", "allowedTools"),
            ("id", "jobId"),
            ("depends_on", "after"),
        ] {
            let error = unknown_key(name, &keys);
            assert!(error.ends_with(&format!("did you mean '{near}'?")), "{error}");
        }
        assert_eq!(unknown_key("zzz\n", &keys), "unknown key 'zzz\\n'");
    }
}
