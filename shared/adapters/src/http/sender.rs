//! The HTTP call to a receiver: one attempt, bounded in time, memory and
//! addresses. What its answer means is decided in `domain::outcome`.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use domain::address::{Forbidden, Guard};
use domain::delivery::Delivery;
use domain::headers::vet;
use domain::identity::traceparent;
use domain::outcome::{Answer, Attempted, Outcome, classify};
use domain::retry::parse_retry_after;
use domain::signature::Signer;
use domain::time::{Millis, whole_ms};
use domain::webhook::read_url;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;
use tokio::time::timeout;

use crate::aws::secrets::Keyring;
use crate::clock::Clock;

/// How much of an answer's body is read, so that the connection can be reused.
const READ: usize = 16 * 1024;
/// How much of it is kept.
const KEPT: usize = 2 * 1024;
/// A pool that was not used for so long may be full of dead connections: the
/// process may have been frozen, and its own timers with it.
const STALE: Duration = Duration::from_secs(10);
/// Most header fields in an answer.
const MAX_HEADERS: usize = 100;

/// Makes attempts. A trait because the simulation scripts its receivers in
/// virtual time; everything else runs the real one.
#[async_trait]
pub trait ReceiverClient: Send + Sync {
    /// Posts one webhook and waits for its answer. Failure is a value.
    async fn post(&self, delivery: &Delivery) -> Attempted;
}

/// How attempts are made.
#[derive(Clone, Debug)]
pub struct ReceiverClientConfig {
    /// DNS, connect, TLS, head and body together.
    pub timeout: Duration,
    /// Connect and TLS.
    pub connect_timeout: Duration,
    /// Which addresses may be called.
    pub guard: Guard,
    /// Certificate authorities to trust beside the machine's, in PEM.
    pub extra_roots_pem: Option<String>,
}

/// How names become addresses: all that a name has, asked for once an attempt.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The machine's own resolver.
fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    })
}

/// Reads certificates in PEM; `None` when there are none or one is broken.
pub(crate) fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let bundle: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!bundle.is_empty()).then_some(bundle)
}

/// TLS for every connection to a receiver. It is made once: reading the machine's
/// certificate authorities costs as much as a hundred deliveries.
fn tls(config: &ReceiverClientConfig) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = config.extra_roots_pem.as_deref().and_then(certificates).unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverClientError {
    /// The certificate authorities cannot be used.
    #[error("tls cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("the http client cannot be made")]
    Client(#[from] reqwest::Error),
}

/// The real thing.
pub struct HttpReceiverClient {
    config: ReceiverClientConfig,
    keyring: Arc<Keyring>,
    clock: Clock,
    lookup: Lookup,
    tls: rustls::ClientConfig,
    pool: Mutex<Pool>,
}

struct Pool {
    client: reqwest::Client,
    used_at: Millis,
}

impl HttpReceiverClient {
    /// A sender with an empty connection pool.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: ReceiverClientConfig, keyring: Arc<Keyring>, clock: Clock) -> Result<Self, ReceiverClientError> {
        Self::with_lookup(config, keyring, clock, system_lookup())
    }

    /// The same with another resolver.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_lookup(
        config: ReceiverClientConfig,
        keyring: Arc<Keyring>,
        clock: Clock,
        lookup: Lookup,
    ) -> Result<Self, ReceiverClientError> {
        let tls = tls(&config)?;
        let client = client(&config, &tls, &lookup)?;
        let used_at = clock.now();
        Ok(Self { config, keyring, clock, lookup, tls, pool: Mutex::new(Pool { client, used_at }) })
    }

    /// The pool's client, or a fresh one when the pool has gone stale.
    fn client(&self, now: Millis) -> reqwest::Client {
        let mut pool = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pool.used_at.until(now) > STALE
            && let Ok(fresh) = client(&self.config, &self.tls, &self.lookup)
        {
            pool.client = fresh;
        }
        pool.used_at = now;
        pool.client.clone()
    }

    fn headers(delivery: &Delivery, signer: &Signer, now: Millis) -> Result<HeaderMap, http::Error> {
        let mut headers = HeaderMap::with_capacity(8 + delivery.headers.len());
        for (name, value) in &delivery.headers {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        // Ours come last, so that no client can set them.
        let signature = signer.sign(&delivery.id, now.as_secs(), &delivery.payload);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Steadhook/", env!("CARGO_PKG_VERSION"))));
        headers.insert("webhook-id", HeaderValue::try_from(&delivery.id)?);
        headers.insert("webhook-timestamp", HeaderValue::from(now.as_secs()));
        headers.insert("webhook-signature", HeaderValue::try_from(signature)?);
        headers.insert("x-correlation-id", HeaderValue::try_from(&delivery.correlation_id)?);
        let trace = traceparent(&delivery.correlation_id, fastrand::u64(..));
        headers.insert("traceparent", HeaderValue::try_from(trace)?);
        Ok(headers)
    }

    async fn exchange(&self, delivery: &Delivery, now: Millis) -> Ended {
        let url = match read_url(&delivery.url, &self.config.guard) {
            Ok(url) => url,
            Err(why) => return Ended::refused(why),
        };
        // A message may have been put into the queue by hand.
        if let Some(fault) = delivery.headers.iter().find_map(|(name, value)| vet("", name, value).err()) {
            return Ended::refused(format!("{}: {}", fault.pointer, fault.message));
        }
        let signer = self.keyring.signer();
        let headers = match Self::headers(delivery, &signer, now) {
            Ok(headers) => headers,
            Err(error) => return Ended::refused(format!("a header cannot be sent: {error}")),
        };
        let started = Instant::now();
        let request = self.client(now).post(url).headers(headers).body(delivery.payload.clone());
        let response = match timeout(self.config.timeout, request.send()).await {
            Err(_) => return Ended::of(Answer::Timeout, "no answer in time"),
            Ok(Err(error)) => return Ended::failed(&error),
            Ok(Ok(response)) => response,
        };
        let code = response.status().as_u16();
        let outcome = classify(&Answer::Status(code));
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .filter(|_| outcome.hears_retry_after(code))
            .and_then(|value| parse_retry_after(value.to_str().ok()?, self.clock.now()));
        // The head has decided. The body is read for the record and to free the
        // connection, within what is left of the attempt's time.
        let left = self.config.timeout.saturating_sub(started.elapsed());
        let body = kept_body(response, left).await;
        let error = (outcome != Outcome::Delivered).then(|| match body.as_str() {
            "" => format!("HTTP {code}"),
            body => format!("HTTP {code}: {body}"),
        });
        Ended { answer: Answer::Status(code), retry_after, error }
    }
}

