//! What a tenant can do with its endpoints, and what it is told when it cannot.

use std::collections::BTreeSet;

use adapters::aws::sqs::QueueName;
use bytes::Bytes;
use domain::message::Envelope;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::endpoints_world::EndpointsWorld;

const URL: &str = "https://a.example/hook";
const ENDPOINTS: &str = "/tenants/acme/endpoints";

/// What an answer shows of an endpoint's card.
fn card(seen: &Value) -> Value {
    let mut card = seen.clone();
    card.as_object_mut().unwrap().retain(|name, _| !["health", "owed", "catch_up"].contains(&name.as_str()));
    card
}

/// A path of an endpoint that nobody made.
fn nowhere() -> String {
    format!("{ENDPOINTS}/ep_{}", "0".repeat(22))
}

#[tokio::test]
async fn an_endpoint_is_made_read_changed_and_deleted() {
    let world = EndpointsWorld::new().await;
    assert_eq!(world.get("/tenants/acme").await.status, 404);
    let body = json!({
        "url": URL, "uid": "orders", "description": "é", "event_types": ["a.b", "c.*"], "headers": { "X-Team": "blue" },
        "filter": { "payload": { "total": [{ "numeric": [">=", 100] }] } },
        "retry_schedule_s": [1, 2], "rate_per_s": 2.5, "metadata": { "owner": "mara" },
    });
    let (made, path) = world.create(&body).await;
    assert_eq!(path, format!("{ENDPOINTS}/{}", made.body["id"].as_str().unwrap()));
    assert_eq!(made.header("etag"), "\"1\"");
    for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| *name != "headers") {
        assert_eq!(made.body[name], *value, "{name}");
    }
    assert_eq!(made.body["headers"], json!({ "x-team": "blue" }));

    let read = world.get(&path).await;
    let mut shown = made.body.clone();
    shown.as_object_mut().unwrap().remove("secret");
    assert_eq!((read.status, &card(&read.body), read.header("etag")), (200, &shown, "\"1\""));
    for query in ["", "?uid=orders", "?limit=1"] {
        let list = world.get(&format!("{ENDPOINTS}{query}")).await;
        assert_eq!(list.body, json!({ "endpoints": [shown], "next_cursor": null }), "{query}");
    }
    assert_eq!(world.get(&format!("{ENDPOINTS}?uid=other")).await.body["endpoints"], json!([]));
    assert_eq!(world.get("/tenants/other/endpoints").await.body["endpoints"], json!([]));
    let tenant = world.get("/tenants/acme").await.body;
    let (by_state, owed) =
        (json!({ "enabled": 1, "paused": 0, "disabled": 0 }), json!({ "deliveries": 0, "is_more": false }));
    let wanted = json!({ "tenant": "acme", "endpoints": 1, "by_state": by_state, "owed": owed, "revision": 1 });
    assert_eq!(tenant, wanted);
    assert_eq!(world.get("/tenants").await.body, json!({ "tenants": [{ "tenant": "acme" }], "next_cursor": null }));

    world.clock.advance(std::time::Duration::from_secs(1));
    let changed = world.ask("PATCH", &path, json!({ "url": "https://a.example/new", "uid": null })).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
    assert!(changed.body.get("uid").is_none() && changed.body["updated_at"] != changed.body["created_at"]);
    assert_eq!(card(&world.get(&path).await.body), changed.body);
    let same = world.ask("PATCH", &path, json!({ "url": "https://a.example/new" })).await;
    assert_eq!(same.body, changed.body, "what changes nothing makes no version");

    assert_eq!(world.ask("DELETE", &path, "").await.status, 204);
    for (method, below) in [("DELETE", ""), ("GET", ""), ("PATCH", ""), ("GET", "/secret"), ("POST", "/test")] {
        let body = if method == "PATCH" { "{}" } else { "" };
        assert_eq!(world.ask(method, &format!("{path}{below}"), body).await.status, 404, "{method} {below}");
    }
    assert_eq!(world.get("/tenants/acme").await.body["endpoints"], 0);
}

