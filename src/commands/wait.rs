//! `wait`: until jobs have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::result::{ResultAnswer, result_within};
use super::seen::look;
use super::status::{StatusAnswer, standing};
use super::watch::{Notice, Watch};
use super::{ANSWER_MOST, Failure, exit_status_of};
use crate::checkpoint::checkpoint;
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Reason, Status};
use crate::process;
use crate::store::{JobDir, Store};
use crate::text::{clip, json_length};

/// Characters for each of several jobs below which only the most telling is said of them.
const WHOLE_LEAST: usize = 400;
/// How often the caller is told how the jobs stand while waiting.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Debug)]
pub struct Request {
    /// The jobs.
    pub ids: Vec<JobId>,
    /// One is enough.
    pub any: bool,
    /// Also while a job asks something and waits for an answer.
    pub through_blocked: bool,
    /// No longer than this.
    pub timeout: Option<Duration>,
}

/// How a job stands after the wait.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Waited {
    /// It ended with this.
    Ended(ResultAnswer),
    /// It goes on.
    Live(Box<StatusAnswer>),
    /// The most telling of it: there are many.
    Brief(Brief),
    /// Nothing can be told of it, which was removed or whose record is broken, but of others.
    Lost(Failure),
}

impl Waited {
    /// The most telling of it, in about `most` characters.
    fn brief(self, most: usize) -> Self {
        let (job_id, status, reason, error, result) = match self {
            Self::Ended(ResultAnswer::Ended(ended)) => {
                let outcome = ended.outcome;
                (outcome.job_id, outcome.status, outcome.reason, outcome.error, outcome.result)
            }
            Self::Ended(ResultAnswer::Pending { job_id, status, result }) => {
                (job_id, status, None, None, result)
            }
            Self::Live(standing) => {
                (standing.job_id, standing.status, standing.reason, standing.error, None)
            }
            Self::Brief(_) | Self::Lost(_) => return self,
        };
        let mut brief = Brief { job_id, status, reason, error, result, truncated: true };
        let length =
            |brief: &Brief| serde_json::to_string(brief).map_or(0, |text| json_length(&text));
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
#[serde(rename_all = "camelCase")]
pub struct Brief {
    /// The job's id.
    pub job_id: JobId,
    /// How it stands.
    pub status: Status,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// The same as a sentence, or its beginning.
    pub error: Option<String>,
    /// The answer, or its beginning.
    pub result: Option<String>,
    /// Parts were left out to keep the answer short; `result` and `status` give them.
    pub truncated: bool,
}

/// How the jobs stand, in the order asked for.
#[derive(Debug)]
pub struct WaitAnswer {
    /// The jobs.
    pub jobs: Vec<Waited>,
    /// What the exit status says of them.
    pub exit_status: ExitStatus,
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
    request: &Request,
    mut tell: Option<&mut dyn FnMut(&StatusAnswer)>,
) -> Result<WaitAnswer, Error> {
    process::stay();
    let began = Instant::now();
    let deadline = request.timeout.and_then(|most| began.checked_add(most));
    // All are looked at first: an id that is not there is told at once.
    let mut open = Vec::new();
    let mut ended = Vec::new();
    for id in &request.ids {
        let seen = look(store, id)?;
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
    let blocked = || !request.through_blocked && dirs.iter().any(asks);
    let mut watch = Watch::over(dirs.clone());
    if !request.through_blocked {
        watch.over_records(&dirs);
    }
    // Looked at when it is watched, so that nothing falls between the two.
    let enough = enough || blocked();
    let mut waiting: Vec<bool> = vec![true; open.len()];
    let mut told = began;
    while !enough && waiting.contains(&true) {
        let mut until = deadline;
        if tell.is_some() {
            told += TOLD_EVERY;
            until = Some(deadline.map_or(told, |at| at.min(told)));
        }
        match watch.next(until) {
            Some(Notice::Ended(place)) => {
                waiting[place] = false;
                if request.any {
                    break;
                }
                if waiting.contains(&true) {
                    kept.keep(store, &open[place].0);
                }
            }
            Some(Notice::Changed(_) | Notice::Root) => {
                if blocked() {
                    break;
                }
            }
            None if deadline.is_some_and(|at| at <= Instant::now()) => break,
            None => {
                let first = waiting.iter().position(|waits| *waits);
                if let (Some(tell), Some(first)) = (&mut tell, first)
                    && let Ok(seen) = look(store, &open[first].0)
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
    fn of(request: &Request) -> Self {
        let room = (ANSWER_MOST / request.ids.len().max(1)).saturating_sub(2);
        Self { ended: BTreeMap::new(), room }
    }

    fn is_brief(&self) -> bool {
        self.room < WHOLE_LEAST
    }

    /// What the job came to; of a brief answer it is shortened later on.
    fn result(&self, store: &Store, id: &JobId) -> Result<ResultAnswer, Error> {
        result_within(store, id, if self.is_brief() { ANSWER_MOST } else { self.room })
    }

    fn keep(&mut self, store: &Store, id: &JobId) {
        if let Ok(result) = self.result(store, id) {
            self.ended.insert(id.clone(), result);
        }
        checkpoint("wait:kept");
    }

    /// How the job stands now, or what it had come to if it is not there any more.
    fn answer(&mut self, store: &Store, id: &JobId) -> Result<(Status, Waited), Error> {
        let found = look(store, id).and_then(|seen| {
            let status = seen.record.status;
            Ok(if status.is_live() {
                (status, Waited::Live(Box::new(standing(store, &seen.record))))
            } else {
                (status, Waited::Ended(self.result(store, id)?))
            })
        });
        found.or_else(|error| {
            let result = self.ended.remove(id).ok_or(error)?;
            Ok((result.status(), Waited::Ended(result)))
        })
    }
}

fn answer(store: &Store, request: &Request, mut kept: Kept) -> Result<WaitAnswer, Error> {
    let mut jobs = Vec::new();
    let mut statuses = Vec::new();
    let mut lost = None;
    for id in &request.ids {
        match kept.answer(store, id) {
            Ok((status, waited)) => {
                statuses.push(status);
                jobs.push(if kept.is_brief() { waited.brief(kept.room) } else { waited });
            }
            // What is known of the others is told.
            Err(error) if request.ids.len() > 1 => {
                lost = lost.or(Some(error.exit_status()));
                jobs.push(Waited::Lost(Failure::of(id.clone(), &error)));
            }
            Err(error) => return Err(error),
        }
    }
    let blocked = !request.through_blocked && statuses.contains(&Status::Blocked);
    let overall = overall(&statuses, request.any);
    let exit_status = match lost {
        _ if blocked => ExitStatus::Blocked,
        Some(lost) if !request.any && overall != ExitStatus::TimedOut => lost,
        _ => overall,
    };
    Ok(WaitAnswer { jobs, exit_status })
}

/// One number for several jobs: with `any`, what the ended ones say; else the time first, then a
/// failure, then a kill.
fn overall(statuses: &[Status], any: bool) -> ExitStatus {
    let mut ended = statuses.iter().copied().filter(|status| !status.is_live());
    if any {
        return ended.next().map_or(ExitStatus::TimedOut, exit_status_of);
    }
    let says = |wanted| statuses.iter().any(|status| exit_status_of(*status) == wanted);
    [ExitStatus::TimedOut, ExitStatus::Failed, ExitStatus::Killed]
        .into_iter()
        .find(|status| says(*status))
        .unwrap_or(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_tells_of_several_jobs() {
        use Status::{Completed, Failed, Killed, Running};
        for (statuses, all, any) in [
            (vec![Completed, Completed], ExitStatus::Done, ExitStatus::Done),
            (vec![Completed, Killed], ExitStatus::Killed, ExitStatus::Done),
            (vec![Killed, Failed], ExitStatus::Failed, ExitStatus::Killed),
            (vec![Running, Failed], ExitStatus::TimedOut, ExitStatus::Failed),
            (vec![Running, Running], ExitStatus::TimedOut, ExitStatus::TimedOut),
        ] {
            assert_eq!(overall(&statuses, false), all, "{statuses:?}");
            assert_eq!(overall(&statuses, true), any, "{statuses:?} any");
        }
    }
}
