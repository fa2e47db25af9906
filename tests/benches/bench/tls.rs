//! Deliveries over TLS: what a call costs on a kept connection, on one that resumes a session, and on one with a full
//! handshake; for one receiver and for many. Beside them, in the same run, plain HTTP, a bare `reqwest` and a bare `rustls`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tests::binary::Function;
use tests::tls::Authority;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::NoServerSessionStorage;

use crate::callgrind::instructions;
use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::{Stage, batches, spend, us_each};
use crate::yardsticks::Loop;

const KIB: usize = 1024;
const ROUNDS: usize = 5;
/// Deliveries of a round.
const DELIVERIES: usize = 500;

/// What a receiver does with connections.
#[derive(Clone, Copy)]
struct Manner {
    /// Its certificate has an RSA key.
    rsa: bool,
    /// It lets sessions resume.
    resumes: bool,
    /// It keeps connections open.
    keeps: bool,
    http2: bool,
    /// It is called by a name, which is resolved for each connection.
    named: bool,
}

const KEPT: Manner = Manner { rsa: false, resumes: true, keeps: true, http2: false, named: false };
const RESUMED: Manner = Manner { keeps: false, ..KEPT };
const RESUMED_BY_NAME: Manner = Manner { named: true, ..RESUMED };
const FULL: Manner = Manner { resumes: false, ..RESUMED };
const FULL_RSA: Manner = Manner { rsa: true, ..FULL };
const KEPT_HTTP2: Manner = Manner { http2: true, ..KEPT };

/// A receiver over TLS on every address of the loopback. It answers 200 at once.
struct TlsSink {
    port: u16,
    manner: Manner,
    connections: Arc<AtomicUsize>,
}

