//! A model of the registry in memory. It passes the same contract test as the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use adapters::registry::{
    CardFound, CardLists, CardPage, Cards, Catalogued, EndpointKey, ErasedPart, EventTypePage, EventTypes, Registry,
    RegistryError, Resealing, Tenant, TenantPage, TenantRevision, Written,
};
use async_trait::async_trait;
use domain::endpoint::{Card, EndpointState};
use domain::event_type::{Definition, EventType};
use domain::time::Millis;

/// A tenant, and a name in it.
type Key = (String, String);

#[derive(Debug, Default)]
struct Items {
    /// The table keeps text.
    cards: BTreeMap<Key, String>,
    uids: BTreeMap<Key, String>,
    tombstones: BTreeMap<Key, Millis>,
    /// Tombstones of endpoints that were erased.
    erased: BTreeSet<Key>,
    /// Tenants that are in no list: they were erased, or never had an endpoint.
    unlisted: BTreeSet<String>,
    tenants: BTreeMap<String, Tenant>,
    resealing: Option<Resealing>,
    /// Definitions as text, by name, with their times.
    event_types: BTreeMap<String, (String, Millis, Millis)>,
}

/// The registry.
#[derive(Clone, Default)]
pub struct RegistryModel {
    items: Arc<Mutex<Items>>,
    away: Arc<Mutex<bool>>,
    refuses_writes: Arc<Mutex<bool>>,
    reads: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
    overtakers: Arc<Mutex<usize>>,
    is_overtaken_alike: Arc<Mutex<bool>>,
}

fn key(tenant: &str, name: &str) -> Key {
    (tenant.to_owned(), name.to_owned())
}

/// Counts an endpoint that leaves a state, and one that enters another.
fn count(tenant: &mut Tenant, from: Option<EndpointState>, to: Option<EndpointState>) {
    for (state, count) in [(EndpointState::Paused, &mut tenant.paused), (EndpointState::Disabled, &mut tenant.disabled)]
    {
        *count = (*count + u64::from(to == Some(state))).saturating_sub(u64::from(from == Some(state)));
    }
}

fn card_key(card: &Card) -> Key {
    key(&card.tenant, &card.id)
}

fn uid_key(card: &Card) -> Option<Key> {
    card.uid.as_deref().map(|uid| key(&card.tenant, uid))
}

impl Items {
    fn card(&self, key: &Key) -> Result<Option<Card>, RegistryError> {
        let card = self.cards.get(key).map(|text| serde_json::from_str(text));
        card.transpose().map_err(|error| RegistryError::Incomplete(Some(error)))
    }

    /// Who else has this card's uid.
    fn other_owner(&self, card: &Card) -> Option<String> {
        self.uids.get(&uid_key(card)?).filter(|owner| **owner != card.id).cloned()
    }

    fn put(&mut self, card: &Card) {
        self.cards.insert(card_key(card), serde_json::to_string(card).unwrap());
        if let Some(uid) = uid_key(card) {
            self.uids.insert(uid, card.id.clone());
        }
    }

    fn event_type(&self, name: &str) -> Result<Option<EventType>, RegistryError> {
        let Some((text, created_at, updated_at)) = self.event_types.get(name) else { return Ok(None) };
        let definition = serde_json::from_str(text).map_err(|error| RegistryError::Incomplete(Some(error)))?;
        let (name, created_at, updated_at) = (name.to_owned(), *created_at, *updated_at);
        Ok(Some(EventType { name, definition, created_at, updated_at }))
    }

    fn is_at(&self, card: &Card) -> Result<bool, RegistryError> {
        Ok(self.card(&card_key(card))?.is_some_and(|there| there.version == card.version))
    }
}

