//! Writing a prompt with the user's editor.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::read_file;
use crate::claude::Env;
use crate::commands::start::MAX_PROMPT_BYTES;
use crate::error::Error;
use crate::process::run_in_foreground;

/// Variables that name the editor, the first one first.
const VARIABLES: [&str; 2] = ["VISUAL", "EDITOR"];
/// The editor if no variable names one.
const DEFAULT_EDITOR: &str = "vi";

/// Opens an empty file in the editor, and returns what was written to it.
pub(super) fn read_prompt(env: &Env) -> Result<Vec<u8>, Error> {
    let editor = VARIABLES.iter().find_map(|name| env.get(name)?.to_str());
    let editor = editor.unwrap_or(DEFAULT_EDITOR);
    let failed = |why: String| Error::EditorFailed(editor.to_owned(), why);
    let file = PromptFile::create().map_err(|error| failed(error.to_string()))?;
    // As git and others do: the variable may contain arguments.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {editor} \"$@\""), editor]).arg(&file.0);
    let status = run_in_foreground(&mut command).map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    read_file(&file.0, MAX_PROMPT_BYTES)
}

/// An empty file for the editor, which is removed when dropped.
struct PromptFile(PathBuf);

impl PromptFile {
    fn create() -> io::Result<Self> {
        let name = format!("claudejob-{}.md", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PromptFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new(&self.0));
    }
}
