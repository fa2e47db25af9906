//! History: what became of events and deliveries, page by page, and sending them again.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::clock::Clock;
use adapters::history::HistoryWriter as _;
use adapters::redis::marks;
use adapters::redis::recent;
use adapters::redis::transport::{Redis, RedisConfig};
use adapters::redis::waiting::{self, Change};
use adapters::registry::{Registry as _, Written};
use bytes::Bytes;
use domain::delivery::Delivery;
use domain::endpoint::Card;
use domain::event::Event;
use domain::history::delivery::{DeliveryEnd, EndedDelivery, EndedTarget};
use domain::history::event::KeptEvent;
use domain::identity::{event_record_id, event_webhook_id};
use domain::message::{Attempt, History, Message};
use domain::outcome::ErrorClass;
use domain::reason::Reason;
use domain::status::Lifetimes;
use domain::time::Millis;
use lambda_http::Body;
use lambda_http::http::Method;
use serde_json::{Value, json};
use tests::endpoints::{TENANT, card, endpoint_id};
use tests::world::{BEGINNING, World};

use crate::deliveries_to_endpoints::{endpoint, put, register};

const DAY: Duration = Duration::from_secs(86_400);
const LIFE: Duration = Duration::from_secs(7 * 86_400);
const LIFETIMES: Lifetimes = Lifetimes { delivered_ms: 1_800_000, unfinished_ms: 604_800_000, event_ms: 604_800_000 };

fn event(id: &str, event_type: &str, accepted_at: Millis) -> Event {
    Event {
        tenant: TENANT.into(),
        id: id.into(),
        event_type: event_type.into(),
        payload: Bytes::from_static(b"{ \"n\": 1.0 }"),
        correlation_id: format!("c-{id}"),
        accepted_at,
        ..Event::default()
    }
}

/// Writes an event's rows, as a fan-out does.
async fn keep(world: &World, event: &Event) {
    let kept = KeptEvent::of(event).unwrap();
    let rows = vec![kept.row(LIFE).unwrap(), kept.listed_row(LIFE).unwrap()];
    assert!(world.history.write(rows).await.is_empty());
}

fn history(codes: &[u16], at: Millis) -> History {
    let mut history = History::default();
    for code in codes {
        let class = (*code >= 300).then_some(ErrorClass::ServerError);
        let answer = Some("said".to_owned());
        history.push(Attempt { at, code: Some(*code), class, ms: 7, error: None, answer });
    }
    history
}

/// How an event's delivery to endpoint `n` ended, a second after its acceptance.
fn end(n: usize, event_id: &str, accepted_at: Millis) -> EndedDelivery {
    let ended_at = accepted_at.after(Duration::from_secs(1));
    EndedDelivery {
        target: Some(EndedTarget {
            tenant: TENANT.into(),
            endpoint: endpoint_id(n),
            event_id: event_id.into(),
            life: None,
        }),
        webhook_id: String::new(),
        url: String::new(),
        event_type: Some("order.paid".into()),
        correlation_id: format!("c-{event_id}"),
        accepted_at,
        hop: 0,
        result: DeliveryEnd::Delivered,
        error: None,
        attempts: 0,
        ended_at,
        history: history(&[200], ended_at),
    }
}

fn failed(end: EndedDelivery, reason: Reason) -> EndedDelivery {
    let history = history(&[500, 500], end.ended_at);
    EndedDelivery { result: DeliveryEnd::GivenUp(reason), error: Some("no".into()), attempts: 2, history, ..end }
}

fn in_life(mut end: EndedDelivery, life: &str) -> EndedDelivery {
    end.target.as_mut().unwrap().life = Some(life.into());
    end
}

async fn write(world: &World, ends: &[EndedDelivery]) {
    let rows = ends.iter().map(|end| end.row(LIFE).unwrap()).collect();
    assert!(world.history.write(rows).await.is_empty());
}

fn events_path() -> String {
    format!("/tenants/{TENANT}/events")
}

fn endpoint_path(n: usize) -> String {
    format!("/tenants/{TENANT}/endpoints/{}/deliveries", endpoint_id(n))
}

fn delivery_path(n: usize, event: &str) -> String {
    format!("/tenants/{TENANT}/events/{event}/deliveries/{}", endpoint_id(n))
}

/// What is there, without the time that passes meanwhile.
async fn get(world: &World, path: &str) -> (u16, Value) {
    let (code, mut answer) = world.get(path).await;
    answer.as_object_mut().unwrap().remove("ttl_seconds");
    (code, answer)
}

