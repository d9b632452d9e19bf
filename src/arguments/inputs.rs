//! Texts, files and paths among the arguments.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// Reads a text from an argument, or from stdin (`-`). Of stdin and files at most `max_bytes` + 1
/// bytes are read: enough for the caller to see that the text is too long.
pub(crate) fn read_text(arg: &str, max_bytes: usize) -> Result<Vec<u8>, Error> {
    if arg == "-" { read_stdin(max_bytes) } else { Ok(arg.as_bytes().to_vec()) }
}

pub(crate) fn read_stdin(max_bytes: usize) -> Result<Vec<u8>, Error> {
    read_at_most(std::io::stdin().lock(), max_bytes)
        .map_err(|error| Error::PromptUnreadable("stdin".to_owned(), error))
}

pub(crate) fn read_file(path: &Path, max_bytes: usize) -> Result<Vec<u8>, Error> {
    fs::File::open(path)
        .and_then(|file| read_at_most(file, max_bytes))
        .map_err(|error| Error::PromptUnreadable(path.display().to_string(), error))
}

fn read_at_most(source: impl Read, max_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(max_bytes as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
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
    match path.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(path) => {
            Err(Error::Usage(format!("path is not UTF-8: {}", Path::new(&path).display())))
        }
    }
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
