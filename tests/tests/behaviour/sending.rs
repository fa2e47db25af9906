//! The receiver client may call any URL. Each test is an attack or a broken receiver.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapters::aws::secrets::Keyring;
use adapters::clock::Clock;
use adapters::http::receiver_client::{HttpReceiverClient, Lookup, ReceiverClientConfig};
use adapters::receiver_client::{ReceiverCall, ReceiverClient as _};
use bytes::Bytes;
use domain::address::Guard;
use domain::delivery::Delivery;
use domain::message::Message;
use domain::outcome::{Answer, Attempted, ErrorClass};
use domain::signature::Signer;
use domain::time::Millis;
use tests::peer::{Act, Peer};
use tests::receiver::{Receiver, Reply};
use tests::tls::{Authority, Validity};
use tests::world::{BEGINNING, SECRET};

/// How long an attempt may take here.
const TIMEOUT: Duration = Duration::from_millis(400);

fn keyring(secrets: &str) -> Arc<Keyring> {
    Arc::new(Keyring::given(Signer::parse(secrets).unwrap()))
}

fn config(allowed: &[&str]) -> ReceiverClientConfig {
    ReceiverClientConfig {
        timeout: TIMEOUT,
        connect_timeout: Duration::from_millis(200),
        guard: Guard::allowing(allowed.iter().map(|range| range.parse().unwrap()).collect()),
        extra_roots_pem: None,
    }
}

fn client(config: ReceiverClientConfig) -> HttpReceiverClient {
    HttpReceiverClient::new(config, keyring(SECRET), Clock::system()).unwrap()
}

/// A client that may call the loopback.
fn local() -> HttpReceiverClient {
    client(config(&["127.0.0.0/8", "::1/128"]))
}

fn delivery(url: &str) -> Delivery {
    Delivery {
        id: "a".into(),
        url: url.into(),
        payload: Bytes::from_static(b"{\"n\":1}"),
        correlation_id: "c".into(),
        accepted_at: BEGINNING,
        deadline: BEGINNING.after(Duration::from_secs(60)),
        ..Delivery::default()
    }
}

/// An attempt against a peer that does this. Whatever the peer does, the attempt ends soon.
async fn against(acts: Vec<Act>) -> (Attempted, Peer) {
    let peer = Peer::start(acts).await;
    let began = Instant::now();
    let attempted = local().post(&ReceiverCall::direct(&delivery(&peer.url()))).await;
    assert!(began.elapsed() < TIMEOUT * 10, "an attempt is bounded in time");
    (attempted, peer)
}

fn head(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

fn class(attempted: &Attempted) -> Option<ErrorClass> {
    attempted.outcome.error_class()
}

// ---- Slow, endless and broken answers

#[tokio::test]
async fn a_head_that_drips_is_a_timeout() {
    let (attempted, _) = against(vec![Act::Drip("HTTP/1.1 200 OK\r\nx: y\r\n")]).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Timeout));
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let (attempted, _) = against(vec![Act::Hang]).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Timeout));
}

#[tokio::test]
async fn endless_interim_answers_are_a_timeout() {
    let (attempted, _) = against(vec![Act::Drip("HTTP/1.1 100 Continue\r\n\r\n")]).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Timeout));
}

#[tokio::test]
async fn a_body_that_drips_does_not_undo_its_head() {
    let (attempted, _) = against(vec![head("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"), Act::Drip("x")]).await;
    assert_eq!(attempted.answer, Answer::Status(200));
    let (attempted, _) = against(vec![head("HTTP/1.1 500 No\r\ncontent-length: 9999\r\n\r\n"), Act::Drip("x")]).await;
    assert_eq!((attempted.answer.clone(), class(&attempted)), (Answer::Status(500), Some(ErrorClass::ServerError)));
}

