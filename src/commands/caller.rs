//! Who makes the call: a person on a terminal, an agent or another program.

use std::io::{self, IsTerminal};

use super::Call;
use crate::claude::Env;

/// Variables by which agents mark the environment of their commands.
const AGENT_VARIABLES: [&str; 10] = [
    "AI_AGENT",
    "AUGMENT_AGENT",
    "CLAUDECODE",
    "CODEX_SANDBOX",
    "CODEX_THREAD_ID",
    "CURSOR_AGENT",
    "GEMINI_CLI",
    "GOOSE_TERMINAL",
    "OPENCLAW_SHELL",
    "OPENCODE",
];

impl Call {
    /// Returns whether a person makes the call: on a terminal, and not within an agent, which may
    /// give its commands a terminal, too.
    pub(super) fn is_by_person(&self) -> bool {
        let is_by_agent = AGENT_VARIABLES.iter().any(|name| names_agent(&self.env, name));
        io::stdin().is_terminal() && io::stdout().is_terminal() && !is_by_agent
    }
}

/// Returns whether the variable is set, and not to a value that denies it.
fn names_agent(env: &Env, variable: &str) -> bool {
    env.get(variable).is_some_and(|value| value != "0" && value != "false")
}
