//! The rules of a breaker exist twice, in Rust and in Lua. Random histories on a real Redis
//! compare them. Other tests show what only a real Redis can: many callers at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::redis::breakers;
use adapters::redis::query::Query;
use adapters::redis::transport::{Redis, RedisConfig};
use domain::breaker::{self as rules, Admission, Breaker, BreakerPolicy, Caller, Pass, ProbeTimes, State};
use domain::outcome::HealthSignal;
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_server::RedisServer;
use tests::world::BEGINNING;

const POLICY: BreakerPolicy = BreakerPolicy { failure_threshold: 3, reset_ms: 100, reset_max_ms: 500 };
const TIMES: ProbeTimes = ProbeTimes { lease: Duration::from_millis(150), call: Duration::from_millis(40) };
const TO: &str = "https://a.example";

#[derive(Clone, Debug)]
enum Act {
    Admit { id: u8, token: u8, has_failed: bool },
    Report { token: u8, epoch: u64, signals: Vec<HealthSignal> },
    Probe { token: u8, epoch: u64, signal: HealthSignal },
    Reset,
    Wait(u64),
    StepBack(u64),
    Lose,
}

fn signals() -> impl Strategy<Value = HealthSignal> {
    prop_oneof![
        4 => Just(HealthSignal::Unhealthy), 2 => Just(HealthSignal::Healthy), 1 => Just(HealthSignal::Throttled), 1 => Just(HealthSignal::Neutral)
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        16 => (0u8..3, 0u8..4, any::<bool>()).prop_map(|(id, token, has_failed)| Act::Admit { id, token, has_failed }),
        16 => (0u8..30, 0u64..6, proptest::collection::vec(signals(), 0..5))
            .prop_map(|(token, epoch, signals)| Act::Report { token, epoch, signals }),
        14 => (0u8..4, 0u64..6, signals()).prop_map(|(token, epoch, signal)| Act::Probe { token, epoch, signal }),
        1 => Just(Act::Reset),
        14 => (0u64..300).prop_map(Act::Wait),
        2 => (0u64..50).prop_map(Act::StepBack),
        1 => Just(Act::Lose),
    ]
}

/// Asks the query alone and gives its answer as text.
async fn ask<T: Debug + 'static>(redis: &Redis, query: Query<T>) -> String {
    format!("{:?}", query.run(redis).await.unwrap())
}

