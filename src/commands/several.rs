//! Answers about several jobs.

use serde::{Serialize, Serializer};

use super::selecting::Selected;
use super::shortened::ArrayLimit;
use super::{markdown, naming};
use crate::error::{Error, ExitStatus, NOT_FOUND};
use crate::job::JobId;
use crate::output::{Answer, BOLD, RED, painted, push_hint, push_marked};
use crate::store::{Store, addressed};

/// The failure of one job in a call for several jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailedJob {
    /// The job's id.
    pub job_id: JobId,
    /// `not_found` if there is no such job; else null.
    pub status: Option<&'static str>,
    /// Error message.
    pub error: String,
    /// Stable code of the error.
    pub code: &'static str,
    /// How to resolve the error.
    pub hint: Option<String>,
    #[serde(skip)]
    pub exit_status: ExitStatus,
}

impl FailedJob {
    pub(super) fn new(store: &Store, job_id: JobId, error: &Error) -> Self {
        Self {
            job_id,
            status: if matches!(error, Error::NotFound(_)) { Some(NOT_FOUND) } else { None },
            error: error.to_string(),
            code: error.code(),
            hint: naming::hint(store, error).map(|hint| addressed(store.root(), hint)),
            exit_status: error.exit_status(),
        }
    }

    /// Appends the failure to a text that does not name the job otherwise.
    pub(super) fn push_to(&self, text: &mut String) {
        let names_job = self.error.contains(self.job_id.as_str());
        let error =
            if names_job { self.error.clone() } else { format!("{}: {}", self.job_id, self.error) };
        push_marked(text, RED.bold(), "error:", &error);
        push_hint(text, self.hint.as_deref());
    }
}

/// Returns the failures as text.
pub(super) fn failures<'a>(failed: impl IntoIterator<Item = &'a FailedJob>) -> String {
    let mut text = String::new();
    for failed in failed {
        failed.push_to(&mut text);
    }
    text
}

/// The answers about the jobs of a call: one answer, or an array if the call asks for several
/// jobs.
#[derive(Debug)]
pub(crate) struct Several<T> {
    jobs: Vec<(JobId, Result<T, FailedJob>)>,
    is_several: bool,
    has_headings: bool,
    limit: Option<ArrayLimit>,
}

impl<T> Several<T> {
    /// Returns the answers of `answer` about the selected jobs. A job that fails is one of them, and
    /// an error only if the call asks for nothing else.
    pub(super) fn of(
        store: &Store,
        selected: Selected,
        mut answer: impl FnMut(&JobId) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let is_several = selected.is_several();
        let mut jobs = Vec::new();
        for id in selected.ids {
            let result = match answer(&id) {
                Err(error) if !is_several => return Err(error),
                Err(error) => Err(FailedJob::new(store, id.clone(), &error)),
                Ok(answer) => Ok(answer),
            };
            jobs.push((id, result));
        }
        Ok(Self { jobs, is_several, has_headings: false, limit: None })
    }

    /// Heads each text with the job's id, if the call asks for several jobs.
    pub(super) fn with_headings(self) -> Self {
        Self { has_headings: true, ..self }
    }

    /// Limits the length of the answer, if the call asks for several jobs.
    pub(super) fn within(self, limit: Option<ArrayLimit>) -> Self {
        Self { limit, ..self }
    }
}

impl<T: Serialize> Serialize for Several<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.jobs.as_slice() {
            [(_, Ok(answer))] if !self.is_several => answer.serialize(serializer),
            jobs => {
                let elements: Vec<Element<T>> =
                    jobs.iter().map(|(_, result)| Element(result)).collect();
                match &self.limit {
                    Some(limit) => limit.serialize(&elements, serializer),
                    None => serializer.collect_seq(&elements),
                }
            }
        }
    }
}

/// An element of the array.
struct Element<'a, T>(&'a Result<T, FailedJob>);

impl<T: Serialize> Serialize for Element<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(answer) => answer.serialize(serializer),
            Err(failed) => failed.serialize(serializer),
        }
    }
}

impl<T: Answer> Several<T> {
    fn answers(&self) -> impl Iterator<Item = &T> {
        self.jobs.iter().filter_map(|(_, result)| result.as_ref().ok())
    }
}

impl<T: Answer + Serialize> Answer for Several<T> {
    fn text(&self) -> String {
        if self.jobs.is_empty() {
            return "No job matches.\n".to_owned();
        }
        let mut texts = Vec::new();
        for (id, result) in &self.jobs {
            let mut text = String::new();
            if self.has_headings && self.is_several {
                if !texts.is_empty() {
                    text.push('\n');
                }
                text += &painted(BOLD, &format!("==> {id} <=="));
                text.push('\n');
            }
            match result {
                Ok(answer) => text += &answer.text(),
                Err(failed) => failed.push_to(&mut text),
            }
            texts.push(text);
        }
        match &self.limit {
            Some(limit) if self.is_several => limit.join(&texts),
            _ => texts.concat(),
        }
    }

