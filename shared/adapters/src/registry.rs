//! What every registry of endpoints and event types offers. Consumers read cards and schemas,
//! and `endpoints` writes them.

use std::sync::Arc;

use async_trait::async_trait;
use domain::endpoint::{Card, EndpointState};
use domain::event_type::{Definition, EventType};
use domain::time::Millis;
use serde::{Deserialize, Serialize};

use crate::BoxError;

/// Most cards of one read.
pub const MAX_CARDS: usize = 100;

/// Which endpoint is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// Its id, `ep_…`.
    pub endpoint: String,
}

/// What the registry knows of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum CardFound {
    /// Its card.
    Card(Arc<Card>),
    /// It was deleted.
    Gone,
    /// It was erased with its tenant: nothing of it is delivered or kept.
    Erased,
    /// Neither a card nor a tombstone: a table that was restored, or an id of nobody.
    Missing,
    /// There is an item that is no card of this endpoint: it was moved or broken, or a newer
    /// version wrote it. It says nothing about others.
    Unreadable,
}

/// What became of a change. Nothing is half written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is written.
    Done,
    /// The card is not what the change began with, or is gone: read it again.
    Changed,
    /// This endpoint of the tenant has the uid.
    UidTaken(String),
    /// The tenant has as many endpoints as it may have.
    TooMany,
}

/// A part of a list of cards, by id.
#[derive(Clone, Debug, Default)]
pub struct CardPage {
    /// The cards.
    pub cards: Vec<Card>,
    /// The ids of those that cannot be read.
    pub unreadable: Vec<String>,
    /// The id after which the list goes on, if it does.
    pub next: Option<String>,
}

/// What is known of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Counts the changes that matter to fan-out.
    pub revision: u64,
    /// How many endpoints it has.
    pub endpoints: u64,
    /// How many of them are paused.
    pub paused: u64,
    /// How many of them are disabled.
    pub disabled: u64,
    /// What was accepted until then is erased.
    pub erased_before: Option<Millis>,
    /// Whether that goes on still.
    pub is_erasing: bool,
}

impl Tenant {
    /// How many endpoints are in a state.
    pub fn in_state(&self, state: EndpointState) -> u64 {
        match state {
            EndpointState::Enabled => self.endpoints.saturating_sub(self.paused).saturating_sub(self.disabled),
            EndpointState::Paused => self.paused,
            EndpointState::Disabled => self.disabled,
        }
    }
}

/// What fan-out must know of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantRevision {
    /// Counts the changes that matter to fan-out.
    pub revision: u64,
    /// Events that were accepted until then are erased.
    pub erased_before: Option<Millis>,
}

/// A part of what the registry has of a tenant that is erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedPart {
    /// Endpoints that are gone now, or were before.
    pub endpoints: Vec<String>,
    /// Where the next part begins, if there is one.
    pub next: Option<String>,
}

/// A part of the list of tenants, by name.
#[derive(Clone, Debug, Default)]
pub struct TenantPage {
    /// Their names.
    pub tenants: Vec<String>,
    /// The name after which the list goes on, if it does.
    pub next: Option<String>,
}

/// A part of the catalogue of event types, by name. What cannot be read is left out.
#[derive(Clone, Debug, Default)]
pub struct EventTypePage {
    /// The event types.
    pub event_types: Vec<EventType>,
    /// The name after which the catalogue goes on, if it does.
    pub next: Option<String>,
}

/// An event type that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogued {
    /// As the catalogue has it now.
    pub event_type: EventType,
    /// Whether the catalogue had none of this name.
    pub is_new: bool,
}

/// How far the walk through all cards is that seals their values with the newest master key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealing {
    /// The master key that it seals with.
    pub key_id: String,
    /// The tenant that it has come to.
    pub tenant: Option<String>,
    /// The endpoint of that tenant that it has come to.
    pub endpoint: Option<String>,
    /// Cards that it has sealed again.
    pub resealed: u64,
    /// Cards with a value that does not open.
    pub refused: u64,
    /// Whether it has seen all cards.
    pub complete: bool,
    /// When it began.
    pub started_at: Millis,
    /// When it went on last.
    pub updated_at: Millis,
}

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An item is not as we write it.
    #[error("an item of the registry cannot be read")]
    Incomplete(#[source] Option<serde_json::Error>),
    /// The table did not give what was asked for.
    #[error("the registry did not give what was asked for")]
    Read(#[source] BoxError),
    /// The table did not take a change.
    #[error("the registry did not take a change")]
    Write(#[source] BoxError),
}

impl RegistryError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "registry_incomplete",
            Self::Read(_) => "registry_read",
            Self::Write(_) => "registry_write",
        }
    }
}

