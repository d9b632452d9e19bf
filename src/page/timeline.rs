//! When the jobs were at work: a row each, on one axis of time.

use std::time::Duration;

use maud::{Markup, html};

use super::{anchor, mark, tone};
use crate::job::{Phase, Segment, Status, Timestamp};
use crate::text::short;

/// Rows above which they are drawn smaller, in a box that scrolls.
const MANY: usize = 40;
/// Marks on the axis at most.
const TICKS: i64 = 8;

/// Stretches without any job that are cut out: those longer than this part of the whole.
const CUT_FROM: u32 = 30;
/// How wide a cut is drawn, as a share of the axis.
const CUT_WIDTH: f64 = 0.008;
/// What a label on the axis takes, likewise.
const LABEL_WIDTH: f64 = 0.06;
/// The same on a narrow screen.
const MAIN_WIDTH: f64 = 0.32;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How far apart the marks may be, in seconds.
const STEPS: [i64; 25] = [
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
pub struct Row {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// Its life, in order and without a gap.
    pub segments: Vec<Segment>,
}

impl Row {
    fn from(&self) -> Option<Timestamp> {
        self.segments.first().map(|segment| segment.from)
    }

    fn to(&self) -> Option<Timestamp> {
        self.segments.last().map(|segment| segment.to)
    }
}

/// The rows as they are given, on an axis that spans all of them. Nothing without rows.
pub fn timeline(rows: &[&Row]) -> Markup {
    let Some(axis) = Axis::of(rows) else { return html! {} };
    let ticks = axis.ticks();
    html! {
        section {
            h2 { "Timeline" }
            ul.legend {
                @for phase in [Phase::Queued, Phase::Running, Phase::Limited, Phase::Blocked, Phase::Idle] {
                    li { i.(class(phase)) {} (what(phase)) }
                }
                @if axis.pieces.len() > 1 { li { i.cut {} "no job, not to scale" } }
            }
            div.timeline.many[rows.len() > MANY] {
                div.axis {
                    div {
                        @for ((at, label), main) in ticks.iter().zip(main(&ticks)) {
                            span.main[main] style={ "left:" (percent(*at)) } { (label) }
                        }
                    }
                }
                div.rows {
                    div.grid {
                        @for (at, _) in &ticks { i style={ "left:" (percent(*at)) } {} }
                        @for piece in axis.pieces.iter().filter(|piece| piece.cut) {
                            i.cut style={ "left:" (percent(piece.place)) ";width:" (percent(piece.width)) } {}
                        }
                    }
                    @for row in rows { (line(row, &axis)) }
                }
            }
        }
    }
}

fn line(row: &Row, axis: &Axis) -> Markup {
    let (Some(from), Some(to)) = (row.from(), row.to()) else { return html! {} };
    let took = short(to.since(from));
    let (left, width) = (axis.place(from), axis.place(to) - axis.place(from));
    html! {
        a.row href={ "#" (anchor(&row.id)) } title={ (row.id) ": " (row.status.as_str()) ", " (took) } {
            span.name { b.(tone(row.status)) { (mark(row.status)) } " " (row.id) }
            span.track {
                span.bar.(tone(row.status)) style={ "left:min(" (percent(left)) ",100% - 4px);width:" (percent(width)) } {
                    @for segment in &row.segments {
                        @let length = segment.to.since(segment.from);
                        @let share = axis.place(segment.to) - axis.place(segment.from);
                        i.(class(segment.phase)) style={ "flex-grow:" (format!("{:.0}", (share * 1e6).max(1.0))) }
                            title={ (what(segment.phase)) ", " (short(length)) " from " (segment.from.time_of_day()) } {}
                    }
                }
            }
            span.took { (took) }
        }
    }
}

fn class(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Limited => "limited",
        Phase::Blocked => "blocked",
        Phase::Idle => "idle",
        Phase::Over => "over",
    }
}

fn what(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Limited => "waiting for a limit or another try",
        Phase::Blocked => "waiting for an answer",
        Phase::Idle => "idle",
        Phase::Over => "ended, taken up again later",
    }
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

