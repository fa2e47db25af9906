//! The Redis client recovers where a plain client hangs, fails or counts twice: behind a
//! proxy with faults, on one node, over TLS and in a cluster.

use std::time::{Duration, Instant};

use adapters::clock::Clock;
use adapters::redis::query::{Query, Trip};
use adapters::redis::records;
use adapters::redis::transport::{Redis, RedisConfig};
use domain::record::{Claim, Ending, Grant, NewRecord, Settlement, SettlementReply};
use domain::status::Lifetimes;
use tests::proxy::{Proxy, Trouble};
use tests::redis_server::{RedisServer, free_port};
use tests::tls::Authority;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };

fn new_record() -> NewRecord {
    NewRecord { url: "https://a.example/".into(), body_hash: "h".into(), ..NewRecord::default() }
}

fn claim(token: &str) -> Query<Grant> {
    let claim = Claim { token: token.into(), hop: 0, lease_ms: 60_000, new_record: new_record() };
    records::claim("x", &claim, LIFETIMES)
}

fn settle(token: &str) -> Query<SettlementReply> {
    let ending = Ending::Delivered { attempts: 1, code: 200, duration_ms: 1 };
    records::settle("x", &new_record(), &Settlement { token: token.into(), hop: 0, ending, log: None }, LIFETIMES)
}

/// A server behind a proxy, and a client that knows only the proxy.
struct Setup {
    server: RedisServer,
    proxy: Proxy,
    redis: Redis,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Node,
    Tls,
    Cluster,
}

async fn setup(kind: Kind) -> Setup {
    let authority = Authority::new();
    let (server, proxy, mut config) = match kind {
        Kind::Node => {
            let server = RedisServer::start();
            let proxy = Proxy::before(server.port()).await;
            let config = RedisConfig::node(format!("redis://127.0.0.1:{}", proxy.port()));
            (server, proxy, config)
        }
        Kind::Tls => {
            let port = free_port();
            let files = authority.files_for("127.0.0.1");
            let server = RedisServer::start_with(&[
                "--tls-port",
                &port.to_string(),
                "--tls-cert-file",
                &files.certificate,
                "--tls-key-file",
                &files.key,
                "--tls-ca-cert-file",
                &files.authority,
                "--tls-auth-clients",
                "no",
            ]);
            let proxy = Proxy::before(port).await;
            let config = RedisConfig::node(format!("rediss://127.0.0.1:{}", proxy.port()));
            (server, proxy, config)
        }
        Kind::Cluster => {
            let port = free_port();
            let proxy = Proxy::before(port).await;
            let server = RedisServer::start_at(
                port,
                &[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-announce-ip",
                    "127.0.0.1",
                    "--cluster-announce-port",
                    &proxy.port().to_string(),
                ],
            );
            let mut look = server.connect();
            let _: () = redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383).query(&mut look).unwrap();
            let info =
                |look: &mut redis::Connection| -> String { redis::cmd("CLUSTER").arg("INFO").query(look).unwrap() };
            while !info(&mut look).contains("cluster_state:ok") {
                tokio::task::yield_now().await;
            }
            let config =
                RedisConfig { cluster: true, ..RedisConfig::node(format!("redis://127.0.0.1:{}", proxy.port())) };
            (server, proxy, config)
        }
    };
    config.ca_pem = matches!(kind, Kind::Tls).then(|| authority.pem());
    let redis = Redis::open(&config, Clock::system()).unwrap();
    // The connection is made and the server knows the script before anything fails.
    claim("warm-up").run(&redis).await.unwrap();
    let _: () = redis::cmd("DEL").arg("webhook_status:x").query(&mut server.connect()).unwrap();
    Setup { server, proxy, redis }
}

async fn claimed(setup: &Setup, token: &str) -> Grant {
    claim(token).run(&setup.redis).await.unwrap()
}

