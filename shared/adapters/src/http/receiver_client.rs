//! The HTTP call to a receiver: one attempt, bounded in time, memory and
//! addresses. What its answer means is decided in `domain::outcome`.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use domain::address::Guard;
use domain::headers::vet;
use domain::outcome::{Answer, Attempted, Outcome, classify};
use domain::retry::parse_retry_after;
use domain::signature::Signer;
use domain::time::{Millis, whole_ms};
use domain::webhook::{read_url, vet_read_url};
use h2::Reason;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::connector::{
    Allowance, ConnectError, Connector, OpenCount, STREAM_WINDOW, is_exhaustion, most_open, system_errors,
    system_lookup,
};
use crate::aws::secrets::{Keyring, SecretsError, StoredSecret};
use crate::clock::Clock;
use crate::receiver_client::{ReadUrl, ReceiverCall, ReceiverClient};
use crate::telemetry::chain;
use crate::tls;

pub use super::connector::Lookup;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// How much of an answer's body is read, so that the connection can be reused.
const READ: usize = 16 * 1024;
/// How much of it is kept.
const KEPT: usize = 2 * 1024;
/// How long the body of a success is waited for. The head has said everything, and the
/// rest only frees the connection: a new one costs less than an invocation that waits.
const AFTER_SUCCESS: Duration = Duration::from_millis(50);
/// How long the body of a failure is waited for. It may say what was wrong.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A pool that was not used for so long may be full of dead connections: the
/// process may have been frozen, and its own timers with it. Common servers close an idle
/// connection after 5 s.
const STALE: Duration = Duration::from_secs(4);
/// How often a connection over HTTP/2 with calls under way is asked whether it lives, and
/// how long it may take to answer. Calls share it, so a dead one would fail them all.
const PING: Duration = Duration::from_secs(3);
/// Most header fields in an answer.
const MAX_HEADERS: usize = 100;
/// Most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// The same over HTTP/2, unpacked.
const MAX_HEAD_HTTP2: u32 = 64 * 1024;

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

impl ReceiverClientConfig {
    /// The same, with the certificate authorities that a secret holds, if there is one.
    ///
    /// # Errors
    /// When the secret cannot be read, or holds no certificates.
    pub async fn with_roots_of(self, secret: Option<&StoredSecret>) -> Result<Self, ReceiverClientError> {
        let Some(secret) = secret else { return Ok(self) };
        let pem = secret.read().await?;
        tls::certificates(&pem).ok_or(ReceiverClientError::Roots)?;
        Ok(Self { extra_roots_pem: Some(pem), ..self })
    }
}

/// Why there is no receiver client.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverClientError {
    /// The certificate authorities cannot be used.
    #[error("tls cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The secret of certificate authorities cannot be read.
    #[error("the certificate authorities of receivers cannot be read")]
    Secret(#[from] SecretsError),
    /// It holds something else.
    #[error("the secret of RECEIVER_CA_SECRET_ARN must be certificates in PEM")]
    Roots,
}

/// The real thing.
pub struct HttpReceiverClient {
    config: ReceiverClientConfig,
    keyring: Arc<Keyring>,
    clock: Clock,
    guard: Arc<Guard>,
    lookup: Lookup,
    tls: Arc<rustls::ClientConfig>,
    most_open: usize,
    pool: Mutex<Pool>,
}

type HttpClient = Client<Connector, Full<Bytes>>;

/// A client with its connections.
struct Pool {
    client: HttpClient,
    open: OpenCount,
    used_at: Millis,
}

