//! What history keeps of events: their rows are there before the first delivery is queued, and
//! deliveries never wait for them.

use adapters::aws::sqs::QueueName;
use adapters::registry::{Registry as _, Written};
use bytes::Bytes;
use domain::history::event::{KeptEvent, ListedEvent};
use domain::history::{Row, names};
use domain::message::Envelope;
use tests::endpoints::{TENANT, card};
use tests::world::World;

async fn endpoint(world: &World) {
    let card = card(1, &world.receiver.url("/hook"), world.clock.now());
    assert_eq!(world.registry.create(&card, 100).await.unwrap(), Written::Done);
}

/// The rows of events.
fn rows(world: &World) -> Vec<Row> {
    let is_event = |row: &Row| row.partition.starts_with("I#") || row.partition.starts_with("V#");
    world.history.all().into_iter().filter(is_event).collect()
}

#[tokio::test]
async fn an_event_is_kept_with_its_payload_and_listed_without() {
    let mut world = World::new().await;
    endpoint(&world).await;
    world.pages_of(1);
    world.event("e", "order.paid", r#"{ "canary": 1.0 }"#).await;
    world.fan_out().await;
    let rows = rows(&world);
    let [kept, listed] = &rows[..] else { panic!("{rows:?}") };
    let now = world.clock.now();
    assert_eq!((kept.partition.as_str(), kept.place.as_str()), ("I#acme#e", names::sortable(now).as_str()));
    let event = serde_json::from_str::<KeptEvent>(&kept.body).unwrap().event().unwrap();
    assert_eq!((&event.payload[..], event.event_type.as_str()), (&br#"{ "canary": 1.0 }"#[..], "order.paid"));
    assert_eq!(
        (&listed.partition, &listed.place),
        (&names::events(TENANT, &names::day(now)), &names::listed(now, "e"))
    );
    let listed: ListedEvent = serde_json::from_str(&listed.body).unwrap();
    assert_eq!((listed.event_id.as_str(), listed.event_type.as_str()), ("e", "order.paid"));
    let (writes, _) = world.history.calls();
    assert_eq!(writes, 2, "its line in the list first: a payload without one would never be found");
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
}

#[tokio::test]
async fn deliveries_do_not_wait_for_history() {
    let world = World::new().await;
    endpoint(&world).await;
    world.history.be_away(true);
    world.event("e", "order.paid", "1").await;
    world.fan_out().await;
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 1);
    let late = world.queues.all(QueueName::Retry);
    let [late] = &late[..] else { panic!("{late:?}") };
    let Ok(Envelope::LateOutcomes(late)) = Envelope::decode(&Bytes::from(late.body.clone())) else {
        panic!("{late:?}")
    };
    assert_eq!(late.rows.iter().map(Row::event).collect::<Vec<_>>(), [Some(("acme", "e")); 2]);
    world.queues.breaks(Some(QueueName::Retry));
    world.event("f", "order.paid", "1").await;
    world.fan_out().await;
    assert_eq!(world.queues.all(QueueName::Delivery).len(), 2, "even when neither takes the rows");
    world.queues.breaks(None);
    world.history.be_away(false);
    world.settle().await;
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn without_history_nothing_is_kept() {
    let world = World::with(&[("HISTORY_DAYS", "0")]).await;
    endpoint(&world).await;
    world.event("e", "order.paid", "1").await;
    world.settle().await;
    assert_eq!((world.receiver.count(), rows(&world)), (1, Vec::new()));
    let body = r#"{"what":"failed","since":"2023-11-01T00:00:00Z"}"#;
    let (code, answer) = world.post("/tenants/acme/endpoints/ep_0000000000000000000001/replays", body).await;
    assert_eq!(code, 409, "{answer}");
}
