//! Claims every page of a batch in one round trip, beside a strong read of its tenants'
//! revisions.

use std::collections::BTreeMap;

use adapters::redis::marks::{AskedErased, ask_erased};
use adapters::redis::query::{Trip, usable};
use adapters::redis::{records, token};
use adapters::registry::TenantRevision;
use adapters::telemetry::chain;
use domain::reason::Reason;
use domain::record::{Claim, Grant};
use domain::time::{Millis, whole_ms};
use domain::work::Work;

use crate::context::Context;
use crate::decision::{Decided, Decision, HeldClaim};
use crate::read::Read;

/// A page that may be worked on.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Which record of the batch.
    pub(crate) record: usize,
    pub(crate) work: Work,
    pub(crate) claim: HeldClaim,
    /// The revision of an event's tenant; `None` while the registry is away.
    pub(crate) revision: Option<TenantRevision>,
}

/// Claims what is due. Without Redis every page is granted.
pub(crate) async fn claim(context: &Context, read: Read, ends_at: Millis, decided: &mut Vec<Decided>) -> Vec<Claimed> {
    let Read { due, waiting } = read;
    if due.is_empty() && waiting.is_empty() {
        return Vec::new();
    }
    let lease_ms = whole_ms(context.lease(ends_at));
    let mut trip = Trip::default();
    let mut wanted = Vec::with_capacity(due.len());
    for (record, work) in due {
        let (id, new_record) = (work.record_id(), work.new_record());
        let wish = Claim { token: token(), hop: work.hop(), lease_ms, new_record };
        let lifetimes = context.lifetimes_of(&work);
        let grant = trip.add(records::claim(&id, &wish, lifetimes));
        let Claim { token, hop, new_record, .. } = wish;
        let claim = HeldClaim { id, token, hop, new_record, lifetimes, is_known: false };
        wanted.push((grant, Claimed { record, work, claim, revision: None }));
    }
    let waiting: Vec<_> = waiting.into_iter().map(|(record, work)| (record, ask_of(&mut trip, &work), work)).collect();
    let tenants = wanted.iter().filter_map(|(_, next)| tenant_of_event(&next.work)).map(str::to_owned).collect();
    let (mut replies, revisions) = tokio::join!(context.round_trip(trip), revisions(context, tenants));
    for (record, asked, work) in waiting {
        // Its record is the mark, which stays.
        let is_erased = asked.and_then(|asked| usable(asked.take(&mut replies), "mark")).unwrap_or(false);
        let decision = if is_erased { Decision::Superseded } else { Decision::Wait(work) };
        decided.push(Decided { record, decision });
    }
    let mut claimed = Vec::with_capacity(wanted.len());
    for (grant, mut next) in wanted {
        let grant = usable(grant.take(&mut replies), &next.claim.id);
        next.claim.is_known = grant.is_some();
        next.revision = tenant_of_event(&next.work).and_then(|tenant| revisions.get(tenant).copied());
        claimed.extend(judge(grant.unwrap_or(Grant::Granted), next, context.clock.now(), decided));
    }
    claimed
}

/// The tenant of an event. Jobs read what they need by themselves.
fn tenant_of_event(work: &Work) -> Option<&str> {
    match work {
        Work::Event(page) => Some(&page.event.tenant),
        Work::Delivery(_) | Work::Job(_) => None,
    }
}

/// Asks whether an event was erased. A job has nothing to erase.
fn ask_of(trip: &mut Trip, work: &Work) -> Option<AskedErased> {
    match work {
        Work::Event(page) => Some(ask_erased(trip, &page.event.tenant, &page.event.id, accepted_at(work))),
        Work::Delivery(_) | Work::Job(_) => None,
    }
}

fn accepted_at(work: &Work) -> Millis {
    work.new_record().accepted_at
}

/// The revisions of these tenants as they are now; none while the registry is away.
async fn revisions(context: &Context, mut tenants: Vec<String>) -> BTreeMap<String, TenantRevision> {
    if tenants.is_empty() {
        return BTreeMap::new();
    }
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
        let Claimed { claim, work, .. } = &next;
        tracing::info!(webhook_id = %claim.id, hop = claim.hop, correlation_id = %work.correlation_id(), outcome, why);
    };
    let is_erased = next.revision.and_then(|known| known.erased_before).is_some_and(|at| accepted_at(&next.work) <= at);
    if is_erased {
        told("erased", "its tenant was erased");
        let accepted_at = accepted_at(&next.work);
        let decision = Decision::Erased { id: next.claim.id, accepted_at };
        decided.push(Decided { record: next.record, decision });
        return None;
    }
    if grant == Grant::Granted && now < next.work.deadline() {
        return Some(next);
    }
    match grant {
        Grant::Busy(_) => told("busy", "another message of it is being worked on"),
        Grant::Done | Grant::Stale => told("superseded", "it is finished or carried on by another message"),
        Grant::Granted | Grant::Crashed | Grant::Foreign => {}
    }
    let Claimed { record, work, claim, .. } = next;
    let decision = match grant {
        Grant::Granted => {
            let error = match &work {
                Work::Delivery(_) | Work::Event(_) => "its deadline passed before all endpoints had their deliveries",
                Work::Job(_) => "its deadline passed before it was done",
            };
            Decision::GiveUp { claim, work, reason: Reason::Expired, error }
        }
        Grant::Crashed => {
            let error = "its fan-out crashed again and again";
            Decision::GiveUp { claim, work, reason: Reason::Crashed, error }
        }
        Grant::Busy(_) => Decision::Keep,
        Grant::Done | Grant::Stale => Decision::Superseded,
        Grant::Foreign => Decision::ReusedId(work),
    };
    decided.push(Decided { record, decision });
    None
}
