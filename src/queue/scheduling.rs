//! Decides which job gets the next slot. Pure.

use super::{PauseSet, Ticket};

/// Input of [`decide`].
#[derive(Debug)]
pub(super) struct SchedulingView<'a> {
    /// Waiting jobs, in order.
    pub waiting: &'a [Ticket],
    /// Jobs that have a slot.
    pub running: &'a [Ticket],
    /// Present time in milliseconds, by the monotonic clock.
    pub now_ms: u64,
    /// When the last job was admitted, by the same clock.
    pub admitted_ms: Option<u64>,
    /// Limits of the API that have not ended.
    pub limits: &'a [KnownLimit],
    /// Jobs that are held back.
    pub paused: &'a PauseSet,
}

/// A limit of the API that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownLimit {
    /// Logins and models to which the limit applies, as in [`crate::job::Login::limit_names`].
    pub name: String,
    /// Milliseconds from now until it ends.
    pub left_ms: u64,
    /// Milliseconds from now until a job may find out whether the limit is over; `None` while
    /// another job is doing so.
    pub probe_in_ms: Option<u64>,
}

/// Result of [`decide`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<'a> {
    /// This job is admitted.
    Admit(&'a Ticket),
    /// No job can be admitted for this many milliseconds.
    RetryInMs(u64),
    /// No job can be admitted until one joins or leaves the queue.
    WaitForChange,
}

/// Decides which job is admitted now: among those of one priority, the one that came first. A job
/// that is paused or whose group is full is skipped. A job for which there is no slot holds up all later jobs that
/// need a slot.
///
/// A job waits without holding up others while a limit applies to its login, unless it is to find
/// out whether the limit is over, and until its own pause since the last admission has passed.
pub(super) fn decide<'a>(view: &SchedulingView<'a>) -> Decision<'a> {
    let mut decision = Decision::WaitForChange;
    let mut full = false;
    for ticket in view.waiting {
        if view.paused.holds(ticket) {
            continue;
        }
        full |= are_slots_taken(ticket, view.running);
        // A job without `--max-parallel` is often started by the job that has the last slot.
        if full && ticket.options.max_parallel > 0 || is_group_full(ticket, view.running) {
            continue;
        }
        let mut wait = limit_delay_ms(ticket, view.limits);
        if let Some(at) = view.admitted_ms {
            let next = at.saturating_add(ticket.options.stagger_ms);
            wait = wait.max(next.saturating_sub(view.now_ms));
        }
        if wait == 0 {
            return Decision::Admit(ticket);
        }
        decision = match decision {
            Decision::RetryInMs(least) => Decision::RetryInMs(least.min(wait)),
            _ => Decision::RetryInMs(wait),
        };
    }
    decision
}

/// Returns whether the running jobs take all slots that this job accepts.
pub(super) fn are_slots_taken(ticket: &Ticket, running: &[Ticket]) -> bool {
    let max_parallel = ticket.options.max_parallel as usize;
    max_parallel > 0 && running.len() >= max_parallel
}

/// Returns whether the running jobs take all slots of this job's group.
pub(super) fn is_group_full(ticket: &Ticket, running: &[Ticket]) -> bool {
    match &ticket.options.group {
        Some(group) => count_in_group(running, group) >= ticket.options.group_limit as usize,
        None => false,
    }
}

/// Returns the running jobs that keep this one from a slot.
pub(crate) fn slot_holders<'a>(ticket: &Ticket, running: &'a [Ticket]) -> Vec<&'a Ticket> {
    if is_group_full(ticket, running)
        && let Some(group) = &ticket.options.group
    {
        running.iter().filter(|other| other.is_in_group(group)).collect()
    } else if are_slots_taken(ticket, running) {
        running.iter().collect()
    } else {
        Vec::new()
    }
}

pub(super) fn count_in_group(running: &[Ticket], group: &str) -> usize {
    running.iter().filter(|ticket| ticket.is_in_group(group)).count()
}

