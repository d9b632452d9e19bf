//! Exchanges that were recorded with clients: the server answers as it did.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::Sandbox;
use crate::{McpClient, PERMISSION, QUESTION};

/// In an expected message: any value.
const ANY: &str = "<any>";
const PROGRESS: &str = "notifications/progress";

/// Returns where an answer differs from the expected one, in which objects may lack fields.
fn difference(expected: &Value, actual: &Value, place: &str) -> Option<String> {
    match (expected, actual) {
        (Value::String(text), actual) if text == ANY && !actual.is_null() => None,
        (Value::Object(fields), Value::Object(_)) => fields.iter().find_map(|(name, expected)| {
            difference(expected, &actual[name], &format!("{place}.{name}"))
        }),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(i, (expected, actual))| {
                difference(expected, actual, &format!("{place}[{i}]"))
            })
        }
        _ if expected == actual => None,
        _ => Some(format!("{place}: expected {expected}, not {actual}")),
    }
}

/// Plays a recording. Its lines are `{"script": TEXT}` for the fake, `{"client": MESSAGE}`,
/// `{"line": TEXT}` for a line that is no message, `{"server": MESSAGE}`, `{"touch": FILE}`, and
/// `{"ended": JOB}` or `{"blocked": JOB}`, which waits for that.
fn play(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let script = lines.next().unwrap()["script"].as_str().unwrap().to_owned();
    let script = script.replace("QUESTION", QUESTION).replace("PERMISSION", PERMISSION);
    let sandbox = Sandbox::new(&script);
    let mut client = McpClient::start(&sandbox, None);
    for line in lines {
        if let Some(message) = line.get("client") {
            client.send(message);
        } else if let Some(text) = line.get("line") {
            client.send_line(text.as_str().unwrap().as_bytes());
        } else if let Some(file) = line.get("touch") {
            fs::write(sandbox.path(file.as_str().unwrap()), "").unwrap();
        } else if let Some(job) = line.get("ended") {
            sandbox.wait(job.as_str().unwrap());
        } else if let Some(job) = line.get("blocked") {
            assert_eq!(sandbox.wait(job.as_str().unwrap())["status"], "blocked");
        } else {
            let mut actual = client.read();
            // The progress is repeated while a wait lasts.
            while actual["method"] == PROGRESS && line["server"]["method"] != PROGRESS {
                actual = client.read();
            }
            let found = difference(&line["server"], &actual, "");
            assert_eq!(found, None, "{}: {actual:#}", path.display());
        }
    }
    client.finish();
}

#[test]
fn recorded_exchanges_have_the_same_answers() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mcp");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            play(&path);
            count += 1;
        }
    }
    assert!(count > 0);
}
