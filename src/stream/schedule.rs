//! Work that the agent schedules: wake-ups (`ScheduleWakeup`) and cron tasks.
//!
//! The CLI runs it only while its stdin is open.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use memchr::memmem::Finder;

use super::wire::{Raw, WireSchedule, get, is_array, items, object, string};
use crate::job::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CronTask {
    pub id: String,
    /// When it fires next; 2.1.197 does not report it.
    pub due: Option<Timestamp>,
    /// Whether it fires repeatedly, else once.
    pub recurring: bool,
}

/// What a tool result says about scheduled work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheduling {
    /// `ScheduleWakeup`: the only wake-up is set to this time.
    Wakeup(Timestamp),
    /// `ScheduleWakeup`: there is no wake-up.
    NoWakeup,
    /// `CronCreate`.
    Cron(CronTask),
    /// `CronList`: all cron tasks.
    Crons(Vec<CronTask>),
}

/// Reads a `tool_use_result`; `None` if it is not about scheduled work.
pub(super) fn scheduling(raw: &str) -> Option<Scheduling> {
    // Most results are of other tools, and some are long.
    static NAMES: LazyLock<[Finder<'static>; 3]> =
        LazyLock::new(|| ["\"scheduledFor\"", "\"recurring\"", "\"cron\""].map(Finder::new));
    let beginning = &raw.as_bytes()[..raw.len().min(MAX_SEARCHED_BYTES)];
    let is_likely = NAMES.iter().any(|name| name.find(beginning).is_some());
    let is_empty_list = raw.len() < MAX_SEARCHED_BYTES && raw.starts_with("{\"jobs\":[]");
    if !is_likely && !is_empty_list {
        return None;
    }
    let wire: WireSchedule<'_> = object(Some(raw))?;
    if is_set(wire.scheduled_for) {
        return Some(match time(wire.scheduled_for) {
            Some(at) if at.epoch_ms() > 0 && get(wire.stopped) != Some(true) => {
                Scheduling::Wakeup(at)
            }
            _ => Scheduling::NoWakeup,
        });
    }
    if wire.jobs.is_some_and(is_array) {
        let mut tasks = Vec::new();
        for job in items(wire.jobs) {
            tasks.extend(cron_task(&object(Some(job)).unwrap_or_default()));
        }
        return Some(Scheduling::Crons(tasks));
    }
    if is_set(wire.recurring) { cron_task(&wire).map(Scheduling::Cron) } else { None }
}

fn is_set(field: Raw<'_>) -> bool {
    !matches!(field, None | Some("null"))
}

fn time(field: Raw<'_>) -> Option<Timestamp> {
    Timestamp::from_epoch_ms(get::<f64>(field)? as i64)
}

/// Bytes of a tool result that are searched for field names.
const MAX_SEARCHED_BYTES: usize = 4_096;

fn cron_task(wire: &WireSchedule<'_>) -> Option<CronTask> {
    Some(CronTask {
        id: string(wire.id)?,
        due: time(wire.next_fire_at),
        recurring: get(wire.recurring).unwrap_or(false),
    })
}

/// How early a one-shot cron task may fire. The time that the CLI reports includes its jitter.
const CRON_TOLERANCE: Duration = Duration::from_secs(5);
/// How long after its time a wake-up is awaited.
pub(crate) const WAKEUP_TIMEOUT: Duration = Duration::from_secs(120);
/// Number of cron tasks that are tracked. The CLI allows 50.
const MAX_CRON_TASKS: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// When the wake-up is due. There is at most one: another one replaces it.
    wakeup: Option<Timestamp>,
    crons: BTreeMap<String, CronTask>,
    /// Number of wake-ups and one-shot tasks that did not fire in time.
    missed: usize,
    /// When the first of these was due.
    first_missed: Option<Timestamp>,
}

impl Schedule {
    /// Applies a tool result; `tool` is the name of the tool, if known.
    pub(crate) fn apply(&mut self, scheduling: &Scheduling, tool: Option<&str>) {
        match scheduling {
            Scheduling::Wakeup(at) if matches!(tool, None | Some("ScheduleWakeup")) => {
                self.wakeup = Some(*at);
            }
            Scheduling::NoWakeup if matches!(tool, None | Some("ScheduleWakeup")) => {
                self.wakeup = None;
            }
            Scheduling::Cron(task) if matches!(tool, None | Some("CronCreate")) => {
                self.crons.insert(task.id.clone(), task.clone());
                if self.crons.len() > MAX_CRON_TASKS {
                    self.crons.pop_last();
                }
            }
            Scheduling::Crons(tasks) if tool == Some("CronList") => {
                self.crons.clear();
                for task in tasks.iter().take(MAX_CRON_TASKS) {
                    self.crons.insert(task.id.clone(), task.clone());
                }
            }
            _ => {}
        }
    }

