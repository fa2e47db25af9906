//! The gate at which every step to the outside stops until the simulation lets it pass.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError};
use adapters::clock::Clock;
use adapters::dead_letter_store::{DeadLetterStore, Filed, Kept, Listed, Reserved, StoreError};
use adapters::history::{Count, History, HistoryError, HistoryWriter, Part, RowKey, Slice};
use adapters::receiver_client::{ReceiverCall, ReceiverClient};
use adapters::redis::transport::{Call, RedisPort, Reply, Unavailable};
use adapters::registry::{CardFound, CardLists, CardPage, Cards, EndpointKey, RegistryError, TenantRevision};
use async_trait::async_trait;
use domain::dead_letter::{DeadLetter, Filter};
use domain::history::Row;
use domain::outcome::{Answer, Attempted};
use domain::place::Place;
use domain::time::Millis;
use fastrand::Rng;
use tokio::sync::oneshot;

use super::books::Books;
use crate::history_model::HistoryModel;
use crate::registry_model::RegistryModel;
use crate::sqs_model::SqsModel;
use crate::store_model::StoreModel;

/// Where a process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeRoundTrip,
    AfterRoundTrip,
    BeforeSend,
    AfterSend,
    BeforePost,
    AfterPost,
    BeforeFile,
    AfterFile,
    BeforeCards,
    AfterCards,
    BeforeRows,
    AfterRows,
}

/// How a process goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Permit {
    #[default]
    Go,
    /// Its step fails, or its answer is lost.
    Fail,
    /// Its step fails in part: the last of its messages is not sent.
    Partly,
    /// Its step is done once more.
    Again,
}

struct Waiting {
    process: usize,
    point: Point,
    permit: oneshot::Sender<Permit>,
}

/// The gates of all processes.
pub(crate) struct Gate {
    waiting: Mutex<Vec<Waiting>>,
    /// How often anything arrived or left.
    moved: Mutex<u64>,
    /// Round trips that Redis works on.
    busy: Mutex<usize>,
    away: Mutex<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), moved: Mutex::default(), busy: Mutex::default(), away: Mutex::default() }
    }

    /// Who waits: index, process and point.
    pub(crate) fn waiting(&self) -> Vec<(usize, usize, Point)> {
        let waiting = self.waiting.lock().unwrap();
        waiting.iter().enumerate().map(|(i, one)| (i, one.process, one.point)).collect()
    }

    pub(crate) fn grant(&self, index: usize, permit: Permit) {
        let one = self.waiting.lock().unwrap().remove(index);
        *self.moved.lock().unwrap() += 1;
        // Its process may have died.
        one.permit.send(permit).ok();
    }

    /// Drops a process that has died.
    pub(crate) fn forget(&self, process: usize) {
        self.waiting.lock().unwrap().retain(|one| one.process != process);
    }

    pub(crate) fn movement(&self) -> u64 {
        *self.moved.lock().unwrap()
    }

    pub(crate) fn is_idle(&self) -> bool {
        *self.busy.lock().unwrap() == 0
    }

    pub(crate) fn set_redis_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }

    async fn pass(&self, process: usize, point: Point) -> Permit {
        let (permit, granted) = oneshot::channel();
        self.waiting.lock().unwrap().push(Waiting { process, point, permit });
        *self.moved.lock().unwrap() += 1;
        match granted.await {
            Ok(permit) => permit,
            // The process has died; its task ends with this.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Redis works on a round trip as long as this lives. It ends with its process, too.
struct AtWork<'a>(&'a Gate);

impl<'a> AtWork<'a> {
    fn begin(gate: &'a Gate) -> Self {
        *gate.busy.lock().unwrap() += 1;
        Self(gate)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap() -= 1;
        *self.0.moved.lock().unwrap() += 1;
    }
}

/// The clients of one process. Each call stops at the gate.
pub(crate) struct Port {
    pub(crate) number: usize,
    pub(crate) gate: Arc<Gate>,
    pub(crate) books: Arc<Books>,
    pub(crate) redis: Arc<dyn RedisPort>,
    pub(crate) queues: SqsModel,
    pub(crate) store: StoreModel,
    pub(crate) registry: RegistryModel,
    pub(crate) history: HistoryModel,
    pub(crate) clock: Clock,
    /// Most cards of one part of a list.
    pub(crate) part: usize,
}

tokio::task_local! {
    /// The clients of the process that runs now.
    static PORT: Arc<Port>;
}

impl Port {
    async fn exchange(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        let _at_work = AtWork::begin(&self.gate);
        self.redis.round_trip(calls).await
    }
}

#[async_trait]
impl RedisPort for Port {
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.books.tells(&calls);
        self.gate.pass(self.number, Point::BeforeRoundTrip).await;
        if *self.gate.away.lock().unwrap() {
            self.books.count("round trip without redis");
            self.books.unheard(&calls);
            return Err(Unavailable::away());
        }
        for call in &calls {
            self.books.asks(self.number, call);
        }
        let mut replies = self.exchange(calls.clone()).await;
        if self.gate.pass(self.number, Point::AfterRoundTrip).await == Permit::Again {
            replies = self.exchange(calls.clone()).await;
        }
        if *self.gate.away.lock().unwrap() {
            // It was done, but its answer is lost.
            self.books.count("reply lost");
            self.books.unheard(&calls);
            return Err(Unavailable::away());
        }
        for (call, reply) in calls.iter().zip(replies.iter().flatten()) {
            if let Ok(reply) = reply {
                self.books.answered(self.number, call, reply);
            }
        }
        replies
    }
}

