//! Work on several things, some at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, also after a thread that held it has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works on all items, `at_once` at a time; returns what came of each, in the order of the items.
pub fn each<T: Send, R: Send>(
    items: Vec<T>,
    at_once: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = at_once.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // A statement of its own, so that the queue is free while the work is done.
                    let next = lock(&queue).next();
                    let Some((number, item)) = next else { return };
                    let result = work(item);
                    lock(&done).push((number, result));
                }
            });
        }
    });
    let mut done = std::mem::take(&mut *lock(&done));
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Duration;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let slow_first = |number: u64| {
            std::thread::sleep(Duration::from_millis(20 - 5 * number));
            number * 10
        };
        assert_eq!(each(vec![0, 1, 2, 3], 3, slow_first), [0, 10, 20, 30]);
        assert!(each(Vec::<u64>::new(), 2, slow_first).is_empty());
    }

    #[test]
    fn items_are_worked_on_at_the_same_time() {
        // Ends only if two come here together.
        let both = Barrier::new(2);
        each(vec![(), ()], 2, |()| {
            both.wait();
        });
    }
}
