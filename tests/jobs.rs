//! Jobs end to end through the real program, with the fake claude: every recorded stream, every
//! kind of misbehaving worker, claude or caller, and every refusal of `start`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "jobs/answers.rs"]
mod answers;
#[path = "jobs/earlier_version.rs"]
mod earlier_version;
#[path = "jobs/formats.rs"]
mod formats;
#[path = "jobs/kill.rs"]
mod kill;
#[path = "jobs/list.rs"]
mod list;
#[path = "jobs/naming.rs"]
mod naming;
#[path = "jobs/rerun.rs"]
mod rerun;
#[path = "jobs/several.rs"]
mod several;
#[path = "jobs/start.rs"]
mod start;
mod support;
#[path = "jobs/verdicts.rs"]
mod verdicts;
