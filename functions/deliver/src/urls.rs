//! The URLs of receivers, as this process has read them. Most deliveries go to a URL that was called
//! a moment ago, and what follows from it need not be found out again.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use adapters::receiver_client::ReadUrl;
use domain::breaker::BreakerPolicies;
use domain::destination::Destination;
use domain::webhook::MAX_URL;
use lru::LruCache;

/// Most URLs that are kept.
const MOST_KEPT: NonZeroUsize = NonZeroUsize::new(300).unwrap();

/// A receiver's URL, and what follows from it.
#[derive(Debug)]
pub(crate) struct ReceiverUrl {
    pub(crate) read: ReadUrl,
    /// Its origin.
    pub(crate) destination: String,
    /// The breaker that direct webhooks to it ask.
    pub(crate) breaker: String,
}

/// The URLs that a process has read.
pub(crate) struct ReceiverUrls(Mutex<LruCache<String, Arc<ReceiverUrl>>>);

impl Default for ReceiverUrls {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST_KEPT)))
    }
}

impl ReceiverUrls {
    /// Reads a URL; `None` when it cannot be read, which the receiver client reports.
    pub(crate) fn read(&self, text: &str, breakers: &BreakerPolicies) -> Option<Arc<ReceiverUrl>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = kept.get(text) {
            return Some(Arc::clone(url));
        }
        let read = ReadUrl::of(text)?;
        let destination = Destination::of(&read.url).as_str().to_owned();
        let breaker = breakers.breaker_of(&read.url);
        let url = Arc::new(ReceiverUrl { read, destination, breaker });
        // A longer one is refused at every call.
        if text.len() <= MAX_URL {
            kept.put(text.to_owned(), Arc::clone(&url));
        }
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use domain::breaker::BreakerPolicy;

    #[test]
    fn a_url_is_read_once_as_long_as_it_is_kept() {
        let general = BreakerPolicy { failure_threshold: 5, reset_ms: 1, reset_max_ms: 1 };
        let policies = BreakerPolicies { general, overrides: BTreeMap::new() };
        let urls = ReceiverUrls::default();
        let first = urls.read("HTTPS://A.example:443/x?y#z", &policies).unwrap();
        assert_eq!((&*first.destination, &*first.breaker), ("https://a.example", "https://a.example"));
        assert_eq!(first.read.uri.as_ref().unwrap(), "https://a.example/x?y");
        assert!(Arc::ptr_eq(&first, &urls.read("HTTPS://A.example:443/x?y#z", &policies).unwrap()));
        assert!(urls.read("a.example", &policies).is_none());
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL));
        assert!(!Arc::ptr_eq(&urls.read(&long, &policies).unwrap(), &urls.read(&long, &policies).unwrap()));
        for i in 0..MOST_KEPT.get() {
            urls.read(&format!("https://a.example/{i}"), &policies).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &urls.read("HTTPS://A.example:443/x?y#z", &policies).unwrap()));
    }
}
