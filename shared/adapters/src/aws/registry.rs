//! The registry of endpoints and event types in DynamoDB. What belongs together is written in one
//! transaction, so that nothing is half written.

mod erasing;
mod event_types;
mod items;
mod reading;
mod table;
mod tokens;
mod transaction;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::TransactWriteItem;
use domain::endpoint::Card;
use domain::time::Millis;

use self::table::Table;
use self::transaction::{Condition, Ended, Revision, Step};
use super::account::Account;
use super::attributes::{Item, text_in};
use crate::registry::{
    CardFound, CardLists, CardPage, Cards, EndpointKey, ErasedPart, Registry, RegistryError, Resealing, Tenant,
    TenantPage, TenantRevision, Written,
};

/// The real table.
#[derive(Clone, Debug)]
pub struct RegistryTable {
    table: Table,
}

impl RegistryTable {
    /// The table `name`.
    pub fn new(account: &Account, name: String) -> Self {
        Self { table: Table { client: account.dynamodb(), name } }
    }

    /// The card itself, on a condition.
    fn put_card(&self, card: &Card, condition: Condition) -> Result<(Step, TransactWriteItem), RegistryError> {
        Ok((Step::Card, self.table.put(items::of_card(card)?, condition)?))
    }

    /// Gives the uid to the endpoint of this card, if it is free.
    fn take_uid(&self, card: &Card) -> Result<Option<(Step, TransactWriteItem)>, RegistryError> {
        let Some(uid) = &card.uid else { return Ok(None) };
        let put = self.table.put(items::of_uid(card, uid), Condition::FreeOrOf(card.id.clone()))?;
        Ok(Some((Step::Uid, put)))
    }

    /// Takes the uid from the endpoint of this card.
    fn free_uid(&self, card: &Card) -> Result<Option<(Step, TransactWriteItem)>, RegistryError> {
        let Some(uid) = &card.uid else { return Ok(None) };
        let free = self.table.delete_item(items::uid_key(&card.tenant, uid), Condition::FreeOrOf(card.id.clone()))?;
        Ok(Some((Step::OldUid, free)))
    }

    /// Who has a uid. A transaction that failed tells it, unless the item is gone since.
    async fn owner(&self, tenant: &str, uid: &str, told: &Item) -> Result<Option<String>, RegistryError> {
        let endpoint = text_in(told, items::ENDPOINT);
        if !endpoint.is_empty() {
            return Ok(Some(endpoint));
        }
        let item = self.table.get(items::uid_key(tenant, uid)).await?;
        Ok(item.map(|item| text_in(&item, items::ENDPOINT)))
    }
}

#[async_trait]
impl Cards for RegistryTable {
    async fn cards(&self, wanted: &[EndpointKey], consistently: bool) -> Result<Vec<CardFound>, RegistryError> {
        self.table.read_cards(wanted, consistently).await
    }
}

#[async_trait]
impl CardLists for RegistryTable {
    async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
        self.table.read_revisions(tenants).await
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError> {
        self.table.list_cards(tenant, after, limit).await
    }
}

#[async_trait]
impl Registry for RegistryTable {
    async fn create(&self, card: &Card, most: u64) -> Result<Written, RegistryError> {
        let mut steps = vec![self.put_card(card, Condition::Absent)?];
        steps.extend(self.take_uid(card)?);
        steps.push((Step::Revision, self.table.revision(&card.tenant, Revision::Created { most, state: card.state })?));
        steps.push((Step::Directory, self.table.put(items::of_directory(&card.tenant), Condition::None)?));
        let failed = match self.table.transact(steps).await? {
            Ended::Done => return Ok(Written::Done),
            Ended::Refused(failed) => failed,
        };
        // Ids are random, so a card of this id and time is this one: the answer was lost.
        if let Some(item) = failed.get(&Step::Card) {
            let is_ours = items::card_in(item).is_ok_and(|there| there.created_at == card.created_at);
            return Ok(if is_ours { Written::Done } else { Written::Changed });
        }
        match self.uid_taken(card, failed.get(&Step::Uid)).await? {
            Some(written) => Ok(written),
            None => Ok(Written::TooMany),
        }
    }