#[async_trait]
impl Queue for Port {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let failure = || Err(SendError::unavailable("simulated"));
        let count = messages.len();
        for message in &messages {
            self.books.sends(self.number, queue_name, message);
        }
        let taken = match self.gate.pass(self.number, Point::BeforeSend).await {
            Permit::Fail => 0,
            Permit::Partly => count.saturating_sub(1),
            Permit::Go | Permit::Again => count,
        };
        let mut results = self.queues.send(queue_name, messages[..taken].to_vec()).await;
        for (message, _) in messages.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
            self.books.sent(queue_name, message);
        }
        results.resize_with(count, failure);
        if taken == 0 {
            self.books.not_sent(queue_name, &messages);
        } else if self.gate.pass(self.number, Point::AfterSend).await == Permit::Fail {
            self.books.not_sent(queue_name, &messages);
            results.fill_with(failure);
        } else {
            self.books.not_sent(queue_name, &messages[taken..]);
        }
        results
    }
}

#[async_trait]
impl ReceiverClient for Port {
    async fn post(&self, call: &ReceiverCall<'_>) -> Attempted {
        self.gate.pass(self.number, Point::BeforePost).await;
        let at = self.clock.now();
        let (answer, retry_after) = self.books.call(self.number, call, at);
        let lost = self.gate.pass(self.number, Point::AfterPost).await == Permit::Fail;
        self.books.call_ended(self.number, call);
        let answer = if lost {
            self.books.excuse(call);
            Answer::Network
        } else {
            answer
        };
        let error = (!matches!(answer, Answer::Status(200))).then(|| format!("{answer:?}"));
        Attempted { retry_after, error, ..Attempted::new(answer, at, 1) }
    }
}

/// The registry may be slow or away, and its cards change between two attempts.
#[async_trait]
impl Cards for Port {
    async fn cards(&self, wanted: &[EndpointKey], consistently: bool) -> Result<Vec<CardFound>, RegistryError> {
        let failure = || RegistryError::Read("simulated".into());
        if self.gate.pass(self.number, Point::BeforeCards).await == Permit::Fail {
            return Err(failure());
        }
        let found = self.registry.cards(wanted, consistently).await;
        if self.gate.pass(self.number, Point::AfterCards).await == Permit::Fail {
            return Err(failure());
        }
        for found in found.iter().flatten() {
            self.books.count(match found {
                CardFound::Card(_) => "card read",
                CardFound::Gone | CardFound::Erased => "card gone",
                CardFound::Missing => "card missing",
                CardFound::Unreadable => "card unreadable",
            });
        }
        found
    }
}

#[async_trait]
impl CardLists for Port {
    async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
        self.ask_registry(self.registry.revisions(tenants)).await
    }

    /// Large cards make a shorter part.
    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError> {
        self.ask_registry(self.registry.list(tenant, after, limit.min(self.part))).await
    }
}

impl Port {
    /// Asks the registry what fan-out wants to know.
    async fn ask_registry<T>(
        &self,
        asking: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let is_lost = self.gate.pass(self.number, Point::BeforeCards).await == Permit::Fail;
        let answer = if is_lost { Err(RegistryError::Read("simulated".into())) } else { asking.await };
        let is_lost = is_lost || self.gate.pass(self.number, Point::AfterCards).await == Permit::Fail;
        if is_lost || answer.is_err() {
            self.books.count("registry away in fan-out");
            return Err(RegistryError::Read("simulated".into()));
        }
        answer
    }

    /// Runs a process whose functions use [`OfTheProcess`], by its own clients.
    pub(crate) async fn lend<T>(self: Arc<Self>, process: impl Future<Output = T>) -> T {
        PORT.scope(self, process).await
    }
}

/// The clients of whichever process runs: for a function that lives longer than one
/// invocation.
pub(crate) struct OfTheProcess;

impl OfTheProcess {
    fn port() -> Arc<Port> {
        PORT.with(Arc::clone)
    }
}

#[async_trait]
impl RedisPort for OfTheProcess {
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        Self::port().round_trip(calls).await
    }
}

