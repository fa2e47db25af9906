//! How the record of a delivery changes.
//!
//! These rules stand twice on purpose. Here they are plain Rust, the specification;
//! in `adapters` they are Lua, so that Redis applies them atomically. A property test
//! with random histories holds the two equal.
//!
//! A record moves by *hops*: every message of a delivery has a hop, and its successor
//! has the next one. The record's hop is the highest that was claimed or sent. So a
//! lower hop is stale, and a higher one proves that the attempt before it ended.

mod erasing;

use std::time::Duration;

pub use self::erasing::erase;
use crate::record::{
    Claim, Ending, Grant, Lease, NewRecord, Record, Removal, Reservation, Settlement, SettlementReply,
};
use crate::status::Status;
use crate::time::Millis;

/// After this many leases ran out at one hop, the delivery is given up as
/// [`Reason::Crashed`](crate::reason::Reason::Crashed).
pub const MAX_CRASHES: u32 = 4;

/// Reserves an id for a new delivery. The record tells a repeated request from another
/// body under the same id. A record without `reserved` is queued. A repeated request whose
/// message may not be queued was accepted when the first one was, so that all messages of
/// one reservation say the same.
pub fn reserve(record: &mut Option<Record>, now: Millis, new_record: &NewRecord) -> Reservation {
    match record {
        None => {
            *record = Some(Record { reserved: true, ..Record::begun(new_record, now) });
            Reservation::Reserved { accepted_at: new_record.accepted_at }
        }
        Some(found) if found.is_erased() || found.is_foreign(new_record) => Reservation::Conflict,
        Some(found) if found.reserved => Reservation::Reserved { accepted_at: found.details.accepted_at },
        Some(found) => {
            Reservation::Known { status: found.status, correlation_id: found.details.correlation_id.clone() }
        }
    }
}

/// The record, or a new one where there is none. A mark of an erased event is none to what was
/// accepted after it, and is kept in the record that begins then.
fn begun_if_none<'a>(record: &'a mut Option<Record>, now: Millis, new_record: &NewRecord) -> &'a mut Record {
    let erased = record.as_ref().and_then(|found| found.erased);
    record.take_if(|found| found.is_erased());
    record.get_or_insert_with(|| Record { erased, ..Record::begun(new_record, now) })
}

/// Notes that the delivery's first message is queued. Says where it stands:
/// a consumer may have been faster.
pub fn confirm(record: &mut Option<Record>, now: Millis, new_record: &NewRecord) -> Status {
    if let Some(found) = record.as_ref().filter(|found| found.erases(new_record.accepted_at)) {
        return found.status;
    }
    let found = begun_if_none(record, now, new_record);
    // A message of an earlier life says nothing about a later one's.
    if !found.is_foreign(new_record) && new_record.accepted_at >= found.details.accepted_at {
        found.reserved = false;
    }
    found.status
}

/// Takes back a reservation whose message was refused by the queue. Anything
/// that a consumer has touched since stays. Says whether it was taken back.
pub fn forget(record: &mut Option<Record>, new_record: &NewRecord) -> bool {
    let untouched = record.as_ref().is_some_and(|found| found.reserved && !found.is_foreign(new_record));
    if untouched {
        *record = None;
    }
    untouched
}

