//! What endpoints are owed: while one is paused or disabled its deliveries are rows, and once it is
//! enabled they are sent, each once. Nothing of it is lost, and nothing ends in silence.

use std::sync::Arc;
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, Queue, QueueName, SendError};
use adapters::history::HistoryWriter as _;
use adapters::owed::{OweError, Owing};
use adapters::registry::Registry as _;
use async_trait::async_trait;
use bytes::Bytes;
use domain::endpoint::{Card, EndpointState};
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::history::{Row, names, owed};
use domain::job::JobPage;
use domain::message::{Envelope, Message};
use domain::reason::Reason;
use domain::time::Millis;
use http::Method;
use lambda_http::Body;
use tests::endpoints::{TENANT, card, endpoint_id, message};
use tests::history_model::HistoryModel;
use tests::sqs_model::SqsModel;
use tests::world::World;

use crate::deliveries_to_endpoints::{change, delivery, redis_text, register};

/// Longer than the visibility timeout, and than any wait of a job.
const AWAY: Duration = Duration::from_secs(400);
const DAY: Duration = Duration::from_secs(86_400);
/// How long deliveries are owed: the template's `OwedDays`.
const OWED: Duration = Duration::from_secs(14 * 86_400);

async fn made(world: &World, n: usize, state: EndpointState) -> Card {
    let card = card(n, &world.receiver.url(&format!("/{n}")), world.clock.now());
    register(world, Card { state, ..card }).await
}

async fn becomes(world: &World, card: &Card, state: EndpointState) -> Card {
    change(world, card, |card| card.state = state).await
}

/// Enables an endpoint as `endpoints` does: the wake-up comes first.
async fn enable(world: &World, card: &Card) -> Card {
    wake_up(world, card);
    becomes(world, card, EndpointState::Enabled).await
}

fn wake_up(world: &World, card: &Card) {
    let due = world.clock.now().after(Duration::from_secs(60));
    world.queues.put(QueueName::Event, &JobPage::wake_up(TENANT, &card.id, due).encode().unwrap());
    world.clock.advance(Duration::from_secs(60));
}

/// The rows of what an endpoint is owed.
fn rows(world: &World, n: usize) -> Vec<Row> {
    let partition = names::owed(TENANT, &endpoint_id(n));
    world.history.all().into_iter().filter(|row| row.partition == partition).collect()
}

/// How deliveries to an endpoint ended, in the order of their events.
fn ends(world: &World, n: usize) -> Vec<DeliveryEnd> {
    let prefix = format!("L#{TENANT}#{}#", endpoint_id(n));
    let mut ends: Vec<EndedDelivery> = world
        .history
        .all()
        .iter()
        .filter(|row| row.partition.starts_with(&prefix))
        .map(|row| serde_json::from_str(&row.body).unwrap())
        .collect();
    ends.sort_by_key(|ended| (ended.accepted_at, ended.hop));
    ends.into_iter().map(|ended| ended.result).collect()
}

fn queued(world: &World, queue_name: QueueName) -> Vec<Message> {
    let read = |body: String| match Envelope::decode(&Bytes::from(body)) {
        Ok(Envelope::Deliver(message)) => *message,
        other => panic!("not a delivery: {other:?}"),
    };
    world.queues.all(queue_name).into_iter().map(|stored| read(stored.body)).collect()
}

/// The bodies that arrived at a path, in order.
fn arrived(world: &World, path: &str) -> Vec<String> {
    let arrivals = world.receiver.arrivals().into_iter().filter(|arrival| arrival.path == path);
    arrivals.map(|arrival| String::from_utf8(arrival.body.to_vec()).unwrap()).collect()
}

/// So many events, a second apart, each fanned out.
async fn events(world: &World, count: usize) {
    for n in 0..count {
        world.event(&format!("e-{n}"), "order.paid", &n.to_string()).await;
        world.fan_out().await;
        world.clock.advance(Duration::from_secs(1));
    }
}

fn wake_ups(world: &World) -> usize {
    world.queues.all(QueueName::Event).iter().filter(|stored| stored.body.contains("catch_up")).count()
}

