//! OpenClaw on this machine: its command, which passes messages on to agents and people, its state
//! directory, the service of its gateway, and the files that it reads of claudejob.

mod bundle;
mod command;
mod service;
mod state_dir;
mod unit_text;

pub(crate) use bundle::{BundledFile, FILES, FileState, HOOK, SKILL};
pub(crate) use command::{OpenClawCall, command, command_with, find, is_final};
pub(crate) use service::{GatewayUnit, dot_env};
pub(crate) use state_dir::state_dir;
