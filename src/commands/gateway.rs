//! Checks of the service of OpenClaw's gateway: would it find the programs that its agents run?

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::check::Check;
use crate::claude::{Env, own_executable, programs_on_path};
use crate::openclaw::GatewayUnit;
use crate::text::shell_word;

/// The folder for links to programs, if the service searches in no folder below the home directory.
const SYSTEM_BIN: &str = "/usr/local/bin";

/// Checks the gateway's service; `None` if there is none.
pub(crate) fn summary(env: &Env) -> Option<Check> {
    let home = PathBuf::from(env.get("HOME")?);
    let unit = GatewayUnit::find(&home)?;
    Some(program(&unit, "openclaw", "claudejob", &own_executable(), &home))
}

/// Checks whether the service finds a program, which is at `path`.
fn program(unit: &GatewayUnit, check: &'static str, name: &str, path: &Path, home: &Path) -> Check {
    let search_path = unit.search_path();
    let unit = unit.path.display();
    if let Some(found) = programs_on_path(name, search_path.clone()).next() {
        return Check::ok(
            check,
            format!("the gateway's service ({unit}) finds {}", found.display()),
        );
    }
    let searched = search_path.to_string_lossy();
    let detail = format!(
        "the gateway's service ({unit}) does not find {name}, so that its agents cannot run it: \
         PATH={searched}"
    );
    Check::warning(check, detail, link_command(path, name, &search_path, home))
}

/// Returns the command that links a program into a folder that the service searches.
fn link_command(program: &Path, name: &str, search_path: &OsStr, home: &Path) -> String {
    let own = std::env::split_paths(search_path).find(|dir| dir.starts_with(home));
    let (sudo, dir) = match own {
        Some(dir) => ("", dir),
        None => ("sudo ", PathBuf::from(SYSTEM_BIN)),
    };
    let [program, dir, link] =
        [program, &dir, &dir.join(name)].map(|path| shell_word(&path.to_string_lossy()));
    format!("{sudo}mkdir -p {dir} && {sudo}ln -sf {program} {link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_a_folder_of_the_service() {
        let (home, program) = (Path::new("/home/a"), Path::new("/home/a/.cargo/bin/claudejob"));
        for (path, expected) in [
            (
                "/usr/bin:/home/a/.local/bin:/home/a/bin",
                "mkdir -p /home/a/.local/bin && \
                 ln -sf /home/a/.cargo/bin/claudejob /home/a/.local/bin/claudejob",
            ),
            (
                "/usr/bin:/home/ab/bin",
                "sudo mkdir -p /usr/local/bin && \
                 sudo ln -sf /home/a/.cargo/bin/claudejob /usr/local/bin/claudejob",
            ),
            (
                "/home/a/my bin",
                "mkdir -p '/home/a/my bin' && \
                 ln -sf /home/a/.cargo/bin/claudejob '/home/a/my bin/claudejob'",
            ),
        ] {
            assert_eq!(link_command(program, "claudejob", path.as_ref(), home), expected);
        }
    }
}
