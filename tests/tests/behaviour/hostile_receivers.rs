//! Receivers that hold or flood their caller, and limits of our own that a receiver must not pay for.

use std::convert::Infallible;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use adapters::aws::secrets::Keyring;
use adapters::aws::sqs::QueueName;
use adapters::clock::Clock;
use adapters::http::receiver_client::{HttpReceiverClient, ReceiverClientConfig};
use adapters::receiver_client::{ReceiverCall, ReceiverClient as _};
use bytes::Bytes;
use domain::address::Guard;
use domain::delivery::Delivery;
use domain::message::Message;
use domain::outcome::{Answer, ErrorClass};
use domain::signature::Signer;
use domain::time::Millis;
use h2::Reason;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::binary::{Function, sqs_event};
use tests::peer::{Act, Peer};
use tests::receiver::{Receiver, Reply};
use tests::redis_server::RedisServer;
use tests::tls::Authority;
use tests::world::{SECRET, World, changed_settings};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// How long an attempt may take: what a bound on time alone would come to.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An invocation that is not held ends well before that.
const NOT_HELD: Duration = Duration::from_secs(7);

/// A client that may call the loopback and trusts this authority.
fn client(authority: Option<&Authority>) -> HttpReceiverClient {
    let config = ReceiverClientConfig {
        timeout: TIMEOUT,
        connect_timeout: Duration::from_secs(3),
        guard: Guard::allowing(vec!["127.0.0.0/8".parse().unwrap()]),
        extra_roots_pem: authority.map(Authority::pem),
    };
    let keyring = Arc::new(Keyring::given(Signer::parse(SECRET).unwrap()));
    HttpReceiverClient::new(config, keyring, Clock::system()).unwrap()
}

fn delivery(id: &str, url: &str) -> Delivery {
    // All messages of one delivery were accepted at one instant.
    static ACCEPTED_AT: OnceLock<Millis> = OnceLock::new();
    let now = *ACCEPTED_AT.get_or_init(|| Clock::system().now());
    Delivery {
        id: id.into(),
        url: url.into(),
        payload: Bytes::from_static(b"{\"n\":1}"),
        correlation_id: "c".into(),
        accepted_at: now,
        deadline: now.after(Duration::from_secs(3600)),
        ..Delivery::default()
    }
}

