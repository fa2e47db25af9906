//! The HTTP client of the SDK's clients. It does not use a connection again after a pause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use domain::time::Millis;

use crate::clock::Clock;

/// How long a connection may be idle. AWS, or a gateway on the way, forgets it some time
/// later, and may not tell: then a call waits in vain for as long as it may take.
const IDLE: Duration = Duration::from_secs(20);

/// An HTTP client for the SDK.
#[derive(Debug)]
struct RestedClient {
    settings: HttpConnectorSettings,
    clock: Clock,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    connector: SharedHttpConnector,
    used_at: Millis,
    used: Instant,
}

impl Pool {
    /// A pool without connections. Certificate authorities are read for the first one.
    fn new(settings: &HttpConnectorSettings, now: Millis) -> Self {
        let connector = Connector::builder()
            .connector_settings(settings.clone())
            .pool_idle_timeout(IDLE)
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build();
        Self { connector: SharedHttpConnector::new(connector), used_at: now, used: Instant::now() }
    }
}

/// A client whose connections are made within `connect_timeout`.
pub(super) fn http_client(connect_timeout: Duration, clock: &Clock) -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_timeout).build();
    let pool = Mutex::new(Pool::new(&settings, clock.now()));
    SharedHttpClient::new(RestedClient { settings, clock: clock.clone(), pool })
}

impl HttpClient for RestedClient {
    /// The SDK asks for each try of a call.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, instant) = (self.clock.now(), Instant::now());
        // The pool closes what was idle for too long, by a clock that may have stood still
        // while Lambda had frozen the process. The time of day has not.
        if pool.used_at.until(now) > IDLE && instant.duration_since(pool.used) <= IDLE {
            *pool = Pool::new(&self.settings, now);
        }
        (pool.used_at, pool.used) = (now, instant);
        pool.connector.clone()
    }
}
