//! A Redis like ElastiCache: a cluster with TLS and a password, a failover, a user with
//! restricted permissions, and too little memory.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::redis::transport::RedisConfig;
use serde_json::{Value, json};
use tests::redis_cluster::RedisCluster;
use tests::redis_server::{RedisServer, Server as _};
use tests::world::World;

/// Does everything that a client and an operator do.
async fn walk(world: &World) {
    let ok = async |path: &str| {
        let (code, answer) = world.get(path).await;
        assert_eq!(code, 200, "{path}: {answer}");
        answer
    };
    for n in 0..30 {
        world.enqueue(&format!("w-{n:02}"), &n.to_string()).await;
    }
    let before = world.redis_round_trips();
    world.step(QueueName::Delivery).await;
    assert_eq!(world.redis_round_trips() - before, 2, "two round trips a batch, in a cluster too");
    world.settle().await;
    world.receiver.answer([500u16, 410]);
    world.enqueue("again", "1").await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.status("again").await["status"], "failed");

    let (mut listed, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let before = world.redis_round_trips();
        let page = ok(&format!("/webhook-statuses?limit=7{cursor}")).await;
        assert!(world.redis_round_trips() - before <= 3);
        for webhook in page["webhooks"].as_array().unwrap() {
            assert!(listed.insert(webhook["webhook_id"].as_str().unwrap().to_owned()));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed.len(), 31);
    assert_eq!(world.operate("/dead-letters/again/redrive", json!({})).await.0, 202);
    world.settle().await;
    assert_eq!(world.status("again").await["status"], "delivered");
    assert_eq!(world.get("/health").await.1["components"]["redis"]["status"], "up");
    assert_eq!(ok("/circuit-breakers").await["circuit_breakers"][0]["state"], "closed");
    let destination = json!({"destination": world.receiver.origin()});
    assert_eq!(world.operate("/circuit-breakers/reset", destination).await.0, 200);
    let metrics = world.metrics().await;
    assert!(metrics.contains("redis_up 1\n"), "{metrics}");
    assert!(metrics.contains("webhook_statuses{status=\"delivered\"} 31\n"), "{metrics}");
    let (_, cleaned) = world.post("/webhook-cleanup?status=delivered", "").await;
    assert_eq!((&cleaned["deleted"], &cleaned["complete"]), (&json!(31), &json!(true)));
    assert_eq!(world.daily_cleanup().await["complete"], true);
    world.settle().await;
}

#[tokio::test]
async fn everything_works_in_a_cluster_by_tls() {
    let cluster = RedisCluster::start();
    walk(&World::on(&cluster.config()).await).await;
}

#[tokio::test]
async fn a_failover_in_the_middle_loses_no_delivery() {
    let mut cluster = RedisCluster::start();
    let world = World::on(&cluster.config()).await;
    for n in 0..60 {
        world.enqueue(&format!("w-{n:02}"), &n.to_string()).await;
    }
    for _ in 0..2 {
        world.step(QueueName::Delivery).await;
    }
    cluster.kill_a_master();
    // No node serves a third of the keys now, and work goes on.
    for _ in 0..2 {
        world.step(QueueName::Delivery).await;
    }
    assert!(world.receiver.count() >= 40);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let all_known = async || {
        for n in 0..60 {
            let (code, record) = world.get(&format!("/webhook-statuses/w-{n:02}")).await;
            if code != 200 || record["status"] != "delivered" {
                return Some(format!("w-{n:02}: {code} {record}"));
            }
        }
        None
    };
    loop {
        world.settle().await;
        match all_known().await {
            None => break,
            Some(unknown) => assert!(std::time::Instant::now() < until, "{unknown}"),
        }
    }
    let got: BTreeSet<Vec<u8>> = world.receiver.arrivals().iter().map(|arrival| arrival.body.to_vec()).collect();
    assert_eq!(got.len(), 60);
    assert!(world.queues.all(QueueName::DeadLetter).is_empty());
}

#[tokio::test]
async fn the_caches_user_may_do_what_we_do_and_nothing_else() {
    let template: serde_yaml_ng::Value = serde_yaml_ng::from_str(include_str!("../../../infra/cache.yaml")).unwrap();
    let access = template["Resources"]["User"]["Properties"]["AccessString"].as_str().unwrap();
    let server = RedisServer::start();
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg("steadhook").arg(">secret");
    for rule in access.split_whitespace() {
        command.arg(rule);
    }
    let _: () = command.query(&mut server.connect()).unwrap();
    let url = format!("redis://steadhook:secret@127.0.0.1:{}", server.port());
    walk(&World::on(&RedisConfig::node(&url)).await).await;
    let mut user = redis::Client::open(url).unwrap().get_connection().unwrap();
    for forbidden in
        [&["KEYS", "*"][..], &["FLUSHALL"], &["CONFIG", "GET", "*"], &["GET", "other"], &["DBSIZE"], &["SHUTDOWN"]]
    {
        let mut command = redis::cmd(forbidden[0]);
        command.arg(&forbidden[1..]);
        let refused = command.query::<redis::Value>(&mut user).unwrap_err();
        assert!(refused.to_string().to_lowercase().contains("permission"), "{forbidden:?}: {refused}");
    }
}

#[tokio::test]
async fn too_little_memory_costs_statuses_and_no_delivery() {
    let server = RedisServer::start_with(&["--maxmemory", "2mb", "--maxmemory-policy", "volatile-lru"]);
    let world = World::on(&RedisConfig::node(server.url())).await;
    for round in 0..15 {
        let webhooks: Vec<Value> = (0..100)
            .map(|n| json!({"webhook_url": world.receiver.url("/"), "payload": n, "reference_id": format!("m-{round}-{n}")}))
            .collect();
        let (code, answer) = world.operate("/webhooks/batch", json!({ "webhooks": webhooks })).await;
        assert_eq!((code, &answer["accepted"]), (200, &json!(100)), "{answer}");
        world.settle().await;
    }
    let ids: BTreeSet<String> =
        world.receiver.arrivals().iter().map(|arrival| arrival.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1500);
    let (code, answer) = world.get("/webhook-statuses?limit=200").await;
    assert_eq!(code, 200, "{answer}");
    let info: String = redis::cmd("INFO").arg("stats").query(&mut server.connect()).unwrap();
    let evicted = info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
    assert!(evicted.parse::<u64>().unwrap() > 100, "{evicted}");
}
