//! One delivery's next step after an attempt: the funnel in which the answer,
//! the retry budget and the deadline meet.

use std::time::Duration;

use crate::message::{Attempt, Message};

use crate::outcome::{Attempted, Disposition, HealthSignal, Outcome, Pace};
use crate::reason::Reason;
use crate::record::{Ending, short_error};
use crate::retry::{RETRY_AFTER_CAP, RetryPolicy};
use crate::schedule::RetrySchedule;
use crate::time::Millis;

/// What is to be done, in this order: first the queue, then the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing is queued.
    Delivered {
        /// What to record.
        ending: Ending,
    },
    /// A successor is queued.
    Retry {
        /// The next message.
        successor: Box<Message>,
        /// What to record.
        ending: Ending,
    },
    /// The dead-letter queue gets it.
    GiveUp(GivenUp),
    /// Our own fault: nothing is queued, nothing is spent, the message stays.
    Keep,
}

/// A delivery that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Why.
    pub reason: Reason,
    /// The message with its whole history.
    pub message: Box<Message>,
    /// Why, for a person.
    pub error: String,
    /// What to record.
    pub ending: Ending,
}

/// When failed attempts are repeated.
#[derive(Clone, Copy, Debug)]
pub enum Retries<'a> {
    /// By the stack's policy: direct webhooks.
    Policy(&'a RetryPolicy),
    /// By an endpoint's schedule. All but a 2xx and a 410 follow it: a receiver that is
    /// being deployed answers 404 for a while, and a URL can be mended.
    Schedule(&'a RetrySchedule),
    /// Never: somebody tests an endpoint.
    Never,
}

impl Retries<'_> {
    /// What becomes of a delivery whose call came to this.
    fn disposition(self, outcome: Outcome) -> Disposition {
        match (self, outcome.disposition()) {
            (Self::Schedule(_), Disposition::GiveUp { class, reason: Reason::ClientError | Reason::Validation }) => {
                Disposition::Retry { pace: Pace::Normal, class }
            }
            (_, disposition) => disposition,
        }
    }

    /// How long to wait after so many calls that failed; `None` when there is no other.
    fn wait(self, calls: u8, pace: Pace, spread: f64, retry_after: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Policy(policy) => self.allows(calls).then(|| policy.wait(calls, pace, spread, retry_after)),
            Self::Schedule(schedule) => {
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_CAP);
                schedule.wait(calls, spread).map(|wait| wait.max(asked))
            }
            Self::Never => None,
        }
    }

    /// Whether another call may follow so many that failed.
    fn allows(self, calls: u8) -> bool {
        match self {
            Self::Policy(policy) => calls <= policy.max_retries,
            Self::Schedule(schedule) => usize::from(calls) <= schedule.waits_s().len(),
            Self::Never => false,
        }
    }
}

/// Decides the next step. `spread` (0..1) is the chance in the backoff.
pub fn next_step(message: &Message, attempted: &Attempted, now: Millis, retries: Retries<'_>, spread: f64) -> NextStep {
    let calls = message.attempts.saturating_add(1);
    match retries.disposition(attempted.outcome) {
        Disposition::Keep => NextStep::Keep,
        Disposition::Delivered => NextStep::Delivered {
            ending: Ending::Delivered {
                attempts: u32::from(calls),
                code: attempted.code().unwrap_or_default(),
                duration_ms: attempted.ms,
            },
        },
        Disposition::GiveUp { reason, .. } => give_up_after(message, attempted, reason),
        Disposition::Retry { pace, class } => {
            let Some(wait) = retries.wait(calls, pace, spread, attempted.retry_after) else {
                return give_up_after(message, attempted, Reason::RetriesExhausted);
            };
            let due = now.after(wait);
            if due >= message.delivery.deadline {
                return give_up_after(message, attempted, Reason::Expired);
            }
            let ending = Ending::Retrying {
                attempts: u32::from(calls),
                code: attempted.code(),
                class,
                error: short_error(attempted.error()),
                duration_ms: attempted.ms,
                next_attempt_at: due,
            };
            NextStep::Retry { successor: Box::new(message.retried(in_history(attempted), due)), ending }
        }
    }
}

