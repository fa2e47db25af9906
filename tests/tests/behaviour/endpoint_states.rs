//! Pausing and enabling an endpoint: what may be asked, and what is written in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use bytes::Bytes;
use domain::endpoint::{Card, EndpointState, StateReason};
use domain::job::{Job, JobPage};
use domain::message::Envelope;
use domain::time::Millis;
use redis::Commands as _;
use serde_json::{Value, json};
use tests::endpoints;
use tests::endpoints_world::EndpointsWorld;
use tests::redis_server::RedisServer;
use tests::world::BEGINNING;

const URL: &str = "https://a.example/hook";

/// The wake-ups that are queued.
fn wake_ups(world: &EndpointsWorld) -> Vec<JobPage> {
    let stored = world.queues.all(QueueName::Event);
    let page = |body: String| match Envelope::decode(&Bytes::from(body)) {
        Ok(Envelope::Job(page)) => *page,
        other => panic!("no job: {other:?}"),
    };
    assert!(stored.iter().all(|message| message.group == "acme"));
    stored.into_iter().map(|message| page(message.body)).collect()
}

/// Disables the endpoint that was just shown, as the stack does.
fn disable(world: &EndpointsWorld, shown: &Value) -> Card {
    let card = endpoints::card(1, shown["url"].as_str().unwrap(), world.clock.now());
    let card = Card {
        id: shown["id"].as_str().unwrap().to_owned(),
        version: shown["version"].as_u64().unwrap(),
        state: EndpointState::Disabled,
        state_reason: Some(StateReason::Gone),
        disabled_by: Some("notice".into()),
        ..card
    };
    world.registry.overwrite(&card);
    card
}

#[tokio::test]
async fn a_state_has_its_reason_and_its_time() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL })).await;
    assert_eq!((&made.body["state"], made.body.get("state_reason")), (&json!("enabled"), None));
    let revision = async || world.get("/tenants/acme").await.body["revision"].as_u64().unwrap();
    let before = revision().await;

    world.clock.advance(Duration::from_secs(1));
    let paused = world.change(&path, json!({ "state": "paused" })).await;
    assert_eq!((&paused["state"], &paused["state_reason"]), (&json!("paused"), &json!("asked")));
    assert_eq!(paused["state_since"], world.clock.now().to_string());
    assert_eq!(revision().await, before + 1, "fan-out must see it");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.change(&path, json!({ "state": "paused" })).await, paused, "it is paused already");

    let enabled = world.change(&path, json!({ "state": "enabled" })).await;
    assert_eq!((&enabled["state"], enabled.get("state_reason")), (&json!("enabled"), None));
    assert_eq!((&enabled["state_since"], &enabled["version"]), (&json!(world.clock.now().to_string()), &json!(3)));
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(world.change(&path, json!({ "state": "enabled" })).await, enabled, "enabling twice changes nothing");
    assert_eq!(wake_ups(&world).len(), 1);

    for (state, reason) in [("enabled", None), ("paused", Some(json!("asked")))] {
        let shown = world.change(&path, json!({ "description": state })).await;
        let disabled = disable(&world, &shown);
        assert_eq!(world.get(&path).await.body["state_reason"], "gone");
        let changed = world.change(&path, json!({ "state": state })).await;
        assert_eq!((&changed["state"], changed.get("state_reason")), (&json!(state), reason.as_ref()));
        assert_eq!(changed["version"], disabled.version + 1);
        assert!(!world.registry.all().contains("disabled_by"), "a notice that comes again is an old one");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_state_is_told_with_all_other_faults() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    let before = world.registry.all();
    for (body, pointers) in [
        (json!({ "state": "disabled", "url": 1 }), vec!["/url", "/state"]),
        (json!({ "state": null }), vec!["/state"]),
        (json!({ "state": "paused", "catch_up": false }), vec!["/catch_up"]),
        (json!({ "catch_up": false, "rate_per_s": 0.05 }), vec!["/rate_per_s", "/catch_up"]),
        (json!({ "state": "enabled", "catch_up": "no" }), vec!["/catch_up"]),
        (json!({ "rate_per_s": "1" }), vec!["/rate_per_s"]),
        (json!({ "rate_per_s": 0.0001 }), vec!["/rate_per_s"]),
    ] {
        let refused = world.ask("PATCH", &path, &body).await;
        assert_eq!((refused.status, refused.pointers()), (422, pointers), "{body}");
    }
    for (name, value) in [("state", "enabled"), ("catch_up", "false")] {
        let refused = world.ask("POST", "/tenants/acme/endpoints", json!({ "url": URL, name: value })).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec![format!("/{name}").as_str()]));
    }
    assert_eq!(
        world.ask_if("\"2\"", "PATCH", &path, json!({ "state": "enabled", "catch_up": false })).await.status,
        412
    );
    assert_eq!(world.ask_if("\"2\"", "DELETE", &path, "").await.status, 412);
    assert_eq!(world.registry.all(), before);
    assert!(wake_ups(&world).is_empty());
}

