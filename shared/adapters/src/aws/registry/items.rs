//! The items of the registry: their keys and attributes, written and read.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::endpoint::Card;
use domain::event_type::{Definition, EventType};
use domain::scope::Scope;
use domain::time::Millis;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws::attributes::{Item, number, number_in, text, text_in};
use crate::registry::{RegistryError, Resealing, Tenant};
use crate::tokens::{KeptLink, KeptToken};

/// How long a tombstone stays: longer than dead letters, history and anything else that may
/// name a deleted endpoint.
const TOMBSTONE: Duration = Duration::from_secs(75 * 86_400);
/// How much longer than its token a revocation stays.
const REVOCATION: Duration = Duration::from_secs(86_400);

// Attribute names.
pub(super) const PK: &str = "pk";
pub(super) const SK: &str = "sk";
pub(super) const CARD: &str = "card";
pub(super) const VERSION: &str = "version";
pub(super) const ENDPOINT: &str = "endpoint";
pub(super) const REVISION: &str = "revision";
pub(super) const ENDPOINTS: &str = "endpoints";
pub(super) const PAUSED: &str = "paused";
pub(super) const DISABLED: &str = "disabled";
pub(super) const DELETED_AT: &str = "deleted_at";
pub(super) const TTL: &str = "ttl";
pub(super) const RESEALING: &str = "resealing";
pub(super) const DEFINITION: &str = "definition";
pub(super) const CREATED_AT: &str = "created_at";
pub(super) const UPDATED_AT: &str = "updated_at";
pub(super) const ERASED: &str = "erased";
pub(super) const ERASED_BEFORE: &str = "erased_before";
pub(super) const ERASING: &str = "erasing";

pub(super) const TOKEN: &str = "token";
pub(super) const LINK: &str = "link";
pub(super) const EPOCH: &str = "epoch";
pub(super) const SCOPE: &str = "scope";
pub(super) const REVOKED_AT: &str = "revoked_at";
pub(super) const EXPIRES_AT: &str = "expires_at";

/// The partition of tokens.
pub(super) const TOKENS: &str = "TOKENS";
/// How the sort keys of tokens begin.
pub(super) const TOKEN_PREFIX: &str = "I#";
/// The partition of the directory.
pub(super) const DIRECTORY: &str = "TENANTS";
/// The partition of the catalogue of event types.
pub(super) const CATALOGUE: &str = "TYPES";
/// How the sort keys of cards begin.
pub(super) const CARD_PREFIX: &str = "E#";

fn key(pk: &str, sk: &str) -> Item {
    Item::from([(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))])
}

/// The key of a place in a partition.
pub(super) fn key_in(partition: &str, place: &str) -> Item {
    key(partition, place)
}

/// The partition of a tenant.
pub(super) fn partition(tenant: &str) -> String {
    format!("T#{tenant}")
}

pub(super) fn card_key(tenant: &str, endpoint: &str) -> Item {
    key(&partition(tenant), &format!("{CARD_PREFIX}{endpoint}"))
}

pub(super) fn tombstone_key(tenant: &str, endpoint: &str) -> Item {
    key(&partition(tenant), &format!("X#{endpoint}"))
}

pub(super) fn uid_key(tenant: &str, uid: &str) -> Item {
    key(&partition(tenant), &format!("U#{uid}"))
}

pub(super) fn revision_key(tenant: &str) -> Item {
    key(&partition(tenant), "R")
}

pub(super) fn directory_key(tenant: &str) -> Item {
    key(DIRECTORY, tenant)
}

pub(super) fn event_type_key(name: &str) -> Item {
    key(CATALOGUE, name)
}

/// How the sort keys of a scope's tokens begin.
pub(super) fn tokens_of(scope: &Scope) -> String {
    format!("{TOKEN_PREFIX}{scope}#")
}

pub(super) fn token_key(scope: &Scope, id: &str) -> Item {
    key(TOKENS, &format!("{}{id}", tokens_of(scope)))
}

/// The key of what tells whether a token was revoked.
pub(super) fn revocation_key(id: &str) -> Item {
    key(TOKENS, &format!("R#{id}"))
}

pub(super) fn epoch_key(scope: &Scope) -> Item {
    key(TOKENS, &format!("E#{scope}"))
}

pub(super) fn link_key(code_hash: &str) -> Item {
    key(&format!("S#{code_hash}"), "S")
}

pub(super) fn resealing_key() -> Item {
    key("RESEAL", "P")
}

/// An item's key as texts, to find it among others.
pub(super) fn name_of(item: &Item) -> (String, String) {
    (text_in(item, PK), text_in(item, SK))
}

pub(super) fn of_card(card: &Card) -> Result<Item, RegistryError> {
    let json = serde_json::to_string(card).map_err(|error| RegistryError::Incomplete(Some(error)))?;
    let mut item = card_key(&card.tenant, &card.id);
    item.insert(CARD.to_owned(), text(&json));
    item.insert(VERSION.to_owned(), number(card.version));
    Ok(item)
}

pub(super) fn of_uid(card: &Card, uid: &str) -> Item {
    let mut item = uid_key(&card.tenant, uid);
    item.insert(ENDPOINT.to_owned(), text(&card.id));
    item
}

pub(super) fn of_tombstone(card: &Card, now: Millis) -> Item {
    let mut item = tombstone_key(&card.tenant, &card.id);
    item.insert(DELETED_AT.to_owned(), number(now.0));
    item.insert(TTL.to_owned(), number(now.after(TOMBSTONE).as_secs()));
    item
}

