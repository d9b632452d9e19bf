//! What the CLI does without, and mentions only in passing.

use std::fs;

use serde_json::json;

use crate::support::real_claude::{Cli, RealSandbox};
use crate::support::scripted_api::Step;

each_cli!(reports_an_mcp_server_that_fails_to_start);
fn reports_an_mcp_server_that_fails_to_start(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("done")]);
    let config = json!({"mcpServers": {"orders-db": {"command": "/nonexistent/server"}}});
    let config = config.to_string();
    let warning = "MCP server orders-db is not connected (failed)";

    let result = sandbox.run_job("warned", &["--mcp-config", &config]);
    result.expect_end(0, "completed", None);
    assert_eq!(result["warnings"], json!([warning]));

    let result = sandbox.run_job("failed", &["--mcp-config", &config, "--fail-on-mcp"]);
    result.expect_end(1, "failed", Some("mcp_failed"));
    assert_eq!(result["error"], warning);
    assert!(result.text("hint").starts_with("claudejob resume failed"), "{result:?}");
}

each_cli!(reports_permission_rules_of_untrusted_directories);
fn reports_permission_rules_of_untrusted_directories(cli: Cli) {
    let sandbox = RealSandbox::new(cli, [Step::text("done")]);
    fs::create_dir(sandbox.work().join(".claude")).unwrap();
    let settings = json!({"permissions": {"allow": ["Bash(git *)", "Bash(ls *)"]}});
    fs::write(sandbox.work().join(".claude/settings.json"), settings.to_string()).unwrap();

    let result = sandbox.run_job("j", &["--permission-mode", "default"]);
    result.expect_end(0, "completed", None);
    let warnings = result["warnings"].to_string();
    assert!(warnings.contains("Ignoring 2 permissions.allow entries"), "{result:?}");
    assert!(warnings.contains("trust"), "{result:?}");
}
