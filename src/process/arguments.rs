//! The program's own arguments, which every user of the machine can read as long as it runs.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::procfs;

/// Replaces a hidden argument.
const HIDDEN: &[u8] = b"...";

/// Hides these texts in the arguments that other users see. If that is not possible, such as without
/// `/proc`, they remain visible.
pub(crate) fn hide_arguments(texts: &[&str]) {
    if texts.is_empty() {
        return;
    }
    let Some(start) = start_of_arguments() else { return };
    let Ok(arguments) = procfs::read("/proc/self/cmdline") else { return };
    let Ok(memory) = OpenOptions::new().write(true).open("/proc/self/mem") else { return };
    let mut offset = 0;
    for argument in arguments.split(|byte| *byte == 0) {
        for text in texts {
            if !text.is_empty() && argument.ends_with(text.as_bytes()) {
                let mut hidden = vec![0; text.len()];
                let shown = HIDDEN.len().min(text.len());
                hidden[..shown].copy_from_slice(&HIDDEN[..shown]);
                let from = start + (offset + argument.len() - text.len()) as u64;
                let _ = memory.write_all_at(&hidden, from);
                break;
            }
        }
        offset += argument.len() + 1;
    }
}

/// Returns the address of the arguments: the field `arg_start` of proc_pid_stat(5).
fn start_of_arguments() -> Option<u64> {
    const ARG_START: usize = 48;
    let stat = procfs::read_text("/proc/self/stat").ok()?;
    // The second field, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    match fields.split(' ').nth(ARG_START - 3)?.parse() {
        Ok(start) if start > 0 => Some(start),
        _ => None,
    }
}
