//! The delivery record's rules stand twice, in Rust and in Lua. Random histories
//! on a real Redis hold the two equal, answers and records alike.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::config::RedisConfig;
use adapters::ledger;
use adapters::redis::{Call, Redis, Reply, Wire as _};
use domain::ledger::{self as rules, Birth, Claim, Ending, Record, Settlement};
use domain::outcome::ErrorClass;
use domain::status::Lifetimes;
use domain::time::Millis;
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_cluster::RedisCluster;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::BEGINNING;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000 };

#[derive(Clone, Debug)]
enum Act {
    Reserve(u8),
    Confirm(u8),
    Forget(u8),
    Claim { body: u8, token: u8, hop: u32 },
    Settle { body: u8, token: u8, hop: u32, ending: Ending },
    Remove(u64),
    Abandon(u64),
    Redrive { body: u8, hop: u32 },
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
        Just(Ending::Released),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let body = prop_oneof![9 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8)];
    prop_oneof![
        1 => body.clone().prop_map(Act::Reserve),
        1 => body.clone().prop_map(Act::Confirm),
        1 => body.clone().prop_map(Act::Forget),
        6 => (body.clone(), 0u8..4, 0u32..4).prop_map(|(body, token, hop)| Act::Claim { body, token, hop }),
        6 => (body.clone(), 0u8..4, 0u32..4, endings())
            .prop_map(|(body, token, hop, ending)| Act::Settle { body, token, hop, ending }),
        2 => (0u64..200).prop_map(Act::Remove),
        1 => (0u64..1500).prop_map(Act::Abandon),
        1 => (body, 1u32..5).prop_map(|(body, hop)| Act::Redrive { body, hop }),
        3 => prop_oneof![9 => 0u64..200, 1 => 900u64..1100].prop_map(Act::Wait),
        1 => Just(Act::Lose),
    ]
}

/// Three bodies: two that differ, and one whose hash is not known.
fn birth(body: u8) -> Birth {
    Birth {
        url: "https://a.example/".into(),
        correlation_id: format!("c-{body}"),
        event_type: (body == 1).then(|| "paid".into()),
        body_hash: if body == 2 { String::new() } else { format!("hash-{body}") },
        accepted_at: Millis(BEGINNING.0 + u64::from(body / 2)),
        expires_at: Millis(BEGINNING.0 + 1000 + u64::from(body)),
        attempts: u32::from(body),
    }
}

async fn ask(redis: &Redis, call: Call) -> Reply {
    redis.wave(&[call]).await.unwrap().pop().unwrap()
}

