//! Text form of `list`.

use super::columns::ListColumn;
use super::{Item, ListAnswer};
use crate::clock;
use crate::job::JobId;
use crate::output::{Answer, DIM, Table, columns, painted};

/// The least width of the last column. With less, columns are left out.
const MIN_LAST: usize = 10;
const MIN_LAST_OF_MANY: usize = 20;

impl Answer for ListAnswer {
    fn text(&self) -> String {
        self.table(columns(), usize::MAX)
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(ListAnswer::ids(self))
    }
}

impl ListAnswer {
    /// Returns the table of the jobs for a terminal of this width, in at most `height` lines.
    pub(super) fn table(&self, width: usize, height: usize) -> String {
        if self.rows.is_empty() {
            return match self.has_jobs {
                true => "No job matches; claudejob list --all shows all.\n".to_owned(),
                false => "No jobs. Start one: claudejob run \"PROMPT\"\n".to_owned(),
            };
        }
        let shown_columns = self.shown_columns();
        let mut table = Table::new(shown_columns.iter().map(|column| column.column()).collect());
        let now = clock::now();
        let mut shown = 0;
        // The head takes one line, and the note of omitted jobs at most two.
        for item in self.items().take(height.saturating_sub(3).max(1)) {
            let item = self.with_texts(item);
            table.push(shown_columns.iter().map(|column| column.cell(&item, now)).collect());
            shown += 1;
        }
        let is_usual = shown_columns == ListColumn::USUAL;
        let fitted = table.fitted(width, if is_usual { MIN_LAST } else { MIN_LAST_OF_MANY });
        let mut text = fitted.head();
        text.extend(fitted.rows());
        let rest = self.rows.len().saturating_sub(shown) + self.omitted + self.older;
        let left_out = fitted.left_out();
        if !left_out.is_empty() {
            let left_out = format!("… left out at this width: {}\n", left_out.join(", "));
            text.push_str(&painted(DIM, &left_out));
        }
        if rest > 0 {
            let all = self.address.apply("claudejob list --all".to_owned());
            let how = if self.is_limited { String::new() } else { format!(": {all}") };
            text.push_str(&painted(DIM, &format!("… and {rest} more{how}\n")));
        }
        text
    }

    /// Returns the columns without those of the wide format that are empty in all rows.
    fn shown_columns(&self) -> Vec<ListColumn> {
        let mut shown = self.columns.clone();
        if shown == ListColumn::WIDE {
            let has_group = self.items().any(|item| item.group.is_some());
            let has_branch = self.items().any(|item| item.branch.is_some());
            let has_labels = self.items().any(|item| !item.labels.is_empty());
            shown.retain(|column| match column {
                ListColumn::Group => has_group,
                ListColumn::Branch => has_branch,
                ListColumn::Labels => has_labels,
                _ => true,
            });
        }
        shown
    }

    /// Adds what only the shown columns need, from other files than the list reads.
    fn with_texts(&self, mut item: Item) -> Item {
        let dir = self.store.job(&item.job_id);
        let has_answer = item.error.is_none() && item.status.is_some();
        if has_answer && self.columns.contains(&ListColumn::Now) && item.shows_answer() {
            item.for_text.result = dir.first_line_of_answer();
        }
        if item.for_text.folder.is_empty()
            && self.columns.contains(&ListColumn::Folder)
            && let Ok(record) = dir.load()
        {
            item.for_text.folder = record.spec.cwd;
        }
        item
    }
}
