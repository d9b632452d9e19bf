//! Limits and identity of the machine: descriptors and file systems.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use nix::sys::resource::Resource;

use super::limits::soft_limit;

/// Returns the soft limit on open files; `None` if there is none, or if it is not known.
pub(crate) fn open_files() -> Option<u64> {
    soft_limit(Resource::RLIMIT_NOFILE)
}

/// Returns the bytes that this user can still use on the directory's file system.
#[allow(clippy::unnecessary_cast, reason = "the counts have other types on other systems")]
pub(crate) fn free_space(directory: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(directory)?;
    Ok((stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64))
}

/// Environment variable by which tests name a machine.
#[cfg(debug_assertions)]
const TEST_MACHINE: &str = "CLAUDEJOB_TEST_MACHINE";

/// Identity of a machine.
#[derive(Debug)]
pub(crate) struct MachineIdentity {
    /// Host name (uname(2)).
    pub host: String,
    /// Id of machine-id(5); `None` if it has none, as in many containers.
    pub machine_id: Option<String>,
}

impl MachineIdentity {
    /// Returns the identity of this machine at the time of the first call.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<MachineIdentity> = OnceLock::new();
        OWN.get_or_init(|| {
            #[cfg(debug_assertions)]
            if let Ok(host) = std::env::var(TEST_MACHINE) {
                return Self { machine_id: Some(format!("id of {host}")), host };
            }
            let host = match nix::sys::utsname::uname() {
                Ok(names) => names.nodename().to_string_lossy().into_owned(),
                Err(_) => String::new(),
            };
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            let machine_id = match id.trim() {
                "" | "uninitialized" => None,
                id => Some(id.to_owned()),
            };
            Self { host, machine_id }
        })
    }
}

/// Medium on which a file system stores its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// A disk of this machine.
    Disk,
    /// This machine's memory.
    Memory,
    /// Another machine, or a disk that several machines use.
    Network,
    /// A program of the user (FUSE).
    Program,
    Unknown,
}

impl Medium {
    /// Returns the medium of the file system type with this name, which [`file_system`] returns.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "ext4" | "xfs" | "btrfs" | "bcachefs" | "zfs" | "f2fs" | "reiserfs" | "jfs"
            | "ecryptfs" | "ubifs" | "overlay" | "vfat" | "exfat" | "ntfs3" | "squashfs"
            | "iso9660" | "apfs" | "hfs" | "ufs" => Self::Disk,
            "tmpfs" | "ramfs" => Self::Memory,
            "nfs" | "nfs4" | "cifs" | "smb" | "smb2" | "smbfs" | "afpfs" | "webdav" | "9p"
            | "afs" | "coda" | "ceph" | "lustre" | "gpfs" | "ocfs2" | "gfs2" | "beegfs"
            | "vboxsf" => Self::Network,
            "fuse" | "macfuse" | "osxfuse" => Self::Program,
            _ => Self::Unknown,
        }
    }

    /// Returns whether no other machine uses such a file system at the same time.
    pub(crate) fn is_local(self) -> bool {
        matches!(self, Self::Disk | Self::Memory)
    }
}

/// Returns whether other machines may use the directory's file system, too. A directory that cannot
/// be read counts as shared.
pub(crate) fn is_shared(directory: &Path) -> bool {
    match file_system(directory) {
        Ok(Some(name)) => !Medium::of(&name).is_local(),
        Ok(None) | Err(_) => true,
    }
}

/// Returns the name of the file system's type; `None` for an unknown type.
#[cfg(target_os = "linux")]
pub(crate) fn file_system(directory: &Path) -> io::Result<Option<String>> {
    let stat = nix::sys::statfs::statfs(directory)?;
    Ok(type_name(stat.filesystem_type().0 as u32).map(str::to_owned))
}

/// Returns the name of the file system's type.
#[cfg(not(target_os = "linux"))]
pub(crate) fn file_system(directory: &Path) -> io::Result<Option<String>> {
    let stat = nix::sys::statfs::statfs(directory)?;
    Ok(Some(stat.filesystem_type_name().to_owned()))
}

/// Returns the name for a value of `f_type`: statfs(2), linux/magic.h, and the sources of the file
/// systems that are in neither.
#[cfg(target_os = "linux")]
fn type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xca45_1a4e => "bcachefs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x5265_4973 => "reiserfs",
        0x3153_464a => "jfs",
        0xf15f => "ecryptfs",
        0x2405_1905 => "ubifs",
        0x794c_7630 => "overlay",
        0x4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x7366_746e => "ntfs3",
        0x7371_7368 => "squashfs",
        0x9660 => "iso9660",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x6969 => "nfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x517b => "smb",
        0x0102_1997 => "9p",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x7461_636f => "ocfs2",
        0x0116_1970 => "gfs2",
        0x1983_0326 => "beegfs",
        0x786f_4256 => "vboxsf",
        0x6573_5546 => "fuse",
        _ => return None,
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn reads_the_file_system() {
        // The kernel keeps such a file on a tmpfs of its own, whatever is mounted.
        let file = memfd_create("test", MFdFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(file_system(Path::new(&path)).unwrap().as_deref(), Some("tmpfs"));
        assert!(!is_shared(Path::new(&path)));
        assert!(file_system(Path::new("/nowhere")).is_err());
        assert!(is_shared(Path::new("/nowhere")));
    }

    #[test]
    fn reads_free_space() {
        let directory = tempfile::tempdir().unwrap();
        let stat = nix::sys::statvfs::statvfs(directory.path()).unwrap();
        let free = free_space(directory.path()).unwrap();
        assert!(free <= stat.blocks() * stat.fragment_size(), "{free:?}");
        assert!(free_space(Path::new("/nowhere")).is_err());
    }
}
