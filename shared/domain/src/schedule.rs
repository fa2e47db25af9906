//! The retry schedule of an endpoint. The schedule is the retry budget: its length is the
//! number of retries, its entries are the waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retry::REQUEUE_FLOOR;
use crate::time::Millis;

/// Most waits in a schedule.
pub const MAX_WAITS: usize = 16;
/// The longest wait: a day, in seconds.
pub const MAX_WAIT_S: u32 = 86_400;
/// The longest schedule: 7 days, in seconds.
pub const MAX_SUM_S: u32 = 604_800;
/// The shortest time that a delivery has.
const SHORTEST_LIFE_S: u64 = 3 * 86_400;

/// The longest time that a delivery has: what the longest schedule takes, and a fifth more.
pub const LONGEST_LIFE: Duration = Duration::from_secs(MAX_SUM_S as u64 * 6 / 5);

/// The waits between the attempts of a delivery, in seconds, before jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetrySchedule(Vec<u32>);

/// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h: eight attempts in 27.6 hours.
impl Default for RetrySchedule {
    fn default() -> Self {
        Self(vec![5, 300, 1800, 7200, 18_000, 36_000, 36_000])
    }
}

impl RetrySchedule {
    /// A schedule of these waits, in seconds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(waits: Vec<u32>) -> Result<Self, &'static str> {
        if waits.len() > MAX_WAITS {
            return Err("has at most 16 waits");
        }
        if !waits.iter().all(|wait| (1..=MAX_WAIT_S).contains(wait)) {
            return Err("has waits of 1 to 86400 seconds");
        }
        if waits.iter().sum::<u32>() > MAX_SUM_S {
            return Err("has at most 604800 seconds in all");
        }
        Ok(Self(waits))
    }

    /// The waits, in seconds.
    pub fn waits_s(&self) -> &[u32] {
        &self.0
    }

    /// The wait after the `failed`-th failed attempt (1 for the first), with equal jitter:
    /// half of it fixed, half of it `spread` (0..1) of chance. `None` when the budget is
    /// spent.
    pub fn wait(&self, failed: u8, spread: f64) -> Option<Duration> {
        let wait = self.0.get(usize::from(failed.checked_sub(1)?))?;
        let full = Duration::from_secs(u64::from(*wait));
        Some(full.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0)).max(REQUEUE_FLOOR))
    }

    /// The deadline of a delivery that begins at `start` and has none of its own: three
    /// days, or a fifth more than the schedule takes.
    pub fn deadline(&self, start: Millis) -> Millis {
        let sum: u64 = self.0.iter().map(|wait| u64::from(*wait)).sum();
        start.after(Duration::from_secs((sum + sum.div_ceil(5)).max(SHORTEST_LIFE_S)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_is_eight_attempts_in_a_day_and_a_bit() {
        let schedule = RetrySchedule::default();
        assert_eq!(RetrySchedule::new(schedule.waits_s().to_vec()).as_ref(), Ok(&schedule));
        let waits: Vec<_> = (1..=8).map_while(|failed| schedule.wait(failed, 1.0)).collect();
        assert_eq!(waits.len(), 7);
        assert_eq!(waits.iter().sum::<Duration>(), Duration::from_secs(99_305));
    }

    #[test]
    fn the_deadline_leaves_room_for_the_whole_schedule() {
        let day = |schedule: &RetrySchedule| schedule.deadline(Millis(0)).as_secs();
        assert_eq!(day(&RetrySchedule::default()), 3 * 86_400);
        assert_eq!(day(&RetrySchedule::new(vec![86_400; 7]).unwrap()), 7 * 86_400 * 6 / 5);
    }

    #[test]
    fn schedules_are_bounded() {
        assert!(RetrySchedule::new(vec![]).is_ok(), "one attempt");
        for waits in [vec![1; 17], vec![0], vec![86_401], vec![80_000; 8]] {
            assert!(RetrySchedule::new(waits).is_err());
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_half_and_full(wait in 2u32..=MAX_WAIT_S, spread in 0.0f64..1.0) {
            let some = RetrySchedule::new(vec![wait]).unwrap().wait(1, spread).unwrap();
            let full = Duration::from_secs(u64::from(wait));
            prop_assert!(some <= full && some >= full / 2);
        }
    }
}
