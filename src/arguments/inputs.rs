//! Texts, files and paths among the arguments.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// Reads a text from an argument, from stdin (`-`) or from a file. Of stdin and files at most
/// `max_bytes` + 1 bytes are read: enough for the caller to see that the text is too long.
pub(crate) fn read_text(
    arg: Option<&str>,
    file: Option<&Path>,
    max_bytes: usize,
) -> Result<Vec<u8>, Error> {
    let read = |source: &mut dyn Read, from: String| {
        let mut text = Vec::new();
        let read = source.take(max_bytes as u64 + 1).read_to_end(&mut text);
        read.map_err(|error| Error::PromptUnreadable(from, error))?;
        Ok(text)
    };
    match (arg, file) {
        (Some("-"), _) => read(&mut std::io::stdin().lock(), "stdin".to_owned()),
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(file)) => {
            let from = file.display().to_string();
            match fs::File::open(file) {
                Ok(mut opened) => read(&mut opened, from),
                Err(error) => Err(Error::PromptUnreadable(from, error)),
            }
        }
        // Only a replay needs no prompt.
        (None, None) => Ok(b"(a recording is replayed)".to_vec()),
    }
}

pub(crate) fn cwd(dir: Option<&Path>) -> Result<String, Error> {
    let path = match dir {
        Some(path) => absolute(path)?,
        None => std::env::current_dir()
            .map_err(|error| Error::BadCwd(PathBuf::from("."), error.to_string()))?,
    };
    match path.into_os_string().into_string() {
        Ok(path) => Ok(path),
        Err(path) => Err(Error::BadCwd(path.into(), "the path is not UTF-8".to_owned())),
    }
}

/// Makes a path absolute, so that it is valid in the job's working directory. A path with `..` is
/// resolved if it exists.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::Usage(format!("invalid path '{}': {error}", path.display())))?;
    if path.components().any(|part| part == Component::ParentDir)
        && let Ok(resolved) = fs::canonicalize(&path)
    {
        return Ok(resolved);
    }
    Ok(path)
}

/// Returns the absolute path of a program, args as a path or, as in a shell, as a name on PATH.
pub(crate) fn program(path: &Path) -> Result<PathBuf, Error> {
    if path.components().count() == 1 && !path.exists() {
        let directories = std::env::var_os("PATH").unwrap_or_default();
        if let Some(found) = crate::claude::programs_on_path(path, directories).next() {
            return absolute(&found);
        }
    }
    absolute(path)
}

pub(crate) fn text(path: PathBuf) -> Result<String, Error> {
    let not_utf8 =
        |path| Error::Usage(format!("path is not UTF-8: {}", Path::new(&path).display()));
    path.into_os_string().into_string().map_err(not_utf8)
}

/// Returns JSON unchanged, and a file as its absolute path.
pub(crate) fn file_or_json(arg: &str) -> Result<String, Error> {
    if arg.trim_start().starts_with('{') {
        return Ok(arg.to_owned());
    }
    let path = absolute(Path::new(arg))?;
    if path.is_file() {
        text(path)
    } else {
        Err(Error::Usage(format!("not a file or JSON object: '{}'", arg.escape_debug())))
    }
}

pub(crate) fn schema(arg: &str) -> Result<String, Error> {
    let text = if arg.trim_start().starts_with('{') {
        arg.to_owned()
    } else {
        fs::read_to_string(arg).map_err(|error| {
            Error::Usage(format!(
                "could not read the JSON schema '{}': {error}",
                arg.escape_debug()
            ))
        })?
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(Error::Usage("the JSON schema is not an object".to_owned())),
        Err(error) => Err(Error::Usage(format!("the JSON schema is not valid JSON: {error}"))),
    }
}