impl RegistryModel {
    /// From now on it fails, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn be_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    /// From now on it takes no change of a card, or takes them again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn refuse_writes(&self, refuses: bool) {
        *self.refuses_writes.lock().unwrap() = refuses;
    }

    /// How often cards, or event types by their names, were asked for.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// How often a part of a list was asked for.
    pub fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }

    /// So many of the next changes come second: somebody else changes the card just before.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn overtake(&self, changes: usize) {
        *self.overtakers.lock().unwrap() = changes;
    }

    /// The next change is overtaken by another one that is alike.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn overtake_alike(&self) {
        *self.is_overtaken_alike.lock().unwrap() = true;
    }

    /// Changes a card, if somebody is to overtake a change of it.
    fn overtaken(&self, items: &mut Items, key: &Key) -> Result<(), RegistryError> {
        let mut overtakers = self.overtakers.lock().unwrap();
        if *overtakers > 0
            && let Some(mut card) = items.card(key)?
        {
            *overtakers -= 1;
            card.version += 1;
            card.metadata.insert("overtaken".into(), card.version.to_string());
            items.put(&card);
        }
        Ok(())
    }

    /// Everything that it keeps, as text.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn all(&self) -> String {
        format!("{:?}", self.items.lock().unwrap())
    }

    /// Puts a card there, whatever was there before, as a restored table may have it.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn overwrite(&self, card: &Card) {
        self.items.lock().unwrap().put(card);
    }

    /// Puts a card where another one belongs, as somebody may who can write the table.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn misplace(&self, card: &Card, tenant: &str, endpoint: &str) {
        let text = serde_json::to_string(card).unwrap();
        self.items.lock().unwrap().cards.insert(key(tenant, endpoint), text);
    }

    /// Takes an endpoint away without a tombstone, as a restored table may have it.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn lose(&self, tenant: &str, endpoint: &str) {
        let mut items = self.items.lock().unwrap();
        items.cards.remove(&key(tenant, endpoint));
        items.tombstones.remove(&key(tenant, endpoint));
    }

    /// Keeps this text as the definition of an event type, as somebody may who can write the table.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn overwrite_event_type(&self, name: &str, definition: &str) {
        let entry = (definition.to_owned(), Millis(1), Millis(1));
        self.items.lock().unwrap().event_types.insert(name.to_owned(), entry);
    }

    fn items(&self) -> Result<MutexGuard<'_, Items>, RegistryError> {
        if *self.away.lock().unwrap() {
            return Err(RegistryError::Read("the model is away".into()));
        }
        Ok(self.items.lock().unwrap())
    }
}

#[async_trait]
impl Cards for RegistryModel {
    async fn cards(&self, wanted: &[EndpointKey], _consistently: bool) -> Result<Vec<CardFound>, RegistryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let items = self.items()?;
        let of = |wanted: &EndpointKey| {
            let key = key(&wanted.tenant, &wanted.endpoint);
            let is_at_home = |card: &Card| (&card.tenant, &card.id) == (&wanted.tenant, &wanted.endpoint);
            Ok(match items.card(&key)? {
                Some(card) if is_at_home(&card) => CardFound::Card(Arc::new(card)),
                Some(_) => CardFound::Unreadable,
                None if items.erased.contains(&key) => CardFound::Erased,
                None if items.tombstones.contains_key(&key) => CardFound::Gone,
                None => CardFound::Missing,
            })
        };
        wanted.iter().map(of).collect()
    }
}

#[async_trait]
impl CardLists for RegistryModel {
    async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
        let items = self.items()?;
        let revision = |tenant| {
            let Tenant { revision, erased_before, .. } = items.tenants.get(tenant).copied().unwrap_or_default();
            TenantRevision { revision, erased_before }
        };
        Ok(tenants.iter().map(revision).collect())
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let items = self.items()?;
        let first = key(tenant, after.unwrap_or_default());
        let of_tenant = items.cards.range(first..).map(|(key, _)| key);
        let of_tenant = of_tenant.take_while(|(of, _)| of == tenant).filter(|(_, id)| Some(id.as_str()) != after);
        let ids: Vec<&Key> = of_tenant.take(limit + 1).collect();
        let mut page = CardPage::default();
        for key in ids.iter().take(limit) {
            let is_at_home = |card: &Card| (&card.tenant, &card.id) == (&key.0, &key.1);
            match items.card(key) {
                Ok(Some(card)) if is_at_home(&card) => page.cards.push(card),
                Ok(_) | Err(_) => page.unreadable.push(key.1.clone()),
            }
        }
        page.next = ids.iter().take(limit).next_back().filter(|_| ids.len() > limit).map(|key| key.1.clone());
        Ok(page)
    }
}

