//! What the kernel reports about a process, the machine and a directory's file system.

use std::fs;
use std::path::Path;

use crate::Outcome;

/// Memory of a process in bytes.
pub(crate) struct Memory {
    /// Its share: pages that several processes map are divided among them (PSS).
    pub(crate) share: u64,
    /// Private pages, which the process's end would free.
    pub(crate) private: u64,
}

pub(crate) fn memory(pid: u64) -> Outcome<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    // A clean page of a file belongs to the page cache, whichever process maps it.
    let private = field(&rollup, "Private_Dirty")?;
    Ok(Memory { share: field(&rollup, "Pss")? * 1024, private: private * 1024 })
}

/// The peak resident memory of a process so far, in bytes.
pub(crate) fn peak_resident(pid: u64) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "VmHWM")? * 1024)
}

/// The CPU time of a process with one thread, in seconds. A zombie still has it.
pub(crate) fn cpu_seconds(pid: u64) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

/// How often the threads of a process have slept voluntarily so far: each time but the last,
/// something woke them.
pub(crate) fn sleeps(pid: u64) -> Outcome<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        sum += field(&status, "voluntary_ctxt_switches")?;
    }
    Ok(sum)
}

fn field(status: &str, name: &str) -> Outcome<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("no {name} in /proc"))?.parse()?)
}

/// The type of the file system that holds a directory, such as `ext4`.
pub(crate) fn file_system(directory: &Path) -> Outcome<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let held_by = mounts
        .lines()
        .filter_map(|line| {
            // ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS [TAG …] - TYPE SOURCE OPTIONS
            let (before, after) = line.split_once(" - ")?;
            let mount_point = Path::new(before.split(' ').nth(4)?);
            Some((mount_point, after.split(' ').next()?))
        })
        .filter(|(mount_point, _)| directory.starts_with(mount_point))
        // Of two mounts at the same path, the later one covers the earlier.
        .max_by_key(|(mount_point, _)| mount_point.components().count());
    Ok(held_by.map_or("an unknown file system", |(_, kind)| kind).to_owned())
}

/// A line on the machine for the head of the table.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("Measured on {cores} cores of {model}, Linux {kernel}")
}
