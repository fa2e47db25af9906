//! Transactions of the registry: their steps, and what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use domain::endpoint::EndpointState;

use super::items;
use super::table::Table;
use crate::aws::attributes::{Item, number, text};
use crate::registry::RegistryError;

/// How often a transaction is tried that met another one.
const TRIES: u32 = 10;
/// The longest wait before the second try. It doubles with every try, up to `MAX_WAIT`.
const WAIT: Duration = Duration::from_millis(25);
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// What an item must be like to be changed.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Anything.
    None,
    /// Not there.
    Absent,
    /// Of this version.
    Version(u64),
    /// Not there, or of this endpoint.
    FreeOrOf(String),
    /// There, and a link that ends then.
    EndsAt(u64),
    /// There, and a token that was not revoked.
    NotRevoked,
    /// Of this epoch at most.
    EpochAtMost(u64),
}

/// What a change does to a tenant's revision item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Revision {
    /// One endpoint more, of at most so many.
    Created { most: u64, state: EndpointState },
    /// Another state, or other event types.
    Changed { from: EndpointState, to: EndpointState },
    /// One endpoint less.
    Deleted { state: EndpointState },
}

/// What a step of a transaction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Card,
    Uid,
    OldUid,
    Revision,
    Tombstone,
    Directory,
    Link,
    Token,
    Revocation,
    Maker,
    MakersEpoch,
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Ended {
    /// Everything is written.
    Done,
    /// Nothing is written. These steps met something else than their conditions say: their
    /// items, empty when there is none.
    Refused(BTreeMap<Step, Item>),
}

fn unbuilt(error: BuildError) -> RegistryError {
    RegistryError::Write(Box::new(error))
}

impl Revision {
    /// What is added to which number of the item. Enabled endpoints are those that are neither
    /// paused nor disabled, as all were when there were no other states.
    fn additions(self) -> Vec<(&'static str, i64)> {
        let (endpoints, from, to) = match self {
            Self::Created { state, .. } => (1, None, Some(state)),
            Self::Changed { from, to } => (0, Some(from), Some(to)),
            Self::Deleted { state } => (-1, Some(state), None),
        };
        let change = |state| i64::from(to == Some(state)) - i64::from(from == Some(state));
        let additions = [
            (items::REVISION, 1),
            (items::ENDPOINTS, endpoints),
            (items::PAUSED, change(EndpointState::Paused)),
            (items::DISABLED, change(EndpointState::Disabled)),
        ];
        additions.into_iter().filter(|(_, addend)| *addend != 0).collect()
    }
}

fn value(name: &str, value: AttributeValue) -> Option<Item> {
    Some(Item::from([(name.to_owned(), value)]))
}

/// A condition as DynamoDB reads it, and what it compares with.
fn expression(condition: Condition) -> Option<(&'static str, Option<Item>)> {
    match condition {
        Condition::None => None,
        Condition::Absent => Some(("attribute_not_exists(pk)", None)),
        Condition::Version(version) => Some(("version = :version", value(":version", number(version)))),
        Condition::FreeOrOf(endpoint) => {
            Some(("attribute_not_exists(pk) OR endpoint = :endpoint", value(":endpoint", text(&endpoint))))
        }
        Condition::EndsAt(ms) => Some(("expires_at = :expires_at", value(":expires_at", number(ms)))),
        Condition::NotRevoked => Some(("attribute_exists(pk) AND attribute_not_exists(revoked_at)", None)),
        Condition::EpochAtMost(epoch) => {
            Some(("attribute_not_exists(epoch) OR epoch <= :epoch", value(":epoch", number(epoch))))
        }
    }
}

impl Table {
    pub(super) fn put(&self, item: Item, condition: Condition) -> Result<TransactWriteItem, RegistryError> {
        let mut put = Put::builder().table_name(&self.name).set_item(Some(item));
        if let Some((expression, values)) = expression(condition) {
            put = put
                .condition_expression(expression)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        }
        Ok(TransactWriteItem::builder().put(put.build().map_err(unbuilt)?).build())
    }