impl TlsSink {
    async fn start(authority: &Arc<Authority>, manner: Manner) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, authority) = (Arc::new(AtomicUsize::new(0)), Arc::clone(authority));
        let (counting, hosts) = (Arc::clone(&connections), Arc::new(Mutex::new(HashMap::new())));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                counting.fetch_add(1, Ordering::Relaxed);
                let host = stream.local_addr().unwrap().ip();
                let config = config_of(&mut hosts.lock().unwrap(), &authority, manner, host);
                tokio::spawn(async move {
                    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, manner));
                    let server = auto::Builder::new(TokioExecutor::new());
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { port, manner, connections }
    }

    /// The URL of one of its hosts.
    fn url(&self, host: usize) -> String {
        if self.manner.named {
            return format!("https://localhost:{}/200", self.port);
        }
        let [_, _, high, low] = u32::try_from(host + 1).unwrap().to_be_bytes();
        format!("https://{}/200", SocketAddr::from(([127, 0, high, low], self.port)))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>, manner: Manner) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(request.into_body().collect().await);
    let mut answer = Response::new(Full::default());
    if !manner.keeps {
        answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// The certificate of a host, which is made when it is called first.
fn config_of(
    hosts: &mut HashMap<IpAddr, Arc<ServerConfig>>,
    authority: &Authority,
    manner: Manner,
    host: IpAddr,
) -> Arc<ServerConfig> {
    let made = || {
        let host = if manner.named { "localhost".to_owned() } else { host.to_string() };
        let (certificate, key) = match manner.rsa {
            true => authority.rsa_certificate_for(&host),
            false => authority.certificate_for(&host),
        };
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![if manner.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        if !manner.resumes {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Arc::new(config)
    };
    Arc::clone(hosts.entry(host).or_insert_with(made))
}

/// What trusts the authority of the receivers.
struct Trust {
    authority: Arc<Authority>,
    file: PathBuf,
}

impl Trust {
    fn new() -> Self {
        let authority = Arc::new(Authority::new());
        let file = std::env::temp_dir().join(format!("steadhook-bench-tls-{}.pem", std::process::id()));
        fs::write(&file, authority.pem()).unwrap();
        Self { authority, file }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let trust = Trust::new();
    let pem = trust.authority.pem();
    let changes = [("RECEIVER_CA_PEM", &*pem)];
    let deliver = Function::start("deliver", &stage.settings(&changes)).await;

    let plain = cost(stage, &deliver, &stage.sink.url(200)).await;
    figures.note("deliver, batch of 10, 1 KiB, plain HTTP: CPU a delivery", plain, "µs");
    let kept = TlsSink::start(&trust.authority, KEPT).await;
    let each = cost(stage, &deliver, &kept.url(0)).await;
    figures.note("deliver, TLS, kept connections: CPU a delivery", each, "µs");
    figures.judge("deliver, TLS, kept connections: times plain HTTP", each / plain, "×", AtMost(1.5));
    let kept_http2 = TlsSink::start(&trust.authority, KEPT_HTTP2).await;
    let each = cost(stage, &deliver, &kept_http2.url(0)).await;
    figures.note("deliver, TLS, kept connection of HTTP/2: CPU a delivery", each, "µs");
    floor(figures, "kept connections", &["reqwest-loop"], &trust, &kept).await;

    let resumed = TlsSink::start(&trust.authority, RESUMED).await;
    let resumes = cost(stage, &deliver, &resumed.url(0)).await;
    figures.note("deliver, TLS, a resumed session each: CPU a delivery", resumes, "µs");
    floor(figures, "a resumed session each", &["reqwest-loop", "rustls-loop"], &trust, &resumed).await;
    let named = TlsSink::start(&trust.authority, RESUMED_BY_NAME).await;
    let each = cost(stage, &deliver, &named.url(0)).await;
    figures.note("deliver, TLS, a resumed session each, by name: CPU a delivery", each, "µs");
    let full = TlsSink::start(&trust.authority, FULL).await;
    let begins = cost(stage, &deliver, &full.url(0)).await;
    figures.note("deliver, TLS, a full handshake each, P-256: CPU a delivery", begins, "µs");
    floor(figures, "a full handshake each, P-256", &["reqwest-loop", "rustls-loop"], &trust, &full).await;
    figures.judge("deliver, TLS: a resumed session by a full handshake", resumes / begins, "×", AtMost(0.6));
    let rsa = TlsSink::start(&trust.authority, FULL_RSA).await;
    let each = cost(stage, &deliver, &rsa.url(0)).await;
    figures.note("deliver, TLS, a full handshake each, RSA: CPU a delivery", each, "µs");
    floor(figures, "a full handshake each, RSA", &["reqwest-loop", "rustls-loop"], &trust, &rsa).await;

    for hosts in [100, 10_000] {
        many_hosts(stage, figures, &trust, &kept, hosts).await;
    }
    for (case, sink) in [("kept", &kept), ("resumed", &resumed), ("full", &full)] {
        let url = sink.url(0);
        let few = batches(&stage.accepted_at(100, KIB, &url).await, 10);
        let many = batches(&stage.accepted_at(300, KIB, &url).await, 10);
        let counted =
            instructions(("deliver", &format!("tls-{case}")), &stage.settings(&changes), (few, many), 200).await;
        figures.note(format!("deliver, TLS, {case}: instructions a delivery"), counted, "");
        stage.forget();
    }
}

/// CPU of a delivery to this URL, in batches of ten: the middle of some rounds, after one that does not count.
async fn cost(stage: &Stage, deliver: &Function, url: &str) -> f64 {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let messages = stage.accepted_at(DELIVERIES, KIB, url).await;
        let cost = spend(stage, deliver, batches(&messages, 10)).await;
        if round > 0 {
            rounds.push(us_each(cost.cpu, DELIVERIES));
        }
        stage.forget();
    }
    median(rounds)
}

/// The same of loops that do nothing else.
async fn floor(figures: &mut Figures, what: &str, loops: &[&str], trust: &Trust, sink: &TlsSink) {
    for name in loops {
        let mut bare = Loop::start_trusting(name, Some(&trust.file), &sink.url(0), KIB, 10);
        bare.posts(50).await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(bare.posts(DELIVERIES).await);
        }
        figures.note(format!("  bare {name}, {what}: CPU a post"), median(rounds), "µs");
    }
}

/// Two deliveries to each of many hosts, which all take part in each round.
async fn many_hosts(stage: &Stage, figures: &mut Figures, trust: &Trust, sink: &TlsSink, hosts: usize) {
    let pem = trust.authority.pem();
    let deliver = Function::start("deliver", &stage.settings(&[("RECEIVER_CA_PEM", &pem)])).await;
    for round in ["first", "second"] {
        let mut messages = Vec::new();
        for host in 0..hosts {
            messages.extend(stage.accepted_at(1, KIB, &sink.url(host)).await);
        }
        let before = sink.connections();
        let cost = spend(stage, &deliver, batches(&messages, 10)).await;
        let opened = sink.connections() - before;
        figures.note(
            format!("deliver, TLS, {hosts} hosts, {round} round: CPU a delivery"),
            us_each(cost.cpu, hosts),
            "µs",
        );
        figures.note("  connections that were opened", opened as f64, "");
        stage.forget();
    }
    let peak = deliver.usage().peak_rss as f64 / 1_048_576.0;
    figures.note(format!("deliver, TLS, {hosts} hosts: most memory"), peak, "MiB");
}
