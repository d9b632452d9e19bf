//! Options of claude that both `start` and `resume` accept.

use std::time::Duration;

use clap::Args;

use crate::job::{SpecChange, milliseconds};

use super::values::{dollars, duration, positive_duration};

/// Model, tools and limits of claude. `None` keeps the current setting.
#[derive(Debug, Default, Args)]
pub(crate) struct RunOptions {
    /// Set the model
    #[arg(short, long, value_name = "MODEL", help_heading = "Claude")]
    pub model: Option<String>,
    /// Use this profile of the configuration file
    #[arg(long, value_name = "NAME", help_heading = "Claude")]
    pub profile: Option<String>,
    /// Set the effort of the model: low, medium, high, …
    #[arg(long, value_name = "LEVEL", help_heading = "Claude")]
    pub effort: Option<String>,
    /// Set the permission mode: default, acceptEdits, plan, …
    #[arg(long, value_name = "MODE", help_heading = "Claude")]
    pub permission_mode: Option<String>,
    /// Allow a tool, such as Read or "Bash(git *)" (repeatable)
    #[arg(long, value_name = "TOOL", value_delimiter = ',', help_heading = "Claude")]
    pub allowed_tools: Vec<String>,
    /// Deny a tool (repeatable)
    #[arg(long, value_name = "TOOL", value_delimiter = ',', help_heading = "Claude")]
    pub disallowed_tools: Vec<String>,
    /// Append text to claude's system prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Claude")]
    pub append_system_prompt: Option<String>,
    /// Stop claude after N turns
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_turns: Option<u32>,
    /// Stop claude after this cost in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars, help_heading = "Limits")]
    pub max_budget_usd: Option<f64>,
    /// Limit the duration of the job, such as 90s, 10m or 2h
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Limits")]
    pub timeout: Option<Duration>,
    /// End the job after this time without output; 0 disables it
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    pub stall_timeout: Option<Duration>,
    /// End the job after this silence of a tool [default: never]
    ///
    /// This applies while a tool or background work is running.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Limits")]
    pub tool_timeout: Option<Duration>,
}

impl RunOptions {
    /// Returns the changes of a job's spec.
    pub(crate) fn into_change(self) -> SpecChange {
        SpecChange {
            model: self.model.filter(|model| !model.is_empty()),
            profile: self.profile,
            effort: self.effort,
            permission_mode: self.permission_mode,
            allowed_tools: self.allowed_tools,
            disallowed_tools: self.disallowed_tools,
            append_system_prompt: self.append_system_prompt,
            max_turns: self.max_turns,
            max_budget_usd: self.max_budget_usd,
            timeout_ms: self.timeout.map(milliseconds),
            stall_timeout_ms: self.stall_timeout.map(milliseconds),
            tool_timeout_ms: self.tool_timeout.map(milliseconds),
        }
    }
}