#[tokio::test]
async fn what_a_paused_endpoint_would_get_is_owed_and_not_queued() {
    let world = World::new().await;
    made(&world, 1, EndpointState::Enabled).await;
    for (n, state) in [(2, EndpointState::Paused), (3, EndpointState::Disabled)] {
        made(&world, n, state).await;
    }
    world.event("e", "order.paid", r#"{ "a": 1.0 }"#).await;
    world.fan_out().await;
    assert_eq!(queued(&world, QueueName::Delivery).len(), 1);
    for n in [2, 3] {
        let rows = rows(&world, n);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let owed = owed::read(row).unwrap();
        assert_eq!((&owed.message.delivery.payload[..], owed.since), (&br#"{ "a": 1.0 }"#[..], world.clock.now()));
        assert_eq!(row.kept_until, world.clock.now().after(OWED).after(owed::GRACE));
    }
    world.settle().await;
    let event = world.event_status("e").await;
    assert_eq!(["matched", "queued", "owed"].map(|name| event[name].as_u64()), [3, 1, 2].map(Some));
    assert_eq!(world.receiver.count(), 1);
    assert_eq!((rows(&world, 2).len(), rows(&world, 3).len()), (1, 1), "what is woken up in vain changes nothing");
    assert!(!redis_text(&world).contains("catch_up"), "and leaves no record");
}

#[tokio::test]
async fn a_catch_up_is_woken_up_once_a_minute_after_the_row_is_written() {
    let world = World::new().await;
    made(&world, 1, EndpointState::Paused).await;
    events(&world, 60).await;
    assert_eq!(wake_ups(&world), 1);
    world.event("a-minute-later", "order.paid", "1").await;
    world.fan_out().await;
    assert_eq!(wake_ups(&world), 2);
    let due = world.queues.next_visible().unwrap();
    assert!(world.clock.now().until(due) > Duration::from_secs(50), "two minutes after the first row");
    world.settle().await;
}

#[tokio::test]
async fn each_delivery_is_told_whether_it_is_owed() {
    let world = World::new().await;
    let now = world.clock.now();
    let of = |n: usize, event: &str| message(&card(n, "https://a.example/", now), event, "1", now);
    let mut direct = of(1, "direct");
    direct.delivery.endpoint = None;
    let messages = [of(1, "a"), direct, of(2, "b"), of(1, "c")];
    let owing = Owing::new(OWED);
    let owe = async || -> Vec<&'static str> {
        let results = owing.owe(&world.history, &world.queues, &messages, now).await;
        results.iter().map(|result| result.as_ref().map_or_else(OweError::code, |()| "owed")).collect()
    };
    world.history.refuse(Some(&names::owed(TENANT, &endpoint_id(2))));
    world.queues.breaks(Some(QueueName::Event));
    assert_eq!(owe().await, ["owed_not_woken", "owed_no_row", "owed_not_woken", "owed_not_woken"]);
    world.queues.breaks(None);
    assert_eq!(owe().await, ["owed", "owed_no_row", "owed_not_written", "owed"]);
    assert_eq!(wake_ups(&world), 2, "also of the endpoint whose row the table may have taken");
    world.history.refuse(None);
    assert_eq!(owe().await, ["owed", "owed_no_row", "owed", "owed"]);
    assert_eq!((wake_ups(&world), rows(&world, 1).len(), rows(&world, 2).len()), (2, 2, 1));
    world.leaves([QueueName::Event]);
}

/// The endpoints that these deliveries go to.
fn targets(world: &World, queue_name: QueueName) -> Vec<String> {
    queued(world, queue_name).into_iter().map(|message| message.delivery.endpoint.unwrap().endpoint).collect()
}

#[tokio::test]
async fn a_table_that_takes_no_rows_of_one_endpoint_holds_up_nobody_else() {
    let mut world = World::new().await;
    for (n, state) in [(1, EndpointState::Enabled), (2, EndpointState::Paused), (3, EndpointState::Enabled)] {
        made(&world, n, state).await;
    }
    world.pages_of(1);
    world.event("e", "order.paid", "1").await;
    world.history.refuse(Some("K#"));
    for _ in 0..3 {
        world.fan_out().await;
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(targets(&world, QueueName::Delivery), [1, 3].map(endpoint_id));
    assert_eq!(targets(&world, QueueName::Retry), [endpoint_id(2)], "deliver keeps it as owed, or lets it wait");
    world.clock.advance(Duration::from_secs(30));
    world.step(QueueName::Retry).await;
    assert_eq!((rows(&world, 2).len(), targets(&world, QueueName::Retry).len()), (0, 1));
    world.history.refuse(None);
    world.settle().await;
    assert_eq!((rows(&world, 2).len(), arrived(&world, "/1").len(), arrived(&world, "/3").len()), (1, 1, 1));
    assert_eq!(arrived(&world, "/2").len(), 0);
}

#[tokio::test]
async fn a_page_ends_before_what_is_owed_and_would_not_be_looked_at() {
    let mut world = World::new().await;
    for (n, state) in [(1, EndpointState::Enabled), (2, EndpointState::Paused), (3, EndpointState::Enabled)] {
        made(&world, n, state).await;
    }
    world.pages_of(1);
    world.event("e", "order.paid", "1").await;
    world.fan_out().await;
    // The row is there, and no catch-up is woken up.
    world.queues.breaks(Some(QueueName::Event));
    world.fan_out().await;
    assert_eq!((rows(&world, 2).len(), targets(&world, QueueName::Delivery).len()), (1, 1));
    world.queues.breaks(None);
    world.clock.advance(AWAY);
    world.settle().await;
    assert_eq!((rows(&world, 2).len(), arrived(&world, "/1").len(), arrived(&world, "/3").len()), (1, 1, 1));
    assert_eq!(world.event_status("e").await["status"], "fanned_out");
}

#[tokio::test]
async fn what_was_owed_is_sent_one_hop_on_from_the_oldest_with_a_fresh_deadline() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 5).await;
    // One that was on its way.
    let tried = Message { hop: 3, attempts: 2, ..message(&card, "tried", "9", Millis(1)) };
    assert!(world.history.write(vec![owed::row(&tried, world.clock.now(), OWED).unwrap().unwrap()]).await.is_empty());
    world.clock.advance(5 * DAY);
    enable(&world, &card).await;
    let now = world.clock.now();
    world.fan_out().await;
    let again = queued(&world, QueueName::Retry);
    let ids: Vec<&str> = again.iter().map(|message| message.delivery.id.split('.').next().unwrap()).collect();
    assert_eq!(ids, ["tried", "e-0", "e-1", "e-2", "e-3", "e-4"]);
    assert_eq!(again.iter().map(|message| message.hop).collect::<Vec<_>>(), [4, 1, 1, 1, 1, 1]);
    for message in &again {
        assert_eq!((message.attempts, message.not_before), (0, now.after(Duration::from_secs(1))));
        assert_eq!(message.delivery.deadline, card.retry_schedule.deadline(now));
    }
    assert!(rows(&world, 1).is_empty());
    // Two wake-ups are due, and one of them works.
    let groups = world.queues.all(QueueName::Retry).into_iter().map(|stored| stored.group);
    assert!(groups.into_iter().all(|group| group == card.id));
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 6);
    assert_eq!(delivery(&world, &card, "e-3").await["status"], "delivered");
}