#[tokio::test]
async fn an_endless_body_is_read_a_little_and_cut_off() {
    let body = Act::Repeat(vec![b'x'; 16 * 1024]);
    let (attempted, peer) = against(vec![head("HTTP/1.1 500 No\r\ncontent-type: text/plain\r\n\r\n"), body]).await;
    assert_eq!(attempted.answer, Answer::Status(500));
    assert!(attempted.error().len() <= 2048 + 16, "{}", attempted.error().len());
    // The limit is what the buffers of the system hold.
    assert!(peer.written() < 32 * 1024 * 1024, "{}", peer.written());
}

#[tokio::test]
async fn a_gzip_bomb_stays_packed() {
    let head = head("HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 40\r\n\r\n");
    let (attempted, _) = against(vec![head, Act::Write([&[0x1f, 0x8b, 8, 0][..], &[0; 36]].concat())]).await;
    assert_eq!(attempted.answer, Answer::Status(500));
    assert!(attempted.error().contains("\\u{1f}"), "{}", attempted.error());
}

#[tokio::test]
async fn a_mebibyte_of_headers_is_a_network_error() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", format!("x: {}\r\n", "y".repeat(1000)).repeat(1024));
    let (attempted, _) = against(vec![head(&many), Act::Hang]).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Network));
    let one = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1024 * 1024));
    let (attempted, _) = against(vec![head(&one), Act::Hang]).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Network));
}

#[tokio::test]
async fn a_connection_closed_too_early_is_a_network_error() {
    for acts in [vec![], vec![head("HTTP/1.1 20")], vec![head("HTTP/1.1 200 OK\r\ncontent-")]] {
        let (attempted, _) = against(acts).await;
        assert_eq!(class(&attempted), Some(ErrorClass::Network));
    }
}

#[tokio::test]
async fn a_wrong_content_length_does_not_undo_its_head() {
    let (attempted, _) = against(vec![head("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")]).await;
    assert_eq!(attempted.answer, Answer::Status(200));
    let (attempted, _) = against(vec![head("HTTP/1.1 404 No\r\ncontent-length: 100\r\n\r\nshort")]).await;
    assert_eq!((attempted.answer.clone(), attempted.error()), (Answer::Status(404), "HTTP 404: short"));
}

#[tokio::test]
async fn what_is_not_http_is_a_network_error() {
    for text in
        ["hello\r\n", "<html>", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n", "HTTP/3.0 200 OK\r\n\r\n", "\0\0\0\0"]
    {
        let (attempted, _) = against(vec![head(text)]).await;
        assert_eq!(class(&attempted), Some(ErrorClass::Network), "{text:?}: {attempted:?}");
    }
    for code in ["101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade", "600 x", "999 x"] {
        let (attempted, _) = against(vec![head(&format!("HTTP/1.1 {code}\r\n\r\n"))]).await;
        assert_eq!(class(&attempted), Some(ErrorClass::Network), "{code}: {attempted:?}");
    }
}

#[tokio::test]
async fn header_values_that_are_no_text_are_survived() {
    let (attempted, _) = against(vec![Act::Write(
        b"HTTP/1.1 503 x\r\nx: \xff\xfe\r\nretry-after: \xff\r\ncontent-length: 0\r\n\r\n".to_vec(),
    )])
    .await;
    assert_eq!((attempted.answer, attempted.retry_after), (Answer::Status(503), None));
}

#[tokio::test]
async fn what_is_kept_of_an_answer_is_safe_to_show() {
    let (attempted, _) =
        against(vec![Act::Write(b"HTTP/1.1 500 x\r\ncontent-length: 14\r\n\r\n\x1b[31mred\xff\r\n\0 ok".to_vec())])
            .await;
    assert_eq!(attempted.error(), "HTTP 500: \\u{1b}[31mred\u{fffd}\\r\\n\\u{0} o");
}

// ---- Addresses

fn refused(attempted: &Attempted) -> bool {
    attempted.answer == Answer::Refused && class(attempted) == Some(ErrorClass::Validation)
}

#[tokio::test]
async fn literals_in_every_spelling_are_refused_without_a_packet() {
    let peer = Peer::start(vec![Act::Hang]).await;
    let port = peer.url().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let client = client(config(&[]));
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "100.64.0.1",
    ] {
        let attempted = client.post(&ReceiverCall::direct(&delivery(&format!("http://{host}:{port}/")))).await;
        assert!(refused(&attempted), "{host}: {attempted:?}");
    }
    let attempted = client.post(&ReceiverCall::direct(&delivery(&format!("http://[fe80::1%25eth0]:{port}/")))).await;
    assert!(refused(&attempted), "a host has no zone id");
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn a_name_of_the_loopback_is_refused_without_a_packet() {
    let peer = Peer::start(vec![Act::Hang]).await;
    let url = peer.url().replace("127.0.0.1", "localhost");
    let attempted = client(config(&[])).post(&ReceiverCall::direct(&delivery(&url))).await;
    assert!(refused(&attempted), "{attempted:?}");
    assert!(!attempted.error().contains("127"), "an address could tell about an internal network");
    assert_eq!(peer.connections(), 0);
}

/// A resolver that gives these answers in turn, and counts its requests.
fn resolver(answers: Vec<Vec<&str>>) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let answers: Vec<Vec<IpAddr>> =
        answers.into_iter().map(|answer| answer.into_iter().map(|ip| ip.parse().unwrap()).collect()).collect();
    let answers = Arc::new(Mutex::new(answers));
    let lookup: Lookup = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let mut answers = answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    });
    (lookup, asked)
}

