//! Arrays of answers about several jobs, kept within a limit as a list is: the last jobs are shortened
//! to their names, and then left out.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Call;
use crate::output::{DIM, painted};
use crate::store::{Address, Store};
use crate::text::json_length_of;

/// Length of the line that says what a text leaves out, without the command in it.
const MORE_CHARS: usize = 40;

/// A limit of the length of an answer about several jobs.
#[derive(Debug)]
pub(super) struct ArrayLimit {
    /// Maximum number of characters.
    max_chars: usize,
    /// The same call without a limit; `None` if it is too long itself.
    next: Option<String>,
    /// The verb that shows the same of one job.
    verb: &'static str,
    address: Address,
}

/// The last element of an array that leaves out jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct OmittedJobs {
    /// Always true.
    truncated: bool,
    /// Number of jobs that are left out.
    omitted: usize,
    /// A command for the first of these jobs.
    hint: String,
    /// The same call without a limit of the answer's length; null if the call is too long.
    next: Option<String>,
}

/// A job that is reduced to its name and its status.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ShortenedJob {
    /// The job's id.
    job_id: String,
    /// The job's status; null if it is not known.
    status: Option<String>,
    /// Always true.
    truncated: bool,
}

impl ArrayLimit {
    /// Returns the limit of this many characters, if there is one. `verb` shows the same of one job.
    pub(super) fn new(
        call: &Call,
        store: &Store,
        max_chars: Option<usize>,
        verb: &'static str,
    ) -> Option<Self> {
        let max_chars = max_chars?;
        let whole = call.whole();
        let next = if whole.len() <= max_chars / 4 { Some(whole) } else { None };
        Some(Self { max_chars, next, verb, address: Address::of(store.root()) })
    }

    /// Serializes the elements. Each has a `jobId` and a `status`.
    pub(super) fn serialize<T: Serialize, S: Serializer>(
        &self,
        elements: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let lengths: Vec<usize> = elements.iter().map(length).collect();
        if lengths.iter().sum::<usize>() < self.max_chars {
            return serializer.collect_seq(elements);
        }
        let names: Vec<ShortenedJob> = elements.iter().map(ShortenedJob::of).collect();
        let Some(last) = names.last() else { return serializer.collect_seq(elements) };
        let omission = self.omission(elements.len(), &last.job_id);
        let mut rest = self.max_chars.saturating_sub(length(&omission) + 1);
        let shown = count_within(names.iter().map(length), &mut rest);
        let more =
            lengths.iter().zip(&names).map(|(whole, name)| whole.saturating_sub(length(name)));
        let whole = count_within(more.take(shown), &mut rest);
        let mut array = serializer.serialize_seq(None)?;
        for element in &elements[..whole] {
            array.serialize_element(element)?;
        }
        for name in &names[whole..shown] {
            array.serialize_element(name)?;
        }
        if let Some(first) = names.get(shown) {
            array.serialize_element(&self.omission(elements.len() - shown, &first.job_id))?;
        }
        array.end()
    }

    fn omission(&self, omitted: usize, first: &str) -> OmittedJobs {
        let hint = self.address.apply(format!("claudejob {} {first}", self.verb));
        OmittedJobs { truncated: true, omitted, hint, next: self.next.clone() }
    }

    /// Joins the texts of the jobs, as many as fit. A last line says how many are left out.
    pub(super) fn join(&self, texts: &[String]) -> String {
        let next = self.next.as_deref().unwrap_or_default();
        let mut rest = self.max_chars.saturating_sub(next.len() + MORE_CHARS);
        let shown = count_within(texts.iter().map(|text| text.chars().count()), &mut rest);
        let mut text = texts[..shown].concat();
        if shown < texts.len() {
            let left_out = format!("… and {} more", texts.len() - shown);
            let line = if next.is_empty() { left_out } else { format!("{left_out}: {next}") };
            text += &painted(DIM, &line);
            text.push('\n');
        }
        text
    }
}

impl ShortenedJob {
    fn of(element: &impl Serialize) -> Self {
        let value = serde_json::to_value(element).unwrap_or_default();
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let (job_id, status) = (text("jobId").unwrap_or_default(), text("status"));
        Self { job_id, status, truncated: true }
    }
}

/// Returns how many of the lengths fit together into the rest, which is reduced by them.
fn count_within(lengths: impl Iterator<Item = usize>, rest: &mut usize) -> usize {
    let mut count = 0;
    for length in lengths {
        if length > *rest {
            break;
        }
        *rest -= length;
        count += 1;
    }
    count
}

/// Returns the length of a value as JSON, with a separator, in characters.
fn length(value: &impl Serialize) -> usize {
    json_length_of(value) + 1
}
