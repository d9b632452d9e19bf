//! Text form of `wait`.

use super::{ShortResult, WaitAnswer, Waited};
use crate::error::ExitStatus;
use crate::output::{Answer, color, painted};
use crate::text::{harmless, one_line};

impl Answer for WaitAnswer {
    fn text(&self) -> String {
        let mut text = String::new();
        for job in &self.jobs {
            if !text.is_empty() {
                text.push('\n');
            }
            text += &match job {
                Waited::Ended(result) => result.text(),
                Waited::Live(status) => status.text(),
                Waited::Short(short) => short.text(),
                Waited::Failed(failed) => {
                    failed.push_to(&mut text);
                    continue;
                }
            };
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        self.exit_status
    }
}

impl ShortResult {
    fn text(&self) -> String {
        let status = painted(color(self.status), self.status.as_str());
        let mut text = format!("Job {} is {status}", self.job_id);
        if let Some(summary) = self.error.as_ref().or(self.result.as_ref()) {
            text += &format!(": {}", harmless(&one_line(summary, 200)));
        }
        text + "\n"
    }
}
