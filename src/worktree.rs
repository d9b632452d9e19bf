//! Git worktrees of jobs: where they are, and how they are made.

mod changes;
mod exclude;
mod git;
mod head;
mod include;
mod inspect;
mod make;
mod prepare;
mod removal;
mod repository;
mod unsaved_work;
mod users;

pub(crate) use changes::{Changes, ChangesForm};
pub(crate) use head::head_commit;
pub(crate) use inspect::inspect;
pub(crate) use prepare::{lock_reason, prepare_directory, prepared, run as prepare};
pub(crate) use removal::Removal;
pub(crate) use repository::{Repository, resolved};
pub(crate) use users::{awaited_by, user_of};