/// The step after a probe that failed, which `signal` tells; `None` when it did not fail. The
/// breaker stays open.
///
/// The first failed probe of a delivery, which only happened to be chosen, spends no
/// attempt. From the second on each spends one: a delivery that always fails would
/// otherwise keep the destination's others waiting until its deadline. It comes back after
/// `wait`, or at its deadline, where it expires. An endpoint's schedule is not shortened by
/// that: a probe that spends is followed by the wait of the schedule, if that is longer.
pub fn after_failed_probe(
    message: &Message,
    attempted: &Attempted,
    signal: HealthSignal,
    now: Millis,
    wait: Duration,
    retries: Retries<'_>,
    spread: f64,
) -> Option<NextStep> {
    let (Disposition::Retry { class, .. }, HealthSignal::Unhealthy | HealthSignal::Throttled) =
        (retries.disposition(attempted.outcome), signal)
    else {
        return None;
    };
    let spends = message.has_probed();
    let calls = message.attempts.saturating_add(u8::from(spends));
    if !retries.allows(calls) {
        return Some(give_up_after(message, attempted, Reason::RetriesExhausted));
    }
    let scheduled = match retries {
        Retries::Schedule(schedule) if spends => schedule.wait(calls, spread).unwrap_or_default(),
        Retries::Schedule(_) | Retries::Policy(_) | Retries::Never => Duration::ZERO,
    };
    let wait = wait.max(scheduled).max(attempted.retry_after.unwrap_or_default().min(RETRY_AFTER_CAP));
    let due = now.after(wait).min(message.delivery.deadline);
    let ending = Ending::Retrying {
        attempts: u32::from(calls),
        code: attempted.code(),
        class,
        error: short_error(&format!("circuit breaker probe failed: {}", attempted.error())),
        duration_ms: attempted.ms,
        next_attempt_at: due,
    };
    let successor = message.probed(in_history(attempted), spends, due);
    Some(NextStep::Retry { successor: Box::new(successor), ending })
}

/// Gives a delivery up without an attempt.
pub fn give_up(message: &Message, reason: Reason, error: &str) -> GivenUp {
    let error = short_error(error);
    let last = message.history.attempts.last();
    let ending = Ending::Failed {
        attempts: u32::from(message.attempts),
        code: last.and_then(|attempt| attempt.code),
        class: last.and_then(|attempt| attempt.class),
        error: error.clone(),
        duration_ms: last.map(|attempt| attempt.ms),
    };
    GivenUp { reason, message: Box::new(message.clone()), error, ending }
}

fn give_up_after(message: &Message, attempted: &Attempted, reason: Reason) -> NextStep {
    let mut message = message.clone();
    message.attempts = message.attempts.saturating_add(1);
    message.history.push(in_history(attempted));
    let error = short_error(attempted.error());
    let ending = Ending::Failed {
        attempts: u32::from(message.attempts),
        code: attempted.code(),
        class: attempted.outcome.error_class(),
        error: error.clone(),
        duration_ms: Some(attempted.ms),
    };
    NextStep::GiveUp(GivenUp { reason, message: Box::new(message), error, ending })
}

