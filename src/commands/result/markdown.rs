//! Results as Markdown.

use std::fmt::Write as _;

use super::EndedResult;
use crate::clock;
use crate::commands::markdown::{heading, quotation};
use crate::output::failure;
use crate::text::{format_cost, format_duration, harmless};

/// Returns the verdict and the answer.
pub(super) fn ended(ended: &EndedResult) -> String {
    let outcome = &ended.outcome;
    let mut text = heading(&outcome.job_id, outcome.status.as_str());
    if let Some(error) = &outcome.error {
        let _ = write!(text, "\n{}", quotation(&failure(outcome.reason, error)));
    }
    if let Some(result) = &outcome.result {
        let _ = writeln!(text, "\n{}", harmless(result.trim_end()));
    }
    if let Some(output) = &outcome.structured_output {
        let pretty = serde_json::to_string_pretty(output).unwrap_or_default();
        let _ = writeln!(text, "\n```json\n{}\n```", harmless(&pretty));
    }
    let turns = outcome.num_turns;
    let time = ended.lifetime.work_time.map(|time| format_duration(time.at(clock::now())));
    let cost = outcome.cost_usd.map(|usd| format_cost(usd, outcome.cost_is_lower_bound));
    let model = ended.model.as_deref().map(|model| harmless(model).replace('|', "\\|"));
    let [time, cost, model] = [time, cost, model].map(Option::unwrap_or_default);
    text.push_str("\n| turns | time | cost | model |\n| --- | --- | --- | --- |\n");
    let _ = writeln!(text, "| {turns} | {time} | {cost} | {model} |");
    text
}