fn with(lookup: Lookup, allowed: &[&str], clock: Clock) -> HttpReceiverClient {
    HttpReceiverClient::with_lookup(config(allowed), keyring(SECRET), clock, lookup).unwrap()
}

#[tokio::test]
async fn a_name_with_one_forbidden_address_is_refused_whole() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/").replace("127.0.0.1", "mixed.example");
    for answer in [
        vec!["10.0.0.1"],
        vec!["127.0.0.1", "10.0.0.1"],
        vec!["169.254.169.254", "127.0.0.1"],
        vec!["127.0.0.1", "::ffff:127.0.0.1"],
    ] {
        let (lookup, _) = resolver(vec![answer.clone()]);
        let attempted =
            with(lookup, &["127.0.0.1/32"], Clock::system()).post(&ReceiverCall::direct(&delivery(&url))).await;
        assert!(refused(&attempted), "{answer:?}: {attempted:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_resolver_that_changes_its_answer_changes_nothing() {
    let receiver = Receiver::start().await;
    let url = receiver.url("/").replace("127.0.0.1", "rebinding.example");
    let clock = Clock::fixed(BEGINNING);
    let (lookup, asked) = resolver(vec![vec!["127.0.0.1"], vec!["127.0.0.2"]]);
    let client = with(lookup, &["127.0.0.1/32"], clock.clone());
    assert_eq!(client.post(&ReceiverCall::direct(&delivery(&url))).await.answer, Answer::Status(200));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the address that was checked is the one that is called");
    // A new connection asks the resolver again, and the answer is checked again.
    clock.advance(Duration::from_secs(60));
    assert!(refused(&client.post(&ReceiverCall::direct(&delivery(&url))).await));
    assert_eq!((asked.load(Ordering::SeqCst), receiver.arrivals().len()), (2, 1));
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_a_network_error() {
    let lookup: Lookup = Arc::new(|_| Box::pin(async { Err(io::Error::other("no such name")) }));
    let attempted =
        with(lookup, &[], Clock::system()).post(&ReceiverCall::direct(&delivery("http://nowhere.example/"))).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Network), "{attempted:?}");
    let (lookup, _) = resolver(vec![vec![]]);
    let attempted =
        with(lookup, &[], Clock::system()).post(&ReceiverCall::direct(&delivery("http://empty.example/"))).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Network), "{attempted:?}");
}

