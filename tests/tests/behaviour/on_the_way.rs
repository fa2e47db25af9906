//! Deliveries that were on their way when their endpoint was paused or disabled: they are owed,
//! and come when it is enabled again.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::redis::live_states;
use adapters::registry::{CardFound, Cards as _, EndpointKey};
use domain::endpoint::{Card, EndpointState, StateReason};
use domain::job::JobPage;
use domain::message::Message;
use domain::schedule::RetrySchedule;
use tests::endpoints::{TENANT, card};
use tests::receiver::Receiver;
use tests::world::World;

use crate::deliveries_to_endpoints::{change, endpoint, put, register};

/// Gives the endpoint another state, as the registry's function does: first the wake-up, then the
/// card, then Redis.
async fn becomes(world: &World, before: &Card, state: EndpointState) -> Card {
    if state == EndpointState::Enabled {
        let page = JobPage::wake_up(TENANT, &before.id, world.clock.now().after(Duration::from_secs(60)));
        world.queues.put(QueueName::Event, &page.encode().unwrap());
    }
    let card = change(world, before, |card| (card.state, card.state_since) = (state, world.clock.now())).await;
    tell(world, &card).await;
    card
}

/// Tells Redis of the card's state.
async fn tell(world: &World, card: &Card) {
    let fresh_start = card.state == EndpointState::Enabled;
    let telling = live_states::set_state(&card.id, card.version, card.state, fresh_start, Duration::from_secs(86_400));
    telling.run(world.redis_port()).await.unwrap();
}

/// The deliveries that the endpoint is owed.
fn owed(world: &World) -> Vec<Message> {
    let rows = world.history.all();
    rows.iter()
        .filter(|row| row.partition.starts_with("K#"))
        .map(|row| domain::history::owed::message(row).unwrap())
        .collect()
}

#[tokio::test]
async fn a_pause_counts_from_the_next_batch_on_although_the_card_is_known() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "before");
    world.step(QueueName::Delivery).await;
    let paused = becomes(&world, &card, EndpointState::Paused).await;
    put(&world, &card, "after");
    let before = world.redis_round_trips();
    assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    assert_eq!((world.receiver.count(), owed(&world).len()), (1, 1));
    assert_eq!(world.redis_round_trips() - before, 2);
    let shown = world.get(&format!("/tenants/{TENANT}/events/after/deliveries/{}", card.id)).await.1;
    assert_eq!(shown["lives"][0]["error"], "owed: its endpoint is paused", "{shown}");
    becomes(&world, &paused, EndpointState::Enabled).await;
    world.settle().await;
    assert_eq!((world.receiver.count(), owed(&world).len()), (2, 0));
}

#[tokio::test]
async fn what_was_retrying_is_owed_with_its_hop_and_begins_with_a_new_budget() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    card.retry_schedule = RetrySchedule::new(vec![5, 5]).unwrap();
    let card = register(&world, card).await;
    world.receiver.answer([500u16, 500]);
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    world.clock.advance(Duration::from_secs(6));
    world.step(QueueName::Retry).await;
    let paused = becomes(&world, &card, EndpointState::Paused).await;
    // Long after its deadline.
    world.clock.advance(Duration::from_secs(4 * 86_400));
    world.step(QueueName::Retry).await;
    let rows = owed(&world);
    assert_eq!((rows[0].hop, rows[0].attempts), (2, 2), "it has not expired");
    world.receiver.answer([500u16, 500]);
    becomes(&world, &paused, EndpointState::Enabled).await;
    world.settle().await;
    assert_eq!((world.receiver.count(), owed(&world).len()), (5, 0), "two before, and a whole budget");
}

#[tokio::test]
async fn while_history_is_away_what_is_owed_waits_and_nothing_is_called() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    let paused = becomes(&world, &card, EndpointState::Paused).await;
    put(&world, &card, "e");
    world.history.be_away(true);
    world.step(QueueName::Delivery).await;
    assert_eq!((world.receiver.count(), world.queues.all(QueueName::Retry).len()), (0, 1));
    world.history.be_away(false);
    world.settle().await;
    assert_eq!(owed(&world).len(), 1);
    becomes(&world, &paused, EndpointState::Enabled).await;
    world.settle().await;
    assert_eq!((world.receiver.count(), owed(&world).len()), (1, 0));
}

#[tokio::test]
async fn a_restored_card_is_overruled_for_twenty_minutes_and_not_for_ever() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    becomes(&world, &card, EndpointState::Paused).await;
    // The table is as it was before the pause.
    world.registry.overwrite(&card);
    put(&world, &card, "soon");
    world.step(QueueName::Delivery).await;
    assert_eq!((world.receiver.count(), owed(&world).len()), (0, 1));
    world.clock.advance(Duration::from_secs(20 * 60));
    put(&world, &card, "later");
    world.settle().await;
    assert_eq!((world.receiver.count(), owed(&world).len()), (2, 0), "its wake-up found it enabled");
}

/// How often the bus was told this.
fn told(world: &World, event_type: &str) -> usize {
    world.bus.told().iter().filter(|announcement| announcement.event_type == event_type).count()
}

