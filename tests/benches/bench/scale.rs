//! What grows: bytes of Redis, pages over a million records, ten thousand breakers,
//! and the keys that every delivery touches.

use std::collections::BTreeMap;
use std::time::Instant;

use adapters::clock::Clock;
use bytes::Bytes;
use redis::{Connection, ConnectionLike as _, Script};
use serde_json::Value;
use tests::binary::{Function, http_event};

use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median, quantile};
use crate::stage::{Stage, batches, spend, us_each};

const RECORDS: usize = 1_000_000;
const BREAKERS: usize = 10_000;
/// Records that one call of a script makes.
const CHUNK: usize = 5_000;
const PAGES: usize = 400;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let (sample, each) = delivered_bytes(stage, 0).await;
    figures.judge("10,000 webhooks delivered: Redis, indexes included", each, "bytes", AtMost(600.0));
    for (url, value) in [(60, "64"), (90, "64"), (90, "512")] {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("hash-max-listpack-value")
            .arg(value)
            .exec(&mut stage.redis.connect())
            .unwrap();
        let (_, each) = delivered_bytes(stage, url).await;
        figures.note(format!("  with URLs of {url} bytes, listpacks of values up to {value}"), each, "bytes");
    }
    redis::cmd("CONFIG").arg("SET").arg("hash-max-listpack-value").arg("64").exec(&mut stage.redis.connect()).unwrap();
    let mut redis = stage.redis.connect();
    let empty = memory_without(&mut redis, stage);
    copy_records(&mut redis, &sample);
    let each = (stage.redis_memory() - empty) / RECORDS as f64;
    figures.judge("1,000,000 delivered records: Redis, indexes included", each, "bytes", AtMost(600.0));
    pages(stage, figures, "all statuses", "/webhook-statuses").await;
    pages(stage, figures, "status=delivered, 200 each", "/webhook-statuses?status=delivered&limit=200").await;
    let messages = stage.accepted(2000, 1024, 200).await;
    let deliver = Function::start("deliver", &stage.settings(&[])).await;
    let cost = spend(stage, &deliver, batches(&messages, 10)).await;
    figures.note("deliver beside 1,000,000 records: CPU of Redis a delivery", us_each(cost.redis, 2000), "µs");
    stage.forget();
    breakers(stage, figures).await;
}

/// A record that was really delivered, and how many bytes each takes. The URL is
/// made this long.
async fn delivered_bytes(stage: &Stage, url: usize) -> (BTreeMap<String, String>, f64) {
    const COUNT: usize = 10_000;
    stage.forget();
    let deliver = Function::start("deliver", &stage.settings(&[])).await;
    let warm = stage.accepted(100, 1024, 200).await;
    spend(stage, &deliver, batches(&warm, 10)).await;
    let before = stage.redis_memory();
    let messages = stage.accepted_at(COUNT, 1024, &stage.sink.long_url(200, url)).await;
    spend(stage, &deliver, batches(&messages, 10)).await;
    let each = (stage.redis_memory() - before) / COUNT as f64;
    let mut redis = stage.redis.connect();
    let id: Vec<String> =
        redis::cmd("ZREVRANGE").arg("webhook_index:delivered").arg(0).arg(0).query(&mut redis).unwrap();
    (redis::cmd("HGETALL").arg(format!("webhook_status:{}", id[0])).query(&mut redis).unwrap(), each)
}

fn memory_without(redis: &mut Connection, stage: &Stage) -> f64 {
    redis::cmd("FLUSHALL").exec(redis).unwrap();
    stage.redis_memory()
}

/// A million records like this one, each with an id of its own.
fn copy_records(redis: &mut Connection, sample: &BTreeMap<String, String>) {
    let script = Script::new(
        "local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
         for i = first, first + count - 1 do
           local id = string.format('019a0000-0000-7000-8000-%012x', i)
           local key = 'webhook_status:' .. id
           redis.call('HSET', key, unpack(ARGV, 4))
           redis.call('PEXPIRE', key, 1800000)
           redis.call('ZADD', 'webhook_index:delivered', tonumber(ARGV[3]) + i, id)
         end",
    );
    let began = Clock::system().now();
    for first in (0..RECORDS).step_by(CHUNK) {
        let mut call = script.prepare_invoke();
        call.arg(first).arg(CHUNK).arg(began.0);
        for (name, value) in sample {
            call.arg(name).arg(value);
        }
        call.invoke::<()>(redis).unwrap();
    }
}