async fn recovers_from_a_connection_that_died_silently(kind: Kind) {
    let setup = setup(kind).await;
    let before = setup.proxy.connections();
    setup.proxy.set(Trouble::BlackHole);
    let began = Instant::now();
    assert_eq!(claimed(&setup, "a").await, Grant::Granted, "{kind:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{kind:?}: a plain client times out forever");
    assert!(setup.proxy.connections() > before, "{kind:?}");
    let used = setup.proxy.connections();
    assert!(matches!(claimed(&setup, "b").await, Grant::Busy(_)), "{kind:?}");
    assert_eq!(setup.proxy.connections(), used, "{kind:?}: the new connection is kept");
}

async fn counts_once_what_was_done_twice(kind: Kind) {
    let setup = setup(kind).await;
    setup.proxy.set(Trouble::LoseReply);
    assert_eq!(claimed(&setup, "a").await, Grant::Granted, "{kind:?}: the same token gets the same answer");
    setup.proxy.set(Trouble::LoseReply);
    assert_eq!(settle("a").run(&setup.redis).await.unwrap(), SettlementReply::Recorded, "{kind:?}");
    let crashes: Option<String> =
        redis::cmd("HGET").arg("webhook_status:x").arg("crashes").query(&mut setup.server.connect()).unwrap();
    assert_eq!(crashes, None, "{kind:?}");
}

async fn recovers_from_a_reset(kind: Kind) {
    let setup = setup(kind).await;
    setup.proxy.set(Trouble::Reset);
    assert_eq!(claimed(&setup, "a").await, Grant::Granted, "{kind:?}");
}

async fn gives_up_soon_and_works_again_later(kind: Kind) {
    let setup = setup(kind).await;
    setup.proxy.set(Trouble::Away);
    let began = Instant::now();
    assert!(claim("a").run(&setup.redis).await.is_err(), "{kind:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{kind:?}: an invocation must not hang");
    setup.proxy.set(Trouble::None);
    assert_eq!(claimed(&setup, "a").await, Grant::Granted, "{kind:?}");
}

macro_rules! on_every_kind {
    ($($name:ident: $kind:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn a_connection_that_died_silently_is_replaced() {
                recovers_from_a_connection_that_died_silently($kind).await;
            }

            #[tokio::test]
            async fn a_lost_reply_is_asked_for_again_and_counts_once() {
                counts_once_what_was_done_twice($kind).await;
            }

            #[tokio::test]
            async fn a_reset_is_sent_again() {
                recovers_from_a_reset($kind).await;
            }

            #[tokio::test]
            async fn a_server_that_is_away_is_given_up_soon_and_found_again() {
                gives_up_soon_and_works_again_later($kind).await;
            }
        }
    )*};
}

on_every_kind! {
    node: Kind::Node;
    tls: Kind::Tls;
    cluster: Kind::Cluster;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let setup = setup(Kind::Tls).await;
    let config = RedisConfig {
        ca_pem: Some(Authority::new().pem()),
        secret: None,
        ..RedisConfig::node(format!("rediss://127.0.0.1:{}", setup.proxy.port()))
    };
    assert!(claim("a").run(&Redis::open(&config, Clock::system()).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_server_that_only_reads_is_not_the_one_to_talk_to() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    claim("a").run(&redis).await.unwrap();
    let replicate = |host: &str, port: &str| {
        let _: () = redis::cmd("REPLICAOF").arg(host).arg(port).query(&mut server.connect()).unwrap();
    };
    replicate("127.0.0.1", "1");
    assert!(settle("a").run(&redis).await.is_err());
    replicate("NO", "ONE");
    assert!(settle("a").run(&redis).await.is_ok());
}

#[tokio::test]
async fn a_full_server_refuses_a_command_and_not_the_round_trip() {
    let server = RedisServer::start_with(&["--maxmemory", "100kb", "--maxmemory-policy", "noeviction"]);
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    let mut trip = Trip::default();
    let (claimed, read) = (trip.add(claim("a")), trip.add(records::read("x")));
    let mut replies = trip.run(&redis).await.unwrap();
    assert!(claimed.take(&mut replies).is_err());
    assert!(read.take(&mut replies).is_ok());
}
