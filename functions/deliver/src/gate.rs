//! The breakers' part: who may call, and how calls went. A breaker that is closed
//! costs nothing here; only one that is not is asked for admission, in one more
//! round trip.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::breaker;
use adapters::metric;
use adapters::redis::{Call, Reply};
use domain::breaker::{Admission, Pass, State, next_reset_ms};
use domain::delivery::{Step, after_failed_probe};
use domain::outcome::{Attempted, Verdict, classify};
use domain::time::whole_ms;

use crate::finish::Finish;
use crate::intake::{answered, token};
use crate::{Batch, Deliver, Work};

/// How one call went, for its destination's breaker.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    destination: String,
    pass: Pass,
    verdict: Verdict,
}

impl Called {
    /// What the call of `work` says about its destination.
    pub(crate) fn of(work: &Work, attempted: &Attempted) -> Self {
        Self {
            destination: work.destination.clone(),
            pass: work.pass.clone().unwrap_or(Pass::Blind),
            verdict: classify(&attempted.answer).verdict(),
        }
    }
}

impl Deliver {
    /// Asks the breakers that are not closed. What is refused is parked.
    pub(crate) async fn admit(&self, works: Vec<Work>, batch: &mut Batch, finishes: &mut Vec<Finish>) -> Vec<Work> {
        let patience = (self.lease_ms(batch), whole_ms(self.attempt));
        let calls: Vec<Call> = works
            .iter()
            .filter(|work| work.pass.is_none())
            .map(|work| {
                let policy = self.breakers.of(&work.destination);
                breaker::admit(&work.destination, &work.message.id, &work.token, patience, &policy)
            })
            .collect();
        let mut replies = self.wave(&calls, batch).await.unwrap_or_default().into_iter();
        let mut admitted = Vec::with_capacity(works.len());
        for mut work in works {
            if work.pass.is_none() {
                let read = |reply: Reply| breaker::admitted(reply, &work.token);
                match answered(replies.next(), read, &work.destination) {
                    Some(Admission::Admitted(pass)) => {
                        if matches!(pass, Pass::Probe { .. }) {
                            metric::breaker_changed(State::HalfOpen);
                        }
                        work.pass = Some(pass);
                    }
                    Some(Admission::Refused { wait, first }) => {
                        finishes.push(self.park(work, wait, first));
                        continue;
                    }
                    None => work.pass = Some(Pass::Blind),
                }
            }
            admitted.push(work);
        }
        admitted
    }

    fn park(&self, work: Work, wait: Duration, first: bool) -> Finish {
        let now = self.clock.now();
        let wait = self.parking.wait(wait, first, work.message.parked, fastrand::f64());
        // At its deadline it comes back all the same, and expires.
        let due = now.after(wait).min(work.message.deadline);
        tracing::info!(
            correlation_id = %work.message.correlation_id,
            webhook_id = %work.message.id,
            destination = %work.destination,
            outcome = "parked",
            wait_ms = wait.as_millis(),
            "refused by an open circuit breaker"
        );
        Finish::parked(work, due)
    }

    /// The step after a call that was a probe and failed; `None` for any other call.
    pub(crate) fn after_probe(&self, work: &Work, attempted: &Attempted) -> Option<Step> {
        let Some(Pass::Probe { reset_ms, .. }) = &work.pass else { return None };
        match classify(&attempted.answer).verdict() {
            Verdict::Healthy | Verdict::Neutral => None,
            Verdict::Unhealthy | Verdict::Throttled => {
                let open_ms = next_reset_ms(*reset_ms, &self.breakers.of(&work.destination));
                let open = Duration::from_millis(open_ms);
                let wait = self.parking.wait(open, false, work.message.parked, fastrand::f64());
                Some(after_failed_probe(&work.message, attempted, self.clock.now(), wait))
            }
        }
    }

    /// The reports of calls, in the order in which they ended: one a destination and
    /// epoch, and one for each probe. The destinations that they may have changed.
    pub(crate) fn reports(&self, calls: &[Called]) -> (Vec<(String, Call)>, Vec<String>) {
        let mut regular: BTreeMap<(&str, u64), Vec<Verdict>> = BTreeMap::new();
        let mut reports = Vec::new();
        let mut touched = Vec::new();
        for Called { destination, pass, verdict } in calls {
            match pass {
                Pass::Regular { epoch } => regular.entry((destination, *epoch)).or_default().push(*verdict),
                Pass::Probe { epoch, token, .. } => {
                    let policy = self.breakers.of(destination);
                    let call = breaker::report_probe(destination, token, *epoch, *verdict, &policy);
                    reports.push((destination.clone(), call));
                    touched.push(destination.clone());
                }
                Pass::Blind => {}
            }
        }
        for ((destination, epoch), verdicts) in regular {
            let policy = self.breakers.of(destination);
            let call = breaker::report(destination, &token(), epoch, &verdicts, &policy);
            reports.push((destination.to_owned(), call));
            if verdicts.contains(&Verdict::Unhealthy) {
                touched.push(destination.to_owned());
            }
        }
        (reports, touched)
    }
}

/// Tells of a breaker that a report has changed.
pub(crate) fn tell(destination: &str, reply: Option<Reply>) {
    if let Some(Some(state)) = answered(reply, breaker::changed, destination) {
        metric::breaker_changed(state);
        match state {
            State::Open => tracing::warn!(%destination, to = state.as_str(), "circuit breaker opened"),
            State::Closed => tracing::warn!(%destination, to = state.as_str(), "circuit breaker closed"),
            State::HalfOpen => tracing::warn!(%destination, to = state.as_str(), "circuit breaker half-open"),
        }
    }
}
