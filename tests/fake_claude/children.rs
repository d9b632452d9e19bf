//! The children that a fake claude leaves behind, as the Bash tool of the real one does: each in
//! a session of its own, out of reach of a signal to claude's process group. A child is this same
//! program started again, told by its arguments what to be, because the environment may be empty.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use nix::sys::signal::Signal;

const HANG: &str = "--fake-hang";
const HANG_STUBBORNLY: &str = "--fake-hang-stubbornly";
const ORPHAN: &str = "--fake-orphan";

/// What a child was started to be, with the file for its PID.
pub(crate) enum Role {
    Hang { pid_file: PathBuf, stubborn: bool },
    Orphan { pid_file: PathBuf },
}

impl Role {
    pub(crate) fn from_arguments(arguments: &[String]) -> Option<Self> {
        let pid_file = PathBuf::from(arguments.get(2)?);
        match arguments.get(1)?.as_str() {
            HANG => Some(Self::Hang { pid_file, stubborn: false }),
            HANG_STUBBORNLY => Some(Self::Hang { pid_file, stubborn: true }),
            ORPHAN => Some(Self::Orphan { pid_file }),
            _ => None,
        }
    }

    pub(crate) fn play(self) -> io::Result<()> {
        match self {
            Self::Hang { pid_file, stubborn } => {
                // Everything is in place before the file says so.
                nix::unistd::setsid()?;
                if stubborn {
                    super::ignore(Signal::SIGINT)?;
                    super::ignore(Signal::SIGTERM)?;
                }
                super::write_whole(&pid_file, std::process::id().to_string().as_bytes())?;
                super::hang()
            }
            Self::Orphan { pid_file } => {
                this_program(HANG_STUBBORNLY, &pid_file)?.spawn().map(drop)
            }
        }
    }
}

pub(crate) fn spawn(pid_file: &Path) -> io::Result<()> {
    this_program(HANG, pid_file)?.spawn()?;
    super::wait_for(pid_file);
    Ok(())
}

pub(crate) fn spawn_clean(pid_file: &Path) -> io::Result<()> {
    this_program(HANG, pid_file)?.env_clear().spawn()?;
    super::wait_for(pid_file);
    Ok(())
}

/// Through one more process that is gone when this returns: the child's parent is then whoever
/// takes in orphans.
pub(crate) fn spawn_stubborn(pid_file: &Path) -> io::Result<()> {
    let status = this_program(ORPHAN, pid_file)?.status()?;
    if !status.success() {
        return Err(io::Error::other("the process in between failed"));
    }
    super::wait_for(pid_file);
    Ok(())
}

fn this_program(role: &str, pid_file: &Path) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(role).arg(pid_file).stdin(Stdio::null());
    Ok(command)
}
