//! The lease of a job's owner: a counter that it overwrites in place, and that a successor reads with a
//! fresh open. Clocks are never compared: each machine measures by its own, which counts the time of
//! a suspend (`CLOCK_BOOTTIME`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{Context, StoreError, files};
use crate::clock;

/// Times of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseTimes {
    /// How often the owner renews it.
    pub renewal: Duration,
    /// Time without a renewal after which the owner ends its claude.
    pub expiry: Duration,
    /// How long a successor sees no renewal before it claims the job: longer than the expiry by the
    /// time for which file servers' clients may see an old content.
    pub stillness: Duration,
}

/// Environment variable by which tests shorten the times: three numbers of milliseconds.
#[cfg(debug_assertions)]
const TEST_TIMES: &str = "CLAUDEJOB_TEST_LEASE";

impl LeaseTimes {
    pub(crate) fn get() -> Self {
        #[cfg(debug_assertions)]
        if let Ok(text) = std::env::var(TEST_TIMES) {
            let times: Vec<u64> = text.split(' ').filter_map(|ms| ms.parse().ok()).collect();
            if let [renewal, expiry, stillness] = times[..] {
                let [renewal, expiry, stillness] =
                    [renewal, expiry, stillness].map(Duration::from_millis);
                return Self { renewal, expiry, stillness };
            }
        }
        Self {
            renewal: Duration::from_secs(10),
            expiry: Duration::from_secs(60),
            stillness: Duration::from_secs(180),
        }
    }
}

/// The lease of this process.
#[derive(Debug)]
pub(crate) struct Lease {
    file: File,
    path: PathBuf,
    counter: u64,
}

impl Lease {
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        let file = files::open(path, options.write(true).create(true)).context("create", path)?;
        let mut lease = Self { file, path: path.to_owned(), counter: 0 };
        lease.renew()?;
        Ok(lease)
    }

    /// Writes the next number, and returns when the server has it.
    pub(crate) fn renew(&mut self) -> Result<(), StoreError> {
        self.counter += 1;
        let text = format!("{:020}\n", self.counter);
        let written = self.file.write_all_at(text.as_bytes(), 0);
        written.and_then(|()| self.file.sync_data()).context("write", &self.path)
    }
}

/// A successor's watch of a lease.
#[derive(Debug)]
pub(crate) struct LeaseWatch {
    path: PathBuf,
    seen: Option<Vec<u8>>,
    since: Duration,
    /// The lease has changed since the watch began.
    pub was_renewed: bool,
}

impl LeaseWatch {
    pub(super) fn new(path: PathBuf) -> Self {
        let seen = read(&path).unwrap_or_default();
        Self { path, seen, since: clock::since_boot(), was_renewed: false }
    }

    /// Reads the lease, and returns for how long it was not renewed. A lease that cannot be read, other
    /// than for its absence, shows nothing.
    pub(crate) fn stillness(&mut self) -> Duration {
        let now = clock::since_boot();
        match read(&self.path) {
            Ok(seen) if seen == self.seen => {}
            Ok(seen) => {
                self.seen = seen;
                self.since = now;
                self.was_renewed = true;
            }
            Err(_) => self.since = now,
        }
        now.saturating_sub(self.since)
    }
}

/// Reads a lease; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files::open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(100).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_seen_and_its_absence_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.lease");
        let mut watch = LeaseWatch::new(path.clone());
        assert!(!watch.was_renewed);
        let mut lease = Lease::create(&path).unwrap();
        assert_eq!(watch.stillness(), Duration::ZERO, "a lease that appears is renewed");
        assert!(watch.was_renewed);
        watch.was_renewed = false;
        watch.stillness();
        assert!(!watch.was_renewed);
        lease.renew().unwrap();
        assert_eq!(watch.stillness(), Duration::ZERO);
        assert!(watch.was_renewed);
        watch.since = Duration::ZERO;
        assert!(watch.stillness() > Duration::ZERO);
    }
}
