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
use domain::endpoint::{Card, EndpointState, Opened};
use domain::rate::Rate;
use domain::schedule::RetrySchedule;
use domain::seal::OpenError;
use domain::time::Millis;
use lru::LruCache;
use tokio::time::timeout;

/// How old a card may be.
const FRESH: Duration = Duration::from_secs(30);
/// How old it may be while the registry is away.
const USABLE: Duration = Duration::from_secs(15 * 60);
/// How long a batch waits for the registry.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a registry that failed is left alone: every batch would wait for it.
const AWAY: Duration = Duration::from_secs(2);
/// Most cards that are kept.
const MOST_KEPT: NonZeroUsize = NonZeroUsize::new(2_000).unwrap();

/// An endpoint's card, ready for a call.
#[derive(Debug)]
pub(crate) struct OpenCard {
    pub(crate) version: u64,
    pub(crate) state: EndpointState,
    pub(crate) rate: Option<Rate>,
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
    /// It was erased with its tenant.
    Erased,
    /// Nothing that can be used now: its deliveries wait.
    Unknown(&'static str),
}

struct Kept {
    card: CardSeen,
    read_at: Millis,
}

/// The cards that a process knows.
pub struct CardCache {
    cards: Arc<dyn Cards>,
    keys: MasterKeyring,
    kept: Mutex<LruCache<EndpointKey, Kept>>,
    away_until: Mutex<Millis>,
}

impl CardCache {
    /// An empty cache of these cards, whose secrets are sealed with these keys.
    pub fn new(cards: Arc<dyn Cards>, keys: MasterKeyring) -> Self {
        Self { cards, keys, kept: Mutex::new(LruCache::new(MOST_KEPT)), away_until: Mutex::default() }
    }

    /// The URL of an endpoint, as far as it is known without asking anybody.
    pub(crate) fn known_url(&self, key: &EndpointKey) -> Option<String> {
        match &lock(&self.kept).peek(key)?.card {
            CardSeen::Open(card) => Some(card.url.clone()),
            CardSeen::Gone | CardSeen::Erased | CardSeen::Unknown(_) => None,
        }
    }

    /// Reads what is not known well enough: one call for each hundred endpoints, none if
    /// all are known. Those of `tested` are read in any case: whoever tests an endpoint wants
    /// to see the change that was made just now.
    pub(crate) async fn read(&self, wanted: BTreeSet<EndpointKey>, tested: &BTreeSet<EndpointKey>, now: Millis) {
        let is_known = |key: &EndpointKey| !tested.contains(key) && self.kept_within(key, now, FRESH).is_some();
        let missing: Vec<EndpointKey> = wanted.into_iter().filter(|key| !is_known(key)).collect();
        if missing.is_empty() || now < *lock(&self.away_until) {
            return;
        }
        let reading = self.read_all(&missing, !tested.is_empty(), now);
        let why = match timeout(PATIENCE, reading).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        *lock(&self.away_until) = now.after(AWAY);
        metrics::card_unusable();
        tracing::error!(
            error = why,
            "the registry of endpoints is away; cards of up to 15 minutes ago serve, other deliveries wait"
        );
    }

    async fn read_all(&self, keys: &[EndpointKey], consistently: bool, now: Millis) -> Result<(), RegistryError> {
        for keys in keys.chunks(MAX_CARDS) {
            let found = self.cards.cards(keys, consistently).await?;
            for (key, found) in keys.iter().zip(found) {
                let card = self.see(found, now).await;
                lock(&self.kept).put(key.clone(), Kept { card, read_at: now });
            }
        }
        Ok(())
    }

    /// What is known of an endpoint.
    pub(crate) fn card(&self, key: &EndpointKey, now: Millis) -> CardSeen {
        self.kept_within(key, now, USABLE).unwrap_or(CardSeen::Unknown("the registry of endpoints cannot be read"))
    }

    /// A card that was read lately. What could not be used then is not known.
    fn kept_within(&self, key: &EndpointKey, now: Millis, age: Duration) -> Option<CardSeen> {
        let mut kept = lock(&self.kept);
        let Kept { card, read_at } = kept.get(key)?;
        let is_young = read_at.until(now) < age;
        let is_usable = match card {
            // Once a secret has ended, the card is read again.
            CardSeen::Open(card) => age > FRESH || card.opened.until.is_none_or(|until| now < until),
            CardSeen::Gone | CardSeen::Erased => true,
            CardSeen::Unknown(_) => read_at.until(now) < FRESH,
        };
        (is_young && is_usable).then(|| card.clone())
    }

    async fn see(&self, found: CardFound, now: Millis) -> CardSeen {
        match found {
            CardFound::Card(card) => self.open(&card, now).await,
            CardFound::Gone => CardSeen::Gone,
            CardFound::Erased => CardSeen::Erased,
            CardFound::Unreadable => {
                metrics::card_unusable();
                CardSeen::Unknown("the card of its endpoint cannot be read")
            }
            CardFound::Missing => {
                metrics::card_unusable();
                CardSeen::Unknown("the registry does not know its endpoint")
            }
        }
    }

    async fn open(&self, card: &Card, now: Millis) -> CardSeen {
        // Fan-out could not read it either, and queued the delivery without asking it.
        if card.filter.as_ref().is_some_and(|filter| filter.filter().is_err()) {
            metrics::card_unusable();
            return CardSeen::Unknown("the filter of its endpoint cannot be read");
        }
        let mut opened = card.open(&self.keys.keys(), now);
        if matches!(opened, Err(OpenError::UnknownKey)) && self.keys.refresh().await {
            opened = card.open(&self.keys.keys(), now);
        }
        match opened {
            Ok(opened) => {
                let (url, schedule) = (card.url.clone(), card.retry_schedule.clone());
                let Card { version, state, rate, .. } = *card;
                CardSeen::Open(Arc::new(OpenCard { version, state, rate, url, schedule, opened }))
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
