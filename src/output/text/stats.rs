//! `stats` as a table with bars.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::layout::{columns, joined, pad};
use super::{BLUE, DIM, GREEN, RED, YELLOW, color, painted};
use crate::commands::stats::{By, StatsAnswer, Sum};
use crate::job::Status;
use crate::text::{count, harmless, one_line, short};

/// Columns of a bar, at most and at least: with less there is none.
const BAR_MOST: usize = 8;
const BAR_LEAST: usize = 3;
/// Columns of a group's key, at most and at least.
const KEY_MOST: usize = 32;
const KEY_LEAST: usize = 8;
/// Columns of all others together, and of what is between them.
const FIGURES: usize = 54;

pub(in crate::output) fn stats(answer: &StatsAnswer) -> String {
    stats_in(answer, columns())
}

/// In so many columns, if they are enough for the figures.
fn stats_in(answer: &StatsAnswer, columns: usize) -> String {
    let mut text = summary(&answer.total, columns);
    if answer.unreadable > 0 {
        let records = count(usize::try_from(answer.unreadable).unwrap_or(usize::MAX), "record");
        let _ = writeln!(text, "{}", painted(RED, &format!("{records} cannot be read")));
    }
    if answer.groups.is_empty() {
        return text;
    }
    let head = match &answer.by {
        By::Day => "DAY".to_owned(),
        By::Model => "MODEL".to_owned(),
        By::Group => "GROUP".to_owned(),
        By::Status => "STATUS".to_owned(),
        By::Label(key) => cell(key),
    };
    let key = |key: &Option<String>| key.as_deref().map_or("(none)".to_owned(), cell);
    let keys = answer.groups.iter().map(|group| key(&group.key).width());
    let width = keys.chain([head.width()]).max().unwrap_or(0).min(KEY_MOST);
    let width = width.min(columns.saturating_sub(FIGURES).max(KEY_LEAST));
    // A bar and the blank before it, in two places.
    let bars = (columns.saturating_sub(FIGURES + width) / 2).saturating_sub(1).min(BAR_MOST);
    let bars = if bars < BAR_LEAST { 0 } else { bars };
    let bar = |style: Style, share: f64| match bars {
        0 => String::new(),
        most => format!(" {}", painted(style, &bar(share, most))),
    };
    let row = |key: &str, jobs: &str, success: [&str; 2], cost: [&str; 2], rest: [&str; 3]| {
        format!(
            "{}  {}  {}{}  {}{}  {}  {}  {}\n",
            pad(key, width, false),
            pad(jobs, 5, true),
            pad(success[0], 5, true),
            success[1],
            pad(cost[0], 9, true),
            cost[1],
            pad(rest[0], 7, true),
            pad(rest[1], 8, true),
            pad(rest[2], 8, true),
        )
    };
    let none = bar(Style::new(), 0.0);
    let head = row(&head, "JOBS", ["OK", &none], ["COST", &none], ["TURNS", "LIVE", "WAITED"]);
    text.push('\n');
    text.push_str(&painted(DIM, &head));
    let most = answer.groups.iter().map(|group| group.sum.cost_usd).fold(0.0, f64::max);
    for group in &answer.groups {
        let sum = &group.sum;
        let rate = sum.success_rate.map(|rate| format!("{:.0}%", rate * 100.0));
        let share = if most > 0.0 { sum.cost_usd / most } else { 0.0 };
        text.push_str(&row(
            &key(&group.key),
            &sum.jobs.to_string(),
            [
                rate.as_deref().unwrap_or("–"),
                &bar(rate_style(sum.success_rate), sum.success_rate.unwrap_or(0.0)),
            ],
            [&cost(sum, "≥"), &bar(BLUE, share)],
            [&sum.num_turns.to_string(), &spent(sum.elapsed_ms), &waited(sum)],
        ));
    }
    if answer.omitted > 0 {
        let more = format!("… and {} more: claudejob stats --all\n", answer.omitted);
        text.push_str(&painted(DIM, &more));
    }
    text
}

