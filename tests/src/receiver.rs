//! A receiver of webhooks over real HTTP. It gives the answers that a test wants, and keeps
//! what arrived.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapters::aws::account::Account;
use adapters::config;
use adapters::config::reader::Environment;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its path and query.
    pub path: String,
    /// Its HTTP version.
    pub version: http::Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it had arrived.
    pub at: Instant,
}

impl Arrival {
    /// A header's value, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// How long to wait first.
    pub after: Duration,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), after: Duration::ZERO }
    }
}

#[derive(Default)]
struct State {
    arrivals: Vec<Arrival>,
    script: VecDeque<Reply>,
    by_path: Vec<(&'static str, Reply)>,
    otherwise: Option<Reply>,
    connections: usize,
}

/// A listening receiver. It answers 200 unless a test says otherwise.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

impl Receiver {
    /// Starts one on a free port of the loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        Self::listen(None, "127.0.0.1:0").await
    }

    /// Starts one where another one was, or where nobody listens yet.
    ///
    /// # Panics
    /// When somebody listens there.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::listen(None, &address.to_string()).await
    }

    /// An address where nobody listens.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// Starts one with TLS, with this certificate and key in PEM. It offers HTTP/2.
    ///
    /// # Panics
    /// When they cannot be used.
    pub async fn start_tls(certificate: &str, key: &str) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), "127.0.0.1:0").await
    }

    /// An AWS account whose services are this receiver.
    ///
    /// # Panics
    /// Never.
    pub fn account(&self) -> Account {
        let settings = [
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_ENDPOINT_URL", self.origin()),
        ];
        Environment::of(settings).read(|reader| Ok(config::account(reader))).unwrap()
    }

    async fn listen(tls: Option<TlsAcceptor>, at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let receiver = Self { address, scheme, state: Arc::default(), arrived: Arc::default() };
        let server = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (server.clone(), tls.clone());
                server.state.lock().unwrap().connections += 1;
                tokio::spawn(async move {
                    let service = service_fn(move |request| server.clone().serve(request));
                    let http = auto::Builder::new(TokioExecutor::new());
                    // How a connection ends is told by what arrived.
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        receiver
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let reply = {
            let mut state = self.state.lock().unwrap();
            let of_path =
                state.by_path.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, reply)| reply.clone());
            state.arrivals.push(Arrival {
                path,
                version: parts.version,
                headers: parts.headers,
                body,
                at: Instant::now(),
            });
            let scripted = state.script.pop_front().or(of_path);
            scripted.or_else(|| state.otherwise.clone()).unwrap_or_else(|| 200.into())
        };
        self.arrived.notify_waiters();
        if !reply.after.is_zero() {
            tokio::time::sleep(reply.after).await;
        }
        let mut response = Response::builder().status(reply.status);
        for (name, value) in &reply.headers {
            response = response.header(*name, value);
        }
        Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap())
    }

    /// Its URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Its origin.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Gives the next requests these answers, in order.
    pub fn answer(&self, replies: impl IntoIterator<Item = impl Into<Reply>>) {
        self.state.lock().unwrap().script.extend(replies.into_iter().map(Into::into));
    }

    /// Gives all other requests this answer.
    pub fn always(&self, reply: impl Into<Reply>) {
        self.state.lock().unwrap().otherwise = Some(reply.into());
    }

    /// Gives requests below this path this answer.
    pub fn always_below(&self, path: &'static str, reply: impl Into<Reply>) {
        self.state.lock().unwrap().by_path.push((path, reply.into()));
    }

    /// What arrived so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state.lock().unwrap().arrivals.clone()
    }

    /// How many requests arrived so far.
    ///
    /// # Panics
    /// Never, unless another user of the receiver panicked.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().arrivals.len()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Waits until so many requests have arrived.
    ///
    /// # Panics
    /// When they do not within 60 s.
    pub async fn wait_for(&self, count: usize) -> Vec<Arrival> {
        self.wait_longer_for(count, Duration::from_secs(60)).await
    }

    /// Waits until so many requests have arrived, for so long at most.
    ///
    /// # Panics
    /// When they do not.
    pub async fn wait_longer_for(&self, count: usize, patience: Duration) -> Vec<Arrival> {
        let waiting = async {
            loop {
                let arrived = self.arrived.notified();
                let arrivals = self.arrivals();
                if arrivals.len() >= count {
                    return arrivals;
                }
                arrived.await;
            }
        };
        let arrived = tokio::time::timeout(patience, waiting).await;
        arrived.unwrap_or_else(|_| panic!("{} of {count} webhooks arrived", self.arrivals().len()))
    }
}
