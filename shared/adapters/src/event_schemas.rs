//! The schemas of event types, as a process that accepts events keeps them: compiled, for half a
//! minute, and for longer while the registry is away. Accepting an event never depends on the
//! registry: what is not known counts as no schema.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::event_type::{EventType, JsonText};
use domain::json_schema::JsonSchema;
use domain::time::Millis;
use lru::LruCache;
use tokio::time::timeout;

use crate::metrics;
use crate::registry::EventTypes;
use crate::telemetry::chain;

/// How old a schema may be.
const FRESH: Duration = Duration::from_secs(30);
/// How old it may be while the registry is away.
const USABLE: Duration = Duration::from_secs(15 * 60);
/// How long a request waits for the registry.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a registry that failed is left alone: every request would wait for it.
const AWAY: Duration = Duration::from_secs(2);
/// Most event types that are kept, with and without schemas.
const MOST_KEPT: NonZeroUsize = NonZeroUsize::new(2_000).unwrap();
/// Most memory for their schemas, in bytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// The schema of an event type, if it has one that compiles, and the text that it was made from.
#[derive(Clone, Debug, Default)]
struct Known {
    text: Option<JsonText>,
    schema: Option<Arc<JsonSchema>>,
}

impl Known {
    /// About what it takes, in bytes.
    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.as_str().len()) + self.schema.as_ref().map_or(0, |it| it.bytes())
    }

    /// What the registry says of an event type. A schema that did not change is not compiled again.
    fn of(found: Option<EventType>, before: Option<Self>) -> Self {
        let Some(EventType { name, definition, .. }) = found else { return Self::default() };
        if let Some(before) = before.filter(|it| it.schema.is_some() && it.text == definition.schema) {
            return before;
        }
        let schema = definition.compiled().unwrap_or_else(|faults| {
            metrics::schemas_unusable(1);
            tracing::error!(
                event_type = name,
                faults = faults.count(),
                "the schema of an event type does not compile; its payloads are accepted unchecked"
            );
            None
        });
        Self { text: definition.schema, schema: schema.map(Arc::new) }
    }
}

struct Kept {
    known: Known,
    read_at: Millis,
}

/// What is kept, with the sum of its bytes.
struct Shelf {
    kept: LruCache<String, Kept>,
    bytes: usize,
}

impl Shelf {
    fn put(&mut self, name: String, known: Known, read_at: Millis) {
        self.bytes += known.bytes();
        let replaced = self.kept.push(name, Kept { known, read_at });
        self.forget(replaced);
        // The last one was asked for just now, and is smaller than all may be.
        while self.bytes > MOST_BYTES {
            let oldest = self.kept.pop_lru();
            self.forget(oldest);
        }
    }

    fn forget(&mut self, entry: Option<(String, Kept)>) {
        self.bytes -= entry.map_or(0, |(_, kept)| kept.known.bytes());
    }

    /// What was read of an event type within this time.
    fn within(&mut self, name: &str, now: Millis, age: Duration) -> Option<Known> {
        let kept = self.kept.get(name)?;
        (kept.read_at.until(now) < age).then(|| kept.known.clone())
    }
}

/// The schemas that a process knows.
pub struct EventSchemas {
    event_types: Arc<dyn EventTypes>,
    shelf: Mutex<Shelf>,
    away_until: Mutex<Millis>,
}

impl EventSchemas {
    /// Nothing is known yet of these event types.
    pub fn new(event_types: Arc<dyn EventTypes>) -> Self {
        let shelf = Shelf { kept: LruCache::new(MOST_KEPT), bytes: 0 };
        Self { event_types, shelf: Mutex::new(shelf), away_until: Mutex::default() }
    }

    /// The schemas of these event types, for those that have one. One read of the registry, none
    /// if all are known. A schema that is not known is left out, as if there were none.
    pub async fn schemas(&self, names: BTreeSet<String>, now: Millis) -> BTreeMap<String, Arc<JsonSchema>> {
        let mut known = BTreeMap::new();
        let mut missing = Vec::new();
        for name in names {
            if let Some(fresh) = self.within(&name, now, FRESH) {
                known.insert(name, fresh);
            } else {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            known.extend(self.read(missing, now).await);
        }
        known.into_iter().filter_map(|(name, known)| Some((name, known.schema?))).collect()
    }

    /// Reads what is not known well enough, and falls back on what was known.
    async fn read(&self, names: Vec<String>, now: Millis) -> Vec<(String, Known)> {
        match self.found(&names, now).await {
            Ok(found) => names.into_iter().zip(found).map(|(name, found)| self.keep(name, found, now)).collect(),
            Err(why) => {
                let count = names.len();
                let usable = |name: String| self.within(&name, now, USABLE).map(|known| (name, known));
                let known: Vec<_> = names.into_iter().filter_map(usable).collect();
                let unknown = count - known.len();
                if unknown > 0 {
                    metrics::schemas_unusable(unknown as u64);
                    tracing::error!(
                        error = why,
                        event_types = unknown,
                        "the registry is away; payloads of these event types are accepted unchecked"
                    );
                }
                known
            }
        }
    }

    /// What the registry says now, or why it does not. One that failed is left alone for a while.
    async fn found(&self, names: &[String], now: Millis) -> Result<Vec<Option<EventType>>, String> {
        if now < *lock(&self.away_until) {
            return Err("it did not answer just now".to_owned());
        }
        let why = match timeout(PATIENCE, self.event_types.event_types(names)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => chain(&error).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        *lock(&self.away_until) = now.after(AWAY);
        Err(why)
    }

    fn keep(&self, name: String, found: Option<EventType>, now: Millis) -> (String, Known) {
        let before = self.within(&name, now, Duration::MAX);
        let known = Known::of(found, before);
        lock(&self.shelf).put(name.clone(), known.clone(), now);
        (name, known)
    }

    fn within(&self, name: &str, now: Millis, age: Duration) -> Option<Known> {
        lock(&self.shelf).within(name, now, age)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
