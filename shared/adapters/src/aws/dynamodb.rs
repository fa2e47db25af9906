//! The store of dead letters: DynamoDB, where they outlive Redis. Lists come from
//! two indexes, by month and by destination, both ordered by time, so that nothing
//! is scanned.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::dead_letter::{DeadLetter, Filter, Summary};
use domain::outcome::ErrorClass;
use domain::place::Place;
use domain::reason::Reason;
use domain::time::Millis;

use super::account::Account;
use super::attributes::{Item, number, number_in, text, text_in};
use crate::dead_letter_store::{DeadLetterStore, Filed, Kept, Listed, Reserved, StoreError};

/// Most queries for one page: a rare reason is looked for further on the next page.
/// A year has thirteen months, so that a page without any ends at the beginning.
const MAX_QUERIES: usize = 16;
/// Items that one query looks at when most may not match.
const QUERY_ITEMS: usize = 1000;
/// How far a clock may be ahead of the one that dated a dead letter.
const SKEW: Duration = Duration::from_secs(300);

/// The real table.
#[derive(Clone, Debug)]
pub struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
    life_s: u64,
}

/// Attribute names. Those up to `MONTH` are of the indexes, too.
mod attribute {
    pub(super) const ID: &str = "id";
    pub(super) const PLACE: &str = "place";
    pub(super) const REASON: &str = "reason";
    pub(super) const DESTINATION: &str = "destination";
    pub(super) const URL: &str = "webhook_url";
    pub(super) const ATTEMPTS: &str = "attempts";
    pub(super) const LAST_STATUS_CODE: &str = "last_status_code";
    pub(super) const ERROR_CLASS: &str = "error_class";
    pub(super) const ERROR: &str = "error";
    pub(super) const FAILED_AT: &str = "failed_at";
    pub(super) const CORRELATION_ID: &str = "correlation_id";
    pub(super) const REDRIVEN_AT: &str = "redriven_at";
    pub(super) const MONTH: &str = "month";
    pub(super) const RECORD: &str = "record";
    /// The dead letter of an event or of a delivery to an endpoint. 0.1 does not know this name, so it
    /// cannot send one to an empty URL.
    pub(super) const RECORD_2: &str = "record2";
    pub(super) const BODY_HASH: &str = "body_hash";
    pub(super) const ACCEPTED_AT: &str = "accepted_at";
    pub(super) const HOP: &str = "hop";
    pub(super) const EXPIRES_AT: &str = "expires_at";
}

/// The index of all dead letters of a month.
const BY_MONTH: &str = "by_month";
/// The index of a destination's dead letters.
const BY_DESTINATION: &str = "by_destination";

impl Table {
    /// The table `name`, whose items live `life_s` seconds.
    pub fn new(account: &Account, name: String, life_s: u64) -> Self {
        Self { client: account.dynamodb(), name, life_s }
    }

    fn item(&self, letter: &DeadLetter) -> Result<Item, StoreError> {
        let place = Place { at: letter.failed_at, id: letter.webhook_id.clone() };
        let mut item = Item::new();
        let mut set = |name: &str, value| item.insert(name.to_owned(), value);
        set(attribute::ID, text(&letter.webhook_id));
        let record = if letter.is_direct() { attribute::RECORD } else { attribute::RECORD_2 };
        set(record, AttributeValue::S(serde_json::to_string(letter)?));
        set(attribute::BODY_HASH, text(&letter.body_hash));
        set(attribute::ACCEPTED_AT, number(letter.accepted_at.0));
        set(attribute::HOP, number(u64::from(letter.hop)));
        set(attribute::FAILED_AT, number(letter.failed_at.0));
        set(attribute::EXPIRES_AT, number(letter.failed_at.as_secs().saturating_add(self.life_s)));
        set(attribute::MONTH, text(&month(letter.failed_at)));
        set(attribute::PLACE, text(&place.sortable()));
        set(attribute::ATTEMPTS, number(u64::from(letter.attempts)));
        // What an index is ordered by must not be empty.
        for (name, value) in [
            (attribute::REASON, letter.reason.map_or("", Reason::as_str)),
            (attribute::DESTINATION, &letter.destination),
            (attribute::URL, &letter.webhook_url),
            (attribute::ERROR_CLASS, letter.error_class.map_or("", ErrorClass::as_str)),
            (attribute::ERROR, &letter.error),
            (attribute::CORRELATION_ID, &letter.correlation_id),
        ] {
            if !value.is_empty() {
                set(name, text(value));
            }
        }
        if let Some(code) = letter.last_status_code {
            set(attribute::LAST_STATUS_CODE, number(u64::from(code)));
        }
        Ok(item)
    }

