//! `logs --follow`: on and on until the job has ended.

use std::path::Path;
use std::time::Duration;

use super::{LogsAnswer, Request, part};
use crate::commands::seen::look;
use crate::error::Error;
use crate::store::Store;

/// How long a change can stay unseen where no event tells of it: a worker that was killed writes
/// nothing.
#[cfg(target_os = "linux")]
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The same where the system has no events for files.
const LOOK_OFTEN: Duration = Duration::from_millis(200);

/// Gives the part of the log that was asked for, and then what is added, until the job has ended
/// and all was given, or `give` says false.
pub fn follow(
    store: &Store,
    request: &Request,
    mut give: impl FnMut(&LogsAnswer) -> bool,
) -> Result<(), Error> {
    let mut request = request.clone();
    // Watched before the first look, so that nothing falls between the two.
    let mut changes = Changes::of(store.job(&request.id).path());
    let mut first = true;
    loop {
        let seen = look(store, &request.id)?;
        loop {
            let answer = part(&seen, &request)?;
            let more = answer.truncated && request.since.is_some();
            request.since = Some(answer.next_offset);
            // Lines that say nothing are passed over; the next part goes on behind them.
            if (!answer.tail.is_empty() || first) && !give(&answer) {
                return Ok(());
            }
            first = false;
            if !more {
                break;
            }
        }
        if !seen.live {
            return Ok(());
        }
        changes.wait();
    }
}

/// The changes in a directory.
struct Changes {
    #[cfg(target_os = "linux")]
    inotify: Option<nix::sys::inotify::Inotify>,
}

impl Changes {
    #[cfg(target_os = "linux")]
    fn of(directory: &Path) -> Self {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let watch = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
            inotify.add_watch(directory, flags)?;
            Ok(inotify)
        };
        // A user's watches can be used up: then we look often.
        Self { inotify: watch().ok() }
    }

    #[cfg(target_os = "linux")]
    fn wait(&mut self) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let Some(inotify) = &self.inotify else { return std::thread::sleep(LOOK_OFTEN) };
        let most = PollTimeout::try_from(LOOK_AGAIN).unwrap_or(PollTimeout::NONE);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], most);
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_directory: &Path) -> Self {
        Self {}
    }

    #[cfg(not(target_os = "linux"))]
    fn wait(&mut self) {
        std::thread::sleep(LOOK_OFTEN);
    }
}
