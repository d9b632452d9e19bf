//! Jobs that are started from within another session of the real CLI.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

/// Variables that a shell changes on its own.
const OF_SHELLS: [&str; 3] = ["OLDPWD", "SHLVL", "_"];

fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap();
    let variables = text.split('\0').filter_map(|variable| variable.split_once('='));
    let mut variables: BTreeMap<String, String> =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.retain(|name, _| !OF_SHELLS.contains(&name.as_str()));
    variables
}

each_cli!(a_job_of_a_session_does_not_inherit_the_session);
fn a_job_of_a_session_does_not_inherit_the_session(cli: Cli) {
    let claudejob = env!("CARGO_BIN_EXE_claudejob");
    let start = format!(
        "cat /proc/$PPID/environ > \"$DUMP/outer\"; env -0 > \"$DUMP/tool\"; \
         mkdir \"$DUMP/elsewhere\"; CLAUDE_CODE_MAX_RETRIES=3 {claudejob} start \
         --job-id inner --prompt inner --cwd \"$DUMP/elsewhere\" --wait"
    );
    let mut sandbox = RealSandbox::new(
        cli,
        [
            Step::bash(&start),
            Step::bash("cat /proc/$PPID/environ > \"$DUMP/inner\"; env -0 > \"$DUMP/inner-tool\""),
            Step::text("The inner job is done."),
            Step::text("The outer job is done."),
        ],
    );
    let dump = sandbox.path("dump");
    fs::create_dir(&dump).unwrap();
    sandbox.set("DUMP", &dump);
    sandbox.set("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "9000");
    let config = sandbox.path("config");
    sandbox.set("CLAUDE_CONFIG_DIR", &config);
    // The CLI sets it after its start, as a newer version may set a marker that is not in our list.
    fs::create_dir(&config).unwrap();
    fs::write(config.join("settings.json"), r#"{"env": {"CLAUDE_CODE_NEW_MARK": "1"}}"#).unwrap();

    let outer = sandbox.run_job("outer", &[]);

    outer.expect_end(0, "completed", None);
    assert_eq!(outer["result"], "The outer job is done.");
    sandbox.wait("inner").expect_end(0, "completed", None);
    let [outer, tool, mut inner, inner_tool] =
        ["outer", "tool", "inner", "inner-tool"].map(|name| environment(&dump.join(name)));
    assert_eq!(tool["CLAUDECODE"], "1");
    assert_eq!(tool["CLAUDE_CODE_NEW_MARK"], "1");
    assert_eq!(inner_tool["CLAUDECODE"], "1");
    assert_ne!(inner_tool["CLAUDE_CODE_SESSION_ID"], tool["CLAUDE_CODE_SESSION_ID"]);
    // What the user has set stays, in the environment of the session as in its shell.
    assert_eq!(inner["CLAUDE_CODE_MAX_OUTPUT_TOKENS"], "9000");
    assert_eq!(inner["CLAUDE_CONFIG_DIR"], config.to_str().unwrap());
    assert_eq!(inner.remove("CLAUDE_CODE_MAX_RETRIES").as_deref(), Some("3"));
    // Everything else is as if the session did not exist.
    let job = |id: &str, cwd: &Path| {
        [
            ("CLAUDEJOB_ID", id.to_owned()),
            ("CLAUDEJOB_DIR", sandbox.job(id).to_str().unwrap().to_owned()),
            ("CLAUDEJOB_MARK", sandbox.job(id).to_str().unwrap().to_owned()),
            ("PWD", cwd.to_str().unwrap().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };
    let mut expected = outer.clone();
    assert_eq!(expected["PWD"], sandbox.work().to_str().unwrap());
    expected.extend(job("inner", &dump.join("elsewhere")));
    assert_eq!(inner, expected);
}
