//! OpenClaw on this machine: its command, which passes messages on to agents and people, and the
//! service of its gateway.

mod command;
mod service;
mod unit_text;

pub(crate) use command::{OpenClawCall, command, find, is_final};
pub(crate) use service::GatewayUnit;
