//! Profiles: variables that a job gets instead of the caller's own, so that it uses another login.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Env;
use crate::job::Spec;
use crate::own_file::{self, ANY_BY_OTHERS, UnusableFile};

/// The environment of a profile. Only its name is stored in a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Claude's configuration directory, which has its login, settings and sessions.
    pub config_dir: Option<PathBuf>,
    /// A file with a variable in each line.
    pub env_file: Option<PathBuf>,
}

/// A profile that cannot be used.
#[derive(Debug)]
pub(crate) enum ProfileError {
    /// There is no profile of this name among these.
    Unknown(String, Vec<String>),
    /// The file with its variables cannot be used.
    BadFile(PathBuf, UnusableFile),
}

impl Env {
    /// Returns this environment with the variables of the profile, if one is named.
    pub(crate) fn with_profile(&self, name: Option<&str>) -> Result<Cow<'_, Self>, ProfileError> {
        let Some(name) = name else { return Ok(Cow::Borrowed(self)) };
        let Some(profile) = self.profiles.get(name) else {
            let known = self.profiles.keys().cloned().collect();
            return Err(ProfileError::Unknown(name.to_owned(), known));
        };
        let mut env = self.clone();
        if let Some(dir) = &profile.config_dir {
            env.set("CLAUDE_CONFIG_DIR".into(), dir.into());
        }
        if let Some(file) = &profile.env_file {
            env.read_env_file(file)?;
        }
        Ok(Cow::Owned(env))
    }

    /// Returns the environment of a job: this one with its profile and its file of variables.
    pub(crate) fn for_job(&self, spec: &Spec) -> Result<Cow<'_, Self>, ProfileError> {
        let env = self.with_profile(spec.profile.as_deref())?;
        let Some(file) = spec.engine.as_ref().and_then(|engine| engine.env_file.as_deref()) else {
            return Ok(env);
        };
        let mut env = env.into_owned();
        env.read_env_file(Path::new(file))?;
        Ok(Cow::Owned(env))
    }

    /// Returns the variables that a profile or a file has set.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.profile_variables.iter().filter_map(|name| self.variables.get_key_value(name))
    }

    /// Whether the variable was set by a profile or by a file.
    pub(crate) fn is_from_file(&self, name: &str) -> bool {
        self.profile_variables.iter().any(|set| set == name)
    }

    fn read_env_file(&mut self, file: &Path) -> Result<(), ProfileError> {
        let unusable = |error| ProfileError::BadFile(file.to_owned(), error);
        for (name, value) in read_variables(file).map_err(unusable)? {
            self.set(name.into(), value.into());
        }
        Ok(())
    }

    fn set(&mut self, name: OsString, value: OsString) {
        self.profile_variables.push(name.clone());
        self.variables.insert(name, value);
    }
}

/// Reads the variables of a file that is the user's own.
fn read_variables(file: &Path) -> Result<Vec<(String, String)>, UnusableFile> {
    let unusable = |why: String| UnusableFile { why, hint: String::new() };
    match own_file::read(file, ANY_BY_OTHERS)? {
        Some(text) => parse_variables(&text).map_err(unusable),
        None => Err(unusable("there is no such file".to_owned())),
    }
}

/// Parses lines `NAME=VALUE`. A value may be in quotes, and is taken literally. The error does not
/// quote a line, which may be secret.
fn parse_variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {} is not NAME=VALUE", at + 1));
        };
        let (name, value) = (name.trim_end(), unquoted(value.trim_start()));
        if !is_variable_name(name) || value.contains('\0') {
            return Err(format!("line {} is not NAME=VALUE", at + 1));
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

/// Returns whether the text can be the name of a variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_variables() {
        let text = "# key\n\nA=1\nB = \"x # y\"\r\nC='$A'\nD=\nE=a=b\n F=\"\n";
        let parsed = parse_variables(text).unwrap();
        let parsed: Vec<(&str, &str)> =
            parsed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("A", "1"), ("B", "x # y"), ("C", "$A"), ("D", ""), ("E", "a=b"), ("F", "\"")];
        assert_eq!(parsed, expected);
        for bad in ["A", "=x", "1A=x", "export A=x", "A-B=x", "A=\0"] {
            let error = parse_variables(&format!("X=1\n{bad}")).unwrap_err();
            assert_eq!(error, "line 2 is not NAME=VALUE", "{bad:?}");
        }
    }
}
