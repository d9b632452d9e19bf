//! Verbs by which the program starts itself. Their names are a protocol: the program may have been
//! replaced by another version in between.

/// The worker of a job: `JOB_DIR [SCOPE]`.
pub(crate) const WORKER: &str = "worker";
/// The worker of a job with an engine, as the batch process of that engine: `JOB_DIR`.
pub(crate) const WORKER_HERE: &str = "worker-here";
/// The notifier of a job: `JOB_DIR [locked]`.
pub(crate) const NOTIFIER: &str = "courier";
/// The delivery of the notifications of several jobs: `JOBS_DIR JOB_ID... [--named]`.
pub(crate) const REDELIVERY: &str = "redelivery";
/// A recording in the place of claude: `--speed FACTOR [FILE]`.
pub(crate) const REPLAY: &str = "replay";
/// The preparation of a job's directory, which then becomes claude: `JOB_DIR PROGRAM ARGS...`.
pub(crate) const PREPARE: &str = "prepare";
/// The words that can complete a command line: `WORD...`, the last one being typed.
pub(crate) const COMPLETE: &str = "__complete";

pub(crate) const ALL: [&str; 7] =
    [WORKER, WORKER_HERE, NOTIFIER, REDELIVERY, REPLAY, PREPARE, COMPLETE];
