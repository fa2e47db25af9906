//! How deliveries wait that an open circuit breaker refused.

use std::time::Duration;

/// How refused deliveries wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parking {
    /// The longest extra wait of the first refusal; doubled by every further one.
    pub base: Duration,
    /// No extra wait is longer.
    pub cap: Duration,
}

impl Parking {
    /// How long a refused delivery waits: the first in line exactly until the
    /// breaker may half-open, others longer and longer beyond that, spread by
    /// chance (`spread` is 0..1), so that they do not all come at once.
    pub fn wait(&self, wait: Duration, first: bool, parked: u32, spread: f64) -> Duration {
        let floor = Duration::from_secs(1);
        if first {
            return wait.max(floor);
        }
        let grown = self.base.as_secs_f64() * 2f64.powi(i32::try_from(parked.min(30)).unwrap_or(30));
        let most = grown.min(self.cap.as_secs_f64()).max(1.0);
        wait + Duration::from_secs_f64(1.0 + (most - 1.0) * spread.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parked_ones_wait_longer_and_longer_up_to_a_limit() {
        let parking = Parking { base: Duration::from_secs(30), cap: Duration::from_secs(300) };
        let left = Duration::from_secs(10);
        let most = |parked| parking.wait(left, false, parked, 1.0).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 99].map(most), [40, 70, 130, 250, 310, 310]);
        assert_eq!(parking.wait(left, false, 3, 0.0).as_secs(), 11);
        assert_eq!(parking.wait(left, true, 3, 1.0).as_secs(), 10);
        assert_eq!(parking.wait(Duration::ZERO, true, 0, 0.0).as_secs(), 1);
    }
}
