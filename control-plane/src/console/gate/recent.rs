//! What was asked a moment ago need not be asked again, and what is being asked not twice.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

/// For so long a decision holds.
pub(super) const FRESH: Duration = Duration::from_secs(10);
/// Decisions that are remembered.
const MOST: usize = 10_000;

/// Answers of the last few seconds, and when they came.
pub(super) struct Recent<K, V>(Mutex<Answers<K, V>>);
type Answers<K, V> = HashMap<K, (V, Instant)>;

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let all = self.0.lock();
        let (value, at) = all.get(key)?;
        (at.elapsed() < FRESH).then(|| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, (_, at)| at.elapsed() < FRESH);
        }
        if all.len() < MOST {
            all.insert(key, (value, Instant::now()));
        }
    }
}

/// Questions that are being asked. Who comes while one is, waits for its answer.
pub(super) struct Together<K, V>(Mutex<Asked<K, V>>);
type Asked<K, V> = HashMap<K, Arc<OnceCell<V>>>;

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Together<K, V> {
    /// The answer, of `asked` only if nobody is asking. Should who asks for all go away, the next one does.
    pub(super) async fn ask(&self, key: &K, asked: impl Future<Output = V>) -> V {
        let cell = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let waiting = Waiting { all: self, key, cell: &cell };
        let said = cell.get_or_init(|| asked).await.clone();
        drop(waiting);
        said
    }
}

/// One who waits. However that ends, the last one takes the question away.
struct Waiting<'a, K: Eq + Hash, V> {
    all: &'a Together<K, V>,
    key: &'a K,
    cell: &'a Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Drop for Waiting<'_, K, V> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // Answered, it is of the past for whoever comes next.
        let over = self.cell.initialized() || Arc::strong_count(self.cell) <= 2;
        if over && all.get(self.key).is_some_and(|cell| Arc::ptr_eq(cell, self.cell)) {
            all.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_and_if_it_goes_away_another_does() {
        let (together, count) = (Together::default(), AtomicUsize::new(0));
        let second = Duration::from_secs(1);
        let ask = async || {
            let number = count.fetch_add(1, Relaxed);
            sleep(second).await;
            number
        };
        let all = (0..100).map(|_| together.ask(&"a", ask()));
        let (all, other) =
            tokio::join!(futures_util::future::join_all(all), together.ask(&"b", ask()));
        assert_eq!((all, other), (vec![0; 100], 1));
        let first = timeout(second / 2, together.ask(&"a", ask()));
        let (first, then) = tokio::join!(first, together.ask(&"a", ask()));
        assert_eq!((first.ok(), then), (None, 3));
        assert!(timeout(second / 2, together.ask(&"a", ask())).await.is_err());
        assert_eq!(together.0.lock().len(), 0, "nobody waits any more");
    }
}
