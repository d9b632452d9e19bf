//! Text form of `result`.

use std::fmt::Write as _;

use super::{EndedResult, ResultAnswer, markdown};
use crate::clock;
use crate::commands::markdown::heading;
use crate::job::{JobId, PreviousResult};
use crate::output::{
    Answer, DIM, RED, color, columns, failure, painted, push_hint, push_marked, push_warning,
    wrapped_prose,
};
use crate::text::{format_cost, format_duration, harmless, plural};

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

    fn quiet(&self) -> Option<String> {
        match self {
            Self::Pending(_) => Some(String::new()),
            // Text from before a failure is no answer.
            Self::Ended(ended) if ended.outcome.partial => Some(String::new()),
            Self::Ended(ended) => Some(answer_text(ended)),
        }
    }

    fn markdown(&self) -> Option<String> {
        Some(match self {
            Self::Pending(pending) => heading(&pending.job_id, pending.status.as_str()),
            Self::Ended(ended) => markdown::ended(ended),
        })
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(vec![self.job_id().clone()])
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        if let Self::Ended(ended) = self
            && let Some(error) = &ended.outcome.error
        {
            push_marked(&mut text, RED.bold(), "error:", &failure(ended.outcome.reason, error));
        }
        text
    }
}

fn previous_result(previous: Option<&PreviousResult>) -> String {
    let Some(previous) = previous else { return String::new() };
    let output = previous.structured_output.as_ref().map(serde_json::Value::to_string);
    let Some(answer) = previous.result.as_ref().or(output.as_ref()) else { return String::new() };
    format!("Result of attempt {}:\n{}\n", previous.attempt, wrapped_answer(answer))
}

fn wrapped_answer(answer: &str) -> String {
    wrapped_prose(&harmless(answer.trim_end()), 0, columns())
}

/// Returns the answer and the structured output.
fn answer_text(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let mut text = String::new();
    if let Some(result) = &outcome.result {
        let _ = writeln!(text, "{}", wrapped_answer(result));
    }
    if let Some(output) = &outcome.structured_output {
        let pretty = serde_json::to_string_pretty(output).unwrap_or_default();
        let _ = writeln!(text, "{}", harmless(&pretty));
    }
    text
}

fn ended_text(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let mut text = answer_text(ended);
    if ended.truncated {
        let hint =
            format!("(shortened; claudejob result {} --max-chars 0 shows all)", outcome.job_id);
        let _ = writeln!(text, "{}", painted(DIM, &hint));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text += &verdict(ended);
    if let Some(error) = &outcome.error {
        push_marked(&mut text, RED.bold(), "error:", &failure(outcome.reason, error));
    }
    for warning in &outcome.warnings {
        push_warning(&mut text, warning);
    }
    text += &previous_result(outcome.previous_result.as_ref());
    push_hint(&mut text, ended.hint.as_deref());
    text
}

/// Returns the line of the verdict: `fix-login completed · 5 turns · 5.5s · $0.05`.
fn verdict(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let status = painted(color(outcome.status), outcome.status.as_str());
    let mut text = format!("{} {status}", outcome.job_id);
    let turns = usize::try_from(outcome.num_turns).unwrap_or(usize::MAX);
    let _ = write!(text, " · {}", plural(turns, "turn"));
    if let Some(time) = ended.lifetime.work_time {
        let _ = write!(text, " · {}", format_duration(time.at(clock::now())));
    }
    if let Some(usd) = outcome.cost_usd {
        let _ = write!(text, " · {}", format_cost(usd, outcome.cost_is_lower_bound));
    }
    text.push('\n');
    text
}
