//! Notices: an endpoint that must be disabled is disabled once, whoever says so and how often, and
//! its tenant, the stack's own tenant and a bus are told.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::registry::{CardFound, Cards as _, EndpointKey, Registry as _};
use domain::endpoint::{Card, EndpointState, StateReason};
use domain::job::{JobPage, Notice, Noticed};
use domain::names::{DELIVERY_FAILED, ENDPOINT_DISABLED, OPERATOR};
use domain::reason::Reason;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::endpoints::{TENANT, card, endpoint_id, signed_with};
use tests::world::{SECRET, World};

use crate::deliveries_to_endpoints::{change, redis_text, register};

/// Longer than the visibility timeout, and than any wait of a job.
const AWAY: Duration = Duration::from_secs(400);

/// Endpoint 1 fails, and endpoint 2 of its tenant and endpoint 3 of the stack's own are told of it.
async fn furnished() -> (World, Card) {
    let world = World::new().await;
    let now = world.clock.now();
    let failing = register(&world, card(1, &world.receiver.url("/1"), now)).await;
    for (n, tenant) in [(2, TENANT), (3, OPERATOR)] {
        let mut told = card(n, &world.receiver.url(&format!("/{n}")), now);
        (told.tenant, told.event_types) = (tenant.to_owned(), vec!["steadhook.*".to_owned()]);
        register(&world, signed_with(told, &[("s1", SECRET, None)], now)).await;
    }
    (world, failing)
}

fn must_disable(card: &Card, failures: u64) -> JobPage {
    let (reason, failing_since) = (StateReason::Failing, card.state_since.after(Duration::from_millis(failures)));
    let what = Noticed::MustDisable { reason, version: card.version, failing_since, failures };
    JobPage::notice(TENANT, Notice { endpoint: card.id.clone(), what }, Millis(1_700_000_000_000 + failures))
}

fn delivery_failed(event_type: &str, now: Millis) -> JobPage {
    let what = Noticed::DeliveryFailed {
        delivery_id: format!("order-1.{}", endpoint_id(1)),
        event_id: "order-1".into(),
        event_type: Some(event_type.into()),
        reason: Reason::RetriesExhausted,
        error: "the receiver answered 500".into(),
    };
    JobPage::notice(TENANT, Notice { endpoint: endpoint_id(1), what }, now)
}

fn put(world: &World, page: &JobPage) {
    world.queues.put(QueueName::Event, &page.encode().unwrap());
}

/// What each path got, with the event that it was of.
fn told(world: &World) -> BTreeMap<String, Vec<Value>> {
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for arrival in world.receiver.arrivals() {
        told.entry(arrival.path.clone()).or_default().push(serde_json::from_slice(&arrival.body).unwrap());
    }
    told
}

/// How often each path was told.
fn counts(world: &World) -> Vec<(String, usize)> {
    told(world).into_iter().map(|(path, told)| (path, told.len())).collect()
}