impl HttpReceiverClient {
    /// A client with an empty connection pool.
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
        let extra = config.extra_roots_pem.as_deref().and_then(tls::certificates).unwrap_or_default();
        let tls = Arc::new(tls::for_receivers(extra)?);
        let guard = Arc::new(config.guard.clone());
        let pool = Pool::new(&config, &guard, &lookup, &tls, clock.clone());
        Ok(Self { config, keyring, clock, guard, lookup, tls, most_open: most_open(), pool: Mutex::new(pool) })
    }

    /// The pool's client, or one with an empty pool: when all connections may be dead, and
    /// when there are so many that soon none would be left for SQS and Redis.
    fn client(&self, now: Millis) -> HttpClient {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.used_at.until(now) > STALE || pool.open.get() >= self.most_open {
            *pool = Pool::new(&self.config, &self.guard, &self.lookup, &self.tls, self.clock.clone());
        }
        pool.used_at = now;
        pool.client.clone()
    }

    fn headers(call: &ReceiverCall<'_>, signer: &Signer, now: Millis) -> Result<HeaderMap, http::Error> {
        let mut headers = HeaderMap::with_capacity(9 + call.headers.len());
        for (name, value) in call.headers {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        // Ours come last, so that no client can set them.
        let signature = signer.sign(&call.webhook_id, now.as_secs(), call.payload);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Steadhook/", env!("CARGO_PKG_VERSION"))));
        headers.insert(WEBHOOK_ID, HeaderValue::try_from(&*call.webhook_id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.as_secs()));
        headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signature)?);
        headers.insert(CORRELATION_ID, HeaderValue::try_from(call.correlation_id)?);
        let traceparent = call.traceparent(fastrand::u64(..));
        headers.insert(TRACEPARENT, HeaderValue::try_from(traceparent)?);
        Ok(headers)
    }

    /// Sends the webhook and waits for the head of an answer.
    async fn send(&self, call: &ReceiverCall<'_>, to: &Uri, now: Millis) -> Result<Response<Incoming>, Ended> {
        let stack;
        let signer = match &call.endpoint {
            Some(endpoint) => endpoint.signer,
            None => {
                stack = self.keyring.signer();
                &*stack
            }
        };
        let request = || {
            let headers = Self::headers(call, signer, now)
                .map_err(|error| Ended::refused(format!("a header cannot be sent: {error}")))?;
            let mut request = Request::new(Full::new(call.payload.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = to.clone();
            *request.headers_mut() = headers;
            Ok(request)
        };
        let client = self.client(now);
        let answered = match client.request(request()?).await {
            Err(error) if is_unprocessed(&error) => client.request(request()?).await,
            answered => answered,
        };
        answered.map_err(|error| Ended::failed(&error))
    }

    async fn exchange(&self, call: &ReceiverCall<'_>, now: Millis) -> Ended {
        let guard = &self.config.guard;
        let to = match call.read_url {
            Some(read) => vet_read_url(call.url, &read.url, guard).map(|()| read.uri.clone()),
            None => read_url(call.url, guard).map(|url| ReadUrl::from(url).uri),
        };
        let to = match to {
            Ok(Some(to)) => to,
            Ok(None) => return Ended::refused("the request cannot be built"),
            Err(why) => return Ended::refused(why),
        };
        // A message may have been put into the queue by hand.
        if let Some(fault) = call.headers.iter().find_map(|(name, value)| vet("", name, value).err()) {
            return Ended::refused(format!("{}: {}", fault.pointer, fault.message));
        }
        let started = Instant::now();
        let response = match timeout(self.config.timeout, self.send(call, &to, now)).await {
            Err(_) => return Ended::of(Answer::Timeout, "no answer in time"),
            Ok(Err(ended)) => return ended,
            Ok(Ok(response)) => response,
        };
        if let Some(allowance) = response.extensions().get::<Allowance>() {
            allowance.renew(response.version());
        }
        let code = response.status().as_u16();
        let outcome = classify(&Answer::Status(code));
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .filter(|_| outcome.hears_retry_after(code))
            .and_then(|value| parse_retry_after(value.to_str().ok()?, self.clock.now()));
        // The head has decided. The body is read for the record and to free the
        // connection, within what is left of the attempt's time.
        let delivered = outcome == Outcome::Delivered;
        let patience = if delivered { AFTER_SUCCESS } else { AFTER_FAILURE };
        let left = self.config.timeout.saturating_sub(started.elapsed()).min(patience);
        let answer = Answer::Status(code);
        if let Some(endpoint) = &call.endpoint {
            let Body { text, whole } = kept_body(response.into_body(), left, READ).await;
            let body = printable(&endpoint.confidential.redacted(&text, whole)).chars().take(KEPT).collect();
            let error = (!delivered).then(|| format!("HTTP {code}"));
            return Ended { answer, retry_after, error, body: Some(body) };
        }
        let Body { text, .. } = kept_body(response.into_body(), left, if delivered { 0 } else { KEPT }).await;
        let error = (!delivered).then(|| match printable(&text).as_str() {
            "" => format!("HTTP {code}"),
            body => format!("HTTP {code}: {body}"),
        });
        Ended { answer, retry_after, error, body: None }
    }
}

/// How an exchange ended, before anybody looked at the time.
struct Ended {
    answer: Answer,
    retry_after: Option<Duration>,
    error: Option<String>,
    body: Option<String>,
}

impl Ended {
    fn of(answer: Answer, error: impl Into<String>) -> Self {
        Self { answer, retry_after: None, error: Some(error.into()), body: None }
    }

    fn refused(error: impl Into<String>) -> Self {
        Self::of(Answer::Refused, error)
    }

    /// No usable answer came. The chain of causes tells whose fault it was.
    fn failed(error: &Error) -> Self {
        match cause::<ConnectError>(error) {
            Some(ConnectError::Forbidden(forbidden)) => {
                // The address stays in our log: it may tell of an internal network.
                tracing::warn!(address = %forbidden.0, "a receiver's name resolves to a forbidden address");
                return Self::refused("the receiver's name resolves to an address that is not public");
            }
            Some(ConnectError::TimedOut) => return Self::of(Answer::ConnectTimeout, "no connection in time"),
            Some(ConnectError::Exhausted(_)) => return Self::exhausted(error),
            Some(ConnectError::Lookup(_) | ConnectError::Broken(_)) | None => {}
        }
        for system in system_errors(error) {
            if is_exhaustion(system) {
                return Self::exhausted(error);
            }
            if system.kind() == io::ErrorKind::TimedOut {
                return match error.is_connect() {
                    true => Self::of(Answer::ConnectTimeout, "no connection in time"),
                    false => Self::of(Answer::Timeout, "the receiver did not take the webhook in time"),
                };
            }
        }
        let mut last: &dyn std::error::Error = error;
        while let Some(source) = last.source() {
            last = source;
        }
        match error.is_connect() {
            true => Self::of(Answer::Unconnected, format!("cannot connect: {last}")),
            false => Self::of(Answer::Network, format!("the exchange broke: {last}")),
        }
    }

    /// Whoever had been called, this would have happened.
    fn exhausted(error: &Error) -> Self {
        tracing::error!(error = %chain(error), "this process has no descriptor, port or buffer left for a call");
        Self::of(Answer::Fault, "no connection could be made here")
    }
}

/// The cause of this type, if there is one.
fn cause<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// Whether the receiver has said, over HTTP/2, that it did not look at this request: it
/// was ending the connection, or had too many requests. Then it is sent once more at once
/// (RFC 9113 §8.7), and nobody's attempt is spent.
fn is_unprocessed(error: &Error) -> bool {
    cause::<h2::Error>(error).filter(|error| error.is_remote()).is_some_and(|error| {
        let reason = error.reason();
        (error.is_go_away() && reason == Some(Reason::NO_ERROR))
            || (error.is_reset() && reason == Some(Reason::REFUSED_STREAM))
    })
}

/// What was kept of a body.
struct Body {
    text: String,
    /// Whether that is all of it.
    whole: bool,
}

/// The beginning of an answer's body as text. However large or slow the body is, this ends
/// soon and holds little.
async fn kept_body(mut body: Incoming, left: Duration, keep: usize) -> Body {
    let (mut kept, mut whole) = (Vec::new(), false);
    let reading = async {
        let mut read = 0;
        loop {
            let chunk = match body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => break,
                None => {
                    whole = read <= keep;
                    break;
                }
            };
            let room = keep.saturating_sub(kept.len()).min(chunk.len());
            kept.extend_from_slice(&chunk[..room]);
            read += chunk.len();
            if read >= READ {
                break;
            }
        }
    };
    // A slow body costs this time, and not the success.
    drop(timeout(left, reading).await);
    Body { text: String::from_utf8_lossy(&kept).into_owned(), whole }
}

