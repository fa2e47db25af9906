//! One delivery's next step after an attempt: the funnel in which the answer,
//! the retry budget and the deadline meet.

use std::time::Duration;

use crate::dead_letter::Reason;
use crate::ledger::{Ending, short_error};
use crate::message::{Attempt, Message};
use crate::outcome::{Attempted, Disposition, Outcome, classify};
use crate::retry::{Policy, RETRY_AFTER_CAP};
use crate::time::Millis;

/// What is to be done, in this order: first the queue, then the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
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
    GiveUp {
        /// Why.
        reason: Reason,
        /// The message with its whole history.
        message: Box<Message>,
        /// What to record.
        ending: Ending,
    },
    /// Our own fault: nothing is queued, nothing is spent, the message stays.
    Keep,
}

/// Decides the next step. `spread` (0..1) is the chance in the backoff.
pub fn next_step(message: &Message, attempted: &Attempted, now: Millis, policy: &Policy, spread: f64) -> Step {
    let outcome = classify(&attempted.answer);
    let failed = message.attempt.saturating_add(1);
    match outcome.disposition() {
        Disposition::Keep => Step::Keep,
        Disposition::Delivered => Step::Delivered {
            ending: Ending::Delivered {
                attempts: u32::from(failed),
                code: attempted.code().unwrap_or_default(),
                duration_ms: attempted.ms,
            },
        },
        Disposition::GiveUp(reason) => after_attempt(message, attempted, outcome, reason),
        Disposition::Retry(_) if failed > policy.max_retries => {
            after_attempt(message, attempted, outcome, Reason::RetriesExhausted)
        }
        Disposition::Retry(pace) => {
            let due = now.after(policy.wait(failed, pace, spread, attempted.retry_after));
            if due >= message.deadline {
                return after_attempt(message, attempted, outcome, Reason::Expired);
            }
            let Some(class) = outcome.error_class() else { return Step::Keep };
            let ending = Ending::Retrying {
                attempts: u32::from(failed),
                code: attempted.code(),
                class,
                error: short_error(attempted.error()),
                duration_ms: attempted.ms,
                next_attempt_at: due,
            };
            let successor = message.retried(entry(attempted, outcome), due);
            Step::Retry { successor: Box::new(successor), ending }
        }
    }
}

/// The step after a probe that failed: the breaker stays open, and the delivery,
/// which only happened to be chosen, keeps its attempts. It comes back after
/// `wait`, at its deadline at the latest, where it expires.
pub fn after_failed_probe(message: &Message, attempted: &Attempted, now: Millis, wait: Duration) -> Step {
    let outcome = classify(&attempted.answer);
    let Some(class) = outcome.error_class() else { return Step::Keep };
    let wait = wait.max(attempted.retry_after.unwrap_or_default().min(RETRY_AFTER_CAP));
    let due = now.after(wait).min(message.deadline);
    let ending = Ending::Retrying {
        attempts: u32::from(message.attempt),
        code: attempted.code(),
        class,
        error: short_error(&format!("circuit breaker probe failed: {}", attempted.error())),
        duration_ms: attempted.ms,
        next_attempt_at: due,
    };
    Step::Retry { successor: Box::new(message.probed(entry(attempted, outcome), due)), ending }
}

/// Gives a delivery up without an attempt.
pub fn give_up(message: &Message, reason: Reason, error: &str) -> Step {
    let last = message.history.attempts.last();
    let ending = Ending::Failed {
        attempts: u32::from(message.attempt),
        code: last.and_then(|attempt| attempt.code),
        class: last.and_then(|attempt| attempt.class),
        error: short_error(error),
        duration_ms: last.map(|attempt| attempt.ms),
    };
    Step::GiveUp { reason, message: Box::new(message.clone()), ending }
}

fn after_attempt(message: &Message, attempted: &Attempted, outcome: Outcome, reason: Reason) -> Step {
    let mut message = message.clone();
    message.attempt = message.attempt.saturating_add(1);
    message.history.push(entry(attempted, outcome));
    let ending = Ending::Failed {
        attempts: u32::from(message.attempt),
        code: attempted.code(),
        class: outcome.error_class(),
        error: short_error(attempted.error()),
        duration_ms: Some(attempted.ms),
    };
    Step::GiveUp { reason, message: Box::new(message), ending }
}

