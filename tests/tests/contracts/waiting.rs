//! The lists of deliveries that wait for their next attempt.

use adapters::clock::Clock;
use adapters::redis::transport::Redis;
use adapters::redis::waiting::{self, Change};
use adapters::redis::{marks, records};
use domain::place::Place;
use domain::record::{Claim, NewRecord};
use domain::status::Lifetimes;
use domain::time::Millis;
use redis::Commands as _;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::BEGINNING;

const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };
const ENDPOINT: &str = "ep_0000000000000000000001";

fn id(n: u64) -> String {
    format!("order-{n}.{ENDPOINT}")
}

/// Begins these deliveries, and says that the n-th waits until n.
async fn begin(redis: &Redis, deliveries: impl Iterator<Item = u64>) {
    for n in deliveries {
        let new_record = NewRecord { url: "https://a.example".into(), accepted_at: BEGINNING, ..NewRecord::default() };
        let claim = Claim { token: "t".into(), hop: 0, lease_ms: 100, new_record };
        records::claim(&id(n), &claim, LIFETIMES).run(redis).await.unwrap();
        say(redis, &[(n, Some(n))]).await;
    }
}

async fn say(redis: &Redis, changes: &[(u64, Option<u64>)]) {
    let ids: Vec<String> = changes.iter().map(|(n, _)| id(*n)).collect();
    let changes: Vec<Change<'_>> = ids
        .iter()
        .zip(changes)
        .map(|(delivery_id, (_, next))| Change { endpoint: ENDPOINT, delivery_id, next_attempt_at: next.map(Millis) })
        .collect();
    waiting::waits(&changes, LIFETIMES).run(redis).await.unwrap();
}

async fn page(redis: &Redis, after: Option<&Place>, limit: usize) -> (Vec<String>, Option<Place>) {
    let page = waiting::read(redis, ENDPOINT, after, limit).await.unwrap();
    (page.deliveries.into_iter().map(|(place, _)| place.id).collect(), page.next)
}

#[tokio::test]
async fn what_waits_is_listed_by_its_next_attempt_page_by_page() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    begin(&redis, [3, 1, 2, 5, 4].into_iter()).await;
    let (first, next) = page(&redis, None, 2).await;
    assert_eq!(first, [id(1), id(2)]);
    let (second, next) = page(&redis, next.as_ref(), 2).await;
    assert_eq!(second, [id(3), id(4)]);
    let (third, next) = page(&redis, next.as_ref(), 2).await;
    assert_eq!((third, next), (vec![id(5)], None));
    assert_eq!(waiting::count(ENDPOINT).run(&redis).await.unwrap(), 5);
    let ttl: i64 = server.connect().ttl(format!("waiting:{ENDPOINT}")).unwrap();
    assert!((604_740..=604_800).contains(&ttl), "{ttl}");
    waiting::remove_all(ENDPOINT).run(&redis).await.unwrap();
    assert_eq!(waiting::count(ENDPOINT).run(&redis).await.unwrap(), 0);
}

#[tokio::test]
async fn what_ended_leaves_the_list_and_the_later_news_of_a_delivery_counts() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    begin(&redis, 1..=3).await;
    say(&redis, &[(1, None), (2, None), (2, Some(9)), (3, Some(8)), (3, None)]).await;
    assert_eq!(page(&redis, None, 9).await, (vec![id(2)], None));
    say(&redis, &[(2, None)]).await;
    assert_eq!(page(&redis, None, 9).await, (vec![], None));
    say(&redis, &[]).await;
}

#[tokio::test]
async fn a_reader_removes_what_does_not_wait_by_its_record() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    let mut look = server.connect();
    begin(&redis, 1..=5).await;
    marks::discard(&id(1), Millis(u64::MAX >> 12)).run(&redis).await.unwrap();
    let _: () = look.hset(records::key(&id(2)), "status", "delivered").unwrap();
    let _: () = look.hdel(records::key(&id(3)), "webhook_url").unwrap();
    let _: () = look.del(records::key(&id(4))).unwrap();
    let _: () = look.set(records::key(&id(4)), "no record").unwrap();
    assert_eq!(page(&redis, None, 9).await.0, [id(5)]);
    assert_eq!(waiting::count(ENDPOINT).run(&redis).await.unwrap(), 1);
}
