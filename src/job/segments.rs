//! What a job's time went to: its life as a row of segments, from its events.

use serde::Deserialize;

use super::Timestamp;

/// One line of `events.ndjson`, as far as it matters here. Any event, of any version, is one: what
/// is not known has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When it happened.
    pub at: Timestamp,
    /// What.
    pub event: String,
    /// The request that it is about.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl Moment {
    /// Whether it can end or begin a segment.
    pub fn matters(&self) -> bool {
        effect(&self.event).is_some()
    }
}

/// What a job's time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It waits for its turn, or for its claude to be started.
    Queued,
    /// Claude works.
    Running,
    /// The API's limit is being waited for.
    Limited,
    /// A question or a permission request waits for an answer.
    Blocked,
    /// It is kept alive and waits for a message.
    Idle,
    /// It had ended, and was taken up again later.
    Over,
}

/// A stretch of one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What the time went to.
    pub phase: Phase,
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
}

#[derive(Clone, Copy)]
enum Effect {
    Base(Phase),
    /// The worker says so also where the job has been waiting for its turn before.
    Stands,
    Limited(bool),
    Blocked,
    Unblocked,
    Idle(bool),
    Exited,
}

fn effect(event: &str) -> Option<Effect> {
    Some(match event {
        "started" => Effect::Stands,
        "queued" | "recovered" | "resumed" | "restarting" => Effect::Base(Phase::Queued),
        "admitted" | "launched" => Effect::Base(Phase::Running),
        "finished" => Effect::Base(Phase::Over),
        "rate_limited" | "retrying" => Effect::Limited(true),
        "rate_limit_over" => Effect::Limited(false),
        "blocked" => Effect::Blocked,
        "unblocked" | "answered" => Effect::Unblocked,
        "idle" => Effect::Idle(true),
        "message_sent" | "finish_requested" => Effect::Idle(false),
        "exited" => Effect::Exited,
        _ => return None,
    })
}

/// What holds at a moment of a job's life. Several things can hold at once, of which one is shown.
#[derive(Debug)]
struct State {
    base: Phase,
    limited: bool,
    blocked: Vec<Option<String>>,
    idle: bool,
}

impl State {
    fn take(&mut self, moment: &Moment) {
        match effect(&moment.event) {
            None => {}
            Some(Effect::Stands) if self.base != Phase::Over => {}
            Some(Effect::Stands) => self.base = Phase::Queued,
            Some(Effect::Base(base)) => {
                *self = Self { base, limited: false, blocked: Vec::new(), idle: false };
            }
            Some(Effect::Limited(limited)) => self.limited = limited,
            Some(Effect::Blocked) => {
                self.blocked.retain(|id| *id != moment.request_id);
                self.blocked.push(moment.request_id.clone());
            }
            Some(Effect::Unblocked) => self.blocked.retain(|id| *id != moment.request_id),
            Some(Effect::Idle(idle)) => self.idle = idle,
            // What waits for the API may go on waiting without a claude.
            Some(Effect::Exited) => {
                self.blocked.clear();
                self.idle = false;
            }
        }
    }

    fn shown(&self) -> Phase {
        match self.base {
            Phase::Running if self.limited => Phase::Limited,
            Phase::Running if !self.blocked.is_empty() => Phase::Blocked,
            Phase::Running if self.idle => Phase::Idle,
            base => base,
        }
    }
}