    fn quiet(&self) -> Option<String> {
        let texts: Option<Vec<String>> = self.answers().map(Answer::quiet).collect();
        texts.map(|texts| texts.concat())
    }

    fn markdown(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (id, result) in &self.jobs {
            parts.push(match result {
                Ok(answer) => answer.markdown()?,
                Err(failed) => markdown::failed(id, &failed.error),
            });
        }
        Some(parts.join("\n"))
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        let ids: Option<Vec<Vec<JobId>>> = self.answers().map(Answer::ids).collect();
        ids.map(|ids| ids.concat())
    }

    fn failures(&self) -> String {
        let mut text: String = self.answers().map(Answer::failures).collect();
        text += &failures(self.jobs.iter().filter_map(|(_, result)| result.as_ref().err()));
        text
    }

    fn raw(&self) -> Option<&[u8]> {
        match self.jobs.as_slice() {
            [(_, Ok(answer))] => answer.raw(),
            _ => None,
        }
    }

    fn exit_status(&self) -> ExitStatus {
        let mut statuses = Vec::new();
        for (_, result) in &self.jobs {
            statuses.push(match result {
                Ok(answer) => answer.exit_status(),
                Err(failed) => failed.exit_status,
            });
        }
        first_exit_status(&statuses).unwrap_or(ExitStatus::Done)
    }
}

#[cfg(test)]
use super::shortened::{OmittedJobs, ShortenedJob};

#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Several<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Several{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<T>();
        let element = [
            &one,
            &generator.subschema_for::<FailedJob>(),
            &generator.subschema_for::<ShortenedJob>(),
            &generator.subschema_for::<OmittedJobs>(),
        ];
        schemars::json_schema!({
            "description": "The answer for one job, or an array if the call asks for several \
                jobs: by two different ids or by a selection.",
            "anyOf": [one, { "type": "array", "items": { "anyOf": element } }],
        })
    }
}

/// Returns the exit status of a call for several jobs with these statuses: the first that applies
/// in a fixed order; `None` if none of them does.
pub(super) fn first_exit_status(statuses: &[ExitStatus]) -> Option<ExitStatus> {
    const ORDER: [ExitStatus; 6] = [
        ExitStatus::NotFound,
        ExitStatus::Killed,
        ExitStatus::Failed,
        ExitStatus::TryAgain,
        ExitStatus::Blocked,
        ExitStatus::Done,
    ];
    ORDER.into_iter().find(|status| statuses.contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fine(ExitStatus);

    impl Serialize for Fine {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str("fine")
        }
    }

    impl Answer for Fine {
        fn text(&self) -> String {
            "fine\n".to_owned()
        }

        fn exit_status(&self) -> ExitStatus {
            self.0
        }
    }

    fn failed(exit_status: ExitStatus) -> FailedJob {
        let (error, code) = ("wrong".to_owned(), "busy");
        let job_id = JobId::parse("x").unwrap();
        FailedJob { job_id, status: None, error, code, hint: None, exit_status }
    }

    #[test]
    fn exit_status_is_the_first_that_applies() {
        use ExitStatus::{Blocked, Done, Failed, Killed, NotFound, TryAgain};
        for (statuses, failures, first) in [
            (vec![], vec![], Done),
            (vec![Done, Done], vec![], Done),
            (vec![Done, Failed], vec![], Failed),
            (vec![Done, Blocked], vec![], Blocked),
            (vec![Done], vec![TryAgain], TryAgain),
            (vec![Done, Failed], vec![TryAgain], Failed),
            (vec![Failed, Killed], vec![], Killed),
            (vec![Done, Killed, Failed], vec![TryAgain, NotFound], NotFound),
        ] {
            let id = JobId::parse("x").unwrap();
            let mut jobs = Vec::new();
            for status in &statuses {
                jobs.push((id.clone(), Ok(Fine(*status))));
            }
            for status in &failures {
                jobs.push((id.clone(), Err(failed(*status))));
            }
            let answer = Several { jobs, is_several: true, has_headings: false, limit: None };
            assert_eq!(answer.exit_status(), first, "{statuses:?} {failures:?}");
        }
    }

    #[test]
    fn shape_depends_on_the_call() {
        for (count, is_several, json) in [
            (1, false, "\"fine\""),
            (0, true, "[]"),
            (1, true, "[\"fine\"]"),
            (2, true, "[\"fine\",\"fine\"]"),
        ] {
            let id = JobId::parse("x").unwrap();
            let mut jobs = Vec::new();
            jobs.resize_with(count, || (id.clone(), Ok(Fine(ExitStatus::Done))));
            let answer = Several { jobs, is_several, has_headings: false, limit: None };
            assert_eq!(serde_json::to_string(&answer).unwrap(), json);
        }
    }
}
