//! What Redis keeps of the last hour: deliveries that ended, and sums by the minute.

use std::collections::BTreeMap;

use adapters::clock::Clock;
use adapters::redis::recent;
use adapters::redis::transport::Redis;
use domain::time::Millis;
use redis::Commands as _;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::BEGINNING;

#[tokio::test]
async fn the_last_thousand_deliveries_are_kept_newest_first() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::system()).unwrap();
    recent::push(&[]).run(&redis).await.unwrap();
    assert_eq!(recent::latest(9).run(&redis).await.unwrap(), Vec::<String>::new());
    for batch in 0..12 {
        let entries: Vec<String> = (0..100).map(|n| format!("{batch}-{n}")).collect();
        recent::push(&entries).run(&redis).await.unwrap();
    }
    assert_eq!(recent::latest(2).run(&redis).await.unwrap(), ["11-99", "11-98"]);
    let all = recent::latest(5000).run(&redis).await.unwrap();
    assert_eq!((all.len(), all.last().map(String::as_str)), (1000, Some("2-0")));
}

#[tokio::test]
async fn what_was_sent_again_is_listed_once() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::system()).unwrap();
    for _ in 0..2 {
        recent::push(&["a".into(), "b".into()]).run(&redis).await.unwrap();
    }
    assert_eq!(recent::latest(9).run(&redis).await.unwrap(), ["b", "a"]);
}

#[tokio::test]
async fn a_minute_adds_up_what_its_processes_did_and_ends_by_itself() {
    let server = RedisServer::start();
    let redis = Redis::open(&server.config(), Clock::fixed(BEGINNING)).unwrap();
    let minute = recent::minute_of(BEGINNING);
    for (minute, instance, batch, count) in
        [(minute, "a", 1, 2), (minute, "a", 1, 2), (minute, "a", 2, 3), (minute, "b", 1, 4), (minute - 2, "b", 2, 7)]
    {
        recent::add(minute, instance, batch, [("delivered", count), ("failed", 1)]).run(&redis).await.unwrap();
    }
    let sums = |delivered, failed| BTreeMap::from([("delivered".to_owned(), delivered), ("failed".to_owned(), failed)]);
    let read = recent::read(BEGINNING, 3).run(&redis).await.unwrap();
    assert_eq!(read, [sums(7, 1), BTreeMap::new(), sums(9, 3)]);
    assert_eq!(recent::read(BEGINNING, 1).run(&redis).await.unwrap(), [sums(9, 3)]);
    assert_eq!(recent::read(BEGINNING, 500).run(&redis).await.unwrap().len(), 60);
    assert_eq!(recent::read(Millis(0), 60).run(&redis).await.unwrap().len(), 1);
    let ttl: i64 = server.connect().ttl(format!("recent_sums:{minute}")).unwrap();
    assert!((7_140..=7_200).contains(&ttl), "{ttl}");
}
