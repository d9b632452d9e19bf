//! The phases of a job's life, computed from its events.

use serde::Deserialize;

use super::Timestamp;

/// A line of `events.ndjson`, reduced to the fields that are needed here. Events of every version
/// can be parsed; unknown ones have no effect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TimelineEvent {
    pub at: Timestamp,
    /// Kind of the event.
    pub event: String,
    /// Id of the request that the event is about.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl TimelineEvent {
    /// Returns whether the event can begin or end a span.
    pub(crate) fn affects_phase(&self) -> bool {
        phase_change(&self.event).is_some()
    }
}

/// What a job does during a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Waits for a slot, for other jobs or for its claude's start.
    Queued,
    /// Claude works.
    Running,
    /// Waits for a limit of the API.
    Limited,
    /// A question or a permission request waits for an answer.
    Blocked,
    /// Kept alive, waits for a message.
    Idle,
    /// All its processes were stopped (`pause --stop`).
    Frozen,
    /// Had ended, before it was recovered or resumed.
    Over,
}

/// A span of time in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub phase: Phase,
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(Clone, Copy)]
enum PhaseChange {
    Base(Phase),
    /// The worker started; a job that was queued before stays in its phase.
    WorkerStarted,
    Limited(bool),
    Blocked,
    Unblocked,
    Idle(bool),
    Frozen(bool),
    Exited,
}

fn phase_change(event: &str) -> Option<PhaseChange> {
    Some(match event {
        "started" => PhaseChange::WorkerStarted,
        "queued" | "recovered" | "resumed" | "restarting" => PhaseChange::Base(Phase::Queued),
        "admitted" | "launched" => PhaseChange::Base(Phase::Running),
        "finished" => PhaseChange::Base(Phase::Over),
        "rate_limited" | "retrying" => PhaseChange::Limited(true),
        "rate_limit_over" => PhaseChange::Limited(false),
        "blocked" => PhaseChange::Blocked,
        "unblocked" | "answered" => PhaseChange::Unblocked,
        "idle" => PhaseChange::Idle(true),
        "message_sent" | "finish_requested" => PhaseChange::Idle(false),
        "frozen" => PhaseChange::Frozen(true),
        "thawed" => PhaseChange::Frozen(false),
        "exited" => PhaseChange::Exited,
        _ => return None,
    })
}

/// State of a job after an event. Several conditions can apply at once; one phase is shown.
#[derive(Debug)]
struct PhaseState {
    base: Phase,
    limited: bool,
    blocked: Vec<Option<String>>,
    idle: bool,
    frozen: bool,
}

impl PhaseState {
    fn new(base: Phase) -> Self {
        Self { base, limited: false, blocked: Vec::new(), idle: false, frozen: false }
    }

    fn apply(&mut self, event: &TimelineEvent) {
        match phase_change(&event.event) {
            None => {}
            Some(PhaseChange::WorkerStarted) if self.base != Phase::Over => {}
            Some(PhaseChange::WorkerStarted) => self.base = Phase::Queued,
            Some(PhaseChange::Base(base)) => {
                *self = Self::new(base);
            }
            Some(PhaseChange::Limited(limited)) => self.limited = limited,
            Some(PhaseChange::Blocked) => {
                self.blocked.retain(|id| *id != event.request_id);
                self.blocked.push(event.request_id.clone());
            }
            Some(PhaseChange::Unblocked) => self.blocked.retain(|id| *id != event.request_id),
            Some(PhaseChange::Idle(idle)) => self.idle = idle,
            Some(PhaseChange::Frozen(frozen)) => self.frozen = frozen,
            // A job may continue to wait for a limit without a claude.
            Some(PhaseChange::Exited) => {
                self.blocked.clear();
                self.idle = false;
                self.frozen = false;
            }
        }
    }

    fn shown(&self) -> Phase {
        match self.base {
            Phase::Running if self.frozen => Phase::Frozen,
            Phase::Running if self.limited => Phase::Limited,
            Phase::Running if !self.blocked.is_empty() => Phase::Blocked,
            Phase::Running if self.idle => Phase::Idle,
            base => base,
        }
    }
}

