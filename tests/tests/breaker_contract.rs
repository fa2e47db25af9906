//! The breaker's rules stand twice, in Rust and in Lua; random histories on a real
//! Redis hold the two equal. And what only a real Redis shows: many at once.

#![allow(clippy::unwrap_used, missing_docs, reason = "in tests a surprise ends the test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapters::breaker;
use adapters::clock::Clock;
use adapters::config::RedisConfig;
use adapters::redis::{Call, Redis, Reply, Wire as _};
use domain::breaker::{self as rules, Admission, Breaker, Pass, Policy, State};
use domain::outcome::Verdict;
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_server::RedisServer;
use tests::world::BEGINNING;

const POLICY: Policy = Policy { failure_threshold: 3, reset_ms: 100, reset_max_ms: 500 };
const TO: &str = "https://a.example";

#[derive(Clone, Debug)]
enum Act {
    Admit { id: u8, token: u8 },
    Report { token: u8, epoch: u64, verdicts: Vec<Verdict> },
    Probe { token: u8, epoch: u64, verdict: Verdict },
    Reset,
    Wait(u64),
    StepBack(u64),
    Lose,
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Unhealthy), 2 => Just(Verdict::Healthy), 1 => Just(Verdict::Throttled), 1 => Just(Verdict::Neutral)
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        16 => (0u8..3, 0u8..4).prop_map(|(id, token)| Act::Admit { id, token }),
        16 => (0u8..30, 0u64..6, proptest::collection::vec(verdicts(), 0..5))
            .prop_map(|(token, epoch, verdicts)| Act::Report { token, epoch, verdicts }),
        14 => (0u8..4, 0u64..6, verdicts()).prop_map(|(token, epoch, verdict)| Act::Probe { token, epoch, verdict }),
        1 => Just(Act::Reset),
        14 => (0u64..300).prop_map(Act::Wait),
        2 => (0u64..50).prop_map(Act::StepBack),
        1 => Just(Act::Lose),
    ]
}

async fn ask(redis: &Redis, call: Call) -> Reply {
    redis.wave(&[call]).await.unwrap().pop().unwrap()
}

/// One act on both. Epochs are taken relative to the present one, so that most of
/// them matter.
async fn apply(act: &Act, redis: &Redis, clock: &Clock, spec: &mut Breaker) -> (String, String) {
    let now = clock.now();
    let near = |offset: u64| match offset {
        0..=3 => spec.epoch,
        4 => spec.epoch + 1,
        _ => spec.epoch.saturating_sub(1),
    };
    match act {
        Act::Admit { id, token } => {
            let (id, token) = (format!("d{id}"), format!("t{token}"));
            let reply = ask(redis, breaker::admit(TO, &id, &token, (150, 40), &POLICY)).await;
            let answer = breaker::admitted(reply, &token).unwrap();
            (format!("{:?}", rules::admit(spec, now, &id, &token, (150, 40), &POLICY)), format!("{answer:?}"))
        }
        Act::Report { token, epoch, verdicts } => {
            let (token, epoch, before) = (format!("r{token}"), near(*epoch), spec.state);
            let reply = ask(redis, breaker::report(TO, &token, epoch, verdicts, &POLICY)).await;
            rules::report(spec, now, &token, epoch, verdicts, &POLICY);
            let changed = (spec.state != before).then_some(spec.state);
            (format!("{changed:?}"), format!("{:?}", breaker::changed(reply).unwrap()))
        }
        Act::Probe { token, epoch, verdict } => {
            // Mostly the probe that is out, now and then another.
            let out = spec.probe.as_ref().filter(|_| *epoch != 0).map(|probe| probe.token.clone());
            let (token, epoch, before) = (out.unwrap_or_else(|| format!("t{token}")), near(*epoch), spec.state);
            let reply = ask(redis, breaker::report_probe(TO, &token, epoch, *verdict, &POLICY)).await;
            rules::report_probe(spec, now, &token, epoch, *verdict, &POLICY);
            let changed = (spec.state != before).then_some(spec.state);
            (format!("{changed:?}"), format!("{:?}", breaker::changed(reply).unwrap()))
        }
        Act::Reset => {
            ask(redis, breaker::reset(TO)).await.unwrap();
            rules::reset(spec);
            (String::new(), String::new())
        }
        Act::Wait(ms) => {
            clock.advance(Duration::from_millis(*ms));
            (String::new(), String::new())
        }
        Act::StepBack(ms) => {
            clock.step_back(Duration::from_millis(*ms));
            (String::new(), String::new())
        }
        Act::Lose => {
            ask(redis, redis::cmd("FLUSHALL").into()).await.unwrap();
            *spec = Breaker::default();
            (String::new(), String::new())
        }
    }
}

