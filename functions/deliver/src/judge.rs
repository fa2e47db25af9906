//! What becomes of a delivery whose claim is answered: it goes on if its card can be used, its
//! endpoint takes deliveries, there is time for an attempt, and it stands in the right queue.

use std::ops::ControlFlow;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::endpoint::EndpointState;
use domain::message::Message;
use domain::next_step::give_up;
use domain::reason::Reason;
use domain::record::{Ending, Grant};
use domain::retry::REQUEUE_FLOOR;
use domain::time::{Millis, whole_ms};

use crate::cards::CardSeen;
use crate::claimed::{Claimed, destination_of};
use crate::context::{Batch, Context};
use crate::decision::{Decided, Decision, HeldClaim};
use crate::route::key_of;

/// A delivery goes on, or it is decided what becomes of it.
type Step = ControlFlow<Decision, Claimed>;

/// Lets a delivery go on whose claim is granted, or decides what becomes of it.
pub(crate) fn judge(
    context: &Context,
    batch: &Batch,
    grant: Grant,
    next: Claimed,
    decided: &mut Vec<Decided>,
) -> Option<Claimed> {
    let now = context.clock.now();
    let delivery = &next.message.delivery;
    let decision = match grant {
        Grant::Done | Grant::Stale => {
            let is_finished = grant == Grant::Done;
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                hop = next.message.hop,
                outcome = "duplicate",
                "superseded"
            );
            if is_finished { Decision::Finished(next.message) } else { Decision::Superseded }
        }
        // Never delete what another holder may still need.
        Grant::Busy(left) => {
            tracing::info!(
                webhook_id = %delivery.id,
                correlation_id = %delivery.correlation_id,
                busy_ms = left.as_millis(),
                outcome = "busy",
                "claimed by another"
            );
            Decision::Keep
        }
        Grant::Foreign => Decision::ReusedId(next.message),
        Grant::Crashed => {
            let why = "outcome unknown: its consumer ended in mid-attempt again and again";
            Decision::give_up(next.claim, give_up(&next.message, Reason::Crashed, why))
        }
        Grant::Granted => {
            let record = next.record;
            match go_on(context, batch, now, next) {
                ControlFlow::Continue(next) => return Some(next),
                ControlFlow::Break(decision) => {
                    decided.push(Decided::new(record, decision));
                    return None;
                }
            }
        }
    };
    decided.push(Decided::new(next.record, decision));
    None
}

/// Lets a delivery go on that is granted. Whether its endpoint takes deliveries is asked before
/// the deadline: what it is owed does not expire meanwhile.
fn go_on(context: &Context, batch: &Batch, now: Millis, next: Claimed) -> Step {
    let next = with_card(context, now, next)?;
    if now >= next.message.delivery.deadline {
        return ControlFlow::Break(expired(next.claim, &next.message));
    }
    if now.until(batch.ends_at) < context.attempt_budget {
        tracing::warn!(
            webhook_id = %next.claim.id,
            correlation_id = %next.message.delivery.correlation_id,
            outcome = "no_time",
            "too little time left for an attempt"
        );
        return ControlFlow::Break(Decision::Release(next.claim));
    }
    if next.live.is_slow() && !next.is_among_slow && !next.message.delivery.is_test() {
        return ControlFlow::Break(move_to_slow(now, next));
    }
    ControlFlow::Continue(next)
}

/// Looks up where a delivery to an endpoint goes, and whether it may. Without a usable card it
/// waits and spends no attempt: a card is configuration, and not work.
fn with_card(context: &Context, now: Millis, mut next: Claimed) -> Step {
    let Some(target) = &next.message.delivery.endpoint else { return ControlFlow::Continue(next) };
    let is_test = target.is_test;
    let decision = match context.cards.card(&key_of(target), now) {
        CardSeen::Open(card) => {
            let state = next.live.state_of(card.version, card.state, now);
            next.take_card(context, card);
            if state == EndpointState::Enabled || is_test {
                return ControlFlow::Continue(next);
            }
            owe(context, now, state, next)
        }
        CardSeen::Gone => {
            let why = "its endpoint was deleted";
            Decision::give_up(next.claim, give_up(&next.message, Reason::EndpointGone, why))
        }
        CardSeen::Erased => Decision::Erased { id: next.claim.id, accepted_at: next.message.delivery.accepted_at },
        CardSeen::Unknown(_) if now >= next.message.delivery.deadline => expired(next.claim, &next.message),
        CardSeen::Unknown(why) => wait_for_card(context, now, why, next.claim, &next.message),
    };
    ControlFlow::Break(decision)
}

fn expired(claim: HeldClaim, message: &Message) -> Decision {
    Decision::give_up(claim, give_up(message, Reason::Expired, "the deadline passed before the next attempt"))
}

fn wait_for_card(context: &Context, now: Millis, why: &'static str, claim: HeldClaim, message: &Message) -> Decision {
    let wait = context.parking.wait(Duration::ZERO, false, message.parked, fastrand::f64());
    // At its deadline it comes back all the same, and expires.
    let due = now.after(wait).min(message.delivery.deadline);
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        outcome = "waiting",
        why,
        wait_ms = whole_ms(wait),
        "the card of its endpoint cannot be used"
    );
    let ending = Ending::Parked { error: format!("waiting: {why}"), next_attempt_at: due };
    Decision::Park { claim, successor: Box::new(message.parked(due)), ending, to: None }
}

/// Its endpoint takes nothing now, and is owed it.
fn owe(context: &Context, now: Millis, state: EndpointState, next: Claimed) -> Decision {
    let Claimed { message, claim, .. } = next;
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        outcome = "owed",
        state = state.as_str(),
        "its endpoint takes no deliveries now"
    );
    let error = format!("owed: its endpoint is {}", state.as_str());
    let ending = Ending::Parked { error, next_attempt_at: now.after(context.owed_life) };
    Decision::Owe { claim, message, ending }
}

/// Its receiver was slow lately. What waits for that must not hold up others.
fn move_to_slow(now: Millis, next: Claimed) -> Decision {
    let Claimed { message, claim, url, .. } = next;
    let due = now.after(REQUEUE_FLOOR);
    tracing::info!(
        correlation_id = %message.delivery.correlation_id,
        webhook_id = %claim.id,
        destination = destination_of(url.as_ref()),
        outcome = "moved",
        "its receiver was slow lately"
    );
    let error = "waiting: its receiver was slow lately, and it moved to the queue for that".to_owned();
    let ending = Ending::Parked { error, next_attempt_at: due };
    Decision::Park { claim, successor: Box::new(message.successor(due)), ending, to: Some(QueueName::Slow) }
}
