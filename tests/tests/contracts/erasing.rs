//! Erasing in Redis: marks of events, marks of tenants, and the walk through all records.

use adapters::clock::Clock;
use adapters::redis::transport::{Redis, RedisPort as _};
use adapters::redis::{erasure, marks, records, tenants};
use domain::identity::{delivery_id, event_record_id};
use domain::record::{Claim, ERASED_LIFE, Ending, Erasure, Grant, NewRecord, Settlement};
use domain::status::Lifetimes;
use domain::time::Millis;
use redis::{Commands as _, ConnectionLike, FromRedisValue as _};
use tests::redis_cluster::RedisCluster;
use tests::redis_server::{RedisServer, Server};
use tests::world::BEGINNING;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };

fn of(tenant: &str, accepted_at: Millis) -> NewRecord {
    NewRecord { tenant: Some(tenant.into()), url: "https://a.example".into(), accepted_at, ..NewRecord::default() }
}

async fn claim(redis: &Redis, id: &str, new_record: NewRecord) -> Grant {
    let claim = Claim { token: "t".into(), hop: 0, lease_ms: 100, new_record };
    records::claim(id, &claim, LIFETIMES).run(redis).await.unwrap()
}

fn endpoint(n: usize) -> String {
    format!("ep_{n:022}")
}

#[tokio::test]
async fn a_mark_lives_longer_than_any_message_and_whatever_comes_after_it() {
    let server = RedisServer::start();
    let clock = Clock::fixed(BEGINNING);
    let redis = Redis::open(&server.config(), clock.clone()).unwrap();
    let id = event_record_id("acme", "order-1");
    let mut look = server.connect();
    let life = i64::try_from(ERASED_LIFE.as_millis()).unwrap();
    let mut is_long = || (life - 60_000..=life).contains(&look.pttl::<_, i64>("event:acme:order-1").unwrap());

    assert_eq!(marks::erased_at(&id).run(&redis).await.unwrap(), None);
    assert_eq!(marks::erase(&id).run(&redis).await.unwrap(), Erasure { at: BEGINNING, again: false });
    assert_eq!(marks::erased_at(&id).run(&redis).await.unwrap(), Some(BEGINNING));
    assert!(is_long());
    assert_eq!(claim(&redis, &id, of("acme", BEGINNING)).await, Grant::Done);
    let later = Millis(BEGINNING.0 + 1);
    assert_eq!(claim(&redis, &id, of("acme", later)).await, Grant::Granted);
    assert!(is_long());
    let ending = Ending::FannedOut { matched: 1, owed: 0 };
    let settlement = Settlement { token: "t".into(), hop: 0, ending, log: None };
    records::settle(&id, &of("acme", later), &settlement, LIFETIMES).run(&redis).await.unwrap();
    assert!(is_long());
    assert_eq!(marks::erased_at(&id).run(&redis).await.unwrap(), Some(BEGINNING));
}

#[tokio::test]
async fn a_delivery_of_an_erased_event_loses_what_was_answered_and_nothing_else() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    let id = delivery_id("order-1", &endpoint(1), None);
    marks::erase_log(&id).run(&redis).await.unwrap();
    assert_eq!(records::read(&id).run(&redis).await.unwrap(), None);

    claim(&redis, &id, of("acme", BEGINNING)).await;
    let ending = Ending::Failed { attempts: 1, code: Some(500), class: None, error: "x".into(), duration_ms: None };
    let settlement = Settlement { token: "t".into(), hop: 0, ending, log: Some("[]".into()) };
    records::settle(&id, &of("acme", BEGINNING), &settlement, LIFETIMES).run(&redis).await.unwrap();
    let mut expected = records::read(&id).run(&redis).await.unwrap().unwrap().record;
    assert!(expected.log.take().is_some() && expected.error.take().is_some());
    marks::erase_log(&id).run(&redis).await.unwrap();
    assert_eq!(records::read(&id).run(&redis).await.unwrap().unwrap().record, expected);

    // What was accepted later under the same id stays.
    assert!(!marks::discard(&id, Millis(BEGINNING.0 - 1)).run(&redis).await.unwrap());
    assert!(records::read(&id).run(&redis).await.unwrap().is_some());
    assert!(marks::discard(&id, Millis(BEGINNING.0 + 1_000_000)).run(&redis).await.unwrap());
    assert_eq!(records::read(&id).run(&redis).await.unwrap(), None);
}

