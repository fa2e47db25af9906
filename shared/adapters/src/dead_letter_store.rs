//! What every store of dead letters offers.

use async_trait::async_trait;
use domain::dead_letter::{DeadLetter, Filter, Summary};
use domain::place::Place;
use domain::time::Millis;

use crate::BoxError;

/// What the store made of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// It is written.
    Written,
    /// It was there already, or something newer: nothing is changed.
    Known,
    /// Another body is filed under this id and stays; file this one apart.
    Foreign,
}

/// A dead letter as the store has it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What was filed.
    pub letter: DeadLetter,
    /// When it was sent again.
    pub redriven_at: Option<Millis>,
}

/// What became of the wish to send one again.
#[derive(Clone, Debug)]
pub enum Reserved {
    /// It is yours until the reservation ends.
    Granted(Box<DeadLetter>),
    /// Somebody else is sending it now.
    Taken,
    /// It was sent again already.
    Redriven(Box<DeadLetter>),
    /// There is no such dead letter.
    Missing,
}

/// A part of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What was found, newest first.
    pub letters: Vec<Summary>,
    /// Where the list goes on, if it does.
    pub next: Option<Place>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A dead letter cannot be written as JSON, or read.
    #[error("a dead letter cannot be written or read as JSON")]
    Json(#[from] serde_json::Error),
    /// An item is not as we write it.
    #[error("an item of the table has no dead letter in it")]
    Incomplete,
    /// The table did not take a dead letter.
    #[error("the table did not take a dead letter")]
    Put(#[source] BoxError),
    /// The table did not give a dead letter.
    #[error("the table did not give a dead letter")]
    Get(#[source] BoxError),
    /// The table did not list dead letters.
    #[error("the table did not list dead letters")]
    Query(#[source] BoxError),
    /// The table did not note a redrive.
    #[error("the table did not note a redrive")]
    Update(#[source] BoxError),
    /// The table did not delete a dead letter.
    #[error("the table did not delete a dead letter")]
    Delete(#[source] BoxError),
}

impl StoreError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "archive_json",
            Self::Incomplete => "archive_incomplete",
            Self::Put(_) => "archive_put",
            Self::Get(_) => "archive_get",
            Self::Query(_) => "archive_query",
            Self::Update(_) => "archive_update",
            Self::Delete(_) => "archive_delete",
        }
    }
}

/// Where dead letters are kept. A trait because DynamoDB does not run inside a test;
/// its in-memory model passes the same contract test.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Files a dead letter, if it takes the place of what is filed under its id
    /// ([`DeadLetter::takes_place_of`]).
    async fn file(&self, letter: &DeadLetter) -> Result<Filed, StoreError>;

    /// One dead letter.
    async fn get(&self, id: &str) -> Result<Option<Kept>, StoreError>;

    /// Up to `limit` dead letters, newest first, that follow `after`.
    async fn list(
        &self,
        filter: &Filter,
        after: Option<&Place>,
        limit: usize,
        now: Millis,
    ) -> Result<Listed, StoreError>;

    /// Deletes one; says whether it was there.
    async fn delete(&self, id: &str) -> Result<bool, StoreError>;

    /// Reserves one for being sent again, until then. `token` is random for every
    /// wish: the same one again is granted again, since requests are repeated.
    async fn reserve(&self, id: &str, token: &str, now: Millis, until: Millis) -> Result<Reserved, StoreError>;

    /// Notes that this one was sent again. A newer one under its id stays as it is.
    async fn redriven(&self, letter: &DeadLetter, at: Millis) -> Result<(), StoreError>;

    /// Gives a reservation back: it was not sent.
    async fn release(&self, letter: &DeadLetter) -> Result<(), StoreError>;

    /// Asks whether the store is there, without changing it.
    async fn ping(&self) -> Result<(), StoreError>;
}