/// Asks to attempt a delivery.
pub fn claim(record: &mut Option<Record>, now: Millis, claim: &Claim) -> Grant {
    let accepted_at = claim.new_record.accepted_at;
    if record.as_ref().is_some_and(|found| found.erases(accepted_at)) {
        return Grant::Done;
    }
    let found = begun_if_none(record, now, &claim.new_record);
    if found.is_foreign(&claim.new_record) {
        return Grant::Foreign;
    }
    let grant = |crashes: u32| if crashes >= MAX_CRASHES { Grant::Crashed } else { Grant::Granted };
    if found.lease.as_ref().is_some_and(|lease| lease.token == claim.token) {
        return grant(found.crashes);
    }
    // A client that repeats a request while Redis is away gets it accepted twice. What was
    // delivered after that is not delivered again. Without a 2xx the later message carries it:
    // the record may be of an earlier life of its id.
    let is_repeated = found.status == Status::Delivered && accepted_at <= found.updated_at;
    if accepted_at > found.details.accepted_at && !is_repeated {
        if let Some(lease) = found.lease.as_ref().filter(|lease| lease.until > now) {
            return Grant::Busy(now.until(lease.until));
        }
        // The id was used again after this record was gone, and a Redis that was restored
        // has it still.
        *found = Record { erased: found.erased, ..Record::begun(&claim.new_record, now) };
    }
    if found.status == Status::Delivered {
        return Grant::Done;
    }
    if accepted_at < found.details.accepted_at && !found.reserved {
        // The id was used again, and that delivery is queued: it carries on.
        return Grant::Stale;
    }
    if found.status == Status::Failed && found.hop >= claim.hop && !found.unknown {
        return Grant::Done;
    }
    if found.hop > claim.hop {
        return Grant::Stale;
    }
    if let Some(lease) = &found.lease {
        // A successor is only sent when its attempt has ended, so a higher hop voids the
        // lease, unless that hop was claimed twice.
        if lease.until > now && (found.hop == claim.hop || lease.firm) {
            return Grant::Busy(now.until(lease.until));
        }
        if found.hop == claim.hop {
            found.crashes += 1;
        }
    }
    if claim.hop > found.hop {
        // A redrive begins anew; a record that missed a hop catches up. The work on that hop
        // came to its successor, so leases that ran out on it do not count any more.
        found.crashes = 0;
        if found.status == Status::Failed {
            found.error = None;
            found.error_class = None;
        }
        found.details.expires_at = claim.new_record.expires_at;
        found.details.attempts = claim.new_record.attempts;
        found.status = Status::waiting(claim.new_record.attempts);
        found.updated_at = now;
        found.hop = claim.hop;
    } else if found.claimed != Some(claim.hop) && found.status != Status::Failed {
        // What was owed comes with a new budget and deadline.
        found.details.expires_at = claim.new_record.expires_at;
        found.details.attempts = claim.new_record.attempts;
        found.status = Status::waiting(claim.new_record.attempts);
    }
    if found.unknown {
        found.unknown = false;
        found.status = Status::waiting(found.details.attempts);
    }
    found.show(&claim.new_record);
    // A later request that is only reserved may have failed: this message carries it too.
    found.details.accepted_at = found.details.accepted_at.min(accepted_at);
    found.reserved = false;
    found.next_attempt_at = None;
    let firm = found.claimed == Some(claim.hop);
    found.claimed = Some(claim.hop);
    let until = now.after(Duration::from_millis(claim.lease_ms));
    found.lease = Some(Lease { token: claim.token.clone(), until, firm });
    grant(found.crashes)
}

/// Records how a claim ended.
pub fn settle(
    record: &mut Option<Record>,
    now: Millis,
    new_record: &NewRecord,
    settlement: &Settlement,
) -> SettlementReply {
    let Settlement { token, hop, ending, log } = settlement;
    if record.as_ref().is_some_and(|found| found.erases(new_record.accepted_at)) {
        return SettlementReply::Stale;
    }
    // Its successor is out and says more, or its record has lived its life.
    let says_nothing = *ending == Ending::Released || ending.next_attempt_at().is_some_and(|due| due <= now);
    if says_nothing && record.as_ref().is_none_or(Record::is_erased) {
        return SettlementReply::Stale;
    }
    let found = begun_if_none(record, now, new_record);
    if found.is_foreign(new_record) {
        return SettlementReply::Foreign;
    }
    if found.settled.as_ref() == Some(token) {
        return SettlementReply::Recorded;
    }
    let held = found.lease.as_ref().is_some_and(|lease| lease.token == *token);
    if *ending == Ending::Released {
        if held {
            found.lease = None;
        }
        return if held { SettlementReply::Recorded } else { SettlementReply::Stale };
    }
    if found.status == Status::Delivered {
        let repeated = ending.final_status() == Some(Status::Delivered);
        return if repeated { SettlementReply::Recorded } else { SettlementReply::Stale };
    }
    // What happened to an earlier delivery under this id is old news, and so is what another
    // message of this one knows better. A 2xx is a fact whoever reports it. The end of a
    // fan-out is one for its own life: a later event may be for other endpoints.
    let earlier = new_record.accepted_at < found.details.accepted_at;
    let others = !held && found.lease.as_ref().is_some_and(|lease| lease.until > now);
    let outdated = found.hop > *hop
        || (found.hop == *hop && others)
        || (found.hop == *hop
            && found.status == Status::Failed
            && !found.unknown
            && matches!(ending, Ending::Failed { .. }));
    let stale = match ending {
        Ending::Delivered { .. } => false,
        Ending::FannedOut { .. } => earlier,
        Ending::Retrying { .. } | Ending::Parked { .. } | Ending::Failed { .. } | Ending::Continued { .. } => {
            earlier || outdated
        }
        Ending::Released => true,
    };
    if stale {
        return SettlementReply::Stale;
    }
    apply(found, *hop, ending);
    if log.is_some() {
        found.log.clone_from(log);
    }
    found.show(new_record);
    found.unknown = false;
    found.updated_at = now;
    found.settled = (found.status != Status::Delivered).then(|| token.clone());
    found.lease = None;
    found.reserved = false;
    SettlementReply::Recorded
}