#[tokio::test]
async fn a_tenant_is_marked_while_it_is_erased() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::system()).unwrap();
    assert_eq!(tenants::erasing("acme").run(&redis).await.unwrap(), None);
    tenants::begin_erasing("acme", BEGINNING).run(&redis).await.unwrap();
    assert_eq!(tenants::erasing("acme").run(&redis).await.unwrap(), Some(BEGINNING));
    assert_eq!(tenants::erasing("acme-2").run(&redis).await.unwrap(), None);
    let ttl: i64 = server.connect().ttl("erasing:acme").unwrap();
    assert!((1_295_940..=1_296_000).contains(&ttl), "{ttl}");
    tenants::end_erasing("acme").run(&redis).await.unwrap();
    assert_eq!(tenants::erasing("acme").run(&redis).await.unwrap(), None);
}

/// Fills a Redis with records of two tenants and erases one of them, a step at a time. Gives the
/// number of steps.
async fn erase_a_tenant(server: &dyn Server, count: usize) -> usize {
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    let later = Millis(BEGINNING.0 + 1);
    let mut kept =
        vec!["work:erase:acme".to_owned(), "webhook_status:acme".to_owned(), "delivery_index:failed".to_owned()];
    for n in 0..count {
        let event = format!("order-{n}");
        for (tenant, endpoint) in [("acme", endpoint(1)), ("acme-2", endpoint(2)), ("_operator", endpoint(3))] {
            let ids = [event_record_id(tenant, &event), delivery_id(&event, &endpoint, Some("r1"))];
            for id in &ids {
                claim(&redis, id, of(tenant, BEGINNING)).await;
            }
            kept.extend(ids.iter().filter(|_| tenant != "acme").map(|id| records::key(id)));
        }
    }
    marks::erase(&event_record_id("acme", "gone")).run(&redis).await.unwrap();
    for id in [event_record_id("acme", "later"), delivery_id("later", &endpoint(1), None)] {
        claim(&redis, &id, of("acme", later)).await;
        kept.push(records::key(&id));
    }
    claim(&redis, "erase~~acme", of("acme", BEGINNING)).await;
    claim(&redis, "acme", of("acme", BEGINNING)).await;
    let mut other = redis::cmd("ZADD");
    other.arg("delivery_index:failed").arg(1).arg("x");
    redis.round_trip(vec![other.into()]).await.unwrap().remove(0).unwrap();

    let (mut steps, mut position) = (0, None);
    loop {
        steps += 1;
        position = erasure::sweep(&redis, "acme", BEGINNING, position.as_deref(), || true).await.unwrap();
        if position.is_none() {
            break;
        }
    }
    kept.sort();
    assert_eq!(keys(&mut *server.look()), kept);
    steps
}

/// All keys, in order; of a cluster, those of all its masters.
fn keys(look: &mut dyn ConnectionLike) -> Vec<String> {
    let mut command = redis::cmd("KEYS");
    command.arg("*");
    let mut keys = Vec::<String>::from_redis_value(look.req_command(&command).unwrap()).unwrap();
    keys.retain(|key| !key.starts_with("probe:"));
    keys.sort();
    keys
}

#[tokio::test]
async fn of_an_erased_tenant_redis_keeps_only_what_was_accepted_later() {
    let server = RedisServer::start();
    assert!(erase_a_tenant(&server, 400).await > 2, "each step looks at some of the keys");
}

#[tokio::test]
async fn a_tenant_is_erased_on_all_nodes_of_a_cluster() {
    let cluster = RedisCluster::start();
    assert!(erase_a_tenant(&cluster, 50).await >= 3, "each node takes a step");
}

#[tokio::test]
async fn a_tenant_without_records_is_erased_at_once() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::system()).unwrap();
    for position in [None, Some("no position")] {
        assert_eq!(erasure::sweep(&redis, "acme", BEGINNING, position, || false).await.unwrap(), None);
    }
}