/// One act on both; gives both answers as text.
async fn apply(act: &Act, redis: &Redis, clock: &Clock, record: &mut Option<Record>) -> (String, String) {
    let (id, now) = ("x", clock.now());
    match act {
        Act::Reserve(body) => {
            let birth = birth(*body);
            let reply = ledger::reserved(ask(redis, ledger::reserve(id, &birth)).await);
            (format!("{:?}", rules::reserve(record, now, &birth)), format!("{:?}", reply.unwrap()))
        }
        Act::Confirm(body) => {
            let birth = birth(*body);
            let reply: String = redis::FromRedisValue::from_redis_value(
                ask(redis, ledger::confirm(id, &birth, LIFETIMES)).await.unwrap(),
            )
            .unwrap();
            (rules::confirm(record, now, &birth).as_str().to_owned(), reply)
        }
        Act::Forget(body) => {
            let birth = birth(*body);
            let reply: bool =
                redis::FromRedisValue::from_redis_value(ask(redis, ledger::forget(id, &birth)).await.unwrap()).unwrap();
            (rules::forget(record, &birth).to_string(), reply.to_string())
        }
        Act::Claim { body, token, hop } => {
            let claim = Claim { token: format!("t{token}"), hop: *hop, lease_ms: 100, birth: birth(*body) };
            let reply = ledger::granted(ask(redis, ledger::claim(id, &claim, LIFETIMES)).await);
            (format!("{:?}", rules::claim(record, now, &claim)), format!("{:?}", reply.unwrap()))
        }
        Act::Settle { body, token, hop, ending } => {
            let birth = birth(*body);
            let settlement = Settlement { token: format!("t{token}"), hop: *hop, ending: ending.clone() };
            let reply = ledger::settled(ask(redis, ledger::settle(id, &birth, &settlement, LIFETIMES)).await);
            (format!("{:?}", rules::settle(record, now, &birth, &settlement)), format!("{:?}", reply.unwrap()))
        }
        Act::Remove(after) => {
            let before = Millis(BEGINNING.0 + after);
            let reply = ledger::removed(ask(redis, ledger::remove(id, before)).await);
            (format!("{:?}", rules::remove(record, now, before)), format!("{:?}", reply.unwrap()))
        }
        Act::Abandon(after) => {
            let before = Millis(BEGINNING.0 + after);
            let reply = ledger::abandoned(ask(redis, ledger::abandon(id, before, LIFETIMES)).await);
            (rules::abandon(record, now, before).to_string(), reply.unwrap().to_string())
        }
        Act::Redrive { body, hop } => {
            let (birth, due) = (birth(*body), Millis(BEGINNING.0 + 7));
            let reply = ledger::redriven(ask(redis, ledger::redrive(id, &birth, *hop, due, LIFETIMES)).await);
            let status = rules::redrive(record, now, &birth, *hop, due);
            (format!("{status:?}"), format!("{:?}", reply.unwrap()))
        }
        Act::Wait(ms) => {
            clock.advance(Duration::from_millis(*ms));
            (String::new(), String::new())
        }
        Act::Lose => {
            ask(redis, redis::cmd("DEL").arg("webhook_status:x").to_owned().into()).await.unwrap();
            *record = None;
            (String::new(), String::new())
        }
    }
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
                let all = ask(&redis, redis::cmd("HGETALL").arg("webhook_status:x").to_owned().into()).await.unwrap();
                let stored: BTreeMap<String, String> = redis::FromRedisValue::from_redis_value(all).unwrap();
                let wanted: BTreeMap<String, String> = record
                    .as_ref()
                    .map(|record| record.fields().into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
                    .unwrap_or_default();
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
    let claim = Claim { token: "t".into(), hop: 0, lease_ms: 100, birth: birth(0) };

    ask(&redis, ledger::reserve("x", &birth(0))).await.unwrap();
    assert!((1..=900).contains(&ttl(&mut look)), "a reservation may never have been queued");
    ask(&redis, ledger::confirm("x", &birth(0), LIFETIMES)).await.unwrap();
    assert!((604_790..=604_800).contains(&ttl(&mut look)));
    ask(&redis, ledger::claim("x", &claim, LIFETIMES)).await.unwrap();
    assert!((604_790..=604_800).contains(&ttl(&mut look)));
    let ending = Ending::Delivered { attempts: 1, code: 200, duration_ms: 1 };
    let settlement = Settlement { token: "t".into(), hop: 0, ending };
    ask(&redis, ledger::settle("x", &birth(0), &settlement, LIFETIMES)).await.unwrap();
    assert!((1790..=1800).contains(&ttl(&mut look)));
}

#[tokio::test]
async fn a_bad_argument_changes_nothing() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    let Call::Script { script, key, args } =
        ledger::claim("x", &Claim { token: "t".into(), hop: 0, lease_ms: 1, birth: birth(0) }, LIFETIMES)
    else {
        panic!("a claim is a script")
    };
    for at in [1, 2, 4, 5] {
        for bad in ["", "-1", "1.5", "x", "1e400", "nan"] {
            let args = args.iter().enumerate().map(|(i, good)| if i == at { bad } else { good }).collect();
            let reply = ask(&redis, Call::Script { script, key: key.clone(), args }).await;
            assert!(reply.is_err(), "argument {at} as {bad:?}");
            let exists: bool = server.connect().exists(&key).unwrap();
            assert!(!exists, "argument {at} as {bad:?}");
        }
    }
}

#[tokio::test]
async fn a_script_that_redis_forgot_is_loaded_again() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    for _ in 0..2 {
        ask(&redis, ledger::reserve("x", &birth(0))).await.unwrap();
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut server.connect()).unwrap();
    }
}
