//! Keeps the lease of a job with an engine, and ends this process's claude when the job may belong to
//! another process.
//!
//! Two threads do so, because a file server that hangs stops any thread that uses it: one renews the
//! lease, and the other one only measures the time since the last renewal, by a clock that counts a
//! suspend.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::clock;
use crate::error::ExitStatus;
use crate::job::milliseconds;
use crate::process::{self, Descendants, KillProgress};
use crate::store::{JobDir, Lease, LeaseTimes};

/// How long the descendants of this process are killed before it exits, which ends claude in any case.
const FENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// The threads, and what they share.
#[derive(Debug)]
pub(super) struct LeaseKeeper(Arc<KeptLease>);

#[derive(Debug)]
struct KeptLease {
    job_dir: PathBuf,
    times: LeaseTimes,
    /// Milliseconds since boot at which the last renewal began that has succeeded.
    renewed_at: AtomicU64,
    /// Claude has ended: nothing needs to be ended any more.
    is_released: AtomicBool,
    is_fenced: AtomicBool,
}

impl LeaseKeeper {
    /// Keeps the lease of a job that this process owns. `claimed_at`: before the claim was requested,
    /// whose answer may have come late.
    pub(super) fn start(job: &JobDir, claimed_at: Duration) -> io::Result<Self> {
        let shared = Arc::new(KeptLease {
            job_dir: job.path().to_owned(),
            times: LeaseTimes::get(),
            renewed_at: AtomicU64::new(milliseconds(claimed_at)),
            is_released: AtomicBool::new(false),
            is_fenced: AtomicBool::new(false),
        });
        let (guard, renewer, job) = (shared.clone(), shared.clone(), job.clone());
        thread::Builder::new().name("lease-guard".to_owned()).spawn(move || guard.guard())?;
        let mut lease = job.create_lease().map_err(io::Error::other)?;
        let thread = thread::Builder::new().name("lease".to_owned());
        thread.spawn(move || renewer.renew(&job, &mut lease))?;
        Ok(Self(shared))
    }

    /// Lets go: claude has ended, and the verdict competes with a successor by itself.
    pub(super) fn release(&self) {
        self.0.is_released.store(true, Ordering::SeqCst);
    }
}

impl KeptLease {
    /// Renews the lease from time to time.
    fn renew(&self, job: &JobDir, lease: &mut Lease) {
        while !self.is_released() {
            // Never renewed after it has expired: a successor may have begun.
            if self.has_expired() || job.is_superseded() {
                return self.fence();
            }
            let began = clock::since_boot();
            if lease.renew().is_ok() && !self.has_expired() {
                self.renewed_at.store(milliseconds(began), Ordering::SeqCst);
            }
            process::sleep_with_suspend(self.times.renewal);
        }
    }

    /// Waits for the expiry of the lease. Uses no file.
    fn guard(&self) {
        while !self.is_released() {
            if self.has_expired() {
                return self.fence();
            }
            process::sleep_with_suspend(self.left());
        }
    }

    fn is_released(&self) -> bool {
        self.is_released.load(Ordering::SeqCst)
    }

    /// Returns the time until the lease expires.
    fn left(&self) -> Duration {
        let renewed_at = Duration::from_millis(self.renewed_at.load(Ordering::SeqCst));
        (renewed_at + self.times.expiry).saturating_sub(clock::since_boot())
    }

    fn has_expired(&self) -> bool {
        self.left().is_zero()
    }

    /// Ends claude and this process.
    fn fence(&self) {
        if self.is_released() || self.is_fenced.swap(true, Ordering::SeqCst) {
            return;
        }
        let until = Instant::now() + FENCE_TIMEOUT;
        let mut descendants = Descendants::of_worker(&self.job_dir);
        // The files that name independent workers may hang, and the engine ends those workers, too.
        while let Ok(KillProgress::More) = descendants.kill(&|_, _| false)
            && Instant::now() < until
        {
            thread::yield_now();
        }
        std::process::exit(ExitStatus::NotOwner as i32);
    }
}
