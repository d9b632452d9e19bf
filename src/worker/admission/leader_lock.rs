//! The lock of the queue's leader, which a thread waits for.

use std::fs::File;
use std::future::pending;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::queue::Queue;
use crate::worker::waker::{Waker, create_waker};

/// The leader lock: held, or waited for by a thread that sleeps in flock(2).
#[derive(Default)]
pub(super) struct LeaderLock {
    claim: Arc<Mutex<LeaderClaim>>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct LeaderClaim {
    /// The lock is still wanted, also when the thread gets it.
    is_wanted: bool,
    /// A thread waits for the lock.
    is_waiting: bool,
    /// A thread could not wait for the lock.
    has_failed: bool,
    held: Option<File>,
}

impl LeaderLock {
    fn claim(&self) -> MutexGuard<'_, LeaderClaim> {
        lock_claim(&self.claim)
    }

    pub(super) fn is_held(&self) -> bool {
        self.claim().held.is_some()
    }

    /// Takes the lock if it is free, or has a thread wait for it. Returns whether this worker holds
    /// it or will be woken when it does; if not, it must be requested again after a while.
    pub(super) fn request(&mut self, queue: &Queue) -> bool {
        let mut claim = self.claim();
        claim.is_wanted = true;
        if claim.is_waiting || claim.held.is_some() {
            return true;
        }
        let has_failed = std::mem::take(&mut claim.has_failed);
        drop(claim);
        self.waker = None;
        !has_failed && self.acquire(queue).is_ok()
    }

    fn acquire(&mut self, queue: &Queue) -> io::Result<()> {
        let file = queue.open_leader_lock()?;
        if file.try_lock().is_ok() {
            self.claim().held = Some(file);
            return Ok(());
        }
        let (waker, mut wake) = create_waker()?;
        let claim = Arc::clone(&self.claim);
        let wait = move || {
            let is_locked = loop {
                match file.lock() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    locked => break locked.is_ok(),
                }
            };
            let mut claim = lock_claim(&claim);
            claim.is_waiting = false;
            claim.has_failed = !is_locked;
            if is_locked && claim.is_wanted {
                claim.held = Some(file);
            }
            drop(claim);
            let _ = wake.write(b"!");
        };
        self.claim().is_waiting = true;
        let spawned = std::thread::Builder::new().stack_size(64 << 10).spawn(wait);
        if spawned.is_err() {
            self.claim().is_waiting = false;
        }
        self.waker = Some(waker).filter(|_| spawned.is_ok());
        spawned.map(drop)
    }

    pub(super) fn release(&mut self) {
        let mut claim = self.claim();
        claim.is_wanted = false;
        claim.held = None;
    }

    /// Sleeps until the thread has the lock, or cannot wait for it.
    pub(super) async fn changed(&self) {
        match &self.waker {
            Some(waker) => waker.wait().await,
            None => pending().await,
        }
    }
}

fn lock_claim(claim: &Mutex<LeaderClaim>) -> MutexGuard<'_, LeaderClaim> {
    claim.lock().unwrap_or_else(PoisonError::into_inner)
}
