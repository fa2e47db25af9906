//! Claims every page of a batch in one round trip, beside a strong read of its tenants'
//! revisions.

use std::collections::BTreeMap;

use adapters::redis::query::Trip;
use adapters::redis::records;
use adapters::telemetry::chain;
use domain::event::EventPage;
use domain::reason::Reason;
use domain::record::{Claim, Grant};
use domain::time::{Millis, whole_ms};

use crate::context::{Context, token, usable};
use crate::decision::{Decided, Decision, HeldClaim};

/// A page that may be worked on.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) page: Box<EventPage>,
    pub(crate) claim: HeldClaim,
    /// The revision of its tenant; `None` while the registry is away.
    pub(crate) revision: Option<u64>,
}

/// Claims what is due. Without Redis every page is granted.
pub(crate) async fn claim(
    context: &Context,
    due: Vec<(usize, Box<EventPage>)>,
    ends_at: Millis,
    decided: &mut Vec<Decided>,
) -> Vec<Claimed> {
    if due.is_empty() {
        return Vec::new();
    }
    let lease_ms = whole_ms(context.lease(ends_at));
    let mut trip = Trip::default();
    let mut wanted = Vec::with_capacity(due.len());
    for (record, page) in due {
        let (id, new_record) = (page.event.record_id(), page.new_record());
        let wish = Claim { token: token(), hop: page.hop, lease_ms, new_record };
        let grant = trip.add(records::claim(&id, &wish, context.lifetimes));
        let claim = HeldClaim { id, token: wish.token, hop: wish.hop, new_record: wish.new_record, is_known: false };
        wanted.push((grant, Claimed { record, page, claim, revision: None }));
    }
    let tenants = wanted.iter().map(|(_, next)| next.page.event.tenant.clone()).collect();
    let (mut replies, revisions) = tokio::join!(context.round_trip(trip), revisions(context, tenants));
    let mut claimed = Vec::with_capacity(wanted.len());
    for (grant, mut next) in wanted {
        let grant = usable(grant.take(&mut replies), &next.claim.id);
        next.claim.is_known = grant.is_some();
        next.revision = revisions.get(&next.page.event.tenant).copied();
        claimed.extend(judge(grant.unwrap_or(Grant::Granted), next, context.clock.now(), decided));
    }
    claimed
}

/// The revisions of these tenants as they are now; none while the registry is away.
async fn revisions(context: &Context, mut tenants: Vec<String>) -> BTreeMap<String, u64> {
    tenants.sort_unstable();
    tenants.dedup();
    match context.subscriptions.revisions(&tenants).await {
        Ok(revisions) => tenants.into_iter().zip(revisions).collect(),
        Err(error) => {
            tracing::error!(error = %chain(&error), "the registry of endpoints is away; events wait");
            BTreeMap::new()
        }
    }
}

/// Lets a page go on whose claim is granted, or decides what becomes of it.
fn judge(grant: Grant, next: Claimed, now: Millis, decided: &mut Vec<Decided>) -> Option<Claimed> {
    let told = |outcome, why| {
        let Claimed { claim, page, .. } = &next;
        tracing::info!(record = %claim.id, hop = page.hop, correlation_id = %page.event.correlation_id, outcome, why);
    };
    if grant == Grant::Granted && now < next.page.deadline {
        return Some(next);
    }
    match grant {
        Grant::Busy(_) => told("busy", "another message of this event is being worked on"),
        Grant::Done | Grant::Stale => told("superseded", "this event is finished or carried on by another message"),
        Grant::Granted | Grant::Crashed | Grant::Foreign => {}
    }
    let Claimed { record, page, claim, .. } = next;
    let decision = match grant {
        Grant::Granted => {
            let error = "its deadline passed before all endpoints had their deliveries";
            Decision::GiveUp { claim, page, reason: Reason::Expired, error }
        }
        Grant::Crashed => {
            let error = "its fan-out crashed again and again";
            Decision::GiveUp { claim, page, reason: Reason::Crashed, error }
        }
        Grant::Busy(_) => Decision::Keep,
        Grant::Done | Grant::Stale => Decision::Superseded,
        Grant::Foreign => Decision::ReusedId(page),
    };
    decided.push(Decided { record, decision });
    None
}
