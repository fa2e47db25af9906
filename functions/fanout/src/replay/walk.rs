//! Walks through the history that a replay is about, oldest first: deliveries that ended, or
//! the list of events.

use std::collections::{BTreeMap, BTreeSet};

use adapters::history::{History, HistoryError, Part};
use adapters::telemetry::chain;
use domain::history::Row;
use domain::history::candidate::Candidate;
use domain::history::delivery::EndedDelivery;
use domain::history::event::ListedEvent;
use domain::history::names::{self, SHARDS};
use domain::history::replay::{ReplayKind, ReplayRequest};
use domain::subscription::Subscription;
use domain::time::Millis;
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;

/// Why a replay waits whose history cannot be read.
pub(super) const HISTORY_AWAY: &str = "history cannot be read";

/// Most rows of one read.
const ROWS: usize = 100;

/// Where a walk leads through.
pub(crate) struct Walk<'a> {
    pub(crate) history: &'a dyn History,
    pub(crate) tenant: &'a str,
    pub(crate) replay: &'a str,
    pub(crate) request: &'a ReplayRequest,
    pub(crate) subscription: &'a Subscription,
    pub(crate) now: Millis,
}

/// What comes next.
pub(crate) struct Chunk {
    /// Candidates of one day, by their places.
    pub(crate) candidates: Vec<Candidate>,
    /// The place after all of them.
    pub(crate) then: String,
}

/// What was read of a shard.
#[derive(Default)]
struct Shard {
    rows: Vec<Row>,
    /// The event with which it may go on, if it does.
    open_from: Option<String>,
}

impl Walk<'_> {
    /// What comes after a place; `None` at the end.
    pub(crate) async fn after(&self, position: &str) -> Result<Option<Chunk>, HistoryError> {
        let Some(at) = names::time_of(position).filter(|at| *at < self.request.until) else { return Ok(None) };
        let day = names::day(at);
        let (candidates, more) = match self.request.what {
            ReplayKind::Failed => self.ended(&day, position).await?,
            ReplayKind::Missing => self.listed(&day, position).await?,
        };
        let then = more.unwrap_or_else(|| names::sortable(names::next_day(at).min(self.request.until)));
        Ok(Some(Chunk { candidates, then }))
    }

    /// Deliveries that ended, of events of one day: those of an event together. Gives the place
    /// of the last one, too, if the day goes on.
    async fn ended(&self, day: &str, position: &str) -> Result<(Vec<Candidate>, Option<String>), HistoryError> {
        let shards = try_join_all((0..SHARDS).map(|shard| self.shard(day, shard, position))).await?;
        // Up to there, every shard was read.
        let horizon = shards.iter().filter_map(|shard| shard.open_from.clone()).min();
        let mut events: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in shards.into_iter().flat_map(|shard| shard.rows) {
            let Some(event) = names::listed_of(&row.place) else { continue };
            if horizon.as_ref().is_none_or(|horizon| event < horizon.as_str()) {
                events.entry(event.to_owned()).or_default().push(row);
            }
        }
        let last = events.keys().next_back().filter(|_| horizon.is_some()).cloned();
        let ended = |rows: Vec<Row>| {
            // Whether it was delivered cannot be told without all of its rows.
            let ends: Option<Vec<EndedDelivery>> = rows.iter().map(read).collect();
            Candidate::ended(&ends?, self.request, self.replay)
        };
        Ok((events.into_values().filter_map(ended).collect(), last))
    }

    /// Reads a shard: all of the next event at least.
    async fn shard(&self, day: &str, shard: u8, position: &str) -> Result<Shard, HistoryError> {
        let mut part = Part {
            after: Some(names::beyond(position)),
            before: Some(names::sortable(self.request.until)),
            limit: ROWS,
            ..Part::of(names::deliveries(self.tenant, &self.request.endpoint, day, shard))
        };
        let mut read = Shard::default();
        loop {
            let slice = self.history.part(&part, self.now).await?;
            read.rows.extend(slice.rows);
            let Some(next) = slice.next else { return Ok(read) };
            let end = names::listed_of(&next).unwrap_or(&next);
            let first = read.rows.first().and_then(|row| names::listed_of(&row.place));
            if first.is_some_and(|first| first < end) {
                read.open_from = Some(end.to_owned());
                return Ok(read);
            }
            part.after = Some(next);
        }
    }

    /// Events of one day, with what history knows of their deliveries. Gives the place of the
    /// last one, too, if the day goes on.
    async fn listed(&self, day: &str, position: &str) -> Result<(Vec<Candidate>, Option<String>), HistoryError> {
        let part = Part {
            after: Some(position.to_owned()),
            before: Some(names::sortable(self.request.until)),
            limit: ROWS,
            ..Part::of(names::events(self.tenant, day))
        };
        let slice = self.history.part(&part, self.now).await?;
        let events: Vec<ListedEvent> = slice.rows.iter().filter_map(read).collect();
        let is_wanted = |event: &ListedEvent| {
            self.request.has_type(&event.event_type) && self.subscription.may_want(&event.event_type)
        };
        let place = |event: &ListedEvent| names::listed(event.accepted_at, &event.event_id);
        let mut wanted = events.iter().filter(|event| is_wanted(event)).map(place);
        let known = match (wanted.next(), events.last()) {
            (Some(first), Some(last)) => self.known(day, &first, &place(last)).await?,
            _ => BTreeSet::new(),
        };
        let candidate = |event: &ListedEvent| Candidate::listed(event, is_wanted(event), known.contains(&place(event)));
        Ok((events.iter().map(candidate).collect(), slice.next))
    }

    /// Which events from one place to another have a delivery that ended.
    async fn known(&self, day: &str, first: &str, last: &str) -> Result<BTreeSet<String>, HistoryError> {
        let shards = (0..SHARDS).map(|shard| async move {
            let mut part = Part {
                after: Some(first.to_owned()),
                before: Some(names::beyond(last)),
                ..Part::of(names::deliveries(self.tenant, &self.request.endpoint, day, shard))
            };
            let mut known = Vec::new();
            loop {
                let slice = self.history.part(&part, self.now).await?;
                known.extend(slice.rows.iter().filter_map(|row| names::listed_of(&row.place)).map(str::to_owned));
                match slice.next {
                    Some(next) => part.after = Some(next),
                    None => return Ok(known),
                }
            }
        });
        Ok(try_join_all(shards).await?.into_iter().flatten().collect())
    }
}

/// What a row says. One that cannot be read was written by another version.
fn read<T: DeserializeOwned>(row: &Row) -> Option<T> {
    serde_json::from_str(&row.body)
        .inspect_err(|error| {
            tracing::error!(place = %row.place, error = %chain(error), "a row of history cannot be read; a replay leaves it out");
        })
        .ok()
}
