//! The rules of an endpoint's live state exist twice, in Rust and in Lua. Random histories on a
//! real Redis compare them, answers and stored hashes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use adapters::clock::Clock;
use adapters::redis::live_states;
use adapters::redis::transport::{Redis, RedisConfig};
use domain::endpoint::EndpointState;
use domain::live_state::{self as rules, Called, LiveState, Summary};
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_server::RedisServer;
use tests::world::BEGINNING;

const OF: &str = "ep_0000000000000000000001";
const LIFE: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
enum Act {
    SetState { version: u64, state: EndpointState, fresh_start: bool },
    Note { token: u8, calls: Vec<Called> },
    Wait(u64),
    StepBack(u64),
    Lose,
}

fn states() -> impl Strategy<Value = EndpointState> {
    prop_oneof![Just(EndpointState::Enabled), Just(EndpointState::Paused), Just(EndpointState::Disabled)]
}

fn calls() -> impl Strategy<Value = Called> {
    (proptest::bool::weighted(0.1), 0u64..30_000).prop_map(|(delivered, duration_ms)| Called { delivered, duration_ms })
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u64..8, states(), any::<bool>())
            .prop_map(|(version, state, fresh_start)| Act::SetState { version, state, fresh_start }),
        16 => (0u8..40, proptest::collection::vec(calls(), 0..4)).prop_map(|(token, calls)| Act::Note { token, calls }),
        6 => (0u64..30_000).prop_map(Act::Wait),
        1 => (0u64..3000).prop_map(Act::StepBack),
        1 => Just(Act::Lose),
    ]
}

/// One act on both. Gives both answers as text: the one of Rust, the one of Lua.
async fn apply(
    act: &Act,
    server: &RedisServer,
    redis: &Redis,
    clock: &Clock,
    spec: &mut LiveState,
) -> (String, String) {
    let now = clock.now();
    match act {
        Act::SetState { version, state, fresh_start } => {
            let query = live_states::set_state(OF, *version, *state, *fresh_start, LIFE);
            let is_news = query.run(redis).await.unwrap();
            (format!("{:?}", rules::set_state(spec, now, *version, *state, *fresh_start)), format!("{is_news:?}"))
        }
        Act::Note { token, calls } => {
            let token = format!("n{token}");
            let answer = live_states::note(OF, &token, calls, LIFE).run(redis).await.unwrap();
            if let Some(calls) = Summary::of(calls) {
                rules::note(spec, now, &token, calls);
            }
            (format!("{:?}", LiveState { noted: VecDeque::new(), ..spec.clone() }), format!("{answer:?}"))
        }
        Act::Wait(ms) => {
            clock.advance(Duration::from_millis(*ms));
            Default::default()
        }
        Act::StepBack(ms) => {
            clock.step_back(Duration::from_millis(*ms));
            Default::default()
        }
        Act::Lose => {
            let _: () = server.connect().flushall().unwrap();
            *spec = LiveState::default();
            Default::default()
        }
    }
}

#[test]
fn rust_and_lua_agree_on_random_histories() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reached = RefCell::new(BTreeMap::new());
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(history in proptest::collection::vec(acts(), 1..60))| {
        let mut look = server.connect();
        let _: () = redis::cmd("FLUSHALL").query(&mut look).unwrap();
        runtime.block_on(async {
            let clock = Clock::fixed(BEGINNING);
            let redis = Redis::open(&RedisConfig::node(server.url()), clock.clone()).unwrap();
            let mut spec = LiveState::default();
            for (step, act) in history.iter().enumerate() {
                let (expected, answer) = apply(act, &server, &redis, &clock, &mut spec).await;
                prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, act);
                let stored: BTreeMap<String, String> = look.hgetall(live_states::key(OF)).unwrap();
                prop_assert_eq!(&spec, &live_states::from_fields(&stored), "step {}: {:?}", step, act);
                let read = live_states::read(OF).run(&redis).await.unwrap();
                prop_assert_eq!(LiveState { noted: VecDeque::new(), ..spec.clone() }, read);
                let seen = (spec.is_failing(), spec.failures >= rules::MIN_FAILURES, spec.change.is_some());
                *reached.borrow_mut().entry(seen).or_insert(0) += 1;
            }
            Ok(())
        })?;
    });
    let reached = reached.into_inner();
    for state in [(true, true, true), (true, false, true), (false, false, true), (true, false, false)] {
        assert!(reached.get(&state).is_some_and(|&count| count > 10), "{state:?} is hardly reached: {reached:?}");
    }
}

#[tokio::test]
async fn a_live_state_lives_from_its_last_write() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    let ttl = || server.connect().ttl::<_, i64>(live_states::key(OF)).unwrap();
    live_states::set_state(OF, 1, EndpointState::Paused, false, LIFE).run(&redis).await.unwrap();
    assert!((3590..=3600).contains(&ttl()), "{}", ttl());
    let called = Called { delivered: true, duration_ms: 5 };
    live_states::note(OF, "n", &[called], LIFE * 2).run(&redis).await.unwrap();
    assert!((7190..=7200).contains(&ttl()), "{}", ttl());
    live_states::remove(OF).run(&redis).await.unwrap();
    assert_eq!(live_states::read(OF).run(&redis).await.unwrap(), LiveState::default());
}

#[tokio::test]
async fn fifty_notes_at_once_all_count() {
    let server = RedisServer::start();
    let mut tasks = Vec::new();
    for n in 0..50 {
        let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
        let failed = Called { delivered: false, duration_ms: 5 };
        let query = live_states::note(OF, &format!("n{n}"), &[failed], LIFE);
        tasks.push(tokio::spawn(async move { query.run(&redis).await.unwrap().failures }));
    }
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<u64>>());
}
