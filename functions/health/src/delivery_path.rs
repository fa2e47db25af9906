//! Whether the delivery path works: is `deliver` alive while work waits?

use std::time::Duration;

use crate::condition::Condition;

/// A consumer that has work shows a sign of life at least this often: every batch
/// is one.
const FRESH: Duration = Duration::from_secs(120);
/// Work that has waited this long, while nobody showed a sign of life, is stuck. One
/// that only waits for its circuit breaker is seen to at least every quarter of an hour.
const STUCK: Duration = Duration::from_secs(1200);

/// What can be seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// Whether both work queues say how full they are.
    pub(crate) queues_are_up: bool,
    /// Messages in the work queues that could be received.
    pub(crate) visible: u64,
    /// Messages that were received and not acknowledged.
    pub(crate) in_flight: u64,
    /// Whether the signs of life can be read.
    pub(crate) redis_is_up: bool,
    /// How old the last sign of life is.
    pub(crate) heartbeat_age: Option<Duration>,
    /// How long the delivery that waits longest has waited.
    pub(crate) oldest_pending_age: Option<Duration>,
}

/// How the delivery path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryPath {
    /// There is nothing to do.
    Idle,
    /// Work is taken.
    Working,
    /// Work is received; no sign of life yet.
    Starting,
    /// Work waits, nobody is seen to take it, and signs of life cannot be read.
    Unclear,
    /// Nobody knows whether work waits, and there is no sign of life.
    Unseen,
    /// Work is received again and again, and nothing comes of it.
    Failing,
    /// Work waits and nobody takes it.
    Abandoned,
}

impl DeliveryPath {
    pub(crate) fn condition(self) -> Condition {
        match self {
            Self::Idle | Self::Working => Condition::Up,
            Self::Starting | Self::Unclear | Self::Unseen => Condition::Degraded,
            Self::Failing | Self::Abandoned => Condition::Down,
        }
    }

    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Idle => "no work is waiting",
            Self::Working => "work is taken",
            Self::Starting => "work is received, but deliver has not shown a sign of life yet",
            Self::Unclear => "work is waiting; without redis nobody knows whether deliver is alive",
            Self::Unseen => "the queue does not say whether work is waiting",
            Self::Failing => "work is received, but deliver has shown no sign of life for too long",
            Self::Abandoned => "work is waiting and deliver shows no sign of life",
        }
    }
}

/// Judges what is seen.
pub(crate) fn judge(sight: &Sight) -> DeliveryPath {
    let is = |age: Option<Duration>, limit| age.is_some_and(|age| age <= limit);
    match sight {
        Sight { queues_are_up: false, heartbeat_age, .. } if is(*heartbeat_age, FRESH) => DeliveryPath::Working,
        Sight { queues_are_up: false, .. } => DeliveryPath::Unseen,
        Sight { visible: 0, in_flight: 0, .. } => DeliveryPath::Idle,
        Sight { redis_is_up: false, visible: 0, .. } => DeliveryPath::Working,
        Sight { redis_is_up: false, in_flight: 0, .. } => DeliveryPath::Unclear,
        Sight { redis_is_up: false, .. } => DeliveryPath::Working,
        Sight { heartbeat_age, .. } if is(*heartbeat_age, FRESH) => DeliveryPath::Working,
        Sight { in_flight: 0, .. } => DeliveryPath::Abandoned,
        Sight { oldest_pending_age: Some(age), .. } if *age > STUCK => DeliveryPath::Failing,
        Sight { .. } => DeliveryPath::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(visible: u64, in_flight: u64, heartbeat_s: Option<u64>, pending_s: Option<u64>) -> DeliveryPath {
        let seconds = |s: Option<u64>| s.map(Duration::from_secs);
        judge(&Sight {
            queues_are_up: true,
            visible,
            in_flight,
            redis_is_up: true,
            heartbeat_age: seconds(heartbeat_s),
            oldest_pending_age: seconds(pending_s),
        })
    }

    #[test]
    fn a_consumer_is_judged_while_work_waits_and_only_then() {
        assert_eq!(at(0, 0, None, Some(9_000)), DeliveryPath::Idle, "parked deliveries are no work yet");
        assert_eq!(at(5, 0, Some(3), None), DeliveryPath::Working);
        assert_eq!(at(5, 0, Some(121), None), DeliveryPath::Abandoned);
        assert_eq!(at(5, 0, None, None), DeliveryPath::Abandoned);
        assert_eq!(at(0, 5, None, Some(2)), DeliveryPath::Starting, "a first batch after a quiet time");
        assert_eq!(at(0, 5, None, Some(1201)), DeliveryPath::Failing, "it dies before it says anything");
    }

    /// Nothing can be seen.
    fn blind() -> Sight {
        Sight {
            queues_are_up: false,
            visible: 0,
            in_flight: 0,
            redis_is_up: false,
            heartbeat_age: None,
            oldest_pending_age: None,
        }
    }

    #[test]
    fn a_queue_that_does_not_answer_is_not_an_empty_one() {
        assert_eq!(judge(&blind()), DeliveryPath::Unseen);
        assert_eq!(judge(&blind()).condition(), Condition::Degraded);
        let alive = Sight { redis_is_up: true, heartbeat_age: Some(Duration::from_secs(3)), ..blind() };
        assert_eq!(judge(&alive), DeliveryPath::Working);
    }

    #[test]
    fn without_redis_the_queues_alone_are_judged() {
        let seen = |visible, in_flight| {
            let sight = Sight { visible, in_flight, ..blind() };
            judge(&Sight { queues_are_up: true, ..sight })
        };
        assert_eq!(seen(0, 0), DeliveryPath::Idle);
        assert_eq!(seen(5, 5), DeliveryPath::Working);
        assert_eq!(seen(5, 0), DeliveryPath::Unclear);
        assert_eq!(seen(5, 0).condition(), Condition::Degraded);
    }
}