/// A stretch of the axis.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: Timestamp,
    to: Timestamp,
    /// Where it begins, and how wide it is, in shares of the whole.
    place: f64,
    width: f64,
    /// Nothing was at work in it, and it is drawn narrow, whatever its length.
    cut: bool,
}

/// The axis of time. Where jobs lie far apart, the long stretches between them are cut out of it:
/// else nothing but them would be seen.
struct Axis {
    pieces: Vec<Piece>,
}

impl Axis {
    /// That of these rows; `None` where there is nothing to draw.
    fn of(rows: &[&Row]) -> Option<Self> {
        let segments = rows.iter().flat_map(|row| &row.segments);
        let mut busy: Vec<(Timestamp, Timestamp)> = segments
            .filter(|segment| segment.phase != Phase::Over)
            .map(|segment| (segment.from, segment.to))
            .collect();
        busy.sort_unstable();
        let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in busy {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        let (from, to) = (joined.first()?.0, joined.last()?.1);
        // A row without a length has an axis all the same.
        let to = to.max(from.after(Duration::from_secs(1)));
        let span = to.since(from);
        let gaps = joined.windows(2).map(|pair| (pair[0].1, pair[1].0));
        let mut cuts: Vec<(Timestamp, Timestamp)> =
            gaps.filter(|(from, to)| to.since(*from) > span / CUT_FROM).collect();
        let empty: Duration = cuts.iter().map(|(from, to)| to.since(*from)).sum();
        if empty < span / 2 {
            cuts.clear();
        }
        Some(Self::with_cuts(from, to, &cuts))
    }

    fn with_cuts(from: Timestamp, to: Timestamp, cuts: &[(Timestamp, Timestamp)]) -> Self {
        let empty: Duration = cuts.iter().map(|(from, to)| to.since(*from)).sum();
        let shown = to.since(from).saturating_sub(empty).as_secs_f64().max(0.001);
        let share = (1.0 - CUT_WIDTH * cuts.len() as f64) / shown;
        let mut axis = Self { pieces: Vec::new() };
        let mut at = from;
        for (begin, end) in cuts.iter().copied().chain([(to, to)]) {
            axis.add(at, begin, begin.since(at).as_secs_f64() * share, false);
            if begin < to {
                axis.add(begin, end, CUT_WIDTH, true);
            }
            at = end;
        }
        axis
    }

    fn add(&mut self, from: Timestamp, to: Timestamp, width: f64, cut: bool) {
        let place = self.pieces.last().map_or(0.0, |last| last.place + last.width);
        self.pieces.push(Piece { from, to, place, width, cut });
    }

    /// Where a time is, from 0 to 1.
    fn place(&self, at: Timestamp) -> f64 {
        let piece = self.pieces.iter().rev().find(|piece| piece.from <= at);
        piece.map_or(0.0, |piece| piece.place(at)).clamp(0.0, 1.0)
    }

    /// Round times within the axis: where, and what is written there.
    fn ticks(&self) -> Vec<(f64, String)> {
        let pieces = || self.pieces.iter().filter(|piece| !piece.cut);
        let shown: Duration = pieces().map(|piece| piece.to.since(piece.from)).sum();
        let seconds = i64::try_from(shown.as_secs()).unwrap_or(i64::MAX);
        let step = STEPS.into_iter().find(|step| seconds / step <= TICKS);
        let step = step.unwrap_or(seconds / TICKS).max(1);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        // Behind a cut it must be said where in time the axis goes on.
        let mut day = None;
        for piece in pieces().filter(|_| self.pieces.len() > 1) {
            let today = piece.from.day();
            if day.as_ref() != Some(&today) {
                put(&mut ticks, piece.place, month_and_day(&today));
            }
            day = Some(today);
        }
        for piece in pieces() {
            let first = piece.from.epoch_ms().div_euclid(1_000).div_euclid(step) + 1;
            let times = (first..).map_while(|n| {
                let at = Timestamp::from_epoch_ms(n.checked_mul(step)?.checked_mul(1_000)?)?;
                (at <= piece.to).then_some(at)
            });
            for at in times {
                put(&mut ticks, piece.place(at), label(at, step));
            }
        }
        ticks.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        ticks
    }
}

impl Piece {
    fn place(&self, at: Timestamp) -> f64 {
        let length = self.to.since(self.from).as_secs_f64().max(0.001);
        self.place + self.width * (at.since(self.from).as_secs_f64() / length).min(1.0)
    }
}

/// Adds a mark, unless it would stand out of the axis or over another one.
fn put(ticks: &mut Vec<(f64, String)>, place: f64, label: String) {
    // The beginning is kept: the first day is told there.
    let inside = place <= 0.985 && (place >= 0.015 || label.len() == 5 && place == 0.0);
    if inside && ticks.iter().all(|(other, _)| (place - other).abs() > LABEL_WIDTH) {
        ticks.push((place, label));
    }
}

/// Which of the marks are told also on a narrow screen.
fn main(ticks: &[(f64, String)]) -> Vec<bool> {
    let mut last = None;
    let is_main = |(place, _): &(f64, String)| {
        let main = last.is_none_or(|last| place - last > MAIN_WIDTH);
        if main {
            last = Some(*place);
        }
        main
    };
    ticks.iter().map(is_main).collect()
}

fn label(at: Timestamp, step: i64) -> String {
    let (day, time) = (at.day(), at.time_of_day());
    match step {
        _ if step >= 365 * DAY => day,
        // The day where a new one begins.
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

    fn row(parts: &[(Phase, &str, &str)]) -> Row {
        let segment = |&(phase, from, to): &(Phase, &str, &str)| Segment {
            phase,
            from: at(from),
            to: at(to),
        };
        let segments = parts.iter().map(segment).collect();
        Row { id: "job".to_owned(), status: Status::Completed, segments }
    }

    fn labels(from: &str, to: &str) -> Vec<String> {
        let axis = Axis::of(&[&row(&[(Phase::Running, from, to)])]).unwrap();
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn long_stretches_without_a_job_are_cut_out() {
        let hour = |day: u32| {
            let from = format!("2026-11-{day:02}T20:00:00Z");
            let to = format!("2026-11-{day:02}T21:00:00Z");
            row(&[(Phase::Running, &from, &to)])
        };
        let rows = [hour(1), hour(2), hour(7)];
        let axis = Axis::of(&rows.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            axis.pieces.iter().map(|piece| piece.cut).collect::<Vec<_>>(),
            [false, true, false, true, false]
        );
        let third = (1.0 - 2.0 * CUT_WIDTH) / 3.0;
        for (text, place) in [
            ("2026-11-01T20:00:00Z", 0.0),
            ("2026-11-01T21:00:00Z", third),
            ("2026-11-02T20:00:00Z", third + CUT_WIDTH),
            ("2026-11-02T20:30:00Z", 1.5 * third + CUT_WIDTH),
            ("2026-11-07T21:00:00Z", 1.0),
            ("2026-12-07T21:00:00Z", 1.0),
            ("2026-10-07T21:00:00Z", 0.0),
        ] {
            assert!((axis.place(at(text)) - place).abs() < 1e-9, "{text}");
        }
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["11-01", "20:30", "11-02", "20:30", "11-07", "20:30"]);
    }

    #[test]
    fn what_lies_close_together_is_drawn_to_scale() {
        let whole = row(&[
            (Phase::Running, "2026-11-01T20:00:00Z", "2026-11-01T21:00:00Z"),
            (Phase::Over, "2026-11-01T21:00:00Z", "2026-11-01T21:30:00Z"),
            (Phase::Running, "2026-11-01T21:30:00Z", "2026-11-01T22:00:00Z"),
        ]);
        assert_eq!(Axis::of(&[&whole]).unwrap().pieces.len(), 1);
    }

    #[test]
    fn the_axis_is_marked_at_round_times() {
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
            let seen = labels(from, to);
            assert_eq!(seen, expected, "{from} {to}");
            assert!(seen.len() <= TICKS as usize + 1);
        }
    }

    #[test]
    fn an_axis_of_ages_has_few_marks() {
        assert!(labels("1000-01-01T00:00:00Z", "9000-01-01T00:00:00Z").len() <= 9);
    }

    #[test]
    fn a_page_without_a_time_has_no_axis() {
        assert_eq!(timeline(&[]).0, "");
    }
}
