//! A fan-out whose process ends again and again: how often each page is sent then. The event is
//! not given up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError};
use adapters::registry::{Registry as _, Written};
use async_trait::async_trait;
use serde_json::json;
use tests::endpoints::{card, endpoint_id};
use tests::sqs_model::SqsModel;
use tests::world::World;
use tokio::sync::Notify;

use self::Moment::{BeforeContinuation, BeforeSettlement};

/// How many pages the event has.
const PAGES: usize = 10;
/// How many cards a page has.
const CARDS: usize = 3;
/// The queues' visibility timeout: then the message of a process that ended comes back.
const VISIBILITY: Duration = Duration::from_secs(360);
/// No lease lasts longer.
const LEASE: Duration = Duration::from_secs(62);

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
    moment: Mutex<Option<Moment>>,
    reached: Notify,
}

#[async_trait]
impl Queue for Ending {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let moment = if queue_name == QueueName::Event { self.moment.lock().unwrap().take() } else { None };
        if moment == Some(BeforeContinuation) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        let sent = self.queues.send(queue_name, messages).await;
        if moment == Some(BeforeSettlement) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        sent
    }
}

/// Fans out an event. The process of each page but the last ends at each of these moments in
/// turn, and its message comes back when its visibility timeout ends. `goes_on` follows.
async fn fan_out(moments: &[Moment], goes_on: impl AsyncFn(&World)) -> World {
    let mut world = World::new().await;
    for n in 0..PAGES * CARDS {
        let card = card(n, &world.receiver.url(&format!("/{n}")), world.clock.now());
        assert_eq!(world.registry.create(&card, 100).await.unwrap(), Written::Done);
    }
    let (moment, reached) = (Mutex::new(None), Notify::new());
    let queue = Arc::new(Ending { queues: world.queues.clone(), moment, reached });
    world.fan_out_through(Arc::clone(&queue) as _, CARDS);
    world.event("e", "a", "1").await;
    for page in 1..PAGES {
        for (n, moment) in moments.iter().enumerate() {
            world.clock.advance(if n > 0 { VISIBILITY } else { Duration::ZERO });
            *queue.moment.lock().unwrap() = Some(*moment);
            tokio::select! {
                () = queue.reached.notified() => {}
                done = world.fan_out() => panic!("page {page} does not come to {moment:?}: {done:?}"),
            }
        }
        goes_on(&world).await;
    }
    while !world.queues.all(QueueName::Event).is_empty() {
        world.fan_out().await;
        world.clock.advance(VISIBILITY);
    }
    world
}

/// How often each page was sent: the copies of its deliveries.
fn copies(world: &World) -> [usize; PAGES] {
    let queued = world.queues.all(QueueName::Delivery);
    let copies = |n: usize| queued.iter().filter(|message| message.body.contains(&endpoint_id(n))).count();
    std::array::from_fn(|page| {
        let of_page: [usize; CARDS] = std::array::from_fn(|n| copies(page * CARDS + n));
        assert_eq!(of_page, [of_page[0]; CARDS], "page {page}");
        of_page[0]
    })
}

/// The event is fanned out and not given up, and each endpoint is called once.
async fn is_fanned_out_once(world: &World) {
    world.settle().await;
    let mut paths: Vec<String> = world.receiver.arrivals().into_iter().map(|arrival| arrival.path).collect();
    let mut expected: Vec<String> = (0..PAGES * CARDS).map(|n| format!("/{n}")).collect();
    paths.sort_unstable();
    expected.sort_unstable();
    assert_eq!(paths, expected);
    let status = world.event_status("e").await;
    assert_eq!((&status["status"], &status["matched"]), (&json!("fanned_out"), &json!(PAGES * CARDS)));
}

#[tokio::test]
async fn a_crash_before_each_continuation_repeats_a_page_once() {
    let world = fan_out(&[BeforeContinuation], async |world| {
        world.clock.advance(VISIBILITY);
        assert_eq!(world.fan_out().await, (1, 0));
    })
    .await;
    assert_eq!(copies(&world), [2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
    is_fanned_out_once(&world).await;
}

#[tokio::test]
async fn a_crash_before_each_settlement_repeats_no_page() {
    // The continuation carries the event on, and what comes back is stale.
    let world = fan_out(&[BeforeSettlement], async |_| {}).await;
    assert_eq!(copies(&world), [1; PAGES]);
    is_fanned_out_once(&world).await;
}

#[tokio::test]
async fn crashes_of_one_page_do_not_count_on_the_next() {
    // The continuation comes when nobody can work on its page any more.
    let world = fan_out(&[BeforeContinuation, BeforeSettlement], async |world| world.clock.advance(LEASE)).await;
    assert_eq!(copies(&world), [2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
    is_fanned_out_once(&world).await;
}

#[tokio::test]
async fn a_page_is_sent_once_more_than_its_processes_end_at_most() {
    let world = fan_out(&[BeforeContinuation, BeforeSettlement], async |world| {
        // A page that was claimed twice may still be worked on, so its continuation waits, and
        // comes back with it.
        assert_eq!(world.fan_out().await, (1, 1), "busy");
        world.clock.advance(VISIBILITY);
        world.fan_out().await;
    })
    .await;
    assert_eq!(copies(&world), [3, 3, 3, 3, 3, 3, 3, 3, 3, 1]);
    is_fanned_out_once(&world).await;
}
