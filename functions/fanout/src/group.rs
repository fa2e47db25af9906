//! Deliveries of one event that are done with together: those that the queue must have, and
//! those that are owed.

use std::time::Duration;

use adapters::aws::sqs::{MAX_BATCH_BYTES, MAX_ENTRIES, Outgoing, QueueName};
use adapters::history::{MAX_WRITES, RowKey};
use adapters::owed::OweError;
use adapters::telemetry::chain;
use domain::event::Event;
use domain::history::event::KeptEvent;
use domain::history::names;
use domain::message::Message;

use crate::context::Context;
use crate::retried;

/// What a message takes beside its payload, in bytes.
const MESSAGE_BYTES: usize = 1000;

/// When `deliver` first tries to keep what the table did not take here.
const LATER: Duration = Duration::from_secs(30);

/// Why a group is not done.
const NOT_QUEUED: &str = "the queue did not take its deliveries";
const NOT_OWED: &str = "its deliveries to endpoints that are not enabled cannot be kept as owed";

/// The next delivery of an event.
pub(crate) enum Next {
    /// The queue must have it.
    Queued(Outgoing),
    /// Its endpoint does not take it now.
    Owed(Box<Message>),
}

impl Next {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Queued(message) => message.bytes(),
            Self::Owed(message) => message.delivery.payload.len() + MESSAGE_BYTES,
        }
    }
}

/// Deliveries that go in one call to the queue and in one to the table, and the endpoint that is
/// done with when both have theirs.
#[derive(Default)]
pub(crate) struct Group {
    messages: Vec<Outgoing>,
    owed: Vec<Message>,
    pub(crate) bytes: usize,
    pub(crate) last: Option<String>,
}

/// What became of a group.
pub(crate) struct Sent {
    /// Why the queue or the table does not have all of it; `None` when it is done.
    pub(crate) failure: Option<&'static str>,
    /// How many endpoints got their delivery, if it is done.
    pub(crate) queued: u32,
    /// How many are owed it, if it is done.
    pub(crate) owed: u32,
    pub(crate) bytes: usize,
    pub(crate) last: Option<String>,
}

impl Group {
    /// Whether there is room for a delivery.
    pub(crate) fn has_room(&self, next: &Next) -> bool {
        let is_full = match next {
            Next::Queued(_) => self.messages.len() == MAX_ENTRIES,
            Next::Owed(_) => self.owed.len() == MAX_WRITES,
        };
        !is_full && self.bytes + next.bytes() <= MAX_BATCH_BYTES
    }

    /// Adds a delivery.
    pub(crate) fn push(&mut self, next: Next) {
        self.bytes += next.bytes();
        match next {
            Next::Queued(message) => self.messages.push(message),
            Next::Owed(message) => self.owed.push(*message),
        }
    }

    /// Queues what must be queued, and keeps as owed what is owed.
    pub(crate) async fn send(self, context: &Context, event: &Event, is_known: bool) -> Sent {
        let Self { messages, owed, bytes, last } = self;
        let [queued, count] = [messages.len(), owed.len()].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let (is_queued, is_owed) = tokio::join!(queue(context, messages), owe(context, event, &owed, is_known));
        let failure = match (is_queued, is_owed) {
            (true, true) => None,
            (false, _) => Some(NOT_QUEUED),
            (true, false) => Some(NOT_OWED),
        };
        Sent { failure, queued, owed: count, bytes, last }
    }
}

/// Queues messages. Says whether the queue has all of them.
async fn queue(context: &Context, messages: Vec<Outgoing>) -> bool {
    let mut is_queued = true;
    for error in context.send(QueueName::Delivery, messages).await.into_iter().filter_map(Result::err) {
        tracing::error!(code = error.code(), error = %chain(&error), "a delivery of an event is not queued");
        is_queued = false;
    }
    is_queued
}

/// Keeps deliveries as owed. Says whether all of them are. Without Redis nobody knows whether the
/// event was erased: its row in history says so, and then nothing of it is written.
async fn owe(context: &Context, event: &Event, owed: &[Message], is_known: bool) -> bool {
    if owed.is_empty() || (!is_known && is_erased(context, event).await) {
        return true;
    }
    let mut is_owed = true;
    let mut refused = Vec::new();
    for (message, result) in owed.iter().zip(context.owe(owed).await) {
        let Err(error) = result else { continue };
        if matches!(error, OweError::NotWritten) {
            refused.push(message);
            continue;
        }
        tracing::error!(
            tenant = %event.tenant,
            event_id = %event.id,
            code = error.code(),
            error = %chain(&error),
            "a delivery of an event is not kept as owed"
        );
        is_owed = false;
    }
    is_owed && queue_instead(context, &refused).await
}

/// Queues deliveries whose rows the table did not take: `deliver` keeps them as owed when it does.
/// Otherwise one endpoint that is owed much would hold up all others of its tenant.
async fn queue_instead(context: &Context, refused: &[&Message]) -> bool {
    if refused.is_empty() {
        return true;
    }
    tracing::warn!(deliveries = refused.len(), "history takes no rows of what is owed; they are queued instead");
    let now = context.clock.now();
    let due = now.after(LATER);
    let later = |message: &&Message| retried::outgoing(&Message { not_before: due, ..(*message).clone() }, now);
    let Some(messages) = refused.iter().map(later).collect() else { return false };
    context.send(QueueName::Retry, messages).await.iter().all(Result::is_ok)
}

/// Whether the row of an event says that it was erased. If history does not answer, it does not
/// take the rows of what is owed either.
async fn is_erased(context: &Context, event: &Event) -> bool {
    let key = RowKey { partition: names::event(&event.tenant, &event.id), place: names::sortable(event.accepted_at) };
    let found = context.history.rows(&[key], context.clock.now()).await;
    let row = found.ok().and_then(|mut rows| rows.pop().flatten());
    row.and_then(|row| serde_json::from_str::<KeptEvent>(&row.body).ok()).is_some_and(|kept| kept.erased_at.is_some())
}
