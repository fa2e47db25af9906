//! What is read from the registry: single items, cards in batches, and lists in pages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

use super::items::{self, CARD_PREFIX, DIRECTORY};
use super::table::Table;
use crate::BoxError;
use crate::aws::attributes::{Item, text, text_in};
use crate::registry::{CardFound, CardPage, EndpointKey, MAX_CARDS, RegistryError, TenantPage, TenantRevision};
use crate::telemetry::chain;

/// How often keys are asked for that an answer left out.
const TRIES: u32 = 5;
/// The longest wait before they are asked for again. It doubles.
const WAIT: Duration = Duration::from_millis(50);

pub(super) type Found = HashMap<(String, String), Item>;

fn unread(error: impl Into<BoxError>) -> RegistryError {
    RegistryError::Read(error.into())
}

/// Tells of an item that is no card. Others in the same answer are read all the same.
fn unreadable(tenant: &str, endpoint: &str, error: &RegistryError) {
    tracing::error!(tenant, endpoint_id = endpoint, code = error.code(), error = %chain(error), "a card cannot be read");
}

impl Table {
    /// One item as it is now.
    pub(super) async fn get(&self, key: Item) -> Result<Option<Item>, RegistryError> {
        let get = self.client.get_item().table_name(&self.name).set_key(Some(key)).consistent_read(true);
        Ok(get.send().await.map_err(unread)?.item)
    }

    /// The cards of these endpoints. What has no card is looked for again, with its
    /// tombstone: a card that was written a moment ago may be missing from the first read.
    pub(super) async fn read_cards(
        &self,
        wanted: &[EndpointKey],
        consistently: bool,
    ) -> Result<Vec<CardFound>, RegistryError> {
        let card_key = |key: &EndpointKey| items::card_key(&key.tenant, &key.endpoint);
        let tombstone_key = |key: &EndpointKey| items::tombstone_key(&key.tenant, &key.endpoint);
        let mut found = Found::new();
        for part in wanted.chunks(MAX_CARDS) {
            found.extend(self.batch(part.iter().map(card_key).collect(), consistently).await?);
        }
        let missing: Vec<_> =
            wanted.iter().filter(|key| !found.contains_key(&items::name_of(&card_key(key)))).collect();
        for part in missing.chunks(MAX_CARDS / 2) {
            let keys = part.iter().flat_map(|key| [card_key(key), tombstone_key(key)]).collect();
            found.extend(self.batch(keys, true).await?);
        }
        let of = |key: &EndpointKey| match found.get(&items::name_of(&card_key(key))) {
            Some(item) => match items::card_in(item) {
                Ok(card) => CardFound::Card(Arc::new(card)),
                Err(error) => {
                    unreadable(&key.tenant, &key.endpoint, &error);
                    CardFound::Unreadable
                }
            },
            None => match found.get(&items::name_of(&tombstone_key(key))) {
                Some(tombstone) if items::is_erased(tombstone) => CardFound::Erased,
                Some(_) => CardFound::Gone,
                None => CardFound::Missing,
            },
        };
        Ok(wanted.iter().map(of).collect())
    }

    /// The revisions of these tenants, as they are now.
    pub(super) async fn read_revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
        let keys: Vec<Item> = tenants.iter().map(|tenant| items::revision_key(tenant)).collect();
        let mut found = Found::new();
        for part in keys.chunks(MAX_CARDS) {
            found.extend(self.batch(part.to_vec(), true).await?);
        }
        let revision = |key| {
            let tenant = found.get(&items::name_of(key)).map(items::tenant_in).unwrap_or_default();
            TenantRevision { revision: tenant.revision, erased_before: tenant.erased_before }
        };
        Ok(keys.iter().map(revision).collect())
    }

    /// Up to 100 items. DynamoDB may leave some out of an answer; they are asked for again.
    pub(super) async fn batch(&self, keys: Vec<Item>, consistently: bool) -> Result<Found, RegistryError> {
        let mut found = Found::new();
        let mut left = keys;
        let mut tried = 0;
        while !left.is_empty() {
            if tried == TRIES {
                return Err(unread("some items were left out of every answer"));
            }
            if tried > 0 {
                tokio::time::sleep(WAIT.saturating_mul(1 << tried).mul_f64(fastrand::f64())).await;
            }
            tried += 1;
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(consistently);
            let request = self.client.batch_get_item().request_items(&self.name, wanted.build().map_err(unread)?);
            let answer = request.send().await.map_err(unread)?;
            let items = answer.responses.unwrap_or_default().into_values().flatten();
            found.extend(items.map(|item| (items::name_of(&item), item)));
            left = answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|left| left.keys).collect();
        }
        Ok(found)
    }

    /// A part of a partition whose sort keys begin with `prefix`, after a key.
    pub(super) async fn page(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<Item>,
        limit: usize,
    ) -> Result<QueryOutput, RegistryError> {
        let mut query = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression(if prefix.is_empty() {
                "pk = :pk"
            } else {
                "pk = :pk AND begins_with(sk, :prefix)"
            })
            .expression_attribute_values(":pk", text(partition))
            .set_exclusive_start_key(after)
            // One more shows whether the list goes on.
            .limit(i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX));
        if !prefix.is_empty() {
            query = query.expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()));
        }
        query.send().await.map_err(unread)
    }

    pub(super) async fn list_cards(
        &self,
        tenant: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<CardPage, RegistryError> {
        let start = after.map(|endpoint| items::card_key(tenant, endpoint));
        let answer = self.page(&items::partition(tenant), CARD_PREFIX, start, limit).await?;
        let mut page = CardPage::default();
        let mut last = None;
        for item in answer.items().iter().take(limit) {
            let endpoint = items::endpoint_of(item);
            match items::card_in(item) {
                Ok(card) => page.cards.push(card),
                Err(error) => {
                    unreadable(tenant, &endpoint, &error);
                    page.unreadable.push(endpoint.clone());
                }
            }
            last = Some(endpoint);
        }
        let goes_on = answer.last_evaluated_key().is_some() || answer.items().len() > limit;
        page.next = last.filter(|_| goes_on);
        Ok(page)
    }

    pub(super) async fn list_tenants(&self, after: Option<&str>, limit: usize) -> Result<TenantPage, RegistryError> {
        let answer = self.page(DIRECTORY, "", after.map(items::directory_key), limit).await?;
        let tenants: Vec<_> = answer.items().iter().take(limit).map(|item| text_in(item, items::SK)).collect();
        let goes_on = answer.last_evaluated_key().is_some() || answer.items().len() > limit;
        let next = tenants.last().filter(|_| goes_on).cloned();
        Ok(TenantPage { tenants, next })
    }
}
