//! Keeps deliveries as owed: their rows are written, and then a catch-up of their endpoint is
//! woken up. Only when both are done may the message of a delivery be acknowledged.
//!
//! Whoever finds that an endpoint is paused or disabled may be late: it may be enabled a moment
//! later. The catch-up that the wake-up begins finds the row then. A minute's rows need one
//! wake-up, because it comes three minutes later.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::history::{Row, owed};
use domain::job::JobPage;
use domain::message::Message;
use domain::time::Millis;
use lru::LruCache;
use tokio::time::timeout;

use crate::aws::sqs::{Outgoing, Queue, QueueName, SendError, delay_s};
use crate::history::HistoryWriter;
use crate::metrics;
use crate::telemetry::chain;

/// How far ahead a catch-up is woken up. Whoever enables the endpoint meanwhile has done so by
/// then. The wake-up of a minute may begin a minute before this one is due, and a row may be
/// written a minute after it was queued: there is a minute left for everything that is late.
pub const WAKE_UP_AHEAD: Duration = Duration::from_secs(190);
/// How often the catch-up of one endpoint is woken up at most, by one process.
const PAUSE: Duration = Duration::from_secs(60);
/// How long the table has to take rows. What is not taken by then is not owed.
const PATIENCE: Duration = Duration::from_secs(4);
/// Endpoints that a process remembers to have woken up. One that is forgotten is woken up once
/// more.
const MOST_WOKEN: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Why a delivery is not owed: its message must stay.
#[derive(Debug, thiserror::Error)]
pub enum OweError {
    /// It cannot be written as a row: it is for no endpoint, or its payload is not JSON.
    #[error("the delivery cannot be written as a row")]
    NoRow(#[source] Option<serde_json::Error>),
    /// The table did not take its row.
    #[error("the table of history did not take the row of an owed delivery")]
    NotWritten,
    /// The row is there, and no catch-up was woken up.
    #[error("the catch-up of an endpoint is not woken up")]
    NotWoken(#[source] Option<SendError>),
}

impl OweError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRow(_) => "owed_no_row",
            Self::NotWritten => "owed_not_written",
            Self::NotWoken(_) => "owed_not_woken",
        }
    }
}

/// Keeps deliveries as owed, and remembers which catch-ups it has woken up.
pub struct Owing {
    owed_for: Duration,
    woken: Mutex<LruCache<String, Millis>>,
}

/// An endpoint whose catch-up is to be woken up.
struct Sleeper {
    tenant: String,
    endpoint: String,
}

impl Owing {
    /// Nobody is owed a delivery for longer than `owed_for`.
    pub fn new(owed_for: Duration) -> Self {
        Self { owed_for, woken: Mutex::new(LruCache::new(MOST_WOKEN)) }
    }

    /// Keeps deliveries as owed, and says of each, in order, whether it is. Rows come first and
    /// wake-ups after them. Nothing is written later: what is not owed now must stay in its
    /// queue. A delivery may be given twice.
    pub async fn owe(
        &self,
        history: &dyn HistoryWriter,
        queue: &dyn Queue,
        messages: &[Message],
        now: Millis,
    ) -> Vec<Result<(), OweError>> {
        let rows: Vec<Result<Row, OweError>> = messages.iter().map(|message| self.row(message, now)).collect();
        let refused = write(history, rows.iter().flatten().cloned().collect()).await;
        let is_refused = |row: &Row| refused.iter().any(|other| is_same(row, other));
        let mut results: Vec<Result<(), OweError>> =
            rows.into_iter().map(|row| if is_refused(&row?) { Err(OweError::NotWritten) } else { Ok(()) }).collect();
        metrics::deliveries_owed(results.iter().filter(|result| result.is_ok()).count() as u64);
        // A row that is not known to be written may be there all the same, and must not stay.
        let with_row: Vec<usize> =
            (0..results.len()).filter(|place| !matches!(results[*place], Err(OweError::NoRow(_)))).collect();
        let asleep = self.asleep(with_row.iter().map(|place| &messages[*place]), now);
        for (sleeper, error) in self.wake(queue, asleep, now).await {
            tracing::error!(
                tenant = %sleeper.tenant,
                endpoint_id = %sleeper.endpoint,
                error = error.as_ref().map(|error| chain(error).to_string()),
                "the catch-up of an endpoint is not woken up"
            );
            for place in with_row.iter().filter(|place| is_for(&messages[**place], &sleeper.endpoint)) {
                results[*place] = Err(OweError::NotWoken(error.clone()));
            }
        }
        results
    }

    fn row(&self, message: &Message, now: Millis) -> Result<Row, OweError> {
        let row = owed::row(message, now, self.owed_for).map_err(|error| OweError::NoRow(Some(error)))?;
        row.ok_or(OweError::NoRow(None))
    }

    /// The endpoints of these deliveries that were not woken up a moment ago, each once.
    fn asleep<'m>(&self, messages: impl Iterator<Item = &'m Message>, now: Millis) -> Vec<Sleeper> {
        let mut woken = self.woken();
        let mut asleep: Vec<Sleeper> = Vec::new();
        for target in messages.filter_map(|message| message.delivery.endpoint.as_ref()) {
            let is_woken = woken.get(&target.endpoint).is_some_and(|at| now < at.after(PAUSE));
            if !is_woken && asleep.iter().all(|other| other.endpoint != target.endpoint) {
                asleep.push(Sleeper { tenant: target.tenant.clone(), endpoint: target.endpoint.clone() });
            }
        }
        asleep
    }

    /// Queues wake-ups. Gives those that the queue did not take.
    async fn wake(&self, queue: &dyn Queue, asleep: Vec<Sleeper>, now: Millis) -> Vec<(Sleeper, Option<SendError>)> {
        if asleep.is_empty() {
            return Vec::new();
        }
        let due = now.after(WAKE_UP_AHEAD);
        let (mut sent, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for sleeper in asleep {
            match JobPage::wake_up(&sleeper.tenant, &sleeper.endpoint, due).encode() {
                Ok(body) => {
                    messages.push(Outgoing::new(body, sleeper.tenant.clone(), delay_s(now, due)));
                    sent.push(sleeper);
                }
                Err(_) => failed.push((sleeper, None)),
            }
        }
        let results = queue.send(QueueName::Event, messages).await;
        let mut woken = self.woken();
        for (sleeper, result) in sent.into_iter().zip(results) {
            match result {
                Ok(()) => drop(woken.put(sleeper.endpoint, now)),
                Err(error) => failed.push((sleeper, Some(error))),
            }
        }
        failed
    }

    fn woken(&self) -> MutexGuard<'_, LruCache<String, Millis>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes rows, and gives back those that are not known to be written.
async fn write(history: &dyn HistoryWriter, rows: Vec<Row>) -> Vec<Row> {
    if rows.is_empty() {
        return rows;
    }
    metrics::history_rows(rows.len() as u64);
    let refused = timeout(PATIENCE, history.write(rows.clone())).await.unwrap_or(rows);
    if !refused.is_empty() {
        metrics::history_rows_refused(refused.len() as u64);
    }
    refused
}

fn is_same(row: &Row, other: &Row) -> bool {
    (&row.partition, &row.place) == (&other.partition, &other.place)
}

fn is_for(message: &Message, endpoint: &str) -> bool {
    message.delivery.endpoint.as_ref().is_some_and(|target| target.endpoint == endpoint)
}
