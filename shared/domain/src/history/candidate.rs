//! A delivery that a replay may make: what history and its records say of it, and whether it
//! is to be made.

use std::collections::BTreeSet;

use super::delivery::EndedDelivery;
use super::event::{KeptEvent, ListedEvent};
use super::names;
use super::replay::{ReplayCounts, ReplayKind, ReplayRequest};
use crate::identity::delivery_id;
use crate::record::Record;
use crate::status::Status;
use crate::time::Millis;

/// What becomes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it so far.
    Open,
    /// It is not wanted: its receiver has it, it is under way, or nobody asked for it.
    Skipped,
    /// This replay has queued it already.
    Queued,
    /// It is wanted, and cannot be sent.
    Unsendable,
    /// It is to be sent.
    Wanted,
}

/// An event's delivery to the endpoint of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its event's place in a list of events.
    pub place: String,
    /// Its event.
    pub event_id: String,
    /// When that was accepted.
    pub accepted_at: Millis,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The lives whose records are asked; `None` is the first one.
    lives: BTreeSet<Option<String>>,
}

impl Candidate {
    /// A delivery whose lives ended as these rows of one event say. `None` without a row.
    pub fn ended(ends: &[EndedDelivery], request: &ReplayRequest, replay: &str) -> Option<Self> {
        let (first, target) = ends.iter().find_map(|end| Some((end, end.target.as_ref()?)))?;
        let lives = ends.iter().filter_map(|end| end.target.as_ref()).map(|target| target.life.clone());
        let mut lives: BTreeSet<Option<String>> = lives.collect();
        let own = Some(replay.to_owned());
        let verdict = if lives.contains(&own) {
            Verdict::Queued
        } else if ends.iter().any(EndedDelivery::is_delivered)
            || !request.has_type(first.event_type.as_deref().unwrap_or_default())
        {
            Verdict::Skipped
        } else {
            Verdict::Open
        };
        lives.extend([None, own]);
        let (event_id, accepted_at) = (target.event_id.clone(), first.accepted_at);
        Some(Self { place: names::listed(accepted_at, &event_id), event_id, accepted_at, verdict, lives })
    }

    /// The delivery of an event, of which history has a row if `is_known`.
    pub fn listed(event: &ListedEvent, is_wanted: bool, is_known: bool) -> Self {
        Self {
            place: names::listed(event.accepted_at, &event.event_id),
            event_id: event.event_id.clone(),
            accepted_at: event.accepted_at,
            verdict: if is_wanted && !is_known { Verdict::Open } else { Verdict::Skipped },
            lives: BTreeSet::from([None]),
        }
    }

    /// Whether it is to be looked at further.
    pub fn is_open(&self) -> bool {
        self.verdict == Verdict::Open
    }

    /// Its lives that records may tell of: those that history knows, the first one, and those
    /// of `earlier` replays. History does not know of one that has not ended. Each with its
    /// record's name.
    pub fn records(&self, endpoint: &str, what: ReplayKind, earlier: &[String]) -> Vec<(Option<String>, String)> {
        let mut lives: BTreeSet<Option<&str>> = self.lives.iter().map(Option::as_deref).collect();
        match what {
            ReplayKind::Failed => lives.extend(earlier.iter().map(|life| Some(life.as_str()))),
            ReplayKind::Missing => {}
        }
        let named = |life: Option<&str>| (life.map(str::to_owned), delivery_id(&self.event_id, endpoint, life));
        lives.into_iter().map(named).collect()
    }

    /// Takes into account what the record of a life says. One of an event that had the same id
    /// at another time says nothing.
    pub fn hear(&mut self, life: Option<&str>, record: &Record, what: ReplayKind, replay: &str) {
        let accepted_at = record.details.accepted_at;
        let verdict = match what {
            // An id that was used again later belongs to that event.
            ReplayKind::Missing if accepted_at > self.accepted_at => Verdict::Unsendable,
            ReplayKind::Missing if accepted_at == self.accepted_at => Verdict::Skipped,
            ReplayKind::Failed if accepted_at == self.accepted_at => match record.status {
                _ if life == Some(replay) => Verdict::Queued,
                Status::Pending | Status::Retrying | Status::Delivered => Verdict::Skipped,
                Status::Failed => return,
            },
            ReplayKind::Missing | ReplayKind::Failed => return,
        };
        // What this replay has queued is counted, whatever became of it.
        if self.verdict != Verdict::Queued {
            self.verdict = verdict;
        }
    }

