//! `POST /tenants/{tenant}/endpoints/{endpoint}/replays`, `GET` and `DELETE
//! /tenants/{tenant}/replays/{replay}`: deliveries of an endpoint that are made again, or for
//! the first time.
//!
//! The row comes first, then the message: a crash in between leaves a replay that never moves,
//! and that somebody can stop.

use adapters::aws::sqs::{Outgoing, QueueName};
use adapters::history::HistoryError;
use adapters::http::answer::Problem;
use adapters::http::body;
use adapters::http::path::PathNames;
use adapters::random;
use adapters::registry::{CardFound, EndpointKey};
use adapters::replays::{self, Changed};
use adapters::telemetry::chain;
use domain::history::replay::{LIFE, MOST_RUNNING, Replay, ReplayCounts, ReplayRequest, ReplayState};
use domain::job::{Job, JobPage};
use domain::replay_request;
use domain::time::Millis;
use lambda_http::Body;
use serde_json::{Value, json};

use crate::Operate;

/// The characters of a replay's id after `rp_`.
const ID_RANDOM: usize = 22;

impl Operate {
    /// Begins a replay.
    pub(crate) async fn begin_replay(
        &self,
        tenant: &str,
        endpoint: &str,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Value, Problem> {
        let mut names = PathNames::default();
        let (tenant, endpoint) = (names.tenant(tenant), names.endpoint(endpoint));
        names.finish()?;
        let kept_for = self.history_life.ok_or_else(history_is_off)?;
        let raw = body::json(body.as_ref())?;
        let now = self.clock.now();
        let request = replay_request::read(raw, &endpoint, kept_for, now).map_err(Problem::invalid)?;
        self.refuse_erasing(&tenant).await?;
        self.must_have(&tenant, &endpoint).await?;
        let all = replays::all(self.history.as_ref(), &tenant, now).await.map_err(|error| away(&error))?;
        let running = all.into_iter().filter(|replay| replay.state == ReplayState::Running);
        let running: Vec<String> = running.map(|replay| replay.id).collect();
        if running.len() >= MOST_RUNNING {
            let running = running.join(", ");
            return Err(Problem::conflict(format!(
                "The tenant has {MOST_RUNNING} replays that run: {running}. Wait for one of them, or stop it."
            )));
        }
        let replay = replay(&tenant, request, now)?;
        replays::create(self.history.as_ref(), &replay).await.map_err(|error| away(&error))?;
        if !self.queue_replay(&replay, correlation_id).await {
            self.give_up(&replay).await;
            return Err(Problem::unavailable("The queue did not take the replay; nothing is sent. Try again."));
        }
        tracing::warn!(%tenant, replay_id = %replay.id, endpoint_id = %endpoint, correlation_id, "replay begun");
        Ok(view(&replay))
    }

    /// One replay.
    pub(crate) async fn replay(&self, tenant: &str, replay: &str) -> Result<Value, Problem> {
        let (tenant, id) = replay_names(tenant, replay)?;
        let found = replays::read(self.history.as_ref(), &tenant, &id, self.clock.now()).await;
        found.map_err(|error| away(&error))?.as_ref().map(view).ok_or_else(unknown)
    }

    /// Stops a replay. What is queued already is sent.
    pub(crate) async fn stop_replay(&self, tenant: &str, replay: &str, correlation_id: &str) -> Result<Value, Problem> {
        let (tenant, id) = replay_names(tenant, replay)?;
        let now = self.clock.now();
        let stopped = |replay: &Replay| replay.ended(ReplayState::Stopped, now);
        let changed = replays::change(self.history.as_ref(), (&tenant, &id), now, stopped).await;
        match changed.map_err(|error| away(&error))? {
            Changed::Done(replay) => {
                tracing::warn!(%tenant, replay_id = %id, correlation_id, "replay stopped by hand");
                Ok(view(&replay))
            }
            Changed::Unwanted(replay) => Ok(view(&replay)),
            Changed::Gone => Err(unknown()),
        }
    }

    /// The tenant must have the endpoint.
    async fn must_have(&self, tenant: &str, endpoint: &str) -> Result<(), Problem> {
        let key = EndpointKey { tenant: tenant.to_owned(), endpoint: endpoint.to_owned() };
        let found = self.registry.card(&key).await.map_err(|error| {
            tracing::error!(code = error.code(), error = %chain(&error), "the registry of endpoints does not answer");
            Problem::unavailable("The registry of endpoints cannot be read now.")
        })?;
        match found {
            CardFound::Card(_) | CardFound::Unreadable => Ok(()),
            CardFound::Gone | CardFound::Erased | CardFound::Missing => {
                Err(Problem::not_found("The tenant has no endpoint with this id."))
            }
        }
    }

    /// Queues the first page of a replay. Says whether the queue has it.
    async fn queue_replay(&self, replay: &Replay, correlation_id: &str) -> bool {
        let page = JobPage {
            tenant: replay.tenant.clone(),
            id: replay.id.clone(),
            job: Job::Replay(replay.job()),
            correlation_id: correlation_id.to_owned(),
            accepted_at: replay.created_at,
            deadline: replay.created_at.after(LIFE),
            hop: 0,
            waited: 0,
            not_before: Millis(0),
        };
        let body = match page.encode() {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(replay_id = %replay.id, error = %chain(&error), "a replay cannot be written");
                return false;
            }
        };
        let sent = self.queue.send(QueueName::Event, vec![Outgoing::new(body, replay.tenant.clone(), 0)]).await;
        for error in sent.iter().filter_map(|result| result.as_ref().err()) {
            tracing::error!(replay_id = %replay.id, code = error.code(), error = %chain(error), "a replay is not queued");
        }
        sent.iter().all(Result::is_ok)
    }

