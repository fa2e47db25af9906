//! The way in: reading a batch's messages and claiming their deliveries, in one
//! Redis round trip.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::breaker;
use adapters::heartbeat;
use adapters::ledger::{self, LedgerError};
use adapters::redis::{Call, Reply};
use adapters::sqs::Lane;
use domain::breaker::Pass;
use domain::ledger::{Claim, Grant, Settled};
use domain::message::{Envelope, Report};
use domain::time::whole_ms;

use crate::finish::Finish;
use crate::{Batch, Deliver, Received, Work};

/// A lease outlives its holder by this much.
const GRACE: Duration = Duration::from_secs(1);

/// What a batch holds after reading.
pub(crate) struct Taken {
    works: Vec<Work>,
    reports: Vec<(usize, Report)>,
}

impl Deliver {
    /// Reads each record by itself. What is not due yet, and what cannot be read,
    /// is finished with here.
    pub(crate) fn take_in(&self, records: &[Received], batch: &mut Batch, finishes: &mut Vec<Finish>) -> Taken {
        let now = self.clock.now();
        let mut taken = Taken { works: Vec::new(), reports: Vec::new() };
        for (record, received) in records.iter().enumerate() {
            match Envelope::decode(&received.body) {
                // While versions change, old and new consumers run side by side.
                Err(why) if why.is_from_the_future() => {
                    tracing::warn!(message_id = %received.message_id, error = %why, outcome = "left", "left for a newer consumer");
                    batch.failed.insert(record);
                }
                Err(why) => {
                    tracing::error!(message_id = %received.message_id, error = %why, outcome = "malformed", "unreadable message");
                    finishes.push(Finish::malformed(record, &received.body, &why));
                }
                Ok(Envelope::Deliver(message)) if message.not_before > now => {
                    finishes.push(Finish::not_yet(record, message));
                }
                Ok(Envelope::Deliver(message)) => {
                    taken.works.push(Work {
                        record,
                        token: token(),
                        destination: message.destination().map(|to| to.as_str().to_owned()).unwrap_or_default(),
                        message: *message,
                        claimed: false,
                        pass: None,
                    });
                }
                Ok(Envelope::Outcome(report)) if report.not_before > now => {
                    finishes.push(Finish::report_again(record, *report));
                }
                Ok(Envelope::Outcome(report)) => taken.reports.push((record, *report)),
            }
        }
        taken
    }

    /// Claims every delivery and records every report at once. Without Redis, a
    /// delivery is granted: its attempts are counted in the message.
    pub(crate) async fn claim(
        &self,
        taken: Taken,
        batch: &mut Batch,
        finishes: &mut Vec<Finish>,
    ) -> Vec<(Work, Grant)> {
        let Taken { works, reports } = taken;
        let now = self.clock.now();
        let lease_ms = self.lease_ms(batch);
        let mut calls: Vec<Call> = Vec::with_capacity(works.len() + reports.len());
        for work in &works {
            let Work { token, message, .. } = work;
            let claim = Claim { token: token.clone(), hop: message.hop, lease_ms, birth: message.birth() };
            calls.push(ledger::claim(&message.id, &claim, self.lifetimes));
        }
        for (_, report) in &reports {
            calls.push(ledger::settle(&report.id, &report.birth, &report.settlement, self.lifetimes));
        }
        let destinations: BTreeSet<String> = works.iter().map(|work| work.destination.clone()).collect();
        calls.extend(destinations.iter().map(|destination| breaker::look(destination)));
        if !calls.is_empty() {
            calls.push(heartbeat::beat("deliver", now));
        }
        let mut replies = self.wave(&calls, batch).await.unwrap_or_default().into_iter();

        let mut claimed = Vec::with_capacity(works.len());
        for mut work in works {
            let grant = answered(replies.next(), ledger::granted, &work.message.id);
            work.claimed = grant.is_some();
            claimed.push((work, grant.unwrap_or(Grant::Granted)));
        }
        for (record, report) in reports {
            match answered(replies.next(), ledger::settled, &report.id) {
                Some(Settled::Recorded) => finishes.push(Finish::reported(record, report)),
                Some(Settled::Stale | Settled::Foreign) => {}
                None if now >= report.deadline => {
                    tracing::error!(webhook_id = %report.id, outcome = "unrecorded", "an outcome was never recorded");
                }
                None => finishes.push(Finish::report_again(record, report.delayed(now))),
            }
        }
        for destination in &destinations {
            // A breaker that cannot be read is closed.
            let pass = match answered(replies.next(), breaker::closed_epoch, destination) {
                Some(Some(epoch)) => Some(Pass::Regular { epoch }),
                Some(None) => None,
                None => Some(Pass::Blind),
            };
            for (work, _) in claimed.iter_mut().filter(|(work, _)| work.destination == *destination) {
                work.pass.clone_from(&pass);
            }
        }
        claimed
    }

    /// How long whoever asks now can live, in ms.
    pub(crate) fn lease_ms(&self, batch: &Batch) -> u64 {
        whole_ms(self.clock.now().until(batch.ends_at) + GRACE)
    }

    /// One round trip, unless Redis has failed this batch before.
    pub(crate) async fn wave(&self, calls: &[Call], batch: &mut Batch) -> Option<Vec<Reply>> {
        if !batch.redis_is_up || calls.is_empty() {
            return None;
        }
        match self.redis.wave(calls).await {
            Ok(replies) => Some(replies),
            Err(error) => {
                tracing::error!(code = error.code(), error = ?error, "redis is away; delivering goes on without it");
                batch.redis_is_up = false;
                None
            }
        }
    }
}

/// Reads an answer; `None` when there is none that can be used.
pub(crate) fn answered<T>(reply: Option<Reply>, read: impl Fn(Reply) -> Result<T, LedgerError>, id: &str) -> Option<T> {
    match read(reply?) {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::error!(webhook_id = %id, code = error.code(), error = ?error, "redis did not do its part");
            None
        }
    }
}

/// Where a report waits for Redis.
pub(crate) const REPORT_LANE: Lane = Lane::Retry;

/// A fresh token: 64 random bits in hex.
pub(crate) fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}
