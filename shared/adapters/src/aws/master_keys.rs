//! The stack's master keys, which seal what the registry keeps of secrets. They are read
//! when a process starts, and again when a value is sealed with a key that is not known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::seal::MasterKeys;
use domain::time::Millis;

use super::secrets::{SecretsError, StoredSecret};
use crate::clock::Clock;
use crate::telemetry::chain;

/// The shortest time between two reads.
const PAUSE: Duration = Duration::from_secs(60);
/// How old keys may become where one that was taken away must not be used any more.
const OLD: Duration = Duration::from_secs(5 * 60);

/// Where the master keys come from.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// They were given.
    Given(MasterKeys),
    /// They are kept in Secrets Manager.
    Stored(StoredSecret),
}

/// The master keys that are known now.
#[derive(Clone)]
pub struct MasterKeyring {
    stored: Option<StoredSecret>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Arc<MasterKeys>,
    /// When they were asked for last.
    asked_at: Millis,
}

async fn read(stored: &StoredSecret) -> Result<Arc<MasterKeys>, SecretsError> {
    Ok(Arc::new(MasterKeys::parse(&stored.read().await?)?))
}

impl MasterKeyring {
    /// Keys that never change.
    pub fn given(keys: MasterKeys) -> Self {
        let state = State { keys: Arc::new(keys), asked_at: Millis::default() };
        Self { stored: None, clock: Clock::system(), state: Arc::new(Mutex::new(state)) }
    }

    /// The keys of this source.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub async fn open(source: MasterKeySource, clock: Clock) -> Result<Self, SecretsError> {
        let stored = match source {
            MasterKeySource::Given(keys) => return Ok(Self::given(keys)),
            MasterKeySource::Stored(stored) => stored,
        };
        let asked_at = clock.now();
        let state = State { keys: read(&stored).await?, asked_at };
        Ok(Self { stored: Some(stored), clock, state: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys, newest first.
    pub fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.state().keys)
    }

    /// Reads the keys again if they are older than five minutes, so that one that was taken away
    /// is not used for long.
    pub async fn freshen(&self) {
        let age = self.state().asked_at.until(self.clock.now());
        if self.stored.is_some() && age >= OLD {
            self.refresh().await;
        }
    }

    /// Reads the keys again, unless that was tried within the last minute. Says whether they
    /// were read. Keys that cannot be read or used leave those that are known.
    pub async fn refresh(&self) -> bool {
        let Some(stored) = &self.stored else { return false };
        {
            let mut state = self.state();
            let now = self.clock.now();
            if state.asked_at.until(now) < PAUSE {
                return false;
            }
            state.asked_at = now;
        }
        match read(stored).await {
            Ok(keys) => {
                self.state().keys = keys;
                true
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "master keys are not read again; the known ones are used");
                false
            }
        }
    }
}