    pub(super) fn delete_item(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, RegistryError> {
        let mut delete = Delete::builder().table_name(&self.name).set_key(Some(key));
        if let Some((expression, values)) = expression(condition) {
            delete = delete
                .condition_expression(expression)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        }
        Ok(TransactWriteItem::builder().delete(delete.build().map_err(unbuilt)?).build())
    }

    /// Changes nothing, and refuses the transaction unless the item is like this.
    pub(super) fn check(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, RegistryError> {
        let (expression, values) = expression(condition).unwrap_or(("attribute_exists(pk)", None));
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(key))
            .condition_expression(expression)
            .set_expression_attribute_values(values);
        Ok(TransactWriteItem::builder().condition_check(check.build().map_err(unbuilt)?).build())
    }

    /// Raises a tenant's revision, and counts its endpoints by state.
    pub(super) fn revision(&self, tenant: &str, change: Revision) -> Result<TransactWriteItem, RegistryError> {
        let mut update = Update::builder().table_name(&self.name).set_key(Some(items::revision_key(tenant)));
        let mut additions = Vec::new();
        for (name, addend) in change.additions() {
            additions.push(format!("#{name} :{name}"));
            update = update
                .expression_attribute_names(format!("#{name}"), name)
                .expression_attribute_values(format!(":{name}"), AttributeValue::N(addend.to_string()));
        }
        update = update.update_expression(format!("ADD {}", additions.join(", ")));
        if let Revision::Created { most, .. } = change {
            update = update
                // Nothing is made in a tenant that is being erased.
                .condition_expression(
                    "(attribute_not_exists(#endpoints) OR #endpoints < :most) AND attribute_not_exists(#erasing)",
                )
                .expression_attribute_names("#erasing", items::ERASING)
                .expression_attribute_values(":most", number(most));
        }
        Ok(TransactWriteItem::builder().update(update.build().map_err(unbuilt)?).build())
    }

    /// Writes one item, whatever was there.
    pub(super) async fn put_alone(&self, item: Item) -> Result<(), RegistryError> {
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item));
        put.send().await.map(|_| ()).map_err(|error| RegistryError::Write(Box::new(error)))
    }

    /// Carries out all steps, or none. One that meets another transaction is tried again.
    pub(super) async fn transact(&self, steps: Vec<(Step, TransactWriteItem)>) -> Result<Ended, RegistryError> {
        let (names, writes): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let mut tried = 0;
        loop {
            let request = self.client.transact_write_items().set_transact_items(Some(writes.clone()));
            let Err(error) = request.send().await else { return Ok(Ended::Done) };
            tried += 1;
            match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    let reasons = canceled.cancellation_reasons();
                    let refused = refused(&names, reasons);
                    if !refused.is_empty() {
                        return Ok(Ended::Refused(refused));
                    }
                    if tried < TRIES && reasons.iter().any(is_passing) {
                        tokio::time::sleep(wait(tried)).await;
                        continue;
                    }
                }
                Some(TransactWriteItemsError::TransactionInProgressException(_)) if tried < TRIES => {
                    tokio::time::sleep(wait(tried)).await;
                    continue;
                }
                _ => {}
            }
            return Err(RegistryError::Write(Box::new(error)));
        }
    }
}

/// The steps whose conditions did not hold, with what they met. Reasons are in the order of
/// the steps.
fn refused(names: &[Step], reasons: &[CancellationReason]) -> BTreeMap<Step, Item> {
    let failed = names.iter().zip(reasons).filter(|(_, reason)| reason.code() == Some("ConditionalCheckFailed"));
    failed.map(|(name, reason)| (*name, reason.item().cloned().unwrap_or_default())).collect()
}

/// Whether the same transaction may succeed a little later.
fn is_passing(reason: &CancellationReason) -> bool {
    matches!(reason.code(), Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"))
}

/// A random part of a wait that doubles.
fn wait(tried: u32) -> Duration {
    WAIT.saturating_mul(1 << tried.min(16)).min(MAX_WAIT).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn conditions_outrank_conflicts_and_name_their_steps() {
        let names = [Step::Card, Step::Uid, Step::Revision];
        let reasons = [reason("None"), reason("ConditionalCheckFailed"), reason("TransactionConflict")];
        assert_eq!(refused(&names, &reasons).into_keys().collect::<Vec<_>>(), [Step::Uid]);
        assert!(refused(&names, &[reason("None"), reason("TransactionConflict"), reason("None")]).is_empty());
        assert!(is_passing(&reasons[2]) && !is_passing(&reasons[0]) && !is_passing(&reason("ValidationError")));
    }

    #[test]
    fn endpoints_are_counted_by_state() {
        use EndpointState::{Disabled, Enabled, Paused};
        for (change, wanted) in [
            (Revision::Created { most: 9, state: Enabled }, vec![("revision", 1), ("endpoints", 1)]),
            (Revision::Changed { from: Enabled, to: Enabled }, vec![("revision", 1)]),
            (Revision::Changed { from: Enabled, to: Paused }, vec![("revision", 1), ("paused", 1)]),
            (Revision::Changed { from: Paused, to: Disabled }, vec![("revision", 1), ("paused", -1), ("disabled", 1)]),
            (Revision::Changed { from: Disabled, to: Enabled }, vec![("revision", 1), ("disabled", -1)]),
            (Revision::Deleted { state: Paused }, vec![("revision", 1), ("endpoints", -1), ("paused", -1)]),
        ] {
            assert_eq!(change.additions(), wanted, "{change:?}");
        }
    }

    #[test]
    fn waits_are_short() {
        assert!((1..50).all(|tried| wait(tried) <= MAX_WAIT));
    }
}