/// The page at `path`, its ids, and the cursor of the next one. It costs four queries at most.
async fn page(world: &World, path: &str, list: &str, id: &str) -> (Vec<String>, Option<String>) {
    let before = world.history.calls().1;
    let (code, answer) = world.get(path).await;
    assert_eq!(code, 200, "{answer}");
    let cost = world.history.calls().1 - before;
    assert!(cost <= 4, "{path} cost {cost} queries");
    let ids = answer[list].as_array().unwrap().iter().map(|one| one[id].as_str().unwrap().to_owned()).collect();
    (ids, answer["next_cursor"].as_str().map(str::to_owned))
}

/// Every id of a list. `between` runs after each page.
async fn all(world: &World, path: &str, list: &str, id: &str, mut between: impl AsyncFnMut(usize)) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    for n in 0..2000 {
        let mark = if path.contains('?') { '&' } else { '?' };
        let at = cursor.map(|cursor| format!("{mark}cursor={cursor}")).unwrap_or_default();
        let (found, next) = page(world, &format!("{path}{at}"), list, id).await;
        ids.extend(found);
        let Some(next) = next else { return ids };
        cursor = Some(next);
        between(n).await;
    }
    panic!("{path} does not end");
}

async fn events(world: &World, query: &str) -> Vec<String> {
    all(world, &format!("{}{query}", events_path()), "events", "event_id", async |_| ()).await
}

async fn deliveries(world: &World, query: &str) -> Vec<String> {
    all(world, &format!("{}{query}", endpoint_path(1)), "deliveries", "event_id", async |_| ()).await
}

