//! The clock. Only this file reads the time of day.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use domain::time::{Millis, whole_ms};

/// Where "now" comes from: the machine, or a test that moves it by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn fixed(at: Millis) -> Self {
        Self(Some(Arc::new(AtomicU64::new(at.0))))
    }

    /// Whether tests move this clock by hand.
    pub fn is_fixed(&self) -> bool {
        self.0.is_some()
    }

    /// The time.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Millis {
        match &self.0 {
            Some(at) => Millis(at.load(Ordering::SeqCst)),
            None => Millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, whole_ms)),
        }
    }

    /// Moves a fixed clock back, as a failover to another server may.
    pub fn step_back(&self, by: Duration) {
        if let Some(at) = &self.0 {
            at.fetch_sub(whole_ms(by), Ordering::SeqCst);
        }
    }

    /// Moves a fixed clock. The machine's clock is not affected.
    pub fn advance(&self, by: Duration) {
        if let Some(at) = &self.0 {
            at.fetch_add(whole_ms(by), Ordering::SeqCst);
        }
    }
}
