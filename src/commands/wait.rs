//! `wait`: until jobs have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::MAX_ANSWER_CHARS;
use super::observe::observe;
use super::result::{Pending, ResultAnswer, result_within};
use super::status::{StatusAnswer, standing};
use super::watch::{Notice, Watch};
use crate::error::{Error, ExitStatus, NOT_FOUND};
use crate::fault_point::fault_point;
use crate::job::{JobId, Reason, Status, full_status};
use crate::process;
use crate::store::{JobDir, RECORD, Store, addressed};
use crate::text::{clip, json_length};

/// Characters for each of several jobs below which only its most important fields are shown.
const WHOLE_LEAST: usize = 600;
/// Characters of a hint among many jobs.
const HINT_MOST: usize = 120;
/// How often the caller is told how the jobs stand while waiting.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Debug)]
pub struct WaitRequest {
    /// The jobs.
    pub ids: Vec<JobId>,
    /// One is enough.
    pub any: bool,
    /// Also while a job asks something and waits for an answer.
    pub through_blocked: bool,
    /// No longer than this.
    pub timeout: Option<Duration>,
}

/// A job's state after the wait.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Waited {
    /// It has ended.
    Ended(ResultAnswer),
    /// It is live.
    Live(Box<StatusAnswer>),
    /// The most important fields: many jobs were waited for.
    Brief(Brief),
    /// It was removed, or its record cannot be read, while others were waited for.
    Lost(Lost),
}

/// A job of several whose state cannot be read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// The job's id.
    pub job_id: JobId,
    /// `not_found` if there is no such job; null if its record cannot be read.
    pub status: Option<&'static str>,
    /// What went wrong.
    pub error: String,
    /// What went wrong, as a stable word.
    pub code: &'static str,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Lost {
    fn of(store: &Store, job_id: JobId, error: &Error) -> Self {
        Self {
            job_id,
            status: matches!(error, Error::NotFound(_)).then_some(NOT_FOUND),
            error: error.to_string(),
            code: error.code(),
            hint: error.hint().map(|hint| addressed(store.root(), hint)),
        }
    }
}

impl Waited {
    /// The most important fields, in about `most` characters.
    fn brief(self, store: &Store, most: usize) -> Self {
        let truncated = true;
        let mut brief = match self {
            Self::Ended(ResultAnswer::Ended(ended)) => {
                let (outcome, hint) = (ended.outcome, ended.hint);
                let (job_id, status, reason) = (outcome.job_id, outcome.status, outcome.reason);
                let (error, result) = (outcome.error, outcome.result);
                Brief { job_id, status, reason, error, result, truncated, hint }
            }
            Self::Ended(ResultAnswer::Pending(pending)) => {
                let Pending { job_id, status, result, hint, .. } = pending;
                Brief { job_id, status, reason: None, error: None, result, truncated, hint }
            }
            Self::Live(standing) => Brief {
                job_id: standing.job_id,
                status: standing.status,
                reason: standing.reason,
                error: standing.error,
                result: None,
                truncated,
                hint: standing.hint,
            },
            Self::Brief(_) | Self::Lost(_) => return self,
        };
        if brief.hint.as_ref().is_some_and(|hint| hint.len() > HINT_MOST) {
            brief.hint = Some(addressed(store.root(), full_status(&brief.job_id)));
        }
        for keep in [most, most / 2, most / 4, 0] {
            if length(&brief) > most {
                brief.result = brief.result.map(|text| clip(&text, keep));
                brief.error = brief.error.map(|text| clip(&text, keep));
            }
        }
        Self::Brief(brief)
    }
}

/// A job among many.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Brief {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Why the job failed, as a stable word; null unless it failed.
    pub reason: Option<Reason>,
    /// The beginning of the sentence that says why the job failed.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub result: Option<String>,
    /// Always true: `result` and `status` give the fields that are left out.
    pub truncated: bool,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// How the jobs stand, in the order asked for.
#[derive(Debug)]
pub struct WaitAnswer {
    /// The jobs.
    pub jobs: Vec<Waited>,
    /// What the exit status says of them.
    pub exit_status: ExitStatus,
}

