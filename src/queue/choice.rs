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
    /// The limits of the API that are known to stand in the way.
    pub limits: &'a [KnownLimit],
}

/// A limit of the API that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownLimit {
    /// Whom it concerns.
    pub name: String,
    /// Milliseconds from now until it ends.
    pub left_ms: u64,
    /// Milliseconds from now until a job may find out whether it is over; `None` as long as
    /// another is to do so.
    pub probe_in_ms: Option<u64>,
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
///
/// One whose login is at a limit waits, without holding up others, but for one that is to find out
/// whether the limit is over. So does one for which too little time has passed since the last was
/// let in: the pause is its own.
pub fn choose<'a>(desk: &Standing<'a>) -> Choice<'a> {
    let running = desk.running.len();
    let mut later: Option<u64> = None;
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
        let wait = limited_for_ms(ticket, desk.limits);
        let next = desk.admitted_ms.map_or(0, |at| at.saturating_add(admission.stagger_ms));
        let wait = wait.max(next.saturating_sub(desk.now_ms));
        if wait > 0 {
            later = Some(later.map_or(wait, |least| least.min(wait)));
            continue;
        }
        return Choice::Admit(ticket);
    }
    later.map_or(Choice::Nobody, Choice::Later)
}

/// Milliseconds from now for which limits stand in the way of this one: until their end, or until
/// it may find out whether they are over.
pub fn limited_for_ms(ticket: &Ticket, limits: &[KnownLimit]) -> u64 {
    if limits.is_empty() {
        return 0;
    }
    let names = ticket.login.limits();
    let mut longest = 0;
    for limit in limits {
        if names.contains(&limit.name) && ticket.admission.waits_for_limit(limit.left_ms) {
            let probe = limit.probe_in_ms.unwrap_or(u64::MAX);
            longest = longest.max(limit.left_ms.min(probe));
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Admission, JobId, Login, ModelFamily};

    /// `NAME[:priority][@group/limit][#key[-model]][!][*]`, numbered in order; each waits a second for the end of
    /// the API's limit, with `!` not at all; `*` needs no slot.
    fn tickets(text: &str, most: u32) -> Vec<Ticket> {
        let mut all: Vec<Ticket> = text
            .split_whitespace()
            .enumerate()
            .map(|(number, word)| {
                let (word, most) = word.strip_suffix('*').map_or((word, most), |word| (word, 0));
                let limit_wait_ms = if word.ends_with('!') { 0 } else { 1_000 };
                let word = word.trim_end_matches('!');
                let (word, login) = word.split_once('#').unwrap_or((word, ""));
                let (key, model) = login.split_once('-').unwrap_or((login, ""));
                let login = Login {
                    key: Some(key.to_owned()).filter(|key| !key.is_empty()),
                    model: ModelFamily::named_in(model),
                };
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
                Ticket { priority, number: number as u64, admission, job_id, login }
            })
            .collect();
        all.sort();
        all
    }

    fn chosen(waiting: &str, running: &str, most: u32, limits: &[KnownLimit]) -> String {
        let (waiting, running) = (tickets(waiting, most), tickets(running, most));
        let desk = Standing { waiting: &waiting, running: &running, limits, ..desk() };
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
            let limits = if limited > 0 { vec![limit("unknown", limited, None)] } else { vec![] };
            let got = chosen(waiting, running, most, &limits);
            assert_eq!(got, expected, "{waiting:?} behind {running:?} of {most}, {limited}");
        }
    }

    fn limit(name: &str, left_ms: u64, probe_in_ms: Option<u64>) -> KnownLimit {
        KnownLimit { name: name.to_owned(), left_ms, probe_in_ms }
    }

    #[test]
    fn a_limit_holds_up_its_login_and_model_alone() {
        let k = |probe| vec![limit("k", 700, probe)];
        for (waiting, limits, expected) in [
            ("a#k b#k", k(None), "in 700"),
            ("a#k b#other", k(None), "b"),
            // Of an earlier version.
            ("a#k b", k(None), "b"),
            ("a#k b#k-opus", vec![limit("k.opus", 700, None)], "a"),
            ("a#k-opus b#k-sonnet", vec![limit("k.opus", 700, None)], "b"),
            ("a#k b#k-opus", vec![limit("k.default", 700, None)], "b"),
            ("a#k b#k!", k(None), "b"),
            // One that is to find out.
            ("a#k b#k", k(Some(0)), "a"),
            ("a#k b#k", k(Some(300)), "in 300"),
            ("a#k b#other", k(Some(300)), "b"),
            ("a#k", k(Some(900)), "in 700"),
            ("a#k b#l", vec![limit("k", 700, Some(500)), limit("l", 600, Some(200))], "in 200"),
            ("a#k", vec![limit("k", 700, Some(0)), limit("k.default", 600, None)], "in 600"),
        ] {
            assert_eq!(chosen(waiting, "", 9, &limits), expected, "{waiting:?} {limits:?}");
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

    #[test]
    fn a_long_pause_holds_up_the_job_that_asked_for_it_alone() {
        let mut waiting = tickets("slow b", 2);
        waiting[0].admission.stagger_ms = 3_600_000;
        let at = |admitted_ms| Standing { waiting: &waiting, admitted_ms, ..desk() };
        assert_eq!(choose(&at(Some(9_000))), Choice::Admit(&waiting[1]));
        assert_eq!(choose(&at(Some(9_900))), Choice::Later(100));
        let alone = Standing { waiting: &waiting[..1], ..desk() };
        assert_eq!(choose(&alone), Choice::Later(3_599_000));
    }
}