#[tokio::test]
async fn a_filter_is_shown_as_it_was_given_and_counts_for_fan_out() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    let revision = async || world.get("/tenants/acme").await.body["revision"].as_u64().unwrap();
    assert_eq!(revision().await, 1);
    // An alternative replaces what was said before it, so the order of fields matters.
    let filter = r#"{"payload":{ "b":[1.50]},"$or":[{"payload":{"b":[2]}},{"event_type":["a"]}]}"#;
    let patch = format!(r#"{{"filter":{filter}}}"#);
    assert_eq!(world.ask("PATCH", &path, patch.as_str()).await.status, 200);
    let shown = world.get(&path).await.text;
    assert!(shown.contains(&format!(r#""filter":{filter},"#)), "{shown}");
    assert_eq!(revision().await, 2);
    assert_eq!(world.ask("PATCH", &path, patch.as_str()).await.header("etag"), "\"2\"");
    let refused = world.ask("PATCH", &path, r#"{"filter":{"payload":{"a":[{"prefix":1}],"b":[]}}}"#).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/filter/payload/a/0/prefix", "/filter/payload/b"]));
    let removed = world.ask("PATCH", &path, json!({ "filter": null })).await;
    assert!(removed.status == 200 && removed.body.get("filter").is_none());
    assert_eq!(revision().await, 3);
}

#[tokio::test]
async fn every_fault_is_told_and_nothing_is_written() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL, "uid": "one" })).await;
    let before = world.registry.all();
    let faulty = r#"{"url":"http://10.0.0.1/","uid":"a b","headers":{"Host":"x","x-a":{"value":"1","secret":2}},
        "secret":"whsec_x","retry_schedule_s":[90000],"metadata":[],"rate_per_s":501,"state":"disabled","colour":1}"#;
    let wanted = [
        "/colour",
        "/state",
        "/url",
        "/uid",
        "/headers/Host",
        "/headers/x-a/secret",
        "/retry_schedule_s/0",
        "/rate_per_s",
        "/metadata",
        "/secret",
    ];
    let refused = world.ask("POST", ENDPOINTS, faulty).await;
    assert_eq!((refused.status, refused.pointers()), (422, wanted.to_vec()));
    let refused = world.ask("PATCH", &path, faulty).await;
    let sorted = |pointers: &[&str]| pointers.iter().map(|&pointer| pointer.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((refused.status, sorted(&refused.pointers())), (422, sorted(&wanted)));

    let rotate = format!("{path}/rotate-secret");
    let refused = world.ask("POST", &rotate, json!({ "secret": "x", "overlap_s": 1, "a": 1 })).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/a", "/secret", "/overlap_s"]));
    let test = format!("{path}/test");
    let refused = world.ask("POST", &test, json!({ "event_type": "steadhook.x", "a": 1 })).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/a", "/event_type"]));
    for (method, path) in [("POST", ENDPOINTS), ("PATCH", &path), ("POST", &rotate), ("POST", &test)] {
        assert_eq!(world.ask(method, path, "{").await.status, 400, "{method} {path}");
        assert_eq!(world.ask(method, path, "[]").await.pointers(), [""], "{method} {path}");
    }
    let large = json!({ "payload": "x".repeat(262_144) });
    assert_eq!(world.ask("POST", &test, large).await.status, 413);
    assert_eq!(world.registry.all(), before);
    assert!(world.queues.all(QueueName::Delivery).is_empty());
}

#[tokio::test]
async fn names_have_their_form_and_paths_their_methods() {
    let world = EndpointsWorld::new().await;
    let two = world.get("/tenants/-acme/endpoints/ep_1").await;
    assert_eq!((two.status, two.pointers()), (422, vec!["/tenant", "/endpoint"]));
    for path in
        ["/tenants/a%2Fb", "/tenants/_acme/endpoints", "/tenants/%C3%A9", &format!("/tenants/{}", "a".repeat(65))]
    {
        let refused = world.get(path).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/tenant"]), "{path}");
    }
    for below in ["", "/secret"] {
        assert_eq!(world.get(&format!("{}{below}", nowhere())).await.status, 404);
    }
    assert_eq!(world.ask("POST", "/tenants/_operator/endpoints", json!({ "url": URL })).await.status, 201);
    for (method, path, allowed) in [
        ("DELETE", "/tenants", "GET"),
        ("DELETE", "/tenants/acme", "GET"),
        ("PUT", ENDPOINTS, "GET, POST"),
        ("POST", &nowhere(), "DELETE, GET, PATCH"),
        ("PUT", "/reseal", "GET, POST"),
        ("GET", &format!("{}/test", nowhere()), "POST"),
    ] {
        let refused = world.ask(method, path, "").await;
        assert_eq!((refused.status, refused.header("allow")), (405, allowed), "{method} {path}");
    }
    for path in ["/tenants/", "/tenants/acme/", "/tenants/acme/others", "/tenants//endpoints", "/x"] {
        assert!([404, 422].contains(&world.get(path).await.status), "{path}");
    }
}

