//! The subscriptions of tenants, as this process keeps them: only what matching needs, by
//! the tenant's revision, bounded in bytes.
//!
//! A revision is read as it is now, for every batch. Where it has changed, the cards are read
//! after it, and as they are now. So a change that was acknowledged before an event was
//! accepted is seen by that event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::metrics;
use adapters::registry::{CardLists, CardPage, RegistryError, TenantRevision};
use domain::names::is_endpoint_id;
use domain::subscription::Subscription;
use domain::time::Millis;
use lru::LruCache;
use tokio::time::timeout;

/// Cards that are read at a time.
const PART: usize = 1000;
/// Most bytes of subscriptions that are kept.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// What a part takes beside its subscriptions, in bytes.
const PART_BYTES: usize = 512;
/// Most bytes of a part. Its list goes on in another one.
const MOST_PART_BYTES: usize = 4 * 1024 * 1024;
/// How long what is kept of a tenant serves, whatever its revision says: a table that was
/// restored may come to the same revision again.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// How long a page waits for the registry each time.
const PATIENCE: Duration = Duration::from_secs(8);

/// The registry does not say what endpoints want.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] RegistryError),
    /// It did not answer in time.
    #[error("the registry did not answer in time")]
    Silent,
}

/// A part of a tenant's subscriptions, by endpoint.
#[derive(Debug)]
pub(crate) struct Part {
    subscriptions: Vec<Subscription>,
    /// The endpoint after which the list goes on, if it does.
    end: Option<String>,
    bytes: usize,
}

impl Part {
    /// Those after this endpoint.
    pub(crate) fn after(&self, endpoint: Option<&str>) -> &[Subscription] {
        let is_before = |subscription: &Subscription| endpoint.is_some_and(|after| *subscription.endpoint <= *after);
        let (_, rest) = self.subscriptions.split_at(self.subscriptions.partition_point(is_before));
        rest
    }

    /// The endpoint after which the list goes on, if it does.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    fn of(page: CardPage) -> Self {
        // Nobody can be an endpoint whose id is none.
        let unread = page.unreadable.into_iter().filter(|endpoint| is_endpoint_id(endpoint));
        let unread = unread.map(|endpoint| (endpoint, None));
        let mut cards: Vec<_> =
            page.cards.into_iter().map(|card| (card.id.clone(), Some(card))).chain(unread).collect();
        cards.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let (mut subscriptions, mut bytes, mut end) = (Vec::with_capacity(cards.len()), PART_BYTES, page.next);
        for (endpoint, card) in cards {
            if bytes > MOST_PART_BYTES {
                end = subscriptions.last().map(|last: &Subscription| last.endpoint.clone());
                break;
            }
            let subscription = card.map_or_else(|| Subscription::unreadable(endpoint), |card| Subscription::of(&card));
            bytes += subscription.bytes();
            subscriptions.push(subscription);
        }
        for subscription in subscriptions.iter().filter(|subscription| subscription.is_unknown()) {
            metrics::card_unusable();
            tracing::error!(
                endpoint_id = %subscription.endpoint,
                "it cannot be read what an endpoint wants; its deliveries wait until it can be"
            );
        }
        Self { subscriptions, end, bytes }
    }
}

/// What is kept of a tenant: parts of its list, by the endpoint after which they begin.
struct Tenant {
    revision: u64,
    read_at: Millis,
    parts: BTreeMap<Option<String>, Arc<Part>>,
}

impl Tenant {
    /// The part in which the list goes on after this endpoint.
    fn part(&self, after: Option<&str>) -> Option<Arc<Part>> {
        let after = after.map(str::to_owned);
        let (_, part) = self.parts.range(..=&after).next_back()?;
        // Beyond its end, another part goes on.
        let goes_on = part.end.is_none() || part.end > after;
        goes_on.then(|| Arc::clone(part))
    }

    fn bytes(&self) -> usize {
        self.parts.values().map(|part| part.bytes).sum()
    }
}

struct Kept {
    tenants: LruCache<String, Tenant>,
    bytes: usize,
}

impl Kept {
    fn forget(&mut self, tenant: &str) {
        self.bytes -= self.tenants.pop(tenant).map_or(0, |tenant| tenant.bytes());
    }

    fn keep(&mut self, name: &str, (revision, read_at): (u64, Millis), after: Option<&str>, part: &Arc<Part>) {
        while self.bytes + part.bytes > MOST_BYTES
            && let Some((_, tenant)) = self.tenants.pop_lru()
        {
            self.bytes -= tenant.bytes();
        }
        let tenant = || Tenant { revision, read_at, parts: BTreeMap::new() };
        let tenant = self.tenants.get_or_insert_mut(name.to_owned(), tenant);
        let replaced = tenant.parts.insert(after.map(str::to_owned), Arc::clone(part));
        self.bytes = self.bytes + part.bytes - replaced.map_or(0, |part| part.bytes);
    }
}

/// The subscriptions that a process knows.
pub struct Subscriptions {
    lists: Arc<dyn CardLists>,
    kept: Mutex<Kept>,
    /// One reads at a time: the others find what it has read.
    reading: tokio::sync::Mutex<()>,
}

impl Subscriptions {
    /// Nothing is known of these lists yet.
    pub fn new(lists: Arc<dyn CardLists>) -> Self {
        let kept = Kept { tenants: LruCache::unbounded(), bytes: 0 };
        Self { lists, kept: Mutex::new(kept), reading: tokio::sync::Mutex::new(()) }
    }

