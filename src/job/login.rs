//! The login and model of a job, on which the limits of the API depend.

use super::Timestamp;

/// Name of the limit of jobs whose login is unknown.
pub(crate) const UNKNOWN_LOGIN_LIMIT: &str = "unknown";
/// Stands for claude's default model.
const DEFAULT_MODEL: &str = "default";

/// A family of models that has its own limits in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelFamily {
    Opus,
    Sonnet,
    Haiku,
}

impl ModelFamily {
    /// Finds the family in a model's id or alias (`claude-opus-4-5`, `opus[1m]`) or in the type of
    /// a limit (`seven_day_opus`).
    pub(crate) fn find_in(text: &str) -> Option<Self> {
        for word in text.split(|c: char| !c.is_ascii_alphabetic()) {
            match word {
                "opus" => return Some(Self::Opus),
                "sonnet" => return Some(Self::Sonnet),
                "haiku" => return Some(Self::Haiku),
                _ => {}
            }
        }
        None
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Sonnet => "sonnet",
            Self::Haiku => "haiku",
        }
    }
}

/// The login and the model of a job. The key distinguishes logins and reveals nothing about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// A keyed hash of the login; `None` if it is unknown, as with workers of earlier versions.
    pub key: Option<String>,
    /// The requested model; `None` for claude's default.
    pub model: Option<ModelFamily>,
}

/// A limit of the API that a job has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitMet {
    /// When the limit ends, or when the job tries again.
    pub until: Timestamp,
    /// The models to which it applies; `None` for all models of the login.
    pub model: Option<ModelFamily>,
}

impl Login {
    /// Returns the names of the limits that apply to this login and model.
    pub(crate) fn limit_names(&self) -> Vec<String> {
        match &self.key {
            Some(key) => vec![key.clone(), format!("{key}.{}", self.model_name())],
            None => vec![UNKNOWN_LOGIN_LIMIT.to_owned()],
        }
    }

    /// Returns the names under which a limit is recorded that a job with this login has met. The
    /// default model may be any, so that all jobs with the default model share the limit.
    pub(crate) fn limit_names_met(&self, model: Option<ModelFamily>) -> Vec<String> {
        let Some(key) = &self.key else { return Vec::new() };
        let Some(model) = model else { return vec![key.clone()] };
        let mut names = vec![format!("{key}.{}", model.as_str())];
        if self.model.is_none() {
            names.push(format!("{key}.{DEFAULT_MODEL}"));
        }
        names
    }

    /// Returns the names of the limits that are over when this model has answered the login.
    pub(crate) fn limit_names_lifted(&self, answered: Option<ModelFamily>) -> Vec<String> {
        let Some(key) = &self.key else { return Vec::new() };
        let mut names = self.limit_names();
        if let Some(model) = answered {
            names.push(format!("{key}.{}", model.as_str()));
        }
        names
    }

    /// Returns the model as one word.
    pub(crate) fn model_name(&self) -> &'static str {
        self.model.map_or(DEFAULT_MODEL, ModelFamily::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_family_in_a_name() {
        for (text, family) in [
            ("claude-opus-4-5-20251101", Some(ModelFamily::Opus)),
            ("us.anthropic.claude-sonnet-4-5-v1:0", Some(ModelFamily::Sonnet)),
            ("haiku", Some(ModelFamily::Haiku)),
            ("opus[1m]", Some(ModelFamily::Opus)),
            ("seven_day_opus", Some(ModelFamily::Opus)),
            ("seven_day", None),
            ("five_hour", None),
            ("opusplan", None),
            ("default", None),
            ("", None),
        ] {
            assert_eq!(ModelFamily::find_in(text), family, "{text}");
        }
    }

    #[test]
    fn a_limit_of_a_model_applies_to_that_model() {
        let login = |model| Login { key: Some("k".to_owned()), model };
        let [opus, sonnet] = [ModelFamily::Opus, ModelFamily::Sonnet];
        let concerns =
            |met: &[String], model| login(model).limit_names().iter().any(|n| met.contains(n));
        let met = login(Some(opus)).limit_names_met(Some(opus));
        assert!(concerns(&met, Some(opus)) && !concerns(&met, Some(sonnet)));
        assert!(!concerns(&met, None));
        let met = login(None).limit_names_met(Some(opus));
        assert!(concerns(&met, Some(opus)) && concerns(&met, None));
        assert!(!concerns(&met, Some(sonnet)));
        let met = login(Some(opus)).limit_names_met(None);
        assert!(concerns(&met, Some(sonnet)) && concerns(&met, None));
        assert_eq!(login(None).limit_names_lifted(Some(opus)), ["k", "k.default", "k.opus"]);
        let other = Login { key: Some("other".to_owned()), model: None };
        assert!(!other.limit_names().iter().any(|name| met.contains(name)));
    }
}
