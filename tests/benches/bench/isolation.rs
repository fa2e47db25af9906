//! Whether anybody waits for somebody else's endpoint: the consumers of the template's default
//! concurrency, real binaries, and an endpoint whose neighbour fails, or is slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::endpoint::Card;
use tests::binary::{Function, sqs_event};
use tests::endpoints::{card, message};
use tests::receiver::{Receiver, Reply};

use crate::figures::Figures;
use crate::figures::Goal::AtMost;
use crate::figures::quantile;
use crate::stage::Stage;

/// The defaults of `DeliveryConcurrency` and `SlowConcurrency`.
const DELIVERY: usize = 4;
const SLOW: usize = 2;
/// Healthy deliveries a second.
const RATE: u64 = 50;
/// How long one measurement takes.
const DURATION: Duration = Duration::from_secs(20);
/// How long the slow endpoint takes to answer.
const ANSWERS_AFTER: Duration = Duration::from_secs(10);

/// Messages that wait for consumers.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<VecDeque<String>>>);

impl Waiting {
    fn put(&self, message: String) {
        self.0.lock().unwrap().push_back(message);
    }

    fn take(&self) -> Vec<String> {
        let mut waiting = self.0.lock().unwrap();
        let count = waiting.len().min(10);
        waiting.drain(..count).collect()
    }
}

/// An endpoint beside the healthy one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    None,
    /// As many deliveries, all of which fail.
    Failing,
    /// One delivery a second, answered after ten.
    Slow,
}

pub(crate) async fn measure(stage: &Stage, figures: &mut Figures) {
    let receiver = Receiver::start().await;
    receiver.always_below("/failing", 500u16);
    receiver.always_below("/slow", Reply { after: ANSWERS_AFTER, ..200.into() });
    let now = adapters::clock::Clock::system().now();
    let cards = ["/healthy", "/failing", "/slow"].map(|path| path.to_owned());
    let cards: Vec<Card> = (0..).zip(cards).map(|(n, path)| card(n, &receiver.url(&path), now)).collect();
    cards.iter().for_each(|card| stage.cloud.register(card));
    for (neighbour, what, goal) in
        [(Neighbour::Failing, "one that fails", 1.2), (Neighbour::Slow, "one that answers after 10 s", 1.5)]
    {
        let alone = p99_ms(stage, &receiver, &cards, Neighbour::None).await;
        let beside = p99_ms(stage, &receiver, &cards, neighbour).await;
        figures.note(format!("isolation, alone before {what}: p99"), alone, "ms");
        figures.note(format!("isolation, beside {what}: p99"), beside, "ms");
        figures.judge(format!("isolation, beside {what}: times alone"), beside / alone, "", AtMost(goal));
    }
}

/// From being queued to its receiver: the 99th percentile of the healthy endpoint's deliveries.
async fn p99_ms(stage: &Stage, receiver: &Receiver, cards: &[Card], neighbour: Neighbour) -> f64 {
    stage.forget();
    let (fresh, slow) = (Waiting::default(), Waiting::default());
    let seen = receiver.count();
    let until = Instant::now() + DURATION;
    let mut consumers = Vec::new();
    for n in 0..DELIVERY + SLOW {
        let function = Function::start("deliver", &stage.settings(&[])).await;
        let (waiting, source) = if n < DELIVERY { (fresh.clone(), "delivery") } else { (slow.clone(), "slow") };
        consumers.push(tokio::spawn(consume(function, waiting, source, until)));
    }
    let run = format!("{}", fastrand::u32(..));
    let begun = Instant::now();
    let mut queued = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or_default() * RATE / 1000;
        while queued < due {
            fresh.put(queue(&cards[0], &format!("h-{run}-{queued}"), begun));
            match neighbour {
                Neighbour::None => {}
                Neighbour::Failing => fresh.put(queue(&cards[1], &format!("f-{run}-{queued}"), begun)),
                Neighbour::Slow if queued % RATE == 0 => {
                    fresh.put(queue(&cards[2], &format!("s-{run}-{queued}"), begun));
                }
                Neighbour::Slow => {}
            }
            queued += 1;
        }
        // What moved to the queue of slow receivers. Others wait longer than this run.
        stage.cloud.take("slow").into_iter().for_each(|message| slow.put(message));
        stage.cloud.take("retry");
    }
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let arrivals = receiver.arrivals();
    let healthy = arrivals[seen..].iter().filter(|arrival| arrival.path == "/healthy");
    let waits: Vec<f64> = healthy
        .filter_map(|arrival| {
            let queued_us: u64 = std::str::from_utf8(&arrival.body).ok()?.parse().ok()?;
            Some((arrival.at.duration_since(begun).as_secs_f64() * 1e6 - queued_us as f64) / 1000.0)
        })
        .collect();
    assert!(waits.len() as u64 > queued * 9 / 10, "{} of {queued} arrived", waits.len());
    quantile(waits, 0.99)
}

/// A delivery whose payload says when it was queued.
fn queue(card: &Card, event: &str, begun: Instant) -> String {
    let now = adapters::clock::Clock::system().now();
    message(card, event, &begun.elapsed().as_micros().to_string(), now).encode().unwrap()
}

/// One consumer, as Lambda runs it: one batch after the other.
async fn consume(function: Function, waiting: Waiting, source: &'static str, until: Instant) {
    while Instant::now() < until {
        let messages = waiting.take();
        if messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let mut event = sqs_event(&messages);
        for record in event["Records"].as_array_mut().unwrap() {
            record["eventSourceARN"] = format!("arn:aws:sqs:eu-central-1:000000000000:{source}").into();
        }
        function.invoke_with(Bytes::from(event.to_string())).await;
    }
}