#[tokio::test]
async fn a_rate_is_set_shown_and_removed() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL, "rate_per_s": null })).await;
    assert_eq!(made.body.get("rate_per_s"), None);
    for rate in [json!(0.1), json!(33.333), json!(500.0)] {
        assert_eq!(world.change(&path, json!({ "rate_per_s": rate })).await["rate_per_s"], rate);
        assert_eq!(world.get(&path).await.body["rate_per_s"], rate);
    }
    assert_eq!(world.change(&path, json!({ "rate_per_s": null })).await.get("rate_per_s"), None);
}

#[tokio::test]
async fn the_catch_up_is_queued_before_the_card_says_enabled() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL })).await;
    let id = made.body["id"].as_str().unwrap();
    let paused = world.change(&path, json!({ "state": "paused" })).await;
    assert!(wake_ups(&world).is_empty(), "what is paused needs none");
    let before = world.registry.all();

    world.queues.breaks(Some(QueueName::Event));
    let enable = json!({ "state": "enabled", "description": "x" });
    for (method, body) in [("PATCH", &enable), ("DELETE", &Value::Null)] {
        let refused = world.ask(method, &path, body).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "2"), "{method}");
        assert_eq!(world.registry.all(), before, "{method}");
    }
    world.queues.breaks(None);
    assert!(wake_ups(&world).is_empty());

    // The registry does not take the change: the wake-up is there, and finds a paused endpoint.
    world.registry.refuse_writes(true);
    assert_eq!(world.ask("PATCH", &path, &enable).await.status, 503);
    world.registry.refuse_writes(false);
    let page = wake_ups(&world).remove(0);
    assert_eq!((page.tenant.as_str(), page.hop), ("acme", 0));
    let Job::CatchUp(job) = &page.job else { panic!("{page:?}") };
    assert_eq!((job.endpoint.as_str(), job.queued), (id, 0));
    assert_eq!(world.registry.all(), before);

    // It begins after this function has ended, and no other wake-up of its id begins earlier.
    let wait = world.clock.now().until(page.not_before);
    assert!(wait > Duration::from_secs(29), "{wait:?}");
    assert_ne!(page.id, JobPage::wake_up("acme", id, Millis(page.not_before.0 - 1)).id);
    assert!(world.queues.receive(QueueName::Event, 10).is_empty(), "it is delayed");
    world.clock.advance(wait + Duration::from_secs(1));
    assert_eq!(world.queues.receive(QueueName::Event, 10).len(), 1);

    let enabled = world.change(&path, enable).await;
    assert_eq!(
        (&enabled["state"], &enabled["version"]),
        (&json!("enabled"), &json!(paused["version"].as_u64().unwrap() + 1))
    );
    assert_eq!(wake_ups(&world).len(), 2);
    assert_eq!(world.ask("DELETE", &path, "").await.status, 204);
    assert_eq!(wake_ups(&world).len(), 3);
}

#[tokio::test]
async fn a_change_that_others_overtake_queues_one_wake_up() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    world.change(&path, json!({ "state": "paused" })).await;
    world.registry.overtake(3);
    assert_eq!(world.change(&path, json!({ "state": "enabled" })).await["state"], "enabled");
    assert_eq!(wake_ups(&world).len(), 1);
    world.registry.overtake(3);
    assert_eq!(world.ask("DELETE", &path, "").await.status, 204);
    assert_eq!(wake_ups(&world).len(), 2);
}