    /// Removes a task after `CronDelete`.
    pub(crate) fn delete(&mut self, id: &str) {
        self.crons.remove(id);
    }

    /// Handles that the CLI announced a turn by scheduled work of this source.
    pub(crate) fn fired(&mut self, source: &str, now: Timestamp) {
        if source == "loop_wakeup" {
            // A wake-up that was given up fires late if the machine was suspended.
            if self.wakeup.take().is_none() {
                self.missed = self.missed.saturating_sub(1);
            }
            return;
        }
        self.one_shot_fired(now);
    }

    /// Forgets missed work: a newer message has asked for a turn.
    pub(crate) fn forget_missed(&mut self) {
        self.missed = 0;
        self.first_missed = None;
    }

    /// Handles the end of a turn that only scheduled work can have begun: 2.1.197 does not announce
    /// it.
    pub(crate) fn fired_unannounced(&mut self, now: Timestamp) {
        if self.wakeup.is_some_and(|due| due <= now) {
            self.wakeup = None;
        } else {
            self.one_shot_fired(now);
        }
    }

    fn one_shot_fired(&mut self, now: Timestamp) {
        let horizon = now.after(CRON_TOLERANCE);
        // A task of unknown time comes first.
        if let Some(first) = self.one_shots().min_by_key(|task| task.due)
            && first.due.is_none_or(|due| due <= horizon)
        {
            let id = first.id.clone();
            self.crons.remove(&id);
        }
    }

    fn one_shots(&self) -> impl Iterator<Item = &CronTask> {
        self.crons.values().filter(|task| !task.recurring)
    }

    /// Whether a wake-up or one-shot task is outstanding.
    pub(crate) fn is_pending(&self) -> bool {
        self.wakeup.is_some() || self.one_shots().next().is_some()
    }

    /// Whether there is a recurring task.
    pub(crate) fn recurs(&self) -> bool {
        self.crons.values().any(|task| task.recurring)
    }

