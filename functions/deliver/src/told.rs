//! What this process has told of endpoints lately, so that it does not tell the same again with
//! every batch.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Millis;
use lru::LruCache;

/// How often one thing is told of an endpoint.
const PAUSE: Duration = Duration::from_secs(60);
/// Notices that a process remembers. One that is forgotten is told again, and that does no harm.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// What this process has told lately.
pub(crate) struct Told(Mutex<LruCache<String, Millis>>);

impl Default for Told {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl Told {
    /// Whether this was not told a moment ago.
    pub(crate) fn is_new(&self, id: &str, now: Millis) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(id).is_none_or(|at| now >= at.after(PAUSE))
    }

    /// Notes that it was told.
    pub(crate) fn remember(&self, id: String, now: Millis) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(id, now);
    }
}
