//! What an operator can ask and do: statuses in pages, cleanup, dead letters and redrive.
//! Errors have one form.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::redis::transport::RedisConfig;
use http::Method;
use lambda_http::Body;
use redis::Commands as _;
use serde_json::{Value, json};
use tests::world::{BEGINNING, World};

/// Writes records directly, as the scripts would write them.
fn write_records(world: &World, records: impl Iterator<Item = (String, &'static str, u64)>) {
    let mut connection = world.redis.connect();
    for chunk in records.collect::<Vec<_>>().chunks(5000) {
        let mut pipe = redis::pipe();
        for (id, status, at) in chunk {
            let key = format!("webhook_status:{id}");
            let fields = [
                ("status", (*status).to_owned()),
                ("webhook_url", "https://a.example/".to_owned()),
                ("attempts", "1".to_owned()),
                ("created_at", at.to_string()),
                ("updated_at", at.to_string()),
                ("expires_at", (at + 86_400_000).to_string()),
                ("correlation_id", "c".to_owned()),
            ];
            pipe.hset_multiple(&key, &fields).ignore().pexpire(&key, 604_800_000).ignore();
            pipe.zadd(format!("webhook_index:{status}"), id, *at).ignore();
        }
        pipe.exec(&mut connection).unwrap();
    }
}

async fn ok(world: &World, path: &str) -> Value {
    let (code, answer) = world.get(path).await;
    assert_eq!(code, 200, "{path}: {answer}");
    answer
}

async fn clean(world: &World, query: &str) -> Value {
    let (code, answer) = world.post(&format!("/webhook-cleanup{query}"), "").await;
    assert_eq!(code, 200, "{answer}");
    answer
}

fn ids(page: &Value) -> Vec<String> {
    page["webhooks"].as_array().unwrap().iter().map(|w| w["webhook_id"].as_str().unwrap().to_owned()).collect()
}

/// Every page of a list; `between` runs after each.
async fn pages(world: &World, path: &str, mut between: impl AsyncFnMut(usize)) -> Vec<String> {
    let (mut all, mut cursor, mut count) = (Vec::new(), None::<String>, 0);
    loop {
        let next = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let before = world.redis_round_trips();
        let page = ok(world, &format!("{path}{next}")).await;
        assert!(world.redis_round_trips() - before <= 3, "a page costs three round trips at most");
        all.extend(ids(&page));
        between(count).await;
        count += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return all,
        }
    }
}

