//! What happened lately, for people who look: the deliveries that ended last, and sums of each
//! minute.

use adapters::redis::query::Trip;
use adapters::redis::recent;
use domain::destination::Destination;
use domain::record::{Ending, NewRecord};
use domain::time::Millis;
use serde::Serialize;
use url::Url;

use crate::context::Context;
use crate::decision::{Decided, Decision, HeldClaim};

/// A delivery that ended.
#[derive(Serialize)]
struct Entry<'a> {
    delivery_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    /// Where a direct webhook went to. Whoever tells of an endpoint names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    result: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    ended_at: &'a str,
    correlation_id: &'a str,
}

/// Sums of one batch.
#[derive(Default)]
struct Sums {
    delivered: u64,
    failed: u64,
    retried: u64,
    parked: u64,
    calls: u64,
    call_ms: u64,
}

/// Adds what a batch came to to a round trip.
pub(crate) fn add(context: &Context, trip: &mut Trip, decided: &[Decided], now: Millis) {
    let ended_at = now.to_string();
    let mut entries = Vec::new();
    let mut sums = Sums::default();
    for next in decided {
        let called = next.call.as_ref().map(|call| call.receiver.name.as_str()).filter(|name| !name.is_empty());
        match &next.decision {
            Decision::Delivered { claim, ending, .. } => {
                sums.delivered += 1;
                entries.extend(entry(claim, called, "delivered", ending, &ended_at));
            }
            Decision::GiveUp { claim, given_up } => {
                sums.failed += 1;
                entries.extend(entry(claim, called, given_up.reason.as_str(), &given_up.ending, &ended_at));
            }
            Decision::Retry { .. } => sums.retried += 1,
            Decision::Park { .. } | Decision::Owe { .. } => sums.parked += 1,
            Decision::Superseded
            | Decision::Finished(_)
            | Decision::Erased { .. }
            | Decision::Keep
            | Decision::Release(_)
            | Decision::Wait(_)
            | Decision::TestFailed { .. }
            | Decision::ReusedId(_)
            | Decision::Malformed { .. }
            | Decision::Late { .. } => {}
        }
        if let Some(call) = &next.call {
            sums.calls += 1;
            sums.call_ms += call.ms;
        }
    }
    // What is not told here is no loss.
    if !entries.is_empty() {
        drop(trip.add(recent::push(&entries)));
    }
    let fields: Vec<(&str, u64)> = sums.fields().into_iter().filter(|(_, value)| *value > 0).collect();
    if !fields.is_empty() {
        let (instance, batch) = (&context.batches.instance, context.batches.next());
        drop(trip.add(recent::add(recent::minute_of(now), instance, batch, fields)));
    }
}

impl Sums {
    fn fields(&self) -> [(&'static str, u64); 6] {
        let Self { delivered, failed, retried, parked, calls, call_ms } = *self;
        [
            ("delivered", delivered),
            ("failed", failed),
            ("retried", retried),
            ("parked", parked),
            ("calls", calls),
            ("call_ms", call_ms),
        ]
    }
}

/// What ended. `called` names the receiver if it was called: then nothing has to be read again.
fn entry(
    claim: &HeldClaim,
    called: Option<&str>,
    result: &'static str,
    ending: &Ending,
    ended_at: &str,
) -> Option<String> {
    let HeldClaim { id, new_record, .. } = claim;
    let NewRecord { tenant, url, event_type, correlation_id, .. } = new_record;
    let (attempts, status_code) = match ending {
        Ending::Delivered { attempts, code, .. } => (*attempts, Some(*code)),
        Ending::Failed { attempts, code, .. } => (*attempts, *code),
        Ending::Retrying { .. }
        | Ending::Parked { .. }
        | Ending::Continued { .. }
        | Ending::FannedOut { .. }
        | Ending::Released => return None,
    };
    let mut parts = id.split('.');
    let (event_id, endpoint_id) = if tenant.is_some() { (parts.next(), parts.next()) } else { (None, None) };
    let direct = || match called {
        Some(called) => Some(called.to_owned()),
        None => Url::parse(url).ok().map(|url| Destination::of(&url).as_str().to_owned()),
    };
    let destination = if tenant.is_none() { direct() } else { None };
    let entry = Entry {
        delivery_id: id,
        tenant: tenant.as_deref(),
        endpoint_id,
        event_id,
        event_type: event_type.as_deref(),
        destination,
        result,
        attempts,
        status_code,
        duration_ms: ending.duration_ms(),
        ended_at,
        correlation_id,
    };
    serde_json::to_string(&entry).ok()
}
