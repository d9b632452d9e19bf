//! OpenClaw on this machine: the service of its gateway.

mod service;
mod unit_text;

pub(crate) use service::GatewayUnit;
