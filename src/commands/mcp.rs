//! `mcp`: offers jobs to a client of the Model Context Protocol, over stdin and stdout.
//!
//! Each tool is a verb: the arguments of a tool call become those of a call of the program, which
//! is made in this process, and its JSON answer is the result of the tool.

mod connection;
mod elicitation;
mod server;
mod tasks;
mod tools;
mod waiting;
mod wire;

use std::ffi::OsString;

use clap::Args;

use super::Call;
use crate::error::{Error, ExitStatus};
use connection::McpConnection;
use server::McpService;

/// The answer of a call that was made in this process.
pub(crate) struct MemoryAnswer {
    pub status: ExitStatus,
    /// The answer as JSON.
    pub json: String,
    /// The answer is the error of a failed operation.
    pub is_error: bool,
}

/// Makes a call with these arguments; the first is the name of the program.
pub(crate) type CallInMemory = fn(Vec<OsString>) -> MemoryAnswer;

/// Arguments of `mcp`: none.
#[derive(Debug, Args)]
#[command(after_help = "Example: claude mcp add claudejob -- claudejob mcp\n\n\
    Jobs continue when the client and this server have exited. docs/mcp.md describes the tools.")]
pub(crate) struct McpArgs {}

impl McpArgs {
    pub(crate) fn run(
        self,
        call: &Call,
        call_in_memory: CallInMemory,
    ) -> Result<ExitStatus, Error> {
        let jobs_dir = call.jobs_dir()?;
        let ignores_config = call.args.iter().any(|arg| arg == "--no-config");
        let connection = McpConnection::new(jobs_dir, ignores_config, call_in_memory);
        McpService::new(connection).serve();
        Ok(ExitStatus::Done)
    }
}
