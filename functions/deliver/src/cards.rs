//! Cards of endpoints, as this process keeps them: opened, for half a minute, and for
//! longer while the registry is away. Clear text is here and nowhere else.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::aws::master_keys::MasterKeyring;
use adapters::metrics;
use adapters::registry::{CardFound, Cards, EndpointKey, MAX_CARDS, RegistryError};
use adapters::telemetry::chain;
use domain::endpoint::{Card, Opened};
use domain::schedule::RetrySchedule;
use domain::seal::OpenError;
use domain::time::Millis;
use lru::LruCache;

/// How old a card may be.
const FRESH: Duration = Duration::from_secs(30);
/// How old it may be while the registry is away.
const USABLE: Duration = Duration::from_secs(15 * 60);
/// Most cards that are kept.
const MOST_KEPT: NonZeroUsize = NonZeroUsize::new(2_000).unwrap();

/// An endpoint's card, ready for a call.
#[derive(Debug)]
pub(crate) struct OpenCard {
    pub(crate) url: String,
    pub(crate) schedule: RetrySchedule,
    pub(crate) opened: Opened,
}

/// What is known of an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum CardSeen {
    /// Its card.
    Open(Arc<OpenCard>),
    /// It was deleted.
    Gone,
    /// Nothing that can be used now: its deliveries wait.
    Unknown(&'static str),
}

struct Kept {
    card: CardSeen,
    read_at: Millis,
}

/// The cards that this process knows.
pub(crate) struct CardCache {
    cards: Arc<dyn Cards>,
    keys: MasterKeyring,
    kept: Mutex<LruCache<EndpointKey, Kept>>,
}

impl CardCache {
    /// An empty cache.
    pub(crate) fn new(cards: Arc<dyn Cards>, keys: MasterKeyring) -> Self {
        Self { cards, keys, kept: Mutex::new(LruCache::new(MOST_KEPT)) }
    }

    /// The URL of an endpoint, as far as it is known without asking anybody.
    pub(crate) fn known_url(&self, key: &EndpointKey) -> Option<String> {
        match &self.lock().peek(key)?.card {
            CardSeen::Open(card) => Some(card.url.clone()),
            CardSeen::Gone | CardSeen::Unknown(_) => None,
        }
    }

    /// Reads what is not known well enough: one call for each hundred endpoints, none if
    /// all are known. Those of `tested` are read in any case: whoever tests an endpoint wants
    /// to see the change that was made just now.
    pub(crate) async fn read(&self, wanted: BTreeSet<EndpointKey>, tested: &BTreeSet<EndpointKey>, now: Millis) {
        let is_known = |key: &EndpointKey| !tested.contains(key) && self.kept_within(key, now, FRESH).is_some();
        let missing: Vec<EndpointKey> = wanted.into_iter().filter(|key| !is_known(key)).collect();
        for keys in missing.chunks(MAX_CARDS) {
            match self.cards.cards(keys, !tested.is_empty()).await {
                Ok(found) => {
                    for (key, found) in keys.iter().zip(found) {
                        let card = self.see(found, now).await;
                        self.lock().put(key.clone(), Kept { card, read_at: now });
                    }
                }
                Err(error) => tell_away(&error),
            }
        }
    }

    /// What is known of an endpoint.
    pub(crate) fn card(&self, key: &EndpointKey, now: Millis) -> CardSeen {
        self.kept_within(key, now, USABLE).unwrap_or(CardSeen::Unknown("the registry of endpoints cannot be read"))
    }

    /// A card that was read lately. What could not be used then is not known.
    fn kept_within(&self, key: &EndpointKey, now: Millis, age: Duration) -> Option<CardSeen> {
        let mut kept = self.lock();
        let Kept { card, read_at } = kept.get(key)?;
        let is_young = read_at.until(now) < age;
        let is_usable = match card {
            CardSeen::Open(_) | CardSeen::Gone => true,
            CardSeen::Unknown(_) => read_at.until(now) < FRESH,
        };
        (is_young && is_usable).then(|| card.clone())
    }

    async fn see(&self, found: CardFound, now: Millis) -> CardSeen {
        match found {
            CardFound::Card(card) => self.open(&card, now).await,
            CardFound::Gone => CardSeen::Gone,
            CardFound::Missing => CardSeen::Unknown("the registry does not know its endpoint"),
        }
    }

    async fn open(&self, card: &Card, now: Millis) -> CardSeen {
        let mut opened = card.open(&self.keys.keys(), now);
        if matches!(opened, Err(OpenError::UnknownKey)) && self.keys.refresh().await {
            opened = card.open(&self.keys.keys(), now);
        }
        match opened {
            Ok(opened) => {
                let (url, schedule) = (card.url.clone(), card.retry_schedule.clone());
                CardSeen::Open(Arc::new(OpenCard { url, schedule, opened }))
            }
            Err(error) => {
                metrics::card_unusable();
                tracing::error!(
                    tenant = %card.tenant,
                    endpoint_id = %card.id,
                    version = card.version,
                    error = %chain(&error),
                    "the secrets of an endpoint cannot be opened; its deliveries wait"
                );
                CardSeen::Unknown("the secrets of its endpoint cannot be opened")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<EndpointKey, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_away(error: &RegistryError) {
    tracing::error!(
        code = error.code(),
        error = %chain(error),
        "the registry of endpoints is away; cards of up to 15 minutes ago serve, other deliveries wait"
    );
}