#[cfg(test)]
impl schemars::JsonSchema for WaitAnswer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WaitAnswer".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Waited>();
        schemars::json_schema!({
            "description": "The job, or of several an array in the order asked for.",
            "anyOf": [one, { "type": "array", "items": one }],
        })
    }
}

impl Serialize for WaitAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.jobs.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

/// Waits. Where `tell` is given it hears about once a second how the first job stands that has
/// not ended.
pub fn wait(
    store: &Store,
    request: &WaitRequest,
    mut tell: Option<&mut dyn FnMut(&StatusAnswer)>,
) -> Result<WaitAnswer, Error> {
    process::reap_in_background();
    let began = Instant::now();
    let deadline = request.timeout.and_then(|most| began.checked_add(most));
    // All are looked at first: an id that is not there is told at once.
    let mut open = Vec::new();
    let mut ended = Vec::new();
    for id in &request.ids {
        let seen = observe(store, id)?;
        // A worker that has written the end is gone a moment later.
        if seen.live || seen.dir.is_held().unwrap_or(false) {
            open.push((id.clone(), seen.dir));
        } else {
            ended.push(id);
        }
    }
    let mut kept = Kept::of(request);
    if !open.is_empty() {
        ended.into_iter().for_each(|id| kept.keep(store, id));
    }
    let enough = request.any && open.len() < request.ids.len();
    let dirs: Vec<JobDir> = open.iter().map(|(_, dir)| dir.clone()).collect();
    let asks = |dir: &JobDir| dir.load().is_ok_and(|record| record.status == Status::Blocked);
    let mut watch = Watch::new();
    for (place, dir) in dirs.iter().enumerate() {
        watch.add_end(place, dir);
        if !request.through_blocked {
            watch.add_files(place, dir, &[RECORD]);
        }
    }
    // Looked at when it is watched, so that nothing falls between the two.
    let enough = enough || !request.through_blocked && dirs.iter().any(asks);
    let mut waiting: Vec<bool> = vec![true; open.len()];
    let mut told = began;
    while !enough && waiting.contains(&true) {
        let mut until = deadline;
        if tell.is_some() {
            told += TOLD_EVERY;
            until = Some(deadline.map_or(told, |at| at.min(told)));
        }
        match watch.next_until(until) {
            Some(Notice::Ended(place)) => {
                waiting[place] = false;
                if request.any {
                    break;
                }
                if waiting.contains(&true) {
                    kept.keep(store, &open[place].0);
                }
            }
            Some(Notice::Changed(place)) => {
                if !request.through_blocked && asks(&dirs[place]) {
                    break;
                }
            }
            Some(Notice::Appeared(_) | Notice::Root) => {}
            None if deadline.is_some_and(|at| at <= Instant::now()) => break,
            None => {
                let first = waiting.iter().position(|waits| *waits);
                if let (Some(tell), Some(first)) = (&mut tell, first)
                    && let Ok(seen) = observe(store, &open[first].0)
                {
                    tell(&standing(store, &seen.record));
                }
            }
        }
    }
    answer(store, request, kept)
}

/// What jobs came to that have ended while others go on: they can be removed meanwhile.
struct Kept {
    ended: BTreeMap<JobId, ResultAnswer>,
    /// Characters that an answer may take.
    room: usize,
}

impl Kept {
    fn of(request: &WaitRequest) -> Self {
        let room = (MAX_ANSWER_CHARS / request.ids.len().max(1)).saturating_sub(2);
        Self { ended: BTreeMap::new(), room }
    }

    fn is_brief(&self) -> bool {
        self.room < WHOLE_LEAST
    }

    /// What the job came to; of a brief answer it is shortened later on.
    fn result(&self, store: &Store, id: &JobId) -> Result<ResultAnswer, Error> {
        result_within(store, id, if self.is_brief() { MAX_ANSWER_CHARS } else { self.room })
    }

    fn keep(&mut self, store: &Store, id: &JobId) {
        if let Ok(result) = self.result(store, id) {
            self.ended.insert(id.clone(), result);
        }
        fault_point("wait:kept");
    }

