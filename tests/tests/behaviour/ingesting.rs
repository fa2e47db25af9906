//! Events of other systems: what comes through the IngestQueue is accepted once, for one
//! tenant, and everything else becomes a dead letter.

use adapters::aws::sqs::QueueName;
use adapters::aws::sqs_event::Received;
use serde_json::{Value, json};
use tests::endpoints::{card, signed_with};
use tests::world::{INGEST_QUEUE, SECRET, World};

use crate::deliveries_to_endpoints::register;

/// The tenant of the settings.
const TENANT: &str = "default";

async fn endpoint(world: &World, tenant: &str) {
    let now = world.clock.now();
    let card = domain::endpoint::Card { tenant: tenant.into(), ..card(1, &world.receiver.url("/hook"), now) };
    register(world, signed_with(card, &[("s", SECRET, None)], now)).await;
}

fn message(body: &str, id: &str, world: &World) -> Received {
    Received {
        message_id: id.into(),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        source: INGEST_QUEUE.into(),
        sent_at: Some(world.clock.now()),
    }
}

async fn event(world: &World, id: &str) -> Value {
    let (code, answer) = world.get(&format!("/tenants/{TENANT}/events/{id}")).await;
    assert_eq!(code, 200, "{id}: {answer}");
    answer
}

#[tokio::test]
async fn three_forms_of_an_event_reach_the_endpoint_with_their_payload() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    let ours = r#"{"event_id":"o-1","event_type":"order.paid","payload":{ "n" : 1.0 }}"#;
    let cloud = r#"{"specversion":"1.0","id":"c-1","source":"/shop","type":"com.shop.paid","data":{ "n" : 2.0 }}"#;
    let bridge = r#"{"version":"0","id":"b-1","detail-type":"Order Paid","source":"shop","account":"1","time":"t","region":"r","resources":[],"detail":{ "n" : 3.0 }}"#;
    let records = [ours, cloud, bridge].map(|body| message(body, &format!("m-{}", body.len()), &world));
    assert_eq!(world.ingest(&records).await, 0);
    world.settle().await;
    let bodies: Vec<Vec<u8>> = world.receiver.arrivals().into_iter().map(|arrival| arrival.body.to_vec()).collect();
    assert_eq!(bodies.len(), 3);
    for payload in ["{ \"n\" : 1.0 }", "{ \"n\" : 2.0 }", "{ \"n\" : 3.0 }"] {
        assert!(bodies.contains(&payload.as_bytes().to_vec()), "{payload}");
    }
    for (id, event_type) in [("o-1", "order.paid"), ("c-1", "com.shop.paid"), ("b-1", "Order_Paid")] {
        let event = event(&world, id).await;
        assert_eq!((&event["status"], &event["event_type"]), (&json!("fanned_out"), &json!(event_type)));
    }
}

#[tokio::test]
async fn a_message_that_is_received_again_is_one_event() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    let body = r#"{"event_type":"a","payload":1}"#;
    let id = "6d9c0a0e-2f0b-4c53-9e3c-000000000001";
    let record = message(body, id, &world);
    for _ in 0..3 {
        assert_eq!(world.ingest(std::slice::from_ref(&record)).await, 0);
    }
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
    assert_eq!(event(&world, id).await["correlation_id"], id);
    assert_eq!(world.ingest(&[record.clone(), record]).await, 0);
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
}

