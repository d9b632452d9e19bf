//! Filters that refuse system calls (seccomp(2)), also to every process that is started later.

use std::io;

use nix::libc::{self, sock_filter};

/// The first number of the calls that came after Linux 5.0, on every architecture.
const FIRST_AFTER_LINUX_5_0: u32 = 424;

/// Refuses one call, as on a file system that lacks the feature.
pub(crate) fn without_call(call: libc::c_long, errno: i32) -> Vec<sock_filter> {
    [load_number(), jump(libc::BPF_JEQ, call as u32, 0, 1), refuse(errno), allow()].into()
}

/// Refuses all calls that came after Linux 5.0, such as those for pidfds, and statx(2), as a
/// kernel does that does not know them, and fanotify_init(2), as to a user without privileges.
pub(crate) fn linux_5_0() -> Vec<sock_filter> {
    let mut filter = vec![
        load_number(),
        jump(libc::BPF_JEQ, libc::SYS_fanotify_init as u32, 0, 1),
        refuse(libc::EPERM),
        jump(libc::BPF_JGE, FIRST_AFTER_LINUX_5_0, 1, 0),
        jump(libc::BPF_JEQ, libc::SYS_statx as u32, 0, 1),
    ];
    filter.extend([refuse(libc::ENOSYS), allow()]);
    filter
}

/// Installs a filter for this thread and for what it starts. Makes two system calls and allocates
/// nothing.
pub(crate) fn install(filter: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the filter, which lives until then.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn load_number() -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)
}

/// Skips `then` instructions if the call's number compares so with `value`, and else `otherwise`.
fn jump(comparison: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(libc::BPF_JMP | comparison | libc::BPF_K, then, otherwise, value)
}

fn refuse(errno: i32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn allow() -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