#[tokio::test]
async fn lists_stay_the_same_while_an_index_is_split_and_joined_again() {
    let whole = World::new().await;
    let statuses = ["pending", "retrying", "delivered", "failed"];
    let record =
        |i: u64| (format!("w-{i:04}"), statuses[usize::try_from(i % 4).unwrap()], BEGINNING.0 - 10_000 + i / 7);
    write_records(&whole, (0..1000).map(record));
    let everything: BTreeSet<String> = (0..1000).map(|i| record(i).0).collect();
    let mut look = whole.redis.connect();
    let mut entries = |shard: &str| -> Vec<usize> {
        statuses.iter().map(|status| look.zcard(format!("webhook_index:{status}{shard}")).unwrap()).collect()
    };
    let shows_all = async |world: &World| {
        let failed = pages(world, "/webhook-statuses?limit=100&status=failed", async |_| {}).await;
        assert_eq!((failed.len(), failed.into_iter().collect::<BTreeSet<_>>().len()), (250, 250));
        let listed = pages(world, "/webhook-statuses?limit=90", async |_| {}).await;
        assert_eq!(listed.len(), 1000);
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), everything);
    };
    let counts = async |world: &World| ok(world, "/webhook-statuses?limit=1").await["counts"].clone();
    let exact = json!({"pending": 250, "retrying": 250, "delivered": 250, "failed": 250});

    let redis = RedisConfig::node(whole.redis.url());
    let split = World::on_with(&redis, &[("INDEX_SHARDS", "4")]).await;
    shows_all(&split).await;
    assert_eq!((counts(&split).await, entries(":1")), (exact.clone(), vec![0; 4]), "a list moves nothing");
    let report = split.daily_cleanup().await;
    split.leaves([QueueName::Event]);
    assert_eq!((report["complete"].as_bool(), report["deleted"].as_u64()), (Some(true), Some(0)));
    let moved = ["", ":1", ":2", ":3"].map(|shard| entries(shard).iter().sum::<usize>());
    assert_eq!(report["index_entries_added"], json!(moved[1..].iter().sum::<usize>()), "{report}");
    for shard in ["", ":1", ":2", ":3"] {
        assert!(entries(shard).iter().all(|count| (30..100).contains(count)), "{shard}: {:?}", entries(shard));
    }
    // While both numbers are in use, one delivery is entered under both.
    for i in (3..100).step_by(4) {
        let (id, status, at) = record(i);
        let () = whole.redis.connect().zadd(format!("webhook_index:{status}"), id, at - 5).unwrap();
    }
    // A process that knows one number has ended a delivery which another one has begun.
    for i in (2..100).step_by(4) {
        let (id, status, at) = record(i);
        let mut redis = whole.redis.connect();
        for shard in ["", ":1", ":2", ":3"] {
            let () = redis.zrem(format!("webhook_index:{status}{shard}"), &id).unwrap();
            let () = redis.zadd(format!("webhook_index:pending{shard}"), &id, at - 5).unwrap();
        }
        let () = redis.zadd(format!("webhook_index:{status}"), id, at).unwrap();
    }
    for world in [&split, &whole] {
        shows_all(world).await;
    }
    assert_eq!(counts(&split).await, exact, "whoever meets a former entry drops it");
    let (_, health) = split.get("/health").await;
    assert_eq!(health["components"]["queue"]["oldest_pending_age_seconds"], json!(10), "{health}");

    let joined = World::on(&redis).await;
    shows_all(&joined).await;
    assert_eq!(clean(&joined, "?status=failed&dry_run=true").await["deleted"], 250);
    assert_eq!(clean(&joined, "?status=failed").await["deleted"], 250);
    let report = joined.daily_cleanup().await;
    joined.leaves([QueueName::Event]);
    assert_eq!(report["complete"], true);
    assert_eq!((entries(""), entries(":3")), (vec![250, 250, 250, 0], vec![0; 4]));
}

#[tokio::test]
async fn a_hundred_thousand_records_are_listed_exactly_once_while_some_change() {
    let world = World::new().await;
    let statuses = ["pending", "retrying", "delivered", "failed"];
    let status = |i: u64| statuses[usize::try_from(i % 4).unwrap()];
    // Many have the same millisecond, so that pages begin and end between equal times.
    let at = |i: u64| BEGINNING.0 - 1_000_000 + i / 7;
    write_records(&world, (0..100_000).map(|i| (format!("w-{i:06}"), status(i), at(i))));
    world.clock.advance(Duration::from_secs(5));
    let mut connection = world.redis.connect();
    let mut changed = BTreeSet::new();
    let listed = pages(&world, "/webhook-statuses?limit=200", async |page| {
        // After each page, one record gets another status and two expire.
        for k in 0..3u64 {
            let i = (page as u64 * 7919 + k * 50_021) % 100_000;
            let id = format!("w-{i:06}");
            if !changed.insert(id.clone()) {
                continue;
            }
            let key = format!("webhook_status:{id}");
            if k == 0 {
                let now = BEGINNING.0 + 5_000 + page as u64;
                let _: () =
                    connection.hset_multiple(&key, &[("status", "failed"), ("updated_at", &now.to_string())]).unwrap();
                let _: () = connection.zrem(format!("webhook_index:{}", status(i)), &id).unwrap();
                let _: () = connection.zadd("webhook_index:failed", &id, now).unwrap();
            } else {
                let _: () = connection.del(&key).unwrap();
            }
        }
    })
    .await;
    assert!(changed.len() >= 1_000, "{}", changed.len());
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for id in &listed {
        *times.entry(id).or_default() += 1;
    }
    for i in 0..100_000u64 {
        let id = format!("w-{i:06}");
        if !changed.contains(&id) {
            assert_eq!(times.get(id.as_str()), Some(&1), "{id}");
        }
    }
}

