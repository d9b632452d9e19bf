//! Timeline of the jobs: one row for each on a common time axis.

use std::time::Duration;

use maud::{Markup, html};

use super::{anchor, status_class, status_symbol};
use crate::job::{Phase, Span, Status, Timestamp};
use crate::text::format_duration;

/// Number of rows above which they are drawn smaller, in a box that scrolls.
const COMPACT_ROWS: usize = 40;
/// Maximum number of ticks on the axis.
const MAX_TICKS: i64 = 8;

/// Gaps without any job are compressed if they are longer than this fraction (1/n) of the axis.
const MIN_GAP_FRACTION: u32 = 30;
/// Width of a compressed gap, as a share of the axis.
const GAP_WIDTH: f64 = 0.008;
/// Width of a label, as a share of the axis.
const LABEL_WIDTH: f64 = 0.06;
/// Width of a label on a narrow screen, as a share of the axis.
const MAIN_LABEL_WIDTH: f64 = 0.32;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Possible distances between ticks, in seconds.
const TICK_STEPS: [i64; 25] = [
    1,
    2,
    5,
    10,
    15,
    30,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
];

/// One job on the time axis.
#[derive(Debug)]
pub(crate) struct TimelineRow {
    pub id: String,
    pub status: Status,
    /// The job's phases, in order and without gaps.
    pub spans: Vec<Span>,
}

const LEGEND: [Phase; 6] =
    [Phase::Queued, Phase::Running, Phase::Limited, Phase::Blocked, Phase::Idle, Phase::Frozen];

/// Renders the rows in the given order on an axis that spans all of them. Empty without rows.
pub(crate) fn timeline(rows: &[&TimelineRow]) -> Markup {
    let Some(axis) = Axis::for_rows(rows) else { return html! {} };
    let ticks = axis.ticks();
    html! {
        section {
            h2 { "Timeline" }
            ul.legend {
                @for phase in LEGEND {
                    li { i.(phase_class(phase)) {} (phase_text(phase)) }
                }
                @if axis.sections.len() > 1 { li { i.cut {} "no job (not to scale)" } }
            }
            div.timeline.many[rows.len() > COMPACT_ROWS] {
                div.axis {
                    div {
                        @for ((at, label), is_main) in ticks.iter().zip(main_ticks(&ticks)) {
                            span.main[is_main] style={ "left:" (percent(*at)) } { (label) }
                        }
                    }
                }
                div.rows {
                    div.grid {
                        @for (at, _) in &ticks { i style={ "left:" (percent(*at)) } {} }
                        @for section in axis.sections.iter().filter(|section| section.is_gap) {
                            i.cut style={ "left:" (percent(section.start)) ";width:" (percent(section.width)) } {}
                        }
                    }
                    @for row in rows { (row_markup(row, &axis)) }
                }
            }
        }
    }
}

fn row_markup(row: &TimelineRow, axis: &Axis) -> Markup {
    let (Some(first), Some(last)) = (row.spans.first(), row.spans.last()) else {
        return html! {};
    };
    let (from, to) = (first.from, last.to);
    let duration = format_duration(to.since(from));
    let (left, width) = (axis.position(from), axis.position(to) - axis.position(from));
    html! {
        a.row href={ "#" (anchor(&row.id)) } title={ (row.id) ": " (row.status.as_str()) ", " (duration) } {
            span.name { b.(status_class(row.status)) { (status_symbol(row.status)) } " " (row.id) }
            span.track {
                span.bar.(status_class(row.status)) style={ "left:min(" (percent(left)) ",100% - 4px);width:" (percent(width)) } {
                    @for span in &row.spans {
                        @let length = span.to.since(span.from);
                        @let share = axis.position(span.to) - axis.position(span.from);
                        i.(phase_class(span.phase)) style={ "flex-grow:" (format!("{:.0}", (share * 1e6).max(1.0))) }
                            title={ (phase_text(span.phase)) ", " (format_duration(length)) " from " (span.from.time_of_day()) } {}
                    }
                }
            }
            span.took { (duration) }
        }
    }
}

fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Limited => "limited",
        Phase::Blocked => "blocked",
        Phase::Idle => "idle",
        Phase::Frozen => "frozen",
        Phase::Over => "over",
    }
}

fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Limited => "waiting for a limit or a retry",
        Phase::Blocked => "waiting for an answer",
        Phase::Idle => "idle",
        Phase::Frozen => "frozen",
        Phase::Over => "ended, resumed later",
    }
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

