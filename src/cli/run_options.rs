//! Options on how claude runs: those of `start` that `resume` takes as well.

use std::time::Duration;

use clap::Args;

use super::values::{dollars, duration, positive_duration};

/// Model, tools and limits of a run of claude. `None` leaves a setting as it is.
#[derive(Debug, Default, Args)]
pub struct RunOptions {
    /// The model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How hard the model thinks: low, medium, high, …
    #[arg(long, value_name = "LEVEL")]
    pub effort: Option<String>,
    /// What claude may do unasked: default, acceptEdits, plan, bypassPermissions, …
    #[arg(long, value_name = "MODE")]
    pub permission_mode: Option<String>,
    /// Tools that need no permission, such as Read or "Bash(git *)"; repeatable
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub allowed_tools: Vec<String>,
    /// Tools that are denied; repeatable
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub disallowed_tools: Vec<String>,
    /// Text added to claude's system prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append_system_prompt: Option<String>,
    /// Turns after which claude stops
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_turns: Option<u32>,
    /// US dollars after which claude stops
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub max_budget_usd: Option<f64>,
    /// How long the job may take, such as 90s, 10m or 2h
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Limits")]
    pub timeout: Option<Duration>,
    /// End it after this time of silence, in which nothing is waited for; 0: never
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    pub stall_timeout: Option<Duration>,
    /// End it after this time of silence while a tool or background work runs [default: never]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Limits")]
    pub tool_timeout: Option<Duration>,
}
