//! The rules of a delivery's record exist twice, in Rust and in Lua. Random histories on a
//! real Redis compare answers and records.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::redis::query::Query;
use adapters::redis::transport::{Call, Redis, RedisConfig, RedisPort, Reply, Unavailable};
use adapters::redis::{marks, records};
use async_trait::async_trait;
use domain::outcome::ErrorClass;
use domain::record::{Claim, Ending, NewRecord, Record, Settlement};
use domain::record_rules as rules;
use domain::status::Lifetimes;
use domain::time::Millis;
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_cluster::RedisCluster;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::BEGINNING;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };

#[derive(Clone, Debug)]
enum Act {
    Reserve(u8),
    Confirm(u8),
    Forget(u8),
    Claim { body: u8, token: u8, hop: u32 },
    Settle { body: u8, token: u8, hop: u32, ending: Ending, log: Option<String> },
    Remove(u64),
    Abandon(u64),
    Redrive { body: u8, hop: u32 },
    Erase,
    Wait(u64),
    Lose,
}

fn endings() -> impl Strategy<Value = Ending> {
    let calls = 0u32..4;
    prop_oneof![
        (calls.clone(), 200u16..300).prop_map(|(attempts, code)| Ending::Delivered { attempts, code, duration_ms: 7 }),
        (calls.clone(), proptest::option::of(400u16..600), 1u64..9).prop_map(|(attempts, code, at)| Ending::Retrying {
            attempts,
            code,
            class: ErrorClass::ServerError,
            error: "no\nluck".into(),
            duration_ms: 7,
            next_attempt_at: Millis(BEGINNING.0 + at),
        }),
        (1u64..9).prop_map(|at| Ending::Parked { error: "open".into(), next_attempt_at: Millis(at) }),
        (calls, proptest::option::of(400u16..600), proptest::option::of(0u64..9)).prop_map(
            |(attempts, code, duration_ms)| Ending::Failed {
                attempts,
                code,
                class: code.map(|_| ErrorClass::ClientError),
                error: "é".into(),
                duration_ms,
            }
        ),
        (0u32..9, 0u32..9).prop_map(|(matched, owed)| Ending::Continued { matched, owed }),
        (0u32..9, 0u32..9).prop_map(|(matched, owed)| Ending::FannedOut { matched, owed }),
        Just(Ending::Released),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let body = prop_oneof![9 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8), 2 => Just(3u8)];
    prop_oneof![
        1 => body.clone().prop_map(Act::Reserve),
        1 => body.clone().prop_map(Act::Confirm),
        1 => body.clone().prop_map(Act::Forget),
        6 => (body.clone(), 0u8..4, 0u32..4).prop_map(|(body, token, hop)| Act::Claim { body, token, hop }),
        6 => (body.clone(), 0u8..4, 0u32..4, endings(), proptest::option::of("[a-c]{1,2}"))
            .prop_map(|(body, token, hop, ending, log)| Act::Settle { body, token, hop, ending, log }),
        2 => (0u64..200).prop_map(Act::Remove),
        1 => (0u64..1500).prop_map(Act::Abandon),
        1 => (body, 1u32..5).prop_map(|(body, hop)| Act::Redrive { body, hop }),
        1 => Just(Act::Erase),
        3 => prop_oneof![9 => 0u64..200, 1 => 900u64..1100].prop_map(Act::Wait),
        1 => Just(Act::Lose),
    ]
}

/// Four deliveries under one id: two with different bodies, one whose hash is not known, and
/// one with the first body long after its reservation.
fn new_record(body: u8) -> NewRecord {
    let accepted_ms = [0, 0, 1, 1_000_000][usize::from(body)];
    NewRecord {
        tenant: (body == 1).then(|| "acme".into()),
        url: "https://a.example/".into(),
        correlation_id: format!("c-{body}"),
        event_type: (body == 1).then(|| "paid".into()),
        body_hash: ["hash-0", "hash-1", "", "hash-0"][usize::from(body)].into(),
        accepted_at: Millis(BEGINNING.0 + accepted_ms),
        expires_at: Millis(BEGINNING.0 + 1000 + u64::from(body)),
        attempts: u32::from(body),
    }
}

