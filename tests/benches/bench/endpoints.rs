//! What a delivery to an endpoint costs beside a direct one: reads of the registry, round
//! trips to Redis, instructions.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::endpoint::Card;
use domain::time::Millis;
use tests::binary::Function;
use tests::endpoints::{card, message};

use crate::callgrind::instructions;
use crate::figures::Figures;
use crate::figures::Goal::AtMost;
use crate::stage::{Stage, batches};

/// Batches that are counted.
const BATCHES: usize = 20;
/// Endpoints of one batch.
const ENDPOINTS: usize = 10;
/// Instructions that a card, its headers and its own signature may cost.
const MOST_MORE: f64 = 15_000.0;

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let now = adapters::clock::Clock::system().now();
    let cards: Vec<Card> = (0..ENDPOINTS).map(|n| card(n, &stage.sink.url(200), now)).collect();
    cards.iter().for_each(|card| stage.cloud.register(card));

    let (settings, proxy) = stage.counted(&[]).await;
    let function = Function::start("deliver", &settings).await;
    let mut figures_of = BTreeMap::new();
    let posts = stage.sink.posts();
    for (round, event) in batches(&messages(&cards, 0..BATCHES * ENDPOINTS, now), ENDPOINTS).into_iter().enumerate() {
        let (trips, reads) = (proxy.round_trips(), stage.cloud.calls("DynamoDB"));
        function.invoke_with(event).await;
        let cost = (proxy.round_trips() - trips, stage.cloud.calls("DynamoDB") - reads);
        let (most_trips, most_reads) = figures_of.entry(round == 0).or_insert((0, 0));
        (*most_trips, *most_reads) = (cost.0.max(*most_trips), cost.1.max(*most_reads));
    }
    assert_eq!(stage.sink.posts() - posts, BATCHES * ENDPOINTS, "every delivery is a call");
    for (is_first, what, reads) in [(true, "first batch", 1.0), (false, "later batches", 0.0)] {
        let (trips, found) = figures_of[&is_first];
        if !is_first {
            figures.judge(format!("deliver to endpoints, {what}: Redis round trips"), trips as f64, "", AtMost(2.0));
        }
        figures.judge(format!("deliver to endpoints, {what}: reads of the registry"), found as f64, "", AtMost(reads));
    }
    drop(function);
    stage.forget();

    let count = 400;
    let counted = async |case: &str, few: Vec<Bytes>, many: Vec<Bytes>| {
        let counted = instructions(("deliver", case), &stage.settings(&[]), (few, many), count).await;
        stage.forget();
        counted
    };
    let of = |range| batches(&messages(&cards, range, now), ENDPOINTS);
    let ours = counted("endpoints", of(1000..1200), of(1000..1600)).await;
    let (few, many) = (stage.accepted(200, 1024, 200).await, stage.accepted(200 + count, 1024, 200).await);
    let direct = counted("direct", batches(&few, ENDPOINTS), batches(&many, ENDPOINTS)).await;
    figures.note("deliver to endpoints, batch of 10, 1 KiB: instructions a delivery", ours, "");
    figures.compare("deliver-endpoints", ours);
    figures.judge("deliver to endpoints: instructions more than a direct one", ours - direct, "", AtMost(MOST_MORE));
}

/// Messages of 1 KiB to these endpoints in turn.
fn messages(cards: &[Card], range: std::ops::Range<usize>, now: Millis) -> Vec<String> {
    let payload = format!("{{\"type\":\"bench\",\"note\":\"{}\"}}", "x".repeat(1024 - 26));
    range.map(|n| message(&cards[n % cards.len()], &format!("e-{n}"), &payload, now).encode().unwrap()).collect()
}
