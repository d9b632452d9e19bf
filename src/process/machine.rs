//! What the machine has left: memory, descriptors, processes, room on a disk.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit};

/// The limit, as it is in force, on open files; `None` if it is unlimited or not told.
pub fn open_files() -> Option<u64> {
    limit(Resource::RLIMIT_NOFILE)
}

/// The limit, as it is in force, on this user's processes and threads; `None` as above. Root is
/// not bound by it (setrlimit(2)).
#[cfg(target_os = "linux")]
pub fn processes() -> Option<u64> {
    limit(Resource::RLIMIT_NPROC).filter(|_| !nix::unistd::geteuid().is_root())
}

/// Not asked elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn processes() -> Option<u64> {
    None
}

fn limit(resource: Resource) -> Option<u64> {
    let (soft, _) = getrlimit(resource).ok()?;
    (soft != nix::sys::resource::RLIM_INFINITY).then_some(soft)
}

/// Bytes of memory that can be had without swapping, within the limits of the control groups
/// around us; `None` where the system does not tell.
pub fn memory_available() -> Option<u64> {
    let text = super::procfs::read_text("/proc/meminfo").ok()?;
    let free = field(&text, "MemAvailable:")?.saturating_mul(1024);
    Some(super::cgroup::memory_left().map_or(free, |left| left.min(free)))
}

/// The number behind a name in a file of such lines.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes.
    pub bytes: u64,
    /// Files that can be made; `None` where there is no such limit.
    pub files: Option<u64>,
}

/// The room that is left to us where this directory is.
#[allow(clippy::unnecessary_cast, reason = "the counts are of other widths elsewhere")]
pub fn free_space(directory: &Path) -> io::Result<FreeSpace> {
    let about = nix::sys::statvfs::statvfs(directory)?;
    let bytes = (about.blocks_available() as u64).saturating_mul(about.fragment_size() as u64);
    let files = (about.files() > 0).then(|| about.files_available() as u64);
    Ok(FreeSpace { bytes, files })
}

/// What tells this machine from others.
#[derive(Debug)]
pub struct MachineIdentity {
    /// Its name (uname(2)).
    pub host: String,
    /// Its id (machine-id(5)); `None` where it has none, as in many containers.
    pub machine_id: Option<String>,
}

impl MachineIdentity {
    /// This machine's, as it was when it was first asked for.
    pub fn own() -> &'static Self {
        static OWN: OnceLock<MachineIdentity> = OnceLock::new();
        OWN.get_or_init(|| {
            let names = nix::sys::utsname::uname().ok();
            let host = names.map(|names| names.nodename().to_string_lossy().into_owned());
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            let id = id.trim();
            let is_set = !id.is_empty() && id != "uninitialized";
            let machine_id = is_set.then(|| id.to_owned());
            Self { host: host.unwrap_or_default(), machine_id }
        })
    }
}

/// Where a file system keeps its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// On a disk of this machine.
    Disk,
    /// In this machine's memory.
    Memory,
    /// On another machine, or on a disk that several machines use.
    Network,
    /// Wherever a program keeps them (FUSE).
    Program,
    /// Not known.
    Unknown,
}

impl Medium {
    /// The medium of file systems of this type, as [`file_system`] names it.
    pub fn of(name: &str) -> Self {
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

    /// Whether no other machine uses such a file system at the same time.
    pub fn is_local(self) -> bool {
        matches!(self, Self::Disk | Self::Memory)
    }
}

/// Whether other machines may use the file system of this directory, too. One that cannot be
/// looked at counts as shared.
pub fn is_shared(directory: &Path) -> bool {
    match file_system(directory) {
        Ok(Some(name)) => !Medium::of(&name).is_local(),
        Ok(None) | Err(_) => true,
    }
}

/// The name of the file system's type; `None` of one that is not known here.
#[cfg(target_os = "linux")]
pub fn file_system(directory: &Path) -> io::Result<Option<String>> {
    let about = nix::sys::statfs::statfs(directory)?;
    Ok(type_name(about.filesystem_type().0 as u32).map(str::to_owned))
}

/// The same elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn file_system(directory: &Path) -> io::Result<Option<String>> {
    let about = nix::sys::statfs::statfs(directory)?;
    Ok(Some(about.filesystem_type_name().to_owned()))
}

/// The name behind `f_type`: statfs(2), linux/magic.h, and the sources of those that are in
/// neither.
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
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "MemTotal:       16 kB\nMemAvailable:    7 kB\nBad: x\n";
        for (name, number) in
            [("MemTotal:", Some(16)), ("MemAvailable:", Some(7)), ("Bad:", None), ("Not:", None)]
        {
            assert_eq!(field(text, name), number, "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_asked_of_this_machine_is_told() {
        assert_eq!(file_system(Path::new("/dev/shm")).unwrap().as_deref(), Some("tmpfs"));
        assert!(free_space(Path::new("/")).unwrap().bytes > 0);
        assert!(free_space(Path::new("/nowhere")).is_err());
        assert!(memory_available().unwrap() > 0);
    }
}
