//! The sums of all functions: each value is added once, and outages do not make them wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::clock::Clock;
use adapters::metrics::exposition::Snapshot;
use adapters::metrics::meter::Meter;
use adapters::metrics::names::{self, FAMILIES, Kind};
use adapters::metrics::sums::Metered;
use adapters::metrics::{self, DeliveryKind, DeliveryResult};
use adapters::redis::indexes::Indexes;
use adapters::redis::transport::{Redis, RedisConfig, RedisPort as _};
use aws_lambda_events::sqs::SqsBatchResponse;
use domain::outcome::ErrorClass;
use domain::status::Lifetimes;
use futures_util::FutureExt as _;
use redis::Commands as _;
use tests::proxy::{Proxy, Trouble};
use tests::redis_server::RedisServer;
use tests::world::World;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };

fn process(function: &'static str, port: u16) -> (Meter, Metered) {
    let clock = Clock::system();
    let meter = Meter::new(function, "steadhook", clock.clone());
    let redis = Redis::open(&RedisConfig::node(format!("redis://127.0.0.1:{port}")), clock).unwrap();
    let metered = meter.wrap(redis);
    (meter, metered)
}

/// One invocation that records something.
async fn invoke(meter: &Meter, redis: &Metered, record: impl FnOnce()) {
    meter.record(record);
    meter.observe(redis, async { Ok::<_, ()>(SqsBatchResponse::default()) }).await.unwrap();
}

fn sums(server: &RedisServer, function: &str) -> BTreeMap<String, String> {
    let mut sums: BTreeMap<String, String> = server.connect().hgetall(format!("metrics:{function}")).unwrap();
    sums.retain(|field, _| !field.starts_with('_'));
    sums
}

fn delivered(server: &RedisServer) -> u64 {
    let sums = sums(server, "deliver");
    sums.get(r#"webhook_deliveries_total{outcome="delivered",kind="direct"}"#).map_or(0, |sum| sum.parse().unwrap())
}

#[tokio::test]
async fn processes_add_up_and_a_restart_takes_nothing_away() {
    let server = RedisServer::start();
    for _ in 0..3 {
        let (meter, redis) = process("deliver", server.port());
        for _ in 0..5 {
            invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
        }
    }
    assert_eq!(delivered(&server), 15);
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_added_once() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let (meter, redis) = process("deliver", proxy.port());
    invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    for _ in 0..5 {
        proxy.set(Trouble::LoseReply);
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    }
    assert_eq!(delivered(&server), 6);
}

#[tokio::test]
async fn what_could_not_be_written_is_kept_and_never_counted_twice() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let (meter, redis) = process("deliver", proxy.port());
    invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    proxy.set(Trouble::Away);
    for _ in 0..3 {
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    }
    assert_eq!(delivered(&server), 1);
    proxy.set(Trouble::None);
    for _ in 0..2 {
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    }
    assert_eq!(delivered(&server), 6);
    assert!(sums(&server, "deliver").contains_key("redis_failures_total"));
}

