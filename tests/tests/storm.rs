//! Two thousand deliveries wait for a receiver that is away for an hour: what that
//! costs, and how it is when the receiver comes back.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "in tests a surprise ends the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::sqs::Lane;
use serde_json::{Value, json};
use tests::world::{BEGINNING, World};

const AWAY: Duration = Duration::from_secs(3600);

/// Two thousand, or as many as `STORM` says, in hundreds.
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
        for lane in [Lane::Delivery, Lane::Retry] {
            worked += world.step(lane).await.0;
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
    assert!(world.queues.all(Lane::DeadLetter).is_empty(), "nothing is given up");
    // Everybody arrived; the first batch and the probes called in vain.
    assert!(calls - failed >= deliveries && failed <= 40, "{failed} calls in vain");
    // Polling at the breaker's own pace of 60 s would take a hundred receives each.
    assert!(receives <= 40 * deliveries, "{receives} receives");
    assert!(peak <= deliveries / 20, "{peak} calls in one second trample a receiver that has just come back");
    // The breaker's longest time, the longest park, and a send's whole seconds.
    assert!(last <= 900 + 300 + 60, "the last one came {last} s after recovery");
}
