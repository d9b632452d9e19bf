//! Being woken when something new lies in the job's inbox.

#[cfg(target_os = "linux")]
pub(super) use linux::Mailbox;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Mailbox;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::future::pending;
    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use tokio::net::unix::pipe;

    /// The kernel's word on what is renamed into the inbox (inotify(7)): no wake-up while nothing
    /// happens. It is read as a pipe is.
    pub(in crate::worker) struct Mailbox(Option<pipe::Receiver>);

    impl Mailbox {
        /// Of this directory. Where it cannot be watched the worker looks at the end of each turn.
        pub(in crate::worker) fn of(inbox: &Path) -> Self {
            let watch = || -> io::Result<pipe::Receiver> {
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
                inotify.add_watch(inbox, AddWatchFlags::IN_MOVED_TO)?;
                let words = File::from(inotify.as_fd().try_clone_to_owned()?);
                pipe::Receiver::from_file_unchecked(words)
            };
            Self(watch().ok())
        }

        /// Sleeps until something was put in.
        pub(in crate::worker) async fn news(&self) {
            let Some(words) = &self.0 else { return pending().await };
            loop {
                if words.readable().await.is_err() {
                    return pending().await;
                }
                let mut buffer = [0; 4096];
                match words.try_read(&mut buffer) {
                    Ok(length) if length > 0 => return,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return pending().await,
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::path::Path;
    use std::time::Duration;

    /// A slow look again and again.
    pub(in crate::worker) struct Mailbox;

    impl Mailbox {
        pub(in crate::worker) fn of(_inbox: &Path) -> Self {
            Self
        }

        pub(in crate::worker) async fn news(&self) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