    /// The revisions of these tenants as they are now.
    pub(crate) async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, Unreadable> {
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        Ok(timeout(PATIENCE, self.lists.revisions(tenants)).await.map_err(|_| Unreadable::Silent)??)
    }

    /// The part of a tenant's list that goes on after an endpoint. It has every change that
    /// this revision counts.
    pub(crate) async fn part(
        &self,
        tenant: &str,
        revision: u64,
        after: Option<&str>,
        now: Millis,
    ) -> Result<Arc<Part>, Unreadable> {
        if let Some(part) = self.known(tenant, revision, after, now) {
            return Ok(part);
        }
        let reading = async {
            let _reading = self.reading.lock().await;
            if let Some(part) = self.known(tenant, revision, after, now) {
                return Ok(part);
            }
            let part = Arc::new(Part::of(self.lists.list(tenant, after, PART).await?));
            self.lock().keep(tenant, (revision, now), after, &part);
            Ok(part)
        };
        timeout(PATIENCE, reading).await.map_err(|_| Unreadable::Silent)?
    }

    /// What is kept. Parts of another revision, and old ones, are forgotten.
    fn known(&self, name: &str, revision: u64, after: Option<&str>, now: Millis) -> Option<Arc<Part>> {
        let mut kept = self.lock();
        let tenant = kept.tenants.get(name)?;
        if tenant.revision != revision || tenant.read_at.until(now) > FRESH {
            kept.forget(name);
            return None;
        }
        tenant.part(after)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A list whose parts end where chance wants, as those of a table with large cards do.
    #[derive(Default)]
    struct Lists {
        endpoints: Mutex<Vec<String>>,
        read: AtomicUsize,
    }

    #[async_trait]
    impl CardLists for Lists {
        async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
            Ok(vec![TenantRevision { revision: 1, erased_before: None }; tenants.len()])
        }

        async fn list(&self, _: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError> {
            self.read.fetch_add(1, Ordering::Relaxed);
            let all = self.endpoints.lock().unwrap();
            let rest: Vec<String> =
                all.iter().filter(|endpoint| after.is_none_or(|after| &***endpoint > after)).cloned().collect();
            let count = fastrand::usize(0..=rest.len().min(7)).min(limit);
            let next = match rest.get(count) {
                None => None,
                Some(_) if count == 0 => Some(after.unwrap_or_default().to_owned()),
                Some(_) => rest.get(count - 1).cloned(),
            };
            let count = if next.is_some() { count } else { rest.len() };
            Ok(CardPage { cards: Vec::new(), unreadable: rest[..count].to_vec(), next })
        }
    }

    fn endpoint(n: usize) -> String {
        format!("ep_{n:022}")
    }

    /// All endpoints after one, as a fan-out walks through them.
    async fn walk(known: &Subscriptions, revision: u64, after: Option<String>) -> Vec<String> {
        let (mut found, mut position) = (Vec::new(), after);
        loop {
            let part = known.part("acme", revision, position.as_deref(), Millis(0)).await.unwrap();
            found.extend(part.after(position.as_deref()).iter().map(|one| one.endpoint.clone()));
            match part.end() {
                None => return found,
                Some(end) => position = Some(end.to_owned()),
            }
        }
    }

    #[tokio::test]
    async fn whoever_begins_anywhere_finds_every_endpoint_after_it_once() {
        for seed in 0..300 {
            fastrand::seed(seed);
            let lists = Arc::new(Lists::default());
            let known = Subscriptions::new(Arc::clone(&lists) as _);
            for revision in 0..3 {
                let all: Vec<String> = (0..40).filter(|_| fastrand::bool()).map(endpoint).collect();
                lists.endpoints.lock().unwrap().clone_from(&all);
                for _ in 0..6 {
                    let after = (fastrand::u8(0..3) > 0).then(|| endpoint(fastrand::usize(0..40)));
                    let wanted: Vec<String> =
                        all.iter().filter(|one| after.as_ref().is_none_or(|after| *one > after)).cloned().collect();
                    assert_eq!(walk(&known, revision, after.clone()).await, wanted, "seed {seed}, after {after:?}");
                }
                walk(&known, revision, None).await;
                let read = lists.read.load(Ordering::Relaxed);
                walk(&known, revision, Some(endpoint(20))).await;
                assert_eq!(lists.read.load(Ordering::Relaxed), read, "what is known is not read again");
            }
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_old_parts_are_read_again() {
        let lists = Arc::new(Lists::default());
        lists.endpoints.lock().unwrap().push(endpoint(1));
        let known = Subscriptions::new(Arc::clone(&lists) as _);
        let part = |now| known.part("acme", 1, None, Millis(now));
        part(0).await.unwrap();
        part(60_000).await.unwrap();
        let read = lists.read.load(Ordering::Relaxed);
        part(domain::time::whole_ms(FRESH) + 1).await.unwrap();
        assert!(lists.read.load(Ordering::Relaxed) > read);
        for n in 0..50_000 {
            let part = Part { subscriptions: Vec::new(), end: None, bytes: 1000 };
            known.lock().keep(&format!("t-{n}"), (1, Millis(0)), None, &Arc::new(part));
        }
        assert!(known.lock().bytes <= MOST_BYTES);
    }
}
