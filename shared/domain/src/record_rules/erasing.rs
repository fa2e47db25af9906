//! Erasing an event: its record becomes a mark that ends whatever was accepted before.

use crate::record::{ERASED, Erasure, NewRecord, Record};
use crate::status::Status;
use crate::time::Millis;

/// Makes the record of an event the mark of its erasure. Its hop is beyond any. The mark is
/// never earlier than what it erases, whatever the clocks say.
pub fn erase(record: &mut Option<Record>, now: Millis) -> Erasure {
    let found = record.take();
    let again = found.as_ref().is_some_and(Record::is_erased);
    let known = found.iter().flat_map(|found| [Some(found.details.accepted_at), found.erased]);
    let at = known.flatten().fold(now, Millis::max);
    let tenant = found.and_then(|found| found.details.tenant);
    let details = NewRecord { tenant, accepted_at: at, ..NewRecord::default() };
    *record = Some(Record {
        status: Status::Failed,
        hop: u32::MAX,
        error: Some(ERASED.to_owned()),
        erased: Some(at),
        ..Record::begun(&details, now)
    });
    Erasure { at, again }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::record::{Claim, Ending, Grant, Removal, Reservation, Settlement, SettlementReply};

    fn accepted(at: u64) -> NewRecord {
        NewRecord {
            tenant: Some("acme".into()),
            event_type: Some("paid".into()),
            body_hash: "h".into(),
            accepted_at: Millis(at),
            expires_at: Millis(9000),
            ..NewRecord::default()
        }
    }

    fn claim_of(at: u64, token: &str) -> Claim {
        Claim { token: token.into(), hop: 0, lease_ms: 100, new_record: accepted(at) }
    }

    fn settle_of(token: &str, ending: Ending) -> Settlement {
        Settlement { token: token.into(), hop: 7, ending, log: Some("[]".into()) }
    }

    fn endings() -> [Ending; 4] {
        [
            Ending::Delivered { attempts: 1, code: 200, duration_ms: 5 },
            Ending::FannedOut { matched: 3, owed: 1 },
            Ending::Failed { attempts: 1, code: None, class: None, error: "x".into(), duration_ms: None },
            Ending::Continued { matched: 1, owed: 1 },
        ]
    }

    fn erased_at(at: u64) -> Option<Record> {
        let mut record = None;
        claim(&mut record, Millis(100), &claim_of(100, "a"));
        erase(&mut record, Millis(at));
        record
    }

    #[test]
    fn nothing_but_the_tenant_is_left_of_an_erased_event() {
        let mut record = None;
        claim(&mut record, Millis(100), &claim_of(100, "a"));
        settle(&mut record, Millis(101), &accepted(100), &settle_of("a", Ending::Continued { matched: 1, owed: 1 }));
        assert_eq!(erase(&mut record, Millis(200)), Erasure { at: Millis(200), again: false });
        let record = record.unwrap();
        assert!(record.is_erased() && !record.is_shown());
        let tenant = Some("acme".to_owned());
        assert_eq!(record.details, NewRecord { tenant, accepted_at: Millis(200), ..NewRecord::default() });
        assert_eq!(
            (record.log, record.matched, record.owed, record.lease, record.settled),
            (None, None, None, None, None)
        );
    }

    #[test]
    fn an_event_without_a_record_is_marked_too() {
        let mut record = None;
        erase(&mut record, Millis(200));
        assert_eq!(claim(&mut record, Millis(201), &claim_of(200, "a")), Grant::Done);
    }

    #[test]
    fn a_second_erasure_moves_the_mark_and_never_back() {
        let mut record = erased_at(200);
        assert_eq!(erase(&mut record, Millis(300)), Erasure { at: Millis(300), again: true });
        assert_eq!(erase(&mut record, Millis(250)), Erasure { at: Millis(300), again: true });
        assert_eq!(claim(&mut record, Millis(301), &claim_of(300, "a")), Grant::Done);
    }

    #[test]
    fn an_event_is_erased_whose_acceptor_had_a_clock_that_was_ahead() {
        let mut record = None;
        claim(&mut record, Millis(100), &claim_of(150, "a"));
        assert_eq!(erase(&mut record, Millis(120)).at, Millis(150));
        assert_eq!(claim(&mut record, Millis(160), &claim_of(150, "b")), Grant::Done);
    }

    #[test]
    fn the_id_of_an_erased_event_cannot_be_used_again() {
        let mut record = erased_at(200);
        assert_eq!(reserve(&mut record, Millis(300), &accepted(300)), Reservation::Conflict);
    }

    #[test]
    fn nothing_that_was_accepted_before_the_mark_changes_it() {
        let mut record = erased_at(200);
        let before = record.clone();
        let other_body = NewRecord { body_hash: "other".into(), ..accepted(200) };
        for new_record in [accepted(100), other_body] {
            let claim_of = Claim { hop: u32::MAX, new_record: new_record.clone(), ..claim_of(100, "a") };
            assert_eq!(claim(&mut record, Millis(300), &claim_of), Grant::Done);
            for ending in endings() {
                let reply = settle(&mut record, Millis(300), &new_record, &settle_of("a", ending));
                assert_eq!(reply, SettlementReply::Stale);
            }
            assert_eq!(confirm(&mut record, Millis(300), &new_record), Status::Failed);
            assert_eq!(redrive(&mut record, Millis(300), &new_record, 9, Millis(400)), Status::Failed);
            assert!(!forget(&mut record, &new_record));
        }
        assert_eq!(remove(&mut record, Millis(300), Millis(999)), Removal::Kept);
        assert!(!abandon(&mut record, Millis(300), Millis(9999)));
        assert_eq!(record, before);
    }

    #[test]
    fn what_was_accepted_after_the_mark_is_not_lost() {
        let mut claimed = erased_at(200);
        assert_eq!(claim(&mut claimed, Millis(300), &claim_of(250, "b")), Grant::Granted);
        let mut confirmed = erased_at(200);
        assert_eq!(confirm(&mut confirmed, Millis(300), &accepted(250)), Status::Pending);
        let mut redriven = erased_at(200);
        assert_eq!(redrive(&mut redriven, Millis(300), &accepted(250), 1, Millis(400)), Status::Pending);
        let mut late = erased_at(200);
        settle(&mut late, Millis(300), &accepted(250), &settle_of("b", Ending::FannedOut { matched: 3, owed: 1 }));
        for record in [claimed, confirmed, redriven, late] {
            let record = record.unwrap();
            assert_eq!((record.details, record.error), (accepted(250), None));
            assert!(record.hop < u32::MAX);
        }
    }

    #[test]
    fn a_later_life_keeps_the_mark_for_what_still_waits_of_the_erased_one() {
        let mut record = erased_at(200);
        claim(&mut record, Millis(300), &claim_of(250, "b"));
        settle(&mut record, Millis(301), &accepted(250), &settle_of("b", Ending::Continued { matched: 1, owed: 1 }));
        let before = record.clone();
        assert_eq!(claim(&mut record, Millis(302), &claim_of(100, "a")), Grant::Done);
        let delivered = Ending::Delivered { attempts: 1, code: 200, duration_ms: 5 };
        let reply = settle(&mut record, Millis(303), &accepted(100), &settle_of("a", delivered));
        assert_eq!((reply, &record), (SettlementReply::Stale, &before));
        assert_eq!(remove(&mut record, Millis(304), Millis(999)), Removal::Kept);
        assert!(matches!(reserve(&mut record, Millis(305), &accepted(305)), Reservation::Known { .. }));
        claim(&mut record, Millis(400), &claim_of(350, "c"));
        assert_eq!(record.unwrap().erased, Some(Millis(200)), "in the life after that, too");
    }
}