#[test]
fn rust_and_lua_agree_on_random_histories() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reached = RefCell::new(BTreeMap::new());
    let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(history in proptest::collection::vec(acts(), 1..60))| {
        let mut look = server.connect();
        let _: () = redis::cmd("FLUSHALL").query(&mut look).unwrap();
        runtime.block_on(async {
            let clock = Clock::fixed(BEGINNING);
            let redis = Redis::open(&RedisConfig::node(server.url()), clock.clone()).unwrap();
            let mut spec = Breaker::default();
            for (step, act) in history.iter().enumerate() {
                let (expected, answer) = apply(act, &redis, &clock, &mut spec).await;
                prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, act);
                let stored: BTreeMap<String, String> = look.hgetall(breaker::key(TO)).unwrap();
                let seen = (spec.state.as_str(), spec.probe.is_some(), spec.epoch > 2);
                *reached.borrow_mut().entry(seen).or_insert(0) += 1;
                prop_assert_eq!(&spec, &Breaker::from_fields(&stored), "step {}: {:?}", step, act);
            }
            Ok(())
        })?;
    });
    let reached = reached.into_inner();
    for state in [("open", false, true), ("half_open", true, true), ("half_open", false, true), ("closed", false, true)]
    {
        assert!(reached.get(&state).is_some_and(|&count| count > 10), "{state:?} is hardly reached: {reached:?}");
    }
}

const REAL: Policy = Policy { failure_threshold: 5, reset_ms: 60_000, reset_max_ms: 900_000 };

async fn at_once(server: &RedisServer, calls: Vec<Call>) -> Vec<Reply> {
    let mut tasks = Vec::new();
    for call in calls {
        let redis = Arc::new(Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap());
        tasks.push(tokio::spawn(async move { ask(&redis, call).await }));
    }
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    replies
}

fn stored(server: &RedisServer) -> Breaker {
    let fields: BTreeMap<String, String> = server.connect().hgetall(breaker::key(TO)).unwrap();
    Breaker::from_fields(&fields)
}

#[tokio::test]
async fn fifty_failures_reported_at_once_trip_it_every_time() {
    for _ in 0..20 {
        let server = RedisServer::start();
        let calls = (0..50).map(|n| breaker::report(TO, &format!("r{n}"), 0, &[Verdict::Unhealthy], &REAL)).collect();
        let opened = at_once(&server, calls)
            .await
            .into_iter()
            .filter(|reply| breaker::changed(reply.clone()).unwrap() == Some(State::Open));
        assert_eq!(opened.count(), 1);
        assert_eq!((stored(&server).state, stored(&server).failures), (State::Open, 5));
    }
}

#[tokio::test]
async fn two_hundred_admissions_at_half_open_give_one_probe() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    ask(&redis, breaker::report(TO, "r", 0, &[Verdict::Unhealthy; 5], &REAL)).await.unwrap();
    let _: () = server.connect().hset(breaker::key(TO), "retry_at", 1).unwrap();
    let calls =
        (0..200).map(|n| breaker::admit(TO, &format!("d{n}"), &format!("t{n}"), (60_000, 25_000), &REAL)).collect();
    let probes = at_once(&server, calls).await.into_iter().filter(|reply| {
        matches!(breaker::admitted(reply.clone(), "t").unwrap(), Admission::Admitted(Pass::Probe { .. }))
    });
    assert_eq!(probes.count(), 1);
}

#[tokio::test]
async fn the_closed_and_healthy_path_writes_nothing() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    ask(&redis, breaker::look(TO)).await.unwrap();
    ask(&redis, breaker::admit(TO, "d", "t", (60_000, 25_000), &REAL)).await.unwrap();
    ask(&redis, breaker::report(TO, "r", 0, &[Verdict::Healthy; 10], &REAL)).await.unwrap();
    let exists: bool = server.connect().exists(breaker::key(TO)).unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn a_breaker_lives_a_day_after_its_last_change() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    ask(&redis, breaker::report(TO, "r", 0, &[Verdict::Unhealthy], &REAL)).await.unwrap();
    let ttl: i64 = server.connect().ttl(breaker::key(TO)).unwrap();
    assert!((86_390..=86_400).contains(&ttl), "{ttl}");
}
