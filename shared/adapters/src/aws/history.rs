//! History in DynamoDB: one table, its rows written in batches and read by partition.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{DeleteRequest, KeysAndAttributes, PutRequest, Select, WriteRequest};
use domain::history::{EventPlace, Row};
use domain::time::Millis;
use futures_util::future::join_all;

use super::account::Account;
use super::attributes::{Item, number, number_in, text, text_in};
use crate::BoxError;
use crate::history::{
    Count, Direction, History, HistoryError, HistoryWriter, MAX_COUNTED, MAX_READS, MAX_WRITES, Part, RowKey, Slice,
};
use crate::telemetry::chain;

const PK: &str = "pk";
const SK: &str = "sk";
const BODY: &str = "body";
const TTL: &str = "ttl";
const EVENT: &str = "event";
const EVENT_PLACE: &str = "event_place";
const BY_EVENT: &str = "by_event";

/// How often what an answer left out is asked for again.
const TRIES: u32 = 5;
/// The longest wait before that. It doubles.
const WAIT: Duration = Duration::from_millis(50);
/// DynamoDB takes 16 MB a call. Events are large, so a call has fewer of them.
const MAX_CALL_BYTES: usize = 4_000_000;
/// Most rows of one query.
const MAX_QUERY: usize = 1000;

/// The real table.
#[derive(Clone, Debug)]
pub struct HistoryTable {
    client: aws_sdk_dynamodb::Client,
    name: String,
}

/// What a batch is to do with one row.
#[derive(Clone)]
enum Write<'a> {
    Put(&'a Row),
    Delete(&'a RowKey),
}

fn unread(error: impl Into<BoxError>) -> HistoryError {
    HistoryError::Read(error.into())
}

fn unwritten(error: impl Into<BoxError>) -> HistoryError {
    HistoryError::Write(error.into())
}

fn key(partition: &str, place: &str) -> Item {
    Item::from([(PK.to_owned(), text(partition)), (SK.to_owned(), text(place))])
}

fn item(row: &Row) -> Item {
    let mut item = key(&row.partition, &row.place);
    item.insert(BODY.to_owned(), text(&row.body));
    item.insert(TTL.to_owned(), number(row.kept_until.0.div_ceil(1000)));
    if let Some(EventPlace { event, place }) = &row.by_event {
        item.insert(EVENT.to_owned(), text(event));
        item.insert(EVENT_PLACE.to_owned(), text(place));
    }
    item
}

fn row(item: &Item) -> Result<Row, HistoryError> {
    let body = item.get(BODY).and_then(|value| value.as_s().ok()).ok_or(HistoryError::Incomplete(None))?;
    let ttl = number_in(item, TTL).ok_or(HistoryError::Incomplete(None))?;
    let by_event =
        item.contains_key(EVENT).then(|| EventPlace { event: text_in(item, EVENT), place: text_in(item, EVENT_PLACE) });
    Ok(Row {
        partition: text_in(item, PK),
        place: text_in(item, SK),
        body: body.clone(),
        kept_until: Millis(ttl.saturating_mul(1000)),
        by_event,
    })
}

/// Waits a random part of a time that doubles.
async fn pause(tried: u32) {
    tokio::time::sleep(WAIT.saturating_mul(1 << tried.min(8)).mul_f64(fastrand::f64())).await;
}

impl HistoryTable {
    /// The table `name`.
    pub fn new(account: &Account, name: String) -> Self {
        Self { client: account.dynamodb(), name }
    }

    /// Carries out 25 changes at most. Gives the places of those that were not, and why.
    async fn batch(&self, writes: &[Write<'_>]) -> (Vec<usize>, Option<HistoryError>) {
        let request = |write: &Write<'_>| -> Result<WriteRequest, HistoryError> {
            Ok(match write {
                Write::Put(row) => {
                    let put = PutRequest::builder().set_item(Some(item(row))).build().map_err(unwritten)?;
                    WriteRequest::builder().put_request(put).build()
                }
                Write::Delete(key_of) => {
                    let key = key(&key_of.partition, &key_of.place);
                    let delete = DeleteRequest::builder().set_key(Some(key)).build().map_err(unwritten)?;
                    WriteRequest::builder().delete_request(delete).build()
                }
            })
        };
        let mut left: Vec<usize> = (0..writes.len()).collect();
        for tried in 0..TRIES {
            if tried > 0 {
                pause(tried).await;
            }
            let requests = match left.iter().map(|place| request(&writes[*place])).collect::<Result<Vec<_>, _>>() {
                Ok(requests) => requests,
                Err(error) => return (left, Some(error)),
            };
            let call = self.client.batch_write_item().request_items(&self.name, requests);
            match call.send().await {
                Ok(answer) => {
                    let unprocessed = answer.unprocessed_items.unwrap_or_default().remove(&self.name);
                    let unprocessed: Vec<(String, String)> =
                        unprocessed.unwrap_or_default().iter().map(name_of).collect();
                    left.retain(|place| unprocessed.contains(&writes[*place].name()));
                    if left.is_empty() {
                        return (left, None);
                    }
                }
                Err(error) => return (left, Some(unwritten(error))),
            }
        }
        (left, Some(unwritten("some rows were left out of every answer")))
    }
}

impl Write<'_> {
    fn name(&self) -> (String, String) {
        match self {
            Self::Put(row) => (row.partition.clone(), row.place.clone()),
            Self::Delete(key) => (key.partition.clone(), key.place.clone()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(row) => row.written_len(),
            Self::Delete(_) => 0,
        }
    }
}

/// The key that a request names.
fn name_of(request: &WriteRequest) -> (String, String) {
    let put = request.put_request().map(PutRequest::item);
    let item = put.or_else(|| request.delete_request().map(DeleteRequest::key));
    item.map(|item| (text_in(item, PK), text_in(item, SK))).unwrap_or_default()
}

/// Splits changes into calls. One call names no row twice: DynamoDB refuses that. So the last
/// of two writes of one row counts.
fn calls<'w, 'r>(writes: &'w [Write<'r>]) -> Vec<&'w [Write<'r>]> {
    let mut calls = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (place, write) in writes.iter().enumerate() {
        if place - from == MAX_WRITES || (place > from && bytes + write.bytes() > MAX_CALL_BYTES) {
            calls.push(&writes[from..place]);
            (from, bytes) = (place, 0);
        }
        bytes += write.bytes();
    }
    calls.push(&writes[from..]);
    calls.retain(|call| !call.is_empty());
    calls
}