/// A label's key and value may hold anything, also a line's end.
fn cell(text: &str) -> String {
    harmless(&one_line(text, KEY_MOST))
}

/// The total: how the jobs ended, and what they took.
fn summary(sum: &Sum, columns: usize) -> String {
    let mut jobs = vec![count(usize::try_from(sum.jobs).unwrap_or(usize::MAX), "job")];
    for (status, count) in &sum.by_status {
        jobs.push(painted(color(*status), &format!("{count} {status}")));
    }
    if let Some(rate) = sum.success_rate {
        let ended: u64 = [Status::Completed, Status::Failed, Status::Killed]
            .into_iter()
            .map(|status| sum.of(status))
            .sum();
        jobs.push(format!("{:.0}% of {ended} ended completed", rate * 100.0));
    }
    let turns = count(usize::try_from(sum.num_turns).unwrap_or(usize::MAX), "turn");
    let mut took = vec![cost(sum, "at least "), turns, format!("{} live", spent(sum.elapsed_ms))];
    for (what, ms) in [("queued", sum.queued_ms), ("to try again", sum.limited_ms)] {
        if ms > 0 {
            took.push(format!("waited {} {what}", spent(ms)));
        }
    }
    joined(&jobs, columns) + &joined(&took, columns)
}

/// The cost, behind `mark` where it is a lower bound.
fn cost(sum: &Sum, mark: &str) -> String {
    let mark = if sum.cost_is_lower_bound { mark } else { "" };
    format!("{mark}${:.2}", sum.cost_usd)
}

fn spent(ms: u64) -> String {
    short(Duration::from_millis(ms))
}

fn waited(sum: &Sum) -> String {
    match sum.queued_ms.saturating_add(sum.limited_ms) {
        0 => "–".to_owned(),
        ms => spent(ms),
    }
}

fn rate_style(rate: Option<f64>) -> Style {
    match rate {
        Some(rate) if rate >= 0.9 => GREEN,
        Some(rate) if rate >= 0.5 => YELLOW,
        _ => RED,
    }
}

/// `share` of so many columns, in eighths of one; what is more than nothing is seen.
fn bar(share: f64, columns: usize) -> String {
    let most = columns * 8;
    let eighths = (share.clamp(0.0, 1.0) * most as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    pad(&bar, columns, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stats::Group;

    #[test]
    fn each_group_has_one_line_whatever_its_name_is() {
        let sum = Sum { jobs: 1, ..Sum::default() };
        let group = |key: &str| Group { key: Some(key.to_owned()), sum: sum.clone() };
        let text = stats(&StatsAnswer {
            total: sum.clone(),
            by: By::Label("a\nkey\u{1b}[2J".to_owned()),
            groups: vec![group("a\r\nvalue\tof it"), group("\n")],
            omitted: 0,
            unreadable: 0,
        });
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.is_empty()).skip(1).collect();
        let [head, first, _] = lines.as_slice() else { panic!("{text}") };
        assert!(head.contains("a key\u{fffd}[2J") && first.contains("a value of it"), "{text}");
    }

    #[test]
    fn a_line_is_no_wider_than_the_terminal() {
        let sum = Sum {
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
            let groups = vec![Group { key: Some(key.to_owned()), sum: sum.clone() }];
            let total = sum.clone();
            let answer = StatsAnswer { total, by: By::Day, groups, omitted: 0, unreadable: 0 };
            for columns in [62, 80, 120, 300] {
                let text = anstream::adapter::strip_str(&stats_in(&answer, columns)).to_string();
                let widest = text.lines().map(UnicodeWidthStr::width).max();
                assert!(widest <= Some(columns), "{columns}: {text}");
                let has_room = columns > 80 || columns == 80 && key.len() == 10;
                assert_eq!(text.contains('█'), has_room, "{columns}: {text}");
            }
        }
    }

    #[test]
    fn a_bar_has_its_share_of_the_columns() {
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