    /// Notes that a replay was not queued.
    async fn give_up(&self, replay: &Replay) {
        let now = self.clock.now();
        let failed = |replay: &Replay| replay.ended(ReplayState::Failed, now);
        let of = (replay.tenant.as_str(), replay.id.as_str());
        if let Err(error) = replays::change(self.history.as_ref(), of, now, failed).await {
            tracing::error!(replay_id = %replay.id, code = error.code(), error = %chain(&error), "a replay that was not queued shows as running");
        }
    }
}

/// A new replay.
fn replay(tenant: &str, request: ReplayRequest, now: Millis) -> Result<Replay, Problem> {
    let random = random::alphanumeric(ID_RANDOM).map_err(|error| {
        tracing::error!(error = %chain(&error), "a replay has no id");
        Problem::unavailable("There is no randomness for an id.")
    })?;
    Ok(Replay {
        id: format!("rp_{random}"),
        tenant: tenant.to_owned(),
        request,
        state: ReplayState::Running,
        counts: ReplayCounts::default(),
        after: None,
        hop: 0,
        created_at: now,
        updated_at: now,
    })
}

/// The names of a replay, each held to its grammar.
fn replay_names(tenant: &str, replay: &str) -> Result<(String, String), Problem> {
    let mut names = PathNames::default();
    let read = (names.tenant(tenant), names.replay(replay));
    names.finish().map(|()| read)
}

fn history_is_off() -> Problem {
    Problem::conflict("The stack keeps no history (HistoryDays is 0), so there is nothing to replay from.")
}

fn away(error: &HistoryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(error), "history does not answer");
    Problem::unavailable("History cannot be read now.")
}

fn unknown() -> Problem {
    Problem::not_found("The tenant has no replay with this id, or it has expired.")
}

/// A replay as the API shows it.
fn view(replay: &Replay) -> Value {
    let Replay { id, request, state, counts, created_at, updated_at, .. } = replay;
    json!({
        "replay_id": id,
        "endpoint_id": request.endpoint,
        "what": request.what,
        "since": request.since.to_string(),
        "until": request.until.to_string(),
        "event_types": request.event_types,
        "per_second": request.per_second,
        "dry_run": request.dry_run,
        "state": state,
        "examined": counts.examined,
        "matched": counts.matched,
        "queued": counts.queued,
        "unsendable": counts.unsendable,
        "created_at": created_at.to_string(),
        "updated_at": updated_at.to_string(),
    })
}
