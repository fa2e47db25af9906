//! The rules of an endpoint's limit exist twice, in Rust and in Lua. Random histories on a real
//! Redis compare them, answers and stored hashes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use adapters::clock::Clock;
use adapters::redis::rates;
use adapters::redis::transport::{Redis, RedisConfig};
use domain::rate::{Rate, RateSeen};
use domain::rate_rules::{self as rules, RateState};
use domain::time::{Millis, whole_ms};
use proptest::prelude::*;
use redis::Commands as _;
use tests::redis_server::RedisServer;
use tests::world::BEGINNING;

const ENDPOINT: &str = "ep_0000000000000000000001";
/// In thousandths of a call a second; 0 for none.
const RATES: [u32; 9] = [0, 100, 333, 1000, 3_001, 50_000, 333_333, 499_999, 500_000];

#[derive(Clone, Debug)]
enum Act {
    /// Asks so often, with such a pause, each time with a token of its own.
    Take {
        wanted: u32,
        rate: usize,
        times: u8,
        pause_ms: u64,
    },
    /// Sends the question of so many steps ago again.
    Again {
        steps: usize,
    },
    Block {
        token: u8,
        wait_s: u64,
    },
    Wait(u64),
    StepBack(u64),
    Lose,
}

fn acts() -> impl Strategy<Value = Act> {
    let rate = prop_oneof![2 => Just(3usize), 2 => Just(5usize), 1 => 0..RATES.len()];
    prop_oneof![
        20 => (1u32..=10, rate, prop_oneof![3 => Just(1u8), 1 => 1u8..40], prop_oneof![Just(0u64), 0u64..150])
            .prop_map(|(wanted, rate, times, pause_ms)| Act::Take { wanted, rate, times, pause_ms }),
        5 => (1usize..20).prop_map(|steps| Act::Again { steps }),
        2 => (any::<u8>(), prop_oneof![1u64..60, 0u64..5000]).prop_map(|(token, wait_s)| Act::Block { token, wait_s }),
        16 => prop_oneof![0u64..1500, 0u64..90_000, 0u64..8_000_000].prop_map(Act::Wait),
        2 => prop_oneof![0u64..1500, 0u64..9_000_000].prop_map(Act::StepBack),
        1 => Just(Act::Lose),
    ]
}

/// The rules in Rust beside the scripts on a Redis.
struct Both<'a> {
    server: &'a RedisServer,
    redis: Redis,
    clock: Clock,
    spec: RateState,
    asked: Vec<(String, u32, Option<Rate>)>,
}

