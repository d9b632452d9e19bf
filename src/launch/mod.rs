//! Putting a worker on its feet. Nobody else starts one.

mod local;

pub use local::{LaunchError, launch};

/// The worker's report that claude runs.
pub const LAUNCHED: u8 = b'R';
/// The worker's report that claude could not be started; the record says why.
pub const NOT_LAUNCHED: u8 = b'F';