#[tokio::test]
async fn a_round_trip_takes_the_sums_along_and_none_is_made_for_what_can_wait() {
    let server = RedisServer::start();
    let (meter, redis) = process("deliver", server.port());
    invoke(&meter, &redis, || ()).await;
    assert_eq!(sums(&server, "deliver"), BTreeMap::new(), "the duration of an invocation can wait");
    meter.record(|| metrics::delivery(DeliveryResult::Parked, DeliveryKind::Direct));
    let replies = redis.round_trip(vec![redis::cmd("PING").into()]).await.unwrap();
    assert_eq!(replies.len(), 1, "the caller gets the replies to its own calls");
    let sums = sums(&server, "deliver");
    assert_eq!(sums[r#"webhook_deliveries_total{outcome="parked",kind="direct"}"#], "1");
    assert_eq!(sums[r#"task_invocations_total{function="deliver",result="ok"}"#], "1");
}

#[tokio::test]
async fn histograms_are_cumulative_and_end_with_their_count() {
    let server = RedisServer::start();
    let (meter, redis) = process("deliver", server.port());
    invoke(&meter, &redis, || {
        for ms in [1, 5, 6, 400, 20_000, 900_000] {
            metrics::attempt(Some(ErrorClass::Timeout), DeliveryKind::Direct, Duration::from_millis(ms));
        }
    })
    .await;
    let snapshot = Snapshot::read(&redis, None, Clock::system().now(), Indexes::new(1, LIFETIMES)).await;
    let text = snapshot.render();
    let value = |series: &str| -> f64 {
        let line =
            text.lines().find(|line| line.starts_with(&format!("{series} "))).unwrap_or_else(|| panic!("{series}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let bucket = |le: &str| value(&format!("webhook_delivery_duration_seconds_bucket{{le=\"{le}\"}}"));
    assert_eq!(
        [bucket("0.005"), bucket("0.01"), bucket("0.5"), bucket("60"), bucket("+Inf")],
        [2.0, 3.0, 4.0, 5.0, 6.0]
    );
    assert_eq!(value("webhook_delivery_duration_seconds_count"), 6.0);
    assert!((value("webhook_delivery_duration_seconds_sum") - 920.412).abs() < 0.001);
    assert_eq!(value(r#"webhook_attempts_total{error_class="timeout",kind="direct"}"#), 6.0);
}

#[tokio::test]
async fn every_bounded_series_is_shown_before_anything_happened() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    let text = world.metrics().await;
    for family in FAMILIES.iter().filter(|family| family.name != names::BREAKER_STATE) {
        let wanted: usize = family.labels.iter().map(|(_, values)| values.len()).product();
        let per = match family.kind {
            Kind::Histogram(bounds) => bounds.len() + 3,
            Kind::Counter | Kind::Gauge => 1,
        };
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(family.name).unwrap_or_default();
            [" ", "{", "_bucket", "_sum", "_count"].iter().any(|next| rest.starts_with(next))
        });
        assert_eq!(lines.count(), wanted * per, "{}", family.name);
    }
    assert!(text.contains(r#"webhook_statuses{status="pending"} 1"#), "{text}");
    assert!(text.contains(r#"queue_messages{queue="delivery",state="visible"} 1"#));
    assert!(text.contains(r#"redis_keys{kind="webhook_status"} 1"#));
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn breakers_that_are_not_closed_are_shown_one_by_one() {
    let world = World::new().await;
    world.receiver.always(500u16);
    for n in 0..5 {
        world.enqueue(&format!("w-{n}"), "1").await;
    }
    world.step(QueueName::Delivery).await;
    let line = |level: u8| format!("circuit_breaker_state{{destination=\"{}\"}} {level}", world.receiver.origin());
    let text = world.metrics().await;
    assert!(text.contains(&line(2)), "{text}");
    assert!(text.contains(r#"circuit_breakers{state="open",kind="direct"} 1"#));
    world.clock.advance(Duration::from_secs(60));
    assert!(world.metrics().await.contains(&line(1)));
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn without_redis_the_queues_are_still_shown() {
    let mut world = World::new().await;
    world.redis.stop();
    let text = world.metrics().await;
    assert!(text.contains("redis_up 0\n"), "{text}");
    assert!(text.contains(r#"queue_messages{queue="retry",state="delayed"} 0"#));
    assert!(!text.contains("webhook_deliveries_total"));
}

#[tokio::test]
async fn marks_of_processes_that_are_gone_are_forgotten() {
    const DAY_MS: u64 = 86_400_000;
    let server = RedisServer::start();
    let mut connection = server.connect();
    let now = Clock::system().now().0;
    // What a fleet of a day before left, some of it in a form of nobody's, and one of today.
    let mut leave = redis::pipe();
    for i in 0..2000u64 {
        let mark = if i == 0 { "strange".to_owned() } else { format!("{i} {}", now - DAY_MS - 1 - i) };
        leave.hset("metrics:deliver", format!("_batch:old-{i}"), mark).ignore();
        leave.hset("metrics:deliver", format!("_batch:young-{}", i % 20), format!("7 {}", now - DAY_MS / 2)).ignore();
    }
    leave.exec(&mut connection).unwrap();
    let mut marks = |kind: &str| {
        let fields: Vec<String> = connection.hkeys("metrics:deliver").unwrap();
        fields.iter().filter(|field| field.starts_with(&format!("_batch:{kind}"))).count()
    };
    let (meter, redis) = process("deliver", server.port());
    let mut before = marks("old");
    assert_eq!(before, 2000);
    for _ in 0..400 {
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
        let left = marks("old");
        assert!(before - left <= 10, "one batch takes ten at most: {before} to {left}");
        before = left;
    }
    assert_eq!((before, marks("young")), (0, 20));
    assert_eq!(marks("") - marks("young"), 1, "and its own");
    // To read them changes nothing.
    let commands = |server: &RedisServer| -> String {
        redis::cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap()
    };
    let written = |server: &RedisServer| {
        commands(server).lines().filter(|line| line.contains("hdel")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = written(&server);
    Snapshot::read(
        &redis,
        None,
        Clock::system().now().after(Duration::from_secs(2 * 86_400)),
        Indexes::new(1, LIFETIMES),
    )
    .await;
    assert_eq!((written(&server), marks("young")), (before, 20));
    assert_eq!(delivered(&server), 400);
}

#[tokio::test]
async fn a_batch_that_is_sent_again_is_added_once_however_many_marks_are_removed() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let old = Clock::system().now().0 - 90_000_000;
    let mut leave = redis::pipe();
    (0..100).for_each(|i| {
        leave.hset("metrics:deliver", format!("_batch:old-{i}"), format!("1 {old}")).ignore();
    });
    leave.exec(&mut server.connect()).unwrap();
    let (meter, redis) = process("deliver", proxy.port());
    for _ in 0..50 {
        proxy.set(Trouble::LoseReply);
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    }
    proxy.set(Trouble::None);
    invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    assert_eq!(delivered(&server), 52);
}

#[tokio::test]
async fn a_refusal_costs_no_round_trips_and_no_work() {
    let server = RedisServer::start();
    let _: () = server.connect().set("metrics:deliver", "not a hash").unwrap();
    let (meter, redis) = process("deliver", server.port());
    for _ in 0..3 {
        meter.record(|| metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct));
        let replies = redis.round_trip(vec![redis::cmd("PING").into()]).await.unwrap();
        assert_eq!((replies.len(), replies[0].is_ok()), (1, true), "the caller does not notice");
    }
    let calls = |server: &RedisServer| -> u64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut server.connect()).unwrap();
        let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        line.split("calls=").nth(1).and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
    };
    assert_eq!(calls(&server), 1, "the sums are not sent again at once");
}

#[tokio::test]
async fn an_invocation_that_panics_is_counted_as_an_error() {
    let server = RedisServer::start();
    let (meter, redis) = process("deliver", server.port());
    let panicking = meter.observe(&redis, async {
        assert!(redis.round_trip(Vec::new()).await.is_err(), "this panics on purpose");
        Ok::<_, ()>(SqsBatchResponse::default())
    });
    let panicked = std::panic::AssertUnwindSafe(panicking).catch_unwind().await;
    assert!(panicked.is_err());
    invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Delivered, DeliveryKind::Direct)).await;
    assert_eq!(sums(&server, "deliver")[r#"task_invocations_total{function="deliver",result="error"}"#], "1");
}

#[tokio::test]
async fn a_field_that_cannot_be_added_to_is_lost_and_nothing_is_added_twice() {
    let server = RedisServer::start();
    let _: () = server.connect().hset("metrics:deliver", "webhook_retries_total{kind=\"direct\"}", "broken").unwrap();
    let (meter, redis) = process("deliver", server.port());
    for _ in 0..3 {
        invoke(&meter, &redis, || metrics::delivery(DeliveryResult::Retried, DeliveryKind::Direct)).await;
    }
    assert_eq!(sums(&server, "deliver")[r#"webhook_deliveries_total{outcome="retried",kind="direct"}"#], "3");
}
