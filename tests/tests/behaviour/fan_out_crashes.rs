//! A fan-out whose process ends again and again: no page is worked on more than twice, and the
//! event is not given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError};
use adapters::registry::{Registry as _, Written};
use async_trait::async_trait;
use serde_json::json;
use tests::endpoints::card;
use tests::sqs_model::SqsModel;
use tests::world::World;
use tokio::sync::Notify;

/// How many pages the event has.
const PAGES: usize = 10;
/// Longer than the visibility timeout.
const AWAY: Duration = Duration::from_secs(400);

/// When a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Its deliveries are queued, and its continuation is not.
    BeforeContinuation,
    /// Its continuation is queued, and its record does not say so.
    BeforeSettlement,
}

/// The queues, in which a process that sends a continuation stands still if it is to end.
struct Ending {
    queues: SqsModel,
    moment: Moment,
    armed: AtomicBool,
    reached: Notify,
}

#[async_trait]
impl Queue for Ending {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let ends = queue_name == QueueName::Event && self.armed.swap(false, Ordering::SeqCst);
        if ends && self.moment == Moment::BeforeContinuation {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        let sent = self.queues.send(queue_name, messages).await;
        if ends {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        sent
    }
}

async fn fan_out_with_a_crash_at_each_page(moment: Moment) {
    let mut world = World::new().await;
    for n in 0..PAGES {
        let card = card(n, &world.receiver.url(&format!("/{n}")), world.clock.now());
        assert_eq!(world.registry.create(&card, 100).await.unwrap(), Written::Done);
    }
    let queue = Arc::new(Ending {
        queues: world.queues.clone(),
        moment,
        armed: AtomicBool::new(false),
        reached: Notify::new(),
    });
    world.fan_out_through(Arc::clone(&queue) as _, 1);
    world.event("e", "a", "1").await;
    let mut crashes = 0;
    while !world.queues.all(QueueName::Event).is_empty() {
        // The last page has no continuation.
        queue.armed.store(true, Ordering::SeqCst);
        tokio::select! {
            () = queue.reached.notified() => crashes += 1,
            _ = world.fan_out() => queue.armed.store(false, Ordering::SeqCst),
        }
        // Whoever comes next is not disturbed.
        world.clock.advance(AWAY);
        world.fan_out().await;
    }
    let queued = world.queues.all(QueueName::Delivery).len();
    assert!((PAGES..=2 * PAGES).contains(&queued), "{queued} deliveries of {PAGES} pages");
    assert!(crashes >= PAGES / 2, "{crashes}");
    world.settle().await;
    let mut paths: Vec<String> = world.receiver.arrivals().into_iter().map(|arrival| arrival.path).collect();
    paths.sort();
    assert_eq!(paths, (0..PAGES).map(|n| format!("/{n}")).collect::<Vec<_>>(), "each endpoint is called once");
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(PAGES)));
}

#[tokio::test]
async fn a_crash_before_each_continuation_repeats_a_page_once() {
    fan_out_with_a_crash_at_each_page(Moment::BeforeContinuation).await;
}

#[tokio::test]
async fn a_crash_before_each_settlement_repeats_no_page_and_does_not_end_the_event() {
    fan_out_with_a_crash_at_each_page(Moment::BeforeSettlement).await;
}