    async fn replace(&self, before: &Card, card: &Card) -> Result<Written, RegistryError> {
        let mut steps = vec![self.put_card(card, Condition::Version(before.version))?];
        if before.uid != card.uid {
            steps.extend(self.free_uid(before)?);
            steps.extend(self.take_uid(card)?);
        }
        if !before.fans_out_like(card) {
            steps.push((
                Step::Revision,
                self.table.revision(&card.tenant, Revision::Changed { from: before.state, to: card.state })?,
            ));
        }
        let failed = match self.table.transact(steps).await? {
            Ended::Done => return Ok(Written::Done),
            Ended::Refused(failed) => failed,
        };
        if let Some(item) = failed.get(&Step::Card) {
            let is_ours = items::card_in(item).is_ok_and(|there| there == *card);
            return Ok(if is_ours { Written::Done } else { Written::Changed });
        }
        Ok(self.uid_taken(card, failed.get(&Step::Uid)).await?.unwrap_or(Written::Changed))
    }

    async fn delete(&self, card: &Card, now: Millis) -> Result<Written, RegistryError> {
        let key = items::card_key(&card.tenant, &card.id);
        let mut steps = vec![(Step::Card, self.table.delete_item(key, Condition::Version(card.version))?)];
        steps.extend(self.free_uid(card)?);
        steps.push((Step::Tombstone, self.table.put(items::of_tombstone(card, now), Condition::None)?));
        steps.push((Step::Revision, self.table.revision(&card.tenant, Revision::Deleted { state: card.state })?));
        match self.table.transact(steps).await? {
            Ended::Done => return Ok(Written::Done),
            Ended::Refused(_) => {}
        }
        // It may have been done by this call already, and its answer was lost.
        let tombstone = self.table.get(items::tombstone_key(&card.tenant, &card.id)).await?;
        let is_ours = tombstone.is_some_and(|item| items::deleted_at(&item) == Some(now));
        Ok(if is_ours { Written::Done } else { Written::Changed })
    }

    async fn by_uid(&self, tenant: &str, uid: &str) -> Result<Option<Card>, RegistryError> {
        let Some(item) = self.table.get(items::uid_key(tenant, uid)).await? else { return Ok(None) };
        let endpoint = text_in(&item, items::ENDPOINT);
        let Some(item) = self.table.get(items::card_key(tenant, &endpoint)).await? else { return Ok(None) };
        let card = items::card_in(&item)?;
        // It may have been given away between the two reads.
        Ok((card.uid.as_deref() == Some(uid)).then_some(card))
    }

    async fn tenant(&self, tenant: &str) -> Result<Option<Tenant>, RegistryError> {
        let item = self.table.get(items::revision_key(tenant)).await?;
        Ok(item.as_ref().map(items::tenant_in))
    }

    async fn tenants(&self, after: Option<&str>, limit: usize) -> Result<TenantPage, RegistryError> {
        self.table.list_tenants(after, limit).await
    }

    async fn begin_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        self.table.begin_erasing(tenant, before).await
    }

    async fn erase_part(
        &self,
        tenant: &str,
        before: Millis,
        after: Option<&str>,
        now: Millis,
    ) -> Result<ErasedPart, RegistryError> {
        self.table.erase_part(tenant, before, after, now).await
    }

    async fn end_erasing(&self, tenant: &str, before: Millis) -> Result<(), RegistryError> {
        self.table.end_erasing(tenant, before).await
    }

    async fn resealing(&self) -> Result<Option<Resealing>, RegistryError> {
        let item = self.table.get(items::resealing_key()).await?;
        item.as_ref().map(items::resealing_in).transpose()
    }

    async fn note_resealing(&self, resealing: &Resealing) -> Result<(), RegistryError> {
        let item = items::of_resealing(resealing)?;
        self.table.put_alone(item).await
    }
}

impl RegistryTable {
    /// What it means that a card's uid was not free.
    async fn uid_taken(&self, card: &Card, told: Option<&Item>) -> Result<Option<Written>, RegistryError> {
        let (Some(told), Some(uid)) = (told, &card.uid) else { return Ok(None) };
        Ok(Some(match self.owner(&card.tenant, uid, told).await? {
            Some(owner) if owner == card.id => Written::Done,
            Some(owner) => Written::UidTaken(owner),
            None => Written::Changed,
        }))
    }
}