    /// Returns when the next wake-up or one-shot task is due, if known.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let mut due: Vec<Timestamp> = self.one_shots().filter_map(|task| task.due).collect();
        due.extend(self.wakeup);
        due.into_iter().min()
    }

    /// Gives up work that was due [`WAKEUP_TIMEOUT`] before `now`, unless a turn kept it from
    /// firing: the last one ended at `rested`.
    pub(crate) fn expire(&mut self, now: Timestamp, rested: Timestamp) {
        let is_late = |due: Timestamp| due.max(rested).after(WAKEUP_TIMEOUT) <= now;
        if let Some(due) = self.wakeup
            && is_late(due)
        {
            self.wakeup = None;
            self.miss(Some(due));
        }
        self.give_up(|task| task.due.is_some_and(is_late));
    }

    /// Gives up the one-shot tasks of unknown time.
    pub(crate) fn expire_unknown(&mut self) {
        self.give_up(|task| task.due.is_none());
    }

    /// Counts the one-shot tasks that are late as missed.
    fn give_up(&mut self, is_late: impl Fn(&CronTask) -> bool) {
        let late: Vec<CronTask> = self.one_shots().filter(|task| is_late(task)).cloned().collect();
        for task in late {
            self.crons.remove(&task.id);
            self.miss(task.due);
        }
    }

    fn miss(&mut self, due: Option<Timestamp>) {
        self.missed += 1;
        self.first_missed = self.first_missed.or(due);
    }

    /// Whether scheduled work of the job is missing, and the time of the first one, if known.
    pub(crate) fn missing(&self) -> Option<Option<Timestamp>> {
        if self.missed > 0 {
            return Some(self.first_missed);
        }
        if self.is_pending() { Some(self.next_due()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_epoch_ms(seconds * 1_000).unwrap()
    }

    fn read(json: &str) -> Option<Scheduling> {
        scheduling(json)
    }

    fn cron(id: &str, due: Option<i64>, recurring: bool) -> Scheduling {
        Scheduling::Cron(CronTask { id: id.to_owned(), due: due.map(at), recurring })
    }

    #[test]
    fn tool_results_are_read() {
        let wakeup = r#"{"scheduledFor":60000,"clampedDelaySeconds":60,"wasClamped":false}"#;
        assert_eq!(read(wakeup), Some(Scheduling::Wakeup(at(60))));
        let stopped = r#"{"scheduledFor":0,"stopped":true,"cancelledWakeups":1}"#;
        assert_eq!(read(stopped), Some(Scheduling::NoWakeup));
        let created = r#"{"id":"a","humanSchedule":"x","recurring":false,"nextFireAt":60000.25}"#;
        assert_eq!(read(created), Some(cron("a", Some(60), false)));
        let old = r#"{"id":"a","humanSchedule":"x","recurring":false,"durable":false}"#;
        assert_eq!(read(old), Some(cron("a", None, false)));
        let listed = r#"{"jobs":[{"id":"a","cron":"* * * * *","nextFireAt":60000}]}"#;
        let Some(Scheduling::Crons(tasks)) = read(listed) else { panic!() };
        assert_eq!(tasks, [CronTask { id: "a".to_owned(), due: Some(at(60)), recurring: false }]);
        assert_eq!(read(r#"{"jobs":[]}"#), Some(Scheduling::Crons(Vec::new())));
        const NULLS: &str = r#"{"id":"a","scheduledFor":null,"recurring":null}"#;
        for other in [r#"{"stdout":"x"}"#, r#""Error: no""#, "7", r#"{"recurring":1}"#, NULLS] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_wakeup_is_pending_until_it_fires() {
        let mut schedule = Schedule::default();
        schedule.apply(&Scheduling::Wakeup(at(60)), Some("ScheduleWakeup"));
        schedule.apply(&Scheduling::Wakeup(at(90)), Some("ScheduleWakeup"));
        assert_eq!((schedule.is_pending(), schedule.next_due()), (true, Some(at(90))));
        schedule.fired("loop_wakeup", at(90));
        assert_eq!(schedule.missing(), None);
        schedule.apply(&Scheduling::Wakeup(at(60)), Some("ScheduleWakeup"));
        schedule.apply(&Scheduling::NoWakeup, Some("ScheduleWakeup"));
        assert!(!schedule.is_pending());
    }

    #[test]
    fn recurring_task_does_not_consume_a_one_shot() {
        let mut schedule = Schedule::default();
        schedule.apply(&cron("often", Some(60), true), Some("CronCreate"));
        schedule.apply(&cron("once", Some(3_600), false), Some("CronCreate"));
        schedule.fired("schedule_wakeup", at(60));
        assert_eq!(schedule.next_due(), Some(at(3_600)));
        schedule.fired("schedule_wakeup", at(3_600));
        assert!(!schedule.is_pending() && schedule.recurs());
        schedule.delete("often");
        assert!(!schedule.recurs());
    }

    #[test]
    fn counts_missed_wakeups() {
        let mut schedule = Schedule::default();
        schedule.apply(&Scheduling::Wakeup(at(60)), None);
        schedule.apply(&cron("old", None, false), None);
        schedule.expire(at(179), at(0));
        schedule.expire(at(190), at(100));
        assert_eq!(schedule.missing(), Some(Some(at(60))));
        schedule.expire(at(180), at(0));
        assert!(schedule.is_pending(), "one without a known time");
        schedule.expire_unknown();
        assert_eq!((schedule.is_pending(), schedule.missing()), (false, Some(Some(at(60)))));
    }

    #[test]
    fn results_of_other_tools_schedule_nothing() {
        let mut schedule = Schedule::default();
        schedule.apply(&Scheduling::Wakeup(at(60)), Some("mcp__ci__plan"));
        schedule.apply(&cron("a", Some(60), false), Some("mcp__ci__plan"));
        assert!(!schedule.is_pending());
        schedule.apply(&cron("a", Some(60), false), Some("CronCreate"));
        schedule.apply(&Scheduling::Crons(Vec::new()), None);
        schedule.apply(&Scheduling::Crons(Vec::new()), Some("mcp__ci__jobs"));
        assert!(schedule.is_pending());
        schedule.apply(&Scheduling::Crons(Vec::new()), Some("CronList"));
        assert!(!schedule.is_pending());
    }
}