fn pointers(answer: &Value) -> BTreeSet<&str> {
    let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_delivery_of_an_endpoint_is_listed_once_while_new_ones_are_written() {
    let world = World::new().await;
    endpoint(&world).await;
    let count = 100_000_u64;
    let at = |n: u64| Millis(BEGINNING.0 - n * 5_000);
    let ends: Vec<EndedDelivery> = (0..count).map(|n| end(1, &format!("e-{n:06}"), at(n))).collect();
    write(&world, &ends).await;
    write(&world, &[end(2, "of-another", at(1))]).await;
    let shown = all(&world, &format!("{}?limit=200", endpoint_path(1)), "deliveries", "event_id", async |n| {
        world.clock.advance(Duration::from_secs(1));
        let new: Vec<EndedDelivery> = (0..20).map(|one| end(1, &format!("new-{n}-{one}"), world.clock.now())).collect();
        write(&world, &new).await;
    })
    .await;
    let wanted: Vec<String> = (0..count).map(|n| format!("e-{n:06}")).collect();
    assert!(shown == wanted, "newest first, and none of those that came later");
}

#[tokio::test]
async fn deliveries_are_listed_by_result_and_time() {
    let world = World::new().await;
    endpoint(&world).await;
    let at = |n: u64| Millis(BEGINNING.0 - n * 40_000_000);
    let results = [
        ("a", DeliveryEnd::Delivered),
        ("b", DeliveryEnd::GivenUp(Reason::Gone)),
        ("c", DeliveryEnd::GivenUp(Reason::RetriesExhausted)),
        ("d", DeliveryEnd::Delivered),
    ];
    for (n, (id, result)) in (0..).zip(results) {
        write(&world, &[EndedDelivery { result, ..end(1, id, at(n)) }]).await;
    }
    let second = |n| at(n).to_string();
    for (query, wanted) in [
        (String::new(), "abcd"),
        ("?result=delivered".into(), "ad"),
        ("?result=failed".into(), "bc"),
        ("?result=gone&limit=1".into(), "b"),
        ("?result=expired".into(), ""),
        (format!("?since={}", second(2)), "abc"),
        (format!("?until={}", second(0)), "bcd"),
        (format!("?since={}&until={}&limit=1", second(2), second(0)), "bc"),
        (format!("?since={}&until={}", second(0), second(2)), ""),
        ("?since=1970-01-01T00:00:00Z&until=9999-12-31T23:59:59Z".into(), "abcd"),
    ] {
        assert_eq!(deliveries(&world, &query).await.join(""), wanted, "{query}");
    }
    let (_, answer) = world.get(&format!("{}?result=gone&since={}", endpoint_path(1), second(1))).await;
    let shown = &answer["deliveries"][0];
    assert_eq!(shown["delivery_id"], format!("b.{}", endpoint_id(1)));
    assert_eq!(
        (&shown["status"], &shown["result"], &shown["attempt_count"]),
        (&json!("failed"), &json!("gone"), &json!(1))
    );
    assert_eq!(shown["attempts"][0]["answer"], "said");
    world.clock.advance(LIFE + DAY);
    assert_eq!(deliveries(&world, "").await, Vec::<String>::new(), "what has ended counts as absent");
}

#[tokio::test]
async fn events_are_listed_newest_first_by_type_and_time() {
    let world = World::new().await;
    let at = |n: u64| Millis(BEGINNING.0 - n * 30_000_000);
    let kinds = ["order.paid", "order.made", "user.made", "orders"];
    for n in 0..19_u64 {
        let kind = kinds[usize::try_from(n % 4).unwrap()];
        keep(&world, &event(&format!("e{n:02}"), kind, at(n))).await;
    }
    let wanted = |wanted: &dyn Fn(u64) -> bool| -> Vec<String> {
        (0..19).filter(|n| wanted(*n)).map(|n| format!("e{n:02}")).collect()
    };
    assert_eq!(events(&world, "").await, wanted(&|_| true));
    assert_eq!(events(&world, "?limit=1").await, wanted(&|_| true));
    assert_eq!(events(&world, "?event_type=order.paid&limit=2").await, wanted(&|n| n % 4 == 0));
    assert_eq!(events(&world, "?event_type=order.*").await, wanted(&|n| n % 4 < 2));
    assert_eq!(events(&world, "?event_type=nothing.*").await, wanted(&|_| false));
    let query = format!("?since={}&until={}&limit=3", at(15), at(3));
    assert_eq!(events(&world, &query).await, wanted(&|n| (4..=15).contains(&n)));
    let (_, answer) = world.get(&format!("{}?limit=1", events_path())).await;
    assert_eq!(answer["events"][0]["webhook_id"], event_webhook_id(TENANT, "e00"));
    assert_eq!(answer["events"][0]["accepted_at"], at(0).to_string());
}

#[tokio::test]
async fn deliveries_of_an_event_are_listed_by_endpoint() {
    let world = World::new().await;
    let ends: Vec<EndedDelivery> = (0..7).map(|n| end(n, "e", BEGINNING)).collect();
    write(&world, &ends).await;
    write(&world, &[in_life(end(3, "e", BEGINNING), "r1"), end(3, "e2", BEGINNING)]).await;
    let path = format!("{}/e/deliveries?limit=3", events_path());
    let shown = all(&world, &path, "deliveries", "delivery_id", async |_| ()).await;
    let mut wanted: Vec<String> = (0..7).map(|n| format!("e.{}", endpoint_id(n))).collect();
    wanted.insert(4, format!("e.{}.r1", endpoint_id(3)));
    assert_eq!(shown, wanted);
    assert_eq!(world.get(&format!("{}/unknown/deliveries", events_path())).await.0, 404);
    keep(&world, &event("known", "a", BEGINNING)).await;
    let (_, answer) = world.get(&format!("{}/known/deliveries", events_path())).await;
    assert_eq!(answer, json!({ "deliveries": [], "next_cursor": null }));
}

#[tokio::test]
async fn every_fault_of_a_query_is_named_at_once() {
    let world = World::new().await;
    let bad = "?since=x&until=2026-01-01&limit=0&cursor=x&event_type=.&result=lost&life=a.b&minutes=61&other=1&other=2";
    let all = ["/since", "/until", "/limit", "/cursor", "/event_type", "/result", "/life", "/minutes", "/other"];
    for path in [
        events_path(),
        format!("{}/e/deliveries", events_path()),
        delivery_path(1, "e"),
        endpoint_path(1),
        "/deliveries/recent".to_owned(),
        "/metrics/recent".to_owned(),
    ] {
        let (code, answer) = world.get(&format!("{path}{bad}")).await;
        assert_eq!((code, pointers(&answer)), (422, BTreeSet::from(all)), "{path}");
    }
    for (path, wanted) in [
        ("/tenants/a.b/events", vec!["/tenant"]),
        ("/tenants/a.b/events/c.d/deliveries", vec!["/event", "/tenant"]),
        ("/tenants/a.b/events/c.d/deliveries/e", vec!["/endpoint", "/event", "/tenant"]),
        ("/tenants/a.b/endpoints/e/deliveries", vec!["/endpoint", "/tenant"]),
    ] {
        let (code, answer) = world.get(path).await;
        assert_eq!((code, pointers(&answer)), (422, BTreeSet::from_iter(wanted)), "{path}");
    }
    let (code, answer) = world.post("/tenants/a.b/events/c.d/deliveries/e/resend", "").await;
    assert_eq!((code, pointers(&answer).len()), (422, 3));
    for (body, wanted) in [("x", 400), ("[]", 422), (r#"{"life":"x"}"#, 422)] {
        assert_eq!(world.post(&format!("{}/resend", delivery_path(1, "e")), body).await.0, wanted, "{body}");
    }
    for (method, path, wanted) in [
        (Method::DELETE, events_path(), 405),
        (Method::POST, format!("{}/e/deliveries", events_path()), 405),
        (Method::GET, format!("{}/resend", delivery_path(1, "e")), 405),
        (Method::PUT, endpoint_path(1), 405),
        (Method::POST, "/deliveries/recent".to_owned(), 405),
        (Method::POST, "/metrics/recent".to_owned(), 405),
        (Method::GET, format!("{}/e/deliveries/x/y", events_path()), 404),
    ] {
        assert_eq!(world.ask(method.clone(), &path, Body::Empty).await.0, wanted, "{method} {path}");
    }
}

#[tokio::test]
async fn a_cursor_leads_into_no_other_query() {
    let world = World::new().await;
    endpoint(&world).await;
    let lists = [
        (events_path(), "events"),
        (format!("{}?event_type=order.*", events_path()), "events"),
        (format!("{}?until=2030-01-01T00:00:00Z", events_path()), "events"),
        (format!("{}/e/deliveries", events_path()), "deliveries"),
        (endpoint_path(1), "deliveries"),
        (format!("{}?result=delivered", endpoint_path(1)), "deliveries"),
        (format!("{}?result=waiting", endpoint_path(1)), "deliveries"),
        ("/tenants/other/events".to_owned(), "events"),
        ("/tenants/other/events/e/deliveries".to_owned(), "deliveries"),
        (format!("/tenants/other/endpoints/{}/deliveries", endpoint_id(1)), "deliveries"),
    ];
    for n in 0..3 {
        keep(&world, &event(&format!("e{n}"), "order.paid", Millis(BEGINNING.0 - n))).await;
        let id = format!("d{n}");
        write(&world, &[end(1, &id, BEGINNING), in_life(end(1, "e", BEGINNING), &id)]).await;
    }
    let with = |path: &str, more: &str| format!("{path}{}{more}", if path.contains('?') { '&' } else { '?' });
    let mut seen = 0;
    for (path, list) in &lists {
        let (_, answer) = world.get(&with(path, "limit=1")).await;
        let own = path.starts_with(&events_path()) || path.starts_with(&endpoint_path(1));
        let shown = answer[list].as_array().is_some_and(|shown| !shown.is_empty());
        assert_eq!(shown, own && !path.contains("waiting"), "{path}");
        let Some(cursor) = answer["next_cursor"].as_str() else { continue };
        seen += 1;
        assert!(cursor.len() <= 256, "{cursor}");
        for (other, _) in &lists {
            let (code, answer) = world.get(&with(other, &format!("cursor={cursor}"))).await;
            let wanted = if other == path { 200 } else { 422 };
            assert_eq!(code, wanted, "{path} {other}");
            assert!(code == 200 || answer["detail"].is_string());
        }
    }
    assert!(seen >= 6, "{seen}");
}

/// What `other` is answered must not have any of these texts.
async fn assert_nothing(world: &World, path: &str, secrets: &[&str]) {
    let (code, answer) = world.get(path).await;
    // A tenant that has no events yet is not unknown.
    let wanted = if path.ends_with("/events") { 200 } else { 404 };
    assert_eq!(code, wanted, "{path}");
    let text = answer.to_string();
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{path}: {text}");
    for list in ["events", "deliveries"] {
        assert!(answer[list].as_array().is_none_or(Vec::is_empty), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    keep(&world, &event("canary", "order.paid", BEGINNING)).await;
    write(&world, &[end(1, "canary", BEGINNING)]).await;
    world.receiver.always(500u16);
    put(&world, &card, "canary-waits");
    world.step(QueueName::Delivery).await;
    wait(&world, &card, &["canary-waits"]).await;
    world.leaves([QueueName::Retry]);
    let other = |path: String| path.replace("/tenants/acme/", "/tenants/other/");
    for path in [
        events_path(),
        format!("{}/canary", events_path()),
        format!("{}/canary/deliveries", events_path()),
        delivery_path(1, "canary"),
        delivery_path(1, "canary-waits"),
        format!("{}?life=x", delivery_path(1, "canary-waits")),
        endpoint_path(1),
        format!("{}?result=waiting", endpoint_path(1)),
    ] {
        assert_nothing(&world, &other(path), &["order.paid", "c-canary"]).await;
    }
    assert_eq!(world.get("/tenants/other/events/canary").await.0, 404);
    let resend = other(format!("{}/resend", delivery_path(1, "canary")));
    let (code, foreign) = world.post(&resend, "").await;
    assert_eq!(code, 404, "{foreign}");
    let (_, unknown) = world.post(&resend.replace("canary", "unknown"), "").await;
    assert_eq!(foreign["detail"], unknown["detail"]);
    assert!(world.queues.is_empty(QueueName::Delivery) && world.queues.all(QueueName::Retry).len() == 1);
}

#[tokio::test]
async fn an_event_is_sent_again_as_a_new_life_whatever_became_of_it() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/hook"), world.clock.now());
    card.retry_schedule = domain::schedule::RetrySchedule::new(vec![1]).unwrap();
    let card = register(&world, card).await;
    world.event("good", "order.paid", r#"{ "n": 1.0 }"#).await;
    world.settle().await;
    world.receiver.answer([500u16, 500]);
    world.event("bad", "order.paid", r#"{ "n": 1.0 }"#).await;
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    let mut lives = BTreeSet::new();
    for (id, before) in [("good", "delivered"), ("bad", "failed")] {
        assert_eq!(world.get(&delivery_path(1, id)).await.1["status"], before);
        for _ in 0..2 {
            let arrived = world.receiver.count();
            world.clock.advance(Duration::from_secs(3600));
            let (code, answer) = world.post(&format!("{}/resend", delivery_path(1, id)), "").await;
            assert_eq!(code, 202, "{answer}");
            let life = answer["life"].as_str().unwrap().to_owned();
            assert_eq!(answer["delivery_id"], format!("{id}.{}.{life}", card.id));
            assert_eq!(world.get(answer["status_url"].as_str().unwrap()).await.0, 200, "before its first attempt, too");
            world.settle().await;
            assert_eq!(world.receiver.count(), arrived + 1);
            let arrival = world.receiver.arrivals().pop().unwrap();
            assert_eq!(arrival.header("webhook-id"), event_webhook_id(TENANT, id));
            assert_eq!(&arrival.body[..], b"{ \"n\": 1.0 }");
            let (_, shown) = world.get(answer["status_url"].as_str().unwrap()).await;
            let of_life: Vec<&Value> =
                shown["lives"].as_array().unwrap().iter().filter(|one| one["life"] == json!(life)).collect();
            let [one] = &of_life[..] else { panic!("{shown}") };
            assert_eq!((&one["status"], &one["attempt_count"]), (&json!("delivered"), &json!(1)));
            assert_eq!(one["accepted_at"], shown["accepted_at"], "a life is as old as its event");
            assert_eq!(shown["status"], before, "the first life stays as it was");
            assert!(lives.insert(life));
        }
    }
    assert_eq!(lives.len(), 4);
}

#[tokio::test]
async fn a_resend_ignores_when_the_event_expired_and_follows_the_schedule_anew() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    let accepted_at = Millis(BEGINNING.0 - 6 * 86_400_000);
    let expired =
        Event { expires_at: Some(accepted_at.after(Duration::from_secs(60))), ..event("e", "a", accepted_at) };
    keep(&world, &expired).await;
    world.receiver.answer([500u16, 200]);
    let (code, answer) = world.post(&format!("{}/resend", delivery_path(1, "e")), "{}").await;
    assert_eq!(code, 202, "{answer}");
    world.settle().await;
    assert_eq!(world.receiver.count(), 2);
    let (_, shown) = world.get(answer["status_url"].as_str().unwrap()).await;
    assert_eq!((&shown["status"], &shown["lives"][0]["attempt_count"]), (&json!("delivered"), &json!(2)));
    assert_eq!(shown["expires_at"], card.retry_schedule.deadline(BEGINNING).to_string());
}

#[tokio::test]
async fn the_newest_event_of_an_id_is_sent_again() {
    let world = World::new().await;
    endpoint(&world).await;
    let old = Event { payload: Bytes::from_static(b"1"), ..event("e", "a", Millis(BEGINNING.0 - 1000)) };
    keep(&world, &old).await;
    keep(&world, &Event { payload: Bytes::from_static(b"2"), ..event("e", "a", BEGINNING) }).await;
    assert_eq!(world.post(&format!("{}/resend", delivery_path(1, "e")), "").await.0, 202);
    world.settle().await;
    assert_eq!(&world.receiver.arrivals()[0].body[..], b"2");
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_refused_with_the_reason() {
    let mut world = World::new().await;
    let card = endpoint(&world).await;
    keep(&world, &event("e", "a", BEGINNING)).await;
    let path = |n, event: &str| format!("{}/resend", delivery_path(n, event));
    let asked = async |world: &World, path: String| {
        let (code, answer) = world.post(&path, "").await;
        (code, answer["detail"].as_str().unwrap_or_default().to_owned())
    };
    let unknown_event = asked(&world, path(1, "unknown")).await;
    assert_eq!((unknown_event.0, asked(&world, path(2, "e")).await), (404, unknown_event.clone()));

    let erased = KeptEvent::of(&event("erased", "a", BEGINNING)).unwrap().erased(BEGINNING);
    world.history.write(vec![erased.row(LIFE).unwrap()]).await;
    let (code, why) = asked(&world, path(1, "erased")).await;
    assert!(code == 409 && why.contains("erased"), "{code} {why}");

    // The mark of an erased event counts before the table has followed.
    let redis = client(&world);
    marks::erase(&event_record_id(TENANT, "e")).run(&redis).await.unwrap();
    let (code, why) = asked(&world, path(1, "e")).await;
    assert!(code == 409 && why.contains("erased"), "{code} {why}");
    let (code, shown) = world.get(&format!("{}/e", events_path())).await;
    assert_eq!((code, shown.get("payload"), shown["erased_at"].is_string()), (200, None, true), "{shown}");

    keep(&world, &event("kept", "a", BEGINNING)).await;
    world.registry.be_away(true);
    assert_eq!(asked(&world, path(1, "kept")).await.0, 503);
    world.registry.be_away(false);
    world.history.be_away(true);
    assert_eq!(asked(&world, path(1, "kept")).await.0, 503);
    world.history.be_away(false);
    world.queues.breaks(Some(QueueName::Retry));
    assert_eq!(asked(&world, path(1, "kept")).await.0, 503);
    world.queues.breaks(None);
    assert_eq!(world.registry.delete(&card, BEGINNING).await.unwrap(), Written::Done);
    assert_eq!(asked(&world, path(1, "kept")).await, unknown_event);
    world.redis.stop();
    assert_eq!(asked(&world, path(1, "kept")).await, unknown_event);

    let without = World::with(&[("HISTORY_DAYS", "0")]).await;
    endpoint(&without).await;
    keep(&without, &event("e", "a", BEGINNING)).await;
    let (code, why) = asked(&without, path(1, "e")).await;
    assert!(code == 409 && why.contains("HistoryDays"), "{code} {why}");
    assert_eq!(events(&without, "").await, Vec::<String>::new());
    assert_eq!(deliveries(&without, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn history_tells_of_events_that_redis_forgot() {
    let mut world = World::new().await;
    let path = format!("{}/e", events_path());
    world.event("e", "order.paid", r#"{ "n": 1.0 }"#).await;
    world.settle().await;
    let (_, both) = world.get(&path).await;
    assert_eq!((&both["status"], both["payload"].to_string()), (&json!("fanned_out"), r#"{"n":1.0}"#.into()));

    world.history.be_away(true);
    let (code, alone) = world.get(&path).await;
    assert_eq!((code, &alone["status"], alone.get("payload")), (200, &json!("fanned_out"), None), "Redis alone");
    assert_eq!(world.get(&format!("{path}2")).await.0, 503, "nobody can say that there is none");
    world.history.be_away(false);

    forget(&world);
    let (code, past) = world.get(&path).await;
    assert_eq!((code, past.get("status"), past["payload"].to_string()), (200, None, r#"{"n":1.0}"#.into()));
    assert_eq!(past["accepted_at"], BEGINNING.to_string());
    world.redis.stop();
    assert_eq!(world.get(&path).await, (200, past), "history alone");
    assert_eq!(world.get(&format!("{path}2")).await.0, 503);
}

#[tokio::test]
async fn a_payload_is_shown_byte_for_byte() {
    let world = World::new().await;
    let long = br#"{ "big": 12345678901234567890123, "e": 1.0e5, "a":"\u0041" }"#;
    keep(&world, &Event { payload: Bytes::from_static(long), ..event("e", "a", BEGINNING) }).await;
    let mut request = lambda_http::Request::new(Body::Empty);
    *request.uri_mut() = format!("http://api{}/e", events_path()).parse().unwrap();
    let (_, text) = world.send_for_text(request).await;
    assert!(text.contains(std::str::from_utf8(long).unwrap()), "{text}");
}

#[tokio::test]
async fn every_life_of_a_delivery_is_shown_with_every_attempt() {
    let mut world = World::new().await;
    let path = delivery_path(1, "e");
    let first = failed(end(1, "e", BEGINNING), Reason::RetriesExhausted);
    let redriven = EndedDelivery { hop: 3, ended_at: Millis(first.ended_at.0 + 10), ..end(1, "e", BEGINNING) };
    let again = EndedDelivery { ended_at: Millis(first.ended_at.0 + 20), ..in_life(end(1, "e", BEGINNING), "r1") };
    // Ids that are alike.
    write(&world, &[end(2, "e", BEGINNING), end(1, "e2", BEGINNING)]).await;
    assert_eq!(world.get(&path).await.0, 404);
    write(&world, &[again, redriven, first]).await;
    let before = world.history.calls().1;
    let (code, shown) = world.get(&path).await;
    assert_eq!((code, world.history.calls().1 - before), (200, 1));
    let lives: Vec<(&Value, &Value, &Value)> =
        shown["lives"].as_array().unwrap().iter().map(|one| (&one["life"], &one["result"], &one["hop"])).collect();
    let (delivered, spent) = (json!("delivered"), json!("retries_exhausted"));
    let (none, r1, zero, three) = (json!(null), json!("r1"), json!(0), json!(3));
    assert_eq!(lives, [(&none, &spent, &zero), (&none, &delivered, &three), (&r1, &delivered, &zero)]);
    assert_eq!(shown["lives"][0]["attempts"].as_array().unwrap().len(), 2);
    assert_eq!((&shown["status"], &shown["attempt_count"]), (&delivered, &json!(1)), "delivered outranks");
    world.redis.stop();
    assert_eq!(world.get(&path).await, (200, shown), "history alone");
    world.history.be_away(true);
    assert_eq!(world.get(&path).await.0, 503);
}

#[tokio::test]
async fn what_redis_and_history_both_know_is_one_life() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "e");
    world.receiver.answer([500u16, 200]);
    world.step(QueueName::Delivery).await;
    let (_, shown) = world.get(&delivery_path(1, "e")).await;
    let life = &shown["lives"][0];
    assert_eq!((&life["status"], &life["attempt_count"]), (&json!("retrying"), &json!(1)));
    assert_eq!((life.get("result"), &life["next_attempt_at"]), (None, &shown["next_attempt_at"]));
    world.settle().await;
    world.history.be_away(true);
    let (_, alone) = world.get(&delivery_path(1, "e")).await;
    assert_eq!((&alone["lives"][0]["status"], alone["lives"][0].get("result")), (&json!("delivered"), None));
    world.history.be_away(false);
    let (_, both) = world.get(&delivery_path(1, "e")).await;
    assert_eq!(both["lives"].as_array().unwrap().len(), 1);
    assert_eq!((&both["lives"][0]["result"], &both["status"]), (&json!("delivered"), &json!("delivered")));
}

#[tokio::test]
async fn history_tells_how_direct_webhooks_ended() {
    let mut world = World::new().await;
    world.enqueue("a", "1").await;
    world.settle().await;
    let (_, recorded) = get(&world, "/webhook-statuses/a").await;
    let delivery = Delivery {
        id: "a".into(),
        url: world.receiver.url("/hook"),
        correlation_id: "c".into(),
        accepted_at: BEGINNING,
        ..Delivery::default()
    };
    let ended = |accepted_at, hop, result, codes: &[u16]| {
        let delivery = Delivery { accepted_at, ..delivery.clone() };
        let message = Message { delivery, hop, ..Message::default() };
        EndedDelivery::of(&message, 2, history(codes, BEGINNING), result, None, Millis(BEGINNING.0 + 9)).unwrap()
    };
    let spent = DeliveryEnd::GivenUp(Reason::RetriesExhausted);
    write(&world, &[ended(BEGINNING, 1, DeliveryEnd::Delivered, &[500, 200]), ended(BEGINNING, 2, spent, &[500])])
        .await;
    assert_eq!(get(&world, "/webhook-statuses/a").await.1, recorded, "Redis first");
    forget(&world);
    let (code, past) = world.get("/webhook-statuses/a").await;
    assert_eq!((code, &past["status"], &past["from_history"]), (200, &json!("delivered"), &json!(true)), "{past}");
    assert_eq!((&past["webhook_url"], &past["last_status_code"]), (&recorded["webhook_url"], &json!(200)));
    assert_eq!((past["history"].as_array().unwrap().len(), &past["history_count"]), (2, &json!(2)));
    // The id was used again.
    write(&world, &[ended(Millis(BEGINNING.0 + 5), 0, DeliveryEnd::GivenUp(Reason::Gone), &[410])]).await;
    let (_, newer) = world.get("/webhook-statuses/a").await;
    assert_eq!((&newer["status"], &newer["reason"]), (&json!("failed"), &json!("gone")));
    assert_eq!(world.get("/webhook-statuses/b").await.0, 404);
    world.redis.stop();
    assert_eq!(world.get("/webhook-statuses/a").await.1, newer);
    assert_eq!(world.get("/webhook-statuses/b").await.0, 503);
}

/// Redis loses everything.
fn forget(world: &World) {
    let _: () = redis::cmd("FLUSHALL").query(&mut world.redis.connect()).unwrap();
}

fn client(world: &World) -> Redis {
    Redis::open(&RedisConfig::node(world.redis.url()), Clock::fixed(world.clock.now())).unwrap()
}

/// Enters deliveries that wait, each a second after the one before.
async fn wait(world: &World, card: &Card, events: &[&str]) {
    let ids: Vec<String> = events.iter().map(|event| format!("{event}.{}", card.id)).collect();
    let changes: Vec<Change<'_>> = (1..)
        .zip(&ids)
        .map(|(n, id)| Change {
            endpoint: &card.id,
            delivery_id: id,
            next_attempt_at: Some(world.clock.now().after(Duration::from_secs(n))),
        })
        .collect();
    waiting::waits(&changes, LIFETIMES).run(&client(world)).await.unwrap();
}

#[tokio::test]
async fn what_waits_is_listed_with_its_attempts_so_far() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(500u16);
    for event in ["a", "b", "c"] {
        put(&world, &card, event);
    }
    world.step(QueueName::Delivery).await;
    wait(&world, &card, &["a", "gone", "b", "c"]).await;
    assert_eq!(deliveries(&world, "?result=waiting").await, ["a", "b", "c"]);
    assert_eq!(deliveries(&world, "?result=waiting&limit=1").await, ["a", "b", "c"]);
    assert_eq!(deliveries(&world, "").await, Vec::<String>::new());
    assert_eq!(deliveries(&world, "?result=waiting&until=2000-01-01T00:00:00Z").await, Vec::<String>::new());
    let (_, answer) = world.get(&format!("{}?result=waiting&limit=1", endpoint_path(1))).await;
    let one = &answer["deliveries"][0];
    assert_eq!((&one["status"], &one["attempt_count"]), (&json!("retrying"), &json!(1)));
    assert_eq!(one["attempts"][0]["status_code"], 500);
    world.receiver.always(200u16);
    world.settle().await;
    assert_eq!(deliveries(&world, "?result=waiting").await, Vec::<String>::new(), "readers believe the records");
}

#[tokio::test]
async fn what_happened_lately_is_shown() {
    let mut world = World::new().await;
    let (_, empty) = world.get("/deliveries/recent").await;
    assert_eq!(empty, json!({ "deliveries": [] }));
    let entry = |id: &str| {
        json!({
            "delivery_id": id,
            "result": "delivered",
            "attempts": 1,
            "ended_at": BEGINNING.to_string(),
            "correlation_id": "c",
        })
        .to_string()
    };
    let client = client(&world);
    recent::push(&[entry("a"), "broken".to_owned(), entry("b"), entry("c")]).run(&client).await.unwrap();
    let (_, answer) = world.get("/deliveries/recent?limit=2").await;
    let ids: Vec<&Value> = answer["deliveries"].as_array().unwrap().iter().map(|one| &one["delivery_id"]).collect();
    assert_eq!(ids, ["c", "b"]);

    let now = recent::minute_of(world.clock.now());
    for (minute, delivered) in [(now, 1), (now - 2, 3)] {
        recent::add(minute, "i", 1, [("delivered", delivered), ("calls", 9)]).run(&client).await.unwrap();
    }
    let (_, answer) = world.get("/metrics/recent?minutes=4").await;
    let minutes = answer["minutes"].as_array().unwrap();
    let delivered: Vec<&Value> = minutes.iter().map(|minute| &minute["delivered"]).collect();
    assert_eq!(delivered, [0, 3, 0, 1]);
    assert_eq!((&minutes[3]["at"], &minutes[3]["failed"]), (&json!("2023-11-14T22:13:00.000Z"), &json!(0)));
    assert_eq!(world.get("/metrics/recent").await.1["minutes"].as_array().unwrap().len(), 60);
    world.redis.stop();
    assert_eq!(world.get("/deliveries/recent").await.0, 503);
    assert_eq!(world.get("/metrics/recent").await.0, 503);
}

#[tokio::test]
async fn lists_wait_for_the_table() {
    let world = World::new().await;
    endpoint(&world).await;
    world.history.be_away(true);
    for path in [events_path(), format!("{}/e/deliveries", events_path()), endpoint_path(1)] {
        assert_eq!(world.get(&path).await.0, 503, "{path}");
    }
}
