//! The children that a fake claude leaves behind, as the Bash tool of the real one does: each in a
//! session of its own, which a signal to claude's process group does not reach. A child is this
//! same program started again; its arguments give its role, because its environment may be empty.
//!
//! If a test needs to know whether a child is alive, the child holds the lock of `FILE.lock`
//! (flock(2)), together with every process that it starts: the kernel knows, even if the process
//! cannot be found.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::ForkResult;

const HANG: &str = "--fake-hang";
const HANG_STUBBORNLY: &str = "--fake-hang-stubbornly";
const ORPHAN: &str = "--fake-orphan";
const HEADLESS: &str = "--fake-headless";
const LARGE: &str = "--fake-large";
const CHAIN: &str = "--fake-chain";
const CHAIN_ON: &str = "--fake-chain-on";
const ROOT: &str = "--fake-root";
/// Address space of a large child in bytes: the kernel needs some milliseconds to remove it.
const LARGE_BYTES: usize = 4 << 30;
/// Seconds after which a chain ends if nobody has ended it.
const CHAIN_SECONDS: u64 = 60;

/// The role of a child, with the file for its PID.
pub(crate) enum Role {
    Hang {
        pid_file: PathBuf,
        stubborn: bool,
    },
    /// Starts another child and ends.
    Orphan {
        pid_file: PathBuf,
        role: &'static str,
    },
    Headless {
        pid_file: PathBuf,
    },
    Large {
        pid_file: PathBuf,
    },
    Chain {
        pid_file: PathBuf,
        mode: String,
    },
    ChainOn {
        until: u64,
        mode: String,
    },
    Root {
        pid_file: PathBuf,
    },
}

impl Role {
    pub(crate) fn from_arguments(arguments: &[String]) -> Option<Self> {
        let pid_file = PathBuf::from(arguments.get(2)?);
        let mode = || arguments.get(3).cloned().unwrap_or_default();
        match arguments.get(1)?.as_str() {
            HANG => Some(Self::Hang { pid_file, stubborn: false }),
            HANG_STUBBORNLY => Some(Self::Hang { pid_file, stubborn: true }),
            ORPHAN if mode() == HEADLESS => Some(Self::Orphan { pid_file, role: HEADLESS }),
            ORPHAN => Some(Self::Orphan { pid_file, role: HANG_STUBBORNLY }),
            HEADLESS => Some(Self::Headless { pid_file }),
            LARGE => Some(Self::Large { pid_file }),
            CHAIN => Some(Self::Chain { pid_file, mode: mode() }),
            CHAIN_ON => {
                Some(Self::ChainOn { until: arguments.get(2)?.parse().ok()?, mode: mode() })
            }
            ROOT => Some(Self::Root { pid_file }),
            _ => None,
        }
    }

    pub(crate) fn play(self) -> io::Result<()> {
        match self {
            Self::Hang { pid_file, stubborn } => {
                // Everything is set up before the file announces it.
                nix::unistd::setsid()?;
                if stubborn {
                    super::ignore(Signal::SIGINT)?;
                    super::ignore(Signal::SIGTERM)?;
                }
                hang_as(&pid_file)
            }
            Self::Orphan { pid_file, role } => this_program(role, &pid_file)?.spawn().map(drop),
            Self::Headless { pid_file } => {
                nix::unistd::setsid()?;
                hold_lock(&pid_file)?;
                let main_thread = std::process::id();
                std::thread::spawn(move || {
                    // The file announces that the main thread has ended.
                    let state = || fs::read_to_string(format!("/proc/{main_thread}/stat"));
                    while !state().is_ok_and(|stat| stat.contains(") Z ")) {
                        std::thread::yield_now();
                    }
                    let _ = super::write_atomically(&pid_file, main_thread.to_string().as_bytes());
                    super::hang()
                });
                // SAFETY: ends this thread alone; the other thread uses nothing that it owns.
                #[cfg(target_os = "linux")]
                unsafe {
                    libc::syscall(libc::SYS_exit, 0);
                }
                Ok(())
            }
            Self::Large { pid_file } => {
                nix::unistd::setsid()?;
                hold_lock(&pid_file)?;
                map_pages()?;
                hang_as(&pid_file)
            }
            Self::Chain { pid_file, mode } => {
                nix::unistd::setsid()?;
                hold_lock(&pid_file)?;
                // Without a handler for SIGCHLD nobody has to reap the processes that end.
                super::ignore(Signal::SIGCHLD)?;
                super::write_atomically(&pid_file, std::process::id().to_string().as_bytes())?;
                chain_on(now() + CHAIN_SECONDS, &mode)
            }
            Self::ChainOn { until, mode } => chain_on(until, &mode),
            Self::Root { pid_file } => {
                nix::unistd::setgid(0.into())?;
                nix::unistd::setuid(0.into())?;
                nix::unistd::setsid()?;
                hang_as(&pid_file)
            }
        }
    }
}