/// The tombstone of an endpoint that was erased with its tenant.
pub(super) fn of_erased(tenant: &str, endpoint: &str, now: Millis) -> Item {
    let mut item = tombstone_key(tenant, endpoint);
    item.insert(DELETED_AT.to_owned(), number(now.0));
    item.insert(TTL.to_owned(), number(now.after(TOMBSTONE).as_secs()));
    item.insert(ERASED.to_owned(), AttributeValue::Bool(true));
    item
}

/// Whether the endpoint of a tombstone was erased.
pub(super) fn is_erased(tombstone: &Item) -> bool {
    tombstone.contains_key(ERASED)
}

/// The endpoint that the key of a tombstone names.
pub(super) fn endpoint_of_tombstone(item: &Item) -> Option<String> {
    text_in(item, SK).strip_prefix("X#").map(str::to_owned)
}

pub(super) fn deleted_at(tombstone: &Item) -> Option<Millis> {
    number_in(tombstone, DELETED_AT).map(Millis)
}

pub(super) fn of_directory(tenant: &str) -> Item {
    directory_key(tenant)
}

pub(super) fn of_resealing(resealing: &Resealing) -> Result<Item, RegistryError> {
    let json = serde_json::to_string(resealing).map_err(|error| RegistryError::Incomplete(Some(error)))?;
    let mut item = resealing_key();
    item.insert(RESEALING.to_owned(), text(&json));
    Ok(item)
}

pub(super) fn of_token(token: &KeptToken) -> Result<Item, RegistryError> {
    let mut item = token_key(&token.scope, &token.id);
    item.insert(TOKEN.to_owned(), text(&json_of(token)?));
    item.insert(TTL.to_owned(), number(token.expires_at.as_secs()));
    Ok(item)
}

/// What tells whether a token was revoked, and where it is kept.
pub(super) fn of_revocation(token: &KeptToken) -> Item {
    let mut item = revocation_key(&token.id);
    item.insert(SCOPE.to_owned(), text(&token.scope.to_string()));
    item.insert(EXPIRES_AT.to_owned(), number(token.expires_at.0));
    // It must not go before the token ends, whatever the clocks say.
    item.insert(TTL.to_owned(), number(token.expires_at.after(REVOCATION).as_secs()));
    item
}

pub(super) fn of_link(code_hash: &str, link: &KeptLink) -> Result<Item, RegistryError> {
    let mut item = link_key(code_hash);
    item.insert(LINK.to_owned(), text(&json_of(link)?));
    item.insert(EXPIRES_AT.to_owned(), number(link.expires_at.0));
    item.insert(TTL.to_owned(), number(link.expires_at.as_secs()));
    Ok(item)
}

pub(super) fn token_in(item: &Item) -> Result<KeptToken, RegistryError> {
    json_in(item, TOKEN)
}

pub(super) fn link_in(item: &Item) -> Result<KeptLink, RegistryError> {
    json_in(item, LINK)
}

fn json_of(value: &impl Serialize) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(|error| RegistryError::Incomplete(Some(error)))
}

/// A definition as the catalogue keeps it.
pub(super) fn of_definition(definition: &Definition) -> Result<String, RegistryError> {
    serde_json::to_string(definition).map_err(|error| RegistryError::Incomplete(Some(error)))
}

fn json_in<T: DeserializeOwned>(item: &Item, name: &str) -> Result<T, RegistryError> {
    let json = item.get(name).and_then(|value| value.as_s().ok()).ok_or(RegistryError::Incomplete(None))?;
    serde_json::from_str(json).map_err(|error| RegistryError::Incomplete(Some(error)))
}

/// The card of an item. It must be of the tenant and the endpoint that the item's key names.
pub(super) fn card_in(item: &Item) -> Result<Card, RegistryError> {
    let card: Card = json_in(item, CARD)?;
    let is_at_home = name_of(item) == name_of(&card_key(&card.tenant, &card.id));
    if is_at_home && number_in(item, VERSION) == Some(card.version) {
        Ok(card)
    } else {
        Err(RegistryError::Incomplete(None))
    }
}

/// The endpoint that the key of a card's item names.
pub(super) fn endpoint_of(item: &Item) -> String {
    text_in(item, SK).strip_prefix(CARD_PREFIX).unwrap_or_default().to_owned()
}

/// The event type of an item.
pub(super) fn event_type_in(item: &Item) -> Result<EventType, RegistryError> {
    let time = |name| number_in(item, name).map(Millis).ok_or(RegistryError::Incomplete(None));
    Ok(EventType {
        name: text_in(item, SK),
        definition: json_in(item, DEFINITION)?,
        created_at: time(CREATED_AT)?,
        updated_at: time(UPDATED_AT)?,
    })
}

pub(super) fn tenant_in(item: &Item) -> Tenant {
    let count = |name| number_in(item, name).unwrap_or_default();
    Tenant {
        revision: count(REVISION),
        endpoints: count(ENDPOINTS),
        paused: count(PAUSED),
        disabled: count(DISABLED),
        erased_before: number_in(item, ERASED_BEFORE).map(Millis),
        is_erasing: item.contains_key(ERASING),
    }
}

pub(super) fn resealing_in(item: &Item) -> Result<Resealing, RegistryError> {
    json_in(item, RESEALING)
}
