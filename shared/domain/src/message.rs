//! What a queue carries: a delivery or an event with everything needed to finish it.
//! `json` is its form as text.

mod event;
mod job;
pub mod json;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::Delivery;
use crate::event::EventPage;
use crate::history::Row;
use crate::job::JobPage;
use crate::outcome::{ErrorClass, HealthSignal};
use crate::record::{NewRecord, Settlement};
use crate::time::Millis;
use crate::webhook::MAX_LIFE;

/// How many attempts a history keeps of its beginning, and of its end.
const KEPT: usize = 10;
/// The longest text kept of one attempt's error, and of its answer, in characters.
const MAX_ERROR: usize = 200;
/// The longest wait of a late outcome between two tries. It is far shorter than the life of
/// a delivered record, so that a duplicate of it still meets that record.
const LATE_OUTCOME_CAP: Duration = Duration::from_secs(300);
/// The bytes of rows that one message carries. An event of the largest size is one row.
const MAX_ROWS: usize = 700_000;
/// How many outcomes, and how many rows, one message carries. With the longest of histories they
/// are far below what a queue takes.
const MOST_ITEMS: usize = 10;
/// How many reports one message carries: two breakers watch over a delivery.
const MOST_REPORTS: usize = 2 * MOST_ITEMS;

/// A delivery under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What is delivered.
    pub delivery: Delivery,
    /// Failed attempts so far.
    pub attempts: u8,
    /// Grows by one with every successor.
    pub hop: u32,
    /// How often it waited for a breaker or a card.
    pub parked: u32,
    /// Not to be attempted earlier.
    pub not_before: Millis,
    /// The attempts so far.
    pub history: History,
    /// How many of them were made before the present budget began: before the delivery was owed.
    pub earlier: u32,
}

/// What a queue delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A delivery to make.
    Deliver(Box<Message>),
    /// A page of an event's fan-out.
    Event(Box<EventPage>),
    /// A page of a job.
    Job(Box<JobPage>),
    /// What could not be recorded, to be recorded later.
    LateOutcomes(Box<LateOutcomes>),
}

/// What one batch could not tell Redis or history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateOutcomes {
    /// What happened to deliveries.
    pub outcomes: Vec<LateOutcome>,
    /// How calls went, for circuit breakers.
    pub reports: Vec<LateReport>,
    /// Rows that history did not take.
    pub rows: Vec<Row>,
    /// When it is no longer worth recording.
    pub deadline: Millis,
    /// How often it was queued.
    pub hop: u32,
    /// Not to be tried earlier.
    pub not_before: Millis,
}

/// What happened to one delivery while Redis was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateOutcome {
    /// What its record is named by.
    pub id: String,
    /// The delivery as it was accepted, in case its record is lost.
    pub new_record: NewRecord,
    /// What happened.
    pub settlement: Settlement,
}

/// How calls went that began in one epoch of a circuit breaker. It counts only in that
/// epoch, and no later than the breaker's first pause would have lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateReport {
    /// The breaker's name.
    pub breaker: String,
    /// Fresh for every report of regular calls; the probe's own for a probe.
    pub token: String,
    /// The epoch in which the calls began.
    pub epoch: u64,
    /// How they went.
    pub calls: ReportedCalls,
}

/// How calls went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedCalls {
    /// Regular calls, in the order in which they ended.
    Regular(Vec<HealthSignal>),
    /// The probe.
    Probe(HealthSignal),
}

impl LateReport {
    /// Whether it may change the breaker in a way that lists should show.
    pub fn may_open(&self) -> bool {
        match &self.calls {
            ReportedCalls::Regular(signals) => signals.contains(&HealthSignal::Unhealthy),
            ReportedCalls::Probe(_) => true,
        }
    }
}

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When it began.
    pub at: Millis,
    /// The status code, if an answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The class of its failure; absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What went wrong, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer. It is only kept of endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// The attempts of a delivery: all of them, or the first and last ten and how
/// many there were, so that a message never outgrows its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How many attempts ended.
    pub count: u32,
    /// Those that are kept, oldest first.
    pub attempts: Vec<Attempt>,
}

impl History {
    /// Adds an attempt.
    pub fn push(&mut self, mut attempt: Attempt) {
        for text in [&mut attempt.error, &mut attempt.answer].into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(MAX_ERROR) {
                text.truncate(end);
            }
        }
        if self.attempts.len() >= 2 * KEPT {
            self.attempts.remove(KEPT);
        }
        self.attempts.push(attempt);
        self.count += 1;
    }
}