impl Both<'_> {
    /// Asks both. Gives both answers as text: the one of Rust, the one of Lua.
    async fn take(&mut self, token: String, wanted: u32, own: Option<Rate>) -> (String, String) {
        let answer = rates::take(ENDPOINT, &token, wanted, own).run(&self.redis).await.unwrap();
        let expected = rules::take(&mut self.spec, self.clock.now(), &token, wanted, own);
        self.asked.push((token, wanted, own));
        (format!("{expected:?}"), format!("{answer:?}"))
    }

    async fn apply(&mut self, act: &Act) -> (String, String) {
        match act {
            Act::Take { wanted, rate, times, pause_ms } => {
                let own = Rate::from_per_1000_s(RATES[*rate]).ok();
                let mut answers = (String::new(), String::new());
                for _ in 0..*times {
                    answers = self.take(format!("t{}", self.asked.len()), *wanted, own).await;
                    if answers.0 != answers.1 {
                        break;
                    }
                    self.clock.advance(Duration::from_millis(*pause_ms));
                }
                answers
            }
            Act::Again { steps } => {
                let Some(at) = self.asked.len().checked_sub(*steps) else { return Default::default() };
                let (token, wanted, own) = self.asked[at].clone();
                self.take(token, wanted, own).await
            }
            Act::Block { token, wait_s } => {
                let (token, wait) = (format!("b{token}"), Duration::from_secs(*wait_s));
                let until = rates::block(ENDPOINT, &token, wait).run(&self.redis).await.unwrap();
                let expected = rules::block(&mut self.spec, self.clock.now(), &token, wait);
                (format!("{expected:?}"), format!("{until:?}"))
            }
            Act::Wait(ms) => {
                self.clock.advance(Duration::from_millis(*ms));
                Default::default()
            }
            Act::StepBack(ms) => {
                self.clock.step_back(Duration::from_millis(*ms));
                Default::default()
            }
            Act::Lose => {
                let _: () = self.server.connect().flushall().unwrap();
                self.spec = RateState::default();
                Default::default()
            }
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
            let mut both = Both { server: &server, redis, clock, spec: RateState::default(), asked: Vec::new() };
            for (step, act) in history.iter().enumerate() {
                let before = both.spec.clone();
                let (expected, answer) = both.apply(act).await;
                prop_assert_eq!(&expected, &answer, "step {}: {:?}", step, act);
                let stored: BTreeMap<String, String> = look.hgetall(rates::key(ENDPOINT)).unwrap();
                prop_assert_eq!(&both.spec, &rates::from_fields(&stored), "step {}: {:?}", step, act);
                let (spec, now) = (&both.spec, both.clock.now());
                // During an act with pauses, the key's life was set at an earlier time.
                let has_moved = matches!(act, Act::Take { pause_ms: 1.., .. });
                if *spec != before && *spec != RateState::default() && !has_moved {
                    let left: u64 = look.pttl(rates::key(ENDPOINT)).unwrap();
                    let life = whole_ms(spec.life(now));
                    prop_assert!(left <= life && left + 5000 > life, "step {}: {:?}: {} {}", step, act, left, life);
                }
                let is_blocked = spec.blocked_until.is_some_and(|until| until > now);
                let is_far = spec.advised.is_some_and(|advised| advised.until_us > (now.0 + 10_800_000) * 1000);
                let second_s_worth = spec.own.map_or(10, |own| u64::from(own.per_1000_s()) / 1000).max(3);
                let is_full = spec.advised.is_some_and(|advised| advised.asking >= second_s_worth);
                *reached.borrow_mut().entry((is_blocked, is_far, is_full)).or_insert(0) += 1;
            }
            Ok(())
        })?;
    });
    let reached = reached.into_inner();
    for state in [(false, false, false), (true, false, false), (false, true, false), (false, false, true)] {
        assert!(reached.get(&state).is_some_and(|&count| count > 10), "{state:?} is hardly reached: {reached:?}");
    }
}

#[tokio::test]
async fn without_a_limit_nothing_is_written() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
    assert_eq!(rates::take(ENDPOINT, "t", 10, None).run(&redis).await.unwrap().granted, 10);
    assert_eq!(rates::read(ENDPOINT).run(&redis).await.unwrap(), RateSeen::default());
    let exists: bool = server.connect().exists(rates::key(ENDPOINT)).unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn what_is_seen_is_what_was_blocked_and_advised() {
    let server = RedisServer::start();
    let redis = Redis::open(&RedisConfig::node(server.url()), Clock::fixed(BEGINNING)).unwrap();
    let until = rates::block(ENDPOINT, "b", Duration::from_secs(60)).run(&redis).await.unwrap();
    let taken = rates::take(ENDPOINT, "t", 2, None).run(&redis).await.unwrap();
    let seen = rates::read(ENDPOINT).run(&redis).await.unwrap();
    assert_eq!((seen.blocked_until, seen.advised_until), (Some(until), taken.advice.last().copied()));
    assert!(seen.must_ask(None, BEGINNING) && !seen.must_ask(None, until.after(domain::rate::LEARNING)));
    rates::remove(ENDPOINT).run(&redis).await.unwrap();
    assert_eq!(rates::read(ENDPOINT).run(&redis).await.unwrap(), RateSeen::default());
}

#[tokio::test]
async fn fifty_callers_at_once_share_one_limit() {
    let server = RedisServer::start();
    let own = Rate::try_from(0.1).ok();
    let mut tasks = Vec::new();
    for n in 0..50 {
        let redis = Redis::open(&RedisConfig::node(server.url()), Clock::system()).unwrap();
        let query = rates::take(ENDPOINT, &format!("t{n}"), 2, own);
        tasks.push(tokio::spawn(async move { query.run(&redis).await.unwrap() }));
    }
    let (mut granted, mut advice) = (0, Vec::<Millis>::new());
    for task in tasks {
        let taken = task.await.unwrap();
        granted += taken.granted;
        advice.extend(taken.advice);
    }
    advice.sort();
    advice.dedup();
    assert_eq!((granted, advice.len()), (3, 97));
}
