//! The JSON schema of a line, made from the definition of the options.

use clap::{Arg, Args, Command};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::keys::{LineKey, ValueKind, keys};
use crate::commands::start::StartArgs;
use crate::output::Answer;

/// The schema of a line.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(in crate::commands::start) struct LineSchema(Value);

impl LineSchema {
    pub(in crate::commands::start) fn new() -> Self {
        let mut command = StartArgs::augment_args(Command::new("start"));
        command.build();
        let mut properties = Map::new();
        for key in keys(&command) {
            if let Some(arg) = command.get_arguments().find(|arg| arg.get_id() == key.id.as_str()) {
                properties.insert(key.name.clone(), property(&key, arg));
            }
        }
        Self(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Line of `claudejob start --from`",
            "description": "A job. Options of the call apply where the line does not set them.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        }))
    }
}

impl Answer for LineSchema {
    fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

/// Returns the schema of a key.
fn property(key: &LineKey, arg: &Arg) -> Value {
    let text = json!({ "type": "string" });
    let object = json!({ "type": "object" });
    let mut schema = match key.kind {
        ValueKind::Flag => json!({ "type": "boolean" }),
        ValueKind::FlagOrText => json!({ "type": ["boolean", "string"] }),
        ValueKind::Integer => json!({ "type": "integer" }),
        ValueKind::Number => json!({ "type": "number" }),
        ValueKind::Size => json!({ "type": ["integer", "string"] }),
        ValueKind::Text => text,
        ValueKind::Json => json!({ "type": ["string", "object"] }),
        ValueKind::Texts => one_or_several(&[text]),
        ValueKind::Jsons => one_or_several(&[text, object]),
        ValueKind::Labels => {
            let labels = json!({ "type": "object", "additionalProperties": { "type": "string" } });
            let mut schema = one_or_several(&[text]);
            if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
                any.push(labels);
            }
            schema
        }
    };
    let help = arg.get_help().or(arg.get_long_help()).map(ToString::to_string).unwrap_or_default();
    schema["description"] = json!(help);
    let values = arg.get_possible_values();
    if key.kind == ValueKind::Text && !values.is_empty() {
        let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        schema["enum"] = json!(names);
    }
    if let ([default], true) = (arg.get_default_values(), takes_default(key.kind)) {
        let text = default.to_string_lossy();
        schema["default"] = match key.kind {
            ValueKind::Text | ValueKind::Size => json!(text),
            _ => serde_json::from_str(&text).unwrap_or_default(),
        };
    }
    schema
}

/// Whether the default of an option is one of its values in a line.
fn takes_default(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Flag
            | ValueKind::Integer
            | ValueKind::Number
            | ValueKind::Size
            | ValueKind::Text
    )
}

/// Returns the schema of a value, or an array of values, of one of these schemas.
fn one_or_several(schemas: &[Value]) -> Value {
    let mut any = schemas.to_vec();
    let items = match schemas {
        [one] => one.clone(),
        several => json!({ "anyOf": several }),
    };
    any.push(json!({ "type": "array", "items": items }));
    json!({ "anyOf": any })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_each_option() {
        let LineSchema(schema) = LineSchema::new();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for (line, is_valid) in [
            (r#"{"prompt":"x"}"#, true),
            (r#"{"jobId":"a","after":"b","label":{"k":"v"},"maxTurns":3,"ask":true}"#, true),
            (r#"{"allowedTools":["Read","Edit"],"memoryMax":"2G","maxBudgetUsd":0.5}"#, true),
            (r#"{"jsonSchema":{"type":"object"},"mcpConfig":[{},"f"],"detach":"scope"}"#, true),
            (r#"{"promt":"x"}"#, false),
            (r#"{"maxTurns":"3"}"#, false),
            (r#"{"ask":"yes"}"#, false),
            (r#"{"detach":"none"}"#, false),
            (r#"{"label":{"k":1}}"#, false),
        ] {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(validator.is_valid(&line), is_valid, "{line}");
        }
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(!property["description"].as_str().unwrap().is_empty(), "{name}");
        }
        let properties = &schema["properties"];
        assert_eq!(properties["maxParallel"]["default"], 32);
        assert_eq!(properties["stallTimeout"]["default"], "30m");
    }
}
