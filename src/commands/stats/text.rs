//! Text form of `stats`: a table with bars.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{Group, GroupBy, StatsAnswer, Totals};
use crate::output::{
    Answer, BLUE, BOLD, DIM, GREEN, RED, YELLOW, color, columns, joined, pad, painted,
};
use crate::text::{format_cost, format_ms, harmless, one_line, plural};

/// Width of a bar in columns. With less than the minimum there is no bar.
const MAX_BAR_WIDTH: usize = 8;
const MIN_BAR_WIDTH: usize = 3;
/// Width of a group's key in columns.
const MAX_KEY_WIDTH: usize = 32;
const MIN_KEY_WIDTH: usize = 8;
/// Width of all other columns and the gaps between them.
const NUMBERS_WIDTH: usize = 54;

impl Answer for StatsAnswer {
    fn text(&self) -> String {
        stats_in(self, columns())
    }
}

/// Formats the table for a terminal of this width. It is wider if the numbers do not fit.
fn stats_in(answer: &StatsAnswer, columns: usize) -> String {
    let mut text = summary(&answer.total, columns);
    if answer.unreadable > 0 {
        let records = plural(usize::try_from(answer.unreadable).unwrap_or(usize::MAX), "record");
        let _ = writeln!(text, "{}", painted(RED, &format!("{records} unreadable")));
    }
    if answer.groups.is_empty() {
        return text;
    }
    let table = GroupTable::new(answer, columns);
    text.push('\n');
    text.push_str(&painted(BOLD, table.head().trim_end()));
    text.push('\n');
    for group in &answer.groups {
        text.push_str(&table.group(group));
    }
    if answer.omitted > 0 {
        let more = format!("… and {} more: claudejob stats --all\n", answer.omitted);
        text.push_str(&painted(DIM, &more));
    }
    text
}

/// The table of the groups.
struct GroupTable {
    /// Head of the column of the keys.
    head: String,
    key_width: usize,
    /// Width of each bar; 0 for none.
    bar_width: usize,
    /// Cost of the most expensive group, which has the longest bar.
    max_cost: f64,
}

impl GroupTable {
    fn new(answer: &StatsAnswer, columns: usize) -> Self {
        let head = match &answer.by {
            GroupBy::Day => "DAY".to_owned(),
            GroupBy::Model => "MODEL".to_owned(),
            GroupBy::Group => "GROUP".to_owned(),
            GroupBy::Status => "STATUS".to_owned(),
            GroupBy::Label(key) => cell(key),
        };
        let mut key_width = head.width();
        let mut max_cost: f64 = 0.0;
        for group in &answer.groups {
            key_width = key_width.max(key_text(group).width());
            max_cost = max_cost.max(group.totals.cost_usd);
        }
        let max_key_width = columns.saturating_sub(NUMBERS_WIDTH).max(MIN_KEY_WIDTH);
        let key_width = key_width.min(MAX_KEY_WIDTH).min(max_key_width);
        // There are two bars, each with a space before it.
        let left = columns.saturating_sub(NUMBERS_WIDTH + key_width);
        let bar_width = (left / 2).saturating_sub(1).min(MAX_BAR_WIDTH);
        let bar_width = if bar_width < MIN_BAR_WIDTH { 0 } else { bar_width };
        Self { head, key_width, bar_width, max_cost }
    }

    fn head(&self) -> String {
        let none = self.bar(Style::new(), 0.0);
        let rest = ["TURNS", "LIVE", "WAITED"];
        self.row(&self.head, "JOBS", ["OK", &none], ["COST", &none], rest)
    }

    fn group(&self, group: &Group) -> String {
        let totals = &group.totals;
        let rate = match totals.success_rate {
            Some(rate) => format!("{:.0}%", rate * 100.0),
            None => "–".to_owned(),
        };
        let rate_bar =
            self.bar(rate_style(totals.success_rate), totals.success_rate.unwrap_or_default());
        let share = if self.max_cost > 0.0 { totals.cost_usd / self.max_cost } else { 0.0 };
        self.row(
            &key_text(group),
            &totals.jobs.to_string(),
            [&rate, &rate_bar],
            [&cost(totals), &self.bar(BLUE, share)],
            [&totals.num_turns.to_string(), &format_ms(totals.elapsed_ms), &wait_time(totals)],
        )
    }

    fn bar(&self, style: Style, share: f64) -> String {
        if self.bar_width == 0 {
            return String::new();
        }
        format!(" {}", painted(style, &bar(share, self.bar_width)))
    }