#[tokio::test]
async fn a_resolver_that_hangs_is_a_timeout() {
    let lookup: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
    let attempted =
        with(lookup, &[], Clock::system()).post(&ReceiverCall::direct(&delivery("http://slow.example/"))).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Timeout), "{attempted:?}");
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_is_not_followed() {
    let (receiver, inside) = (Receiver::start().await, Receiver::start().await);
    receiver.always(Reply { headers: vec![("location", inside.url("/"))], ..302.into() });
    let attempted = local().post(&ReceiverCall::direct(&delivery(&receiver.url("/")))).await;
    assert_eq!((attempted.answer.clone(), class(&attempted)), (Answer::Status(302), Some(ErrorClass::ClientError)));
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_url_that_cannot_be_called_is_refused() {
    for url in ["", "nonsense", "ftp://a.example/", "http://", "http://u:p@a.example/", "http://a.example:0/"] {
        assert!(refused(&local().post(&ReceiverCall::direct(&delivery(url))).await), "{url}");
    }
}

// ---- Headers

#[tokio::test]
async fn a_header_that_must_not_be_sent_is_refused_here_too() {
    let receiver = Receiver::start().await;
    let with = |name: &str, value: &str| {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Delivery { headers, ..delivery(&receiver.url("/")) }
    };
    // A message that somebody put into the queue by hand may have these.
    for (name, value) in [
        ("x", "a\r\nb: c"),
        ("x y", "a"),
        ("", "a"),
        ("x", "\u{1}"),
        ("host", "elsewhere.example"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("webhook-id", "forged"),
        ("Webhook-Signature", "forged"),
    ] {
        assert!(refused(&local().post(&ReceiverCall::direct(&with(name, value))).await), "{name:?} {value:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn another_implementation_verifies_our_signatures() {
    let receiver = Receiver::start().await;
    let secrets = format!("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA {SECRET}");
    let config = config(&["127.0.0.0/8"]);
    let client = HttpReceiverClient::new(config, keyring(&secrets), Clock::system()).unwrap();
    let payload = Bytes::from_static("{ \"é\" : 1.0 }".as_bytes());
    client.post(&ReceiverCall::direct(&Delivery { payload, ..delivery(&receiver.url("/")) })).await;
    let got = receiver.arrivals().remove(0);
    let check = "import sys, standardwebhooks as s\n\
                 headers = dict(zip(('webhook-id', 'webhook-timestamp', 'webhook-signature'), sys.argv[2:5]))\n\
                 s.Webhook(sys.argv[1]).verify(sys.argv[5], headers)";
    let verify = |secret: &str, body: &str| {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/venvs/ministack/bin/python");
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| got.header(name).to_owned());
        let status =
            std::process::Command::new(python).args(["-c", check, secret]).args(headers).arg(body).output().unwrap();
        status.status.success()
    };
    let body = std::str::from_utf8(&got.body).unwrap();
    for secret in secrets.split(' ') {
        assert!(verify(secret, body), "while secrets rotate, each of both verifies");
    }
    assert!(!verify("whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", body) && !verify(SECRET, "{ \"é\" : 1.1 }"));
}

// ---- TLS

async fn over_tls(host: &str, validity: Validity, trusted: bool) -> (Attempted, Receiver) {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate_valid(host, validity);
    let receiver = Receiver::start_tls(&certificate, &key).await;
    let pem = if trusted { authority.pem() } else { Authority::new().pem() };
    let config = ReceiverClientConfig {
        extra_roots_pem: Some(pem),
        timeout: TIMEOUT * 5,
        ..config(&["127.0.0.0/8", "::1/128"])
    };
    let attempted = client(config)
        .post(&ReceiverCall::direct(&delivery(&receiver.url("/").replace("127.0.0.1", "localhost"))))
        .await;
    (attempted, receiver)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted_and_http_2_spoken() {
    let (attempted, receiver) = over_tls("localhost", Validity::Now, true).await;
    assert_eq!(attempted.answer, Answer::Status(200), "{attempted:?}");
    assert_eq!(receiver.arrivals()[0].version, http::Version::HTTP_2);
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_network_errors_that_say_why() {
    for (host, validity, trusted, word) in [
        ("localhost", Validity::Now, false, "UnknownIssuer"),
        ("other.example", Validity::Now, true, "not valid for"),
        ("localhost", Validity::Past, true, "expired"),
        ("localhost", Validity::Future, true, "not valid yet"),
    ] {
        let (attempted, receiver) = over_tls(host, validity, trusted).await;
        assert_eq!(class(&attempted), Some(ErrorClass::Network), "{attempted:?}");
        assert!(attempted.error().contains(word), "{word}: {}", attempted.error());
        assert!(receiver.arrivals().is_empty());
    }
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_a_network_error() {
    let peer = Peer::start(vec![head("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).await;
    let attempted = local().post(&ReceiverCall::direct(&delivery(&peer.url().replace("http:", "https:")))).await;
    assert_eq!(class(&attempted), Some(ErrorClass::Network), "{attempted:?}");
}

// ---- Connections

#[tokio::test]
async fn connections_are_used_again_and_dropped_after_a_freeze() {
    let receiver = Receiver::start().await;
    let clock = Clock::fixed(BEGINNING);
    let client = HttpReceiverClient::new(config(&["127.0.0.0/8"]), keyring(SECRET), clock.clone()).unwrap();
    for _ in 0..5 {
        assert_eq!(client.post(&ReceiverCall::direct(&delivery(&receiver.url("/")))).await.answer, Answer::Status(200));
    }
    assert_eq!(receiver.connections(), 1);
    clock.advance(Duration::from_secs(11));
    client.post(&ReceiverCall::direct(&delivery(&receiver.url("/")))).await;
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn each_connection_ages_by_the_clock_while_others_are_in_use() {
    let (rare, busy) = (Receiver::start().await, Receiver::start().await);
    let clock = Clock::fixed(BEGINNING);
    let client = HttpReceiverClient::new(config(&["127.0.0.0/8"]), keyring(SECRET), clock.clone()).unwrap();
    client.post(&ReceiverCall::direct(&delivery(&rare.url("/")))).await;
    for _ in 0..3 {
        client.post(&ReceiverCall::direct(&delivery(&busy.url("/")))).await;
        // Frozen, each time for less than a connection may be idle.
        clock.advance(Duration::from_secs(3));
    }
    client.post(&ReceiverCall::direct(&delivery(&rare.url("/")))).await;
    assert_eq!((rare.connections(), busy.connections()), (2, 1));
}

#[tokio::test]
async fn an_idle_connection_that_its_receiver_closed_costs_nothing() {
    // It answers once on each connection, and then closes it without notice.
    let peer = Peer::start(vec![head("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).await;
    let client = local();
    for n in 1..=10 {
        assert_eq!(client.post(&ReceiverCall::direct(&delivery(&peer.url()))).await.answer, Answer::Status(200), "{n}");
        assert_eq!(peer.connections(), n, "one call each");
    }
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let (receiver, proxy) = (Receiver::start().await, Receiver::start().await);
    let redis = tests::redis_server::RedisServer::start();
    let mut settings = tests::world::settings(&redis.url());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        settings.push((name, proxy.url("")));
    }
    let deliver = tests::binary::Function::start("deliver", &settings).await;
    let delivery = Delivery { deadline: Millis(99_999_999_999_999), ..delivery(&receiver.url("/")) };
    let message = Message { delivery, ..Message::default() };
    let event = tests::binary::sqs_event(&[message.encode().unwrap()]);
    deliver.invoke(&event).await;
    assert_eq!((receiver.arrivals().len(), proxy.connections()), (1, 0));
}
