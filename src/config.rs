//! The configuration file: defaults of options, and profiles.
//!
//! Only one file is read, and it is the user's own: no file of a project, no variable and no option
//! can bring in options, commands or programs from elsewhere.

mod keys;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use toml::de::{DeTable, DeValue};

use crate::claude::{Profile, ProfileError};
use crate::error::Error;
use crate::own_file::{self, WRITE_BY_OTHERS};
use crate::text::one_line;
use keys::{CONFIG_DIR, DEFAULT_PROFILE, ENV_FILE, IN_PROFILE, JOBS_DIR, Kind, PROFILE, TOP_LEVEL};

/// Maximum length of a message of the parser.
const MAX_CHARS: usize = 300;

/// The content of the configuration file; empty if there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserConfig {
    path: PathBuf,
    /// Options of each job.
    options: Vec<Setting>,
    /// The jobs directory of each verb.
    pub(crate) jobs_dir: Option<PathBuf>,
    default_profile: Option<Setting>,
    profiles: BTreeMap<String, ProfileSettings>,
}

/// An option that the file sets.
#[derive(Clone, Debug)]
struct Setting {
    /// The name of the option without its dashes.
    key: &'static str,
    /// The values, as arguments. They are leaked: the parser keeps its defaults for ever.
    values: Vec<&'static str>,
    line: usize,
}

#[derive(Clone, Debug, Default)]
struct ProfileSettings {
    options: Vec<Setting>,
    environment: Profile,
}

/// Options that replace the defaults of a verb.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    options: Vec<Setting>,
}

