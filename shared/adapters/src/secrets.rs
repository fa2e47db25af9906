//! Secrets from Secrets Manager: read when a process starts, and the signing ones
//! again every few minutes, so that a rotation needs no deployment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::error::DisplayErrorContext;
use domain::signature::{SecretError, Signer};
use domain::time::Millis;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::aws::Account;
use crate::clock::Clock;
use crate::config::RedisConfig;

/// How old signing secrets may become before they are read again.
const FRESH: Duration = Duration::from_secs(300);
/// When they are asked for again that could not be read.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an attempt waits for that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a secret cannot be used. It never shows the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager did not give it.
    #[error("a secret cannot be read: {0}")]
    Read(String),
    /// It is not what it should be.
    #[error("the signing secrets cannot be used")]
    Signing(#[from] SecretError),
    /// It is no password, nor JSON with one.
    #[error("the secret of redis must be a password, or JSON with `username` and `password`")]
    Redis,
}

impl SecretsError {
    /// A name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "secret_read",
            Self::Signing(_) => "secret_signing",
            Self::Redis => "secret_redis",
        }
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Whose it is.
    pub account: Account,
    /// Its ARN.
    pub arn: String,
}

impl Stored {
    async fn read(&self) -> Result<String, SecretsError> {
        let read = self.account.secrets().get_secret_value().secret_id(&self.arn).send().await;
        let read = read.map_err(|error| SecretsError::Read(DisplayErrorContext(&error).to_string()))?;
        read.secret_string().map(str::to_owned).ok_or_else(|| SecretsError::Read("it is not text".to_owned()))
    }
}

/// Where the signing secrets come from.
#[derive(Clone, Debug)]
pub enum Signing {
    /// They were given.
    Given(Signer),
    /// They are kept in Secrets Manager.
    Stored(Stored),
}

/// The signing secrets that are active now.
pub struct Keyring {
    stored: Option<Stored>,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    signer: Arc<Signer>,
    due: Millis,
}

impl Keyring {
    /// Secrets that never change.
    pub fn given(signer: Signer) -> Self {
        let state = Mutex::new(State { signer: Arc::new(signer), due: Millis(u64::MAX) });
        Self { stored: None, clock: Clock::system(), state }
    }

    /// The secrets of this source.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub async fn open(source: Signing, clock: Clock) -> Result<Self, SecretsError> {
        let stored = match source {
            Signing::Given(signer) => return Ok(Self::given(signer)),
            Signing::Stored(stored) => stored,
        };
        let signer = Arc::new(Signer::parse(&stored.read().await?)?);
        let due = clock.now().after(FRESH);
        Ok(Self { stored: Some(stored), clock, state: Mutex::new(State { signer, due }) })
    }

    /// The secrets to sign with now. One attempt in a few minutes waits a moment for
    /// newer ones; what cannot be read or used leaves the ones that are known.
    pub async fn signer(&self) -> Arc<Signer> {
        let now = self.clock.now();
        let (known, is_due) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = state.due <= now;
            if is_due {
                // Nobody else asks meanwhile.
                state.due = now.after(AGAIN);
            }
            (Arc::clone(&state.signer), is_due)
        };
        let Some(stored) = self.stored.as_ref().filter(|_| is_due) else { return known };
        let reading = async { Ok::<_, SecretsError>(Signer::parse(&stored.read().await?)?) };
        let read = timeout(PATIENCE, reading).await;
        match read.unwrap_or_else(|_| Err(SecretsError::Read("no answer in time".to_owned()))) {
            Ok(signer) => {
                let signer = Arc::new(signer);
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                *state = State { signer: Arc::clone(&signer), due: now.after(FRESH) };
                signer
            }
            Err(error) => {
                tracing::error!(code = error.code(), %error, "signing secrets are not renewed");
                known
            }
        }
    }
}

/// The secret of a cache, as `infra/cache.yaml` makes it.
#[derive(Deserialize)]
struct Login {
    username: Option<String>,
    password: String,
}

impl RedisConfig {
    /// The same, with the password from its secret, if it has one.
    ///
    /// # Errors
    /// When the secret cannot be read or used.
    pub async fn signed_in(self) -> Result<Self, SecretsError> {
        let Some(stored) = &self.secret else { return Ok(self) };
        let text = stored.read().await?;
        let login = match serde_json::from_str::<Login>(&text) {
            Ok(login) => login,
            Err(_) if text.trim_start().starts_with('{') || text.trim().is_empty() => return Err(SecretsError::Redis),
            Err(_) => Login { username: None, password: text.trim().to_owned() },
        };
        let mut url = Url::parse(&self.url).map_err(|_| SecretsError::Redis)?;
        url.set_username(login.username.as_deref().unwrap_or_default()).map_err(|()| SecretsError::Redis)?;
        url.set_password(Some(&login.password)).map_err(|()| SecretsError::Redis)?;
        Ok(Self { url: url.into(), ..self })
    }
}
