//! Text form of `doctor`.

use super::DoctorAnswer;
use crate::commands::check;
use crate::error::ExitStatus;
use crate::output::{Answer, GREEN, RED, YELLOW, painted};

impl Answer for DoctorAnswer {
    fn text(&self) -> String {
        let counts = check::counts(&self.checks);
        let summary = match (self.ok, counts.is_empty()) {
            (true, true) => painted(GREEN, "Jobs can run here."),
            (true, false) => painted(YELLOW, &format!("Jobs can run here: {counts}.")),
            (false, _) => painted(RED, &format!("Jobs cannot run here: {counts}.")),
        };
        format!("{}{summary}\n", check::table(&self.checks))
    }

    fn exit_status(&self) -> ExitStatus {
        if self.ok { ExitStatus::Done } else { ExitStatus::Failed }
    }
}