fn entry(attempted: &Attempted, outcome: Outcome) -> Attempt {
    Attempt {
        at: attempted.at,
        code: attempted.code(),
        class: outcome.error_class(),
        ms: attempted.ms,
        error: attempted.error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Answer;
    use bytes::Bytes;
    use std::collections::BTreeMap;

    fn policy() -> Policy {
        let s = Duration::from_secs;
        Policy { max_retries: 3, base: s(10), base_throttled: s(30), factor: 4.0, cap: s(900) }
    }

    fn message(attempt: u8, deadline: u64) -> Message {
        Message {
            id: "a".into(),
            url: "https://a.example/".into(),
            payload: Bytes::from_static(b"1"),
            headers: BTreeMap::new(),
            event_type: None,
            correlation_id: "c".into(),
            body_hash: String::new(),
            accepted_at: Millis(0),
            deadline: Millis(deadline),
            attempt,
            hop: u32::from(attempt),
            parked: 0,
            not_before: Millis(0),
            history: Default::default(),
        }
    }

    fn step(attempt: u8, code: u16, deadline: u64) -> Step {
        let attempted = Attempted {
            answer: Answer::Status(code),
            at: Millis(1),
            ms: 2,
            retry_after: None,
            error: Some("x".into()),
        };
        next_step(&message(attempt, deadline), &attempted, Millis(1000), &policy(), 1.0)
    }

    #[test]
    fn the_budget_is_one_attempt_and_three_retries() {
        for attempt in 0..3 {
            let Step::Retry { successor, ending } = step(attempt, 500, u64::MAX) else { panic!("no retry") };
            assert_eq!((successor.attempt, successor.hop), (attempt + 1, u32::from(attempt) + 1));
            assert_eq!(successor.history.count, 1);
            assert!(matches!(ending, Ending::Retrying { attempts, .. } if attempts == u32::from(attempt) + 1));
        }
        let Step::GiveUp { reason, message, ending } = step(3, 500, u64::MAX) else { panic!("a fourth retry") };
        assert_eq!((reason, message.attempt), (Reason::RetriesExhausted, 4));
        assert!(matches!(ending, Ending::Failed { attempts: 4, code: Some(500), .. }));
    }

    #[test]
    fn a_retry_that_would_come_too_late_expires_at_once() {
        assert!(matches!(step(0, 500, 11_000), Step::GiveUp { reason: Reason::Expired, .. }));
        assert!(matches!(step(0, 500, 11_001), Step::Retry { .. }));
    }

    #[test]
    fn a_failed_probe_is_told_and_not_spent() {
        let answer = Answer::Status(500);
        let attempted = Attempted { answer, at: Millis(1), ms: 2, retry_after: None, error: Some("x".into()) };
        let step = after_failed_probe(&message(2, 99_000), &attempted, Millis(0), Duration::from_secs(120));
        let Step::Retry { successor, ending } = step else { panic!("no retry") };
        assert_eq!((successor.attempt, successor.parked, successor.hop, successor.history.count), (2, 1, 3, 1));
        assert_eq!(successor.not_before, Millis(99_000), "it comes back at its deadline, and expires");
        assert!(matches!(ending, Ending::Retrying { attempts: 2, .. }));
    }

    #[test]
    fn delivered_counts_its_calls() {
        let Step::Delivered { ending } = step(2, 204, u64::MAX) else { panic!("not delivered") };
        assert_eq!(ending, Ending::Delivered { attempts: 3, code: 204, duration_ms: 2 });
    }

    #[test]
    fn what_will_not_become_better_is_given_up_at_once() {
        assert!(matches!(step(0, 404, u64::MAX), Step::GiveUp { reason: Reason::ClientError, .. }));
        assert!(matches!(step(0, 410, u64::MAX), Step::GiveUp { reason: Reason::Gone, .. }));
        assert!(matches!(step(0, 302, u64::MAX), Step::GiveUp { reason: Reason::ClientError, .. }));
    }
}
