//! What answers show of jobs whose workers an engine starts.

use super::ending::end_lost;
use super::states::{Ask, engine_status};
use crate::job::{Record, Status, StatusView, WaitKind, WaitingFor};
use crate::launch::EngineStatus;
use crate::store::JobDir;

/// Writes the verdict of a live job whose engine has ended it. Returns whether it has ended.
pub(in crate::commands) fn end_if_lost(dir: &JobDir, ask: Ask) -> bool {
    let Ok(record) = dir.load() else { return false };
    if record.status.is_live()
        && let Some(Ok(EngineStatus::Ended(how))) = engine_status(dir, &record, ask)
    {
        return !end_lost(dir, record, &how).status.is_live();
    }
    !record.status.is_live()
}

/// Returns the view of a job by its record and by what its engine says.
pub(in crate::commands) fn view(dir: &JobDir, record: &Record, ask: Ask) -> StatusView {
    let mut view = StatusView::from_record(record);
    let Some(status) = engine_status(dir, record, ask) else { return view };
    if !record.status.is_live() {
        if let Ok(EngineStatus::Pending(why)) = status {
            view.warnings.push(format!("its engine starts it again ({why})"));
        }
        return view;
    }
    let is_queued = record.status == Status::Queued;
    let why = match status {
        Ok(EngineStatus::Pending(why)) => why,
        Ok(EngineStatus::Running { .. }) if is_queued => {
            view.status = Status::Starting;
            return view;
        }
        Ok(EngineStatus::Running { .. }) => return view,
        Ok(EngineStatus::Ended(how)) => {
            return StatusView::from_record(&end_lost(dir, record.clone(), &how));
        }
        Ok(EngineStatus::Unknown) => "its engine does not show it".to_owned(),
        Err(error) => {
            view.warnings.push(format!("its engine does not answer: {error}"));
            "its engine does not answer".to_owned()
        }
    };
    if is_queued {
        view.waiting_for = Some(WaitingFor::new(WaitKind::Engine, None, why));
    }
    view
}
