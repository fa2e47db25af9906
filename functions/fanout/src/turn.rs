//! Turns: of several catch-ups of one endpoint, one works at a time. Each wake-up begins one, and
//! all of them begin with the oldest delivery. Without Redis nobody has to wait: what is queued
//! twice has one hop, and its claim drops the second.

use std::time::Duration;

use adapters::redis::{records, token};
use adapters::telemetry::chain;
use domain::identity::work_record_id;
use domain::record::{Claim, Ending, Grant, NewRecord, Settlement};
use domain::status::Lifetimes;
use domain::time::whole_ms;

use crate::context::{BRIEF_LIFE, Context};

/// How long a turn lasts that nobody gives back: an invocation ends before.
const LONGEST: Duration = Duration::from_secs(61);

/// The turn of one endpoint.
pub(crate) struct Turn {
    id: String,
    token: String,
    new_record: NewRecord,
}

/// Takes the turn of an endpoint; `None` while another catch-up has it.
pub(crate) async fn take(context: &Context, endpoint: &str) -> Option<Turn> {
    let id = work_record_id("catching_up", endpoint);
    let turn = Turn { id, token: token(), new_record: NewRecord::default() };
    let claim =
        Claim { token: turn.token.clone(), hop: 0, lease_ms: whole_ms(LONGEST), new_record: turn.new_record.clone() };
    let claimed = records::claim(&turn.id, &claim, lifetimes(context)).run(context.redis.as_ref()).await;
    match claimed {
        Ok(Grant::Busy(_)) => None,
        // Turns that were not given back do not matter: each ended by itself.
        Ok(Grant::Granted | Grant::Crashed | Grant::Done | Grant::Stale | Grant::Foreign) => Some(turn),
        Err(error) => {
            tracing::error!(endpoint_id = endpoint, code = error.code(), error = %chain(&error), "a catch-up goes on without its turn");
            Some(turn)
        }
    }
}

/// Gives a turn back.
pub(crate) async fn give_back(context: &Context, turn: Turn) {
    let Turn { id, token, new_record } = turn;
    let settlement = Settlement { token, hop: 0, ending: Ending::Released, log: None };
    let settling = records::settle(&id, &new_record, &settlement, lifetimes(context));
    if let Err(error) = settling.run(context.redis.as_ref()).await {
        tracing::error!(webhook_id = %id, code = error.code(), error = %chain(&error), "a turn is not given back; it ends by itself");
    }
}

fn lifetimes(context: &Context) -> Lifetimes {
    Lifetimes { event_ms: whole_ms(BRIEF_LIFE), ..context.lifetimes }
}