/// Asks the query alone and gives its answer as text.
async fn ask<T: Debug + 'static>(redis: &Redis, query: Query<T>) -> String {
    format!("{:?}", query.run(redis).await.unwrap())
}

/// One act on both. Gives both answers as text: the one of Rust, the one of Lua.
async fn apply(act: &Act, redis: &Redis, clock: &Clock, record: &mut Option<Record>) -> (String, String) {
    let (id, now) = ("x", clock.now());
    match act {
        Act::Reserve(body) => {
            let new_record = new_record(*body);
            let answer = ask(redis, records::reserve(id, &new_record)).await;
            (format!("{:?}", rules::reserve(record, now, &new_record)), answer)
        }
        Act::Confirm(body) => {
            let new_record = new_record(*body);
            let answer = ask(redis, records::confirm(id, &new_record, LIFETIMES)).await;
            (format!("{:?}", rules::confirm(record, now, &new_record)), answer)
        }
        Act::Forget(body) => {
            let new_record = new_record(*body);
            let answer = ask(redis, records::forget(id, &new_record)).await;
            (format!("{:?}", rules::forget(record, &new_record)), answer)
        }
        Act::Claim { body, token, hop } => {
            let claim = Claim { token: format!("t{token}"), hop: *hop, lease_ms: 100, new_record: new_record(*body) };
            let answer = ask(redis, records::claim(id, &claim, LIFETIMES)).await;
            (format!("{:?}", rules::claim(record, now, &claim)), answer)
        }
        Act::Settle { body, token, hop, ending, log } => {
            let new_record = new_record(*body);
            let settlement =
                Settlement { token: format!("t{token}"), hop: *hop, ending: ending.clone(), log: log.clone() };
            let answer = ask(redis, records::settle(id, &new_record, &settlement, LIFETIMES)).await;
            (format!("{:?}", rules::settle(record, now, &new_record, &settlement)), answer)
        }
        Act::Remove(after) => {
            let before = Millis(BEGINNING.0 + after);
            let answer = ask(redis, records::remove(id, before)).await;
            (format!("{:?}", rules::remove(record, now, before)), answer)
        }
        Act::Abandon(after) => {
            let before = Millis(BEGINNING.0 + after);
            let answer = ask(redis, records::abandon(id, before, LIFETIMES)).await;
            (format!("{:?}", rules::abandon(record, now, before)), answer)
        }
        Act::Redrive { body, hop } => {
            let (new_record, due) = (new_record(*body), Millis(BEGINNING.0 + 7));
            let answer = ask(redis, records::redrive(id, &new_record, *hop, due, LIFETIMES)).await;
            (format!("{:?}", rules::redrive(record, now, &new_record, *hop, due)), answer)
        }
        Act::Erase => {
            let answer = ask(redis, marks::erase(id)).await;
            (format!("{:?}", rules::erase(record, now)), answer)
        }
        Act::Wait(ms) => {
            clock.advance(Duration::from_millis(*ms));
            (String::new(), String::new())
        }
        Act::Lose => {
            command(redis, redis::cmd("DEL").arg(records::key(id))).await;
            *record = None;
            (String::new(), String::new())
        }
    }
}

/// A plain command, by the client under test, which finds its way in a cluster.
async fn command(redis: &Redis, command: &redis::Cmd) -> redis::Value {
    redis.round_trip(vec![command.clone().into()]).await.unwrap().pop().unwrap().unwrap()
}

fn agree(config: &RedisConfig, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (clock, redis) = runtime.block_on(async {
        let clock = Clock::fixed(BEGINNING);
        (clock.clone(), Redis::open(config, clock).unwrap())
    });
    let options = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(options, |(history in proptest::collection::vec(acts(), 1..24))| {
        runtime.block_on(async {
            clock.step_back(BEGINNING.until(clock.now()));
            let mut record = None;
            apply(&Act::Lose, &redis, &clock, &mut record).await;
            for (step, act) in history.iter().enumerate() {
                let (expected, answer) = apply(act, &redis, &clock, &mut record).await;
                prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, act);
                let all = command(&redis, redis::cmd("HGETALL").arg(records::key("x"))).await;
                let stored: BTreeMap<String, String> = redis::FromRedisValue::from_redis_value(all).unwrap();
                let wanted = record.as_ref().map(records::fields).unwrap_or_default();
                let wanted: BTreeMap<String, String> = wanted.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
                prop_assert_eq!(&wanted, &stored, "step {}: {:?}", step, act);
            }
            Ok(())
        })?;
    });
}