fn hang_as(pid_file: &Path) -> ! {
    if super::write_atomically(pid_file, std::process::id().to_string().as_bytes()).is_err() {
        std::process::exit(70);
    }
    super::hang()
}

/// Holds a lock until this process and all processes that it starts have ended.
fn hold_lock(pid_file: &Path) -> io::Result<()> {
    let file = fs::File::create(lock_of(pid_file))?;
    file.lock()?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    std::mem::forget(file);
    Ok(())
}

fn lock_of(pid_file: &Path) -> PathBuf {
    let mut path = pid_file.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Maps many pages, all of them the kernel's page of zeros, so that they need no memory.
#[cfg(target_os = "linux")]
fn map_pages() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own, which nothing else in this process uses, and which stays.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), LARGE_BYTES, libc::PROT_READ, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::madvise(start, LARGE_BYTES, libc::MADV_NOHUGEPAGE);
        for page in (0..LARGE_BYTES).step_by(4096) {
            std::ptr::read_volatile(start.cast::<u8>().add(page));
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn map_pages() -> io::Result<()> {
    Ok(())
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Starts the next process of a chain and ends, and so does that one.
fn chain_on(until: u64, mode: &str) -> io::Result<()> {
    while now() < until {
        // SAFETY: this process has one thread.
        match unsafe { nix::unistd::fork() } {
            // SAFETY: ends this process without running anything that the next one also has.
            Ok(ForkResult::Parent { .. }) => unsafe { libc::_exit(0) },
            // The user has too many processes for the moment.
            Err(_) => std::thread::yield_now(),
            Ok(ForkResult::Child) if mode == "setsid" => {
                nix::unistd::setsid()?;
            }
            Ok(ForkResult::Child) if mode == "exec" => {
                let mut next = this_program(CHAIN_ON, Path::new(&until.to_string()))?;
                return Err(next.arg(mode).env_clear().exec());
            }
            Ok(ForkResult::Child) => {}
        }
    }
    Ok(())
}

pub(crate) fn spawn(pid_file: &Path) -> io::Result<()> {
    this_program(HANG, pid_file)?.spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_clean(pid_file: &Path) -> io::Result<()> {
    this_program(HANG, pid_file)?.env_clear().spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_marked(pid_file: &Path, mark: &Path) -> io::Result<()> {
    this_program(HANG, pid_file)?.env("CLAUDEJOB_DIR", mark).spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_root(pid_file: &Path, program: &Path) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg(ROOT).arg(pid_file).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_chain(pid_file: &Path, mode: &str) -> io::Result<()> {
    this_program(CHAIN, pid_file)?.arg(mode).stdout(Stdio::null()).spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_large(pid_file: &Path) -> io::Result<()> {
    this_program(LARGE, pid_file)?.stdout(Stdio::null()).spawn()?;
    super::wait_for_file(pid_file);
    Ok(())
}

pub(crate) fn spawn_headless(pid_file: &Path) -> io::Result<()> {
    let status = this_program(ORPHAN, pid_file)?.arg(HEADLESS).status()?;
    if !status.success() {
        return Err(io::Error::other("the process in between failed"));
    }
    super::wait_for_file(pid_file);
    Ok(())
}

/// Through an intermediate process that is gone when this returns: the child's parent is then the
/// process that adopts orphans.
pub(crate) fn spawn_stubborn(pid_file: &Path) -> io::Result<()> {
    let status = this_program(ORPHAN, pid_file)?.status()?;
    if !status.success() {
        return Err(io::Error::other("the process in between failed"));
    }
    super::wait_for_file(pid_file);
    Ok(())
}

fn this_program(role: &str, pid_file: &Path) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(role).arg(pid_file).stdin(Stdio::null());
    Ok(command)
}