    /// Takes into account what is kept of its event. `wants` says whether the endpoint wants it
    /// now.
    pub fn judge(
        &mut self,
        kept: Option<&KeptEvent>,
        wants: impl FnOnce(&KeptEvent) -> bool,
        what: ReplayKind,
        now: Millis,
    ) {
        if !self.is_open() {
            return;
        }
        self.verdict = match (kept.filter(|kept| kept.payload.is_some()), what) {
            (None, _) => Verdict::Unsendable,
            // Later lives do not expire with their event.
            (Some(_), ReplayKind::Failed) => Verdict::Wanted,
            (Some(kept), ReplayKind::Missing) if !wants(kept) => Verdict::Skipped,
            (Some(kept), ReplayKind::Missing) if kept.expires_at.is_some_and(|at| at <= now) => Verdict::Unsendable,
            (Some(_), ReplayKind::Missing) => Verdict::Wanted,
        };
    }

    /// Counts it. What is wanted is queued, unless the replay only counts.
    pub fn count(&self, counts: &mut ReplayCounts, dry_run: bool) {
        let (is_matched, is_queued, is_unsendable) = match self.verdict {
            Verdict::Open | Verdict::Skipped => (false, false, false),
            Verdict::Unsendable => (true, false, true),
            Verdict::Queued => (true, true, false),
            Verdict::Wanted => (true, !dry_run, false),
        };
        counts.examined += 1;
        counts.matched += u64::from(is_matched);
        counts.queued += u64::from(is_queued);
        counts.unsendable += u64::from(is_unsendable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, EndpointTarget};
    use crate::event::Event;
    use crate::history::delivery::DeliveryEnd;
    use crate::message::{History, Message};
    use crate::reason::Reason;
    use crate::record::NewRecord;
    use crate::record_rules;

    const FAILED: DeliveryEnd = DeliveryEnd::GivenUp(Reason::RetriesExhausted);

    fn end(life: Option<&str>, result: DeliveryEnd) -> EndedDelivery {
        let target = EndpointTarget {
            event_id: "e".into(),
            endpoint: "ep_1".into(),
            life: life.map(str::to_owned),
            ..EndpointTarget::default()
        };
        let delivery = Delivery {
            endpoint: Some(target),
            event_type: Some("order.paid".into()),
            accepted_at: Millis(5),
            ..Delivery::default()
        };
        let message = Message { delivery, ..Message::default() };
        EndedDelivery::of(&message, 1, History::default(), result, None, Millis(9)).unwrap()
    }

    fn request(event_types: &[&str]) -> ReplayRequest {
        ReplayRequest {
            endpoint: "ep_1".into(),
            what: ReplayKind::Failed,
            since: Millis(0),
            until: Millis(9),
            event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
            per_second: 1,
            dry_run: false,
        }
    }

    fn verdict(ends: &[EndedDelivery]) -> Verdict {
        Candidate::ended(ends, &request(&[]), "rp_1").unwrap().verdict
    }

    fn record(status: Status, accepted_at: u64) -> Record {
        let mut record = None;
        record_rules::reserve(
            &mut record,
            Millis(7),
            &NewRecord { accepted_at: Millis(accepted_at), ..NewRecord::default() },
        );
        Record { status, ..record.unwrap() }
    }

    #[test]
    fn the_best_result_of_all_lives_counts() {
        let delivered = DeliveryEnd::Delivered;
        assert_eq!(verdict(&[end(None, FAILED)]), Verdict::Open);
        assert_eq!(verdict(&[end(None, FAILED), end(Some("rs_1"), FAILED)]), Verdict::Open);
        assert_eq!(verdict(&[end(None, FAILED), end(Some("rs_1"), delivered)]), Verdict::Skipped);
        assert_eq!(verdict(&[end(None, delivered), end(None, FAILED)]), Verdict::Skipped);
        assert_eq!(verdict(&[end(None, FAILED), end(Some("rp_1"), FAILED)]), Verdict::Queued);
        assert_eq!(Candidate::ended(&[], &request(&[]), "rp_1"), None);
        let other = Candidate::ended(&[end(None, FAILED)], &request(&["user.*"]), "rp_1").unwrap();
        assert_eq!((other.verdict, other.place.as_str()), (Verdict::Skipped, "0000000000000005#e"));
    }

    #[test]
    fn the_records_of_all_lives_are_asked() {
        let some = Candidate::ended(&[end(Some("rs_1"), FAILED)], &request(&[]), "rp_1").unwrap();
        let records = some.records("ep_1", ReplayKind::Failed, &["rp_0".into()]);
        let ids: Vec<String> = records.into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, ["e.ep_1", "e.ep_1.rp_0", "e.ep_1.rp_1", "e.ep_1.rs_1"]);
    }