/// Returns the spans of a job, in order and without gaps, from `started` to `ended`, or to `now`
/// for a live job. Neighbours differ in phase. No span is empty, unless it is the only one.
///
/// The wall clock may have been set meanwhile: a time that lies before the previous one or outside
/// of the job's life is moved into it.
pub(crate) fn spans(
    events: &[TimelineEvent],
    started: Timestamp,
    ended: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Span> {
    let end = ended.unwrap_or(now).max(started);
    // A record of the Node skill has no events: it is only known that the job ran.
    let base = if events.is_empty() { Phase::Running } else { Phase::Queued };
    let mut state = PhaseState::new(base);
    let mut segments: Vec<Span> = Vec::new();
    let mut from = started;
    for event in events {
        let at = event.at.clamp(from, end);
        add_span(&mut segments, Span { phase: state.shown(), from, to: at });
        from = at;
        state.apply(event);
    }
    let last = match segments.last() {
        // The end is recorded a moment after the `finished` event.
        Some(last) if state.base == Phase::Over && ended.is_some() => last.phase,
        _ if state.base == Phase::Over => Phase::Running,
        _ => state.shown(),
    };
    add_span(&mut segments, Span { phase: last, from, to: end });
    if segments.is_empty() {
        segments.push(Span { phase: last, from: started, to: end });
    }
    segments
}

/// Adds a span unless it is empty. A neighbour in the same phase is extended instead.
fn add_span(segments: &mut Vec<Span>, span: Span) {
    match segments.last_mut() {
        _ if span.from == span.to => {}
        Some(last) if last.phase == span.phase => last.to = span.to,
        _ => segments.push(span),
    }
}

/// Merges spans that are too short to be visible into the ones before them, so that about
/// `max_spans` remain at most.
pub(crate) fn merge_short(segments: Vec<Span>, max_spans: usize) -> Vec<Span> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return segments };
    if segments.len() <= max_spans {
        return segments;
    }
    let shortest = last.to.since(first.from) / u32::try_from(max_spans).unwrap_or(u32::MAX).max(1);
    let mut merged: Vec<Span> = Vec::new();
    for segment in segments {
        match merged.last_mut() {
            Some(before)
                if before.phase == segment.phase || segment.to.since(segment.from) < shortest =>
            {
                before.to = segment.to;
            }
            _ => merged.push(segment),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::Phase::{Blocked, Idle, Limited, Over, Queued, Running};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_epoch_ms(1_795_204_000_000 + second * 1_000).unwrap()
    }

    fn events_at(events: &[(i64, &str)]) -> Vec<TimelineEvent> {
        let event_at = |(second, text): &(i64, &str)| {
            let (event, id) = text.split_once(' ').unwrap_or((text, "r"));
            TimelineEvent {
                at: at(*second),
                event: event.to_owned(),
                request_id: Some(id.to_owned()),
            }
        };
        events.iter().map(event_at).collect()
    }

    /// Events of a job that started at 0, its end if it has one (now is 100), and the expected
    /// spans.
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
        // Finished, and resumed a moment ago.
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
    fn computes_the_spans_of_a_job() {
        for (events, ended, expected) in CASES {
            let seen = spans(&events_at(events), at(0), ended.map(at), at(100));
            let mut expected: Vec<Span> = expected
                .iter()
                .map(|&(phase, from, to)| Span { phase, from: at(from), to: at(to) })
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
    fn merges_many_spans_into_few() {
        let launched = events_at(&[(0, "launched")]);
        let cycles =
            (0..5_000).flat_map(|n| events_at(&[(n * 4, "idle"), (n * 4 + 1, "message_sent")]));
        let events: Vec<TimelineEvent> = launched.into_iter().chain(cycles).collect();
        let many = spans(&events, at(0), Some(at(40_000)), at(0));
        assert!(many.len() > 5_000);
        let few = merge_short(many, 100);
        assert!(few.len() <= 201, "{}", few.len());
        assert_eq!((few[0].from, few[few.len() - 1].to), (at(0), at(40_000)));
        assert!(few.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}