#[tokio::test]
async fn what_failed_before_it_was_owed_shows_those_calls_when_it_ends() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Enabled).await;
    world.receiver.answer([503]);
    events(&world, 1).await;
    world.step(QueueName::Delivery).await;
    assert_eq!(queued(&world, QueueName::Retry).len(), 1, "it has failed");
    let paused = becomes(&world, &card, EndpointState::Paused).await;
    // Consumers know the card from before for half a minute.
    world.clock.advance(Duration::from_secs(60));
    world.step(QueueName::Retry).await;
    assert_eq!(rows(&world, 1).len(), 1, "it is owed");
    enable(&world, &paused).await;
    world.settle().await;
    let ended = delivery(&world, &card, "e-0").await;
    let attempts = ended["attempts"].as_array().unwrap();
    let codes: Vec<Option<u64>> = attempts.iter().map(|attempt| attempt["status_code"].as_u64()).collect();
    assert_eq!(ended["status"], "delivered");
    assert_eq!(codes, [Some(503), Some(200)], "{ended}");
}

/// The queues, and a table that fails as soon as retries are queued.
struct ThenAway(SqsModel, HistoryModel);

#[async_trait]
impl Queue for ThenAway {
    async fn send(&self, queue_name: QueueName, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        self.1.be_away(queue_name == QueueName::Retry);
        self.0.send(queue_name, messages).await
    }
}