#[async_trait]
impl Registry for RegistryModel {
    async fn create(&self, card: &Card, most: u64) -> Result<Written, RegistryError> {
        let mut items = self.items()?;
        if let Some(there) = items.card(&card_key(card))? {
            return Ok(if there.created_at == card.created_at { Written::Done } else { Written::Changed });
        }
        if let Some(owner) = items.other_owner(card) {
            return Ok(Written::UidTaken(owner));
        }
        let tenant = items.tenants.get(&card.tenant).copied().unwrap_or_default();
        if tenant.endpoints >= most || tenant.is_erasing {
            return Ok(Written::TooMany);
        }
        let mut tenant = Tenant { revision: tenant.revision + 1, endpoints: tenant.endpoints + 1, ..tenant };
        count(&mut tenant, None, Some(card.state));
        items.unlisted.remove(&card.tenant);
        items.tenants.insert(card.tenant.clone(), tenant);
        items.put(card);
        Ok(Written::Done)
    }

    async fn replace(&self, before: &Card, card: &Card) -> Result<Written, RegistryError> {
        if *self.refuses_writes.lock().unwrap() {
            return Err(RegistryError::Write("the model takes no changes".into()));
        }
        let mut items = self.items()?;
        self.overtaken(&mut items, &card_key(before))?;
        if std::mem::take(&mut *self.is_overtaken_alike.lock().unwrap()) {
            items.put(&Card { change_id: "another".to_owned(), ..card.clone() });
        }
        if !items.is_at(before)? {
            let is_ours = items.card(&card_key(card))?.is_some_and(|there| there == *card);
            return Ok(if is_ours { Written::Done } else { Written::Changed });
        }
        if let Some(owner) = items.other_owner(card) {
            return Ok(Written::UidTaken(owner));
        }
        if let Some(uid) = uid_key(before) {
            items.uids.remove(&uid);
        }
        if !before.fans_out_like(card) {
            let tenant = items.tenants.entry(card.tenant.clone()).or_default();
            tenant.revision += 1;
            count(tenant, Some(before.state), Some(card.state));
        }
        items.put(card);
        Ok(Written::Done)
    }

    async fn delete(&self, card: &Card, now: Millis) -> Result<Written, RegistryError> {
        let mut items = self.items()?;
        self.overtaken(&mut items, &card_key(card))?;
        if !items.is_at(card)? {
            let is_ours = items.tombstones.get(&card_key(card)) == Some(&now);
            return Ok(if is_ours { Written::Done } else { Written::Changed });
        }
        items.cards.remove(&card_key(card));
        if let Some(uid) = uid_key(card) {
            items.uids.remove(&uid);
        }
        items.tombstones.insert(card_key(card), now);
        let tenant = items.tenants.entry(card.tenant.clone()).or_default();
        (tenant.revision, tenant.endpoints) = (tenant.revision + 1, tenant.endpoints.saturating_sub(1));
        count(tenant, Some(card.state), None);
        Ok(Written::Done)
    }

    async fn by_uid(&self, tenant: &str, uid: &str) -> Result<Option<Card>, RegistryError> {
        let items = self.items()?;
        let Some(endpoint) = items.uids.get(&key(tenant, uid)) else { return Ok(None) };
        items.card(&key(tenant, endpoint))
    }

    async fn tenant(&self, tenant: &str) -> Result<Option<Tenant>, RegistryError> {
        Ok(self.items()?.tenants.get(tenant).copied())
    }

    async fn tenants(&self, after: Option<&str>, limit: usize) -> Result<TenantPage, RegistryError> {
        let items = self.items()?;
        let names = items.tenants.keys().filter(|name| !items.unlisted.contains(*name));
        let names = names.filter(|name| after.is_none_or(|after| &***name > after));
        let mut tenants: Vec<String> = names.take(limit + 1).cloned().collect();
        let goes_on = tenants.len() > limit;
        tenants.truncate(limit);
        let next = tenants.last().filter(|_| goes_on).cloned();
        Ok(TenantPage { tenants, next })
    }

