//! Erasing what the registry has of a tenant: its endpoints, which leave tombstones that say so.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use domain::scope::Scope;
use domain::time::Millis;
use futures_util::future::try_join_all;

use super::items;
use super::table::Table;
use super::transaction::{Condition, Step};
use crate::BoxError;
use crate::aws::attributes::{Item, number, text_in};
use crate::registry::{ErasedPart, RegistryError};

/// Most items of one part. The history of each endpoint has many partitions.
const PART: usize = 10;

fn unwritten(error: impl Into<BoxError>) -> RegistryError {
    RegistryError::Write(error.into())
}

impl Table {
    /// Notes what is erased, and ends the tenant's tokens. A later erasing is not undone by an
    /// earlier one.
    pub(super) async fn begin_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(items::revision_key(tenant)))
            .update_expression("SET #before = :before, #erasing = :erasing ADD #revision :one")
            .condition_expression("attribute_not_exists(#before) OR #before <= :before")
            .expression_attribute_names("#before", items::ERASED_BEFORE)
            .expression_attribute_names("#erasing", items::ERASING)
            .expression_attribute_names("#revision", items::REVISION)
            .expression_attribute_values(":before", number(before.0))
            .expression_attribute_values(":erasing", AttributeValue::Bool(true))
            .expression_attribute_values(":one", number(1));
        unless_later(update.send().await)?;
        // Whoever makes a token reads the epoch first and the mark second. So a token has an older
        // epoch, or is not made.
        self.end_tokens(&Scope::Tenant(tenant.to_owned())).await.map(|_| ())
    }

    /// Ends what began with the same `before`. The tenant is as one that never had an endpoint.
    pub(super) async fn end_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        let update = Update::builder()
            .table_name(&self.name)
            .set_key(Some(items::revision_key(tenant)))
            .update_expression("SET #endpoints = :none ADD #revision :one REMOVE #erasing, #paused, #disabled")
            .condition_expression("#before = :before AND attribute_exists(#erasing)")
            .expression_attribute_names("#before", items::ERASED_BEFORE)
            .expression_attribute_names("#erasing", items::ERASING)
            .expression_attribute_names("#endpoints", items::ENDPOINTS)
            .expression_attribute_names("#paused", items::PAUSED)
            .expression_attribute_names("#disabled", items::DISABLED)
            .expression_attribute_names("#revision", items::REVISION)
            .expression_attribute_values(":before", number(before.0))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":one", number(1));
        let update = TransactWriteItem::builder().update(update.build().map_err(unwritten)?).build();
        let directory = self.delete_item(items::directory_key(tenant), Condition::None)?;
        // What was ended before, or begun anew, is refused as a whole.
        self.transact(vec![(Step::Revision, update), (Step::Directory, directory)]).await.map(|_| ())
    }

    /// Erases a part of a tenant's items: cards, their callers' ids, and older tombstones.
    pub(super) async fn erase_part(
        &self,
        tenant: &str,
        before: Millis,
        after: Option<&str>,
        now: Millis,
    ) -> Result<ErasedPart, RegistryError> {
        let start = after.map(|place| items::key_in(&items::partition(tenant), place));
        let answer = self.page(&items::partition(tenant), "", start, PART).await?;
        let here: Vec<&Item> = answer.items().iter().take(PART).collect();
        let erased = try_join_all(here.iter().map(|item| self.erase_item(tenant, before, item, now))).await?;
        let goes_on = answer.last_evaluated_key().is_some() || answer.items().len() > here.len();
        let next = here.last().filter(|_| goes_on).map(|item| text_in(item, items::SK));
        Ok(ErasedPart { endpoints: erased.into_iter().flatten().collect(), next })
    }

    /// Erases one item. Gives the endpoint that is gone.
    async fn erase_item(
        &self,
        tenant: &str,
        before: Millis,
        item: &Item,
        now: Millis,
    ) -> Result<Option<String>, RegistryError> {
        let place = text_in(item, items::SK);
        if place.starts_with(items::CARD_PREFIX) {
            let card = items::card_in(item).ok();
            if card.as_ref().is_some_and(|card| card.created_at > before) {
                return Ok(None);
            }
            let endpoint = items::endpoint_of(item);
            // The tombstone first: a delivery that finds neither would wait.
            self.put_alone(items::of_erased(tenant, &endpoint, now)).await?;
            self.delete(items::card_key(tenant, &endpoint)).await?;
            return Ok(Some(endpoint));
        }
        if let Some(endpoint) = items::endpoint_of_tombstone(item) {
            if !items::is_erased(item) {
                self.put_alone(items::of_erased(tenant, &endpoint, now)).await?;
            }
            return Ok(Some(endpoint));
        }
        let owner = text_in(item, items::ENDPOINT);
        if !owner.is_empty() && self.get(items::card_key(tenant, &owner)).await?.is_none() {
            self.delete(items::key_in(&items::partition(tenant), &place)).await?;
        }
        Ok(None)
    }

    async fn delete(&self, key: Item) -> Result<(), RegistryError> {
        let delete = self.client.delete_item().table_name(&self.name).set_key(Some(key));
        delete.send().await.map(|_| ()).map_err(unwritten)
    }
}

/// What a later erasing has overtaken is done.
fn unless_later<T, R>(answer: Result<T, SdkError<UpdateItemError, R>>) -> Result<(), RegistryError>
where
    SdkError<UpdateItemError, R>: Into<BoxError>,
{
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(unwritten(error)),
        },
    }
}
