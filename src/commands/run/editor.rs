//! Writing a prompt with the user's editor.

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::arguments::read_file;
use crate::claude::Env;
use crate::commands::start::MAX_PROMPT_BYTES;
use crate::error::Error;
use crate::output::print_note;
use crate::process::run_in_foreground;
use crate::text::shell_quote;

/// Variables that name the editor, the first one first.
const VARIABLES: [&str; 2] = ["VISUAL", "EDITOR"];
/// The editor if no variable names one.
const DEFAULT_EDITOR: &str = "vi";

/// Opens an empty file in the editor, and returns what was written to it.
pub(super) fn read_prompt(env: &Env) -> Result<(Vec<u8>, PromptFile), Error> {
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
    Ok((read_file(&file.0, MAX_PROMPT_BYTES)?, file))
}

/// A file for the editor, which is empty at first. Dropping it removes it if it is blank; else it is
/// kept, so that a text is not lost whose job could not be started.
pub(super) struct PromptFile(PathBuf);

impl PromptFile {
    fn create() -> io::Result<Self> {
        let name = format!("claudejob-{}.md", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    /// Removes the file, whose text is in the job now.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.0);
    }

    fn is_blank(&self) -> bool {
        let Ok(file) = fs::File::open(&self.0) else { return true };
        let mut bytes = BufReader::new(file).bytes();
        bytes.all(|byte| byte.is_ok_and(|byte| byte.is_ascii_whitespace()))
    }
}

impl Drop for PromptFile {
    fn drop(&mut self) {
        if self.is_blank() {
            let _ = fs::remove_file(&self.0);
        } else {
            let path = shell_quote(&self.0.to_string_lossy());
            print_note(&format!("The prompt is kept: claudejob run -f {path}\n"));
        }
    }
}
