//! What history costs: deliveries with it and without it, in turns.

use bytes::Bytes;
use domain::endpoint::Card;
use tests::binary::Function;
use tests::endpoints::{card, message};

use crate::figures::Goal::AtMost;
use crate::figures::{Figures, median};
use crate::stage::{Stage, batches, spend, us_each};

const KIB: usize = 1024;
const ROUNDS: usize = 5;
/// Deliveries in one round.
const DELIVERIES: usize = 2000;
/// Endpoints of one batch.
const ENDPOINTS: usize = 10;

const CASES: [(&str, &str); 2] = [("without history", "0"), ("with history", "7")];

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let now = adapters::clock::Clock::system().now();
    let cards: Vec<Card> = (0..ENDPOINTS).map(|n| card(n, &stage.sink.url(200), now)).collect();
    cards.iter().for_each(|card| stage.cloud.register(card));
    side_by_side(stage, figures).await;
    calls(stage, &cards, figures).await;
}

/// Direct deliveries in batches of ten. The machine is not equally fast all the time.
async fn side_by_side(stage: &Stage, figures: &mut Figures) {
    let mut functions = Vec::new();
    for (_, days) in CASES {
        functions.push(Function::start("deliver", &stage.settings(&[("HISTORY_DAYS", days)])).await);
    }
    let mut costs = [(); 2].map(|()| (Vec::new(), Vec::new()));
    for round in 0..=ROUNDS {
        for (function, (cpu, redis)) in functions.iter().zip(&mut costs) {
            let messages = stage.accepted(DELIVERIES, KIB, 200).await;
            let cost = spend(stage, function, batches(&messages, 10)).await;
            stage.forget();
            // The first round warms up.
            if round > 0 {
                cpu.push(us_each(cost.cpu, DELIVERIES));
                redis.push(us_each(cost.redis, DELIVERIES));
            }
        }
    }
    for ((what, _), (cpu, redis)) in CASES.iter().zip(costs) {
        figures.note(format!("deliver {what}, batch of 10, 1 KiB: CPU a delivery"), median(cpu), "µs");
        figures.note(format!("deliver {what}, batch of 10, 1 KiB: CPU of Redis a delivery"), median(redis), "µs");
    }
}

/// What a batch of ten asks of others.
async fn calls(stage: &Stage, cards: &[Card], figures: &mut Figures) {
    let (settings, proxy) = stage.counted(&[("HISTORY_DAYS", "7")]).await;
    let function = Function::start("deliver", &settings).await;
    let (mut writes, mut trips) = (0, 0);
    for (round, event) in to_endpoints(cards, 0..200).into_iter().enumerate() {
        let before = (stage.cloud.calls("DynamoDB_20120810.BatchWriteItem"), proxy.round_trips());
        function.invoke_with(event).await;
        let after = (stage.cloud.calls("DynamoDB_20120810.BatchWriteItem"), proxy.round_trips());
        writes = writes.max(after.0 - before.0);
        if round > 0 {
            trips = trips.max(after.1 - before.1);
        }
    }
    stage.forget();
    figures.judge("deliver with history: writes of a batch of 10", writes as f64, "", AtMost(1.0));
    figures.judge("deliver with history: Redis round trips of a batch of 10", trips as f64, "", AtMost(2.0));
}

fn to_endpoints(cards: &[Card], range: std::ops::Range<usize>) -> Vec<Bytes> {
    let now = adapters::clock::Clock::system().now();
    let payload = format!("{{\"type\":\"bench\",\"note\":\"{}\"}}", "x".repeat(KIB - 26));
    let messages: Vec<String> =
        range.map(|n| message(&cards[n % cards.len()], &format!("e-{n}"), &payload, now).encode().unwrap()).collect();
    batches(&messages, ENDPOINTS)
}
