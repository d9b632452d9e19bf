//! The lines above the list: how many jobs do what, their costs, slots, limits and pauses.

use anstyle::Style;

use super::TopModel;
use crate::job::Status;
use crate::output::{PLAIN, YELLOW, color};
use crate::text::{format_cost, format_duration, harmless, sum_usd};

/// The statuses in the order of the header; those of ended jobs are counted together.
const COUNTED: [Status; 5] =
    [Status::Blocked, Status::Running, Status::Starting, Status::Idle, Status::Queued];

/// A part of a line, with its style.
pub(super) type Part = (Style, String);

impl TopModel {
    /// Returns the parts of the first line, the most important first.
    pub(super) fn header_parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut ended = 0;
        let mut counts = [0; COUNTED.len()];
        let mut usd = None;
        let mut is_lower_bound = false;
        for index in &self.shown {
            let job = &self.jobs[*index];
            match COUNTED.iter().position(|status| job.status == Some(*status)) {
                Some(at) => counts[at] += 1,
                None => ended += 1,
            }
            usd = sum_usd([usd, job.cost_usd]);
            is_lower_bound |= job.cost_is_lower_bound;
        }
        for (status, count) in COUNTED.iter().zip(counts) {
            if count > 0 {
                parts.push((color(*status), format!("{count} {status}")));
            }
        }
        if let Some(usd) = usd {
            parts.push((PLAIN, format_cost(usd, is_lower_bound)));
        }
        if self.queue.slots > 0 {
            parts.push((
                PLAIN,
                match self.queue.max_slots {
                    Some(max) => format!("{} of {max} slots", self.queue.slots),
                    None => format!("{} slots", self.queue.slots),
                },
            ));
        }
        if ended > 0 {
            parts.push((PLAIN, format!("{ended} ended")));
        }
        if parts.is_empty() {
            parts.push((PLAIN, "no jobs".to_owned()));
        }
        parts
    }

    /// Returns what keeps jobs from starting.
    pub(super) fn header_notes(&self) -> Vec<Part> {
        let mut notes = Vec::new();
        for (until, at) in &self.queue.limits {
            let left = until.since(self.now);
            if !left.is_zero() {
                let left = format_duration(left);
                notes.push((YELLOW, format!("usage limit until {at} ({left} left)")));
            }
        }
        if !self.queue.paused.is_empty() {
            let paused = harmless(&self.queue.paused.join(", "));
            notes.push((YELLOW, format!("paused: {paused}")));
        }
        notes
    }
}