    async fn begin_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        let mut items = self.items()?;
        if !items.tenants.contains_key(tenant) {
            items.unlisted.insert(tenant.to_owned());
        }
        let known = items.tenants.entry(tenant.to_owned()).or_default();
        if known.erased_before.is_none_or(|earlier| earlier <= before) {
            (known.erased_before, known.is_erasing) = (Some(before), true);
            known.revision += 1;
        }
        Ok(())
    }

    async fn erase_part(
        &self,
        tenant: &str,
        before: Millis,
        after: Option<&str>,
        now: Millis,
    ) -> Result<ErasedPart, RegistryError> {
        let mut items = self.items()?;
        let follows = |key: &&Key| key.0 == tenant && after.is_none_or(|after| key.1.as_str() > after);
        let ids: BTreeSet<String> =
            items.cards.keys().chain(items.tombstones.keys()).filter(follows).map(|key| key.1.clone()).collect();
        let mut part = ErasedPart::default();
        for id in ids.iter().take(10) {
            let key = key(tenant, id);
            if items.card(&key).ok().flatten().is_some_and(|card| card.created_at > before) {
                continue;
            }
            items.cards.remove(&key);
            items.uids.retain(|(of, _), owner| of != tenant || owner != id);
            items.tombstones.insert(key.clone(), now);
            items.erased.insert(key);
            part.endpoints.push(id.clone());
        }
        part.next = ids.iter().take(10).next_back().filter(|_| ids.len() > 10).cloned();
        Ok(part)
    }

    async fn end_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        let mut items = self.items()?;
        if let Some(known) = items.tenants.get_mut(tenant)
            && known.erased_before == Some(before)
            && known.is_erasing
        {
            known.is_erasing = false;
            (known.endpoints, known.paused, known.disabled) = (0, 0, 0);
            known.revision += 1;
            items.unlisted.insert(tenant.to_owned());
        }
        Ok(())
    }

    async fn resealing(&self) -> Result<Option<Resealing>, RegistryError> {
        Ok(self.items()?.resealing.clone())
    }

    async fn note_resealing(&self, resealing: &Resealing) -> Result<(), RegistryError> {
        self.items()?.resealing = Some(resealing.clone());
        Ok(())
    }
}

#[async_trait]
impl EventTypes for RegistryModel {
    async fn event_types(&self, names: &[String]) -> Result<Vec<Option<EventType>>, RegistryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let items = self.items()?;
        Ok(names.iter().map(|name| items.event_type(name).ok().flatten()).collect())
    }

    async fn event_type(&self, name: &str) -> Result<Option<EventType>, RegistryError> {
        self.items()?.event_type(name)
    }

    async fn list_event_types(&self, after: Option<&str>, limit: usize) -> Result<EventTypePage, RegistryError> {
        let items = self.items()?;
        let names = items.event_types.keys().filter(|name| after.is_none_or(|after| &***name > after));
        let names: Vec<&String> = names.take(limit + 1).collect();
        let here = || names.iter().take(limit);
        let next = here().next_back().filter(|_| names.len() > limit).map(|name| (*name).clone());
        let event_types = here().filter_map(|name| items.event_type(name).ok().flatten()).collect();
        Ok(EventTypePage { event_types, next })
    }

    async fn put_event_type(
        &self,
        name: &str,
        definition: &Definition,
        now: Millis,
    ) -> Result<Catalogued, RegistryError> {
        let mut items = self.items()?;
        let created_at = items.event_types.get(name).map(|(_, created_at, _)| *created_at);
        let entry = (serde_json::to_string(definition).unwrap(), created_at.unwrap_or(now), now);
        items.event_types.insert(name.to_owned(), entry);
        let event_type = items.event_type(name)?.unwrap();
        Ok(Catalogued { event_type, is_new: created_at.is_none() })
    }

    async fn delete_event_type(&self, name: &str) -> Result<bool, RegistryError> {
        Ok(self.items()?.event_types.remove(name).is_some())
    }
}
