//! A model of an event bus in memory: it keeps what it is told.

use std::sync::{Arc, Mutex};

use adapters::notify_bus::{Announcement, Bus, BusError};
use async_trait::async_trait;

#[derive(Default)]
struct State {
    told: Vec<Announcement>,
    is_away: bool,
}

/// The bus.
#[derive(Clone, Default)]
pub struct BusModel {
    state: Arc<Mutex<State>>,
}

impl BusModel {
    /// What it was told, in order.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn told(&self) -> Vec<Announcement> {
        self.state.lock().unwrap().told.clone()
    }

    /// From now on it fails, or works again.
    ///
    /// # Panics
    /// Never, unless another user of the model panicked.
    pub fn be_away(&self, away: bool) {
        self.state.lock().unwrap().is_away = away;
    }
}

#[async_trait]
impl Bus for BusModel {
    async fn announce(&self, announcement: &Announcement) -> Result<(), BusError> {
        let mut state = self.state.lock().unwrap();
        if state.is_away {
            return Err(BusError::because("the model is away"));
        }
        state.told.push(announcement.clone());
        Ok(())
    }
}
