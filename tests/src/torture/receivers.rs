//! Receivers, each with its own temper. Each notes what it got and how it answered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{Pending, pending};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::Authority;
use crate::torture::{Shared, Weather};

/// The path of direct webhooks. Endpoints have others.
const DIRECT: &str = "/hook";
/// How long a late answer takes. The stack waits for two seconds.
const LATE: Duration = Duration::from_secs(3);
/// How long a receiver over TLS shows one certificate.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(3);

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Temper {
    Healthy,
    /// One answer in twenty is a 500.
    Faulty,
    Slow,
    /// Up for three seconds, down for three.
    Flapping,
    /// Down from the third second until all clients are served.
    Dead,
    /// Every third answer is 429 with `Retry-After`.
    Throttling,
    /// Every fourth connection is closed without an answer.
    Closing,
    /// 404, always.
    Missing,
    /// Every eighth answer comes after the caller's patience.
    Late,
    /// Every third answer has a head and a body that never ends. Half of these heads say 500.
    Hanging,
    /// HTTPS with a new certificate every few seconds. Unless the weather is calm, every other
    /// one is by an authority that nobody knows.
    Secure,
}

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Reply {
    /// It answers after a wait.
    Answer(u16, Duration),
    /// It closes the connection.
    HangUp,
    /// It answers when nobody waits any more.
    Late,
    /// It sends a head, and then nothing.
    Head(u16),
}

impl Reply {
    /// The status that the caller sees.
    fn status(self) -> Option<u16> {
        match self {
            Self::Answer(status, _) | Self::Head(status) => Some(status),
            Self::HangUp | Self::Late => None,
        }
    }

    fn wait(self) -> Duration {
        match self {
            Self::Answer(_, wait) => wait,
            Self::Late => LATE,
            Self::HangUp | Self::Head(_) => Duration::ZERO,
        }
    }
}

impl Temper {
    pub(crate) const ALL: [Self; 11] = [
        Self::Healthy,
        Self::Faulty,
        Self::Slow,
        Self::Flapping,
        Self::Dead,
        Self::Throttling,
        Self::Closing,
        Self::Missing,
        Self::Late,
        Self::Hanging,
        Self::Secure,
    ];

    fn reply(self, age: Duration, recovered: bool, chance: f64) -> Reply {
        let at_once = |status| Reply::Answer(status, Duration::ZERO);
        match self {
            Self::Missing => at_once(404),
            _ if recovered => at_once(200),
            Self::Healthy | Self::Secure => at_once(200),
            Self::Faulty => at_once(if chance < 0.05 { 500 } else { 200 }),
            Self::Slow => Reply::Answer(200, Duration::from_secs_f64(0.05 + 0.25 * chance)),
            Self::Flapping => at_once(if age.as_secs() % 6 < 3 { 200 } else { 503 }),
            Self::Dead if age.as_secs() < 3 => at_once(200),
            Self::Dead => Reply::HangUp,
            Self::Throttling => at_once(if chance < 0.33 { 429 } else { 200 }),
            Self::Closing if chance < 0.25 => Reply::HangUp,
            Self::Closing => at_once(200),
            Self::Late if chance < 0.12 => Reply::Late,
            Self::Late => at_once(200),
            Self::Hanging if chance < 0.33 => Reply::Head(if chance < 0.17 { 500 } else { 200 }),
            Self::Hanging => at_once(200),
        }
    }

    /// Whether a call may fail before the receiver sees it.
    pub(crate) fn hides_calls(self) -> bool {
        self == Self::Secure
    }
}

/// One request that a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) receiver: usize,
    /// When it was answered.
    pub(crate) at: Instant,
    /// Its answer; none when it hung up.
    pub(crate) status: Option<u16>,
    /// What is wrong with the request.
    pub(crate) wrong: Option<String>,
    /// How many secrets have signed it.
    pub(crate) signatures: usize,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn accepted(&self) -> bool {
        self.status == Some(200)
    }
}

/// A listening receiver.
pub(crate) struct Standing {
    pub(crate) temper: Temper,
    address: SocketAddr,
    recovered: Arc<AtomicBool>,
}

/// What a receiver's connections share.
#[derive(Clone)]
struct Receiver {
    number: usize,
    temper: Temper,
    key: Arc<hmac::Key>,
    recovered: Arc<AtomicBool>,
    rng: Arc<Mutex<fastrand::Rng>>,
    began: Instant,
    books: Shared,
}

type Body = Either<Full<Bytes>, StreamBody<Pending<Result<Frame<Bytes>, Infallible>>>>;