/// Text that is safe in logs, queues and terminals: control characters escaped.
fn printable(body: &str) -> String {
    let mut text = String::with_capacity(body.len());
    for c in body.trim().chars() {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// A timer whose "now" is the time of day: the timers of a process stand still while it is
/// frozen, and its idle connections age all the same.
#[derive(Clone)]
struct WallTimer {
    clock: Clock,
    began: (Instant, Millis),
}

impl Timer for WallTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        let (instant, at) = self.began;
        instant + at.until(self.clock.now())
    }
}

impl Pool {
    /// A client without connections.
    fn new(
        config: &ReceiverClientConfig,
        guard: &Arc<Guard>,
        lookup: &Lookup,
        tls: &Arc<rustls::ClientConfig>,
        clock: Clock,
    ) -> Self {
        let now = clock.now();
        let open = OpenCount::default();
        let (guard, lookup, tls) = (Arc::clone(guard), Arc::clone(lookup), Arc::clone(tls));
        let connector = Connector::new(guard, lookup, tls, config.connect_timeout, config.timeout, open.clone());
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(WallTimer { clock, began: (Instant::now(), now) })
            .pool_idle_timeout(STALE)
            .http1_max_headers(MAX_HEADERS)
            .http1_max_buf_size(MAX_HEAD)
            .http2_max_header_list_size(MAX_HEAD_HTTP2)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .build(connector);
        Self { client, open, used_at: now }
    }
}