impl UserConfig {
    /// Reads the file of the user; empty if there is none.
    pub(crate) fn load() -> Result<Self, Error> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let mut config = Self { path, ..Self::default() };
        match own_file::read(&config.path, WRITE_BY_OTHERS) {
            Ok(None) => {}
            Ok(Some(text)) => config.parse(&text)?,
            Err(error) => return Err(Error::from_unusable_file(&config.path, error)),
        }
        Ok(config)
    }

    /// Returns the options of a job with the given profile, or else with the default one.
    pub(crate) fn defaults(&self, profile: Option<&str>) -> Result<Defaults, Error> {
        let mut options = self.options.clone();
        let default = self.default_profile.as_ref();
        let by_default = default.and_then(|setting| setting.values.first().copied());
        if let Some(name) = profile.or(by_default) {
            let Some(profile) = self.profiles.get(name) else {
                return Err(self.unknown_profile(name));
            };
            options.retain(|option| !profile.options.iter().any(|new| new.key == option.key));
            options.extend(profile.options.iter().cloned());
        }
        options.extend(default.cloned());
        Ok(Defaults { options })
    }

    /// Returns the environments of the profiles.
    pub(crate) fn profiles(&self) -> BTreeMap<String, Profile> {
        let mut profiles = BTreeMap::new();
        for (name, settings) in &self.profiles {
            profiles.insert(name.clone(), settings.environment.clone());
        }
        profiles
    }

    /// Returns the error for a name that no profile has.
    fn unknown_profile(&self, name: &str) -> Error {
        ProfileError::Unknown(name.to_owned(), self.profiles.keys().cloned().collect()).into()
    }

    /// Returns the error for a value that the option's parser has refused.
    pub(crate) fn refused(&self, defaults: &Defaults, error: &clap::Error) -> Error {
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        let mut message = message.strip_prefix("error: ").unwrap_or(message).to_owned();
        let mut line = 0;
        if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) {
            for setting in &defaults.options {
                let rest = argument.strip_prefix("--").and_then(|a| a.strip_prefix(setting.key));
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=', '['])) {
                    message = message.replace(argument, setting.key);
                    line = setting.line;
                }
            }
        }
        self.error_at(line, one_line(&message, MAX_CHARS), "")
    }

    /// Returns the error for a line, or for the file as a whole if the line is 0.
    fn error_at(&self, line: usize, why: String, hint: &str) -> Error {
        let mut place = self.path.display().to_string();
        if line > 0 {
            place.push_str(&format!(", line {line}"));
        }
        let hint = match hint {
            "" => "correct the file, or ignore it with --no-config".to_owned(),
            hint => hint.to_owned(),
        };
        Error::BadConfig { place, why, hint }
    }

    fn parse(&mut self, text: &str) -> Result<(), Error> {
        let parsed = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            self.error_at(line, one_line(error.message(), MAX_CHARS), "")
        })?;
        let top = parsed.get_ref();
        for (key, value) in top.iter() {
            let entry = Entry::new(text, key.span().start, key.get_ref(), value.get_ref());
            match (entry.key, entry.value) {
                (PROFILE, DeValue::Table(profiles)) => self.add_profiles(text, profiles)?,
                (PROFILE, _) => {
                    let why = "'profile' is a table: [profile.NAME]; the default one is \
                        'default-profile'";
                    return Err(self.error_at(entry.line, why.to_owned(), ""));
                }
                (JOBS_DIR, _) => self.jobs_dir = self.path(&entry)?,
                (DEFAULT_PROFILE, _) => {
                    let setting = self.setting(PROFILE, Kind::Text, &entry)?;
                    self.default_profile = Some(setting);
                }
                _ => self.options.push(self.option(&entry, &TOP_LEVEL)?),
            }
        }
        if let Some(setting) = &self.default_profile
            && let Some(name) = setting.values.first()
            && !self.profiles.contains_key(*name)
        {
            let why = format!("there is no profile '{}'", name.escape_debug());
            return Err(self.error_at(setting.line, why, ""));
        }
        Ok(())
    }

    fn add_profiles(&mut self, text: &str, profiles: &DeTable<'_>) -> Result<(), Error> {
        for (name, table) in profiles.iter() {
            let line = line_of(text, name.span().start);
            let name = name.get_ref().as_ref();
            if !is_profile_name(name) {
                let why = format!(
                    "invalid profile name '{}': use letters, digits, '_' and '-'",
                    name.escape_debug()
                );
                return Err(self.error_at(line, why, ""));
            }
            let DeValue::Table(table) = table.get_ref() else {
                let why = format!("a profile is a table: [profile.{name}]");
                return Err(self.error_at(line, why, ""));
            };
            let profile = self.profile(text, table)?;
            self.profiles.insert(name.to_owned(), profile);
        }
        Ok(())
    }

    fn profile(&self, text: &str, table: &DeTable<'_>) -> Result<ProfileSettings, Error> {
        let mut profile = ProfileSettings::default();
        for (key, value) in table.iter() {
            let entry = Entry::new(text, key.span().start, key.get_ref(), value.get_ref());
            match entry.key {
                CONFIG_DIR => {
                    profile.environment.config_dir = self.path(&entry)?;
                }
                ENV_FILE => profile.environment.env_file = self.path(&entry)?,
                _ => profile.options.push(self.option(&entry, &IN_PROFILE)?),
            }
        }
        Ok(profile)
    }

    fn path(&self, entry: &Entry<'_>) -> Result<Option<PathBuf>, Error> {
        let texts = keys::texts(entry.key, Kind::Path, entry.value);
        let texts = texts.map_err(|why| self.error_at(entry.line, why, ""))?;
        Ok(texts.into_iter().next().map(PathBuf::from))
    }

    /// Returns an entry as an option. `others`: the keys beside the options.
    fn option(&self, entry: &Entry<'_>, others: &[&'static str]) -> Result<Setting, Error> {
        let Some((key, kind)) = keys::option(entry.key) else {
            let why = format!("unknown key '{}'", entry.key.escape_debug());
            let hint = match keys::nearest(entry.key, others) {
                Some(near) => format!("did you mean '{near}'? (--no-config ignores the file)"),
                None => String::new(),
            };
            return Err(self.error_at(entry.line, why, &hint));
        };
        self.setting(key, kind, entry)
    }

    fn setting(&self, key: &'static str, kind: Kind, entry: &Entry<'_>) -> Result<Setting, Error> {
        let texts = keys::texts(entry.key, kind, entry.value);
        let texts = texts.map_err(|why| self.error_at(entry.line, why, ""))?;
        let mut values = Vec::new();
        for text in texts {
            values.push(&*text.leak());
        }
        Ok(Setting { key, values, line: entry.line })
    }
}

impl Defaults {
    pub(crate) fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Replaces the defaults of a verb's options. Arguments and variables prevail over them.
    pub(crate) fn apply(&self, command: Command) -> Command {
        if self.is_empty() {
            return command;
        }
        command.mut_args(|arg| {
            for setting in &self.options {
                if arg.get_long() == Some(setting.key) {
                    return arg.default_values(setting.values.iter().copied());
                }
            }
            arg
        })
    }
}

/// A key with its value and line.
struct Entry<'a> {
    key: &'a str,
    value: &'a DeValue<'a>,
    line: usize,
}

impl<'a> Entry<'a> {
    fn new(text: &str, at: usize, key: &'a str, value: &'a DeValue<'a>) -> Self {
        Self { key, value, line: line_of(text, at) }
    }
}

/// Returns the path of the user's configuration file; `None` if the variables name no absolute one.
fn path() -> Option<PathBuf> {
    for (variable, directory) in [("XDG_CONFIG_HOME", ""), ("HOME", ".config")] {
        let base = PathBuf::from(env::var_os(variable).unwrap_or_default());
        if base.is_absolute() {
            return Some(base.join(directory).join("claudejob/config.toml"));
        }
    }
    None
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    memchr::memchr_iter(b'\n', before).count() + 1
}

fn is_profile_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= 40 && !name.starts_with('-') && name.chars().all(is_allowed)
}