/// Returns the milliseconds until no limit keeps this job from starting: until the limits end, or
/// until it may find out whether they are over.
pub(super) fn limit_delay_ms(ticket: &Ticket, limits: &[KnownLimit]) -> u64 {
    if limits.is_empty() {
        return 0;
    }
    let names = ticket.login.limit_names();
    let mut longest = 0;
    for limit in limits {
        if names.contains(&limit.name) && ticket.options.waits_for_limit(limit.left_ms) {
            let probe = limit.probe_in_ms.unwrap_or(u64::MAX);
            longest = longest.max(limit.left_ms.min(probe));
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::job::{JobId, Login, ModelFamily, QueueOptions};

    static NOTHING: PauseSet =
        PauseSet { all: false, groups: BTreeSet::new(), jobs: BTreeSet::new() };

    /// Parses tickets `NAME[:priority][@group/limit][#key[-model]][!][*]`, numbered in order. Each
    /// waits a second for the end of a limit, with `!` not at all; with `*` it needs no slot.
    fn tickets(text: &str, max_parallel: u32) -> Vec<Ticket> {
        let mut all = Vec::new();
        for (number, word) in text.split_whitespace().enumerate() {
            let (word, max_parallel) = match word.strip_suffix('*') {
                Some(word) => (word, 0),
                None => (word, max_parallel),
            };
            let limit_wait_ms = if word.ends_with('!') { 0 } else { 1_000 };
            let word = word.trim_end_matches('!');
            let (word, login) = word.split_once('#').unwrap_or((word, ""));
            let (key, model) = login.split_once('-').unwrap_or((login, ""));
            let key = if key.is_empty() { None } else { Some(key.to_owned()) };
            let (word, group) = word.split_once('@').unwrap_or((word, ""));
            let (group, group_limit) = group.split_once('/').unwrap_or((group, "1"));
            let (name, priority) = word.split_once(':').unwrap_or((word, "0"));
            let priority = priority.parse().unwrap();
            let options = QueueOptions {
                max_parallel,
                priority,
                stagger_ms: 200,
                limit_wait_ms,
                group_limit: group_limit.parse().unwrap(),
                group: if group.is_empty() { None } else { Some(group.to_owned()) },
                no_queue: false,
            };
            let job_id = JobId::parse(name).unwrap();
            let login = Login { key, model: ModelFamily::find_in(model) };
            all.push(Ticket { priority, number: number as u64, options, job_id, login });
        }
        all.sort();
        all
    }

    fn chosen(waiting: &str, running: &str, max_parallel: u32, limits: &[KnownLimit]) -> String {
        let (waiting, running) = (tickets(waiting, max_parallel), tickets(running, max_parallel));
        let input = SchedulingView { waiting: &waiting, running: &running, limits, ..view() };
        match decide(&input) {
            Decision::Admit(ticket) => ticket.job_id.to_string(),
            Decision::RetryInMs(ms) => format!("in {ms}"),
            Decision::WaitForChange => "nobody".to_owned(),
        }
    }

    fn view<'a>() -> SchedulingView<'a> {
        SchedulingView {
            waiting: &[],
            running: &[],
            now_ms: 10_000,
            admitted_ms: Some(9_000),
            limits: &[],
            paused: &NOTHING,
        }
    }

    #[test]
    fn follows_order_priorities_groups_and_limits() {
        for (waiting, running, max_parallel, limited, expected) in [
            ("", "", 2, 0, "nobody"),
            ("a b", "", 2, 0, "a"),
            ("a b", "x y", 2, 0, "nobody"),
            ("a b", "x y", 0, 0, "a"),
            ("a b:5 c:5", "x", 2, 0, "b"),
            ("a:-1 b", "x", 2, 0, "b"),
            ("a b* c", "x y", 2, 0, "b"),
            ("a b@g/1* c", "x@g/1 y", 2, 0, "nobody"),
            // A full group is skipped, and only that.
            ("a@g/1 b@g/1 c", "x@g/1", 3, 0, "c"),
            ("a@g/2 b", "x@g/2", 3, 0, "a"),
            ("a@g/1", "x@h/1", 3, 0, "a"),
            ("a@g/1 b", "x@g/1 y z", 3, 0, "nobody"),
            // A job waits for the end of a known limit unless it does not want to wait.
            ("a b", "x", 3, 700, "in 700"),
            ("a b!", "x", 3, 700, "b"),
            // A job that would not wait that long finds out for itself.
            ("a b", "x", 3, 1_001, "a"),
            ("a@g/1", "x@g/1", 3, 700, "nobody"),
        ] {
            let limits = if limited > 0 { vec![limit("unknown", limited, None)] } else { vec![] };
            let got = chosen(waiting, running, max_parallel, &limits);
            assert_eq!(
                got, expected,
                "{waiting:?} behind {running:?} of {max_parallel}, {limited}"
            );
        }
    }

    fn limit(name: &str, left_ms: u64, probe_in_ms: Option<u64>) -> KnownLimit {
        KnownLimit { name: name.to_owned(), left_ms, probe_in_ms }
    }

    #[test]
    fn a_limit_applies_to_its_login_and_model_only() {
        let k = |probe| vec![limit("k", 700, probe)];
        for (waiting, limits, expected) in [
            ("a#k b#k", k(None), "in 700"),
            ("a#k b#other", k(None), "b"),
            // A ticket of an earlier version.
            ("a#k b", k(None), "b"),
            ("a#k b#k-opus", vec![limit("k.opus", 700, None)], "a"),
            ("a#k-opus b#k-sonnet", vec![limit("k.opus", 700, None)], "b"),
            ("a#k b#k-opus", vec![limit("k.default", 700, None)], "b"),
            ("a#k b#k!", k(None), "b"),
            // A job that is to find out whether the limit is over.
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
    fn keeps_the_pause_after_the_last_admission() {
        let waiting = tickets("a", 2);
        let at = |admitted_ms| SchedulingView { waiting: &waiting, admitted_ms, ..view() };
        assert_eq!(decide(&at(Some(9_900))), Decision::RetryInMs(100));
        assert_eq!(decide(&at(Some(9_800))), Decision::Admit(&waiting[0]));
        assert_eq!(decide(&at(None)), Decision::Admit(&waiting[0]));
    }

    #[test]
    fn a_long_pause_delays_only_its_own_job() {
        let mut waiting = tickets("slow b", 2);
        waiting[0].options.stagger_ms = 3_600_000;
        let at = |admitted_ms| SchedulingView { waiting: &waiting, admitted_ms, ..view() };
        assert_eq!(decide(&at(Some(9_000))), Decision::Admit(&waiting[1]));
        assert_eq!(decide(&at(Some(9_900))), Decision::RetryInMs(100));
        let alone = SchedulingView { waiting: &waiting[..1], ..view() };
        assert_eq!(decide(&alone), Decision::RetryInMs(3_599_000));
    }
}
