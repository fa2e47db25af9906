//! Tells what a replay is to send from what is known already, and from what cannot be sent.

use adapters::history::RowKey;
use adapters::metrics;
use adapters::redis::query::Trip;
use adapters::redis::records;
use adapters::telemetry::chain;
use domain::event::Event;
use domain::filter::event::Event as FilterEvent;
use domain::history::candidate::{Candidate, Verdict};
use domain::history::event::KeptEvent;
use domain::history::names;
use domain::history::replay::{ReplayKind, ReplayRequest};
use domain::message::Message;
use domain::subscription::{Subscription, Wanted};
use domain::time::Millis;

use super::walk::HISTORY_AWAY;
use crate::context::{Context, share};

const REDIS_AWAY: &str = "Redis cannot be read";

/// What candidates are judged by.
pub(super) struct Sieve<'a> {
    pub(super) context: &'a Context,
    pub(super) tenant: &'a str,
    pub(super) replay: &'a str,
    /// Earlier replays of the endpoint.
    pub(super) earlier: &'a [String],
    pub(super) request: &'a ReplayRequest,
    pub(super) subscription: &'a Subscription,
    pub(super) now: Millis,
}

impl Sieve<'_> {
    /// Asks for the records of these candidates, in one round trip.
    pub(super) async fn ask(&self, candidates: &mut [Candidate]) -> Result<(), &'static str> {
        let mut trip = Trip::default();
        let mut asked = Vec::new();
        for (place, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_open()) {
            for (life, id) in candidate.records(&self.request.endpoint, self.request.what, self.earlier) {
                asked.push((place, life, trip.add(records::read(&id))));
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let mut replies = trip.run(self.context.redis.as_ref()).await.map_err(|error| {
            tracing::error!(replay_id = %self.replay, code = error.code(), error = %chain(&error), "a replay waits");
            REDIS_AWAY
        })?;
        for (place, life, ticket) in asked {
            let found = ticket.take(&mut replies).map_err(|error| {
                tracing::error!(replay_id = %self.replay, code = error.code(), error = %chain(&error), "a replay waits");
                REDIS_AWAY
            })?;
            if let Some(stored) = found {
                candidates[place].hear(life.as_deref(), &stored.record, self.request.what, self.replay);
            }
        }
        Ok(())
    }

    /// Reads the events of these candidates, and gives the messages of those that are wanted.
    pub(super) async fn messages(&self, candidates: &mut [Candidate]) -> Result<Vec<Option<Message>>, &'static str> {
        let key = |candidate: &Candidate| RowKey {
            partition: names::event(self.tenant, &candidate.event_id),
            place: names::sortable(candidate.accepted_at),
        };
        let keys: Vec<RowKey> = candidates.iter().filter(|candidate| candidate.is_open()).map(key).collect();
        let mut rows = match keys.is_empty() {
            true => Vec::new(),
            false => self.context.history.rows(&keys, self.now).await.map_err(|error| {
                tracing::error!(replay_id = %self.replay, code = error.code(), error = %chain(&error), "a replay waits");
                HISTORY_AWAY
            })?,
        }
        .into_iter();
        let mut messages = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let row = if candidate.is_open() { rows.next().flatten() } else { None };
            let kept = row.and_then(|row| match serde_json::from_str::<KeptEvent>(&row.body) {
                Ok(kept) => Some(kept),
                Err(error) => {
                    tracing::error!(replay_id = %self.replay, place = %row.place, error = %chain(&error), "an event in history cannot be read");
                    None
                }
            });
            self.judge(candidate, kept.as_ref()).await;
            let event = kept.filter(|_| candidate.verdict == Verdict::Wanted).and_then(|kept| kept.event());
            messages.push(event.map(|event| self.message(&event)));
        }
        Ok(messages)
    }

    async fn judge(&self, candidate: &mut Candidate, kept: Option<&KeptEvent>) {
        let bytes = kept.and_then(|kept| kept.payload.as_ref()).map_or(0, |payload| payload.get().len());
        // Nothing closes it.
        let _permit = self.context.payloads.acquire_many(share(bytes)).await.ok();
        candidate.judge(kept, |kept| self.wants(kept), self.request.what, self.now);
        // Others have work under way that must not wait for costly filters.
        tokio::task::yield_now().await;
    }

    /// Whether the endpoint wants an event now.
    fn wants(&self, kept: &KeptEvent) -> bool {
        let Some(payload) = kept.payload.as_deref() else { return false };
        let asked = std::cell::LazyCell::new(|| FilterEvent::new(&kept.event_type, payload));
        match self.subscription.wants(&kept.event_type, || &asked) {
            Wanted::Yes => true,
            Wanted::No => false,
            Wanted::TooCostly => {
                metrics::filter_too_costly();
                false
            }
        }
    }

    fn message(&self, event: &Event) -> Message {
        match self.request.what {
            ReplayKind::Failed => self.subscription.life(event, self.replay, self.now),
            ReplayKind::Missing => self.subscription.delivery(event, self.now),
        }
    }
}