    /// One query of an index: what follows `before` downwards to `floor`.
    fn query(&self, shelf: &Shelf<'_>, filter: &Filter, before: &str, floor: &str, limit: usize) -> Query {
        let mut query = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(shelf.index)
            .scan_index_forward(false)
            .key_condition_expression("#shelf = :shelf AND #place BETWEEN :floor AND :before")
            .expression_attribute_names("#shelf", shelf.attribute)
            .expression_attribute_names("#place", attribute::PLACE)
            .expression_attribute_values(":shelf", text(&shelf.value))
            .expression_attribute_values(":floor", text(floor))
            .expression_attribute_values(":before", text(before))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let mut conditions = Vec::new();
        if let Some(reason) = filter.reason {
            conditions.push("#reason = :reason");
            query = query.expression_attribute_values(":reason", text(reason.as_str()));
        }
        if filter.redrivable {
            conditions.push("attribute_not_exists(#redriven) AND #reason <> :malformed");
            query = query
                .expression_attribute_names("#redriven", attribute::REDRIVEN_AT)
                .expression_attribute_values(":malformed", text(Reason::Malformed.as_str()));
        }
        if conditions.is_empty() {
            return query;
        }
        query.expression_attribute_names("#reason", attribute::REASON).filter_expression(conditions.join(" AND "))
    }

    fn update(&self, letter: &DeadLetter, expression: &str) -> Update {
        self.client
            .update_item()
            .table_name(&self.name)
            .key(attribute::ID, text(&letter.webhook_id))
            .update_expression(expression)
            .condition_expression("accepted_at = :accepted AND hop = :hop")
            .expression_attribute_values(":accepted", number(letter.accepted_at.0))
            .expression_attribute_values(":hop", number(u64::from(letter.hop)))
    }
}

type Query = aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
type Update = aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;

/// One partition of an index.
struct Shelf<'a> {
    index: &'static str,
    attribute: &'static str,
    value: std::borrow::Cow<'a, str>,
}

/// `2026-01` of an instant.
fn month(at: Millis) -> String {
    at.to_string().chars().take(7).collect()
}

/// The months from `from` to `to`, the last one first.
fn months(from: Millis, to: Millis) -> Vec<String> {
    const DAY_MS: u64 = 86_400_000;
    let mut months = vec![month(to)];
    let mut at = to;
    while at > from {
        at = Millis(at.0.saturating_sub(DAY_MS)).max(from);
        if months.last() != Some(&month(at)) {
            months.push(month(at));
        }
    }
    months
}

fn summary(item: &Item) -> Option<Summary> {
    let small = |name: &str| number_in(item, name).and_then(|value| u16::try_from(value).ok());
    Some(Summary {
        webhook_id: item.get(attribute::ID)?.as_s().ok()?.clone(),
        reason: text_in(item, attribute::REASON).parse().ok(),
        webhook_url: text_in(item, attribute::URL),
        attempts: u32::from(small(attribute::ATTEMPTS).unwrap_or_default()),
        last_status_code: small(attribute::LAST_STATUS_CODE),
        error_class: text_in(item, attribute::ERROR_CLASS).parse().ok(),
        error: text_in(item, attribute::ERROR),
        failed_at: Millis(number_in(item, attribute::FAILED_AT)?),
        correlation_id: text_in(item, attribute::CORRELATION_ID),
        redriven_at: number_in(item, attribute::REDRIVEN_AT).map(Millis),
    })
}

fn kept(item: &Item) -> Result<Kept, StoreError> {
    let record = item.get(attribute::RECORD).or_else(|| item.get(attribute::RECORD_2));
    let record = record.and_then(|record| record.as_s().ok()).ok_or(StoreError::Incomplete)?;
    Ok(Kept { letter: serde_json::from_str(record)?, redriven_at: number_in(item, attribute::REDRIVEN_AT).map(Millis) })
}