    #[test]
    fn what_is_under_way_or_delivered_is_not_sent_again() {
        let heard = |life, status, accepted_at| {
            let mut some = Candidate::ended(&[end(None, FAILED)], &request(&[]), "rp_1").unwrap();
            some.hear(life, &record(status, accepted_at), ReplayKind::Failed, "rp_1");
            some.verdict
        };
        assert_eq!(heard(None, Status::Failed, 5), Verdict::Open);
        for status in [Status::Pending, Status::Retrying, Status::Delivered] {
            assert_eq!(heard(Some("rs_1"), status, 5), Verdict::Skipped);
            assert_eq!(heard(None, status, 4), Verdict::Open, "another event of this id");
        }
        assert_eq!(heard(Some("rp_1"), Status::Failed, 5), Verdict::Queued);
    }

    #[test]
    fn what_a_record_knows_is_not_missing() {
        let heard = |accepted_at| {
            let event = ListedEvent { event_id: "e".into(), event_type: "a".into(), accepted_at: Millis(5) };
            let mut some = Candidate::listed(&event, true, false);
            some.hear(None, &record(Status::Failed, accepted_at), ReplayKind::Missing, "rp_1");
            some.verdict
        };
        assert_eq!([heard(4), heard(5), heard(6)], [Verdict::Open, Verdict::Skipped, Verdict::Unsendable]);
    }

    #[test]
    fn what_is_erased_or_has_expired_cannot_be_sent() {
        let event = Event { payload: "1".into(), expires_at: Some(Millis(7)), ..Event::default() };
        let kept = KeptEvent::of(&event).unwrap();
        let judged = |what, kept: Option<&KeptEvent>, wanted, now| {
            let event = ListedEvent { event_id: "e".into(), event_type: "a".into(), accepted_at: Millis(5) };
            let mut some = Candidate::listed(&event, true, false);
            some.judge(kept, |_| wanted, what, Millis(now));
            some.verdict
        };
        assert_eq!(judged(ReplayKind::Missing, Some(&kept), true, 6), Verdict::Wanted);
        assert_eq!(judged(ReplayKind::Missing, Some(&kept), false, 6), Verdict::Skipped);
        assert_eq!(judged(ReplayKind::Missing, Some(&kept), true, 7), Verdict::Unsendable);
        assert_eq!(judged(ReplayKind::Failed, Some(&kept), false, 7), Verdict::Wanted);
        assert_eq!(judged(ReplayKind::Failed, None, true, 7), Verdict::Unsendable);
        assert_eq!(judged(ReplayKind::Failed, Some(&kept.erased(Millis(1))), true, 7), Verdict::Unsendable);
    }

    #[test]
    fn a_dry_run_counts_and_queues_nothing() {
        let mut counts = ReplayCounts::default();
        let event = ListedEvent { event_id: "e".into(), event_type: "a".into(), accepted_at: Millis(5) };
        let mut some = Candidate::listed(&event, true, false);
        for verdict in [Verdict::Skipped, Verdict::Unsendable, Verdict::Wanted] {
            some.verdict = verdict;
            some.count(&mut counts, true);
        }
        assert_eq!(counts, ReplayCounts { examined: 3, matched: 2, queued: 0, unsendable: 1 });
        some.count(&mut counts, false);
        assert_eq!(counts, ReplayCounts { examined: 4, matched: 3, queued: 1, unsendable: 1 });
    }
}