#[async_trait]
impl HistoryWriter for HistoryTable {
    async fn write(&self, rows: Vec<Row>) -> Vec<Row> {
        let by_key: HashMap<(&str, &str), &Row> =
            rows.iter().map(|row| ((row.partition.as_str(), row.place.as_str()), row)).collect();
        let writes: Vec<Write<'_>> = by_key.into_values().map(Write::Put).collect();
        let mut refused = Vec::new();
        let calls = calls(&writes);
        for (call, (left, error)) in calls.iter().zip(join_all(calls.iter().map(|call| self.batch(call))).await) {
            if let Some(error) = error {
                tracing::error!(rows = left.len(), code = error.code(), error = %chain(&error), "history did not take rows");
            }
            refused.extend(left.into_iter().filter_map(|place| match &call[place] {
                Write::Put(row) => Some((*row).clone()),
                Write::Delete(_) => None,
            }));
        }
        refused
    }

    async fn add(&self, row: &Row) -> Result<bool, HistoryError> {
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item(row)));
        was_done(put.condition_expression("attribute_not_exists(pk)").send().await)
    }
}

#[async_trait]
impl History for HistoryTable {
    async fn part(&self, part: &Part, now: Millis) -> Result<Slice, HistoryError> {
        let (pk, sk) = if part.by_event { (EVENT, EVENT_PLACE) } else { (PK, SK) };
        let mut query = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(part.by_event.then(|| BY_EVENT.to_owned()))
            .expression_attribute_names("#pk", pk)
            .expression_attribute_values(":partition", text(&part.partition))
            .consistent_read(!part.by_event)
            .scan_index_forward(part.direction == Direction::Forwards)
            .limit(i32::try_from(part.limit.min(MAX_QUERY)).unwrap_or(1));
        let mut conditions = "#pk = :partition".to_owned();
        if part.after.is_some() || part.before.is_some() {
            query = query.expression_attribute_names("#sk", sk);
        }
        // A query takes one condition on the place. BETWEEN includes its ends, which are left
        // out below.
        match (&part.after, &part.before) {
            (Some(after), Some(before)) => {
                if after >= before {
                    return Ok(Slice::default());
                }
                conditions.push_str(" AND #sk BETWEEN :after AND :before");
                query = query.expression_attribute_values(":after", text(after));
                query = query.expression_attribute_values(":before", text(before));
            }
            (Some(after), None) => {
                conditions.push_str(" AND #sk > :after");
                query = query.expression_attribute_values(":after", text(after));
            }
            (None, Some(before)) => {
                conditions.push_str(" AND #sk < :before");
                query = query.expression_attribute_values(":before", text(before));
            }
            (None, None) => {}
        }
        let answer = query.key_condition_expression(conditions).send().await.map_err(unread)?;
        let next = answer.last_evaluated_key().map(|last| text_in(last, sk));
        let mut rows = Vec::with_capacity(answer.items().len());
        for item in answer.items() {
            let place = text_in(item, sk);
            let is_inside = part.after.as_ref().is_none_or(|after| place > *after)
                && part.before.as_ref().is_none_or(|before| place < *before);
            match row(item) {
                Ok(row) if is_inside && (part.with_ended || row.is_kept(now)) => rows.push(row),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(code = error.code(), partition = %part.partition, place, "a row of history cannot be read");
                }
            }
        }
        Ok(Slice { rows, next })
    }

    async fn count(&self, partition: &str, limit: usize, now: Millis) -> Result<Count, HistoryError> {
        let mut count = Count::default();
        let (mut left, mut start) = (limit, None);
        for _ in 0..MAX_COUNTED {
            let query = self
                .client
                .query()
                .table_name(&self.name)
                .select(Select::Count)
                .key_condition_expression("#pk = :partition")
                .filter_expression("#ttl > :now")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#ttl", TTL)
                .expression_attribute_values(":partition", text(partition))
                .expression_attribute_values(":now", number(now.as_secs()))
                .set_exclusive_start_key(start)
                .limit(i32::try_from(left).unwrap_or(i32::MAX));
            let answer = query.send().await.map_err(unread)?;
            let number = |number: i32| usize::try_from(number).unwrap_or_default();
            count.rows += number(answer.count());
            left = left.saturating_sub(number(answer.scanned_count()));
            start = answer.last_evaluated_key;
            count.is_more = start.is_some();
            if left == 0 || !count.is_more {
                break;
            }
        }
        Ok(count)
    }

    async fn rows(&self, keys: &[RowKey], now: Millis) -> Result<Vec<Option<Row>>, HistoryError> {
        let mut found = HashMap::new();
        for part in keys.chunks(MAX_READS) {
            let mut left: Vec<Item> = part.iter().map(|wanted| key(&wanted.partition, &wanted.place)).collect();
            let mut tried = 0;
            while !left.is_empty() {
                if tried > 0 {
                    pause(tried).await;
                }
                // An answer has 16 MB at most, so large events come in several.
                tried += 1;
                if tried > TRIES * 4 {
                    return Err(unread("some rows were left out of every answer"));
                }
                let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true);
                let request = self.client.batch_get_item().request_items(&self.name, wanted.build().map_err(unread)?);
                let answer = request.send().await.map_err(unread)?;
                for item in answer.responses.unwrap_or_default().into_values().flatten() {
                    found.insert((text_in(&item, PK), text_in(&item, SK)), row(&item)?);
                }
                left = answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|left| left.keys).collect();
            }
        }
        let of = |key: &RowKey| found.get(&(key.partition.clone(), key.place.clone())).filter(|row| row.is_kept(now));
        Ok(keys.iter().map(|key| of(key).cloned()).collect())
    }

    async fn replace(&self, body: &str, row: &Row) -> Result<bool, HistoryError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item(row)))
            .condition_expression("#body = :body")
            .expression_attribute_names("#body", BODY)
            .expression_attribute_values(":body", text(body));
        was_done(put.send().await)
    }

    async fn delete(&self, keys: &[RowKey]) -> Result<(), HistoryError> {
        let writes: Vec<Write<'_>> = keys.iter().map(Write::Delete).collect();
        for (_, error) in join_all(calls(&writes).into_iter().map(|call| self.batch(call))).await {
            if let Some(error) = error {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Whether a conditional write was done.
fn was_done<T, R>(answer: Result<T, SdkError<PutItemError, R>>) -> Result<bool, HistoryError>
where
    SdkError<PutItemError, R>: Into<BoxError>,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) => match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
            _ => Err(unwritten(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(bytes: usize) -> Row {
        Row { partition: "p".into(), place: "s".into(), body: "x".repeat(bytes), kept_until: Millis(1), by_event: None }
    }

    #[test]
    fn calls_are_bounded_in_rows_and_bytes() {
        let sizes = |rows: Vec<Row>| -> Vec<usize> {
            let writes: Vec<Write<'_>> = rows.iter().map(Write::Put).collect();
            calls(&writes).iter().map(|call| call.len()).collect()
        };
        assert_eq!(sizes(vec![row_of(1); 60]), [25, 25, 10]);
        assert_eq!(sizes(vec![row_of(300_000); 20]), [13, 7]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