/// The segments of a job, in order and without a gap, from `started` to `ended`, or to `now` of a
/// job that lives. Neighbours differ, and none is empty, unless it is the only one.
///
/// The times are those of a clock that may have been set meanwhile: one that lies before the
/// one before it, or outside of the job's life, is moved to where it fits.
pub fn segments(
    events: &[Moment],
    started: Timestamp,
    ended: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Segment> {
    let end = ended.unwrap_or(now).max(started);
    // A record of the Node skill has no events: all that is known is that it ran.
    let base = if events.is_empty() { Phase::Running } else { Phase::Queued };
    let mut state = State { base, limited: false, blocked: Vec::new(), idle: false };
    let mut segments: Vec<Segment> = Vec::new();
    let mut from = started;
    let add = |segments: &mut Vec<Segment>, phase, from, to| match segments.last_mut() {
        _ if from == to => {}
        Some(last) if last.phase == phase => last.to = to,
        _ => segments.push(Segment { phase, from, to }),
    };
    for moment in events {
        let at = moment.at.clamp(from, end);
        add(&mut segments, state.shown(), from, at);
        from = at;
        state.take(moment);
    }
    let last = match segments.last() {
        // The end is written a moment after the last event tells of it.
        Some(last) if state.base == Phase::Over && ended.is_some() => last.phase,
        _ if state.base == Phase::Over => Phase::Running,
        _ => state.shown(),
    };
    add(&mut segments, last, from, end);
    if segments.is_empty() {
        segments.push(Segment { phase: last, from: started, to: end });
    }
    segments
}

/// The same with at most about `most` segments: those that are too short to be seen beside the
/// rest become part of the one before them.
pub fn coarse(segments: Vec<Segment>, most: usize) -> Vec<Segment> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return segments };
    if segments.len() <= most {
        return segments;
    }
    let least = last.to.since(first.from) / u32::try_from(most).unwrap_or(u32::MAX).max(1);
    let mut kept: Vec<Segment> = Vec::new();
    for segment in segments {
        match kept.last_mut() {
            Some(before)
                if before.phase == segment.phase || segment.to.since(segment.from) < least =>
            {
                before.to = segment.to;
            }
            _ => kept.push(segment),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::Phase::{Blocked, Idle, Limited, Over, Queued, Running};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_epoch_ms(1_795_204_000_000 + second * 1_000).unwrap()
    }

    fn moments(events: &[(i64, &str)]) -> Vec<Moment> {
        let moment = |(second, text): &(i64, &str)| {
            let (event, id) = text.split_once(' ').unwrap_or((text, "r"));
            Moment { at: at(*second), event: event.to_owned(), request_id: Some(id.to_owned()) }
        };
        events.iter().map(moment).collect()
    }

    /// Events of a job that started at 0, its end if it has one (now is 100), and what each of its
    /// seconds went to.
    type Case = (&'static [(i64, &'static str)], Option<i64>, &'static [(Phase, i64, i64)]);

    const CASES: [Case; 20] = [
        (&[], Some(5), &[(Running, 0, 5)]),
        (&[], None, &[(Running, 0, 100)]),
        (&[], Some(0), &[(Running, 0, 0)]),
        (
            &[(0, "started"), (1, "launched"), (9, "exited"), (9, "finished")],
            Some(9),
            &[(Queued, 0, 1), (Running, 1, 9)],
        ),
        (&[(0, "launched")], None, &[(Running, 0, 100)]),
        (
            &[(0, "queued"), (4, "admitted"), (4, "started"), (5, "launched")],
            Some(9),
            &[(Queued, 0, 4), (Running, 4, 9)],
        ),
        (&[(0, "started"), (0, "queued")], None, &[(Queued, 0, 100)]),
        (
            &[(0, "launched"), (2, "rate_limited"), (5, "rate_limit_over")],
            Some(9),
            &[(Running, 0, 2), (Limited, 2, 5), (Running, 5, 9)],
        ),
        (
            &[(0, "launched"), (2, "rate_limited"), (9, "exited"), (9, "finished")],
            Some(9),
            &[(Running, 0, 2), (Limited, 2, 9)],
        ),
        (
            &[(0, "launched"), (2, "exited"), (2, "retrying"), (6, "launched")],
            Some(9),
            &[(Running, 0, 2), (Limited, 2, 6), (Running, 6, 9)],
        ),
        (
            &[
                (0, "launched"),
                (2, "rate_limited"),
                (3, "exited"),
                (3, "retrying"),
                (6, "queued"),
                (7, "admitted"),
            ],
            Some(9),
            &[(Running, 0, 2), (Limited, 2, 6), (Queued, 6, 7), (Running, 7, 9)],
        ),
        (
            &[(0, "launched"), (2, "blocked"), (5, "answered"), (5, "unblocked")],
            Some(9),
            &[(Running, 0, 2), (Blocked, 2, 5), (Running, 5, 9)],
        ),
        (
            &[
                (0, "launched"),
                (2, "blocked a"),
                (3, "blocked b"),
                (5, "answered a"),
                (7, "unblocked b"),
            ],
            Some(9),
            &[(Running, 0, 2), (Blocked, 2, 7), (Running, 7, 9)],
        ),
        (
            &[
                (0, "launched"),
                (2, "idle"),
                (4, "message_sent"),
                (6, "idle"),
                (8, "finish_requested"),
            ],
            Some(9),
            &[(Running, 0, 2), (Idle, 2, 4), (Running, 4, 6), (Idle, 6, 8), (Running, 8, 9)],
        ),
        (
            &[(0, "launched"), (2, "idle"), (3, "exited"), (3, "restarting"), (5, "launched")],
            Some(9),
            &[(Running, 0, 2), (Idle, 2, 3), (Queued, 3, 5), (Running, 5, 9)],
        ),
        (
            &[
                (0, "launched"),
                (2, "lost"),
                (2, "finished"),
                (5, "started"),
                (5, "recovered"),
                (6, "launched"),
                (9, "finished"),
            ],
            Some(9),
            &[(Running, 0, 2), (Over, 2, 5), (Queued, 5, 6), (Running, 6, 9)],
        ),
        (&[(0, "launched"), (8, "finished")], Some(9), &[(Running, 0, 9)]),
        // Finished, and taken up again a moment ago.
        (&[(0, "launched"), (2, "finished")], None, &[(Running, 0, 2), (Running, 2, 100)]),
        // A clock that was set back, and one that ran ahead.
        (
            &[
                (0, "launched"),
                (5, "blocked"),
                (3, "answered"),
                (-9, "idle"),
                (500, "message_sent"),
            ],
            Some(9),
            &[(Running, 0, 5), (Idle, 5, 9)],
        ),
        (&[(0, "launched"), (3, "dreamt"), (4, "turn")], Some(9), &[(Running, 0, 9)]),
    ];

    #[test]
    fn a_job_s_time_goes_to_its_phases() {
        for (events, ended, expected) in CASES {
            let seen = segments(&moments(events), at(0), ended.map(at), at(100));
            let mut expected: Vec<Segment> = expected
                .iter()
                .map(|&(phase, from, to)| Segment { phase, from: at(from), to: at(to) })
                .collect();
            expected.dedup_by(|next, last| {
                let same = next.phase == last.phase;
                if same {
                    last.to = next.to;
                }
                same
            });
            assert_eq!(seen, expected, "{events:?}");
        }
    }

    #[test]
    fn many_segments_become_few_and_cover_the_same() {
        let launched = moments(&[(0, "launched")]);
        let cycles =
            (0..5_000).flat_map(|n| moments(&[(n * 4, "idle"), (n * 4 + 1, "message_sent")]));
        let events: Vec<Moment> = launched.into_iter().chain(cycles).collect();
        let many = segments(&events, at(0), Some(at(40_000)), at(0));
        assert!(many.len() > 5_000);
        let few = coarse(many, 100);
        assert!(few.len() <= 201, "{}", few.len());
        assert_eq!((few[0].from, few[few.len() - 1].to), (at(0), at(40_000)));
        assert!(few.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}
