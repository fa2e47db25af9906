//! What every table of history offers: rows in partitions, in the order of their places. What
//! rows say is decided in `domain::history`.

use std::time::Duration;

use async_trait::async_trait;
use domain::history::Row;
use domain::time::Millis;
use tokio::time::timeout;

use crate::BoxError;

/// Most rows of one write. More are written in several.
pub const MAX_WRITES: usize = 25;
/// Most rows of one read by key.
pub const MAX_READS: usize = 100;

/// Most parts of a partition that are read to count its rows. A part has 1 MB at most, and is
/// paid for as if its rows were read.
pub const MAX_COUNTED: usize = 4;

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The partition.
    pub partition: String,
    /// The place in it.
    pub place: String,
}

impl RowKey {
    /// The key of this row.
    pub fn of(row: &Row) -> Self {
        Self { partition: row.partition.clone(), place: row.place.clone() }
    }
}

/// Which way to walk through a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first place on.
    Forwards,
    /// From the last place back.
    Backwards,
}

/// A part of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The partition; of the index `by_event`, if `by_event`.
    pub partition: String,
    /// Whether the index is read. It may be a moment behind the table.
    pub by_event: bool,
    /// Places after this one.
    pub after: Option<String>,
    /// Places before this one.
    pub before: Option<String>,
    /// Which end to begin with.
    pub direction: Direction,
    /// Most rows.
    pub limit: usize,
    /// Whether rows that have ended are wanted, too: the table may have them for days.
    pub with_ended: bool,
}

impl Part {
    /// A whole partition, from its first place on.
    pub fn of(partition: String) -> Self {
        Self {
            partition,
            by_event: false,
            after: None,
            before: None,
            direction: Direction::Forwards,
            limit: usize::MAX,
            with_ended: false,
        }
    }
}

/// What a read of a part found. Rows that have ended are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// The rows, in the order that was asked for.
    pub rows: Vec<Row>,
    /// The last place that was looked at, if the part goes on behind it. Everything up to it is
    /// in `rows`.
    pub next: Option<String>,
}

/// How many rows a partition has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Rows that were counted.
    pub rows: usize,
    /// Whether there may be more.
    pub is_more: bool,
}

/// Why history did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A row is not as we write it.
    #[error("a row of history cannot be read")]
    Incomplete(#[source] Option<serde_json::Error>),
    /// The table did not give what was asked for.
    #[error("history did not give what was asked for")]
    Read(#[source] BoxError),
    /// The table did not take a change.
    #[error("history did not take a change")]
    Write(#[source] BoxError),
}

impl HistoryError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "history_incomplete",
            Self::Read(_) => "history_read",
            Self::Write(_) => "history_write",
        }
    }
}

/// Where history is written. A trait because DynamoDB does not run inside a test; its
/// in-memory model passes the same contract test.
#[async_trait]
pub trait HistoryWriter: Send + Sync {
    /// Writes rows in the place of what was there, and gives back those that were not taken.
    async fn write(&self, rows: Vec<Row>) -> Vec<Row>;

    /// Writes a row unless there is one at its key. Says whether it did.
    async fn add(&self, row: &Row) -> Result<bool, HistoryError>;
}

/// Writes rows, those that list events first: erasing finds the payload of an event by its line
/// in a list, so no payload is there without its line. Gives back the rows that were not taken.
pub async fn write_listed_first(history: &dyn HistoryWriter, rows: Vec<Row>) -> Vec<Row> {
    let (listed, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(Row::is_listed_event);
    let mut refused = if listed.is_empty() { listed } else { history.write(listed).await };
    let is_missing = |row: &Row| row.by_event.is_none() && refused.iter().any(|listed| listed.event() == row.event());
    let (waiting, rows): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| !refused.is_empty() && is_missing(row));
    refused.extend(waiting);
    if !rows.is_empty() {
        refused.extend(history.write(rows).await);
    }
    refused
}

/// Writes rows, those that list events first, and waits for that no longer than `patience`. Gives
/// back the rows that were not taken by then; one that was taken all the same may be written again.
pub async fn write_within(history: &dyn HistoryWriter, rows: Vec<Row>, patience: Duration) -> Vec<Row> {
    let wanted = rows.len();
    let writing = write_listed_first(history, rows.clone());
    timeout(patience, writing).await.unwrap_or_else(|_| {
        tracing::error!(rows = wanted, "history did not answer in time");
        rows
    })
}

/// Where history is written and read.
#[async_trait]
pub trait History: HistoryWriter {
    /// Reads a part of a partition, as the table is now. A part may be cut short: then `next`
    /// says where it goes on.
    async fn part(&self, part: &Part, now: Millis) -> Result<Slice, HistoryError>;

    /// Counts the rows of a partition, those that have ended left out. The counting stops after
    /// `limit` rows or [`MAX_COUNTED`] parts of the partition, and may be a moment behind the
    /// table.
    async fn count(&self, partition: &str, limit: usize, now: Millis) -> Result<Count, HistoryError>;

    /// The rows at these keys as they are now, in their order, each named once.
    async fn rows(&self, keys: &[RowKey], now: Millis) -> Result<Vec<Option<Row>>, HistoryError>;

    /// Writes a row in the place of one with this body. `false` if another one is there, or
    /// none.
    async fn replace(&self, body: &str, row: &Row) -> Result<bool, HistoryError>;

    /// Deletes rows; what is not there is deleted already.
    async fn delete(&self, keys: &[RowKey]) -> Result<(), HistoryError>;
}