/// An endpoint that only fails in this way, for five days.
async fn failing_for_five_days(world: &World, url: &str) -> Card {
    let mut card = card(1, url, world.clock.now());
    card.retry_schedule = RetrySchedule::new(vec![3600]).unwrap();
    let card = register(world, card).await;
    for hour in 0..=121 {
        if hour % 6 == 0 || hour > 119 {
            put(world, &card, &format!("e-{hour}"));
        }
        for queue_name in [QueueName::Delivery, QueueName::Retry, QueueName::Wait, QueueName::Slow] {
            while world.step(queue_name).await.0 > 0 {}
        }
        while world.fan_out().await.0 > 0 {}
        while world.file().await.0 > 0 {}
        world.clock.advance(Duration::from_secs(3600));
    }
    world.settle().await;
    while world.file().await.0 > 0 {}
    card
}

async fn present(world: &World, card: &Card) -> Card {
    let key = EndpointKey { tenant: card.tenant.clone(), endpoint: card.id.clone() };
    let found = world.registry.cards(&[key], true).await.unwrap();
    let CardFound::Card(card) = &found[0] else { panic!("{found:?}") };
    Card::clone(card)
}

#[tokio::test]
async fn a_404_and_a_dead_name_disable_an_endpoint_as_a_500_does() {
    for failure in ["500", "404", "nobody"] {
        let world = World::new().await;
        world.receiver.always(failure.parse::<u16>().unwrap_or(200));
        let url = match failure {
            "nobody" => format!("http://{}/", Receiver::nobody().await),
            _ => world.receiver.url("/"),
        };
        let card = failing_for_five_days(&world, &url).await;
        let card = present(&world, &card).await;
        assert_eq!((card.state, card.state_reason), (EndpointState::Disabled, Some(StateReason::Failing)), "{failure}");
        assert_eq!(told(&world, "steadhook.endpoint.disabled"), 1, "{failure}");
        put(&world, &card, "then");
        world.step(QueueName::Delivery).await;
        assert_eq!(owed(&world).iter().filter(|message| message.delivery.id.starts_with("then.")).count(), 1);
        world.leaves([QueueName::Event]);
    }
}

#[tokio::test]
async fn one_success_in_five_days_keeps_an_endpoint_enabled() {
    let world = World::new().await;
    world.receiver.always(500u16);
    world.receiver.answer(std::iter::repeat_n(500u16, 8).chain([200]));
    let card = failing_for_five_days(&world, &world.receiver.url("/")).await;
    assert_eq!(present(&world, &card).await.state, EndpointState::Enabled);
    assert_eq!(told(&world, "steadhook.endpoint.disabled"), 0);
}

#[tokio::test]
async fn a_410_disables_at_once_and_its_test_does_not() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.always(410u16);
    let mut test = tests::endpoints::message(&card, "test", "1", world.clock.now());
    test.delivery.endpoint.as_mut().unwrap().is_test = true;
    world.queues.put(QueueName::Delivery, &test.encode().unwrap());
    world.settle().await;
    assert_eq!(present(&world, &card).await.state, EndpointState::Enabled);
    put(&world, &card, "e");
    world.settle().await;
    while world.file().await.0 > 0 {}
    let card = present(&world, &card).await;
    assert_eq!((card.state, card.state_reason), (EndpointState::Disabled, Some(StateReason::Gone)));
    assert_eq!(told(&world, "steadhook.endpoint.disabled"), 1);
    assert_eq!(told(&world, "steadhook.delivery.failed"), 1);
    let shown = world.get("/dead-letters").await.1;
    assert_eq!(shown["dead_letters"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(world.receiver.count(), 2);
}

#[tokio::test]
async fn what_is_owed_does_not_count_as_failed_after_its_deadline() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    world.receiver.answer([500u16]);
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    let paused = becomes(&world, &card, EndpointState::Paused).await;
    world.clock.advance(Duration::from_secs(60));
    world.step(QueueName::Retry).await;
    let status = async || {
        let shown = world.get(&format!("/tenants/{TENANT}/events/e/deliveries/{}", card.id)).await.1;
        shown["lives"][0]["status"].as_str().unwrap_or_default().to_owned()
    };
    world.clock.advance(Duration::from_secs(4 * 86_400));
    world.daily_cleanup().await;
    assert_eq!(status().await, "retrying");
    // Its new budget has a deadline of its own, and its record knows that.
    world.receiver.answer([500u16]);
    let enabled = becomes(&world, &paused, EndpointState::Enabled).await;
    while world.receiver.count() < 2 {
        world.clock.advance(Duration::from_secs(65));
        world.fan_out().await;
        world.step(QueueName::Retry).await;
    }
    assert_eq!((owed(&world).len(), enabled.state), (0, EndpointState::Enabled));
    world.daily_cleanup().await;
    assert_eq!(status().await, "retrying");
    world.settle().await;
    assert_eq!(status().await, "delivered");
}

#[tokio::test]
async fn an_endpoint_that_was_enabled_unseen_is_not_disabled_by_its_first_failure() {
    let world = World::new().await;
    world.receiver.always(500u16);
    let card = failing_for_five_days(&world, &world.receiver.url("/")).await;
    let disabled = present(&world, &card).await;
    assert_eq!(disabled.state, EndpointState::Disabled);
    // Redis is not told, and knows of five days of failures.
    let enabled = change(&world, &disabled, |card| {
        (card.state, card.state_since, card.disabled_by) = (EndpointState::Enabled, world.clock.now(), None);
    })
    .await;
    world.clock.advance(Duration::from_secs(21 * 60));
    put(&world, &enabled, "then");
    world.settle().await;
    while world.file().await.0 > 0 {}
    assert_eq!(present(&world, &card).await.state, EndpointState::Enabled);
}