#[tokio::test]
async fn what_is_queued_twice_because_its_row_was_not_deleted_is_sent_once() {
    let mut world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 12).await;
    enable(&world, &card).await;
    world.fan_out_through(Arc::new(ThenAway(world.queues.clone(), world.history.clone())), 1000);
    world.fan_out().await;
    world.history.be_away(false);
    assert_eq!(
        (rows(&world, 1).len(), queued(&world, QueueName::Retry).len()),
        (12, 12),
        "one of two that are woken up"
    );
    world.pages_of(1000);
    world.clock.advance(AWAY);
    world.fan_out().await;
    assert_eq!((rows(&world, 1).len(), queued(&world, QueueName::Retry).len()), (0, 24));
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 12);
}

#[tokio::test]
async fn what_the_queue_does_not_take_stays_owed() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 3).await;
    enable(&world, &card).await;
    for away in ["queue", "registry", "history"] {
        world.queues.breaks((away == "queue").then_some(QueueName::Retry));
        world.registry.be_away(away == "registry");
        world.history.be_away(away == "history");
        world.fan_out().await;
        world.clock.advance(AWAY);
        assert_eq!(rows(&world, 1).len(), 3, "{away}");
    }
    world.history.be_away(false);
    world.settle().await;
    assert_eq!((rows(&world, 1).len(), arrived(&world, "/1").len()), (0, 3));
}

#[tokio::test]
async fn a_second_pause_strands_nothing() {
    let mut world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 4).await;
    world.pages_of(1);
    let enabled = enable(&world, &card).await;
    // The first page queues one delivery, and the second finds the endpoint paused.
    world.fan_out().await;
    let paused = becomes(&world, &enabled, EndpointState::Paused).await;
    world.fan_out().await;
    assert_eq!(rows(&world, 1).len(), 3);
    world.settle().await;
    assert_eq!(rows(&world, 1).len(), 4, "the one that was on its way is owed again");
    enable(&world, &paused).await;
    world.settle().await;
    assert_eq!((rows(&world, 1).len(), arrived(&world, "/1").len()), (0, 4));
}

#[tokio::test]
async fn a_wake_up_in_vain_does_not_hide_the_next_one_of_its_minute() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 1).await;
    wake_up(&world, &card);
    world.fan_out().await;
    assert_eq!(rows(&world, 1).len(), 1);
    // The same name as the one before.
    let page = JobPage::wake_up(TENANT, &card.id, world.clock.now());
    world.queues.put(QueueName::Event, &page.encode().unwrap());
    becomes(&world, &card, EndpointState::Enabled).await;
    world.fan_out().await;
    assert!(rows(&world, 1).is_empty());
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 1);
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_told_and_not_sent() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 3).await;
    world.clock.advance(Duration::from_secs(60));
    let before = world.clock.now();
    world.clock.advance(Duration::from_secs(1));
    world.event("later", "order.paid", "7").await;
    world.fan_out().await;
    let card = change(&world, &card, |card| card.owed_dropped_before = Some(before)).await;
    enable(&world, &card).await;
    world.settle().await;
    assert_eq!(arrived(&world, "/1"), ["7"]);
    let refused = DeliveryEnd::GivenUp(Reason::CatchUpRefused);
    assert_eq!(ends(&world, 1), [refused, refused, refused, DeliveryEnd::Delivered]);
    let shown = delivery(&world, &card, "e-1").await;
    assert_eq!(shown["status"], "failed", "{shown}");
    assert!(rows(&world, 1).is_empty());
    let (code, listed) =
        world.get(&format!("/tenants/{TENANT}/endpoints/{}/deliveries?result=catch_up_refused", card.id)).await;
    assert_eq!((code, listed["deliveries"].as_array().map(Vec::len)), (200, Some(3)), "{listed}");
}