/// How an exchange ended, before anybody looked at the time.
struct Ended {
    answer: Answer,
    retry_after: Option<Duration>,
    error: Option<String>,
}

impl Ended {
    fn of(answer: Answer, error: impl Into<String>) -> Self {
        Self { answer, retry_after: None, error: Some(error.into()) }
    }

    fn refused(error: impl Into<String>) -> Self {
        Self::of(Answer::Refused, error)
    }

    /// No usable answer came. The chain of causes tells whose fault it was.
    fn failed(error: &reqwest::Error) -> Self {
        if let Some(forbidden) = caused_by::<Forbidden>(error) {
            // The address stays in our log: it may tell of an internal network.
            tracing::warn!(address = %forbidden.0, "a receiver's name resolves to a forbidden address");
            return Self::refused("the receiver's name resolves to an address that is not public");
        }
        if error.is_builder() {
            return Self::refused("the request cannot be built");
        }
        if error.is_timeout() {
            return Self::of(Answer::Timeout, "no connection in time");
        }
        let mut last: &dyn std::error::Error = error;
        while let Some(source) = last.source() {
            last = source;
        }
        let doing = if error.is_connect() { "cannot connect" } else { "the exchange broke" };
        Self::of(Answer::Network, format!("{doing}: {last}"))
    }
}

fn caused_by<E: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The beginning of an answer's body as printable text. However large or slow
/// the body is, this ends soon and holds little.
async fn kept_body(mut response: reqwest::Response, left: Duration) -> String {
    let mut kept = Vec::new();
    let reading = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = KEPT.saturating_sub(kept.len()).min(chunk.len());
            kept.extend_from_slice(&chunk[..room]);
            read += chunk.len();
            if read >= READ {
                break;
            }
        }
    };
    // A slow body costs the rest of the attempt's time, not its success.
    drop(timeout(left, reading).await);
    printable(&Bytes::from(kept))
}

/// Text that is safe in logs, queues and terminals: control characters escaped.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).trim().chars() {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

fn client(
    config: &ReceiverClientConfig,
    tls: &rustls::ClientConfig,
    lookup: &Lookup,
) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(STALE)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(64 * 1024)
        .dns_resolver(VettingResolver { guard: Arc::new(config.guard.clone()), lookup: Arc::clone(lookup) })
        .build()
}

/// Resolves a name once, refuses it if any of its addresses is forbidden, and
/// hands the vetted addresses to the dialler: there is no second look-up that
/// could answer differently.
struct VettingResolver {
    guard: Arc<Guard>,
    lookup: Lookup,
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.guard);
        let answer = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = answer.await?;
            for address in &addresses {
                guard.vet(*address)?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[async_trait]
impl ReceiverClient for HttpReceiverClient {
    async fn post(&self, delivery: &Delivery) -> Attempted {
        let at = self.clock.now();
        let started = Instant::now();
        let Ended { answer, retry_after, error } = self.exchange(delivery, at).await;
        Attempted { retry_after, error, ..Attempted::new(answer, at, whole_ms(started.elapsed())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_text_is_safe_to_show() {
        assert_eq!(printable(b" ok\x1b[31m\r\n\0 \xff "), "ok\\u{1b}[31m\\r\\n\\u{0} \u{fffd}");
        assert_eq!(printable("é 漢 \u{202e}".as_bytes()), "é 漢 \\u{202e}");
    }
}
