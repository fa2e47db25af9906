//! Cards of endpoints in `deliver`: what is read and kept, and what waits without a card.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adapters::aws::sqs::QueueName;
use adapters::registry::{CardFound, Cards, EndpointKey, RegistryError};
use async_trait::async_trait;
use domain::endpoint::{Card, CardHeader};
use domain::reason::Reason;
use domain::seal::MasterKeys;
use domain::time::Millis;
use serde_json::json;
use tests::endpoints::{TENANT, card, message};
use tests::world::{SECRET, World};

use crate::deliveries_to_endpoints::{delivery, endpoint, put, register};

#[tokio::test]
async fn a_missing_card_is_waited_for_until_the_deadline() {
    let world = World::new().await;
    let card = card(1, &world.receiver.url("/"), world.clock.now());
    put(&world, &card, "found");
    for _ in 0..4 {
        world.step(QueueName::Delivery).await;
        world.step(QueueName::Retry).await;
        world.clock.advance(Duration::from_secs(400));
    }
    let shown = delivery(&world, &card, "found").await;
    assert_eq!((&shown["status"], &shown["attempt_count"]), (&json!("pending"), &json!(0)));
    assert_eq!(shown["error"], "waiting: the registry does not know its endpoint");
    world.registry.overwrite(&card);
    world.settle().await;
    let shown = delivery(&world, &card, "found").await;
    assert_eq!((&shown["status"], &shown["attempt_count"]), (&json!("delivered"), &json!(1)));

    world.registry.lose(TENANT, &card.id);
    world.clock.advance(Duration::from_secs(60));
    let mut late = message(&card, "late", "1", world.clock.now());
    late.delivery.deadline = world.clock.now().after(Duration::from_secs(1000));
    world.queues.put(QueueName::Delivery, &late.encode().unwrap());
    world.settle().await;
    assert_eq!(world.file().await, (1, 0));
    assert_eq!(world.store.all().into_values().next().unwrap().reason, Some(Reason::Expired));
    assert_eq!(world.receiver.count(), 1);
}

#[tokio::test]
async fn a_registry_that_is_away_for_a_minute_costs_no_delivery_and_no_attempt() {
    let world = World::new().await;
    let cards: Vec<Card> = (0..5).map(|n| card(n, &world.receiver.url("/"), world.clock.now())).collect();
    for card in &cards {
        register(&world, card.clone()).await;
    }
    let send = |range: std::ops::Range<usize>| range.for_each(|n| put(&world, &cards[n % 5], &format!("e-{n}")));
    send(0..100);
    for _ in 0..10 {
        world.step(QueueName::Delivery).await;
    }
    assert_eq!(world.receiver.count(), 100);
    world.registry.be_away(true);
    // Cards that are a minute old serve; those of a process that has just started cannot.
    send(100..200);
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(6));
        world.step(QueueName::Delivery).await;
    }
    assert_eq!(world.receiver.count(), 200);
    let mut world = world;
    world.configure(&[]);
    let send = |range: std::ops::Range<usize>| range.for_each(|n| put(&world, &cards[n % 5], &format!("e-{n}")));
    send(200..500);
    for _ in 0..30 {
        world.step(QueueName::Delivery).await;
    }
    assert_eq!(world.receiver.count(), 200, "nobody knows where to");
    world.registry.be_away(false);
    world.settle().await;
    assert_eq!(world.receiver.count(), 500);
    for n in 0..500 {
        let shown = delivery(&world, &cards[n % 5], &format!("e-{n}")).await;
        assert_eq!((&shown["status"], &shown["attempt_count"]), (&json!("delivered"), &json!(1)), "{n}");
    }
}

