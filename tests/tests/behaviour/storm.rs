//! Two thousand deliveries wait for a receiver that is away for an hour. The test bounds
//! what that costs, and the load when the receiver comes back.

#![allow(clippy::print_stdout, reason = "the figures of a run are shown")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use serde_json::{Value, json};
use tests::world::{BEGINNING, World};

const AWAY: Duration = Duration::from_secs(3600);

/// Two thousand, or the number in `STORM`, in hundreds.
#[allow(clippy::disallowed_methods, reason = "a test's setting, not the product's")]
fn deliveries() -> usize {
    std::env::var("STORM").ok().and_then(|count| count.parse().ok()).unwrap_or(2000)
}

#[tokio::test]
async fn two_thousand_deliveries_outlast_an_hour_and_do_not_trample_their_receiver() {
    fastrand::seed(1);
    let deliveries = deliveries();
    let world = World::new().await;
    world.receiver.always(500u16);
    for batch in 0..deliveries / 100 {
        let webhooks: Vec<Value> = (0..100)
            .map(|n| {
                let id = format!("s-{}", batch * 100 + n);
                json!({ "webhook_url": world.receiver.url("/"), "payload": n, "reference_id": id })
            })
            .collect();
        let (_, answer) = world.post("/webhooks/batch", json!({ "webhooks": webhooks }).to_string()).await;
        assert_eq!(answer["accepted"], 100);
    }
    let sends_before = world.queues.sends().len();
    let (mut receives, mut calls, mut back) = (0, 0, false);
    let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
    loop {
        let mut worked = 0;
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            worked += world.step(queue_name).await.0;
        }
        receives += worked;
        let elapsed = BEGINNING.until(world.clock.now());
        let seen = world.receiver.count();
        *by_second.entry(elapsed.as_secs()).or_default() += seen - calls;
        if !back && elapsed >= AWAY {
            back = true;
            world.receiver.always(200u16);
        }
        calls = seen;
        if worked > 0 {
            continue;
        }
        match world.queues.next_visible() {
            Some(at) => world.clock.advance(world.clock.now().until(at).max(Duration::from_millis(1))),
            None => break,
        }
    }
    let failed: usize = by_second.range(..AWAY.as_secs()).map(|(_, count)| count).sum();
    let peak = by_second.range(AWAY.as_secs()..).map(|(_, count)| *count).max().unwrap_or_default();
    let last =
        by_second.iter().rev().find(|(_, count)| **count > 0).map(|(second, _)| second - AWAY.as_secs()).unwrap();
    let sent = world.queues.sends().len() - sends_before;
    println!(
        "{deliveries} deliveries, receiver away {} s: {receives} receives, {:.1} a delivery, {sent} sends to SQS, \
         {failed} calls while it was away, {calls} in all; after recovery at most {peak} calls in a second, the last \
         delivery {last} s after recovery",
        AWAY.as_secs(),
        f64::from(u32::try_from(receives).unwrap()) / f64::from(u32::try_from(deliveries).unwrap()),
    );
    assert!(world.queues.all(QueueName::DeadLetter).is_empty(), "nothing is given up");
    // All deliveries arrived. Only the first batch and the probes called in vain.
    assert!(calls - failed >= deliveries && failed <= 40, "{failed} calls in vain");
    // With a wait of 60 s each time, every delivery would be received a hundred times.
    assert!(receives <= 40 * deliveries, "{receives} receives");
    assert!(peak <= deliveries / 20, "{peak} calls in one second overload a receiver that has just come back");
    // The longest time of the breaker, the longest park, and whole seconds of sends.
    assert!(last <= 900 + 300 + 60, "the last one came {last} s after recovery");
}

/// A shared host: a hundred deliveries to a path that always fails, and every ten minutes
/// one to a path that works.
#[tokio::test]
async fn deliveries_that_always_fail_do_not_starve_the_other_paths_of_their_host() {
    const FAILING: usize = 100;
    const HONEST: usize = 24;
    const EVERY: Duration = Duration::from_secs(600);
    fastrand::seed(2);
    let world = World::new().await;
    world.receiver.always_below("/bad", 500u16);
    let post = async |id: String, path: &str| {
        let body = json!({ "webhook_url": world.receiver.url(path), "payload": 1, "reference_id": id });
        assert_eq!(world.post("/webhooks", body.to_string()).await.0, 202);
    };
    for n in 0..FAILING {
        post(format!("bad-{n}"), "/bad").await;
    }
    let (mut posted, mut calls) = (0, 0);
    let mut waits = Vec::new();
    let mut archived_s = Vec::new();
    loop {
        let elapsed = BEGINNING.until(world.clock.now());
        while posted < HONEST && elapsed >= EVERY * u32::try_from(posted + 1).unwrap() {
            post(format!("good-{posted}"), "/good").await;
            posted += 1;
        }
        let mut worked = 0;
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            worked += world.step(queue_name).await.0;
        }
        let arrivals = world.receiver.arrivals();
        for arrival in &arrivals[calls..] {
            if let Some(n) = arrival.header("webhook-id").strip_prefix("good-") {
                let posted_at = EVERY * (n.parse::<u32>().unwrap() + 1);
                waits.push((elapsed.saturating_sub(posted_at)).as_secs() / 60);
            }
        }
        calls = arrivals.len();
        archived_s.resize(world.queues.all(QueueName::DeadLetter).len(), elapsed.as_secs());
        if worked > 0 {
            continue;
        }
        let next_post = BEGINNING.after(EVERY * u32::try_from(posted + 1).unwrap());
        let next = match world.queues.next_visible() {
            Some(at) if posted < HONEST => at.min(next_post),
            Some(at) => at,
            None if posted < HONEST => next_post,
            None => break,
        };
        world.clock.advance(world.clock.now().until(next).max(Duration::from_millis(1)));
    }
    waits.sort_unstable();
    let p90 = waits[waits.len() * 9 / 10];
    let last_s = archived_s.last().copied().unwrap_or_default();
    println!(
        "{FAILING} that always fail, {HONEST} honest: honest waits in minutes {waits:?}, p90 {p90}; {} archived, the \
         last after {} min; {calls} calls",
        archived_s.len(),
        last_s / 60
    );
    assert_eq!((waits.len(), archived_s.len()), (HONEST, FAILING));
    assert!(p90 <= 20, "an honest delivery waits {p90} minutes");
    // One probe at a time, and a quarter of an hour between two: most of the hundred wait
    // until their deadline, and spend next to nothing.
    assert!(last_s <= 86_400 + 60 && calls <= 4 * FAILING, "{last_s} s, {calls} calls");
    world.leaves([QueueName::DeadLetter]);
}
