//! Real faults: a disk that is full or read-only, a file system without locks, limits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

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

/// A command in which a system call fails, also in every process that it starts (seccomp(2)), as on
/// a file system that lacks the feature.
pub(crate) fn without_call(mut command: Command, call: libc::c_long, errno: i32) -> Command {
    let filter = [
        // Loads the call's number; then that call fails, and the others are allowed.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: between fork and exec only two system calls are made; the filter lives in the
    // closure.
    unsafe {
        command.pre_exec(move || {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
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
