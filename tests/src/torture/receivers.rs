//! Receivers, each with its own temper. Each notes what it got and how it answered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::torture::Shared;

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
}

impl Temper {
    pub(crate) const ALL: [Self; 8] = [
        Self::Healthy,
        Self::Faulty,
        Self::Slow,
        Self::Flapping,
        Self::Dead,
        Self::Throttling,
        Self::Closing,
        Self::Missing,
    ];

    /// The status to answer with after a wait; none to close the connection.
    fn answer(self, age: Duration, recovered: bool, chance: f64) -> (Option<u16>, Duration) {
        let at_once = |status| (Some(status), Duration::ZERO);
        match self {
            Self::Missing => at_once(404),
            _ if recovered => at_once(200),
            Self::Healthy => at_once(200),
            Self::Faulty => at_once(if chance < 0.05 { 500 } else { 200 }),
            Self::Slow => (Some(200), Duration::from_secs_f64(0.05 + 0.25 * chance)),
            Self::Flapping => at_once(if age.as_secs() % 6 < 3 { 200 } else { 503 }),
            Self::Dead if age.as_secs() < 3 => at_once(200),
            Self::Dead => (None, Duration::ZERO),
            Self::Throttling => at_once(if chance < 0.33 { 429 } else { 200 }),
            Self::Closing if chance < 0.25 => (None, Duration::ZERO),
            Self::Closing => at_once(200),
        }
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

impl Standing {
    pub(crate) async fn start(temper: Temper, seed: u64, secret: &str, books: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recovered = Arc::new(AtomicBool::new(false));
        let (key, well) = (Arc::new(key(secret)), Arc::clone(&recovered));
        let began = Instant::now();
        let number = Temper::ALL.iter().position(|other| *other == temper).unwrap_or_default();
        let rng = Arc::new(std::sync::Mutex::new(fastrand::Rng::with_seed(seed ^ number as u64)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (books, key, well, rng) = (books.clone(), Arc::clone(&key), Arc::clone(&well), Arc::clone(&rng));
                let service = service_fn(move |request: Request<Incoming>| {
                    let chance = rng.lock().unwrap().f64();
                    let (status, wait) = temper.answer(began.elapsed(), well.load(Ordering::SeqCst), chance);
                    let (books, key) = (books.clone(), Arc::clone(&key));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        let header = |name: &str| {
                            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
                        };
                        let id = header("webhook-id");
                        let wrong =
                            verify(&key, &id, &header("webhook-timestamp"), &header("webhook-signature"), &body).err();
                        // Noted before the wait: the caller may be gone after it.
                        let got = Got { receiver: number, at: Instant::now() + wait, status, wrong, body };
                        books.open().got.entry(id).or_default().push(got);
                        tokio::time::sleep(wait).await;
                        let Some(status) = status else { return Err(std::io::Error::other("hung up")) };
                        let mut answer = Response::builder().status(status);
                        if status == 429 {
                            answer = answer.header("retry-after", "1");
                        }
                        Ok(answer.body(Full::<Bytes>::default()).unwrap())
                    }
                });
                tokio::spawn(async move {
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                    Ok::<(), Infallible>(())
                });
            }
        });
        Self { temper, address, recovered }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it answers 200, unless it always answers 404.
    pub(crate) fn recover(&self) {
        self.recovered.store(true, Ordering::SeqCst);
    }
}

fn key(secret: &str) -> hmac::Key {
    let secret = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    hmac::Key::new(hmac::HMAC_SHA256, &secret)
}

/// Verifies a Standard Webhooks signature as receivers do: at most five minutes old.
fn verify(key: &hmac::Key, id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), String> {
    let now = adapters::clock::Clock::system().now().as_secs();
    if timestamp.parse::<u64>().map_or(true, |at| at.abs_diff(now) > 300) {
        return Err(format!("the timestamp {timestamp:?}"));
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let given = signature.strip_prefix("v1,").ok_or("no signature")?;
    let given = STANDARD.decode(given).map_err(|_| "a signature that is not base64")?;
    hmac::verify(key, &signed, &given).map_err(|_| "a signature that does not fit".to_owned())
}