#[async_trait]
impl DeadLetterStore for Table {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(self.item(letter)?))
            .condition_expression(
                "attribute_not_exists(id) OR (body_hash = :hash AND \
                 (accepted_at < :at OR (accepted_at = :at AND hop < :hop))) OR \
                 (body_hash <> :hash AND accepted_at < :at AND attribute_exists(redriven_at))",
            )
            .expression_attribute_values(":hash", text(&letter.body_hash))
            .expression_attribute_values(":at", number(letter.accepted_at.0))
            .expression_attribute_values(":hop", number(u64::from(letter.hop)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await {
            Ok(_) => Ok(Filed::Written),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    let theirs = failed.item().and_then(|item| item.get(attribute::BODY_HASH)?.as_s().ok());
                    Ok(if theirs.is_some_and(|hash| *hash != letter.body_hash) { Filed::Foreign } else { Filed::Known })
                }
                _ => Err(StoreError::Put(Box::new(error))),
            },
        }
    }

    async fn get(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        let get = self.client.get_item().table_name(&self.name).key(attribute::ID, text(id)).consistent_read(true);
        let found = get.send().await.map_err(|error| StoreError::Get(Box::new(error)))?;
        found.item().map(kept).transpose()
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Place>,
        limit: usize,
        now: Millis,
    ) -> Result<Listed, StoreError> {
        // What has outlived its time may still be there for two days.
        let oldest = Millis(now.0.saturating_sub(self.life_s.saturating_mul(1000)));
        let floor = filter.since.unwrap_or_default().max(oldest);
        let end = filter.until.unwrap_or(Millis(u64::MAX)).min(now.after(SKEW));
        let end = Place { at: end, id: String::new() };
        let mut before = after.filter(|after| **after < end).unwrap_or(&end).clone();
        if before.at < floor {
            return Ok(Listed::default());
        }
        let floor_key = format!("{:016}", floor.0);
        let shelves: Vec<Shelf<'_>> = match &filter.destination {
            Some(to) => {
                vec![Shelf { index: BY_DESTINATION, attribute: attribute::DESTINATION, value: to.as_str().into() }]
            }
            None => months(floor, before.at)
                .into_iter()
                .map(|month| Shelf { index: BY_MONTH, attribute: attribute::MONTH, value: month.into() })
                .collect(),
        };
        let matching_all = filter.reason.is_none() && !filter.redrivable;
        let mut listed = Listed::default();
        let mut queries = 0;
        for shelf in shelves {
            loop {
                if queries == MAX_QUERIES {
                    listed.next = Some(before);
                    return Ok(listed);
                }
                queries += 1;
                let most = if matching_all { limit + 2 - listed.letters.len() } else { QUERY_ITEMS };
                let answer = self
                    .query(&shelf, filter, &before.sortable(), &floor_key, most)
                    .send()
                    .await
                    .map_err(|error| StoreError::Query(Box::new(error)))?;
                // The condition includes `before` itself.
                let from = before.clone();
                for letter in answer.items().iter().filter_map(summary).filter(|letter| letter.place() < from) {
                    if listed.letters.len() == limit {
                        listed.next = listed.letters.last().map(Summary::place);
                        return Ok(listed);
                    }
                    before = letter.place();
                    listed.letters.push(letter);
                }
                let last = answer.last_evaluated_key().map(|key| text_in(key, attribute::PLACE));
                match last.as_deref().and_then(Place::from_sortable) {
                    Some(place) => before = place,
                    None => break,
                }
            }
        }
        Ok(listed)
    }

    async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        let delete = self.client.delete_item().table_name(&self.name).key(attribute::ID, text(id));
        let gone = delete.return_values(ReturnValue::AllOld).send().await;
        let gone = gone.map_err(|error| StoreError::Delete(Box::new(error)))?;
        Ok(gone.attributes().is_some_and(|item| !item.is_empty()))
    }

    async fn reserve(&self, id: &str, token: &str, now: Millis, until: Millis) -> Result<Reserved, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(attribute::ID, text(id))
            .update_expression("SET redriving_until = :until, redriving_by = :token")
            .condition_expression(
                "attribute_exists(id) AND attribute_not_exists(redriven_at) AND \
                 (attribute_not_exists(redriving_until) OR redriving_until <= :now OR redriving_by = :token)",
            )
            .expression_attribute_values(":until", number(until.0))
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":token", text(token))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(answer) => {
                let item = answer.attributes().ok_or(StoreError::Incomplete)?;
                Ok(Reserved::Granted(Box::new(kept(item)?.letter)))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    let Some(item) = failed.item().filter(|item| !item.is_empty()) else {
                        return Ok(Reserved::Missing);
                    };
                    let Kept { letter, redriven_at } = kept(item)?;
                    Ok(if redriven_at.is_some() { Reserved::Redriven(Box::new(letter)) } else { Reserved::Taken })
                }
                _ => Err(StoreError::Update(Box::new(error))),
            },
        }
    }

    async fn redriven(&self, letter: &DeadLetter, at: Millis) -> Result<(), StoreError> {
        let update = self
            .update(letter, "SET redriven_at = :redriven REMOVE redriving_until, redriving_by")
            .expression_attribute_values(":redriven", number(at.0));
        unless_newer(update).await
    }

    async fn release(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        unless_newer(self.update(letter, "REMOVE redriving_until, redriving_by")).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let get = self.client.get_item().table_name(&self.name).key(attribute::ID, text("."));
        get.send().await.map(|_| ()).map_err(|error| StoreError::Get(Box::new(error)))
    }
}

/// Sends an update; one whose letter was replaced or deleted meanwhile is done.
async fn unless_newer(update: Update) -> Result<(), StoreError> {
    match update.send().await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(StoreError::Update(Box::new(error))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_one_another_whatever_their_length() {
        let at = |text: &str| Millis::parse_rfc3339(text).unwrap();
        let of = |from, to| months(at(from), at(to));
        assert_eq!(of("2026-03-01T00:00:00Z", "2026-03-31T23:59:59Z"), ["2026-03"]);
        assert_eq!(of("2026-01-31T23:59:59.999Z", "2026-03-01T00:00:00Z"), ["2026-03", "2026-02", "2026-01"]);
        assert_eq!(of("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"), ["2026-01", "2025-12"]);
        assert_eq!(of("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"), ["2026-03"]);
    }
}