fn apply(found: &mut Record, at_hop: u32, ending: &Ending) {
    match ending {
        Ending::Delivered { attempts, code, duration_ms } => {
            found.status = Status::Delivered;
            found.details.attempts = *attempts;
            found.hop = found.hop.max(at_hop);
            found.claimed = None;
            found.crashes = 0;
            found.last_status_code = Some(*code);
            found.error_class = None;
            found.error = None;
            found.next_attempt_at = None;
            found.duration_ms = Some(*duration_ms);
        }
        Ending::Retrying { attempts, code, class, error, duration_ms, next_attempt_at } => {
            found.status = Status::waiting(*attempts);
            found.details.attempts = *attempts;
            found.hop = at_hop + 1;
            found.crashes = 0;
            found.last_status_code = *code;
            found.error_class = Some(*class);
            found.error = Some(error.clone());
            found.next_attempt_at = Some(*next_attempt_at);
            found.duration_ms = Some(*duration_ms);
        }
        Ending::Parked { error, next_attempt_at } => {
            found.status = Status::waiting(found.details.attempts);
            found.hop = at_hop + 1;
            found.error = Some(error.clone());
            found.next_attempt_at = Some(*next_attempt_at);
        }
        Ending::Failed { attempts, code, class, error, duration_ms } => {
            found.status = Status::Failed;
            found.details.attempts = *attempts;
            found.hop = at_hop;
            found.crashes = 0;
            found.last_status_code = *code;
            found.error_class = *class;
            found.error = Some(error.clone());
            found.next_attempt_at = None;
            found.duration_ms = *duration_ms;
        }
        Ending::Continued { matched, owed } => {
            found.status = Status::Retrying;
            found.hop = at_hop + 1;
            found.crashes = 0;
            found.error = None;
            found.next_attempt_at = None;
            found.matched = Some(*matched);
            found.owed = Some(*owed);
        }
        Ending::FannedOut { matched, owed } => {
            found.status = Status::Delivered;
            found.hop = found.hop.max(at_hop);
            found.claimed = None;
            found.crashes = 0;
            found.error = None;
            found.next_attempt_at = None;
            found.matched = Some(*matched);
            found.owed = Some(*owed);
        }
        Ending::Released => {}
    }
}

/// What an abandoned delivery's record says.
pub const OUTCOME_UNKNOWN: &str = "outcome unknown";

/// Removes a record that did not change after `before` and has no mark of an erasure. Work goes on without it:
/// of an unfinished delivery only the view is removed.
pub fn remove(record: &mut Option<Record>, now: Millis, before: Millis) -> Removal {
    let Some(found) = record else { return Removal::Kept };
    if found.erased.is_some() || found.updated_at > before {
        return Removal::Kept;
    }
    match found.status {
        Status::Delivered | Status::Failed if found.is_leased(now) => Removal::Kept,
        Status::Delivered | Status::Failed => {
            *record = None;
            Removal::Deleted
        }
        Status::Pending | Status::Retrying if !found.is_shown() => Removal::Kept,
        Status::Pending | Status::Retrying => {
            found.details.url.clear();
            found.details.event_type = None;
            found.last_status_code = None;
            found.error_class = None;
            found.error = None;
            found.next_attempt_at = None;
            found.duration_ms = None;
            found.log = None;
            Removal::Hidden
        }
    }
}