/// An attempt as the history keeps it.
pub fn in_history(attempted: &Attempted) -> Attempt {
    Attempt {
        at: attempted.at,
        code: attempted.code(),
        class: attempted.outcome.error_class(),
        ms: attempted.ms,
        error: attempted.error.clone(),
        answer: attempted.body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use crate::message::History;
    use crate::outcome::Answer;
    use crate::outcome::Watched;
    use bytes::Bytes;

    fn policy() -> RetryPolicy {
        let s = Duration::from_secs;
        RetryPolicy { max_retries: 3, base: s(10), base_throttled: s(30), factor: 4.0, cap: s(900) }
    }

    fn message(attempt: u8, deadline: u64) -> Message {
        let delivery = Delivery {
            id: "a".into(),
            url: "https://a.example/".into(),
            payload: Bytes::from_static(b"1"),
            correlation_id: "c".into(),
            deadline: Millis(deadline),
            ..Delivery::default()
        };
        Message { delivery, attempts: attempt, hop: u32::from(attempt), ..Message::default() }
    }

    fn history(count: u32) -> History {
        History { count, attempts: Vec::new() }
    }

    fn step(attempt: u8, code: u16, deadline: u64) -> NextStep {
        let attempted = Attempted { error: Some("x".into()), ..Attempted::new(Answer::Status(code), Millis(1), 2) };
        next_step(&message(attempt, deadline), &attempted, Millis(1000), Retries::Policy(&policy()), 1.0)
    }

    #[test]
    fn the_budget_is_one_attempt_and_three_retries() {
        for attempt in 0..3 {
            let NextStep::Retry { successor, ending } = step(attempt, 500, u64::MAX) else { panic!("no retry") };
            assert_eq!((successor.attempts, successor.hop), (attempt + 1, u32::from(attempt) + 1));
            assert_eq!(successor.history.count, 1);
            assert!(matches!(ending, Ending::Retrying { attempts, .. } if attempts == u32::from(attempt) + 1));
        }
        let NextStep::GiveUp(GivenUp { reason, message, ending, .. }) = step(3, 500, u64::MAX) else {
            panic!("a fourth retry")
        };
        assert_eq!((reason, message.attempts), (Reason::RetriesExhausted, 4));
        assert!(matches!(ending, Ending::Failed { attempts: 4, code: Some(500), .. }));
    }

    #[test]
    fn a_retry_that_would_come_too_late_expires_at_once() {
        assert!(matches!(step(0, 500, 11_000), NextStep::GiveUp(GivenUp { reason: Reason::Expired, .. })));
        assert!(matches!(step(0, 500, 11_001), NextStep::Retry { .. }));
    }

    #[test]
    fn a_failed_probe_is_told_and_not_spent() {
        let attempted = Attempted { error: Some("x".into()), ..Attempted::new(Answer::Status(500), Millis(1), 2) };
        let message = Message { history: history(2), ..message(2, 99_000) };
        let step = after_failed_probe(
            &message,
            &attempted,
            attempted.outcome.health_signal(Watched::Origin),
            Millis(0),
            Duration::from_secs(120),
            Retries::Policy(&policy()),
            1.0,
        );
        let Some(NextStep::Retry { successor, ending }) = step else { panic!("no retry") };
        assert_eq!((successor.attempts, successor.parked, successor.hop, successor.history.count), (2, 1, 3, 3));
        assert_eq!(successor.not_before, Millis(99_000), "it comes back at its deadline, and expires");
        assert!(matches!(ending, Ending::Retrying { attempts: 2, .. }));
    }

    #[test]
    fn from_the_second_failed_probe_on_each_spends_an_attempt() {
        let attempted = Attempted::new(Answer::Status(500), Millis(1), 2);
        let mut next = Message { history: history(1), ..message(1, u64::MAX) };
        let mut spent = Vec::new();
        let given_up = loop {
            match after_failed_probe(
                &next,
                &attempted,
                attempted.outcome.health_signal(Watched::Origin),
                Millis(0),
                Duration::from_secs(120),
                Retries::Policy(&policy()),
                1.0,
            ) {
                Some(NextStep::Retry { successor, .. }) => next = *successor,
                Some(NextStep::GiveUp(given_up)) => break given_up,
                other => panic!("{other:?}"),
            }
            spent.push(next.attempts);
        };
        assert_eq!(spent, [1, 2, 3]);
        assert_eq!((given_up.reason, given_up.message.attempts), (Reason::RetriesExhausted, 4));
        assert_eq!(given_up.message.history.count, 5, "four attempts and one probe that was free");
    }

    #[test]
    fn a_probe_that_did_not_fail_is_an_attempt_like_any_other() {
        for code in [200, 404, 408, 425] {
            let attempted = Attempted::new(Answer::Status(code), Millis(1), 2);
            let step = after_failed_probe(
                &message(0, u64::MAX),
                &attempted,
                attempted.outcome.health_signal(Watched::Origin),
                Millis(0),
                Duration::ZERO,
                Retries::Policy(&policy()),
                1.0,
            );
            assert_eq!(step, None, "{code}");
        }
    }

    #[test]
    fn delivered_counts_its_calls() {
        let NextStep::Delivered { ending } = step(2, 204, u64::MAX) else { panic!("not delivered") };
        assert_eq!(ending, Ending::Delivered { attempts: 3, code: 204, duration_ms: 2 });
    }

    #[test]
    fn what_will_not_become_better_is_given_up_at_once() {
        assert!(matches!(step(0, 404, u64::MAX), NextStep::GiveUp(GivenUp { reason: Reason::ClientError, .. })));
        assert!(matches!(step(0, 410, u64::MAX), NextStep::GiveUp(GivenUp { reason: Reason::Gone, .. })));
        assert!(matches!(step(0, 302, u64::MAX), NextStep::GiveUp(GivenUp { reason: Reason::ClientError, .. })));
    }

    fn step_of_endpoint(attempt: u8, answer: Answer, retries: Retries<'_>) -> NextStep {
        let attempted =
            Attempted { retry_after: Some(Duration::from_secs(60)), ..Attempted::new(answer, Millis(1), 2) };
        next_step(&message(attempt, u64::MAX), &attempted, Millis(0), retries, 1.0)
    }

    #[test]
    fn all_but_a_2xx_and_a_410_follow_an_endpoints_schedule() {
        let schedule = RetrySchedule::new(vec![5, 300]).unwrap();
        let retries = Retries::Schedule(&schedule);
        let step = |attempt, answer| step_of_endpoint(attempt, answer, retries);
        for code in [300, 302, 400, 401, 404, 408, 425, 429, 500, 503] {
            assert!(matches!(step(0, Answer::Status(code)), NextStep::Retry { .. }), "{code}");
        }
        for answer in [Answer::Network, Answer::Timeout, Answer::Refused] {
            assert!(matches!(step(0, answer), NextStep::Retry { .. }));
        }
        assert!(matches!(step(0, Answer::Status(204)), NextStep::Delivered { .. }));
        assert!(matches!(step(0, Answer::Status(410)), NextStep::GiveUp(GivenUp { reason: Reason::Gone, .. })));
        assert_eq!(step(0, Answer::Fault), NextStep::Keep);
    }

    #[test]
    fn the_schedule_is_the_budget_and_retry_after_only_lengthens_it() {
        let schedule = RetrySchedule::new(vec![5, 300]).unwrap();
        let step = |attempt| step_of_endpoint(attempt, Answer::Status(500), Retries::Schedule(&schedule));
        let dues: Vec<u64> = (0..2)
            .map(|attempt| {
                let NextStep::Retry { successor, .. } = step(attempt) else { panic!("no retry") };
                successor.not_before.as_secs()
            })
            .collect();
        assert_eq!(dues, [60, 300]);
        assert!(matches!(step(2), NextStep::GiveUp(GivenUp { reason: Reason::RetriesExhausted, .. })));
    }

    #[test]
    fn a_test_is_never_retried() {
        for answer in [Answer::Status(500), Answer::Timeout] {
            let NextStep::GiveUp(given_up) = step_of_endpoint(0, answer, Retries::Never) else { panic!("a retry") };
            assert_eq!(given_up.reason, Reason::RetriesExhausted);
        }
    }

    #[test]
    fn a_probe_that_spends_does_not_shorten_the_schedule() {
        let schedule = RetrySchedule::new(vec![5, 7200]).unwrap();
        let attempted = Attempted::new(Answer::Status(503), Millis(1), 2);
        let wait = |attempts, count| {
            let message = Message { history: history(count), ..message(attempts, u64::MAX) };
            let open = Duration::from_secs(120);
            let step = after_failed_probe(
                &message,
                &attempted,
                HealthSignal::Unhealthy,
                Millis(0),
                open,
                Retries::Schedule(&schedule),
                1.0,
            )
            .unwrap();
            let NextStep::Retry { successor, .. } = step else { panic!("no retry") };
            (successor.attempts, successor.not_before.as_secs())
        };
        assert_eq!(wait(1, 1), (1, 120), "the first probe is free");
        assert_eq!(wait(1, 2), (2, 7200));
    }
}