impl Message {
    /// The delivery as its record begins.
    pub fn new_record(&self) -> NewRecord {
        let Delivery { event_type, correlation_id, body_hash, accepted_at, deadline, .. } = &self.delivery;
        let (tenant, url) = match &self.delivery.endpoint {
            None => (None, &self.delivery.url),
            Some(target) => (Some(target.tenant.clone()), &target.origin),
        };
        NewRecord {
            tenant,
            url: url.clone(),
            correlation_id: correlation_id.clone(),
            event_type: event_type.clone(),
            body_hash: body_hash.clone(),
            accepted_at: *accepted_at,
            expires_at: *deadline,
            attempts: u32::from(self.attempts),
        }
    }

    /// The tenant of a delivery to an endpoint.
    pub fn tenant(&self) -> Option<&str> {
        self.delivery.endpoint.as_ref().map(|target| target.tenant.as_str())
    }

    /// The next message of this delivery after its claim ended without a call.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn successor(&self, due: Millis) -> Self {
        Self { hop: self.hop + 1, not_before: due, ..self.clone() }
    }

    /// The next message of this delivery after a failed attempt, due at `due`.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn retried(&self, attempt: Attempt, due: Millis) -> Self {
        let mut next = self.successor(due);
        next.attempts += 1;
        next.history.push(attempt);
        next
    }

    /// The next message of this delivery after an open breaker refused it.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn parked(&self, due: Millis) -> Self {
        Self { parked: self.parked.saturating_add(1), ..self.successor(due) }
    }

    /// The next message of this delivery after it was a probe that failed. The history
    /// has the attempt; the retry budget counts it if it `spends` one.
    #[must_use = "a successor that is not sent loses the delivery"]
    pub fn probed(&self, attempt: Attempt, spends: bool, due: Millis) -> Self {
        let mut next = self.parked(due);
        next.attempts = next.attempts.saturating_add(u8::from(spends));
        next.history.push(attempt);
        next
    }

    /// How many attempts it had since its budget began, with a probe that spent none.
    pub fn calls(&self) -> u32 {
        self.history.count.saturating_sub(self.earlier)
    }

    /// Whether it was a probe before that failed and spent no attempt: then it had more
    /// attempts than the budget counts.
    pub fn has_probed(&self) -> bool {
        self.calls() > u32::from(self.attempts)
    }

    /// The message that makes this delivery again: the next hop with a fresh budget, the same
    /// id and the same bytes. Its history goes on, since the delivery did not end.
    #[must_use = "a message that is not sent loses the delivery"]
    pub fn begun_again(&self, due: Millis, deadline: Millis) -> Self {
        let delivery = Delivery { deadline, ..self.delivery.clone() };
        let (history, earlier) = (self.history.clone(), self.history.count);
        Self { delivery, hop: self.hop + 1, not_before: due, history, earlier, ..Self::default() }
    }

    /// When it is to be worked on: an instant beyond the deadline is the deadline, where it
    /// expires.
    pub fn due(&self) -> Millis {
        self.not_before.min(self.delivery.deadline)
    }
}

impl LateOutcomes {
    /// A message with nothing in it yet, to be tried for seven days from `now`.
    pub fn empty(now: Millis) -> Self {
        let deadline = now.after(MAX_LIFE);
        Self { outcomes: Vec::new(), reports: Vec::new(), rows: Vec::new(), deadline, hop: 0, not_before: now }
    }

    /// What a batch could not tell Redis at `now`, in as many messages as it needs. Each is
    /// small, so that what a later batch records grows with its messages alone.
    pub fn of_batch(outcomes: Vec<LateOutcome>, reports: Vec<LateReport>, now: Millis) -> Vec<Self> {
        let count = outcomes.len().div_ceil(MOST_ITEMS).max(reports.len().div_ceil(MOST_REPORTS));
        let (mut outcomes, mut reports) = (outcomes.into_iter(), reports.into_iter());
        let message = |_| Self {
            outcomes: outcomes.by_ref().take(MOST_ITEMS).collect(),
            reports: reports.by_ref().take(MOST_REPORTS).collect(),
            ..Self::empty(now)
        };
        (0..count).map(message).collect()
    }

    /// Rows that history did not take at `now`, in as many messages as they need.
    pub fn of_rows(rows: Vec<Row>, now: Millis) -> Vec<Self> {
        let mut messages: Vec<Self> = Vec::new();
        let mut room = 0;
        for row in rows {
            let bytes = row.written_len();
            match messages.last_mut().filter(|last| bytes <= room && last.rows.len() < MOST_ITEMS) {
                Some(last) => {
                    room -= bytes;
                    last.rows.push(row);
                }
                None => {
                    room = MAX_ROWS.saturating_sub(bytes);
                    messages.push(Self { rows: vec![row], ..Self::empty(now) });
                }
            }
        }
        messages
    }