/// A section of the axis.
#[derive(Clone, Copy, Debug)]
struct AxisSection {
    from: Timestamp,
    to: Timestamp,
    /// Where the section begins and how wide it is, as shares of the axis.
    start: f64,
    width: f64,
    /// No job was active; drawn narrow, whatever its duration.
    is_gap: bool,
}

/// The time axis. Long gaps between jobs are compressed: otherwise the gaps would fill the axis.
struct Axis {
    sections: Vec<AxisSection>,
}

impl Axis {
    /// Returns the axis of these rows; `None` if there is nothing to draw.
    fn for_rows(rows: &[&TimelineRow]) -> Option<Self> {
        let mut active = Vec::new();
        for row in rows {
            for span in &row.spans {
                if span.phase != Phase::Over {
                    active.push((span.from, span.to));
                }
            }
        }
        active.sort_unstable();
        let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in active {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        let (from, to) = (joined.first()?.0, joined.last()?.1);
        // Jobs without a duration have an axis, too.
        let to = to.max(from.after(Duration::from_secs(1)));
        let length = to.since(from);
        let mut gaps: Vec<(Timestamp, Timestamp)> = Vec::new();
        let mut empty = Duration::ZERO;
        for pair in joined.windows(2) {
            let (begin, end) = (pair[0].1, pair[1].0);
            if end.since(begin) > length / MIN_GAP_FRACTION {
                gaps.push((begin, end));
                empty += end.since(begin);
            }
        }
        if empty < length / 2 {
            gaps.clear();
            empty = Duration::ZERO;
        }
        let shown = length.saturating_sub(empty).as_secs_f64().max(0.001);
        let share = (1.0 - GAP_WIDTH * gaps.len() as f64) / shown;
        let mut axis = Self { sections: Vec::new() };
        let mut at = from;
        for (begin, end) in gaps {
            axis.add(at, begin, begin.since(at).as_secs_f64() * share, false);
            axis.add(begin, end, GAP_WIDTH, true);
            at = end;
        }
        axis.add(at, to, to.since(at).as_secs_f64() * share, false);
        Some(axis)
    }

    fn add(&mut self, from: Timestamp, to: Timestamp, width: f64, is_gap: bool) {
        let start = self.sections.last().map_or(0.0, |last| last.start + last.width);
        self.sections.push(AxisSection { from, to, start, width, is_gap });
    }

    /// Returns the position of a time, from 0 to 1.
    fn position(&self, at: Timestamp) -> f64 {
        match self.sections.iter().rfind(|section| section.from <= at) {
            Some(section) => section.position(at).clamp(0.0, 1.0),
            None => 0.0,
        }
    }

    /// Returns the ticks at round times, with the position and the label of each.
    fn ticks(&self) -> Vec<(f64, String)> {
        let shown: Vec<&AxisSection> = self.sections.iter().filter(|it| !it.is_gap).collect();
        let length: Duration = shown.iter().map(|section| section.to.since(section.from)).sum();
        let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        let step = TICK_STEPS.into_iter().find(|step| seconds / step <= MAX_TICKS);
        let step = step.unwrap_or(seconds / MAX_TICKS).max(1);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        if shown.len() > 1 {
            // After a gap the axis continues on another day, which needs a label.
            let mut day = String::new();
            for section in &shown {
                let today = section.from.day();
                if day != today {
                    add_tick(&mut ticks, section.start, month_and_day(&today));
                }
                day = today;
            }
        }
        for section in shown {
            let mut at = next_multiple(section.from, step);
            while let Some(time) = at
                && time <= section.to
            {
                add_tick(&mut ticks, section.position(time), label(time, step));
                at = next_multiple(time, step);
            }
        }
        ticks.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        ticks
    }
}

impl AxisSection {
    fn position(&self, at: Timestamp) -> f64 {
        let length = self.to.since(self.from).as_secs_f64().max(0.001);
        self.start + self.width * (at.since(self.from).as_secs_f64() / length).min(1.0)
    }
}

/// Returns the first time after `at` that is a multiple of `step` seconds.
fn next_multiple(at: Timestamp, step: i64) -> Option<Timestamp> {
    let n = at.epoch_ms().div_euclid(1_000).div_euclid(step) + 1;
    Timestamp::from_epoch_ms(n.checked_mul(step)?.checked_mul(1_000)?)
}

/// Adds a tick, unless its label would leave the axis or overlap another one.
fn add_tick(ticks: &mut Vec<(f64, String)>, position: f64, label: String) {
    // The very beginning is allowed for the label of the first day.
    let inside = position <= 0.985 && (position >= 0.015 || label.len() == 5 && position == 0.0);
    if inside && ticks.iter().all(|(other, _)| (position - other).abs() > LABEL_WIDTH) {
        ticks.push((position, label));
    }
}

/// Returns for each tick whether a narrow screen shows its label.
fn main_ticks(ticks: &[(f64, String)]) -> Vec<bool> {
    let mut main = Vec::new();
    let mut last = f64::NEG_INFINITY;
    for (position, _) in ticks {
        let is_main = position - last > MAIN_LABEL_WIDTH;
        if is_main {
            last = *position;
        }
        main.push(is_main);
    }
    main
}

fn label(at: Timestamp, step: i64) -> String {
    let (day, time) = (at.day(), at.time_of_day());
    match step {
        _ if step >= 365 * DAY => day,
        // At midnight, the new day.
        _ if time == "00:00:00" => month_and_day(&day),
        _ if step < MINUTE => time,
        _ => time[..5].to_owned(),
    }
}

fn month_and_day(day: &str) -> String {
    day[day.len() - 5..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn row(parts: &[(Phase, &str, &str)]) -> TimelineRow {
        let span =
            |&(phase, from, to): &(Phase, &str, &str)| Span { phase, from: at(from), to: at(to) };
        let spans = parts.iter().map(span).collect();
        TimelineRow { id: "job".to_owned(), status: Status::Completed, spans }
    }

    fn labels(from: &str, to: &str) -> Vec<String> {
        let axis = Axis::for_rows(&[&row(&[(Phase::Running, from, to)])]).unwrap();
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn compresses_long_gaps_between_jobs() {
        let hour = |day: u32| {
            let from = format!("2026-11-{day:02}T20:00:00Z");
            let to = format!("2026-11-{day:02}T21:00:00Z");
            row(&[(Phase::Running, &from, &to)])
        };
        let rows = [hour(1), hour(2), hour(7)];
        let axis = Axis::for_rows(&rows.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            axis.sections.iter().map(|section| section.is_gap).collect::<Vec<_>>(),
            [false, true, false, true, false]
        );
        let third = (1.0 - 2.0 * GAP_WIDTH) / 3.0;
        for (text, expected) in [
            ("2026-11-01T20:00:00Z", 0.0),
            ("2026-11-01T21:00:00Z", third),
            ("2026-11-02T20:00:00Z", third + GAP_WIDTH),
            ("2026-11-02T20:30:00Z", 1.5 * third + GAP_WIDTH),
            ("2026-11-07T21:00:00Z", 1.0),
            ("2026-12-07T21:00:00Z", 1.0),
            ("2026-10-07T21:00:00Z", 0.0),
        ] {
            assert!((axis.position(at(text)) - expected).abs() < 1e-9, "{text}");
        }
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["11-01", "20:30", "11-02", "20:30", "11-07", "20:30"]);
    }

    #[test]
    fn draws_short_gaps_to_scale() {
        let whole = row(&[
            (Phase::Running, "2026-11-01T20:00:00Z", "2026-11-01T21:00:00Z"),
            (Phase::Over, "2026-11-01T21:00:00Z", "2026-11-01T21:30:00Z"),
            (Phase::Running, "2026-11-01T21:30:00Z", "2026-11-01T22:00:00Z"),
        ]);
        assert_eq!(Axis::for_rows(&[&whole]).unwrap().sections.len(), 1);
    }

    #[test]
    fn places_ticks_at_round_times() {
        for (from, to, expected) in [
            (
                "2026-11-20T21:45:12.118Z",
                "2026-11-20T21:45:19Z",
                &["21:45:13", "21:45:14", "21:45:15", "21:45:16", "21:45:17", "21:45:18"][..],
            ),
            (
                "2026-11-20T21:45:12Z",
                "2026-11-21T02:50:00Z",
                &["22:00", "23:00", "11-21", "01:00", "02:00"],
            ),
            (
                "2026-11-20T21:45:12Z",
                "2026-11-25T02:50:00Z",
                &["11-21", "12:00", "11-22", "12:00", "11-23", "12:00", "11-24", "12:00", "11-25"],
            ),
            (
                "2020-01-01T00:00:00Z",
                "2023-06-01T00:00:00Z",
                &["2020-12-19", "2021-12-19", "2022-12-19"],
            ),
        ] {
            let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
            let actual = labels(from, to);
            assert_eq!(actual, expected, "{from} {to}");
            assert!(actual.len() <= MAX_TICKS as usize + 1);
        }
    }

    #[test]
    fn limits_ticks_of_very_long_axis() {
        assert!(labels("1000-01-01T00:00:00Z", "9000-01-01T00:00:00Z").len() <= 9);
    }

    #[test]
    fn renders_nothing_without_rows() {
        assert_eq!(timeline(&[]).0, "");
    }
}
