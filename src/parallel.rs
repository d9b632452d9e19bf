//! Work on many small files, shared among the processors.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{self, Builder};

/// Fewer items are worked on where the caller is.
const FEW: usize = 256;
/// Threads that are used at most.
const MOST: usize = 4;

/// The result of `work` for each item, in the order of the items. Where no thread can be had, the
/// caller does its part.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let part = |items: &[T]| items.iter().map(&work).collect::<Vec<R>>();
    if items.len() < FEW {
        return part(items);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    let mut parts = items.chunks(items.len().div_ceil(threads));
    let first = parts.next().unwrap_or_default();
    let part = &part;
    thread::scope(|scope| {
        let spawn = |items| (items, Builder::new().spawn_scoped(scope, move || part(items)));
        let others: Vec<_> = parts.map(spawn).collect();
        let mut done = part(first);
        for (items, thread) in others {
            match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(results)) => done.extend(results),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => done.extend(part(items)),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for length in [0, 1, FEW - 1, FEW, FEW + 1, 1_003] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(
                map(&items, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
    }
}