    /// The same message without what is in it.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { outcomes: Vec::new(), reports: Vec::new(), rows: Vec::new(), ..*self }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.reports.is_empty() && self.rows.is_empty()
    }

    /// How long ago it happened.
    pub fn age(&self, now: Millis) -> Duration {
        MAX_LIFE.saturating_sub(now.until(self.deadline))
    }

    /// The next message of these outcomes. Its wait grows with every one: 15 s, doubled
    /// up to 5 minutes.
    #[must_use = "an outcome that is not sent leaves its status untrue"]
    pub fn delayed(self, now: Millis) -> Self {
        let wait = Duration::from_secs(15 << self.hop.min(6)).min(LATE_OUTCOME_CAP);
        Self { hop: self.hop.saturating_add(1), not_before: now.after(wait), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ending;

    fn attempt(at: u64) -> Attempt {
        Attempt {
            at: Millis(at),
            code: Some(500),
            class: Some(ErrorClass::ServerError),
            ms: 7,
            error: None,
            answer: None,
        }
    }

    #[test]
    fn a_history_keeps_its_ends_and_its_count() {
        let mut history = History::default();
        (0..50).for_each(|at| history.push(attempt(at)));
        let kept: Vec<_> = history.attempts.iter().map(|a| a.at.0).collect();
        assert_eq!(history.count, 50);
        assert_eq!(kept, (0..10).chain(40..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let mut history = History::default();
        history.push(Attempt { error: Some("é".repeat(500)), ..attempt(0) });
        assert_eq!(history.attempts[0].error.as_ref().unwrap().chars().count(), MAX_ERROR);
    }

    #[test]
    fn rows_are_spread_over_messages_that_fit() {
        let row = |bytes: usize| Row {
            partition: "D#a".into(),
            place: "1".into(),
            body: "\"".repeat(bytes),
            kept_until: Millis(1),
            by_event: None,
        };
        let messages = LateOutcomes::of_rows(vec![row(10), row(300_000), row(300_000), row(10), row(10)], Millis(0));
        assert_eq!(messages.iter().map(|late| late.rows.len()).collect::<Vec<_>>(), [2, 3]);
        assert!(messages.iter().all(|late| late.encode().unwrap().len() < 1_000_000));
    }

    #[test]
    fn the_outcomes_of_a_large_batch_are_split_over_messages() {
        let outcome = |n: usize| LateOutcome {
            id: n.to_string(),
            new_record: NewRecord::default(),
            settlement: Settlement { token: String::new(), hop: 0, ending: Ending::Released, log: None },
        };
        let report = |n: usize| LateReport {
            breaker: n.to_string(),
            token: String::new(),
            epoch: 0,
            calls: ReportedCalls::Regular(Vec::new()),
        };
        let split = |outcomes: usize, reports: usize| {
            let reports = (0..reports).map(report).collect();
            let messages = LateOutcomes::of_batch((0..outcomes).map(outcome).collect(), reports, Millis(0));
            let outcomes = messages.iter().flat_map(|late| &late.outcomes).map(|outcome| outcome.id.parse::<usize>());
            assert!(outcomes.map(Result::unwrap).eq(0..messages.iter().map(|late| late.outcomes.len()).sum()));
            messages.iter().map(|late| (late.outcomes.len(), late.reports.len())).collect::<Vec<_>>()
        };
        assert_eq!(split(0, 0), []);
        assert_eq!(split(10, 20), [(10, 20)]);
        assert_eq!(split(25, 3), [(10, 3), (10, 0), (5, 0)]);
        assert_eq!(split(1, 21), [(1, 20), (0, 1)]);
    }

    #[test]
    fn successors_grow_by_one_hop_and_only_failures_cost_an_attempt() {
        let before = Message { attempts: 1, hop: 2, ..Message::default() };
        let retried = before.retried(attempt(5), Millis(100));
        assert_eq!((retried.hop, retried.attempts, retried.not_before), (3, 2, Millis(100)));
        assert_eq!(retried.history.count, 1);
        let waited = before.successor(Millis(200));
        assert_eq!((waited.hop, waited.attempts, waited.history.count), (3, 1, 0));
        let again = retried.begun_again(Millis(300), Millis(900));
        assert_eq!((again.hop, again.attempts, again.history.count, again.calls()), (4, 0, 1, 0));
        assert!(!again.has_probed(), "its first failed probe is free again");
        let probed = again.probed(attempt(6), false, Millis(400));
        assert!((probed.history.count, probed.calls()) == (2, 1) && probed.has_probed());
        assert_eq!((again.not_before, again.delivery.deadline), (Millis(300), Millis(900)));
    }
}
