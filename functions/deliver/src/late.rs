//! Late outcomes of earlier batches, recorded in the round trip of the claims.

use adapters::redis::query::{Replies, Ticket, Trip};
use adapters::redis::{breakers, records};
use domain::breaker::State;
use domain::message::{LateOutcome, LateOutcomes, LateReport};
use domain::record::SettlementReply;
use domain::time::{Millis, whole_ms};

use crate::context::{Context, tell_change, usable};
use crate::decision::Decision;

/// Late outcomes that are being recorded.
pub(crate) struct LateTickets {
    outcomes: Vec<(LateOutcome, Ticket<SettlementReply>)>,
    reports: Vec<(LateReport, Ticket<Option<State>>)>,
    /// The message that they came in, without them.
    rest: LateOutcomes,
}

impl LateTickets {
    /// Adds them to a round trip.
    pub(crate) fn begin(context: &Context, trip: &mut Trip, late: LateOutcomes, now: Millis) -> Self {
        let rest = late.emptied();
        let age = late.age(now);
        let LateOutcomes { outcomes, mut reports, .. } = late;
        // The breaker would have opened and tried again by now: old failures say nothing
        // about a receiver that has answered since.
        reports.retain(|report| whole_ms(age) < context.breakers.of(&report.breaker).reset_ms);
        let settle = |outcome: LateOutcome| {
            let LateOutcome { id, new_record, settlement } = &outcome;
            let ticket = trip.add(records::settle(id, new_record, settlement, context.lifetimes));
            (outcome, ticket)
        };
        let outcomes = outcomes.into_iter().map(settle).collect();
        let touched = reports.iter().filter(|report| report.may_open()).map(|report| report.breaker.as_str());
        drop(trip.add(breakers::enter(touched, now)));
        let report = |report: LateReport| {
            let ticket = trip.add(context.report(&report));
            (report, ticket)
        };
        let reports = reports.into_iter().map(report).collect();
        Self { outcomes, reports, rest }
    }

    /// What became of them. What Redis did not take is tried again until its deadline.
    pub(crate) fn end(self, replies: &mut Replies, now: Millis) -> Decision {
        let mut recorded = Box::new(self.rest.clone());
        let mut left = self.rest;
        for (outcome, ticket) in self.outcomes {
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
        if now >= left.deadline {
            for outcome in &left.outcomes {
                tracing::error!(webhook_id = %outcome.id, outcome = "unrecorded", "a late outcome was never recorded");
            }
            return Decision::Late { recorded, left: None };
        }
        let left = (!left.is_empty()).then(|| Box::new(left.delayed(now)));
        Decision::Late { recorded, left }
    }
}