#[tokio::test]
async fn a_uid_belongs_to_one_endpoint() {
    let world = EndpointsWorld::new().await;
    let body = json!({ "url": URL, "uid": "orders" });
    let answers = join_all((0..50).map(|_| world.ask("POST", ENDPOINTS, &body))).await;
    let made: Vec<&Value> = answers.iter().filter(|answer| answer.status == 201).map(|answer| &answer.body).collect();
    let [winner] = made[..] else { panic!("{answers:?}") };
    for lost in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((lost.status, &lost.body["endpoint_id"]), (409, &winner["id"]));
    }
    assert_eq!(world.get("/tenants/acme").await.body["endpoints"], 1);

    let (_, other) = world.create(json!({ "url": URL })).await;
    let before = world.registry.all();
    let refused = world.ask("PATCH", &other, json!({ "uid": "orders", "description": "x" })).await;
    assert_eq!((refused.status, &refused.body["endpoint_id"]), (409, &winner["id"]));
    assert_eq!(world.registry.all(), before);
    let elsewhere = world.ask("POST", "/tenants/other/endpoints", &body).await;
    assert_eq!(elsewhere.status, 201, "another tenant may use it, too");
}

#[tokio::test]
async fn a_tenant_has_a_limit_and_a_card_has_one() {
    let world = EndpointsWorld::with(&[("MAX_ENDPOINTS", "2")]).await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    world.create(json!({ "url": URL })).await;
    let refused = world.ask("POST", ENDPOINTS, json!({ "url": URL, "uid": "third" })).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body["detail"].as_str().unwrap().contains("2 endpoints"), "{refused:?}");

    let types: Vec<String> = (0..100).map(|n| format!("{n:0>120}")).collect();
    let metadata: Value =
        (0..20).map(|n| (format!("k{n}"), json!("é".repeat(256)))).collect::<serde_json::Map<_, _>>().into();
    let large = json!({ "url": URL, "event_types": types, "metadata": metadata });
    let before = world.registry.all();
    assert_eq!(world.ask("PATCH", &path, &large).await.status, 413);
    assert_eq!(world.ask("POST", "/tenants/other/endpoints", &large).await.status, 413);
    assert_eq!(world.registry.all(), before);
    assert_eq!(world.ask("DELETE", &path, "").await.status, 204);
    world.create(json!({ "url": URL, "uid": "third" })).await;
}

#[tokio::test]
async fn a_change_is_made_to_the_version_that_its_client_saw() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    let rotate = format!("{path}/rotate-secret");
    let patch = json!({ "description": "new" });
    for stale in ["\"2\"", "W/\"1\"", "1"] {
        let before = world.registry.all();
        assert_eq!(world.ask_if(stale, "PATCH", &path, &patch).await.status, 412);
        assert_eq!(world.ask_if(stale, "POST", &rotate, "").await.status, 412);
        assert_eq!(world.ask_if(stale, "DELETE", &path, "").await.status, 412);
        assert_eq!(world.registry.all(), before, "{stale}");
    }
    assert_eq!(world.ask_if("\"1\"", "PATCH", &path, &patch).await.header("etag"), "\"2\"");
    assert_eq!(world.ask_if("*", "POST", &rotate, "").await.header("etag"), "\"3\"");

    // Somebody else comes first. Who named no version does not notice.
    world.registry.overtake(3);
    let patched = world.ask("PATCH", &path, json!({ "description": "newer" })).await;
    assert_eq!((patched.status, &patched.body["description"]), (200, &json!("newer")));
    assert_eq!(patched.body["metadata"]["overtaken"], "6", "the other change stays");
    world.registry.overtake(1);
    assert_eq!(world.ask("POST", &rotate, "").await.status, 200);
    world.registry.overtake(1);
    let tag = world.get(&path).await.header("etag").to_owned();
    assert_eq!(world.ask_if(&tag, "PATCH", &path, json!({ "description": "late" })).await.status, 412);
    world.registry.overtake(1000);
    assert_eq!(world.ask("PATCH", &path, json!({ "description": "never" })).await.status, 503);
    world.registry.overtake(1);
    assert_eq!(world.ask("DELETE", &path, "").await.status, 204);
}

#[tokio::test]
async fn of_two_changes_that_are_alike_one_is_made() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    let tag = world.get(&path).await.header("etag").to_owned();
    world.registry.overtake_alike();
    let lock = json!({ "metadata": { "lock": "taken" } });
    assert_eq!(world.ask_if(&tag, "PATCH", &path, &lock).await.status, 412, "somebody else took it");
}

