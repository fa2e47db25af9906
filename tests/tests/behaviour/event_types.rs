//! The catalogue of event types: what an operator writes there, and what it is told.

use std::time::Duration;

use serde_json::{Value, json};
use tests::endpoints_world::EndpointsWorld;

const PAID: &str = "/event-types/order.paid";

#[tokio::test]
async fn an_event_type_is_made_replaced_listed_and_deleted() {
    let world = EndpointsWorld::new().await;
    assert_eq!(world.get("/event-types").await.body, json!({ "event_types": [], "next_cursor": null }));
    assert_eq!(world.get(PAID).await.status, 404);
    let made = world.ask("PUT", PAID, "{}").await;
    let now = world.clock.now().to_string();
    let bare = json!({
        "name": "order.paid", "description": "", "deprecated": false, "created_at": now, "updated_at": now,
    });
    assert_eq!((made.status, &made.body, made.header("location")), (201, &bare, PAID));
    assert_eq!(world.get(PAID).await.body, bare);

    world.clock.advance(Duration::from_secs(1));
    // What was written is shown byte for byte.
    let (example, schema) =
        (r#"{ "total":1.50,"order":7 }"#, r##"{ "$ref" : "#/$defs/a","$defs":{"a":{"required":["order"]}}}"##);
    let body = format!(r#"{{"description":"é","example":{example},"schema":{schema},"deprecated":true}}"#);
    let replaced = world.ask("PUT", PAID, &body).await;
    assert_eq!((replaced.status, replaced.header("location")), (200, ""));
    assert!(replaced.text.contains(&format!(r#""example":{example},"schema":{schema},"#)), "{replaced:?}");
    assert_eq!((&replaced.body["created_at"], &replaced.body["deprecated"]), (&json!(now), &json!(true)));
    assert_eq!(replaced.body["updated_at"], world.clock.now().to_string());
    assert_eq!(world.get(PAID).await.text, replaced.text);
    let list = world.get("/event-types").await;
    assert_eq!(list.text, format!(r#"{{"event_types":[{}],"next_cursor":null}}"#, replaced.text));

    // What is not given is removed.
    assert_eq!(world.ask("PUT", PAID, "{}").await.body.get("schema"), None);
    assert_eq!(world.ask("DELETE", PAID, "").await.status, 204);
    assert_eq!(world.ask("DELETE", PAID, "").await.status, 404);
    assert_eq!(world.get(PAID).await.status, 404);
    assert_eq!(world.ask("PUT", PAID, "{}").await.status, 201);
}

#[tokio::test]
async fn every_fault_is_told_and_nothing_is_written() {
    let world = EndpointsWorld::new().await;
    assert_eq!(world.ask("PUT", PAID, r#"{"description":"as it was"}"#).await.status, 201);
    let before = world.registry.all();
    let faulty = r#"{"description":7,"example":1,"deprecated":"no","colour":1,
        "schema":{"type":"canary","items":{"$ref":"https://canary.example/"},"pattern":"(?=canary)"}}"#;
    let refused = world.ask("PUT", PAID, faulty).await;
    let wanted = ["/colour", "/description", "/schema/items/$ref", "/schema/pattern", "/schema/type", "/deprecated"];
    assert_eq!((refused.status, refused.pointers()), (422, wanted.to_vec()));
    assert!(!refused.text.contains("canary"), "{refused:?}");
    let unfit = r#"{"example":{"n":"canary","x/y":1},"schema":{"properties":{"n":{"type":"number"}},"additionalProperties":false}}"#;
    let refused = world.ask("PUT", PAID, unfit).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/example/n", "/example/x~1y"]));
    assert!(!refused.text.contains("canary"), "{refused:?}");
    assert_eq!(world.ask("PUT", PAID, "{").await.status, 400);
    assert_eq!(world.ask("PUT", PAID, "[]").await.pointers(), [""]);
    let large = json!({ "example": "x".repeat(65_536) });
    assert_eq!(world.ask("PUT", PAID, large).await.status, 413);
    let largest = json!({ "example": "\\".repeat(32_761) }).to_string();
    assert_eq!(largest.len(), 65_536);
    assert_eq!(world.registry.all(), before);
    assert_eq!(world.ask("PUT", PAID, largest).await.status, 200);
}

#[tokio::test]
async fn names_have_their_form_and_those_of_the_stack_are_its_own() {
    let world = EndpointsWorld::new().await;
    for path in ["/event-types/a..b", "/event-types/", "/event-types/a%2Fb", "/event-types/%C3%A9", "/event-types/a.*"]
    {
        for method in ["GET", "PUT", "DELETE"] {
            let refused = world.ask(method, path, "{}").await;
            assert_eq!((refused.status, refused.pointers()), (422, vec!["/name"]), "{method} {path}");
        }
    }
    for path in ["/event-types/steadhook.test", "/event-types/steadhook"] {
        assert_eq!(world.get(path).await.status, 404);
        for method in ["PUT", "DELETE"] {
            let refused = world.ask(method, path, "{}").await;
            assert_eq!((refused.status, refused.pointers()), (422, vec!["/name"]), "{method} {path}");
        }
    }
    for (method, path, allowed) in
        [("POST", "/event-types", "GET"), ("PATCH", PAID, "DELETE, GET, PUT"), ("POST", PAID, "DELETE, GET, PUT")]
    {
        let refused = world.ask(method, path, "{}").await;
        assert_eq!((refused.status, refused.header("allow")), (405, allowed), "{method} {path}");
    }
    assert_eq!(world.get("/event-types/a/b").await.status, 404);
    assert_eq!(world.ask("PUT", &format!("/event-types/{}", "a".repeat(128)), "{}").await.status, 201);
    assert_eq!(world.ask("PUT", "/event-types/steadhooks.a", "{}").await.status, 201);
}

#[tokio::test]
async fn the_catalogue_is_listed_in_pages_by_name() {
    let world = EndpointsWorld::new().await;
    let names = ["a", "a-b", "a.b", "b", "order.paid"];
    for name in names.iter().rev() {
        assert_eq!(world.ask("PUT", &format!("/event-types/{name}"), "{}").await.status, 201);
    }
    let (mut listed, mut cursors, mut query) = (Vec::new(), Vec::new(), "?limit=2".to_owned());
    loop {
        let page = world.get(&format!("/event-types{query}")).await.body;
        let names = page["event_types"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
        listed.extend(names);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        cursors.push(cursor.to_owned());
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!((listed, cursors.len()), (names.map(str::to_owned).to_vec(), 2));
    for path in [format!("/tenants?cursor={}", cursors[0]), "/event-types?cursor=x".to_owned()] {
        assert_eq!(world.get(&path).await.pointers(), ["/cursor"], "{path}");
    }
    assert_eq!(world.get("/event-types?limit=201&x=1").await.pointers(), ["/limit", "/x"]);
}

#[tokio::test]
async fn while_the_registry_is_away_or_an_entry_is_broken_callers_are_told_to_come_back() {
    let world = EndpointsWorld::new().await;
    world.registry.overwrite_event_type("order.paid", "no JSON");
    assert_eq!(world.get(PAID).await.status, 503);
    assert_eq!(world.get("/event-types").await.body["event_types"], json!([]), "others are listed");
    assert_eq!(world.ask("PUT", PAID, "{}").await.status, 200, "it can be written again");
    assert_eq!(world.get(PAID).await.status, 200);
    world.registry.be_away(true);
    for (method, path) in [("GET", "/event-types"), ("GET", PAID), ("PUT", PAID), ("DELETE", PAID)] {
        let answer = world.ask(method, path, if method == "PUT" { json!({}) } else { Value::Null }).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{method} {path}");
    }
}