#[tokio::test]
async fn what_is_no_event_becomes_a_dead_letter_and_nothing_else() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    endpoint(&world, "other").await;
    let page = r#"{"v":2,"kind":"event","tenant":"other","event_id":"e","event_type":"a","correlation_id":"c","body_hash":"h","accepted_at":1,"deadline":99999999999999,"hop":3,"after":"ep_aaaaaaaaaaaaaaaaaaaaaa","payload":1}"#;
    let bodies = [
        page,
        r#"{"v":2,"kind":"notice"}"#,
        r#"{"v":3,"kind":"anything"}"#,
        r#"{"v":2,"kind":"outcomes","deadline":99999999999999,"hop":0,"not_before":0,"outcomes":[{"id":"order-1","url":"https://a.example/","correlation_id":"c","accepted_at":1,"expires_at":2,"attempts":0,"settlement":{"token":"t","hop":0,"ending":{"delivered":{"attempts":1,"code":200,"duration_ms":1}}}}]}"#,
        r#"{"v":1,"kind":"deliver","id":"order-1","url":"https://a.example/","correlation_id":"c","accepted_at":1,"deadline":99999999999999,"attempt":0,"hop":4000000000,"payload":1}"#,
        r#"{"tenant":"other","event":{"event_type":"a","payload":1}}"#,
        r#"{"event_type":"a","payload":1,"tenant":"other"}"#,
        r#"{"event_type":"steadhook.endpoint.disabled","payload":1}"#,
        r#"[{"specversion":"1.0"}]"#,
        "x",
    ];
    let records: Vec<_> = bodies.iter().enumerate().map(|(n, body)| message(body, &format!("m-{n}"), &world)).collect();
    assert_eq!(world.ingest(&records).await, 0);
    assert!(world.queues.all(QueueName::Event).is_empty());
    assert_eq!(world.file().await, (bodies.len(), 0));
    let (_, page) = world.get("/dead-letters?reason=malformed").await;
    let letters = page["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), bodies.len());
    for letter in letters {
        let id = letter["webhook_id"].as_str().unwrap();
        assert!(id.starts_with("malformed-"), "{id}");
        assert_eq!(world.operate(&format!("/dead-letters/{id}/redrive"), json!({})).await.0, 409);
    }
    for path in ["/tenants/other/events/e", "/tenants/default/events/e", "/webhook-statuses/order-1"] {
        assert_eq!(world.get(path).await.0, 404, "{path}");
    }
    world.settle().await;
    assert_eq!(world.receiver.count(), 0);
}

#[tokio::test]
async fn what_sqs_moves_out_of_the_queue_of_others_is_never_taken_for_ours() {
    let world = World::new().await;
    let body = r#"{"v":1,"kind":"deliver","id":"order-1","url":"https://a.example/","correlation_id":"c","accepted_at":1,"deadline":99999999999999,"attempt":0,"hop":9,"payload":1}"#;
    let moved = fn_archive::Received {
        message_id: "m-1".into(),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        is_foreign: true,
        ..fn_archive::Received::default()
    };
    assert!(world.archive(&[moved]).await.is_empty());
    let (_, page) = world.get("/dead-letters").await;
    assert_eq!(page["dead_letters"][0]["webhook_id"], "malformed-m-1");
    assert_eq!(world.get("/webhook-statuses/order-1").await.0, 404);
}

#[tokio::test]
async fn a_trusted_producer_names_the_tenant() {
    let world = World::with(&[("INGEST_TRUSTS_TENANT", "true")]).await;
    endpoint(&world, "other").await;
    let body = r#"{"tenant":"other","event":{"event_id":"e","event_type":"a","payload":1}}"#;
    assert_eq!(world.ingest(&[message(body, "m-1", &world)]).await, 0);
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
    assert_eq!(world.get("/tenants/other/events/e").await.1["status"], "fanned_out");
}

#[tokio::test]
async fn two_sources_with_one_id_are_no_silent_duplicates() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    let of = |source: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"{source}","type":"a","data":1}}"#);
    assert_eq!(world.ingest(&[message(&of("/a"), "m-1", &world)]).await, 0);
    assert_eq!(world.ingest(&[message(&of("/b"), "m-2", &world)]).await, 0);
    world.settle().await;
    assert_eq!((world.receiver.count(), world.file().await), (1, (1, 0)));
    let (_, page) = world.get("/dead-letters?reason=validation").await;
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_stays_while_the_queue_of_events_is_away() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    world.queues.breaks(Some(QueueName::Event));
    let record = message(r#"{"event_type":"a","payload":1}"#, "m-1", &world);
    assert_eq!(world.ingest(std::slice::from_ref(&record)).await, 1);
    world.queues.breaks(None);
    assert_eq!(world.ingest(&[record]).await, 0);
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
}

#[tokio::test]
async fn a_page_among_events_of_others_does_not_come_from_their_queue() {
    let world = World::new().await;
    endpoint(&world, TENANT).await;
    // The same text is an event in one queue and nothing in the other.
    let body = r#"{"event_type":"a","payload":1}"#;
    let ours = Received { source: String::new(), ..message(body, "m-1", &world) };
    assert_eq!(world.ingest(&[ours, message(body, "m-2", &world)]).await, 0);
    assert_eq!(world.file().await, (1, 0));
    world.settle().await;
    assert_eq!(world.receiver.count(), 1);
}
