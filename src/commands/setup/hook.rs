//! The hook and the skill, as OpenClaw's own command sees them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::check::Check;
use crate::job::OpenClawCommand;
use crate::openclaw::{HOOK, command_with};
use crate::process;
use crate::text::one_line;

/// Time limit of a call of the command, which loads all of OpenClaw.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_OUTPUT_BYTES: usize = 1 << 20;
const ENABLE: &str = "openclaw hooks enable claudejob-recover";

/// Enables the hook, and checks whether OpenClaw shows the skill to its agents.
pub(super) fn checks(
    command: Option<&OpenClawCommand>,
    state_dir: &Path,
    dry_run: bool,
) -> Vec<Check> {
    let Some(command) = command else {
        let detail = format!("{HOOK} could not be enabled without the openclaw command");
        return vec![Check::warning("hook", detail, ENABLE)];
    };
    // Even a question makes the command create its directory.
    if dry_run && !state_dir.is_dir() {
        return vec![not_enabled()];
    }
    let hook = enable(command, dry_run);
    if dry_run { vec![hook] } else { vec![skill(command), hook] }
}

fn not_enabled() -> Check {
    let hint = "claudejob setup openclaw  # enables it";
    Check::warning("hook", format!("{HOOK} is not enabled"), hint)
}

fn enable(command: &OpenClawCommand, dry_run: bool) -> Check {
    let enabled = Check::ok("hook", format!("{HOOK} is enabled"));
    match is_enabled(command) {
        Ok(true) => return enabled,
        Ok(false) if dry_run => return not_enabled(),
        Ok(false) => {}
        Err(why) => return Check::error("hook", why, ENABLE),
    }
    // What it says decides nothing: its effect does.
    let output = run(command, &["hooks", "enable", HOOK]);
    match (is_enabled(command), output) {
        (Ok(true), _) => enabled,
        (Ok(false), Ok(output)) => {
            let detail = format!("{HOOK} could not be enabled: {}", one_line(&output, 200));
            Check::error("hook", detail, ENABLE)
        }
        (Err(why), _) | (_, Err(why)) => Check::error("hook", why, ENABLE),
    }
}

/// Asks for the configuration. Enabling a hook that is selected already could exclude others: the
/// first name makes a list of what was open to all.
fn is_enabled(command: &OpenClawCommand) -> Result<bool, String> {
    let output = run(command, &["config", "get", "hooks.internal", "--json"])?;
    match document(&output) {
        Some(config) => Ok(selects(&config)),
        None => Err(format!("no answer of openclaw config get: {}", one_line(&output, 200))),
    }
}

/// Returns whether the configuration of internal hooks selects the hook.
fn selects(config: &Value) -> bool {
    let named = config["entries"].as_object();
    if config["enabled"] == false {
        return false;
    }
    match named.and_then(|entries| entries.get(HOOK)) {
        Some(entry) => entry["enabled"] != false,
        None => {
            let is_list = named.is_some_and(|entries| !entries.is_empty());
            let is_open = config["load"]["extraDirs"].as_array().is_some_and(|it| !it.is_empty());
            is_open || (config["enabled"] == true && !is_list)
        }
    }
}

fn skill(command: &OpenClawCommand) -> Check {
    let info = match run(command, &["skills", "info", "claudejob", "--json"]) {
        Ok(output) => document(&output).unwrap_or_default(),
        Err(why) => return Check::unknown("skill", why),
    };
    if info["modelVisible"] == true {
        return Check::ok("skill", "OpenClaw accepts it");
    }
    let missing = info["missing"]["bins"].as_array().is_some_and(|bins| !bins.is_empty());
    let detail = match () {
        () if info["disabled"] == true => "it is disabled in OpenClaw's configuration",
        () if info["blockedByAllowlist"] == true => "OpenClaw's list of allowed skills lacks it",
        () if info["blockedByAgentFilter"] == true => "the agent's list of skills lacks it",
        () if missing => "the openclaw command does not find claudejob on PATH",
        () => "OpenClaw does not show it to its agents",
    };
    Check::warning("skill", detail, "openclaw skills info claudejob")
}

/// Runs the command and returns its output, which must have an end in time.
fn run(command: &OpenClawCommand, arguments: &[&str]) -> Result<String, String> {
    let name = format!("openclaw {}", arguments.join(" "));
    let mut command = command_with(command, arguments)?;
    command.env("NO_COLOR", "1");
    match process::run_with_timeout(command, None, TIMEOUT, MAX_OUTPUT_BYTES) {
        Ok((output, Some(_))) => Ok(String::from_utf8_lossy(&output).into_owned()),
        Ok((_, None)) => Err(format!("{name} did not end within {} s", TIMEOUT.as_secs())),
        Err(error) => Err(format!("could not run {name}: {error}")),
    }
}

/// Returns the JSON document of an output, which warnings may surround.
fn document(output: &str) -> Option<Value> {
    for (at, _) in output.match_indices('{') {
        if at == 0 || output[..at].ends_with('\n') {
            let mut documents = serde_json::Deserializer::from_str(&output[at..]).into_iter();
            if let Some(Ok(document)) = documents.next() {
                return Some(document);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn knows_which_configuration_selects_the_hook() {
        for (config, expected) in [
            (json!({}), false),
            (json!({"ok": false, "error": {"message": "unset"}}), false),
            (json!({"enabled": true}), true),
            (json!({"enabled": true, "entries": {}}), true),
            (json!({"enabled": true, "entries": {"other": {"enabled": true}}}), false),
            (json!({"enabled": true, "entries": {HOOK: {"enabled": true}}}), true),
            (json!({"entries": {HOOK: {}}}), true),
            (json!({"enabled": true, "entries": {HOOK: {"enabled": false}}}), false),
            (json!({"enabled": false, "entries": {HOOK: {"enabled": true}}}), false),
            (json!({"entries": {"a": {}}, "load": {"extraDirs": ["/x"]}}), true),
        ] {
            assert_eq!(selects(&config), expected, "{config}");
        }
    }

    #[test]
    fn finds_the_document_among_warnings() {
        for (output, expected) in [
            ("{\"a\":1}\n", Some(json!({"a": 1}))),
            ("warning {x}\n{bad\n{\n \"a\": 1\n}\nmore", Some(json!({"a": 1}))),
            ("no answer", None),
            ("", None),
        ] {
            assert_eq!(document(output), expected, "{output}");
        }
    }
}