/// Marks a delivery as failed whose deadline passed before `before` and which
/// nobody is attempting. A message of it that comes after all is not dropped.
pub fn abandon(record: &mut Option<Record>, now: Millis, before: Millis) -> bool {
    let Some(found) = record else { return false };
    let unfinished = matches!(found.status, Status::Pending | Status::Retrying);
    // What an endpoint is owed waits for longer than its deadline.
    let waits = found.next_attempt_at.is_some_and(|at| at > now);
    if !unfinished || !found.is_shown() || found.details.expires_at >= before || found.is_leased(now) || waits {
        return false;
    }
    found.status = Status::Failed;
    found.error = Some(OUTCOME_UNKNOWN.to_owned());
    found.unknown = true;
    found.next_attempt_at = None;
    found.lease = None;
    found.updated_at = now;
    true
}

/// Notes that a dead letter was sent again, as `hop`, due at `due`. Says where
/// the delivery stands: a consumer may have been faster.
pub fn redrive(record: &mut Option<Record>, now: Millis, new_record: &NewRecord, hop: u32, due: Millis) -> Status {
    if let Some(found) = record.as_ref().filter(|found| found.erases(new_record.accepted_at)) {
        return found.status;
    }
    let known = record.as_ref().is_some_and(|found| !found.is_erased());
    let found = begun_if_none(record, now, new_record);
    let is_current = !found.is_foreign(new_record) && new_record.accepted_at >= found.details.accepted_at;
    if !known || (found.status == Status::Failed && found.hop < hop && is_current) {
        found.status = Status::Pending;
        found.details.attempts = 0;
        found.details.expires_at = new_record.expires_at;
        found.show(new_record);
        found.hop = hop;
        found.crashes = 0;
        found.lease = None;
        found.error = None;
        found.error_class = None;
        found.next_attempt_at = Some(due);
        found.unknown = false;
        found.updated_at = now;
    }
    found.status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorClass;

    fn new_record() -> NewRecord {
        NewRecord { url: "https://a.example/".into(), body_hash: "h".into(), ..NewRecord::default() }
    }

    fn claim_of(token: &str, hop: u32) -> Claim {
        Claim { token: token.into(), hop, lease_ms: 100, new_record: new_record() }
    }

    fn settle_of(token: &str, hop: u32, ending: Ending) -> Settlement {
        Settlement { token: token.into(), hop, ending, log: None }
    }

    fn delivered() -> Ending {
        Ending::Delivered { attempts: 1, code: 200, duration_ms: 5 }
    }

    fn retrying() -> Ending {
        Ending::Retrying {
            attempts: 1,
            code: Some(500),
            class: ErrorClass::ServerError,
            error: "500".into(),
            duration_ms: 5,
            next_attempt_at: Millis(900),
        }
    }

    fn failed() -> Ending {
        Ending::Failed {
            attempts: 1,
            code: Some(404),
            class: Some(ErrorClass::ClientError),
            error: "404".into(),
            duration_ms: None,
        }
    }

    #[test]
    fn a_delivery_is_claimed_by_one_and_then_done() {
        let mut record = None;
        assert_eq!(claim(&mut record, Millis(0), &claim_of("a", 0)), Grant::Granted);
        assert_eq!(claim(&mut record, Millis(40), &claim_of("b", 0)), Grant::Busy(Duration::from_millis(60)));
        assert_eq!(
            settle(&mut record, Millis(50), &new_record(), &settle_of("a", 0, delivered())),
            SettlementReply::Recorded
        );
        assert_eq!(claim(&mut record, Millis(60), &claim_of("b", 0)), Grant::Done);
    }

    #[test]
    fn the_log_of_attempts_is_the_last_one_that_was_recorded() {
        let mut record = None;
        let logged =
            |token, hop, ending, log: &str| Settlement { log: Some(log.to_owned()), ..settle_of(token, hop, ending) };
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &new_record(), &logged("a", 0, retrying(), "1"));
        claim(&mut record, Millis(2), &claim_of("b", 1));
        settle(&mut record, Millis(3), &new_record(), &settle_of("b", 1, Ending::Released));
        assert_eq!(record.as_ref().unwrap().log.as_deref(), Some("1"));
        settle(&mut record, Millis(4), &new_record(), &logged("c", 0, failed(), "late"));
        assert_eq!(record.as_ref().unwrap().log.as_deref(), Some("1"), "stale");
        settle(&mut record, Millis(5), &new_record(), &logged("d", 1, delivered(), "2"));
        assert_eq!(record.unwrap().log.as_deref(), Some("2"));
    }

    #[test]
    fn a_re_sent_claim_gets_the_same_answer() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        let before = record.clone();
        assert_eq!(claim(&mut record, Millis(500), &claim_of("a", 0)), Grant::Granted);
        assert_eq!(record, before);
    }

    #[test]
    fn a_re_sent_settlement_changes_nothing() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &new_record(), &settle_of("a", 0, retrying()));
        claim(&mut record, Millis(2), &claim_of("b", 1));
        let before = record.clone();
        assert_eq!(
            settle(&mut record, Millis(3), &new_record(), &settle_of("a", 0, retrying())),
            SettlementReply::Recorded
        );
        assert_eq!(record, before);
    }

    #[test]
    fn a_lower_hop_is_stale_and_a_higher_one_voids_the_lease() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        assert_eq!(claim(&mut record, Millis(1), &claim_of("b", 1)), Grant::Granted);
        assert_eq!(claim(&mut record, Millis(2), &claim_of("c", 0)), Grant::Stale);
        assert_eq!(settle(&mut record, Millis(3), &new_record(), &settle_of("a", 0, failed())), SettlementReply::Stale);
    }

    #[test]
    fn a_hop_that_was_claimed_twice_makes_a_higher_one_wait() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &new_record(), &settle_of("a", 0, Ending::Released));
        claim(&mut record, Millis(2), &claim_of("b", 0));
        assert_eq!(claim(&mut record, Millis(3), &claim_of("c", 1)), Grant::Busy(Duration::from_millis(99)));
        assert_eq!(claim(&mut record, Millis(102), &claim_of("c", 1)), Grant::Granted);
    }

    #[test]
    fn the_fourth_lease_that_runs_out_ends_it() {
        let mut record = None;
        let grants: Vec<_> =
            (0..6).map(|n| claim(&mut record, Millis(n * 100), &claim_of(&n.to_string(), 0))).collect();
        let (granted, crashed) = (Grant::Granted, Grant::Crashed);
        assert_eq!(grants, [granted, granted, granted, granted, crashed, crashed]);
    }

    #[test]
    fn leases_that_ran_out_do_not_count_at_the_next_hop() {
        let mut record = None;
        // Each hop dies three times, the last time after its successor was sent.
        for hop in 0..9 {
            for n in 0..3 {
                let now = Millis(u64::from(hop * 3 + n) * 1000);
                assert_eq!(claim(&mut record, now, &claim_of(&format!("{hop}-{n}"), hop)), Grant::Granted);
            }
        }
    }

    #[test]
    fn a_released_lease_is_no_crash() {
        let mut record = None;
        for n in 0..9 {
            let token = n.to_string();
            assert_eq!(claim(&mut record, Millis(n), &claim_of(&token, 0)), Grant::Granted);
            assert_eq!(
                settle(&mut record, Millis(n), &new_record(), &settle_of(&token, 0, Ending::Released)),
                SettlementReply::Recorded
            );
        }
    }

    #[test]
    fn delivered_overrides_everything_and_nothing_overrides_it() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &new_record(), &settle_of("a", 0, failed()));
        assert_eq!(
            settle(&mut record, Millis(2), &new_record(), &settle_of("b", 0, delivered())),
            SettlementReply::Recorded
        );
        assert_eq!(settle(&mut record, Millis(3), &new_record(), &settle_of("c", 7, failed())), SettlementReply::Stale);
        assert_eq!(record.unwrap().status, Status::Delivered);
    }

    #[test]
    fn nothing_but_a_success_settles_over_anothers_live_lease() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        claim(&mut record, Millis(100), &claim_of("b", 0));
        for ending in [retrying(), failed()] {
            assert_eq!(
                settle(&mut record, Millis(101), &new_record(), &settle_of("a", 0, ending)),
                SettlementReply::Stale
            );
        }
        assert_eq!(
            settle(&mut record, Millis(101), &new_record(), &settle_of("a", 0, delivered())),
            SettlementReply::Recorded
        );
    }

    #[test]
    fn an_old_retry_does_not_bring_a_forgotten_record_back() {
        let mut record = None;
        assert_eq!(
            settle(&mut record, Millis(900), &new_record(), &settle_of("a", 0, retrying())),
            SettlementReply::Stale
        );
        assert_eq!(record, None);
        assert_eq!(
            settle(&mut record, Millis(899), &new_record(), &settle_of("a", 0, retrying())),
            SettlementReply::Recorded
        );
    }

    #[test]
    fn a_redrive_begins_anew() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        settle(&mut record, Millis(1), &new_record(), &settle_of("a", 0, failed()));
        assert_eq!(claim(&mut record, Millis(2), &claim_of("b", 0)), Grant::Done);
        assert_eq!(claim(&mut record, Millis(2), &claim_of("b", 1)), Grant::Granted);
        let record = record.unwrap();
        assert_eq!((record.status, record.details.attempts, record.error), (Status::Pending, 0, None));
    }

    #[test]
    fn another_body_under_the_same_id_touches_nothing() {
        let mut record = None;
        claim(&mut record, Millis(0), &claim_of("a", 0));
        let before = record.clone();
        let other = NewRecord { body_hash: "other".into(), ..new_record() };
        assert_eq!(
            claim(&mut record, Millis(9), &Claim { new_record: other.clone(), ..claim_of("b", 9) }),
            Grant::Foreign
        );
        assert_eq!(settle(&mut record, Millis(9), &other, &settle_of("b", 9, delivered())), SettlementReply::Foreign);
        assert_eq!(reserve(&mut record, Millis(9), &other), Reservation::Conflict);
        assert_eq!(record, before);
    }

    fn accepted(at: u64) -> NewRecord {
        NewRecord { accepted_at: Millis(at), ..new_record() }
    }

    fn claim_accepted(at: u64, token: &str, hop: u32) -> Claim {
        Claim { new_record: accepted(at), ..claim_of(token, hop) }
    }

    #[test]
    fn late_news_of_an_earlier_life_of_an_id_changes_nothing() {
        let mut record = None;
        claim(&mut record, Millis(200), &claim_accepted(200, "b", 0));
        settle(&mut record, Millis(201), &accepted(200), &settle_of("b", 0, retrying()));
        let before = record.clone();
        for ending in [failed(), retrying()] {
            let reply = settle(&mut record, Millis(300), &accepted(100), &settle_of("a", 1, ending));
            assert_eq!((reply, &record), (SettlementReply::Stale, &before));
        }
        assert_eq!(claim(&mut record, Millis(301), &claim_accepted(200, "c", 1)), Grant::Granted);
        let reply = settle(&mut record, Millis(302), &accepted(100), &settle_of("a", 1, delivered()));
        assert_eq!(reply, SettlementReply::Recorded, "a 2xx is a fact");
    }

    #[test]
    fn a_message_of_an_earlier_life_gives_way_to_one_that_is_queued() {
        let mut record = None;
        reserve(&mut record, Millis(200), &accepted(200));
        let before = record.clone();
        assert_eq!(claim(&mut record, Millis(201), &claim_accepted(100, "a", 1)), Grant::Granted, "it may be alone");
        record = before;
        confirm(&mut record, Millis(201), &accepted(200));
        assert_eq!(claim(&mut record, Millis(202), &claim_accepted(100, "a", 1)), Grant::Stale);
        assert_eq!(claim(&mut record, Millis(203), &claim_accepted(200, "b", 0)), Grant::Granted);
    }

    #[test]
    fn a_message_that_was_accepted_unseen_does_not_confirm_a_later_reservation() {
        let mut record = None;
        reserve(&mut record, Millis(200), &accepted(200));
        confirm(&mut record, Millis(201), &accepted(100));
        let grant = claim(&mut record, Millis(202), &claim_accepted(100, "a", 0));
        assert_eq!(grant, Grant::Granted, "the later message may never be queued");
    }

    #[test]
    fn a_record_of_an_earlier_life_does_not_stop_a_later_one() {
        for ending in [delivered(), failed(), retrying()] {
            let mut record = None;
            claim(&mut record, Millis(100), &claim_accepted(100, "a", 3));
            assert_eq!(
                claim(&mut record, Millis(150), &claim_accepted(140, "b", 0)),
                Grant::Busy(Duration::from_millis(50))
            );
            settle(&mut record, Millis(160), &accepted(100), &settle_of("a", 3, ending));
            assert_eq!(claim(&mut record, Millis(180), &claim_accepted(170, "b", 0)), Grant::Granted);
            let record = record.unwrap();
            assert_eq!((record.hop, record.details.accepted_at), (0, Millis(170)));
        }
    }

    #[test]
    fn late_news_that_is_no_2xx_does_not_stop_a_later_life() {
        for ending in [failed(), retrying()] {
            let mut record = None;
            settle(&mut record, Millis(160), &accepted(100), &settle_of("a", 3, ending));
            assert_eq!(claim(&mut record, Millis(170), &claim_accepted(150, "b", 0)), Grant::Granted);
            assert_eq!(record.unwrap().details.accepted_at, Millis(150));
        }
    }

    #[test]
    fn the_end_of_an_earlier_fan_out_does_not_end_a_later_life() {
        let fanned_out = |token: &str, hop| settle_of(token, hop, Ending::FannedOut { matched: 3, owed: 1 });
        let mut record = None;
        claim(&mut record, Millis(160), &claim_accepted(150, "b", 0));
        assert_eq!(settle(&mut record, Millis(170), &accepted(100), &fanned_out("a", 4)), SettlementReply::Stale);
        settle(&mut record, Millis(180), &accepted(150), &settle_of("b", 0, Ending::Continued { matched: 1, owed: 0 }));
        assert_eq!(claim(&mut record, Millis(190), &claim_accepted(150, "c", 1)), Grant::Granted);
        // Of its own life it is a fact, whoever reports it.
        assert_eq!(settle(&mut record, Millis(191), &accepted(150), &fanned_out("d", 0)), SettlementReply::Recorded);
    }

    #[test]
    fn a_request_that_was_repeated_unseen_is_delivered_once() {
        let mut record = None;
        claim(&mut record, Millis(160), &claim_accepted(100, "a", 0));
        let busy = Grant::Busy(Duration::from_millis(90));
        assert_eq!(claim(&mut record, Millis(170), &claim_accepted(150, "b", 0)), busy);
        settle(&mut record, Millis(180), &accepted(100), &settle_of("a", 0, delivered()));
        assert_eq!(claim(&mut record, Millis(190), &claim_accepted(150, "b", 0)), Grant::Done);
    }

    #[test]
    fn a_reservation_is_resumed_until_it_is_queued() {
        let mut record = None;
        let reserved = Reservation::Reserved { accepted_at: Millis(7) };
        assert_eq!(reserve(&mut record, Millis(7), &accepted(7)), reserved);
        assert_eq!(reserve(&mut record, Millis(8), &accepted(8)), reserved, "all of its messages say the same");
        record.as_mut().unwrap().details.accepted_at = Millis(0);
        assert_eq!(confirm(&mut record, Millis(2), &new_record()), Status::Pending);
        assert!(matches!(reserve(&mut record, Millis(3), &new_record()), Reservation::Known { .. }));
        assert!(!forget(&mut record, &new_record()), "a queued delivery is never forgotten");
    }

    #[test]
    fn a_claim_proves_that_the_message_was_queued() {
        let mut record = None;
        reserve(&mut record, Millis(0), &new_record());
        claim(&mut record, Millis(1), &claim_of("a", 0));
        assert!(matches!(reserve(&mut record, Millis(2), &new_record()), Reservation::Known { .. }));
        assert!(!forget(&mut record, &new_record()));
    }
}
