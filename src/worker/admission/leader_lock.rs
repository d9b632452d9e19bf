//! The lock of the queue's leader, which a thread waits for.

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::queue::Queue;
use crate::worker::wake_source::{WakeSource, woken};

/// The leader lock: held, or waited for by a thread that sleeps in flock(2).
#[derive(Default)]
pub(super) struct LeaderLock {
    claim: Arc<Mutex<LeaderClaim>>,
    /// Wakes the worker when the thread has the lock, or cannot wait for it.
    acquired: Option<WakeSource>,
}

#[derive(Default)]
enum LeaderClaim {
    #[default]
    None,
    /// A thread waits for the lock.
    Waiting {
        is_wanted: bool,
    },
    /// A thread could not wait for the lock.
    Failed,
    Held(#[expect(dead_code, reason = "the lock is released when the file is closed")] File),
}

impl LeaderLock {
    fn claim(&self) -> MutexGuard<'_, LeaderClaim> {
        lock_claim(&self.claim)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(*self.claim(), LeaderClaim::Held(_))
    }

    /// Takes the lock if it is free, or has a thread wait for it. Returns whether this worker holds
    /// it or will be woken when it does; if not, it must be requested again after a while.
    pub(super) fn request(&mut self, queue: &Queue) -> bool {
        let mut claim = self.claim();
        match &mut *claim {
            LeaderClaim::Held(_) => true,
            LeaderClaim::Waiting { is_wanted } => {
                *is_wanted = true;
                true
            }
            LeaderClaim::None => {
                drop(claim);
                self.acquired = None;
                self.acquire(queue).is_ok()
            }
            LeaderClaim::Failed => {
                *claim = LeaderClaim::None;
                drop(claim);
                self.acquired = None;
                false
            }
        }
    }

    fn acquire(&mut self, queue: &Queue) -> io::Result<()> {
        let file = queue.open_leader_lock()?;
        if file.try_lock().is_ok() {
            *self.claim() = LeaderClaim::Held(file);
            return Ok(());
        }
        let (acquired, wake) = WakeSource::pipe()?;
        let claim = Arc::clone(&self.claim);
        *self.claim() = LeaderClaim::Waiting { is_wanted: true };
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        match thread.spawn(move || claim_lock(file, &claim, wake)) {
            Ok(_) => {
                self.acquired = Some(acquired);
                Ok(())
            }
            Err(error) => {
                *self.claim() = LeaderClaim::None;
                Err(error)
            }
        }
    }

    pub(super) fn release(&mut self) {
        let mut claim = self.claim();
        match &mut *claim {
            // The thread releases the lock as soon as it gets it.
            LeaderClaim::Waiting { is_wanted } => *is_wanted = false,
            LeaderClaim::Held(_) => *claim = LeaderClaim::None,
            LeaderClaim::None | LeaderClaim::Failed => {}
        }
    }

    /// Sleeps until the thread has the lock, or cannot wait for it.
    pub(super) async fn changed(&self) {
        woken(self.acquired.as_ref()).await;
    }
}

/// Sleeps until this process has the lock, keeps the lock if it is still wanted, and wakes the
/// worker.
fn claim_lock(file: File, claim: &Mutex<LeaderClaim>, mut wake: PipeWriter) {
    let is_locked = wait_for_lock(&file);
    let mut claim = lock_claim(claim);
    *claim = match *claim {
        _ if !is_locked => LeaderClaim::Failed,
        LeaderClaim::Waiting { is_wanted: true } => LeaderClaim::Held(file),
        _ => LeaderClaim::None,
    };
    drop(claim);
    let _ = wake.write(b"!");
}

/// Sleeps until this process has the lock. Returns whether it does.
fn wait_for_lock(file: &File) -> bool {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked.is_ok(),
        }
    }
}

fn lock_claim(claim: &Mutex<LeaderClaim>) -> MutexGuard<'_, LeaderClaim> {
    claim.lock().unwrap_or_else(PoisonError::into_inner)
}