#[async_trait]
impl Queue for OfTheProcess {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        Self::port().send(queue_name, messages).await
    }
}

#[async_trait]
impl CardLists for OfTheProcess {
    async fn revisions(&self, tenants: &[String]) -> Result<Vec<TenantRevision>, RegistryError> {
        Self::port().revisions(tenants).await
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<CardPage, RegistryError> {
        CardLists::list(&*Self::port(), tenant, after, limit).await
    }
}

/// History may take rows in part, not at all, or without saying so.
#[async_trait]
impl HistoryWriter for Port {
    async fn write(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let taken = match self.gate.pass(self.number, Point::BeforeRows).await {
            Permit::Fail => 0,
            Permit::Partly => rows.len().saturating_sub(1),
            Permit::Go | Permit::Again => rows.len(),
        };
        let mut refused = rows.split_off(taken);
        if !rows.is_empty() {
            refused.extend(self.history.write(rows.clone()).await);
            self.books.owed(self.number, &rows);
            if self.gate.pass(self.number, Point::AfterRows).await == Permit::Fail {
                refused.extend(rows);
            }
        }
        if !refused.is_empty() {
            self.books.count("rows refused");
        }
        refused
    }

    async fn add(&self, row: &Row) -> Result<bool, HistoryError> {
        let failure = || HistoryError::Write("simulated".into());
        if self.gate.pass(self.number, Point::BeforeRows).await == Permit::Fail {
            return Err(failure());
        }
        let added = self.history.add(row).await;
        if self.gate.pass(self.number, Point::AfterRows).await == Permit::Fail {
            return Err(failure());
        }
        if added.as_ref().is_ok_and(|added| *added) {
            self.books.count("row added");
        }
        added
    }
}

#[async_trait]
impl HistoryWriter for OfTheProcess {
    async fn write(&self, rows: Vec<Row>) -> Vec<Row> {
        Self::port().write(rows).await
    }

    async fn add(&self, row: &Row) -> Result<bool, HistoryError> {
        Self::port().add(row).await
    }
}

/// The simulation has no jobs, so nothing is read.
#[async_trait]
impl History for OfTheProcess {
    async fn part(&self, part: &Part, now: Millis) -> Result<Slice, HistoryError> {
        Self::port().history.part(part, now).await
    }

    async fn count(&self, partition: &str, limit: usize, now: Millis) -> Result<Count, HistoryError> {
        Self::port().history.count(partition, limit, now).await
    }

    async fn rows(&self, keys: &[RowKey], now: Millis) -> Result<Vec<Option<Row>>, HistoryError> {
        Self::port().history.rows(keys, now).await
    }

    async fn replace(&self, body: &str, row: &Row) -> Result<bool, HistoryError> {
        Self::port().history.replace(body, row).await
    }

    async fn delete(&self, keys: &[RowKey]) -> Result<(), HistoryError> {
        Self::port().history.delete(keys).await
    }
}

/// The registry as consumers see it that live for long: a read may be of a moment ago.
pub(crate) struct Eventual {
    pub(crate) registry: RegistryModel,
    pub(crate) books: Arc<Books>,
    pub(crate) seen: Mutex<(Rng, BTreeMap<EndpointKey, CardFound>)>,
}

#[async_trait]
impl Cards for Eventual {
    async fn cards(&self, wanted: &[EndpointKey], consistently: bool) -> Result<Vec<CardFound>, RegistryError> {
        let found = self.registry.cards(wanted, consistently).await?;
        let mut seen = self.seen.lock().unwrap();
        let (rng, earlier) = &mut *seen;
        let answers = wanted.iter().zip(found).map(|(key, found)| {
            let earlier = earlier.insert(key.clone(), found.clone());
            match earlier {
                Some(earlier) if !consistently && earlier != found && rng.bool() => {
                    self.books.count("card of a moment ago");
                    earlier
                }
                Some(_) | None => found,
            }
        });
        Ok(answers.collect())
    }
}

/// The simulation has no operator: only filing stops at the gate.
#[async_trait]
impl DeadLetterStore for Port {
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, StoreError> {
        self.gate.pass(self.number, Point::BeforeFile).await;
        let filed = self.store.file(letter).await;
        self.gate.pass(self.number, Point::AfterFile).await;
        filed
    }

    async fn get(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        self.store.get(id).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Place>,
        limit: usize,
        now: Millis,
    ) -> Result<Listed, StoreError> {
        self.store.list(filter, after, limit, now).await
    }

    async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        self.store.delete(id).await
    }

    async fn reserve(&self, id: &str, token: &str, now: Millis, until: Millis) -> Result<Reserved, StoreError> {
        self.store.reserve(id, token, now, until).await
    }

    async fn redriven(&self, letter: &DeadLetter, at: Millis) -> Result<(), StoreError> {
        self.store.redriven(letter, at).await
    }

    async fn release(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.store.release(letter).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}