#[tokio::test]
async fn cards_that_are_old_serve_for_a_quarter_of_an_hour() {
    let world = World::new().await;
    let card = endpoint(&world).await;
    put(&world, &card, "warm");
    world.step(QueueName::Delivery).await;
    world.registry.be_away(true);
    for (wait, calls) in [(14 * 60, 2), (2 * 60, 2)] {
        world.clock.advance(Duration::from_secs(wait));
        put(&world, &card, &format!("after-{wait}"));
        world.step(QueueName::Delivery).await;
        assert_eq!(world.receiver.count(), calls);
    }
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_batch_takes_two_round_trips_and_one_read_of_cards_and_none_when_warm() {
    let world = World::new().await;
    let mut cards = Vec::new();
    for n in 0..10 {
        cards.push(register(&world, card(n, &world.receiver.url("/"), world.clock.now())).await);
    }
    for reads in [1, 0] {
        cards.iter().for_each(|card| put(&world, card, &format!("e-{reads}")));
        let before = (world.redis_round_trips(), world.registry.reads());
        assert_eq!(world.step(QueueName::Delivery).await, (10, 0));
        assert_eq!((world.redis_round_trips() - before.0, world.registry.reads() - before.1), (2, reads));
    }
    world.clock.advance(Duration::from_secs(31));
    let before = world.registry.reads();
    put(&world, &cards[0], "e-2");
    world.step(QueueName::Delivery).await;
    assert_eq!(world.registry.reads() - before, 1, "a card is half a minute old at most");
}

#[tokio::test]
async fn a_sealed_value_that_was_moved_or_changed_makes_its_deliveries_wait() {
    let now = Millis(1_700_000_000_000);
    let good = |n: usize, url: &str| card(n, url, now);
    type Change = fn(&mut Card, &Card);
    let changes: [(&str, Change); 4] = [
        ("another endpoint's", |card, other| card.secrets = other.secrets.clone()),
        ("another field's", |card, _| {
            let sealed = card.secrets[0].sealed.clone();
            card.headers.insert("authorization".into(), CardHeader::Sealed(sealed));
        }),
        ("a later expiry", |card, _| card.secrets[0].expires_at = Some(Millis(u64::MAX))),
        ("a changed byte", |card, _| {
            let text = serde_json::to_string(&card.secrets[0].sealed).unwrap();
            let changed = if text.ends_with("A=\"") { "B=\"" } else { "A=\"" };
            let text = format!("{}{changed}", &text[..text.len() - changed.len()]);
            card.secrets[0].sealed = serde_json::from_str(&text).unwrap();
        }),
    ];
    for (what, change) in changes {
        let world = World::new().await;
        let mut changed = good(1, &world.receiver.url("/"));
        change(&mut changed, &good(2, &world.receiver.url("/")));
        world.registry.overwrite(&changed);
        put(&world, &changed, "e");
        world.step(QueueName::Delivery).await;
        assert_eq!(world.receiver.count(), 0, "{what}");
        let shown = delivery(&world, &changed, "e").await;
        assert_eq!(shown["error"], "waiting: the secrets of its endpoint cannot be opened", "{what}");
        assert_eq!((&shown["status"], &shown["attempt_count"]), (&json!("pending"), &json!(0)));
        world.registry.overwrite(&good(1, &world.receiver.url("/")));
        world.clock.advance(Duration::from_secs(60));
        world.settle().await;
        assert_eq!(delivery(&world, &changed, "e").await["status"], "delivered", "{what}");
    }
}

#[tokio::test]
async fn a_card_in_a_place_that_is_not_its_own_makes_nobody_else_wait() {
    let world = World::new().await;
    let good = endpoint(&world).await;
    let other = Card { tenant: "other".into(), ..card(2, &world.receiver.url("/stolen"), world.clock.now()) };
    for wrong in [&good, &Card { tenant: "other".into(), ..good.clone() }] {
        world.registry.misplace(wrong, &other.tenant, &other.id);
        put(&world, &other, "bad");
        put(&world, &good, "good");
        world.clock.advance(Duration::from_secs(31));
        world.step(QueueName::Delivery).await;
        assert_eq!(delivery(&world, &good, "good").await["status"], "delivered");
        let shown = delivery(&world, &other, "bad").await;
        assert_eq!(shown["error"], "waiting: the card of its endpoint cannot be read");
    }
    assert!(world.receiver.arrivals().iter().all(|arrival| arrival.path == "/hook"));
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_registry_that_is_silent_holds_up_one_batch_and_then_none() {
    struct Silent(AtomicUsize);

    #[async_trait]
    impl Cards for Silent {
        async fn cards(&self, _: &[EndpointKey], _: bool) -> Result<Vec<CardFound>, RegistryError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }
    }
    let mut world = World::new().await;
    let silent = Arc::new(Silent(AtomicUsize::new(0)));
    world.read_cards_from(silent.clone());
    let card = card(1, &world.receiver.url("/"), world.clock.now());
    for n in 0..5 {
        put(&world, &card, &format!("e-{n}"));
        world.enqueue(&format!("direct-{n}"), "1").await;
        assert_eq!(world.step(QueueName::Delivery).await, (2, 0));
    }
    assert_eq!((silent.0.load(Ordering::SeqCst), world.receiver.count()), (1, 5));
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_card_under_an_unknown_master_key_makes_its_deliveries_wait() {
    let world = World::new().await;
    let mut card = card(1, &world.receiver.url("/"), world.clock.now());
    let newer = MasterKeys::parse("//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=").unwrap();
    let sealed = newer.seal(card.secret_place("s1", None), [1; 12], SECRET.as_bytes()).unwrap();
    card.secrets[0].sealed = sealed;
    let card = register(&world, card).await;
    put(&world, &card, "e");
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.count(), 0);
    world.leaves([QueueName::Retry]);
}
