//! Reading history: what its rows say, by partition and in pages of lists by time.

use adapters::history::{Direction, HistoryError, Part, Slice};
use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::registry::{CardFound, EndpointKey};
use adapters::telemetry::chain;
use domain::cursor;
use domain::history::event::KeptEvent;
use domain::history::page::{Run, Window};
use domain::history::{Row, names};
use domain::time::Millis;
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;

use crate::Operate;

/// What a cursor is, for a person.
pub(crate) const CURSOR: &str = "must be a `next_cursor` from an earlier response to the same query";

/// A list that cursors belong to: its name, and what it was asked for.
pub(crate) struct Scope(Vec<String>);

impl Scope {
    /// The list of this name, asked for so.
    pub(crate) fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(parts.into_iter().map(str::to_owned).collect())
    }

    /// The same, from one time up to another.
    pub(crate) fn within(mut self, since: Option<Millis>, until: Option<Millis>) -> Self {
        self.0.extend([since, until].map(|time| time.map(|at| at.0.to_string()).unwrap_or_default()));
        self
    }

    fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// The cursor after this name.
    pub(crate) fn cursor(&self, name: &str) -> String {
        cursor::after(&self.parts(), name)
    }

    /// The place after which the query goes on, as `read` understands what the cursor names.
    pub(crate) fn read<T>(&self, query: &mut QueryString, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        query.optional("cursor", |text| cursor::read(&self.parts(), text).and_then(|name| read(&name)), CURSOR)
    }
}

impl Operate {
    /// The newest event of this id that history has.
    pub(crate) async fn kept_event(&self, tenant: &str, event: &str) -> Result<Option<KeptEvent>, HistoryError> {
        let newest = Part { direction: Direction::Backwards, limit: 1, ..Part::of(names::event(tenant, event)) };
        let rows = self.history.part(&newest, self.clock.now()).await?.rows;
        let read = |row: &Row| serde_json::from_str(&row.body).map_err(|error| HistoryError::Incomplete(Some(error)));
        rows.first().map(read).transpose()
    }

    /// Refuses what would add to a tenant that is being erased.
    pub(crate) async fn refuse_erasing(&self, tenant: &str) -> Result<(), Problem> {
        let known = self.registry.tenant(tenant).await.map_err(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "the registry of endpoints does not answer");
            Problem::unavailable("The registry of endpoints cannot be read now.")
        })?;
        if known.is_some_and(|known| known.is_erasing) {
            return Err(Problem::conflict("The tenant is being erased. Try again when that is done."));
        }
        Ok(())
    }

    /// Refuses to tell anything of an endpoint that the tenant does not have and never had.
    pub(crate) async fn must_know(&self, tenant: &str, endpoint: &str) -> Result<(), Problem> {
        let key = EndpointKey { tenant: tenant.to_owned(), endpoint: endpoint.to_owned() };
        let found = self.registry.cards(&[key], false).await.map_err(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "the registry of endpoints does not answer");
            Problem::unavailable("The registry of endpoints cannot be read now.")
        })?;
        match found.first() {
            Some(CardFound::Card(_) | CardFound::Gone | CardFound::Unreadable) => Ok(()),
            Some(CardFound::Erased | CardFound::Missing) | None => {
                Err(Problem::not_found("The tenant has no endpoint with this id."))
            }
        }
    }

    /// Reads the part of each partition that is in the window, all at once.
    pub(crate) async fn runs(
        &self,
        partitions: impl IntoIterator<Item = String>,
        window: &Window,
        limit: usize,
    ) -> Result<Vec<Run>, Problem> {
        let now = self.clock.now();
        let run = |partition| async move {
            let part = Part {
                after: Some(names::sortable(window.since)),
                before: Some(window.before.clone()),
                direction: Direction::Backwards,
                // A query between two places counts the one that it ends with.
                limit: limit + 1,
                ..Part::of(partition)
            };
            let Slice { rows, next } = self.history.part(&part, now).await?;
            Ok(Run { rows, next })
        };
        try_join_all(partitions.into_iter().map(run)).await.map_err(|error| unreadable(&error))
    }
}

/// What a row says. `None` if that cannot be read, which is told in the log.
pub(crate) fn read<T: DeserializeOwned>(row: &Row) -> Option<T> {
    match serde_json::from_str(&row.body) {
        Ok(read) => Some(read),
        Err(error) => {
            let error = HistoryError::Incomplete(Some(error));
            let Row { partition, place, .. } = row;
            tracing::error!(%partition, %place, code = error.code(), error = %chain(&error), "a row of history cannot be read");
            None
        }
    }
}

/// Tells the log that history cannot be read.
pub(crate) fn note(error: &HistoryError) {
    tracing::error!(code = error.code(), error = %chain(error), "history cannot be read");
}

pub(crate) fn unreadable(error: &HistoryError) -> Problem {
    note(error);
    Problem::unavailable("History cannot be read now; deliveries go on.")
}