#[tokio::test]
async fn a_cursor_goes_on_in_its_own_list_only() {
    let world = EndpointsWorld::new().await;
    for tenant in ["acme", "other"] {
        for n in 0..5 {
            let body = json!({ "url": URL, "uid": format!("u{n}") });
            assert_eq!(world.ask("POST", &format!("/tenants/{tenant}/endpoints"), body).await.status, 201);
        }
    }
    let (mut ids, mut query) = (BTreeSet::new(), "?limit=2".to_owned());
    let mut cursors = Vec::new();
    loop {
        let page = world.get(&format!("{ENDPOINTS}{query}")).await.body;
        for endpoint in page["endpoints"].as_array().unwrap() {
            assert_eq!(endpoint["tenant"], "acme");
            assert!(ids.insert(endpoint["id"].as_str().unwrap().to_owned()));
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        cursors.push(cursor.to_owned());
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!((ids.len(), cursors.len()), (5, 2));
    let of_tenants = world.get("/tenants?limit=1").await.body["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(
        world.get(&format!("/tenants?cursor={of_tenants}")).await.body["tenants"],
        json!([{ "tenant": "other" }])
    );
    for path in [
        format!("/tenants/other/endpoints?cursor={}", cursors[0]),
        format!("/tenants?cursor={}", cursors[0]),
        format!("{ENDPOINTS}?cursor={of_tenants}"),
        format!("{ENDPOINTS}?uid=u1&cursor={}", cursors[0]),
        format!("{ENDPOINTS}?cursor=x"),
    ] {
        let refused = world.get(&path).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/cursor"]), "{path}");
    }
    let refused = world.get(&format!("{ENDPOINTS}?limit=201&uid=a+b&x=1")).await;
    assert_eq!(refused.pointers(), ["/uid", "/limit", "/x"]);
}

#[tokio::test]
async fn while_the_registry_is_away_callers_are_told_to_come_back() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    world.registry.be_away(true);
    let below = |name: &str| format!("{path}/{name}");
    for (method, path) in [
        ("GET", "/tenants"),
        ("GET", "/tenants/acme"),
        ("GET", ENDPOINTS),
        ("POST", ENDPOINTS),
        ("GET", &path),
        ("PATCH", &path),
        ("DELETE", &path),
        ("GET", &below("secret")),
        ("POST", &below("rotate-secret")),
        ("POST", &below("test")),
        ("GET", "/reseal"),
        ("POST", "/reseal"),
    ] {
        let body = if method == "POST" && path == ENDPOINTS { json!({ "url": URL }) } else { json!({}) };
        let answer = world.ask(method, path, if method == "GET" { Value::Null } else { body }).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_test_is_one_delivery_to_the_endpoint() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": "https://A.example:443/hook?token=1" })).await;
    let id = made.body["id"].as_str().unwrap();
    let queued = async |body: &str| {
        let answer = world.ask("POST", &format!("{path}/test"), body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let taken = world.queues.receive(QueueName::Delivery, 1).remove(0);
        world.queues.delete(QueueName::Delivery, &taken);
        let body = Bytes::from(taken.message.body);
        let Ok(Envelope::Deliver(message)) = Envelope::decode(&body) else { panic!("not a delivery") };
        (answer.body, message.delivery)
    };
    let (answer, delivery) = queued("").await;
    let target = delivery.endpoint.as_ref().unwrap();
    assert_eq!((target.tenant.as_str(), target.endpoint.as_str()), ("acme", id));
    assert_eq!((target.origin.as_str(), target.is_test, &target.life), ("https://a.example", true, &None));
    assert_eq!(answer["event_id"], target.event_id);
    assert_eq!(answer["delivery_id"], format!("{}.{id}", target.event_id));
    assert_eq!(answer["delivery_id"], delivery.id);
    assert_eq!(answer["webhook_id"], delivery.webhook_id().as_ref());
    assert_eq!(answer["status_url"], format!("/tenants/acme/events/{}/deliveries/{id}", target.event_id));
    assert_eq!(delivery.event_type.as_deref(), Some("steadhook.test"));
    let payload: Value = serde_json::from_slice(&delivery.payload).unwrap();
    let sent_at = world.clock.now().to_string();
    assert_eq!(payload, json!({ "type": "steadhook.test", "endpoint_id": id, "sent_at": sent_at }));

    let (other, delivery) = queued(r#"{"event_type":"order.paid","payload":{ "n": 1.50 }}"#).await;
    assert_ne!(answer["event_id"], other["event_id"]);
    assert_eq!((delivery.event_type.as_deref(), &delivery.payload[..]), (Some("order.paid"), &br#"{ "n": 1.50 }"#[..]));

    world.queues.breaks(Some(QueueName::Delivery));
    assert_eq!(world.ask("POST", &format!("{path}/test"), "{}").await.status, 503);
}
