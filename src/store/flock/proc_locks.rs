//! The holder of a lock, as `/proc/locks` shows it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

/// Returns the process that took the lock of an open file, if the system knows it. It need not exist
/// any more if it passed the lock on.
pub(in crate::store) fn holder_of(file: &File) -> Option<i32> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = match device_of(file) {
        Some(device) => device,
        // The mount is not visible from within a chroot.
        None => (major(metadata.dev()), minor(metadata.dev())),
    };
    let name = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    for lock in fs::read_to_string("/proc/locks").ok()?.lines() {
        if let Some(holder) = holder_in(lock, &name) {
            return Some(holder);
        }
    }
    None
}

/// Returns the process in a line of `/proc/locks` (proc_locks(5)) if it holds a lock on the file of
/// this name: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
fn holder_in(lock: &str, name: &str) -> Option<i32> {
    let fields: Vec<&str> = lock.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
    // The process of a lock that was taken in another PID namespace is 0.
    let pid = pid.parse().ok()?;
    if file == name && pid > 0 { Some(pid) } else { None }
}

/// Returns the device numbers of the file system of an open file, as `/proc/locks` shows them.
/// stat(2) returns other ones for a subvolume of btrfs and for some files of an overlay.
fn device_of(file: &File) -> Option<(u64, u64)> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount_id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|mount| device_in(mount, mount_id))
}

/// Returns the device numbers in a line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)) if it is
/// about the mount with this id: `36 35 98:0 / /mnt rw - ext4 /dev/root rw`.
fn device_in(mount: &str, mount_id: &str) -> Option<(u64, u64)> {
    let mut fields = mount.split(' ');
    if fields.next()? != mount_id {
        return None;
    }
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_holder_of_a_lock() {
        let name = "00:2d:5678";
        let line = "2: FLOCK  ADVISORY  WRITE 4711 00:2d:5678 0 EOF";
        assert_eq!(holder_in(line, name), Some(4711));
        for other in [
            "2: FLOCK  ADVISORY  WRITE 4711 00:2d:678 0 EOF",
            "2: FLOCK  ADVISORY  WRITE 4711 00:2e:5678 0 EOF",
            "2: FLOCK  ADVISORY  WRITE 4711 08:2d:5678 0 EOF",
            "2: FLOCK  ADVISORY  WRITE 0 00:2d:5678 0 EOF",
            "2: -> FLOCK  ADVISORY  WRITE 4711 00:2d:5678 0 EOF",
            "2: POSIX  ADVISORY  WRITE 4711 00:2d:5678 0 EOF",
            "",
        ] {
            assert_eq!(holder_in(other, name), None, "{other}");
        }
    }

    #[test]
    fn finds_the_holder_on_each_file_system() {
        for directory in [std::env::temp_dir(), "/dev/shm".into(), ".".into()] {
            let Ok(file) = tempfile::NamedTempFile::new_in(&directory) else { continue };
            assert_eq!(holder_of(file.as_file()), None, "{directory:?}");
            file.as_file().lock().unwrap();
            let own = crate::process::own_pid();
            assert_eq!(holder_of(file.as_file()), Some(own), "{directory:?}");
        }
    }

    #[test]
    fn reads_the_device_of_a_mount() {
        let mount = "36 35 98:12 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(device_in(mount, "36"), Some((98, 12)));
        assert_eq!(device_in(mount, "35"), None);
        assert_eq!(device_in("", "36"), None);
    }
}
