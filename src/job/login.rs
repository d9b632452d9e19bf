//! The login that claude uses, as far as limits of the API depend on it.

use super::Timestamp;

/// Name of the limits of jobs whose login is not known.
pub const UNKNOWN_LOGIN: &str = "unknown";
/// Stands for a model that the caller left to claude.
const DEFAULT_MODEL: &str = "default";

/// A family of models for which the API has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFamily {
    /// Opus.
    Opus,
    /// Sonnet.
    Sonnet,
    /// Haiku.
    Haiku,
}

impl ModelFamily {
    /// The family that a model's id or alias (`claude-opus-4-5`, `opus[1m]`) or the type of a
    /// limit (`seven_day_opus`) names; `None` if it names none.
    pub fn named_in(text: &str) -> Option<Self> {
        let families = [Self::Opus, Self::Sonnet, Self::Haiku];
        let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
        words.find_map(|word| families.into_iter().find(|family| family.as_str() == word))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Sonnet => "sonnet",
            Self::Haiku => "haiku",
        }
    }
}

/// The login and the model of a job. The key tells logins apart and says nothing about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// A keyed hash of the login; `None` if it is not known, as of workers of earlier versions.
    pub key: Option<String>,
    /// The model that was asked for; `None` if that was left to claude.
    pub model: Option<ModelFamily>,
}

/// A limit of the API that a job has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitMet {
    /// When it ends, or when the job tries again.
    pub until: Timestamp,
    /// The models that it is for; `None`: all models of the login.
    pub model: Option<ModelFamily>,
}

impl Login {
    /// The names of the limits that this login and model run into.
    pub fn limits(&self) -> Vec<String> {
        match &self.key {
            Some(key) => vec![key.clone(), format!("{key}.{}", self.model_name())],
            None => vec![UNKNOWN_LOGIN.to_owned()],
        }
    }

    /// The names under which a limit is noted that a job with this login has met. A model that was
    /// left to claude may be any, so that jobs which leave it to claude, too, share the limit.
    pub fn limits_met(&self, model: Option<ModelFamily>) -> Vec<String> {
        let Some(key) = &self.key else { return Vec::new() };
        let Some(model) = model else { return vec![key.clone()] };
        let mut names = vec![format!("{key}.{}", model.as_str())];
        if self.model.is_none() {
            names.push(format!("{key}.{DEFAULT_MODEL}"));
        }
        names
    }

    /// The names of the limits that are over when this model of the login has answered.
    pub fn limits_lifted(&self, answered: Option<ModelFamily>) -> Vec<String> {
        let Some(key) = &self.key else { return Vec::new() };
        let mut names = self.limits();
        names.extend(answered.map(|model| format!("{key}.{}", model.as_str())));
        names
    }

    /// The model as one word.
    pub fn model_name(&self) -> &'static str {
        self.model.map_or(DEFAULT_MODEL, ModelFamily::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_named_by_a_word() {
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
            assert_eq!(ModelFamily::named_in(text), family, "{text}");
        }
    }

    #[test]
    fn a_limit_of_a_model_concerns_that_model() {
        let login = |model| Login { key: Some("k".to_owned()), model };
        let [opus, sonnet] = [ModelFamily::Opus, ModelFamily::Sonnet];
        let concerns =
            |met: &[String], model| login(model).limits().iter().any(|n| met.contains(n));
        let met = login(Some(opus)).limits_met(Some(opus));
        assert!(concerns(&met, Some(opus)) && !concerns(&met, Some(sonnet)));
        assert!(!concerns(&met, None));
        let met = login(None).limits_met(Some(opus));
        assert!(concerns(&met, Some(opus)) && concerns(&met, None));
        assert!(!concerns(&met, Some(sonnet)));
        let met = login(Some(opus)).limits_met(None);
        assert!(concerns(&met, Some(sonnet)) && concerns(&met, None));
        assert_eq!(login(None).limits_lifted(Some(opus)), ["k", "k.default", "k.opus"]);
        let other = Login { key: Some("other".to_owned()), model: None };
        assert!(!other.limits().iter().any(|name| met.contains(name)));
    }
}