async fn present(world: &World, card: &Card) -> Card {
    let key = EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() };
    match &world.registry.cards(&[key], true).await.unwrap()[..] {
        [CardFound::Card(card)] => Card::clone(card),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn twenty_notices_of_one_version_disable_once_and_tell_once() {
    let (world, failing) = furnished().await;
    for failures in 0..20 {
        put(&world, &must_disable(&failing, 100 + failures));
    }
    world.fan_out().await;
    world.clock.advance(AWAY);
    world.settle().await;
    let card = present(&world, &failing).await;
    assert_eq!((card.state, card.state_reason, card.version), (EndpointState::Disabled, Some(StateReason::Failing), 2));
    assert_eq!(card.disabled_by, Some(must_disable(&failing, 0).id));
    assert_eq!(counts(&world), [("/2".to_owned(), 1), ("/3".to_owned(), 1)]);
    let told = told(&world);
    assert_eq!(told["/2"], told["/3"]);
    let said = &told["/2"][0];
    let expected = json!({
        "tenant": "acme",
        "endpoint_id": failing.id,
        "reason": "failing",
        "version": 1,
        "failing_since": card.state_since.after(Duration::from_millis(said["failures"].as_u64().unwrap())).to_string(),
        "failures": said["failures"],
        "time": card.state_since.to_string(),
    });
    assert_eq!(said, &expected);
    let bus = world.bus.told();
    let [on_bus] = &bus[..] else { panic!("{bus:?}") };
    assert_eq!((on_bus.event_type.as_str(), on_bus.at), (ENDPOINT_DISABLED, card.state_since));
    assert_eq!(&serde_json::from_str::<Value>(&on_bus.payload).unwrap(), said);
    let state = redis_text(&world);
    assert!(state.contains(&format!("endpoint_state:{}", failing.id)), "{state}");
}

#[tokio::test]
async fn what_comes_for_a_disabled_endpoint_is_owed() {
    let (world, failing) = furnished().await;
    put(&world, &must_disable(&failing, 10));
    world.settle().await;
    world.event("e", "order.paid", "1").await;
    world.settle().await;
    assert!(!told(&world).contains_key("/1"));
    let owed = world.history.all().into_iter().filter(|row| row.partition.starts_with("K#")).count();
    assert_eq!(owed, 1);
}

#[tokio::test]
async fn an_outdated_notice_changes_nothing_and_tells_nobody() {
    let (world, failing) = furnished().await;
    let newer = change(&world, &failing, |card| card.url.push_str("/mended")).await;
    put(&world, &must_disable(&failing, 10));
    world.settle().await;
    assert_eq!(present(&world, &failing).await, newer);
    // Somebody pauses it, and somebody changes it in that moment.
    let paused = change(&world, &newer, |card| card.state = EndpointState::Paused).await;
    put(&world, &must_disable(&paused, 10));
    world.settle().await;
    assert_eq!(present(&world, &failing).await, paused);
    let enabled = change(&world, &paused, |card| card.state = EndpointState::Enabled).await;
    world.registry.overtake(1);
    put(&world, &must_disable(&enabled, 10));
    world.settle().await;
    assert_eq!(present(&world, &failing).await.state, EndpointState::Enabled);
    assert!(world.registry.delete(&present(&world, &failing).await, world.clock.now()).await.is_ok());
    put(&world, &must_disable(&enabled, 10));
    world.settle().await;
    assert_eq!((counts(&world), world.bus.told()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_notice_that_comes_again_after_a_crash_tells_what_nobody_told() {
    let (world, failing) = furnished().await;
    put(&world, &must_disable(&failing, 10));
    // The card is written, and neither events nor a successor are queued.
    world.queues.breaks(Some(QueueName::Event));
    world.fan_out().await;
    world.queues.breaks(None);
    assert_eq!((present(&world, &failing).await.state, world.bus.told().len()), (EndpointState::Disabled, 0));
    world.clock.advance(AWAY);
    world.bus.be_away(true);
    world.fan_out().await;
    world.bus.be_away(false);
    world.settle().await;
    assert_eq!((counts(&world), world.bus.told().len()), (vec![("/2".into(), 1), ("/3".into(), 1)], 1));
    // Even if nothing remembers the notice.
    redis::cmd("DEL")
        .arg(format!("work:notice:{}", must_disable(&failing, 0).id))
        .exec(&mut world.redis.connect())
        .unwrap();
    put(&world, &must_disable(&failing, 11));
    world.settle().await;
    assert_eq!(counts(&world), [("/2".to_owned(), 1), ("/3".to_owned(), 1)], "they are known");
    assert_eq!(present(&world, &failing).await.version, 2);
}

#[tokio::test]
async fn a_notice_waits_for_the_registry() {
    let (world, failing) = furnished().await;
    put(&world, &must_disable(&failing, 10));
    world.registry.be_away(true);
    world.fan_out().await;
    world.registry.be_away(false);
    world.settle().await;
    assert_eq!(present(&world, &failing).await.state, EndpointState::Disabled);
    assert_eq!(world.bus.told().len(), 1);
}

#[tokio::test]
async fn failed_deliveries_of_one_minute_are_told_once() {
    let (world, _) = furnished().await;
    let now = world.clock.now();
    let minute = Millis(now.0 - now.0 % 60_000);
    for later in [0, 10, 59] {
        put(&world, &delivery_failed("order.paid", minute.after(Duration::from_secs(later))));
        world.fan_out().await;
    }
    put(&world, &delivery_failed("order.paid", minute.after(Duration::from_secs(60))));
    world.settle().await;
    assert_eq!(counts(&world), [("/2".to_owned(), 2), ("/3".to_owned(), 2)]);
    let expected = json!({
        "tenant": "acme",
        "endpoint_id": endpoint_id(1),
        "delivery_id": format!("order-1.{}", endpoint_id(1)),
        "event_id": "order-1",
        "event_type": "order.paid",
        "reason": "retries_exhausted",
        "error": "the receiver answered 500",
        "time": minute.to_string(),
    });
    assert!(told(&world)["/2"].contains(&expected), "{:?}", told(&world)["/2"]);
    assert!(world.bus.told().iter().all(|told| told.event_type == DELIVERY_FAILED));
    assert_eq!(world.bus.told().len(), 2);
}

#[tokio::test]
async fn two_reporters_without_redis_are_one_event() {
    let (mut world, failing) = furnished().await;
    world.redis.stop();
    for failures in 10..13 {
        put(&world, &must_disable(&failing, failures));
    }
    world.fan_out().await;
    world.redis.resume();
    world.settle().await;
    assert_eq!(counts(&world), [("/2".to_owned(), 1), ("/3".to_owned(), 1)]);
    assert_eq!(world.store.all().len(), 0, "and none is another body");
}

#[tokio::test]
async fn what_is_told_of_is_never_told_of() {
    let (world, _) = furnished().await;
    // Both that are told fail as well, and ask for failures.
    for event_type in [DELIVERY_FAILED, ENDPOINT_DISABLED] {
        put(&world, &delivery_failed(event_type, world.clock.now()));
    }
    world.settle().await;
    assert_eq!((counts(&world), world.bus.told()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn two_endpoints_that_fail_and_ask_for_failures_do_not_multiply_events() {
    let (world, _) = furnished().await;
    world.receiver.always(500u16);
    put(&world, &delivery_failed("order.paid", world.clock.now()));
    world.settle().await;
    let events = world.history.all().into_iter().filter(|row| row.partition.starts_with("V#")).count();
    assert_eq!((events, world.bus.told().len()), (2, 1), "one to the tenant and one to the stack's own");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn the_stacks_own_endpoints_are_told_of_once() {
    let (world, _) = furnished().await;
    let page = delivery_failed("order.paid", world.clock.now());
    put(&world, &JobPage { tenant: OPERATOR.into(), ..page });
    world.settle().await;
    assert_eq!((counts(&world), world.bus.told().len()), (vec![("/3".to_owned(), 1)], 1));
}

#[tokio::test]
async fn a_tenant_that_is_being_erased_is_told_nothing() {
    let (world, failing) = furnished().await;
    let now = world.clock.now();
    world.registry.begin_erasing(TENANT, now).await.unwrap();
    put(&world, &must_disable(&failing, 10));
    put(&world, &delivery_failed("order.paid", now));
    world.settle().await;
    world.registry.end_erasing(TENANT, now).await.unwrap();
    put(&world, &delivery_failed("order.paid", now));
    world.settle().await;
    assert_eq!((counts(&world), world.bus.told()), (Vec::new(), Vec::new()));
}
