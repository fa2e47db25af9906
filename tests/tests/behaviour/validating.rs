//! With `ValidateEvents`, the payloads of events are held against the schemas of their types.

use std::time::Duration;

use adapters::registry::EventTypes as _;
use domain::event_type::Definition;
use serde_json::{Value, json};
use tests::world::World;

const EVENTS: &str = "/tenants/acme/events";

async fn put(world: &World, name: &str, definition: Value) {
    let definition: Definition = serde_json::from_value(definition).unwrap();
    world.registry.put_event_type(name, &definition, world.clock.now()).await.unwrap();
}

fn schema() -> Value {
    let schema = json!({ "type": "object", "required": ["id"], "properties": { "amount": { "type": "integer" } } });
    json!({ "schema": schema.to_string() })
}

async fn pointers(world: &World, path: &str, body: Value) -> Vec<String> {
    let (code, answer) = world.post(path, body.to_string()).await;
    assert_eq!(code, 422, "{answer}");
    let errors = answer["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_payload_that_is_not_as_its_schema_says_is_refused_at_its_places() {
    let world = World::with(&[("VALIDATE_EVENTS", "true")]).await;
    put(&world, "order.paid", schema()).await;
    let event = |payload: Value| json!({ "event_type": "order.paid", "payload": payload });
    let found = pointers(&world, EVENTS, event(json!({ "amount": "five" }))).await;
    assert_eq!(found, ["/payload/id", "/payload/amount"]);
    assert_eq!(world.post(EVENTS, event(json!({ "id": 1, "amount": 5 })).to_string()).await.0, 202);
    let other = json!({ "event_type": "order.made", "payload": { "amount": "five" } });
    assert_eq!(world.post(EVENTS, other.to_string()).await.0, 202, "a type without a schema takes anything");
    let batch = json!({ "events": [event(json!({ "id": 1 })), event(json!(1))] });
    let (code, answer) = world.post(&format!("{EVENTS}/batch"), batch.to_string()).await;
    assert_eq!((code, &answer["accepted"]), (200, &json!(1)));
    assert_eq!(answer["results"][1]["error"]["errors"][0]["pointer"], "/events/1/payload");
    world.settle().await;
}

#[tokio::test]
async fn a_request_that_is_repeated_after_its_schema_changed_is_a_duplicate() {
    let world = World::with(&[("VALIDATE_EVENTS", "true")]).await;
    let event = json!({ "event_id": "e", "event_type": "order.paid", "payload": 1 });
    assert_eq!(world.post(EVENTS, event.to_string()).await.0, 202);
    put(&world, "order.paid", schema()).await;
    world.clock.advance(Duration::from_secs(60));
    let (code, answer) = world.post(EVENTS, event.to_string()).await;
    assert_eq!((code, &answer["duplicate"]), (202, &json!(true)), "{answer}");
    let other = json!({ "event_id": "f", "event_type": "order.paid", "payload": 1 });
    assert_eq!(pointers(&world, EVENTS, other).await, ["/payload"]);
    world.settle().await;
}

#[tokio::test]
async fn without_the_setting_no_schema_is_read() {
    let world = World::new().await;
    put(&world, "order.paid", schema()).await;
    world.registry.be_away(true);
    let event = json!({ "event_type": "order.paid", "payload": 1 });
    assert_eq!(world.post(EVENTS, event.to_string()).await.0, 202);
    world.registry.be_away(false);
    world.settle().await;
}

#[tokio::test]
async fn accepting_goes_on_while_the_registry_is_away() {
    let world = World::with(&[("VALIDATE_EVENTS", "true")]).await;
    put(&world, "order.paid", schema()).await;
    let event = json!({ "event_type": "order.paid", "payload": 1 });
    assert_eq!(pointers(&world, EVENTS, event.clone()).await, ["/payload"]);
    world.registry.be_away(true);
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(pointers(&world, EVENTS, event.clone()).await, ["/payload"], "what was read lately serves");
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(world.post(EVENTS, event.to_string()).await.0, 202, "what is not known is no schema");
    world.registry.be_away(false);
    world.settle().await;
}
