//! What claudejob gives to OpenClaw: the hook and `setup`. `tests/openclaw/` also has the tests with a real
//! gateway.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "openclaw/hook.rs"]
mod hook;
#[path = "openclaw/setup.rs"]
mod setup;
mod support;
