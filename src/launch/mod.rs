//! Putting a worker on its feet, away from whoever starts it. Nobody else starts one.

mod detach;
mod local;
mod place;

pub use detach::{Plan, Wish};
pub use local::{LaunchError, launch};

/// The worker's report that claude runs.
pub const LAUNCHED: u8 = b'R';
/// The worker's report that claude could not be started; the record says why.
pub const NOT_LAUNCHED: u8 = b'F';
