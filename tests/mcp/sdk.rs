//! Conformance: the clients of the official SDKs, which are installed once from npm into the target
//! directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::QUESTION;
use crate::support::Sandbox;

const PACKAGES: [&str; 3] = [
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
    "@modelcontextprotocol/ext-tasks@0.2.2",
];

#[test]
#[ignore = "needs node and the SDKs, which it installs from npm"]
fn the_official_clients_run_jobs() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("mcp-sdk");
    fs::create_dir_all(&directory).unwrap();
    if !directory.join("node_modules/@modelcontextprotocol/ext-tasks").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--fetch-retries=1"]);
        npm.arg("--prefix").arg(&directory).args(PACKAGES).current_dir(&directory);
        assert!(npm.status().unwrap().success());
    }
    // A script finds the packages beside it.
    let script = directory.join("client.mjs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.mjs");
    fs::copy(source, &script).unwrap();
    let sandbox =
        Sandbox::new(&format!("read\ninit\n{QUESTION}\nread $DIR/answer\nresult ok\neof"));
    let mut node = Command::new("node");
    node.arg(&script).arg(env!("CARGO_BIN_EXE_claudejob")).current_dir(sandbox.work());
    node.env_clear().envs(sandbox.environment());
    let output = node.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "legacy: completed\nmodern: completed\ntask: completed\n");
}