    fn row(
        &self,
        key: &str,
        jobs: &str,
        success: [&str; 2],
        cost: [&str; 2],
        rest: [&str; 3],
    ) -> String {
        format!(
            "{}  {}  {}{}  {}{}  {}  {}  {}\n",
            pad(key, self.key_width, false),
            pad(jobs, 5, true),
            pad(success[0], 5, true),
            success[1],
            pad(cost[0], 9, true),
            cost[1],
            pad(rest[0], 7, true),
            pad(rest[1], 8, true),
            pad(rest[2], 8, true),
        )
    }
}

fn key_text(group: &Group) -> String {
    match &group.key {
        Some(key) => cell(key),
        None => "(none)".to_owned(),
    }
}

/// Formats a label's key or value, which may contain line breaks and control characters.
fn cell(text: &str) -> String {
    harmless(&one_line(text, MAX_KEY_WIDTH))
}

/// Formats the totals: jobs by status, turns, cost and time.
fn summary(totals: &Totals, columns: usize) -> String {
    let mut jobs = vec![plural(usize::try_from(totals.jobs).unwrap_or(usize::MAX), "job")];
    for (status, count) in &totals.by_status {
        jobs.push(painted(color(*status), &format!("{count} {status}")));
    }
    if let Some(rate) = totals.success_rate {
        let ended = totals.number_of_ended();
        jobs.push(format!("{:.0}% of {ended} ended jobs completed", rate * 100.0));
    }
    let turns = plural(usize::try_from(totals.num_turns).unwrap_or(usize::MAX), "turn");
    let mut took = vec![cost(totals), turns, format!("{} live", format_ms(totals.elapsed_ms))];
    for (what, ms) in [("in the queue", totals.queued_ms), ("for retries", totals.limited_ms)] {
        if ms > 0 {
            took.push(format!("waited {} {what}", format_ms(ms)));
        }
    }
    joined(&jobs, columns) + &joined(&took, columns)
}

fn cost(totals: &Totals) -> String {
    format_cost(totals.cost_usd, totals.cost_is_lower_bound)
}

fn wait_time(totals: &Totals) -> String {
    match totals.queued_ms.saturating_add(totals.limited_ms) {
        0 => "–".to_owned(),
        ms => format_ms(ms),
    }
}

fn rate_style(rate: Option<f64>) -> Style {
    match rate {
        Some(rate) if rate >= 0.9 => GREEN,
        Some(rate) if rate >= 0.5 => YELLOW,
        _ => RED,
    }
}

/// Draws a bar of `share` of the columns, in eighths of a column. A share above 0 is visible.
fn bar(share: f64, columns: usize) -> String {
    let max = columns * 8;
    let eighths = (share.clamp(0.0, 1.0) * max as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    pad(&bar, columns, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;

    #[test]
    fn each_group_has_one_line() {
        let totals = Totals { jobs: 1, ..Totals::default() };
        let group = |key: &str| Group { key: Some(key.to_owned()), totals: totals.clone() };
        let answer = StatsAnswer {
            total: totals.clone(),
            by: GroupBy::Label("a\nkey\u{1b}[2J".to_owned()),
            groups: vec![group("a\r\nvalue\tof it"), group("\n")],
            omitted: 0,
            unreadable: 0,
        };
        let text = answer.text();
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
        let [head, first, _] = lines.as_slice() else { panic!("{text}") };
        assert!(head.contains("a key\u{fffd}[2J") && first.contains("a value of it"), "{text}");
    }

    #[test]
    fn lines_fit_the_terminal() {
        let totals = Totals {
            jobs: 123,
            by_status: [(Status::Completed, 100), (Status::Failed, 20), (Status::Killed, 3)].into(),
            success_rate: Some(0.81),
            cost_usd: 1_234.5,
            cost_is_lower_bound: true,
            num_turns: 34_567,
            elapsed_ms: 86_000_000,
            queued_ms: 4_000_000,
            limited_ms: 69_000,
        };
        for key in ["2026-11-21", "a label that is rather long"] {
            let groups = vec![Group { key: Some(key.to_owned()), totals: totals.clone() }];
            let total = totals.clone();
            let answer = StatsAnswer { total, by: GroupBy::Day, groups, omitted: 0, unreadable: 0 };
            for columns in [62, 80, 120, 300] {
                let text = anstream::adapter::strip_str(&stats_in(&answer, columns)).to_string();
                let widest = text.lines().map(UnicodeWidthStr::width).max();
                assert!(widest <= Some(columns), "{columns}: {text}");
                let has_bars = columns > 80 || columns == 80 && key.len() == 10;
                assert_eq!(text.contains('█'), has_bars, "{columns}: {text}");
            }
        }
    }

    #[test]
    fn bars_are_proportional() {
        for (share, shown) in [
            (0.0, "        "),
            (0.001, "▏       "),
            (0.5, "████    "),
            (0.55, "████▍   "),
            (1.0, "████████"),
            (7.0, "████████"),
        ] {
            assert_eq!(bar(share, 8), shown, "{share}");
        }
    }
}
