//! The files that OpenClaw reads of claudejob: the skill, which Claude Code reads, too, and the hook.
//! They are part of the program.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the hook.
pub(crate) const HOOK: &str = "claudejob-recover";

/// A file of the skill or the hook.
#[derive(Debug)]
pub(crate) struct BundledFile {
    /// Its folder, below the directory of the program.
    folder: &'static str,
    name: &'static str,
    text: &'static str,
    /// The file of the folder that has its name in the front matter.
    manifest: &'static str,
}

/// The skill, which is below a directory of the same form in OpenClaw and Claude Code.
pub(crate) const SKILL: BundledFile = BundledFile {
    folder: "skills/claudejob",
    name: "SKILL.md",
    text: include_str!("../../SKILL.md"),
    manifest: "SKILL.md",
};

/// The files of OpenClaw in the order in which they are written. A manifest comes before the other files of its
/// folder, which are known by it.
pub(crate) const FILES: [BundledFile; 3] = [
    SKILL,
    BundledFile {
        folder: "hooks/claudejob-recover",
        name: "HOOK.md",
        text: include_str!("../../packaging/openclaw/claudejob-recover/HOOK.md"),
        manifest: "HOOK.md",
    },
    BundledFile {
        folder: "hooks/claudejob-recover",
        name: "handler.js",
        text: include_str!("../../packaging/openclaw/claudejob-recover/handler.js"),
        manifest: "HOOK.md",
    },
];

/// How a file differs from the one in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// It is the same.
    Current,
    /// There is none.
    Missing,
    /// It is of another version, or was edited.
    Outdated,
    /// It is not a file of claudejob; with the reason.
    Foreign(String),
}

impl BundledFile {
    /// Returns the path of the file.
    pub(crate) fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(self.folder).join(self.name)
    }

    /// Compares the file with the one in the program.
    pub(crate) fn state(&self, state_dir: &Path) -> FileState {
        let folder = state_dir.join(self.folder);
        if folder.is_symlink() {
            return FileState::Foreign("its folder is a symbolic link".to_owned());
        }
        if folder.exists() && !folder.is_dir() {
            return FileState::Foreign("its folder is not a directory".to_owned());
        }
        let path = folder.join(self.name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.if_own(&folder, FileState::Missing);
            }
            Err(error) => return FileState::Foreign(error.to_string()),
            Ok(about) if about.is_symlink() => {
                return FileState::Foreign("it is a symbolic link".to_owned());
            }
            Ok(about) if !about.is_file() => {
                return FileState::Foreign("it is not a regular file".to_owned());
            }
            Ok(_) => {}
        }
        match fs::read(&path) {
            Ok(text) if text == self.text.as_bytes() => FileState::Current,
            Ok(_) => self.if_own(&folder, FileState::Outdated),
            Err(error) => FileState::Foreign(error.to_string()),
        }
    }

    /// Returns the state if the folder is claudejob's: it has the name in the manifest, or no file is there
    /// to be replaced.
    fn if_own(&self, folder: &Path, state: FileState) -> FileState {
        let manifest = match fs::read(folder.join(self.manifest)) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(_) if !self.has_other_files(folder) => return state,
            Err(_) => String::new(),
        };
        let own = Path::new(self.folder).file_name().unwrap_or_default();
        match name_of(&manifest) {
            Some(name) if own == name => state,
            Some(name) => FileState::Foreign(format!("its folder belongs to '{name}'")),
            None => FileState::Foreign(format!("no {} names its owner", self.manifest)),
        }
    }

    /// Whether the folder has a file with a name of claudejob's files and another text.
    fn has_other_files(&self, folder: &Path) -> bool {
        FILES.iter().any(|file| {
            let path = folder.join(file.name);
            let is_other = || fs::read(&path).ok().as_deref() != Some(file.text.as_bytes());
            file.folder == self.folder && (path.is_symlink() || path.exists()) && is_other()
        })
    }

    /// Writes the file, and replaces one of another version at once.
    ///
    /// # Errors
    /// The file could not be written; what was there is unchanged.
    pub(crate) fn write(&self, state_dir: &Path) -> io::Result<()> {
        let path = self.path(state_dir);
        let folder = state_dir.join(self.folder);
        fs::create_dir_all(&folder)?;
        let temporary = folder.join(format!(".claudejob-{}.tmp", uuid::Uuid::new_v4()));
        let written = self.write_to(&temporary).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(self.text.as_bytes())?;
        file.sync_data()
    }
}

/// Returns the name in the front matter of a skill or hook.
fn name_of(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    for line in lines.take_while(|line| line.trim_end() != "---") {
        if let Some(name) = line.strip_prefix("name:") {
            return Some(name.trim().trim_matches(['"', '\'']));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_files() {
        for (text, expected) in [
            (FILES[0].text, Some("claudejob")),
            (FILES[1].text, Some(HOOK)),
            ("---\nname: \"a b\"\n---\n", Some("a b")),
            ("---\ndescription: x\n---\nname: claudejob\n", None),
            ("name: claudejob\n", None),
            ("", None),
        ] {
            assert_eq!(name_of(text), expected, "{text}");
        }
        assert_eq!(Path::new(FILES[1].folder).file_name().unwrap(), HOOK);
    }
}