#[tokio::test]
async fn a_refused_catch_up_is_noted_in_the_card_and_queued_to_end_what_is_owed() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    world.change(&path, json!({ "state": "paused" })).await;
    let refuse = json!({ "state": "enabled", "catch_up": false });
    let enabled = world.change(&path, refuse.clone()).await;
    let first = world.clock.now().to_string();
    assert_eq!((&enabled["state"], &enabled["owed_dropped_before"]), (&json!("enabled"), &json!(first)));
    assert_eq!(world.get(&path).await.body["catch_up"], json!({ "state": "none", "refused_before": first }));

    // Enabled already: what is owed is refused all the same, and the state stays as it is.
    world.clock.advance(Duration::from_secs(7));
    let again = world.change(&path, refuse).await;
    assert_eq!(again["owed_dropped_before"], world.clock.now().to_string());
    assert_eq!((&again["state_since"], &again["version"]), (&json!(first), &json!(4)));
    assert_eq!(wake_ups(&world).len(), 2);
    let kept = world.change(&path, json!({ "state": "paused" })).await;
    assert_eq!(kept["owed_dropped_before"], again["owed_dropped_before"]);
}

/// The fields of a hash in Redis.
fn hash(redis: &RedisServer, key: &str) -> Value {
    let fields: BTreeMap<String, String> = redis.connect().hgetall(key).unwrap();
    json!(fields)
}

#[tokio::test]
async fn a_change_counts_at_once_and_an_endpoint_that_is_enabled_or_moves_begins_anew() {
    let redis = RedisServer::start();
    let world = EndpointsWorld::on(&redis);
    let (made, path) = world.create(json!({ "url": URL })).await;
    let id = made.body["id"].as_str().unwrap();
    let (state, breaker) = (format!("endpoint_state:{id}"), format!("circuit_breaker:{id}"));
    assert_eq!(hash(&redis, &state), json!({}), "a new endpoint is known by its card");
    let fail = async || {
        world.open_breaker(id).await;
        let failing: [(&str, u64); 2] = [("failing_since", BEGINNING.0), ("failures", 3)];
        let () = redis.connect().hset_multiple(&state, &failing).unwrap();
        assert_eq!(hash(&redis, &breaker)["state"], "open");
    };

    fail().await;
    world.change(&path, json!({ "state": "paused" })).await;
    let known = hash(&redis, &state);
    assert_eq!((&known["version"], &known["state"], &known["failures"]), (&json!("2"), &json!("paused"), &json!("3")));
    assert_eq!(hash(&redis, &breaker)["state"], "open", "pausing mends nothing");

    world.change(&path, json!({ "state": "enabled" })).await;
    let known = hash(&redis, &state);
    assert_eq!((&known["version"], &known["state"]), (&json!("3"), &json!("enabled")));
    assert_eq!((known.get("failing_since"), known.get("failures").filter(|n| *n != "0")), (None, None));
    assert_eq!(hash(&redis, &breaker)["state"], "closed");

    fail().await;
    world.change(&path, json!({ "description": "x", "rate_per_s": 1 })).await;
    assert_eq!(hash(&redis, &breaker)["state"], "open");
    world.change(&path, json!({ "url": "https://a.example/other" })).await;
    assert_eq!((&hash(&redis, &state)["version"], &hash(&redis, &breaker)["state"]), (&json!("5"), &json!("closed")));
    assert_eq!(hash(&redis, &state).get("failing_since"), None);
    let life: i64 = redis.connect().pttl(&state).unwrap();
    assert!(life > 20 * 60 * 1000, "{life}");
}

#[tokio::test]
async fn while_redis_is_away_the_card_is_changed_and_its_health_is_unknown() {
    let mut redis = RedisServer::start();
    let world = EndpointsWorld::on(&redis);
    let (_, path) = world.create(json!({ "url": URL })).await;
    redis.stop();
    for state in ["paused", "enabled"] {
        assert_eq!(world.change(&path, json!({ "state": state })).await["state"], state);
    }
    let seen = world.get(&path).await;
    assert_eq!((seen.status, &seen.body["health"], seen.header("etag")), (200, &Value::Null, "\"3\""));
    assert_eq!(seen.body["owed"], json!({ "deliveries": 0, "is_more": false }));
}
