//! The gate of the API: API Gateway asks it about every request below `/api`. Whether a token
//! opens a route is decided in `domain`; here is found out whether the token is still good.

pub mod config;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::aws::master_keys::MasterKeyring;
use adapters::clock::Clock;
use adapters::telemetry::chain;
use adapters::tokens::{Standing, Standings};
use aws_lambda_events::apigw::{ApiGatewayV2CustomAuthorizerSimpleResponse, ApiGatewayV2CustomAuthorizerV2Request};
use domain::gate;
use domain::time::Millis;
use domain::token::{Token, TokenError};
use lru::LruCache;
use serde_json::{Value, json};
use tokio::time::timeout;

/// How old may be what is known of a token: with this, a revoked token is refused within 30 s.
const FRESH: Duration = Duration::from_secs(20);
/// How old it may be while the registry does not answer.
const STALE: Duration = Duration::from_secs(15 * 60);
/// How long the registry is waited for. API Gateway waits 10 s for the gate.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the registry is left alone after it did not answer, if something is known.
const PAUSE: Duration = Duration::from_secs(5);
/// Of how many tokens something is known.
const KNOWN: NonZeroUsize = NonZeroUsize::new(10_000).expect("is not zero");

/// What is told to API Gateway, which passes the context on to the function of the route.
pub type Answer = ApiGatewayV2CustomAuthorizerSimpleResponse<HashMap<String, Value>>;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no bearer token.
    #[error("there is no bearer token")]
    NoToken,
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It was revoked, or all tokens of its scope were ended.
    #[error("it was ended before its time")]
    Ended,
    /// Whether it was ended is not known.
    #[error("the registry does not answer")]
    Unknown,
    /// It does not open this route.
    #[error(transparent)]
    Gate(#[from] gate::Refusal),
}

/// The handler and what it works with.
pub struct Authorize {
    standings: Arc<dyn Standings>,
    keyring: MasterKeyring,
    clock: Clock,
    /// What was read of tokens, and when, by token.
    known: Mutex<LruCache<String, (Standing, Millis)>>,
    /// When the registry did not answer last.
    failed_at: Mutex<Option<Millis>>,
}

impl Authorize {
    /// A gate over these.
    pub fn new(standings: Arc<dyn Standings>, keyring: MasterKeyring, clock: Clock) -> Self {
        let (known, failed_at) = (Mutex::new(LruCache::new(KNOWN)), Mutex::default());
        Self { standings, keyring, clock, known, failed_at }
    }

    /// Answers API Gateway.
    ///
    /// # Errors
    /// When it is not known whether the token was ended. API Gateway answers 500 then, which
    /// callers take for what it is: the same request may be answered a little later.
    pub async fn handle(&self, request: ApiGatewayV2CustomAuthorizerV2Request) -> Result<Answer, Refused> {
        // It refuses, unless something else is said.
        let mut answer = Answer::default();
        match self.decide(&request).await {
            Ok(token) => (answer.is_authorized, answer.context) = (true, context(&token)),
            Err(unknown @ Refused::Unknown) => return Err(unknown),
            Err(why) => {
                let route = request.route_key.as_deref().unwrap_or_default();
                tracing::info!(route, error = %why, "a token is refused");
            }
        }
        Ok(answer)
    }

    /// The token of a request that may go on.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn decide(&self, request: &ApiGatewayV2CustomAuthorizerV2Request) -> Result<Token, Refused> {
        let text = bearer(request).ok_or(Refused::NoToken)?;
        self.keyring.freshen().await;
        let token = self.read(text).await?;
        let route = request.route_key.as_deref().unwrap_or_default();
        let names = &request.path_parameters;
        gate::decide(&token.scope, token.read_only, route, |name| names.get(name).map(String::as_str))?;
        let standing = self.standing(&token).await?;
        if standing.is_good(token.epoch) { Ok(token) } else { Err(Refused::Ended) }
    }

    /// Reads a token. A master key that is not known is looked for once.
    async fn read(&self, text: &str) -> Result<Token, TokenError> {
        let read = || Token::read(&self.keyring.keys(), text, self.clock.now());
        match read() {
            Err(TokenError::UnknownKey) if self.keyring.refresh().await => read(),
            read => read,
        }
    }

    /// How the token stands. While the registry does not answer, what is known of it serves for
    /// a while.
    async fn standing(&self, token: &Token) -> Result<Standing, Refused> {
        let now = self.clock.now();
        let known = lock(&self.known).get(&token.id).copied();
        // A clock that went back makes nothing fresh.
        let is_within = |at: Millis, age: Duration| at <= now && at.until(now) < age;
        let within = |age: Duration| known.filter(|(_, at)| is_within(*at, age)).map(|(standing, _)| standing);
        if let Some(standing) = within(FRESH) {
            return Ok(standing);
        }
        let failed_lately = lock(&self.failed_at).is_some_and(|at| is_within(at, PAUSE));
        if let Some(standing) = within(STALE).filter(|_| failed_lately) {
            return Ok(standing);
        }
        let error = match timeout(PATIENCE, self.standings.standing(&token.id, &token.scope)).await {
            Ok(Ok(standing)) => {
                lock(&self.known).put(token.id.clone(), (standing, now));
                return Ok(standing);
            }
            Ok(Err(error)) => chain(&error).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        *lock(&self.failed_at) = Some(now);
        let served = within(STALE);
        tracing::error!(error, is_served = served.is_some(), "the registry does not tell whether a token was ended");
        served.ok_or(Refused::Unknown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(request: &ApiGatewayV2CustomAuthorizerV2Request) -> Option<&str> {
    let mut given = request.headers.get_all("authorization").iter();
    let (value, None) = (given.next()?.to_str().ok()?, given.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What the functions are told of the token. All of it is text: what a gateway makes of a large
/// number is not said anywhere.
fn context(token: &Token) -> HashMap<String, Value> {
    HashMap::from([
        ("token".to_owned(), json!(token.id)),
        ("scope".to_owned(), json!(token.scope)),
        ("read_only".to_owned(), json!(token.read_only.to_string())),
        ("epoch".to_owned(), json!(token.epoch.to_string())),
        ("expires_at".to_owned(), json!(token.expires_at.0.to_string())),
    ])
}