#[tokio::test]
async fn pages_are_newest_first_and_counted_whatever_the_filter() {
    let world = World::new().await;
    write_records(&world, (0..30).map(|i| (format!("f-{i:02}"), "failed", BEGINNING.0 - 100 + i / 2)));
    write_records(&world, (0..5).map(|i| (format!("p-{i}"), "pending", BEGINNING.0 - 93 + i)));
    let all = pages(&world, "/webhook-statuses?limit=4", async |_| {}).await;
    let mut sorted = all.clone();
    let at = |id: &str| {
        let i: u64 = id[2..].parse().unwrap();
        if id.starts_with('f') { i / 2 } else { 7 + i }
    };
    sorted.sort_by_key(|id| std::cmp::Reverse((at(id), id.clone())));
    assert_eq!(all, sorted);
    assert_eq!(all.len(), 35);
    let pending = pages(&world, "/webhook-statuses?status=pending&limit=2", async |_| {}).await;
    assert_eq!(pending, ["p-4", "p-3", "p-2", "p-1", "p-0"]);
    let page = ok(&world, "/webhook-statuses?status=delivered").await;
    assert_eq!(page["counts"], json!({"pending": 5, "retrying": 0, "delivered": 0, "failed": 30}));
    assert_eq!(page["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_listing_repairs_the_indexes_that_it_reads() {
    let world = World::new().await;
    let now = BEGINNING.0;
    write_records(&world, (0..6).map(|i| (format!("r-{i}"), "failed", now - 50 + i)));
    let mut connection = world.redis.connect();
    // r-0 has expired, r-1 is in a second index, too, and r-2 only in a wrong one.
    let _: () = connection.del("webhook_status:r-0").unwrap();
    let _: () = connection.zadd("webhook_index:pending", "r-1", now - 49).unwrap();
    let _: () = connection.zrem("webhook_index:failed", "r-2").unwrap();
    let _: () = connection.zadd("webhook_index:retrying", "r-2", now - 60).unwrap();
    let mut listed = pages(&world, "/webhook-statuses?limit=2", async |_| {}).await;
    listed.sort();
    assert_eq!(listed, ["r-1", "r-2", "r-3", "r-4", "r-5"]);
    for (status, wanted) in [("pending", 0), ("retrying", 0), ("delivered", 0), ("failed", 5)] {
        let count: usize = connection.zcard(format!("webhook_index:{status}")).unwrap();
        assert_eq!(count, wanted, "{status}");
    }
    let failed = pages(&world, "/webhook-statuses?status=failed", async |_| {}).await;
    assert_eq!(failed, ["r-5", "r-4", "r-3", "r-2", "r-1"]);
}

#[tokio::test]
async fn cleanup_removes_what_it_is_asked_to_and_says_so() {
    let world = World::new().await;
    let day = 86_400_000;
    let now = BEGINNING.0;
    write_records(&world, (0..3).map(|i| (format!("old-{i}"), "failed", now - 3 * day + i)));
    write_records(&world, (0..2).map(|i| (format!("new-{i}"), "failed", now - day + i)));
    write_records(&world, std::iter::once(("del".to_owned(), "delivered", now - 1000)));

    let dry = clean(&world, "?older_than_days=2&dry_run=true").await;
    assert_eq!((&dry["deleted"], &dry["by_status"]), (&json!(3), &json!({"delivered": 0, "failed": 3})));
    assert_eq!(ok(&world, "/webhook-statuses").await["counts"]["failed"], 5, "a dry run changes nothing");
    let done = clean(&world, "?older_than_days=2").await;
    assert_eq!((&done["deleted"], &done["complete"], &done["dry_run"]), (&json!(3), &json!(true), &json!(false)));
    assert_eq!(world.get("/webhook-statuses/old-0").await.0, 404);
    assert_eq!(clean(&world, "?status=failed").await["deleted"], 2);
    assert_eq!(
        ok(&world, "/webhook-statuses").await["counts"],
        json!({"pending": 0, "retrying": 0, "delivered": 1, "failed": 0})
    );
    assert_eq!(clean(&world, "").await["by_status"], json!({"delivered": 1, "failed": 0}));
    let keys: Vec<String> = world.redis.connect().keys("webhook_*").unwrap();
    assert_eq!(keys, Vec::<String>::new(), "no key is left");
}

#[tokio::test]
async fn cleanup_goes_on_where_it_ended() {
    let world = World::new().await;
    write_records(&world, (0..12_000).map(|i| (format!("w-{i:05}"), "failed", BEGINNING.0 - 20_000 + i / 9)));
    let (mut deleted, mut calls, mut cursor) = (0, 0, String::new());
    loop {
        let answer = clean(&world, &cursor).await;
        deleted += answer["deleted"].as_u64().unwrap();
        calls += 1;
        match answer["cursor"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => break,
        }
    }
    assert_eq!((deleted, calls), (12_000, 3));
}

#[tokio::test]
async fn removing_the_record_of_an_unfinished_delivery_does_not_stop_it() {
    let world = World::new().await;
    world.receiver.answer([503u16, 200]);
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    assert_eq!(world.status("a").await["status"], "retrying");
    assert_eq!(clean(&world, "?status=retrying").await["deleted"], 1);
    assert_eq!(world.get("/webhook-statuses/a").await.0, 404);
    assert_eq!(ok(&world, "/webhook-statuses").await["webhooks"], json!([]));
    // The same request is still the same delivery, another body is still refused.
    let url = world.receiver.url("/hook");
    let again = |payload: &str| format!(r#"{{"webhook_url":"{url}","payload":{payload},"reference_id":"a"}}"#);
    assert_eq!(world.post("/webhooks", again("1")).await.1["duplicate"], true);
    assert_eq!(world.post("/webhooks", again("2")).await.0, 409);
    world.settle().await;
    let status = world.status("a").await;
    assert_eq!(
        (&status["status"], &status["attempts"], &status["webhook_url"]),
        (&json!("delivered"), &json!(2), &json!(url))
    );
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_lease_outlives_the_removal_of_its_record() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    world.claim_and_die(QueueName::Delivery).await;
    assert_eq!(clean(&world, "?status=pending").await["deleted"], 1);
    // A duplicate of its message still finds the lease.
    let message = world.queues.all(QueueName::Delivery)[0].body.clone();
    world.queues.put(QueueName::Delivery, &message);
    assert_eq!(world.step(QueueName::Delivery).await, (1, 1));
    assert_eq!(world.receiver.count(), 0);
    world.leaves([QueueName::Delivery]);
}

#[tokio::test]
async fn the_daily_cleanup_deletes_nothing_and_repairs_what_is_wrong() {
    let world = World::new().await;
    let (now, hour) = (BEGINNING.0, 3_600_000);
    write_records(&world, (0..3).map(|i| (format!("f-{i}"), "failed", now - 3 * 24 * hour + i)));
    write_records(&world, std::iter::once(("lost".to_owned(), "retrying", now - 26 * hour)));
    write_records(&world, std::iter::once(("late".to_owned(), "retrying", now - 24 * hour - hour / 2)));
    let mut connection = world.redis.connect();
    let _: () = connection.persist("webhook_status:f-0").unwrap();
    let _: () = connection.del("webhook_status:f-1").unwrap();
    let _: () = connection.zadd("webhook_index:pending", "f-2", now - 5).unwrap();
    let report = world.daily_cleanup().await;
    let wanted =
        json!({"deleted": 0, "complete": true, "index_entries_removed": 2, "ttl_set": 1, "outcome_unknown": 1});
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&report[name], value, "{name}: {report}");
    }
    let ttl: i64 = connection.ttl("webhook_status:f-0").unwrap();
    assert!((345_590..=345_600).contains(&ttl), "the rest of seven days: {ttl}");
    let lost = world.status("lost").await;
    assert_eq!((&lost["status"], &lost["error"]), (&json!("failed"), &json!("outcome unknown")));
    assert_eq!(world.status("late").await["status"], "retrying", "its deadline passed less than an hour ago");
    assert_eq!(ids(&ok(&world, "/webhook-statuses?status=failed").await), ["lost", "f-2", "f-0"]);
    assert_eq!(world.daily_cleanup().await["outcome_unknown"], 0);
    world.settle().await;
}

#[tokio::test]
async fn a_message_that_comes_after_its_delivery_was_written_off_is_not_lost() {
    let world = World::new().await;
    world.enqueue("a", "1").await;
    world.clock.advance(Duration::from_secs(26 * 3600));
    assert_eq!(world.daily_cleanup().await["outcome_unknown"], 1);
    assert_eq!(world.status("a").await["error"], "outcome unknown");
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    let letter = ok(&world, "/dead-letters/a").await;
    assert_eq!(letter["reason"], "expired");
    assert_eq!(world.status("a").await["status"], "failed");
}

async fn fail(world: &World, id: &str, code: u16) {
    world.receiver.answer([code]);
    world.enqueue(id, r#"{"n":1.50}"#).await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    world.clock.advance(Duration::from_millis(10));
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_deleted() {
    let world = World::new().await;
    for (id, code) in [("a", 400u16), ("b", 410), ("c", 404)] {
        fail(&world, id, code).await;
    }
    let listed = async |query: &str| {
        let page = ok(&world, &format!("/dead-letters{query}")).await;
        let letters = page["dead_letters"].as_array().unwrap().clone();
        (letters.iter().map(|l| l["webhook_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), page)
    };
    assert_eq!(listed("").await.0, ["c", "b", "a"]);
    assert_eq!(listed("?reason=gone").await.0, ["b"]);
    assert_eq!(listed(&format!("?destination={}", world.receiver.origin())).await.0.len(), 3);
    assert_eq!(listed("?destination=https://other.example").await.0.len(), 0);
    let (first, page) = listed("?limit=2").await;
    assert_eq!(first, ["c", "b"]);
    assert_eq!(listed(&format!("?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await.0, ["a"]);
    let since = page["dead_letters"][1]["failed_at"].as_str().unwrap();
    assert_eq!(listed(&format!("?since={since}")).await.0, ["c", "b"]);
    assert_eq!(listed(&format!("?until={since}")).await.0, ["a"]);

    let letter = ok(&world, "/dead-letters/a").await;
    assert_eq!((&letter["attempts"], &letter["history"][0]["code"]), (&json!(1), &json!(400)));
    assert_eq!(letter["payload"].to_string(), r#"{"n":1.5}"#);
    assert_eq!(world.ask(Method::DELETE, "/dead-letters/a", Body::Empty).await.0, 204);
    assert_eq!(world.ask(Method::DELETE, "/dead-letters/a", Body::Empty).await.0, 404);
    assert_eq!(world.get("/dead-letters/a").await.0, 404);
    let seen: bool = world.redis.connect().exists("dead_letter:webhook:a").unwrap();
    assert!(!seen);
}

#[tokio::test]
async fn dead_letters_are_listed_without_redis() {
    let mut world = World::new().await;
    fail(&world, "a", 400).await;
    world.redis.stop();
    let page = ok(&world, "/dead-letters").await;
    assert_eq!(page["dead_letters"][0]["webhook_id"], "a");
    assert_eq!(ok(&world, "/dead-letters/a").await["reason"], "client_error");
    let (code, answer) = world.operate("/dead-letters/a/redrive", json!({})).await;
    assert_eq!((code, &answer["status"]), (202, &json!("pending")));
    assert_eq!(world.get("/webhook-statuses").await.0, 503);
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_redriven_dead_letter_gets_a_fresh_budget_and_keeps_its_id() {
    // The breaker does not open here.
    let world = World::with(&[("BREAKER_FAILURE_THRESHOLD", "100")]).await;
    world.receiver.always(500u16);
    world.enqueue("a", "{ \"z\":1.0 }").await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.status("a").await["attempts"], 4);
    let accepted = ok(&world, "/dead-letters/a").await["accepted_at"].clone();

    let (code, answer) = world.operate("/dead-letters/a/redrive", json!({})).await;
    assert_eq!((code, answer), (202, json!({"webhook_id": "a", "status": "pending"})));
    let status = world.status("a").await;
    assert_eq!((&status["status"], &status["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(status.get("error"), None);
    assert!(ok(&world, "/dead-letters/a").await["redriven_at"].is_string());
    // The same request again sends nothing.
    assert_eq!(world.operate("/dead-letters/a/redrive", json!({})).await.0, 202);
    assert_eq!(world.queues.all(QueueName::Retry).len(), 1);

    // It fails four more times, and is a dead letter again.
    world.settle().await;
    assert_eq!(world.receiver.count(), 8);
    assert_eq!(world.file().await, (1, 0));
    let letter = ok(&world, "/dead-letters/a").await;
    assert_eq!((letter.get("redriven_at"), &letter["accepted_at"]), (None, &accepted));
    assert_eq!((&letter["attempts"], &letter["history_count"]), (&json!(4), &json!(4)));

    world.receiver.always(200u16);
    world.operate("/dead-letters/a/redrive", json!({})).await;
    world.settle().await;
    let last = world.receiver.arrivals().pop().unwrap();
    assert_eq!((last.header("webhook-id"), &last.body[..]), ("a", &b"{ \"z\":1.0 }"[..]));
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn a_redrive_that_the_queue_refuses_can_be_tried_again() {
    let world = World::new().await;
    fail(&world, "a", 400).await;
    world.queues.breaks(Some(QueueName::Retry));
    let (code, _) = world.operate("/dead-letters/a/redrive", json!({})).await;
    assert_eq!(code, 503);
    assert_eq!(world.status("a").await["status"], "failed");
    world.queues.breaks(None);
    assert_eq!(world.operate("/dead-letters/a/redrive", json!({})).await.0, 202);
    assert_eq!(world.queues.all(QueueName::Retry).len(), 1);
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_dead_letter_of_null_is_redriven_like_any_other() {
    let world = World::new().await;
    for id in ["a", "b"] {
        world.receiver.answer([410u16]);
        world.enqueue(id, if id == "a" { "null" } else { "1" }).await;
        world.settle().await;
        assert_eq!(world.file().await, (1, 0));
    }
    assert_eq!(ok(&world, "/dead-letters/a").await.get("payload"), Some(&Value::Null));
    let (_, answer) = world.operate("/dead-letters/redrive", json!({})).await;
    assert_eq!(answer, json!({"matched": 2, "redriven": 2, "complete": true}));
    world.settle().await;
    let bodies: Vec<_> = world.receiver.arrivals()[2..].iter().map(|arrival| arrival.body.clone()).collect();
    assert!(bodies.iter().any(|body| &body[..] == b"null"), "{bodies:?}");
}

#[tokio::test]
async fn a_redrive_whose_message_was_lost_can_be_repeated() {
    let world = World::new().await;
    fail(&world, "a", 400).await;
    let redrive = async || world.operate("/dead-letters/a/redrive", json!({})).await;
    assert_eq!(redrive().await.0, 202);
    // Somebody purges the queue.
    for taken in world.queues.receive(QueueName::Retry, 10) {
        world.queues.delete(QueueName::Retry, &taken);
    }
    world.clock.advance(Duration::from_secs(2));
    for taken in world.queues.receive(QueueName::Retry, 10) {
        world.queues.delete(QueueName::Retry, &taken);
    }
    assert_eq!(redrive().await.1["status"], "pending");
    assert!(world.queues.all(QueueName::Retry).is_empty(), "it may still be on its way");
    world.clock.advance(Duration::from_secs(26 * 3600));
    assert_eq!(world.daily_cleanup().await["outcome_unknown"], 1);
    assert_eq!(redrive().await.0, 202);
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
    assert_eq!(redrive().await.1["status"], "delivered");
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_redrive_gives_way_to_a_later_life_of_its_id() {
    let world = World::new().await;
    fail(&world, "a", 400).await;
    // Its record is removed, the client sends it again, and a consumer claims it.
    clean(&world, "").await;
    world.enqueue("a", r#"{"n":1.50}"#).await;
    world.claim_and_die(QueueName::Delivery).await;
    assert_eq!(world.operate("/dead-letters/a/redrive", json!({})).await.0, 409);
    assert!(world.queues.all(QueueName::Retry).is_empty());
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn a_redrive_that_died_before_it_was_noted_sends_the_same_hop_again() {
    let world = World::new().await;
    fail(&world, "a", 400).await;
    world.operate("/dead-letters/a/redrive", json!({})).await;
    // As if the note were lost: the same message is sent once more.
    let message = world.queues.all(QueueName::Retry)[0].body.clone();
    world.queues.put(QueueName::Retry, &message);
    world.settle().await;
    assert_eq!(world.receiver.count(), 2, "one call for the delivery, one for its redrive");
    assert_eq!(world.status("a").await["status"], "delivered");
}

#[tokio::test]
async fn many_are_redriven_by_filter_within_a_limit_and_a_rate() {
    let world = World::new().await;
    for i in 0..25 {
        fail(&world, &format!("g-{i:02}"), 410).await;
    }
    fail(&world, "other", 404).await;
    world.queues.put(QueueName::DeadLetter, "not ours");
    world.file().await;
    let redrive = async |body: Value| {
        let (code, answer) = world.operate("/dead-letters/redrive", body).await;
        assert_eq!(code, 200, "{answer}");
        answer
    };
    let gone = json!({"reason": "gone", "destination": world.receiver.origin()});
    let dry = redrive(json!({"filter": gone, "dry_run": true, "limit": 10})).await;
    assert_eq!(dry, json!({"matched": 10, "redriven": 0, "complete": false}));
    assert_eq!(redrive(json!({"filter": gone, "dry_run": true})).await["matched"], 25);
    assert_eq!(world.queues.all(QueueName::Retry).len(), 0);

    let began = world.clock.now();
    let first = redrive(json!({"filter": gone, "limit": 20, "per_second": 2})).await;
    assert_eq!(first, json!({"matched": 20, "redriven": 20, "complete": false}));
    assert_eq!(redrive(json!({"filter": gone})).await, json!({"matched": 5, "redriven": 5, "complete": true}));
    assert_eq!(redrive(json!({"filter": gone})).await, json!({"matched": 0, "redriven": 0, "complete": true}));
    let arrivals = world.receiver.count();
    world.settle().await;
    assert_eq!(world.receiver.count() - arrivals, 25);
    assert!(began.until(world.clock.now()) >= Duration::from_secs(10), "twenty at two a second");
    assert_eq!(redrive(json!({})).await["matched"], 1, "a dead letter that cannot be read does not match");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn what_could_not_be_read_cannot_be_redriven() {
    let world = World::new().await;
    world.queues.put(QueueName::DeadLetter, "not ours");
    world.file().await;
    let page = ok(&world, "/dead-letters").await;
    let id = page["dead_letters"][0]["webhook_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("malformed-"));
    assert_eq!(ok(&world, &format!("/dead-letters/{id}")).await["body"], "not ours");
    assert_eq!(world.operate(&format!("/dead-letters/{id}/redrive"), json!({})).await.0, 409);
}

#[tokio::test]
async fn nonsense_gets_every_fault_named_and_never_a_500() {
    let world = World::new().await;
    let pointers = |answer: &Value| -> Vec<String> {
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    };
    for (path, wanted) in [
        ("/webhook-statuses?status=done&limit=0&cursor=x&page=2", vec!["/status", "/limit", "/cursor", "/page"]),
        ("/webhook-statuses?limit=201", vec!["/limit"]),
        (
            "/dead-letters?reason=bad&since=now&until=x&destination=example",
            vec!["/reason", "/destination", "/since", "/until"],
        ),
        ("/dead-letters?cursor=AAAA&limit=1000", vec!["/limit", "/cursor"]),
        ("/webhook-statuses/a.b", vec!["/id"]),
        ("/webhook-statuses/%00", vec!["/id"]),
        ("/dead-letters/a%2Fb", vec!["/id"]),
        ("/circuit-breakers?state=ajar", vec!["/state"]),
    ] {
        let (code, answer) = world.get(path).await;
        assert_eq!((code, pointers(&answer)), (422, wanted.into_iter().map(str::to_owned).collect()), "{path}");
    }
    let (code, answer) = world.post("/webhook-cleanup?older_than_days=-1&dry_run=1&status=x", "").await;
    assert_eq!((code, pointers(&answer).len()), (422, 3));
    let faulty = json!({"filter": {"reason": "malformed", "destination": 5, "since": "x", "a/b": 1}, "dry_run": 1, "limit": 1001, "per_second": 0, "x": 1});
    let (code, answer) = world.operate("/dead-letters/redrive", faulty).await;
    assert_eq!((code, pointers(&answer).len()), (422, 8), "{answer}");
    for (body, wanted) in [("", 400), ("[]", 422), ("{\"limit\":1,\"limit\":2}", 422), ("{\"filter\":[]}", 422)] {
        assert_eq!(world.post("/dead-letters/redrive", body).await.0, wanted, "{body}");
    }
    for (method, path, wanted) in [
        (Method::DELETE, "/webhooks", 405),
        (Method::GET, "/webhook-cleanup", 405),
        (Method::PUT, "/dead-letters/a", 405),
        (Method::GET, "/dead-letters/a/redrive", 405),
        (Method::POST, "/health", 405),
        (Method::POST, "/event-types", 405),
        (Method::POST, "/event-types/order.paid", 405),
        (Method::POST, "/event-types/order.paid/x", 404),
        (Method::GET, "/dead-letters/a/b", 404),
        (Method::GET, "/", 404),
        (Method::GET, "/webhook-statuses/a/b", 404),
    ] {
        let (code, answer) = world.ask(method.clone(), path, Body::Empty).await;
        assert_eq!((code, &answer["status"]), (wanted, &json!(wanted)), "{method} {path}");
    }
    assert_eq!(world.get("/dead-letters/nothing").await.0, 404);
    assert_eq!(world.get("/webhook-statuses/a%3Ab").await.0, 404, "an escaped id is an id");
}