#[tokio::test]
async fn what_a_deleted_endpoint_was_owed_is_given_up() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 2).await;
    assert!(matches!(world.registry.delete(&card, world.clock.now()).await, Ok(adapters::registry::Written::Done)));
    world.settle().await;
    assert_eq!(ends(&world, 1), [DeliveryEnd::GivenUp(Reason::EndpointGone); 2]);
    assert!(rows(&world, 1).is_empty() && world.receiver.count() == 0);
}

#[tokio::test]
async fn a_catch_up_waits_for_a_card_that_is_missing() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 1).await;
    world.registry.lose(TENANT, &card.id);
    for _ in 0..5 {
        world.clock.advance(AWAY);
        world.fan_out().await;
    }
    assert_eq!((rows(&world, 1).len(), wake_ups(&world)), (1, 1));
    world.registry.overwrite(&Card { state: EndpointState::Enabled, ..card });
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 1);
}

#[tokio::test]
async fn what_is_owed_for_too_long_is_given_up_once_a_day() {
    let world = World::new().await;
    let old = made(&world, 1, EndpointState::Paused).await;
    made(&world, 2, EndpointState::Disabled).await;
    made(&world, 3, EndpointState::Enabled).await;
    events(&world, 2).await;
    world.settle().await;
    world.clock.advance(10 * DAY);
    world.event("young", "order.paid", "1").await;
    world.settle().await;
    // Nobody can read the card of one of them.
    world.registry.misplace(&old, TENANT, &endpoint_id(2));
    let began = world.clock.now();
    while began.until(world.clock.now()) < 3 * DAY {
        world.daily_cleanup().await;
        world.settle().await;
        assert_eq!((rows(&world, 1).len(), rows(&world, 2).len()), (3, 3));
        world.clock.advance(DAY);
    }
    world.clock.advance(DAY);
    for _ in 0..2 {
        assert_eq!(world.daily_cleanup().await["complete"], true);
    }
    world.settle().await;
    for n in [1, 2] {
        assert_eq!(ends(&world, n), [DeliveryEnd::GivenUp(Reason::Expired); 2]);
        let left = rows(&world, n);
        assert!(left.len() == 1 && left[0].place.contains("#young#"), "{left:?}");
    }
    assert_eq!(delivery(&world, &old, "e-0").await["status"], "failed");
}

#[tokio::test]
async fn a_walk_that_ends_in_the_middle_goes_on_there() {
    let mut world = World::new().await;
    for n in 1..=40 {
        made(&world, n, EndpointState::Paused).await;
    }
    events(&world, 5).await;
    world.settle().await;
    world.clock.advance(15 * DAY);
    world.daily_cleanup().await;
    world.registry.be_away(true);
    world.fan_out().await;
    world.registry.be_away(false);
    world.history.refuse(Some("L#"));
    world.clock.advance(AWAY);
    world.fan_out().await;
    assert_eq!(rows(&world, 1).len(), 5, "no row is deleted before history has its end");
    world.history.refuse(None);
    world.pages_of(1);
    world.settle().await;
    assert!((1..=40).all(|n| rows(&world, n).is_empty() && ends(&world, n).len() == 5));
}

#[tokio::test]
async fn a_catch_up_that_comes_too_late_sends_nothing() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 1).await;
    world.settle().await;
    world.clock.advance(OWED);
    enable(&world, &card).await;
    world.settle().await;
    assert_eq!(ends(&world, 1), [DeliveryEnd::GivenUp(Reason::Expired)]);
    assert_eq!(world.receiver.count(), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stays_and_stops_nobody() {
    let mut world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 3).await;
    let kept = rows(&world, 1);
    for row in &kept[..2] {
        let place = format!("0{}", &row.place[1..]);
        let broken = Row { place: place.replace("#e-", "#a-"), body: "{}".into(), ..row.clone() };
        assert!(world.history.write(vec![broken]).await.is_empty());
    }
    world.pages_of(1);
    enable(&world, &card).await;
    world.settle().await;
    assert_eq!((rows(&world, 1).len(), arrived(&world, "/1").len()), (2, 3));
}

