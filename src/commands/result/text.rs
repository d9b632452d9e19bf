//! Text form of `result`.

use std::fmt::Write as _;
use std::time::Duration;

use super::{EndedResult, ResultAnswer};
use crate::job::PreviousResult;
use crate::output::{Answer, DIM, RED, YELLOW, at_least, color, painted};
use crate::text::{format_duration, harmless};

impl Answer for ResultAnswer {
    fn text(&self) -> String {
        match self {
            Self::Pending(pending) => {
                let status = painted(color(pending.status), pending.status.as_str());
                let earlier = previous_result(pending.previous_result.as_ref());
                format!("Job {} is {status}; it has no result yet.\n{earlier}", pending.job_id)
            }
            Self::Ended(ended) => ended_text(ended),
        }
    }
}

fn previous_result(previous: Option<&PreviousResult>) -> String {
    let Some(previous) = previous else { return String::new() };
    let output = previous.structured_output.as_ref().map(serde_json::Value::to_string);
    let Some(answer) = previous.result.as_ref().or(output.as_ref()) else { return String::new() };
    format!("Result of attempt {}:\n{}\n", previous.attempt, harmless(answer.trim_end()))
}

fn ended_text(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let mut text = String::new();
    if let Some(result) = &outcome.result {
        let _ = writeln!(text, "{}", harmless(result.trim_end()));
    }
    if let Some(output) = &outcome.structured_output {
        let pretty = serde_json::to_string_pretty(output).unwrap_or_default();
        let _ = writeln!(text, "{}", harmless(&pretty));
    }
    if ended.truncated {
        let hint = format!("(shortened; claudejob result {} --full shows all)", outcome.job_id);
        let _ = writeln!(text, "{}", painted(DIM, &hint));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let reason = outcome.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let verdict = format!("{}{reason}", outcome.status);
    let _ = write!(text, "{} {}", outcome.job_id, painted(color(outcome.status), &verdict));
    let turns = if outcome.num_turns == 1 { "turn" } else { "turns" };
    let _ = write!(text, " · {} {turns}", outcome.num_turns);
    if let Some(ms) = outcome.duration_ms {
        let _ = write!(text, " · {}", format_duration(Duration::from_millis(ms)));
    }
    if let Some(usd) = outcome.cost_usd {
        let least = at_least(outcome.cost_is_lower_bound);
        let _ = write!(text, " · {least}${usd:.4}");
    }
    text.push('\n');
    if let Some(error) = &outcome.error {
        let _ = writeln!(text, "{}", painted(RED, &harmless(error)));
    }
    for warning in &outcome.warnings {
        let _ = writeln!(text, "{}", painted(YELLOW, &format!("warning: {}", harmless(warning))));
    }
    text += &previous_result(outcome.previous_result.as_ref());
    if let Some(hint) = &ended.hint {
        let _ = writeln!(text, "{}", painted(DIM, &format!("hint: {}", harmless(hint))));
    }
    text
}
