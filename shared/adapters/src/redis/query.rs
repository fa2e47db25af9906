//! A query: commands, together with the reader of their replies. Queries that are added
//! to one trip are sent in one round trip, and each ticket takes its own reply.

use std::ops::Range;

use redis::{ErrorKind, RedisError, Value};

use super::transport::{Call, RedisPort, Reply, Unavailable};
use crate::telemetry::chain;

/// Redis gave no usable reply to one query.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The server answered with an error.
    #[error("Redis rejected `{query}`")]
    Rejected {
        /// The query's name.
        query: &'static str,
        /// The server's answer.
        #[source]
        source: RedisError,
    },
    /// The node that holds the key did not answer.
    #[error("Redis did not answer `{query}`")]
    NoAnswer {
        /// The query's name.
        query: &'static str,
        /// Why; absent when the query was not sent.
        #[source]
        source: Option<RedisError>,
    },
    /// The server answered something else than it should.
    #[error("Redis sent an unusable reply to `{query}`")]
    Unusable {
        /// The query's name.
        query: &'static str,
    },
}

impl ReplyError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "redis_rejected",
            Self::NoAnswer { .. } => "redis_no_answer",
            Self::Unusable { .. } => "redis_unusable_reply",
        }
    }

    /// Whether the server answered at all.
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Unusable { .. } => true,
            Self::NoAnswer { .. } => false,
        }
    }

    /// Whether the query was not sent, because its whole round trip was left out.
    pub fn was_not_sent(&self) -> bool {
        matches!(self, Self::NoAnswer { source: None, .. })
    }

    fn of(query: &'static str, source: RedisError) -> Self {
        // A key of another kind has a code that the client does not know.
        if matches!(source.kind(), ErrorKind::Server(_)) || source.code() == Some("WRONGTYPE") {
            Self::Rejected { query, source }
        } else {
            Self::NoAnswer { query, source: Some(source) }
        }
    }
}

/// A question to Redis was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Redis is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Redis answered, but not this query.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl QueryError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(error) => error.code(),
            Self::Reply(error) => error.code(),
        }
    }
}

type Read<T> = Box<dyn FnOnce(Vec<Value>) -> Option<T> + Send>;

/// Commands and the reader of their replies.
#[must_use = "a query does nothing until it is sent"]
pub struct Query<T> {
    name: &'static str,
    calls: Vec<Call>,
    read: Read<T>,
}

impl<T: 'static> Query<T> {
    /// A query of one command.
    pub(super) fn one(
        name: &'static str,
        call: impl Into<Call>,
        read: impl FnOnce(Value) -> Option<T> + Send + 'static,
    ) -> Self {
        Self { name, calls: vec![call.into()], read: Box::new(|replies| read(replies.into_iter().next()?)) }
    }

    /// A query of several commands.
    pub(super) fn several(
        name: &'static str,
        calls: Vec<Call>,
        read: impl FnOnce(Vec<Value>) -> Option<T> + Send + 'static,
    ) -> Self {
        Self { name, calls, read: Box::new(read) }
    }

    /// The same query, whose reply is turned into something else.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U + Send + 'static) -> Query<U> {
        let Self { name, calls, read } = self;
        Query { name, calls, read: Box::new(|replies| read(replies).map(turn)) }
    }

    /// Sends this query alone.
    ///
    /// # Errors
    /// When Redis is away or gives no usable reply.
    pub async fn run(self, redis: &dyn RedisPort) -> Result<T, QueryError> {
        let mut trip = Trip::default();
        let ticket = trip.add(self);
        let mut replies = trip.run(redis).await?;
        Ok(ticket.take(&mut replies)?)
    }
}

impl Query<()> {
    /// Commands that only have to succeed.
    pub(super) fn write(name: &'static str, calls: Vec<Call>) -> Self {
        Self::several(name, calls, |_| Some(()))
    }
}

/// Queries that are sent together.
#[derive(Default)]
pub struct Trip {
    calls: Vec<Call>,
}

impl Trip {
    /// Adds a query. Its ticket takes its reply.
    pub fn add<T>(&mut self, query: Query<T>) -> Ticket<T> {
        let begin = self.calls.len();
        self.calls.extend(query.calls);
        Ticket { name: query.name, place: begin..self.calls.len(), read: query.read }
    }

    /// Adds queries of one kind.
    pub fn add_all<T>(&mut self, queries: impl IntoIterator<Item = Query<T>>) -> Vec<Ticket<T>> {
        queries.into_iter().map(|query| self.add(query)).collect()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Sends everything in one round trip.
    ///
    /// # Errors
    /// When Redis is away.
    pub async fn run(self, redis: &dyn RedisPort) -> Result<Replies, Unavailable> {
        if self.calls.is_empty() {
            return Ok(Replies::default());
        }
        Ok(Replies(redis.round_trip(self.calls).await?.into_iter().map(Some).collect()))
    }
}

/// The replies of one trip. The default has none: no query was sent.
#[derive(Debug, Default)]
pub struct Replies(Vec<Option<Reply>>);

/// The right to one query's reply.
#[must_use = "a reply that nobody takes may hide a failure"]
pub struct Ticket<T> {
    name: &'static str,
    place: Range<usize>,
    read: Read<T>,
}

impl<T> Ticket<T> {
    /// Takes the query's reply from the replies of its trip.
    ///
    /// # Errors
    /// When there is no usable reply.
    pub fn take(self, replies: &mut Replies) -> Result<T, ReplyError> {
        let mut values = Vec::with_capacity(self.place.len());
        for place in self.place {
            match replies.0.get_mut(place).and_then(Option::take) {
                Some(Ok(value)) => values.push(value),
                Some(Err(error)) => return Err(ReplyError::of(self.name, error)),
                None => return Err(ReplyError::NoAnswer { query: self.name, source: None }),
            }
        }
        (self.read)(values).ok_or(ReplyError::Unusable { query: self.name })
    }
}

/// The reply of Redis about `subject`; `None` when there is none that can be used.
pub fn usable<T>(reply: Result<T, ReplyError>, subject: &str) -> Option<T> {
    match reply {
        Ok(answer) => Some(answer),
        // Its round trip failed, and that is in the log already.
        Err(error) if error.was_not_sent() => None,
        Err(error) => {
            tracing::error!(subject, code = error.code(), error = %chain(&error), "Redis rejected a command or sent an unusable reply");
            None
        }
    }
}

/// A script's reply: one word, or several.
pub(super) fn words(value: Value) -> Option<Vec<String>> {
    use redis::FromRedisValue as _;
    let values = if let Value::Array(values) = value { values } else { vec![value] };
    values.into_iter().map(|value| String::from_redis_value(value).ok()).collect()
}
