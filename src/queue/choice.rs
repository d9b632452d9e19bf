//! Who may run next. Pure.

use super::Ticket;

/// How things stand at the desk.
#[derive(Debug, Default)]
pub struct Standing<'a> {
    /// Those who wait, in order.
    pub waiting: &'a [Ticket],
    /// Those who have a slot.
    pub running: &'a [Ticket],
    /// The time, in milliseconds on a clock that never jumps.
    pub now_ms: u64,
    /// When the last of them was let in, on that clock.
    pub admitted_ms: Option<u64>,
    /// Milliseconds from now until which the API's limit is known to stand in the way.
    pub limited_for_ms: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one is let in.
    Admit(&'a Ticket),
    /// Nobody, for so many milliseconds.
    Later(u64),
    /// Nobody, until somebody leaves or comes.
    Nobody,
}

/// Who is let in now. First come, first served among those of a priority; one whose group is full
/// is passed over, one for whom there is no slot holds up those behind it who need one.
pub fn choose<'a>(desk: &Standing<'a>) -> Choice<'a> {
    let running = desk.running.len();
    let mut limited = false;
    let mut full = false;
    for ticket in desk.waiting {
        let admission = &ticket.admission;
        let most = admission.max_parallel as usize;
        full |= most > 0 && running >= most;
        // One that needs no slot is often asked for by one that has the last.
        if full && most > 0 {
            continue;
        }
        if let Some(group) = &admission.group {
            let inside = desk.running.iter().filter(|other| other.is_in(group)).count();
            if inside >= admission.group_limit as usize {
                continue;
            }
        }
        if admission.waits_for_limit(desk.limited_for_ms) {
            limited = true;
            continue;
        }
        let next = desk.admitted_ms.map_or(0, |at| at.saturating_add(admission.stagger_ms));
        if next > desk.now_ms {
            return Choice::Later(next - desk.now_ms);
        }
        return Choice::Admit(ticket);
    }
    if limited { Choice::Later(desk.limited_for_ms) } else { Choice::Nobody }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Admission, JobId};

    /// `NAME[:priority][@group/limit][!][*]`, numbered in order; each waits a second for the end of
    /// the API's limit, with `!` not at all; `*` needs no slot.
    fn tickets(text: &str, most: u32) -> Vec<Ticket> {
        let mut all: Vec<Ticket> = text
            .split_whitespace()
            .enumerate()
            .map(|(number, word)| {
                let (word, most) = word.strip_suffix('*').map_or((word, most), |word| (word, 0));
                let limit_wait_ms = if word.ends_with('!') { 0 } else { 1_000 };
                let word = word.trim_end_matches('!');
                let (word, group) = word.split_once('@').map_or((word, None), |(word, group)| {
                    (word, group.split_once('/').map(|(name, most)| (name, most.parse().unwrap())))
                });
                let (name, priority) = word.split_once(':').unwrap_or((word, "0"));
                let priority = priority.parse().unwrap();
                let admission = Admission {
                    max_parallel: most,
                    priority,
                    stagger_ms: 200,
                    limit_wait_ms,
                    group_limit: group.map_or(1, |(_, most)| most),
                    group: group.map(|(name, _)| name.to_owned()),
                    no_queue: false,
                };
                let job_id = JobId::parse(name).unwrap();
                Ticket { priority, number: number as u64, admission, job_id }
            })
            .collect();
        all.sort();
        all
    }

    fn chosen(waiting: &str, running: &str, most: u32, limited_for_ms: u64) -> String {
        let (waiting, running) = (tickets(waiting, most), tickets(running, most));
        let desk = Standing { waiting: &waiting, running: &running, limited_for_ms, ..desk() };
        match choose(&desk) {
            Choice::Admit(ticket) => ticket.job_id.to_string(),
            Choice::Later(ms) => format!("in {ms}"),
            Choice::Nobody => "nobody".to_owned(),
        }
    }

    fn desk<'a>() -> Standing<'a> {
        Standing { now_ms: 10_000, admitted_ms: Some(9_000), ..Standing::default() }
    }

    #[test]
    fn first_come_first_served_but_for_priorities_groups_and_the_limit() {
        for (waiting, running, most, limited, expected) in [
            ("", "", 2, 0, "nobody"),
            ("a b", "", 2, 0, "a"),
            ("a b", "x y", 2, 0, "nobody"),
            ("a b", "x y", 0, 0, "a"),
            ("a b:5 c:5", "x", 2, 0, "b"),
            ("a:-1 b", "x", 2, 0, "b"),
            ("a b* c", "x y", 2, 0, "b"),
            ("a b@g/1* c", "x@g/1 y", 2, 0, "nobody"),
            // A full group is passed over, and only that.
            ("a@g/1 b@g/1 c", "x@g/1", 3, 0, "c"),
            ("a@g/2 b", "x@g/2", 3, 0, "a"),
            ("a@g/1", "x@h/1", 3, 0, "a"),
            ("a@g/1 b", "x@g/1 y z", 3, 0, "nobody"),
            // Nobody runs into a wall that is known, but for those who want to.
            ("a b", "x", 3, 700, "in 700"),
            ("a b!", "x", 3, 700, "b"),
            // Who would not wait so long finds out for himself.
            ("a b", "x", 3, 1_001, "a"),
            ("a@g/1", "x@g/1", 3, 700, "nobody"),
        ] {
            let got = chosen(waiting, running, most, limited);
            assert_eq!(got, expected, "{waiting:?} behind {running:?} of {most}, {limited}");
        }
    }

    #[test]
    fn each_waits_a_moment_after_the_one_before() {
        let waiting = tickets("a", 2);
        let at = |admitted_ms| Standing { waiting: &waiting, admitted_ms, ..desk() };
        assert_eq!(choose(&at(Some(9_900))), Choice::Later(100));
        assert_eq!(choose(&at(Some(9_800))), Choice::Admit(&waiting[0]));
        assert_eq!(choose(&at(None)), Choice::Admit(&waiting[0]));
    }
}