impl Standing {
    /// Starts one. `known` signs the certificates that the stack trusts.
    pub(crate) async fn start(
        temper: Temper,
        plan: &super::Plan,
        secret: &str,
        known: &Arc<Authority>,
        books: Shared,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recovered = Arc::new(AtomicBool::new(false));
        let number = Temper::ALL.iter().position(|other| *other == temper).unwrap_or_default();
        let receiver = Receiver {
            number,
            temper,
            key: Arc::new(key(secret)),
            recovered: Arc::clone(&recovered),
            rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(plan.seed ^ number as u64))),
            began: Instant::now(),
            books,
        };
        let mut certificates = (temper == Temper::Secure).then(|| Certificates::new(known, plan.weather));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (receiver, began) = (receiver.clone(), receiver.began);
                let well = receiver.recovered.load(Ordering::SeqCst);
                let tls = certificates.as_mut().map(|all| all.at(began.elapsed(), well));
                let service = service_fn(move |request| receiver.clone().serve(request));
                let mut http = hyper::server::conn::http1::Builder::new();
                // How a connection ends is the caller's to see.
                tokio::spawn(async move {
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        // Every call is to see the certificate of its time.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                http.keep_alive(false);
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { temper, address, recovered }
    }

    /// The URL of direct webhooks.
    pub(crate) fn url(&self) -> String {
        self.url_of(DIRECT)
    }

    /// The URL of the endpoint of this name.
    pub(crate) fn endpoint_url(&self, name: &str) -> String {
        self.url_of(&format!("/{name}"))
    }

    fn url_of(&self, path: &str) -> String {
        let scheme = if self.temper == Temper::Secure { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// From now on it answers 200, unless it always answers 404.
    pub(crate) fn recover(&self) {
        self.recovered.store(true, Ordering::SeqCst);
    }
}

impl Receiver {
    async fn serve(self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let chance = self.rng.lock().unwrap().f64();
        let reply = self.temper.reply(self.began.elapsed(), self.recovered.load(Ordering::SeqCst), chance);
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let header =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let id = header("webhook-id");
        let (timestamp, signature) = (header("webhook-timestamp"), header("webhook-signature"));
        let call = Call { id: &id, timestamp: &timestamp, signature: &signature, body: &body };
        {
            let mut books = self.books.open();
            let path = head.uri.path();
            let verified = match path.strip_prefix('/').filter(|_| path != DIRECT) {
                None => call.verify(std::slice::from_ref(&self.key)),
                Some(name) => {
                    let secrets = books.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
                    let keys: Vec<_> = secrets.iter().map(|secret| Arc::new(key(secret))).collect();
                    call.verify(&keys)
                }
            };
            let (signatures, wrong) = verified.map_or_else(|wrong| (0, Some(wrong)), |count| (count, None));
            // Noted before the wait: the caller may be gone after it.
            let at = Instant::now() + reply.wait();
            let got = Got { receiver: self.number, at, status: reply.status(), wrong, signatures, body };
            match path.strip_prefix('/').filter(|_| path != DIRECT) {
                None => books.got.entry(id).or_default().push(got),
                Some(name) => books.arrived.entry((name.to_owned(), id)).or_default().push(got),
            }
        }
        tokio::time::sleep(reply.wait()).await;
        let (status, body) = match reply {
            Reply::HangUp => return Err(std::io::Error::other("hung up")),
            Reply::Late => (200, Either::Left(Full::default())),
            Reply::Answer(status, _) => (status, Either::Left(Full::default())),
            Reply::Head(status) => (status, Either::Right(StreamBody::new(pending()))),
        };
        let mut answer = Response::builder().status(status);
        if status == 429 {
            answer = answer.header("retry-after", "1");
        }
        Ok(answer.body(body).unwrap())
    }
}

/// The certificates that a receiver shows, one after the other.
struct Certificates {
    known: Arc<Authority>,
    stranger: Option<Authority>,
    shown: Option<(u64, bool, TlsAcceptor)>,
}

impl Certificates {
    fn new(known: &Arc<Authority>, weather: Weather) -> Self {
        let stranger = (weather != Weather::Calm).then(Authority::new);
        Self { known: Arc::clone(known), stranger, shown: None }
    }

    /// The one of this time; one that is trusted, if it is to be `well`.
    fn at(&mut self, age: Duration, well: bool) -> TlsAcceptor {
        let turn = age.as_secs() / CERTIFICATE_LIFE.as_secs();
        if let Some((of, was_well, shown)) = &self.shown
            && (*of, *was_well) == (turn, well)
        {
            return shown.clone();
        }
        let by = self.stranger.as_ref().filter(|_| !well && turn % 2 == 1).unwrap_or(&self.known);
        let (certificate, key) = by.certificate_for("127.0.0.1");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let fresh = TlsAcceptor::from(Arc::new(config));
        self.shown = Some((turn, well, fresh.clone()));
        fresh
    }
}

fn key(secret: &str) -> hmac::Key {
    let secret = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    hmac::Key::new(hmac::HMAC_SHA256, &secret)
}

/// What is signed of a call, and its signatures.
struct Call<'a> {
    id: &'a str,
    timestamp: &'a str,
    signature: &'a str,
    body: &'a [u8],
}

impl Call<'_> {
    /// Verifies the call as receivers do: at most five minutes old, signed with the first
    /// secret, and with no other than these. Gives how many secrets have signed it.
    fn verify(&self, keys: &[Arc<hmac::Key>]) -> Result<usize, String> {
        let Self { id, timestamp, signature, body } = self;
        let now = adapters::clock::Clock::system().now().as_secs();
        if timestamp.parse::<u64>().map_or(true, |at| at.abs_diff(now) > 300) {
            return Err(format!("the timestamp {timestamp:?}"));
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let mut signers = Vec::new();
        for given in signature.split(' ') {
            let given = given.strip_prefix("v1,").ok_or("no signature")?;
            let given = STANDARD.decode(given).map_err(|_| "a signature that is not base64")?;
            let signer = keys.iter().position(|key| hmac::verify(key, &signed, &given).is_ok());
            signers.push(signer.ok_or("a signature that does not fit")?);
        }
        if !signers.contains(&0) {
            return Err("no signature of its first secret".to_owned());
        }
        Ok(signers.len())
    }
}
