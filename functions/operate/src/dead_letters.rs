//! `GET /dead-letters`, `GET` and `DELETE /dead-letters/{id}`: the archive, which
//! outlives Redis.

use std::collections::BTreeMap;

use adapters::dead_letter_store::{Kept, StoreError};
use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::dead_letters;
use adapters::telemetry::chain;
use domain::dead_letter::{Filter, Summary};
use domain::message::Attempt;
use domain::place::Place;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Operate;
use crate::known::with_known;
use crate::request::{MAX_PAGE, ORIGIN, PAGE, REASONS, origin};

/// A dead letter in whole. Its payload's bytes are as the client wrote them.
#[derive(Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    summary: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    headers: BTreeMap<String, String>,
    history: Vec<Value>,
    history_count: u32,
}

impl Operate {
    /// A page of dead letters, newest first.
    pub(crate) async fn dead_letters(&self, query: &str) -> Result<Value, Problem> {
        let mut query = QueryString::of(query);
        let filter = Filter {
            reason: query.optional("reason", |name| name.parse().ok(), &REASONS),
            destination: query.optional("destination", origin, ORIGIN),
            since: query.time("since"),
            until: query.time("until"),
            redrivable: false,
        };
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let after = query.cursor();
        query.finish()?;
        let listed = self.store.list(&filter, after.as_ref(), limit, self.clock.now()).await.map_err(away)?;
        let letters: Vec<Value> = listed.letters.iter().map(view).collect();
        Ok(json!({ "dead_letters": letters, "next_cursor": listed.next.as_ref().map(Place::cursor) }))
    }

    /// One dead letter with everything that was kept of it.
    pub(crate) async fn dead_letter(&self, id: &str) -> Result<Whole, Problem> {
        let Kept { letter, redriven_at } = self.store.get(id).await.map_err(away)?.ok_or_else(unknown)?;
        let summary = view(&letter.summary(redriven_at));
        let truncated = letter.truncated.then_some(true);
        let known = [
            ("destination", (!letter.destination.is_empty()).then(|| json!(letter.destination))),
            ("event_type", letter.event_type.as_ref().map(|kind| json!(kind))),
            ("accepted_at", (letter.accepted_at.0 > 0).then(|| json!(letter.accepted_at.to_string()))),
            ("reused_id", letter.reused_id.as_ref().map(|id| json!(id))),
            ("body", letter.body.as_ref().map(|body| json!(body))),
            ("truncated", truncated.map(|truncated| json!(truncated))),
        ];
        let target = letter.endpoint.as_ref();
        let of_endpoint = [
            ("tenant", target.map(|target| json!(target.tenant))),
            ("endpoint_id", target.map(|target| json!(target.endpoint))),
            ("event_id", target.map(|target| json!(target.event_id))),
        ];
        let event = letter.event.as_ref();
        let of_event = [
            ("tenant", event.map(|event| json!(event.tenant))),
            ("event_id", event.map(|event| json!(event.event_id))),
            ("matched", event.map(|event| json!(event.matched))),
            ("owed", event.map(|event| json!(event.owed))),
            ("after", event.and_then(|event| event.after.as_ref()).map(|endpoint| json!(endpoint))),
        ];
        let summary = with_known(summary, known.into_iter().chain(of_endpoint).chain(of_event));
        Ok(Whole {
            summary,
            payload: letter.payload,
            headers: letter.headers,
            history_count: letter.history.count,
            history: letter.history.attempts.iter().map(attempt).collect(),
        })
    }

    /// Deletes one from the archive and from Redis's view of it.
    pub(crate) async fn delete_dead_letter(&self, id: &str, correlation_id: &str) -> Result<(), Problem> {
        let was_there = self.store.delete(id).await.map_err(away)?;
        if let Err(error) = dead_letters::remove(id).run(self.redis.as_ref()).await {
            tracing::error!(webhook_id = %id, code = error.code(), error = %chain(&error), "a deleted dead letter is still seen in Redis");
        }
        if !was_there {
            return Err(unknown());
        }
        tracing::warn!(webhook_id = %id, %correlation_id, "dead letter deleted by hand");
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn away(error: StoreError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(&error), "the store of dead letters does not answer");
    Problem::unavailable("Dead letters cannot be read now; they are safe.")
}

pub(crate) fn unknown() -> Problem {
    Problem::not_found("There is no dead letter with this id.")
}

/// A dead letter as a list shows it. What is not known is left out.
fn view(letter: &Summary) -> Value {
    let view = json!({
        "webhook_id": letter.webhook_id,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error,
        "failed_at": letter.failed_at.to_string(),
    });
    let text = |text: &str| (!text.is_empty()).then(|| json!(text));
    let known = [
        ("webhook_url", text(&letter.webhook_url)),
        ("last_status_code", letter.last_status_code.map(|code| json!(code))),
        ("error_class", letter.error_class.map(|class| json!(class))),
        ("correlation_id", text(&letter.correlation_id)),
        ("redriven_at", letter.redriven_at.map(|at| json!(at.to_string()))),
    ];
    with_known(view, known)
}

fn attempt(attempt: &Attempt) -> Value {
    let view = json!({ "at": attempt.at.to_string(), "ms": attempt.ms });
    let known = [
        ("code", attempt.code.map(|code| json!(code))),
        ("class", attempt.class.map(|class| json!(class))),
        ("error", attempt.error.as_ref().map(|error| json!(error))),
        ("answer", attempt.answer.as_ref().map(|answer| json!(answer))),
    ];
    with_known(view, known)
}
