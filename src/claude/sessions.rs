//! The files of claude's sessions: `projects/DIRECTORY/SESSION.jsonl` in its config directory.
//!
//! Observed with 2.1.197 and 2.1.332: DIRECTORY is the working directory with links resolved and
//! each character except ASCII letters and digits replaced by a dash; if it is longer than 200, it
//! is truncated and a hash is appended. With `--worktree` it is the directory of the worktree.
//! 2.1.332 also continues a session of another directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::Env;
use super::settings::config_dir;

/// Returns the file of the session, which was begun in `cwd` or below it. `None` if there is none
/// where claude would look for it in this environment.
pub(crate) fn session_file(env: &Env, cwd: &str, session: &str) -> Option<PathBuf> {
    if session.is_empty() || !session.chars().all(is_plain) {
        return None;
    }
    let projects = std::path::absolute(config_dir(env)?).ok()?.join("projects");
    let name = format!("{session}.jsonl");
    let expected = projects.join(project_dir_name(cwd)).join(&name);
    if expected.is_file() {
        return Some(expected);
    }
    for dir in fs::read_dir(projects).ok()?.flatten() {
        let file = dir.path().join(&name);
        if file.is_file() {
            return Some(file);
        }
    }
    None
}

/// Returns whether a session id may contain the character: with others it could be a path.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Returns the name of DIRECTORY for a working directory; for a long one only the beginning.
fn project_dir_name(cwd: &str) -> String {
    let resolved = fs::canonicalize(cwd);
    let cwd = resolved.as_deref().unwrap_or(Path::new(cwd)).to_string_lossy();
    let mut name = String::new();
    // One dash for each UTF-16 unit, as JavaScript counts.
    for unit in cwd.encode_utf16() {
        name.push(match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() => char::from(byte),
            _ => '-',
        });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_sessions_where_claude_stores_them() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let work = home.join("my work.x");
        let link = home.join("link");
        fs::create_dir(&work).unwrap();
        std::os::unix::fs::symlink(&work, &link).unwrap();
        let env = |name: &str, value: &Path| Env {
            variables: [(name.into(), value.as_os_str().to_owned())].into(),
            ..Env::default()
        };
        let at_home = env("HOME", &home);
        let find = |env: &Env, cwd: &Path, session: &str| {
            session_file(env, cwd.to_str().unwrap(), session)
        };
        assert_eq!(find(&at_home, &work, "s"), None, "no such dir");

        let projects = home.join(".claude/projects");
        let dir = project_dir_name(work.to_str().unwrap());
        assert!(dir.ends_with("-my-work-x"), "{dir}");
        let file = projects.join(dir).join("s.jsonl");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        assert_eq!(find(&at_home, &work, "s"), None, "no such file");
        fs::write(&file, "").unwrap();
        for cwd in [&work, &link, &home] {
            assert_eq!(find(&at_home, cwd, "s").as_deref(), Some(&*file));
        }
        assert_eq!(find(&at_home, &work, "../x/s"), None);
        let config = env("CLAUDE_CONFIG_DIR", &home.join(".claude"));
        assert_eq!(find(&config, &work, "s").as_deref(), Some(&*file));
        assert_eq!(find(&env("CLAUDE_CONFIG_DIR", &work), &work, "s"), None);
        assert_eq!(project_dir_name("/nowhere/ü/𝄞"), "-nowhere-----");
    }
}