    /// The job's state now, or its result if it was removed meanwhile, with the exit status that
    /// goes with it.
    fn answer(&mut self, store: &Store, id: &JobId) -> Result<(ExitStatus, Waited), Error> {
        let found = observe(store, id).and_then(|seen| {
            if seen.record.status.is_live() {
                let code = match seen.record.status {
                    Status::Blocked => ExitStatus::Blocked,
                    _ => ExitStatus::TimedOut,
                };
                return Ok((code, Waited::Live(Box::new(standing(store, &seen.record)))));
            }
            let result = self.result(store, id)?;
            Ok((result.exit_status(), Waited::Ended(result)))
        });
        found.or_else(|error| {
            let result = self.ended.remove(id).ok_or(error)?;
            Ok((result.exit_status(), Waited::Ended(result)))
        })
    }
}

fn answer(store: &Store, request: &WaitRequest, mut kept: Kept) -> Result<WaitAnswer, Error> {
    let mut jobs = Vec::new();
    let mut codes = Vec::new();
    let mut lost = Vec::new();
    for id in &request.ids {
        match kept.answer(store, id) {
            Ok((code, waited)) => {
                codes.push(match code {
                    ExitStatus::Blocked if request.through_blocked => ExitStatus::TimedOut,
                    code => code,
                });
                jobs.push(if kept.is_brief() { waited.brief(store, kept.room) } else { waited });
            }
            // The state of the others is answered.
            Err(error) if request.ids.len() > 1 => {
                lost.push(error.exit_status());
                jobs.push(Waited::Lost(Lost::of(store, id.clone(), &error)));
            }
            Err(error) => return Err(error),
        }
    }
    // Those that are live, too, must fit.
    let length: usize = jobs.iter().map(length).sum();
    if jobs.len() > 1 && length > MAX_ANSWER_CHARS {
        jobs = jobs.into_iter().map(|waited| waited.brief(store, kept.room)).collect();
    }
    // With `--any` one that is gone says nothing where another has ended.
    let is_told = codes.iter().any(|code| *code != ExitStatus::TimedOut);
    if !(request.any && is_told) {
        codes.append(&mut lost);
    }
    Ok(WaitAnswer { jobs, exit_status: overall(&codes, request.any) })
}

/// Characters of a value as JSON, and of what separates it from the next.
fn length(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |text| json_length(&text) + 1)
}

/// One exit status for several jobs: the first that applies in a fixed order. While jobs are live
/// and none of them is blocked, the time ran out; with `any` only the others count.
fn overall(codes: &[ExitStatus], any: bool) -> ExitStatus {
    const ORDER: [ExitStatus; 6] = [
        ExitStatus::NotFound,
        ExitStatus::Killed,
        ExitStatus::Failed,
        ExitStatus::TryAgain,
        ExitStatus::Blocked,
        ExitStatus::Done,
    ];
    let is_live = codes.contains(&ExitStatus::TimedOut);
    if is_live && !any && !codes.contains(&ExitStatus::Blocked) {
        return ExitStatus::TimedOut;
    }
    let first = ORDER.into_iter().find(|code| codes.contains(code));
    first.unwrap_or(ExitStatus::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_tells_of_several_jobs() {
        use ExitStatus::{Blocked, Done, Failed, Killed, NotFound, TimedOut, TryAgain};
        for (codes, all, any) in [
            (vec![Done, Done], Done, Done),
            (vec![Done, Killed], Killed, Killed),
            (vec![Killed, Failed], Killed, Killed),
            (vec![Failed, NotFound, Killed], NotFound, NotFound),
            (vec![TryAgain, Failed], Failed, Failed),
            (vec![Done, TryAgain], TryAgain, TryAgain),
            (vec![TimedOut, Failed], TimedOut, Failed),
            (vec![TimedOut, TimedOut], TimedOut, TimedOut),
            (vec![TimedOut, Blocked, Done], Blocked, Blocked),
            (vec![TimedOut, Blocked, Failed], Failed, Failed),
        ] {
            assert_eq!(overall(&codes, false), all, "{codes:?}");
            assert_eq!(overall(&codes, true), any, "{codes:?} any");
        }
    }
}
