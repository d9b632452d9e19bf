//! Checks answers against the schemas in `docs/schemas`. In the tests an unknown field is an error,
//! so that no field is added without its schema; the committed schemas stay open.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas");

/// Checks the output of a call of the program with these arguments.
#[track_caller]
pub(crate) fn check_output(arguments: &[String], stdout: &str) {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let Some(verb) = arguments.first().map(String::as_str) else { return };
    // Text, claude's raw stream, and a patch.
    let is_raw = has("--raw") && (has("--follow") || has("-q") || has("diff"));
    if has("--plain") || is_raw {
        return;
    }
    // An element of the array, or the document.
    let is_element = has("ndjson");
    let schemas: &[&str] = match verb {
        "start" if has("--from-schema") => return,
        "start" if has("--from") => &["start-batch", "wait"],
        "start" | "rerun"
            if arguments.iter().any(|a| a == "--wait" || a.starts_with("--wait=")) =>
        {
            &["wait"]
        }
        "run" if is_element => &["wait", "logs"],
        "run" => &["wait"],
        "resume" | "recover" => &["recover", "recover-all"],
        "rerun" => &["start"],
        "unpause" => &["pause"],
        "rm" => &["clean"],
        "send" if has("--follow") => &["send", "logs"],
        "demo" | "sidecar" | "worker" | "replay" => return,
        verb => &[verb],
    };
    if !validators().contains_key(schemas[0]) {
        return;
    }
    let documents: Vec<Value> = match serde_json::from_str(stdout) {
        Ok(document) => vec![document],
        Err(_) => stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    };
    for document in documents {
        if is_element && validators()[schemas[0]].is_valid(&json!([document])) {
            continue;
        }
        let is_error = document.get("code").is_some() && document.get("error").is_some();
        check(if is_error { &["error"] } else { schemas }, &document);
    }
}

/// Asserts that a document is valid against one of these schemas, or shows how it differs from the
/// first one.
#[track_caller]
pub(crate) fn check(schemas: &[&str], document: &Value) {
    if schemas.iter().any(|name| validators()[*name].is_valid(document)) {
        return;
    }
    let errors = validators()[schemas[0]].iter_errors(document);
    let errors: Vec<String> =
        errors.map(|error| format!("{} at {}", error, error.instance_path())).collect();
    panic!("not as docs/schemas/{}.json says: {errors:#?}\n{document:#}", schemas[0]);
}

fn validators() -> &'static BTreeMap<String, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<String, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        let files = fs::read_dir(SCHEMAS).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (name(&path), validator(&path))).collect()
    })
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn validator(path: &Path) -> Validator {
    let mut schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    close(&mut schema, false);
    jsonschema::validator_for(&schema).unwrap()
}

/// Refuses unknown fields in a schema and in all schemas inside it. `shares` says that it describes
/// only some of the fields of an object, beside the schema around it.
fn close(schema: &mut Value, shares: bool) {
    const BRANCHES: [&str; 3] = ["oneOf", "anyOf", "allOf"];
    match schema {
        Value::Object(fields) => {
            let has_properties = fields.contains_key("properties");
            if has_properties && !shares && !fields.contains_key("additionalProperties") {
                fields.insert("unevaluatedProperties".to_owned(), json!(false));
            }
            for (key, inner) in fields.iter_mut() {
                match (key.as_str(), inner) {
                    ("properties" | "$defs", Value::Object(named)) => {
                        named.values_mut().for_each(|schema| close(schema, false));
                    }
                    (key, Value::Array(branches)) if BRANCHES.contains(&key) => {
                        let shares = shares || has_properties;
                        branches.iter_mut().for_each(|schema| close(schema, shares));
                    }
                    (_, inner) => close(inner, false),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, false)),
        _ => {}
    }
}
