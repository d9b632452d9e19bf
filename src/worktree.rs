//! Git worktrees of jobs: where they are, and how they are made.

mod git;
mod repository;

pub(crate) use repository::Repository;
