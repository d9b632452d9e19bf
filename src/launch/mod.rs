//! Putting a worker on its feet, away from whoever starts it. Nobody else starts one.

mod courier;
mod detach;
mod local;
mod place;

pub use courier::{send_courier, send_courier_if_none_is_out};
pub use detach::{Plan, Wish};
pub use local::{LaunchError, Launched, launch};
pub use place::SCOPE_PREFIX;

/// The worker's report that claude runs.
pub const LAUNCHED: u8 = b'R';
/// The worker's report that claude could not be started; the record says why.
pub const NOT_LAUNCHED: u8 = b'F';
/// The worker's report that the job waits for its turn.
pub const QUEUED: u8 = b'Q';
/// The worker's report that there is no slot for a job that does not want to wait; followed by
/// why. Nothing has happened, and the job is to be forgotten.
pub const NO_SLOT: u8 = b'N';
/// The worker's report that the queue's lock cannot be had; followed by why. As after
/// [`NO_SLOT`].
pub const BUSY: u8 = b'B';
