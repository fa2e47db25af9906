//! Late outcomes of earlier batches, recorded in the round trip of the claims; rows of history
//! that were refused, written after it.

use adapters::redis::query::{Replies, Ticket, Trip};
use adapters::redis::{breakers, marks, records, tenants};
use domain::breaker::State;
use domain::history::Row;
use domain::identity::event_record_id;
use domain::message::{LateOutcome, LateOutcomes, LateReport};
use domain::record::SettlementReply;
use domain::time::{Millis, whole_ms};

use crate::context::{Context, tell_change, usable};
use crate::decision::Decision;

/// The question whether an event was erased, alone or with its tenant.
type Marks = Vec<Ticket<Option<Millis>>>;

/// Late outcomes that are being recorded.
pub(crate) struct LateTickets {
    outcomes: Vec<(LateOutcome, Marks, Ticket<SettlementReply>)>,
    reports: Vec<(LateReport, Ticket<Option<State>>)>,
    /// Rows of history, each with the question whether its event was erased.
    rows: Vec<(Row, Marks)>,
    /// The message that they came in, without them.
    rest: LateOutcomes,
}

/// Asks whether an event was erased, alone or with its tenant.
fn ask_erased(trip: &mut Trip, (tenant, event): (&str, &str)) -> Marks {
    let queries = [marks::erased_at(&event_record_id(tenant, event)), tenants::erased_before(tenant)];
    queries.into_iter().map(|query| trip.add(query)).collect()
}

impl LateTickets {
    /// Adds them to a round trip.
    pub(crate) fn begin(context: &Context, trip: &mut Trip, late: LateOutcomes, now: Millis) -> Self {
        let rest = late.emptied();
        let age = late.age(now);
        let LateOutcomes { outcomes, mut reports, rows, .. } = late;
        // The breaker would have opened and tried again by now: old failures say nothing
        // about a receiver that has answered since.
        reports.retain(|report| whole_ms(age) < context.breakers.of(&report.breaker).reset_ms);
        let settle = |outcome: LateOutcome| {
            let LateOutcome { id, new_record, settlement } = &outcome;
            let ticket = trip.add(records::settle(id, new_record, settlement, context.lifetimes));
            let event = new_record.tenant.as_deref().zip(id.split('.').next());
            let marks = event.map(|event| ask_erased(trip, event)).unwrap_or_default();
            (outcome, marks, ticket)
        };
        let outcomes = outcomes.into_iter().map(settle).collect();
        let touched = reports.iter().filter(|report| report.may_open()).map(|report| report.breaker.as_str());
        drop(trip.add(breakers::enter(touched, now)));
        let report = |report: LateReport| {
            let ticket = trip.add(context.report(&report));
            (report, ticket)
        };
        let reports = reports.into_iter().map(report).collect();
        let ask = |row: Row| {
            let tickets = row.event().map(|event| ask_erased(trip, event)).unwrap_or_default();
            (row, tickets)
        };
        let rows = rows.into_iter().map(ask).collect();
        Self { outcomes, reports, rows, rest }
    }

    /// What became of them. What Redis or history did not take is tried again until its
    /// deadline.
    pub(crate) fn end(self, replies: &mut Replies, now: Millis) -> Decision {
        let mut recorded = Box::new(self.rest.clone());
        let mut erased = Vec::new();
        let mut left = self.rest;
        for (outcome, marks, ticket) in self.outcomes {
            let accepted_at = outcome.new_record.accepted_at;
            let mut marks = marks.into_iter().filter_map(|mark| usable(mark.take(replies), &outcome.id).flatten());
            if marks.any(|at| accepted_at <= at) {
                erased.push((outcome.id, accepted_at));
                continue;
            }
            match usable(ticket.take(replies), &outcome.id) {
                Some(SettlementReply::Recorded) => recorded.outcomes.push(outcome),
                Some(SettlementReply::Stale | SettlementReply::Foreign) => {}
                None => left.outcomes.push(outcome),
            }
        }
        for (report, ticket) in self.reports {
            match usable(ticket.take(replies), &report.breaker) {
                Some(Some(state)) => tell_change(&report.breaker, state),
                Some(None) => {}
                None => left.reports.push(report),
            }
        }
        let mut rows = Vec::new();
        for (row, tickets) in self.rows {
            let marks: Option<Vec<Option<Millis>>> =
                tickets.into_iter().map(|ticket| usable(ticket.take(replies), &row.partition)).collect();
            match marks {
                // While Redis is away, nobody knows whether its event was erased.
                None => left.rows.push(row),
                Some(marks) => {
                    let is_erased = marks.into_iter().flatten().any(|at| row.accepted_at() <= Some(at));
                    rows.extend((!is_erased).then_some(row));
                }
            }
        }
        if now >= left.deadline {
            for row in &left.rows {
                tracing::error!(partition = %row.partition, outcome = "unrecorded", "a row of history was never written");
            }
            for outcome in &left.outcomes {
                tracing::error!(webhook_id = %outcome.id, outcome = "unrecorded", "a late outcome was never recorded");
            }
            return Decision::Late { recorded, left: None, rows, erased };
        }
        let left = (!left.is_empty()).then(|| Box::new(left.delayed(now)));
        Decision::Late { recorded, left, rows, erased }
    }
}