/// Where cards are read. A trait because DynamoDB does not run inside a test; its
/// in-memory model passes the same contract test.
#[async_trait]
pub trait Cards: Send + Sync {
    /// What is known of these endpoints, in their order: 1 to [`MAX_CARDS`], each named
    /// once. `consistently` sees every change that was acknowledged before.
    async fn cards(&self, wanted: &[EndpointKey], consistently: bool) -> Result<Vec<CardFound>, RegistryError>;

    /// What is known of this endpoint as it is now.
    async fn card(&self, key: &EndpointKey) -> Result<CardFound, RegistryError> {
        let found = self.cards(std::slice::from_ref(key), true).await?;
        Ok(found.into_iter().next().unwrap_or(CardFound::Missing))
    }
}

/// Where fan-out reads the endpoints of a tenant.
#[async_trait]
pub trait CardLists: Send + Sync {
    /// The revisions of these tenants, in their order, as they are now: 1 to [`MAX_CARDS`],
    /// each named once. It is 0 of a tenant that never had an endpoint. Cards that are listed
    /// after this have every change that the revision counts.
    async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError>;

    /// Up to `limit` cards of a tenant, by id, after this one. Large cards make a shorter page.
    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError>;
}

/// The catalogue of event types. A write takes the place of what was there, so the last one
/// counts.
#[async_trait]
pub trait EventTypes: Send + Sync {
    /// The event types of these names, in their order, each named once. One that was written a
    /// moment ago may be missing or old. One that cannot be read is told in the log, and is
    /// `None` like one that is not there.
    async fn event_types(&self, names: &[String]) -> Result<Vec<Option<EventType>>, RegistryError>;

    /// The event type of this name as it is now.
    async fn event_type(&self, name: &str) -> Result<Option<EventType>, RegistryError>;

    /// Up to `limit` event types, by name, after this one. Large ones make a shorter page.
    async fn list_event_types(&self, after: Option<&str>, limit: usize) -> Result<EventTypePage, RegistryError>;

    /// Writes an event type. One that is there keeps the time when it was made.
    async fn put_event_type(
        &self,
        name: &str,
        definition: &Definition,
        now: Millis,
    ) -> Result<Catalogued, RegistryError>;

    /// Deletes an event type. `false` if there was none.
    async fn delete_event_type(&self, name: &str) -> Result<bool, RegistryError>;
}

/// Where cards are written.
#[async_trait]
pub trait Registry: Cards + CardLists + EventTypes {
    /// Writes the card of a new endpoint, unless its tenant has `most` already. A card that
    /// this wrote before is written: requests are repeated.
    async fn create(&self, card: &Card, most: u64) -> Result<Written, RegistryError>;

    /// Writes `card` in the place of `before`, whose version it follows. The tenant's revision
    /// rises only with a change that matters to fan-out: of state, event types, filter or retry
    /// schedule.
    async fn replace(&self, before: &Card, card: &Card) -> Result<Written, RegistryError>;

    /// Deletes an endpoint, and leaves a tombstone.
    async fn delete(&self, card: &Card, now: Millis) -> Result<Written, RegistryError>;

    /// The endpoint of this uid, if there is one.
    async fn by_uid(&self, tenant: &str, uid: &str) -> Result<Option<Card>, RegistryError>;

    /// What is known of a tenant, if it ever had an endpoint.
    async fn tenant(&self, tenant: &str) -> Result<Option<Tenant>, RegistryError>;

    /// Up to `limit` tenants, by name, after this one.
    async fn tenants(&self, after: Option<&str>, limit: usize) -> Result<TenantPage, RegistryError>;

    /// Begins to erase a tenant: what was accepted until `before`, and its endpoints of that time.
    async fn begin_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError>;

    /// Erases a part of a tenant's endpoints, which follows `after`. Each leaves a tombstone that
    /// says so.
    async fn erase_part(
        &self,
        tenant: &str,
        before: Millis,
        after: Option<&str>,
        now: Millis,
    ) -> Result<ErasedPart, RegistryError>;

    /// Notes that a tenant is erased, unless another erasing has begun since.
    async fn end_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError>;

    /// How far the last resealing is.
    async fn resealing(&self) -> Result<Option<Resealing>, RegistryError>;

    /// Notes how far a resealing is.
    async fn note_resealing(&self, resealing: &Resealing) -> Result<(), RegistryError>;
}
