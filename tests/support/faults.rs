//! Real faults: a disk that is full or read-only, a file system without locks, limits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

use super::{Sandbox, seccomp};

/// A small file system in memory, unmounted on drop.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(at: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&at).unwrap();
        let size = format!("size={bytes},mode=700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at));
        Self(at)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Fills the disk to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.path("filler")).unwrap();
        for piece in [4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
    }

    /// Fills the disk beside a running job, once the job has its reserve and its worker writes nothing
    /// any more before there is new output.
    #[track_caller]
    pub(crate) fn fill_beside(&self, sandbox: &Sandbox, id: &str) {
        let reserve = self.path(&format!("jobs/{id}/.spare-3"));
        super::eventually("the reserve", || {
            fs::metadata(&reserve).is_ok_and(|file| file.len() > 0).then_some(())
        });
        super::eventually("the save", || {
            sandbox.status(id)["lastEventAt"].is_string().then_some(())
        });
        self.fill();
    }

    pub(crate) fn make_read_only(&self) {
        let remount = || Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        // A process that was just killed holds its files for a short time.
        super::eventually("the files to be closed", || remount().unwrap().success().then_some(()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a job of a failed test may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// A command in which a system call fails, also in every process that it starts.
pub(crate) fn without_call(command: Command, call: libc::c_long, errno: i32) -> Command {
    filtered(command, seccomp::without_call(call, errno))
}

/// A command for which the kernel has no newer system calls than Linux 5.0.
pub(crate) fn on_old_kernel(command: Command) -> Command {
    filtered(command, seccomp::linux_5_0())
}

fn filtered(mut command: Command, filter: Vec<libc::sock_filter>) -> Command {
    // SAFETY: between fork and exec only two system calls are made; the filter lives in the
    // closure.
    unsafe {
        command.pre_exec(move || seccomp::install(&filter));
    }
    command
}

/// Sets a resource limit for a command.
pub(crate) fn limited(mut command: Command, resource: Resource, limit: u64) -> Command {
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, limit, limit)?));
    }
    command
}

/// Runs a command as another user, one without other processes.
pub(crate) fn as_user(mut command: Command, uid: u32) -> Command {
    command.uid(uid).gid(uid);
    command
}

/// Changes the owner of a directory tree.
pub(crate) fn change_owner(path: &Path, uid: u32) {
    run(Command::new("chown").arg("-R").arg(format!("{uid}:{uid}")).arg(path));
}
