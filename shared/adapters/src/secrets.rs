//! Secrets from Secrets Manager: the signing ones are read when a process starts and
//! again every few minutes, Redis's when it is connected to, so that a rotation needs
//! no deployment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use domain::signature::{SecretError, Signer};
use domain::time::Millis;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use crate::aws::Account;
use crate::clock::Clock;
use crate::config::RedisConfig;

/// How old signing secrets may become before they are read again.
const FRESH: Duration = Duration::from_secs(300);
/// When they are asked for again that could not be read.
const AGAIN: Duration = Duration::from_secs(30);

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
#[derive(Clone)]
pub struct Stored {
    client: aws_sdk_secretsmanager::Client,
    arn: String,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Stored {
    /// The secret of this ARN.
    pub fn new(account: &Account, arn: impl Into<String>) -> Self {
        Self { client: account.secrets(), arn: arn.into() }
    }

    async fn read(&self) -> Result<String, SecretsError> {
        let read = self.client.get_secret_value().secret_id(&self.arn).send().await;
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
pub enum Signing {
    /// They were given.
    Given(Signer),
    /// They are kept in Secrets Manager.
    Stored(Stored),
}

/// The signing secrets that are active now.
#[derive(Clone)]
pub struct Keyring {
    stored: Option<Stored>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    signer: Arc<Signer>,
    due: Millis,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    /// Secrets that never change.
    pub fn given(signer: Signer) -> Self {
        let state = State { signer: Arc::new(signer), due: Millis(u64::MAX) };
        Self { stored: None, clock: Clock::system(), state: Arc::new(Mutex::new(state)) }
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
        let state = Arc::new(Mutex::new(State { signer, due: clock.now().after(FRESH) }));
        Ok(Self { stored: Some(stored), clock, state })
    }

    /// The secrets to sign with now. When they have become old they are read again
    /// beside the work, and no attempt waits for that; what cannot be read or used
    /// leaves the ones that are known.
    pub fn signer(&self) -> Arc<Signer> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if let Some(stored) = self.stored.as_ref().filter(|_| state.due <= now) {
            // Nobody else asks meanwhile.
            state.due = now.after(AGAIN);
            let (keyring, stored) = (self.clone(), stored.clone());
            tokio::spawn(async move { keyring.renew(&stored).await });
        }
        Arc::clone(&state.signer)
    }

    async fn renew(&self, stored: &Stored) {
        let reading = async { Ok::<_, SecretsError>(Signer::parse(&stored.read().await?)?) };
        match reading.await {
            Ok(signer) => {
                let due = self.clock.now().after(FRESH);
                *lock(&self.state) = State { signer: Arc::new(signer), due };
            }
            Err(error) => tracing::error!(code = error.code(), %error, "signing secrets are not renewed"),
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
    pub(crate) async fn signed_in(self) -> Result<Self, SecretsError> {
        let Some(stored) = &self.secret else { return Ok(self) };
        let text = stored.read().await?;
        let login = match serde_json::from_str::<Login>(&text) {
            Ok(login) => login,
            Err(_) if text.trim_start().starts_with('{') || text.trim().is_empty() => return Err(SecretsError::Redis),
            Err(_) => Login { username: None, password: text.trim().to_owned() },
        };
        // The reader of the URL decodes every percent sign.
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut url = Url::parse(&self.url).map_err(|_| SecretsError::Redis)?;
        url.set_username(&escaped(login.username.as_deref().unwrap_or_default())).map_err(|()| SecretsError::Redis)?;
        url.set_password(Some(&escaped(&login.password))).map_err(|()| SecretsError::Redis)?;
        Ok(Self { url: url.into(), secret: None, ..self })
    }
}
