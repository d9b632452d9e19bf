//! The versions of the CLI that the project's tests run against. The tests read this file too.

/// The oldest version that is tested. Older ones may work and are not supported.
pub(crate) const OLDEST: &str = "2.1.197";

/// The newest version that is tested.
pub(crate) const NEWEST: &str = "2.1.332";