#[async_trait]
impl ReceiverClient for HttpReceiverClient {
    async fn post(&self, call: &ReceiverCall<'_>) -> Attempted {
        let at = self.clock.now();
        let started = Instant::now();
        let Ended { answer, retry_after, error, body } = self.exchange(call, at).await;
        Attempted { retry_after, error, body, ..Attempted::new(answer, at, whole_ms(started.elapsed())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::delivery::Delivery;

    #[test]
    fn kept_text_is_safe_to_show() {
        assert_eq!(printable(" ok\x1b[31m\r\n\0 \u{fffd} "), "ok\\u{1b}[31m\\r\\n\\u{0} \u{fffd}");
        assert_eq!(printable("é 漢 \u{202e}"), "é 漢 \\u{202e}");
    }

    #[tokio::test]
    async fn a_receiver_that_never_reads_does_not_keep_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let config = ReceiverClientConfig {
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            guard: Guard::allowing(vec!["127.0.0.0/8".parse().unwrap()]),
            extra_roots_pem: None,
        };
        let secret = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";
        let keyring = Arc::new(Keyring::given(Signer::parse(secret).unwrap()));
        let client = HttpReceiverClient::new(config, keyring, Clock::system()).unwrap();
        // More than the buffers of both sides hold.
        let payload = Bytes::from(vec![b'1'; 32 * 1024 * 1024]);
        let delivery = Delivery { id: "a".into(), url, payload, ..Delivery::default() };
        let call = ReceiverCall::direct(&delivery);
        let (attempted, held) = tokio::join!(client.post(&call), listener.accept());
        assert_eq!(attempted.answer, Answer::Timeout);
        let open = client.pool.lock().unwrap().open.clone();
        for _ in 0..200 {
            if open.get() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(open.get(), 0);
        drop(held);
    }
}
