//! Shortens a list until it fits into an answer.

use serde::Serialize;

use super::short_item::{ItemSize, Shortened};
use super::{Item, ListAnswer};
use crate::text::json_length_of;

/// The last element of a list that leaves out jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Omitted {
    /// Always true.
    truncated: bool,
    /// Number of jobs that are left out.
    omitted: usize,
    /// A command that shows all jobs.
    hint: String,
    /// The same call without a limit of the answer's length.
    next: String,
}

impl ListAnswer {
    /// Returns the last element, which says that the answer was shortened.
    pub(super) fn omission(&self) -> Omitted {
        let hint = "claudejob list --all  # or a filter, such as --status running";
        Omitted {
            truncated: true,
            omitted: self.omitted,
            hint: self.address.apply(hint.to_owned()),
            next: self.next.clone(),
        }
    }

    /// Shows less of each job until all fit into an answer, then only the names of the last jobs, and
    /// at last leaves jobs out.
    pub(super) fn shorten(&mut self, bound: usize) {
        for size in [ItemSize::Full, ItemSize::Short, ItemSize::Shortest] {
            self.size = size;
            if self.lengths(size, bound).len() == self.rows.len() {
                return;
            }
        }
        // The rest is for the element that says how many jobs are left out.
        let bound = bound.saturating_sub(json_length_of(&self.omission()) + 10);
        let names = self.lengths(ItemSize::Name, bound);
        self.omitted = self.rows.len() - names.len();
        self.rows.truncate(names.len());
        let mut rest = bound.saturating_sub(2 + names.iter().sum::<usize>());
        self.names_from = 0;
        for (length, name) in self.lengths(self.size, bound).iter().zip(&names) {
            let more = length.saturating_sub(*name);
            if more > rest {
                return;
            }
            rest -= more;
            self.names_from += 1;
        }
    }

    /// Returns the lengths of the first jobs as JSON, with a separator: of as many as fit.
    fn lengths(&self, size: ItemSize, bound: usize) -> Vec<usize> {
        let mut sum = 2;
        let mut lengths = Vec::new();
        for row in &self.rows {
            let length = self.item(row).map_or(0, |item| self.length(item, size) + 1);
            sum += length;
            if sum > bound {
                break;
            }
            lengths.push(length);
        }
        lengths
    }

    /// Returns the length of an item as JSON, in characters.
    fn length(&self, item: Item, size: ItemSize) -> usize {
        let item = item.shortened(size, &self.address);
        match size {
            ItemSize::Full => json_length_of(&item),
            _ => json_length_of(&Shortened(&item)),
        }
    }
}