#[tokio::test]
async fn of_two_hops_of_one_delivery_the_later_one_is_sent() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    let first = message(&card, "e", "1", world.clock.now());
    let later = Message { hop: 5, ..first.clone() };
    let row = |message| owed::row(message, world.clock.now(), OWED).unwrap().unwrap();
    assert!(world.history.write(vec![row(&first), row(&later)]).await.is_empty());
    enable(&world, &card).await;
    world.fan_out().await;
    let hops: Vec<u32> = queued(&world, QueueName::Retry).iter().map(|message| message.hop).collect();
    assert_eq!((hops, rows(&world, 1).len()), (vec![6], 0));
    world.settle().await;
}

#[tokio::test]
async fn what_is_owed_of_an_erased_event_is_erased() {
    let world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    for n in 2..=40 {
        made(&world, n, EndpointState::Paused).await;
    }
    events(&world, 3).await;
    let erased = rows(&world, 1).into_iter().find(|row| row.place.contains("#e-1#")).unwrap();
    let (code, _) = world.ask(Method::DELETE, "/tenants/acme/events/e-1/payload", Body::Empty).await;
    assert_eq!(code, 202);
    world.fan_out().await;
    let left = |n: usize| rows(&world, n).into_iter().filter(|row| row.place.contains("#e-1#")).count();
    assert_eq!((1..=40).map(left).sum::<usize>(), 0);
    // One that was being written meanwhile: a catch-up does not send it.
    assert!(world.history.write(vec![erased.clone()]).await.is_empty());
    enable(&world, &card).await;
    world.fan_out().await;
    assert!(rows(&world, 1).is_empty());
    assert!(queued(&world, QueueName::Retry).iter().all(|message| !message.delivery.id.starts_with("e-1.")));
    // And the second time everything is gone through finds another one.
    assert!(
        world.history.write(vec![Row { partition: rows(&world, 2)[0].partition.clone(), ..erased }]).await.is_empty()
    );
    world.settle().await;
    assert_eq!((1..=40).map(left).sum::<usize>(), 0);
    assert_eq!(rows(&world, 2).len(), 2, "other events are owed on");
    assert_eq!(arrived(&world, "/1").len(), 2);
}

#[tokio::test]
async fn an_erased_event_is_not_owed_again_while_redis_is_away() {
    let mut world = World::new().await;
    made(&world, 1, EndpointState::Paused).await;
    world.event("e", "order.paid", "1").await;
    world.history.refuse(Some("K#"));
    world.fan_out().await;
    world.history.refuse(None);
    let page = world.queues.all(QueueName::Event)[0].body.clone();
    let (code, _) = world.ask(Method::DELETE, "/tenants/acme/events/e/payload", Body::Empty).await;
    assert_eq!(code, 202);
    world.settle().await;
    world.redis.stop();
    world.queues.put(QueueName::Event, &page);
    world.clock.advance(AWAY);
    world.fan_out().await;
    assert!(rows(&world, 1).is_empty());
}

#[tokio::test]
async fn without_redis_deliveries_are_owed_all_the_same_and_caught_up_when_it_is_back() {
    let mut world = World::new().await;
    let card = made(&world, 1, EndpointState::Paused).await;
    world.redis.stop();
    world.event("e", "order.paid", "1").await;
    world.fan_out().await;
    assert_eq!(rows(&world, 1).len(), 1);
    enable(&world, &card).await;
    world.clock.advance(AWAY);
    world.fan_out().await;
    assert_eq!(rows(&world, 1).len(), 1, "it would not be known what was erased");
    world.redis.resume();
    world.settle().await;
    assert_eq!(arrived(&world, "/1").len(), 1);
}

#[tokio::test]
async fn without_history_what_is_owed_is_kept_all_the_same() {
    let world = World::with(&[("HISTORY_DAYS", "0")]).await;
    let card = made(&world, 1, EndpointState::Paused).await;
    events(&world, 2).await;
    assert_eq!(world.history.all().len(), 2);
    enable(&world, &card).await;
    world.settle().await;
    assert_eq!((world.history.all().len(), arrived(&world, "/1").len()), (0, 2));
}

#[tokio::test]
async fn the_daily_cleanup_says_when_it_could_not_queue_the_end_of_what_is_owed() {
    let world = World::new().await;
    world.queues.breaks(Some(QueueName::Event));
    assert!(!world.daily_cleanup_succeeds().await);
    world.queues.breaks(None);
    assert!(world.daily_cleanup_succeeds().await);
    world.settle().await;
}