#[test]
fn rust_and_lua_agree_on_random_histories() {
    let server = RedisServer::start();
    agree(&server.config(), 2000);
}

#[test]
fn they_agree_in_a_cluster_too() {
    let cluster = RedisCluster::start();
    agree(&cluster.config(), 150);
}

#[tokio::test]
async fn every_record_has_the_life_of_its_status() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    let mut look = server.connect();
    let ttl = |look: &mut redis::Connection| -> i64 { look.ttl("webhook_status:x").unwrap() };
    let claim = Claim { token: "t".into(), hop: 0, lease_ms: 100, new_record: new_record(0) };

    records::reserve("x", &new_record(0)).run(&redis).await.unwrap();
    assert!((1..=900).contains(&ttl(&mut look)), "the message of a reservation may not be queued");
    records::confirm("x", &new_record(0), LIFETIMES).run(&redis).await.unwrap();
    assert!((604_790..=604_800).contains(&ttl(&mut look)));
    records::claim("x", &claim, LIFETIMES).run(&redis).await.unwrap();
    assert!((604_790..=604_800).contains(&ttl(&mut look)));
    let ending = Ending::Delivered { attempts: 1, code: 200, duration_ms: 1 };
    let settlement = Settlement { token: "t".into(), hop: 0, ending, log: None };
    records::settle("x", &new_record(0), &settlement, LIFETIMES).run(&redis).await.unwrap();
    assert!((1790..=1800).contains(&ttl(&mut look)));
}

/// Keeps what is sent, and answers nothing.
#[derive(Default)]
struct Sent(std::sync::Mutex<Vec<Call>>);

#[async_trait]
impl RedisPort for Sent {
    async fn round_trip(&self, calls: Vec<Call>) -> Result<Vec<Reply>, Unavailable> {
        self.0.lock().unwrap().extend(calls);
        Err(Unavailable::away())
    }
}

#[tokio::test]
async fn a_bad_argument_changes_nothing() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    let claim = Claim { token: "t".into(), hop: 0, lease_ms: 1, new_record: new_record(0) };
    let sent = Sent::default();
    assert!(records::claim("x", &claim, LIFETIMES).run(&sent).await.is_err());
    let Some(Call::Script { script, key, args }) = sent.0.into_inner().unwrap().pop() else {
        panic!("a claim is a script")
    };
    for at in [1, 2, 4, 5, 9, 10] {
        for bad in ["", "-1", "1.5", "x", "1e400", "nan", "{}"] {
            let _: () = server.connect().hset(&key, "other", "1").unwrap();
            let args = args.iter().enumerate().map(|(i, good)| if i == at { bad } else { good }).collect();
            let reply =
                redis.round_trip(vec![Call::Script { script, key: key.clone(), args }]).await.unwrap().remove(0);
            assert!(reply.is_err(), "argument {at} as {bad:?}");
            let fields: Vec<String> = server.connect().hkeys(&key).unwrap();
            assert_eq!(fields, ["other"], "argument {at} as {bad:?}");
        }
    }
}

#[tokio::test]
async fn a_new_record_begins_with_any_text() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    for text in ["", "a \"b\" \\ /", "\0\u{1}\n\u{1f}\u{7f}", "日本😀\u{2028}\u{ffff}"] {
        let details = NewRecord { url: text.into(), correlation_id: text.into(), ..new_record(0) };
        let claim = Claim { token: "t".into(), hop: 0, lease_ms: 1, new_record: details.clone() };
        records::claim("x", &claim, LIFETIMES).run(&redis).await.unwrap();
        let stored = records::read("x").run(&redis).await.unwrap().unwrap();
        assert_eq!(stored.record.details, details, "{text:?}");
        let _: () = redis::cmd("FLUSHALL").query(&mut server.connect()).unwrap();
    }
}

#[tokio::test]
async fn a_script_that_redis_forgot_is_loaded_again() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    for _ in 0..2 {
        records::reserve("x", &new_record(0)).run(&redis).await.unwrap();
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connect()).unwrap();
    }
}
