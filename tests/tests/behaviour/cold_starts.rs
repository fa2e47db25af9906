//! First connections and connections after a pause: what a process that has just started, or was frozen, meets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adapters::aws::account::Account;
use adapters::aws::dynamodb::Table;
use adapters::aws::sqs::{Outgoing, Queue as _, QueueName, QueueUrls, Sqs};
use adapters::clock::Clock;
use adapters::config;
use adapters::config::reader::Environment;
use adapters::dead_letter_store::DeadLetterStore as _;
use adapters::redis::transport::{Redis, RedisConfig, RedisPort as _};
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::message::Message;
use serde_json::json;
use tests::binary::{Function, sqs_event};
use tests::proxy::{Proxy, Trouble};
use tests::receiver::{Receiver, Reply};
use tests::redis_server::{RedisServer, free_port};
use tests::tls::Authority;
use tests::world::{BEGINNING, changed_settings, settings};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

// ---- The SDK's clients

/// An AWS that gives this answer, behind a proxy that can forget connections.
struct Aws {
    answers: Receiver,
    proxy: Proxy,
    clock: Clock,
    account: Account,
}

impl Aws {
    async fn answering(body: String) -> Self {
        let answers = Receiver::start().await;
        answers.always(Reply {
            body,
            headers: vec![("content-type", "application/x-amz-json-1.0".into())],
            ..200.into()
        });
        let port = answers.origin().rsplit(':').next().unwrap().parse().unwrap();
        let proxy = Proxy::before(port).await;
        let clock = Clock::fixed(BEGINNING);
        let account = Environment::of(settings("")).read(|reader| Ok(config::account(reader))).unwrap();
        let endpoint = Some(format!("http://127.0.0.1:{}", proxy.port()));
        Self { answers, proxy, clock: clock.clone(), account: Account { endpoint, clock, ..account } }
    }

    /// From now on the present connections are dead, and nobody tells. Lambda has frozen the process meanwhile: the time
    /// of day went on, and its timers stood still.
    fn freeze(&self, pause: Duration) {
        self.proxy.set(Trouble::BlackHole);
        self.clock.advance(pause);
    }
}

#[tokio::test]
async fn sqs_is_reached_at_once_after_a_freeze_in_which_connections_were_forgotten() {
    let taken = json!({ "Successful": [{ "Id": "0", "MessageId": "m", "MD5OfMessageBody": "" }], "Failed": [] });
    let aws = Aws::answering(taken.to_string()).await;
    let url = |name: &str| format!("http://127.0.0.1:{}/{name}", aws.proxy.port());
    let urls = QueueUrls {
        delivery: url("delivery"),
        retry: url("retry"),
        wait: url("wait"),
        slow: url("slow"),
        event: url("event"),
        dead_letter: url("dead"),
    };
    let sqs = &Sqs::new(&aws.account, urls);
    let send = || async {
        let message = || vec![Outgoing::new("{}".into(), String::new(), 1)];
        // At once, so that each has a connection.
        let queues = [QueueName::Delivery, QueueName::Retry, QueueName::DeadLetter];
        futures_util::future::join_all(queues.map(|name| sqs.send(name, message()))).await.concat()
    };
    assert!(send().await.iter().all(Result::is_ok));
    assert_eq!((aws.answers.count(), aws.proxy.connections()), (3, 3));
    assert!(send().await.iter().all(Result::is_ok));
    assert_eq!((aws.answers.count(), aws.proxy.connections()), (6, 3), "without a pause they are used again");
    for n in 1..=2 {
        aws.freeze(Duration::from_secs(60));
        assert!(send().await.iter().all(Result::is_ok), "every queue is reached");
        assert_eq!((aws.answers.count(), aws.proxy.connections()), (6 + 3 * n, 3 + 3 * n), "and at the first try");
    }
}

#[tokio::test]
async fn the_table_is_reached_at_once_after_a_freeze_in_which_connections_were_forgotten() {
    let aws = Aws::answering("{}".into()).await;
    let table = Table::new(&aws.account, "dead-letters".into(), 60);
    let get = || async { futures_util::future::join(table.get("a"), table.get("b")).await };
    for n in 1..=3 {
        let (a, b) = get().await;
        assert!(a.unwrap().is_none() && b.unwrap().is_none());
        assert_eq!((aws.answers.count(), aws.proxy.connections()), (2 * n, 2 * n), "at the first try");
        aws.freeze(Duration::from_secs(60));
    }
}

// ---- Redis

/// A way to a server that takes this long to open.
async fn slow_way_to(server: u16, opening: Duration) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                tokio::time::sleep(opening).await;
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    (port, accepted)
}

async fn answers(redis: &Redis) -> bool {
    let replies = redis.round_trip(vec![redis::cmd("PING").into()]).await;
    replies.is_ok_and(|replies| replies.iter().all(Result::is_ok))
}

#[tokio::test]
async fn the_first_connection_to_redis_may_take_longer_than_later_ones() {
    let server = RedisServer::start();
    let (port, accepted) = slow_way_to(server.port(), Duration::from_millis(500)).await;
    let redis = Redis::open(&RedisConfig::node(format!("redis://127.0.0.1:{port}")), Clock::system()).unwrap();
    assert!(answers(&redis).await);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    let _: () =
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut server.connect()).unwrap();
    assert!(!answers(&redis).await, "500 ms are too long for a Redis that was fast");
    assert!((2..=3).contains(&accepted.load(Ordering::SeqCst)), "{accepted:?}");
}

#[tokio::test]
async fn authorities_are_read_when_a_process_starts_and_not_for_each_connection() {
    let (authority, receiver, port) = (Authority::new(), Receiver::start().await, free_port());
    let files = authority.files_for("127.0.0.1");
    let tls = ["--tls-cert-file", &files.certificate, "--tls-key-file", &files.key, "--tls-auth-clients", "no"];
    let port_text = port.to_string();
    let server = RedisServer::start_with(
        &[&["--tls-port", &port_text, "--tls-ca-cert-file", &files.authority], &tls[..]].concat(),
    );
    let url = format!("rediss://127.0.0.1:{port}");
    // The only authority that this machine trusts.
    let machine = [("SSL_CERT_FILE", files.authority.as_str()), ("SSL_CERT_DIR", "/nonexistent")];
    let deliver = Function::start("deliver", &changed_settings(&url, &machine)).await;
    deliver.polls().await;
    std::fs::remove_file(&files.authority).unwrap();
    for id in ["first", "second"] {
        let now = Clock::system().now();
        let delivery = Delivery {
            id: id.into(),
            url: receiver.url("/"),
            payload: Bytes::from_static(b"1"),
            accepted_at: now,
            deadline: now.after(Duration::from_secs(3600)),
            ..Delivery::default()
        };
        let message = Message { delivery, ..Message::default() };
        deliver.invoke(&sqs_event(&[message.encode().unwrap()])).await;
        let status: Option<String> =
            redis::cmd("HGET").arg(format!("webhook_status:{id}")).arg("status").query(&mut server.connect()).unwrap();
        assert_eq!(status.as_deref(), Some("delivered"), "{id}: Redis was reached");
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        let _: () = redis::cmd("CLIENT").arg(&kill).query(&mut server.connect()).unwrap();
    }
    assert_eq!(receiver.count(), 2);
}