/// One act on both. Gives both answers as text: the one of Rust, the one of Lua. Epochs are
/// relative to the present one, so that most of them matter.
async fn apply(act: &Act, server: &RedisServer, redis: &Redis, clock: &Clock, spec: &mut Breaker) -> (String, String) {
    let now = clock.now();
    let near = |offset: u64| match offset {
        0..=3 => spec.epoch,
        4 => spec.epoch + 1,
        _ => spec.epoch.saturating_sub(1),
    };
    match act {
        Act::Admit { id, token, has_failed } => {
            let path = ["p", "q"][usize::from(*id % 2)];
            let (id, token) = (format!("d{id}"), format!("t{token}"));
            let caller = Caller { id: &id, token: &token, has_failed: *has_failed, path, times: TIMES };
            let answer = ask(redis, breakers::admit(TO, caller, &POLICY)).await;
            (format!("{:?}", rules::admit(spec, now, caller, &POLICY)), answer)
        }
        Act::Report { token, epoch, signals } => {
            let (token, epoch, before) = (format!("r{token}"), near(*epoch), spec.state);
            let answer = ask(redis, breakers::report(TO, &token, epoch, signals, &POLICY)).await;
            rules::report(spec, now, &token, epoch, signals, &POLICY);
            let changed = (spec.state != before).then_some(spec.state);
            (format!("{changed:?}"), answer)
        }
        Act::Probe { token, epoch, signal } => {
            // Mostly the probe that is out, sometimes another.
            let out = spec.probe.as_ref().filter(|_| *epoch != 0).map(|probe| probe.token.clone());
            let (token, epoch, before) = (out.unwrap_or_else(|| format!("t{token}")), near(*epoch), spec.state);
            let answer = ask(redis, breakers::report_probe(TO, &token, epoch, *signal, &POLICY)).await;
            rules::report_probe(spec, now, &token, epoch, *signal, &POLICY);
            let changed = (spec.state != before).then_some(spec.state);
            (format!("{changed:?}"), answer)
        }
        Act::Reset => {
            ask(redis, breakers::reset(TO)).await;
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
            let _: () = server.connect().flushall().unwrap();
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
                let (expected, answer) = apply(act, &server, &redis, &clock, &mut spec).await;
                prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, act);
                let stored: BTreeMap<String, String> = look.hgetall(breakers::key(TO)).unwrap();
                let seen = (spec.state.as_str(), spec.probe.is_some(), spec.epoch > 2);
                *reached.borrow_mut().entry(seen).or_insert(0) += 1;
                prop_assert_eq!(&spec, &breakers::from_fields(&stored), "step {}: {:?}", step, act);
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

const REAL: BreakerPolicy = BreakerPolicy { failure_threshold: 5, reset_ms: 60_000, reset_max_ms: 900_000 };

const REAL_TIMES: ProbeTimes = ProbeTimes { lease: Duration::from_secs(60), call: Duration::from_secs(25) };

/// Sends the queries at the same time, each from a client of its own. Gives their answers.
async fn at_once<T: Send + 'static>(server: &RedisServer, queries: impl Iterator<Item = Query<T>>) -> Vec<T> {
    let mut tasks = Vec::new();
    for query in queries {
        let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
        tasks.push(tokio::spawn(async move { query.run(&redis).await.unwrap() }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

fn stored(server: &RedisServer) -> Breaker {
    let fields: BTreeMap<String, String> = server.connect().hgetall(breakers::key(TO)).unwrap();
    breakers::from_fields(&fields)
}

#[tokio::test]
async fn fifty_failures_reported_at_once_trip_it_every_time() {
    for _ in 0..20 {
        let server = RedisServer::start();
        let report = |n| breakers::report(TO, &format!("r{n}"), 0, &[HealthSignal::Unhealthy], &REAL);
        let changes = at_once(&server, (0..50).map(report)).await;
        assert_eq!(changes.into_iter().filter(|change| *change == Some(State::Open)).count(), 1);
        assert_eq!((stored(&server).state, stored(&server).failures), (State::Open, 5));
    }
}

#[tokio::test]
async fn two_hundred_admissions_at_half_open_give_one_probe() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    breakers::report(TO, "r", 0, &[HealthSignal::Unhealthy; 5], &REAL).run(&redis).await.unwrap();
    let _: () = server.connect().hset(breakers::key(TO), "retry_at", 1).unwrap();
    let admit = |n| {
        let (id, token) = (format!("d{n}"), format!("t{n}"));
        breakers::admit(TO, Caller { id: &id, token: &token, has_failed: false, path: "p", times: REAL_TIMES }, &REAL)
    };
    let admissions = at_once(&server, (0..200).map(admit)).await;
    let probes = admissions.iter().filter(|admission| matches!(admission, Admission::Admitted(Pass::Probe { .. })));
    assert_eq!(probes.count(), 1);
}

#[tokio::test]
async fn the_closed_and_healthy_path_writes_nothing() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    breakers::closed_epoch(TO).run(&redis).await.unwrap();
    let caller = Caller { id: "d", token: "t", has_failed: false, path: "p", times: REAL_TIMES };
    breakers::admit(TO, caller, &REAL).run(&redis).await.unwrap();
    breakers::report(TO, "r", 0, &[HealthSignal::Healthy; 10], &REAL).run(&redis).await.unwrap();
    let exists: bool = server.connect().exists(breakers::key(TO)).unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn a_breaker_lives_a_day_after_its_last_change() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    breakers::report(TO, "r", 0, &[HealthSignal::Unhealthy], &REAL).run(&redis).await.unwrap();
    let ttl: i64 = server.connect().ttl(breakers::key(TO)).unwrap();
    assert!((86_390..=86_400).contains(&ttl), "{ttl}");
}
