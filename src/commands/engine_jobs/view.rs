//! What is known of jobs whose workers an engine starts, by their records and by their engines.

use super::ending::end_lost;
use super::states::{Ask, engine_status};
use crate::job::{Record, Status, StatusView, WaitKind, WaitingFor};
use crate::launch::EngineStatus;
use crate::store::JobDir;

/// The state of a job.
pub(in crate::commands) struct Settled {
    /// With the verdict of a job that its engine has ended. A job that was cut off, and that its engine
    /// starts again, is queued.
    pub record: Record,
    /// Why it is queued.
    why: Option<String>,
    /// That its engine does not answer.
    warning: Option<String>,
}

/// Compares a record with what the engine says.
pub(in crate::commands) fn settle(dir: &JobDir, mut record: Record, ask: Ask) -> Settled {
    let (mut why, mut warning) = (None, None);
    let is_live = record.status.is_live();
    match engine_status(dir, &record, ask) {
        Some(Ok(EngineStatus::Pending(reason))) => {
            record.await_restart();
            why = Some(reason);
        }
        Some(Ok(EngineStatus::Running { restarts, .. })) => {
            let known = record.worker.engine.as_ref().map_or(0, |job| job.restarts);
            if restarts > known && !is_live {
                record.await_restart();
            }
            if record.status == Status::Queued {
                record.status = Status::Starting;
            }
        }
        Some(Ok(EngineStatus::Ended(how))) if is_live => record = end_lost(dir, record, &how),
        None | Some(Ok(EngineStatus::Ended(_))) => {}
        Some(Ok(EngineStatus::Unknown)) => why = Some("its engine does not show it".to_owned()),
        Some(Err(error)) => {
            why = Some("its engine does not answer".to_owned());
            let again = if is_live { "" } else { ", which may start it again," };
            warning = Some(format!("its engine{again} does not answer: {error}"));
        }
    }
    Settled { record, why, warning }
}

/// Whether the engine of an ended job may start it again: it was cut off.
pub(in crate::commands) fn may_restart(record: &Record) -> bool {
    record.spec.engine.is_some() && record.is_cut_off()
}

/// Whether the job is live, or its engine starts it again; `None` if it was cut off, and its engine does
/// not answer.
pub(in crate::commands) fn is_live(dir: &JobDir, ask: Ask) -> Option<bool> {
    let Ok(record) = dir.load() else { return Some(false) };
    let settled = settle(dir, record, ask);
    let is_live = settled.record.status.is_live();
    if is_live || settled.warning.is_none() { Some(is_live) } else { None }
}

/// Returns the view of a job by its record and by what its engine says.
pub(in crate::commands) fn view(dir: &JobDir, record: &Record, ask: Ask) -> StatusView {
    let settled = settle(dir, record.clone(), ask);
    let mut view = StatusView::from_record(&settled.record);
    if let (Status::Queued, Some(why)) = (view.status, settled.why) {
        view.waiting_for = Some(WaitingFor::new(WaitKind::Engine, None, why));
    }
    view.warnings.extend(settled.warning);
    view
}
