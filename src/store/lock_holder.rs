//! The holder of a lock, as it names itself in the lock's file. The system knows only the process
//! that took the lock, which may have passed it on.
//!
//! The first line is the holder's process id. A holder that yields the lock when it gets SIGUSR1
//! writes a second line. An earlier version, which would end by that signal at any time, leaves the
//! second line of another process as it is: it counts only if it names the same process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::process::{self, ProcessId};

/// First word of the second line.
const YIELDS: &str = "yields";

/// Writes this process into the file.
pub(super) fn write(file: &File, yields: bool) {
    let mut text = format!("{:<15}\n", process::own_pid());
    if yields && let Some(ProcessId { pid, start_time }) = ProcessId::own() {
        text += &format!("{YIELDS} {pid} {start_time}\n");
    }
    let _ = file.write_all_at(text.as_bytes(), 0);
}

/// Returns the process that holds the lock.
pub(super) fn written_holder(file: &File) -> Option<i32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

/// Returns the process that holds the lock if it yields it on request.
pub(super) fn yielding_holder(file: &File) -> Option<ProcessId> {
    let mut bytes = [0; 80];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let mut lines = std::str::from_utf8(&bytes[..length]).ok()?.lines();
    let holder: i32 = lines.next()?.trim().parse().ok()?;
    let mut words = lines.next()?.strip_prefix(YIELDS)?.split_whitespace();
    let (pid, start_time) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    if pid == holder { Some(ProcessId { pid, start_time }) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_that_wrote_it_yields() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let file = file.as_file();
        write(file, false);
        assert_eq!((written_holder(file), yielding_holder(file)), (Some(process::own_pid()), None));
        write(file, true);
        assert_eq!(yielding_holder(file), ProcessId::own());
        // A process of an earlier version writes only its id.
        file.write_all_at(format!("{:<15}\n", 7).as_bytes(), 0).unwrap();
        assert_eq!(yielding_holder(file), None);
        for text in ["", "7", "7              \nyields 7", "7              \nyields 7 x\n"] {
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            assert_eq!(yielding_holder(file), None, "{text}");
        }
    }
}