fn bytes(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

// ---- What comes before the head of an answer

#[tokio::test]
async fn a_flood_of_interim_answers_is_cut_off_and_is_the_receivers_failure() {
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    let peer = Peer::start(vec![Act::Repeat(flood.into_bytes())]).await;
    let attempted = client(None).post(&ReceiverCall::direct(&delivery("a", &peer.url()))).await;
    assert_eq!((&attempted.answer, attempted.outcome.error_class()), (&Answer::Network, Some(ErrorClass::Network)));
    assert!(attempted.error().contains("too much came before the head"), "{}", attempted.error());
    assert_eq!(peer.connections(), 1);
    // What the buffers of the system hold is more than what was read of it.
    assert!(peer.written() < 16 * 1024 * 1024, "{}", peer.written());
}

#[tokio::test]
async fn some_interim_answers_are_no_flood() {
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: </{}>\r\n\r\n", "x".repeat(400));
    let peer = Peer::start(vec![bytes(&hint.repeat(100)), bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).await;
    let attempted = client(None).post(&ReceiverCall::direct(&delivery("a", &peer.url()))).await;
    assert_eq!(attempted.answer, Answer::Status(200), "{attempted:?}");
}

#[tokio::test]
async fn a_connection_carries_any_number_of_answers() {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate_for("127.0.0.1");
    for receiver in [Receiver::start().await, Receiver::start_tls(&certificate, &key).await] {
        receiver.always(Reply { body: "x".repeat(15_000), ..200.into() });
        let client = client(Some(&authority));
        for n in 0..60 {
            let attempted = client.post(&ReceiverCall::direct(&delivery(&n.to_string(), &receiver.url("/")))).await;
            assert_eq!(attempted.answer, Answer::Status(200), "{n}: {attempted:?}");
        }
        let version = receiver.arrivals()[0].version;
        assert_eq!((receiver.count(), receiver.connections()), (60, 1), "{version:?}: what is bounded is each answer");
    }
}

#[tokio::test]
async fn large_answers_to_a_whole_batch_over_one_connection_are_no_flood() {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate_for("127.0.0.1");
    let receiver = Receiver::start_tls(&certificate, &key).await;
    let (client, url) = (client(Some(&authority)), receiver.url("/"));
    client.post(&ReceiverCall::direct(&delivery("first", &url))).await;
    receiver.always(Reply { body: "x".repeat(1024 * 1024), ..500.into() });
    for round in 0..5 {
        let deliveries: Vec<Delivery> = (0..10).map(|n| delivery(&format!("{round}-{n}"), &url)).collect();
        let calls: Vec<ReceiverCall<'_>> = deliveries.iter().map(ReceiverCall::direct).collect();
        let attempts = futures_util::future::join_all(calls.iter().map(|call| client.post(call))).await;
        for attempted in attempts {
            assert_eq!(attempted.answer, Answer::Status(500), "{attempted:?}");
        }
    }
    assert_eq!((receiver.count(), receiver.connections()), (51, 1));
}

/// What a server does with a request over HTTP/2.
#[derive(Clone, Copy)]
enum Conduct {
    /// Interim answers without end.
    Flood,
    /// The first request is not looked at, all others are answered.
    RefuseOne,
}

/// A server of HTTP/2. It counts requests and interim answers.
#[derive(Clone, Default)]
struct Http2 {
    requests: Arc<AtomicUsize>,
    interim: Arc<AtomicUsize>,
}

impl Http2 {
    async fn start(authority: &Authority, conduct: Conduct) -> (Self, String) {
        let (certificate, key) = authority.certificate_for("127.0.0.1");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (tls, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let server = Self::default();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = tls.accept(stream).await {
                    tokio::spawn(serving.clone().serve(stream, conduct));
                }
            }
        });
        (server, url)
    }

    async fn serve(self, stream: TlsStream<TcpStream>, conduct: Conduct) {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let request = self.requests.fetch_add(1, Ordering::SeqCst);
            match conduct {
                Conduct::RefuseOne if request == 0 => respond.send_reset(Reason::REFUSED_STREAM),
                Conduct::RefuseOne => drop(respond.send_response(Response::new(()), true)),
                Conduct::Flood => {
                    let interim = Arc::clone(&self.interim);
                    tokio::spawn(async move {
                        loop {
                            // Another value each time: what repeats is packed into some bytes.
                            let link = format!("{:0>1000}", interim.fetch_add(1, Ordering::SeqCst));
                            let hint = Response::builder().status(103).header("link", link).body(()).unwrap();
                            if respond.send_informational(hint).is_err() {
                                return;
                            }
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    });
                }
            }
        }
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_over_http_2_is_cut_off() {
    let authority = Authority::new();
    let (server, url) = Http2::start(&authority, Conduct::Flood).await;
    let attempted = client(Some(&authority)).post(&ReceiverCall::direct(&delivery("a", &url))).await;
    assert_eq!(attempted.answer, Answer::Network, "{attempted:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    let interim = server.interim.load(Ordering::SeqCst);
    assert!((50..1000).contains(&interim), "{interim} of 1,000 bytes");
}

#[tokio::test]
async fn a_request_that_http_2_refused_unseen_is_sent_again_at_once() {
    let authority = Authority::new();
    let (server, url) = Http2::start(&authority, Conduct::RefuseOne).await;
    let attempted = client(Some(&authority)).post(&ReceiverCall::direct(&delivery("a", &url))).await;
    assert_eq!(attempted.answer, Answer::Status(200), "{attempted:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);
}

// ---- What comes after it

/// Enqueues a webhook for this URL.
async fn enqueue_to(world: &World, id: &str, url: &str) {
    let webhook = json!({ "webhook_url": url, "payload": 1, "reference_id": id });
    let (code, answer) = world.post("/webhooks", webhook.to_string()).await;
    assert_eq!(code, 202, "{answer}");
}

#[tokio::test]
async fn a_success_whose_body_drips_is_recorded_and_holds_no_invocation() {
    let world = World::new().await;
    let head = bytes("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n");
    let peer = Peer::start(vec![head, Act::Drip("x")]).await;
    enqueue_to(&world, "a", &peer.url()).await;
    let began = Instant::now();
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    assert!(began.elapsed() < NOT_HELD, "{:?}", began.elapsed());
    let status = world.status("a").await;
    assert_eq!((&status["status"], &status["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_failure_whose_body_drips_is_read_for_a_moment_and_holds_no_invocation() {
    let world = World::new().await;
    let head = bytes("HTTP/1.1 404 No\r\ncontent-length: 99999\r\n\r\nno such account ");
    let peer = Peer::start(vec![head, Act::Drip("x")]).await;
    world.leaves([QueueName::DeadLetter]);
    enqueue_to(&world, "a", &peer.url()).await;
    let began = Instant::now();
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    assert!(began.elapsed() < NOT_HELD, "{:?}", began.elapsed());
    let status = world.status("a").await;
    assert_eq!((&status["status"], &status["last_status_code"]), (&json!("failed"), &json!(404)));
    assert!(status["error"].as_str().unwrap().contains("no such account"), "{status}");
}

// ---- What must not be accepted

#[tokio::test]
async fn what_could_never_be_sent_or_would_forge_our_headers_is_refused() {
    let world = World::new().await;
    for url in ["http://a{b/", "https://a`b.example/", "https://a!b.example/", "https://a..b.example/"] {
        let (code, answer) = world.post("/webhooks", json!({ "webhook_url": url, "payload": 1 }).to_string()).await;
        assert_eq!((code, &answer["errors"][0]["pointer"]), (422, &json!("/webhook_url")), "{url}: {answer}");
    }
    for name in ["webhook_signature", "webhook_id", "content_length", "Transfer_Encoding", "x_forwarded_for"] {
        let webhook = json!({ "webhook_url": world.receiver.url("/"), "payload": 1, "headers": { name: "1" } });
        let (code, answer) = world.post("/webhooks", webhook.to_string()).await;
        assert_eq!((code, &answer["errors"][0]["pointer"]), (422, &json!(format!("/headers/{name}"))), "{answer}");
    }
}

// ---- Our own limits

/// Many hosts: each has an address of its own on the loopback. They count requests, and answer 200 to all, except to
/// the path `/500`.
#[derive(Clone, Default)]
struct Hosts {
    urls: Vec<String>,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Hosts {
    async fn start(count: u8) -> Self {
        let mut hosts = Self::default();
        for n in 1..=count {
            let listener = TcpListener::bind(format!("127.0.77.{n}:0")).await.unwrap();
            hosts.urls.push(format!("http://{}/", listener.local_addr().unwrap()));
            let (requests, connections) = (Arc::clone(&hosts.requests), Arc::clone(&hosts.connections));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let requests = Arc::clone(&requests);
                    tokio::spawn(async move {
                        let service = service_fn(move |request| answer(request, Arc::clone(&requests)));
                        let http = hyper::server::conn::http1::Builder::new();
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    });
                }
            });
        }
        hosts
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(request: Request<Incoming>, requests: Arc<AtomicUsize>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = if request.uri().path() == "/500" { 500 } else { 200 };
    drop(request.into_body().collect().await);
    requests.fetch_add(1, Ordering::SeqCst);
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}

/// An SQS that takes batches of one message.
async fn sqs() -> Receiver {
    let sqs = Receiver::start().await;
    let taken = json!({ "Successful": [{ "Id": "0", "MessageId": "m", "MD5OfMessageBody": "" }], "Failed": [] });
    sqs.always(Reply { body: taken.to_string(), ..200.into() });
    sqs
}

/// The real `deliver` with a Redis and an SQS.
struct Deliver {
    function: Function,
    redis: RedisServer,
    sqs: Receiver,
}

impl Deliver {
    /// It may have so many descriptors.
    async fn start(descriptors: usize) -> Self {
        let (redis, sqs) = (RedisServer::start(), sqs().await);
        let url = sqs.url("");
        // There is no table.
        let changes = [("AWS_ENDPOINT_URL", url.as_str()), ("HISTORY_DAYS", "0")];
        let settings = changed_settings(&redis.url(), &changes);
        let limited = ["sh".to_owned(), "-c".to_owned(), format!("ulimit -n {descriptors}; exec \"$0\"")];
        let function = Function::start_under(&limited, "deliver", &settings).await;
        Self { function, redis, sqs }
    }

    /// One batch. Says which of its messages it does not acknowledge.
    async fn deliver(&self, deliveries: impl IntoIterator<Item = Delivery>) -> Vec<usize> {
        let messages = deliveries.into_iter().map(|delivery| Message { delivery, ..Message::default() });
        let bodies: Vec<String> = messages.map(|message| message.encode().unwrap()).collect();
        let answer = self.function.invoke(&sqs_event(&bodies)).await;
        let kept = answer["batchItemFailures"].as_array().cloned().unwrap_or_default();
        let number = |kept: &Value| kept["itemIdentifier"].as_str().unwrap().trim_start_matches("m-").parse().unwrap();
        kept.iter().map(number).collect()
    }

    /// A field of a status record.
    fn field(&self, id: &str, name: &str) -> Option<String> {
        redis::cmd("HGET").arg(format!("webhook_status:{id}")).arg(name).query(&mut self.redis.connect()).unwrap()
    }

    fn breakers(&self) -> Vec<String> {
        redis::cmd("KEYS").arg("circuit_breaker:*").query(&mut self.redis.connect()).unwrap()
    }

    /// How many descriptors it may have from now on. What is open stays open.
    fn allow(&self, most: usize) {
        let pid = self.function.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]).status();
        assert!(set.unwrap().success());
    }
}

#[tokio::test]
async fn idle_connections_to_many_hosts_leave_descriptors_for_sqs_and_redis() {
    let (deliver, hosts) = (Deliver::start(64).await, Hosts::start(150).await);
    for (batch, urls) in hosts.urls.chunks(10).enumerate() {
        let deliveries = urls.iter().enumerate().map(|(n, url)| delivery(&format!("{batch}-{n}"), url));
        assert_eq!(deliver.deliver(deliveries).await, [0usize; 0], "batch {batch}");
        let open = deliver.function.usage().descriptors;
        assert!(open <= 64, "{open}");
    }
    assert_eq!(hosts.requests(), 150);
    for id in (0..15).flat_map(|batch| (0..10).map(move |n| format!("{batch}-{n}"))) {
        assert_eq!(deliver.field(&id, "status").as_deref(), Some("delivered"), "{id}");
    }
    // A retry takes a new connection to SQS.
    assert_eq!(deliver.deliver([delivery("failing", &format!("{}500", hosts.urls[0]))]).await, [0usize; 0]);
    assert_eq!((deliver.sqs.count(), deliver.field("failing", "attempts").as_deref()), (1, Some("1")));
    // Few hosts keep their connections, once the idle ones of all others are closed.
    let connections = hosts.connections.load(Ordering::SeqCst);
    for round in 0..5 {
        deliver.deliver((0..5).map(|n| delivery(&format!("again-{round}-{n}"), &hosts.urls[n]))).await;
    }
    assert!(hosts.connections.load(Ordering::SeqCst) <= connections + 10);
}

#[tokio::test]
async fn a_process_without_descriptors_spends_no_attempt_and_opens_no_breaker() {
    let (deliver, hosts) = (Deliver::start(1024).await, Hosts::start(11).await);
    assert_eq!(deliver.deliver([delivery("first", &hosts.urls[10])]).await, [0usize; 0], "Redis is connected to");
    let batch = || (0..10).map(|n| delivery(&n.to_string(), &hosts.urls[n]));
    deliver.allow(deliver.function.usage().descriptors + 3);
    let mut left = Vec::new();
    for round in 0..3 {
        let kept = deliver.deliver(batch()).await;
        // A descriptor may have been in use for a moment when they were counted.
        assert!((5..=8).contains(&kept.len()), "round {round}: a few of ten can be called: {kept:?}");
        assert_eq!(hosts.requests(), 1 + 10 - kept.len(), "round {round}");
        if round > 0 {
            assert_eq!(kept, left, "round {round}: the others have their connections");
        }
        left.clone_from(&kept);
        for n in kept {
            assert_eq!(deliver.field(&n.to_string(), "attempts").as_deref(), Some("0"), "round {round}: {n}");
        }
    }
    // No descriptor is left to look a name up.
    deliver.allow(1);
    let named = Receiver::start().await;
    let by_name = || [delivery("named", &named.url("/").replace("127.0.0.1", "localhost"))];
    assert_eq!(deliver.deliver(by_name()).await, [0]);
    assert_eq!(deliver.field("named", "attempts").as_deref(), Some("0"));
    assert_eq!(
        (deliver.sqs.count(), deliver.breakers()),
        (0, vec![]),
        "nothing is retried, dead, or held against them"
    );
    deliver.allow(1024);
    assert_eq!(deliver.deliver(batch().chain(by_name())).await, [0usize; 0]);
    for id in (0..10).map(|n| n.to_string()).chain(["named".to_owned()]) {
        let (status, attempts) = (deliver.field(&id, "status"), deliver.field(&id, "attempts"));
        assert_eq!((status.as_deref(), attempts.as_deref()), (Some("delivered"), Some("1")), "{id}");
    }
    assert_eq!((hosts.requests(), named.count()), (11, 1));
}
