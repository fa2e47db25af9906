//! Secrets from Secrets Manager. Signing secrets are read when a process starts and
//! again within five minutes, so that a rotation needs no deployment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use domain::seal::MasterKeyError;
use domain::signature::{SecretError, Signer};
use domain::time::Millis;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::account::Account;
use crate::clock::Clock;
use crate::telemetry::chain;

/// How old signing secrets become before they are read again beside the work.
const AGING: Duration = Duration::from_secs(240);
/// How old they may be when an invocation begins, unless they cannot be read.
const FRESH: Duration = Duration::from_secs(300);
/// How long an invocation waits for newer ones.
const PATIENCE: Duration = Duration::from_secs(1);
/// When they are asked for again that could not be read.
const AGAIN: Duration = Duration::from_secs(30);

/// Why a secret cannot be used. It never shows the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager did not give it. The SDK's own error is not kept, because an
    /// answer that cannot be read holds the secret.
    #[error("a secret cannot be read: {0}")]
    Read(String),
    /// It is not a list of signing secrets.
    #[error("the signing secrets cannot be used")]
    Signing(#[from] SecretError),
    /// It is not a list of master keys.
    #[error("the master keys cannot be used")]
    Master(#[from] MasterKeyError),
}

impl SecretsError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "secret_read",
            Self::Signing(_) => "secret_signing",
            Self::Master(_) => "secret_master",
        }
    }
}

/// A secret in Secrets Manager.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    account: Account,
    arn: String,
}

impl StoredSecret {
    /// The secret of this ARN. Nothing is read yet.
    pub fn new(account: Account, arn: impl Into<String>) -> Self {
        Self { account, arn: arn.into() }
    }

    /// Reads the secret.
    pub(crate) async fn read(&self) -> Result<String, SecretsError> {
        let client = self.account.secrets();
        let read = client.get_secret_value().secret_id(&self.arn).send().await;
        // Only the code and the message: an answer that cannot be read holds the secret.
        let why = |error: &dyn ProvideErrorMetadata| {
            format!("{}: {}", error.code().unwrap_or("no usable answer"), error.message().unwrap_or_default())
        };
        let read = read.map_err(|error| SecretsError::Read(why(&error)))?;
        read.secret_string().map(str::to_owned).ok_or_else(|| SecretsError::Read("it is not text".to_owned()))
    }
}

/// Where the signing secrets come from.
#[derive(Clone, Debug)]
pub enum SigningSource {
    /// They were given.
    Given(Signer),
    /// They are kept in Secrets Manager.
    Stored(StoredSecret),
}

/// The signing secrets that are active now.
#[derive(Clone)]
pub struct Keyring {
    stored: Option<StoredSecret>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    signer: Arc<Signer>,
    /// When they were read.
    read_at: Millis,
    /// When they are read again.
    due: Millis,
}

impl State {
    async fn read(stored: &StoredSecret, clock: &Clock) -> Result<Self, SecretsError> {
        // What is changed while they are read may not be in the answer.
        let read_at = clock.now();
        let signer = Arc::new(Signer::parse(&stored.read().await?)?);
        Ok(Self { signer, read_at, due: read_at.after(AGING) })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    /// Secrets that never change.
    pub fn given(signer: Signer) -> Self {
        let state = State { signer: Arc::new(signer), read_at: Millis(u64::MAX), due: Millis(u64::MAX) };
        Self { stored: None, clock: Clock::system(), state: Arc::new(Mutex::new(state)) }
    }

    /// The secrets of this source.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub async fn open(source: SigningSource, clock: Clock) -> Result<Self, SecretsError> {
        let stored = match source {
            SigningSource::Given(signer) => return Ok(Self::given(signer)),
            SigningSource::Stored(stored) => stored,
        };
        let state = Arc::new(Mutex::new(State::read(&stored, &clock).await?));
        Ok(Self { stored: Some(stored), clock, state })
    }

    /// To be called when an invocation begins. Between two invocations a process may be
    /// frozen for long, and then nothing is read beside the work. So secrets that are too
    /// old are read now, and the invocation waits a moment for that. What cannot be read or
    /// used leaves the ones that are known.
    pub async fn freshen(&self) {
        let age = lock(&self.state).read_at.until(self.clock.now());
        if age < FRESH {
            return;
        }
        let Some(renewal) = self.begin_renewal() else { return };
        // It goes on beside the work if it takes longer.
        if timeout(PATIENCE, renewal).await.is_err() {
            tracing::warn!(age_s = age.as_secs(), "signing secrets are not renewed in time; the known ones are used");
        }
    }

    /// The secrets to sign with now. When they have become old they are read again
    /// beside the work, and no attempt waits for that; what cannot be read or used
    /// leaves the ones that are known.
    pub fn signer(&self) -> Arc<Signer> {
        drop(self.begin_renewal());
        Arc::clone(&lock(&self.state).signer)
    }

    /// Reads the secrets again beside the work, if that is due.
    fn begin_renewal(&self) -> Option<JoinHandle<()>> {
        let stored = self.stored.clone()?;
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.due > now {
            return None;
        }
        // Nobody else asks meanwhile.
        state.due = now.after(AGAIN);
        let keyring = self.clone();
        Some(tokio::spawn(async move { keyring.renew(&stored).await }))
    }

    async fn renew(&self, stored: &StoredSecret) {
        match State::read(stored, &self.clock).await {
            Ok(renewed) => {
                let mut state = lock(&self.state);
                // One that was frozen on its way comes late.
                if renewed.read_at > state.read_at {
                    *state = renewed;
                }
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "signing secrets are not renewed")
            }
        }
    }
}
