//! Late outcomes of earlier batches, recorded in the round trip of the claims; rows of history
//! that were refused, written after it.

use adapters::redis::marks::{AskedErased, ask_erased};
use adapters::redis::query::{Replies, Ticket, Trip, usable};
use adapters::redis::{breakers, records};
use domain::breaker::State;
use domain::history::Row;
use domain::identity::endpoint_of_delivery;
use domain::message::{LateOutcome, LateOutcomes, LateReport};
use domain::record::SettlementReply;
use domain::time::{Millis, whole_ms};

use crate::context::{Context, tell_change};
use crate::decision::Decision;

/// Late outcomes that are being recorded.
pub(crate) struct LateTickets {
    outcomes: Vec<(LateOutcome, Option<AskedErased>, Ticket<SettlementReply>)>,
    reports: Vec<(LateReport, Ticket<Option<State>>)>,
    /// Rows of history, each with the question whether its event was erased.
    rows: Vec<(Row, Option<AskedErased>)>,
    /// The message that they came in, without them.
    rest: LateOutcomes,
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
            // Records of events and jobs have no payload: only deliveries to endpoints are asked for.
            let event = endpoint_of_delivery(id).and(new_record.tenant.as_deref()).zip(id.split('.').next());
            let asked = event.map(|(tenant, event)| ask_erased(trip, tenant, event, new_record.accepted_at));
            (outcome, asked, ticket)
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
            let accepted_at = row.accepted_at().unwrap_or_default();
            let asked = row.event().map(|(tenant, event)| ask_erased(trip, tenant, event, accepted_at));
            (row, asked)
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
        for (outcome, asked, ticket) in self.outcomes {
            let accepted_at = outcome.new_record.accepted_at;
            let is_erased = asked.and_then(|asked| usable(asked.take(replies), &outcome.id)).unwrap_or(false);
            if is_erased {
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
        for (row, asked) in self.rows {
            match asked.map_or(Some(false), |asked| usable(asked.take(replies), &row.partition)) {
                // While Redis is away, nobody knows whether its event was erased.
                None => left.rows.push(row),
                Some(true) => {}
                Some(false) => rows.push(row),
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