/// Walks through a listing, page by page.
async fn pages(stage: &Stage, figures: &mut Figures, what: &str, path: &str) {
    let (settings, proxy) = stage.counted(&[]).await;
    let counted = Function::start("operate", &settings).await;
    let (mut cursor, before) = (None, proxy.round_trips());
    for _ in 0..20 {
        cursor = page(&counted, path, cursor.as_deref()).await;
    }
    let trips = (proxy.round_trips() - before) as f64 / 20.0;
    figures.judge(format!("a page of 1,000,000, {what}: Redis round trips"), trips, "", AtMost(3.0));

    let operate = Function::start("operate", &stage.settings(&[])).await;
    let (mut walls, mut cursor) = (Vec::new(), None);
    cursor = page(&operate, path, cursor.as_deref()).await;
    let cpu = operate.usage().cpu;
    for _ in 0..PAGES {
        let began = Instant::now();
        cursor = page(&operate, path, cursor.as_deref()).await;
        walls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = us_each(operate.usage().cpu - cpu, PAGES);
    figures.note(format!("a page of 1,000,000, {what}: median"), median(walls.clone()), "ms");
    figures.judge(format!("a page of 1,000,000, {what}: p99"), quantile(walls, 0.99), "ms", AtMost(10.0));
    figures.note(format!("a page of 1,000,000, {what}: CPU of operate"), cpu, "µs");
}

async fn page(operate: &Function, path: &str, cursor: Option<&str>) -> Option<String> {
    let path = match cursor {
        None => path.to_owned(),
        Some(cursor) if path.contains('?') => format!("{path}&cursor={cursor}"),
        Some(cursor) => format!("{path}?cursor={cursor}"),
    };
    let body = get(operate, &path).await;
    let next = body["next_cursor"].as_str().map(str::to_owned);
    assert!(next.is_some() && body["webhooks"].as_array().is_some_and(|all| all.len() >= 50), "{body}");
    next
}

async fn get(operate: &Function, path: &str) -> Value {
    let answer: Value = serde_json::from_slice(&asked(operate, path).await).unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// The whole answer, unread: a listing takes the test longer to read than the function to make.
async fn asked(operate: &Function, path: &str) -> Bytes {
    operate.invoke_with(Bytes::from(http_event("GET", path, "").to_string())).await
}

/// Ten thousand destinations whose breakers are open.
async fn breakers(stage: &Stage, figures: &mut Figures) {
    let strict = stage.settings(&[("BREAKER_FAILURE_THRESHOLD", "1")]);
    let deliver = Function::start("deliver", &strict).await;
    let failing = stage.accepted(1, 1024, 500).await;
    spend(stage, &deliver, batches(&failing, 1)).await;
    let mut redis = stage.redis.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("circuit_breaker:*").query(&mut redis).unwrap();
    let sample: BTreeMap<String, String> = redis::cmd("HGETALL").arg(&keys[0]).query(&mut redis).unwrap();
    let empty = memory_without(&mut redis, stage);
    let script = Script::new(
        "local count = tonumber(ARGV[1])
         for i = 1, count do
           local destination = string.format('https://receiver-%05d.example.com', i)
           redis.call('HSET', 'circuit_breaker:' .. destination, unpack(ARGV, 2))
           redis.call('PEXPIRE', 'circuit_breaker:' .. destination, 86400000)
           redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]) * 1000, destination)
         end",
    );
    let mut call = script.prepare_invoke();
    call.key("circuit_breaker_index").arg(BREAKERS);
    for (name, value) in &sample {
        call.arg(name).arg(value);
    }
    call.invoke::<()>(&mut redis).unwrap();
    figures.note("10,000 breakers: Redis a breaker", (stage.redis_memory() - empty) / BREAKERS as f64, "bytes");
    let (settings, proxy) = stage.counted(&[]).await;
    let operate = Function::start("operate", &settings).await;
    let before = proxy.round_trips();
    let found = get(&operate, "/circuit-breakers?state=open").await;
    assert_eq!(found["circuit_breakers"].as_array().unwrap().len(), BREAKERS);
    figures.note("10,000 breakers listed: Redis round trips", (proxy.round_trips() - before) as f64, "");
    let mut walls = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        asked(&operate, "/circuit-breakers?state=open").await;
        walls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    figures.judge("10,000 breakers listed: median", median(walls), "ms", AtMost(50.0));
    redis.req_command(&redis::cmd("FLUSHALL")).unwrap();
}
