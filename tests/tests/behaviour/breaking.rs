//! What circuit breakers promise to receivers in trouble, to the deliveries that wait for
//! them, and to operators.

use std::time::Duration;

use adapters::aws::sqs::QueueName;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::receiver::Reply;
use tests::world::World;

/// Opens the breaker of the world's receiver with five deliveries that fail.
async fn tripped(world: &World) {
    world.receiver.answer([500u16; 5]);
    for n in 0..5 {
        world.enqueue(&format!("trip-{n}"), "1").await;
    }
    assert_eq!(world.step(QueueName::Delivery).await, (5, 0));
    assert_eq!(breaker(world).await["state"], "open");
}

async fn breaker(world: &World) -> Value {
    let (code, answer) = world.get("/circuit-breakers").await;
    assert_eq!(code, 200, "{answer}");
    let all = answer["circuit_breakers"].as_array().unwrap();
    all.iter().find(|one| one["destination"] == json!(world.receiver.origin())).cloned().unwrap_or(Value::Null)
}

fn next_attempt(status: &Value) -> Millis {
    Millis::parse_rfc3339(status["next_attempt_at"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn five_failures_open_it_for_sixty_seconds() {
    let world = World::new().await;
    tripped(&world).await;
    let open = breaker(&world).await;
    assert_eq!(open["failures"], 5);
    let retry_at = Millis::parse_rfc3339(open["retry_at"].as_str().unwrap()).unwrap();
    assert_eq!(world.clock.now().until(retry_at), Duration::from_secs(60));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(breaker(&world).await["state"], "half_open", "with or without traffic");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn an_open_breaker_spends_nothing_and_says_when_it_goes_on() {
    let world = World::new().await;
    tripped(&world).await;
    for id in ["first", "second"] {
        world.enqueue(id, "1").await;
        assert_eq!(world.step(QueueName::Delivery).await, (1, 0));
    }
    assert_eq!(world.receiver.arrivals().len(), 5, "the receiver is not called");
    let (first, second) = (world.status("first").await, world.status("second").await);
    assert_eq!((&first["status"], &first["attempts"]), (&json!("pending"), &json!(0)));
    assert!(first["error"].as_str().unwrap().contains("circuit breaker"));
    let wait = |status: &Value| world.clock.now().until(next_attempt(status)).as_secs_f64();
    assert!((59.0..=60.0).contains(&wait(&first)), "the first in line waits exactly: {}", wait(&first));
    assert!((61.0..=90.0).contains(&wait(&second)), "the others a little longer: {}", wait(&second));
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_probe_that_succeeds_closes_it_and_everything_arrives() {
    let world = World::new().await;
    tripped(&world).await;
    for n in 0..20 {
        world.enqueue(&format!("w-{n}"), "1").await;
    }
    world.settle().await;
    assert_eq!(breaker(&world).await["state"], "closed");
    for n in 0..20 {
        let status = world.status(&format!("w-{n}")).await;
        assert_eq!((&status["status"], &status["attempts"]), (&json!("delivered"), &json!(1)), "{n}");
    }
    assert_eq!(world.receiver.arrivals().len(), 5 + 5 + 20);
}

#[tokio::test]
async fn half_open_lets_one_of_a_batch_through() {
    let world = World::new().await;
    tripped(&world).await;
    world.clock.advance(Duration::from_secs(60));
    for n in 0..9 {
        world.enqueue(&format!("w-{n}"), "1").await;
    }
    let (trips, before) = (world.redis_round_trips(), world.receiver.arrivals().len());
    assert_eq!(world.step(QueueName::Delivery).await, (9, 0));
    assert_eq!(world.receiver.arrivals().len() - before, 1);
    assert_eq!(world.redis_round_trips() - trips, 3, "claim, admit, settle");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_failed_probe_doubles_the_time_and_only_the_first_is_free() {
    let world = World::new().await;
    tripped(&world).await;
    world.receiver.answer([500u16, 429, 500]);
    world.enqueue("probe", "1").await;
    for (seconds, attempts) in [(120, 0), (240, 1), (480, 2)] {
        // Only this delivery is sent, so that it is the probe every time.
        let before = world.receiver.arrivals().len();
        for _ in 0..100 {
            world.step(QueueName::Delivery).await;
            if world.receiver.arrivals().len() > before {
                break;
            }
            world.step_only("probe").await;
            world.clock.advance(Duration::from_secs(5));
        }
        let open = breaker(&world).await;
        let time = |name: &str| Millis::parse_rfc3339(open[name].as_str().unwrap()).unwrap();
        assert_eq!(time("opened_at").until(time("retry_at")).as_secs(), seconds);
        let status = world.status("probe").await;
        let shown = if attempts == 0 { "pending" } else { "retrying" };
        assert_eq!((&status["status"], &status["attempts"]), (&json!(shown), &json!(attempts)));
    }
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_full_redis_does_not_open_an_open_breaker() {
    let world = World::new().await;
    tripped(&world).await;
    let limit = |bytes: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut world.redis.connect()).unwrap();
    };
    limit("1");
    for n in 0..3 {
        world.enqueue(&format!("w-{n}"), "1").await;
    }
    world.step(QueueName::Delivery).await;
    limit("0");
    assert_eq!(world.receiver.arrivals().len(), 5, "the receiver is not called");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_path_with_a_breaker_of_its_own_does_not_hold_up_the_others() {
    let mut world = World::new().await;
    let bad = world.receiver.url("/bad");
    let overrides = json!({ bad.clone(): { "failure_threshold": 2 } }).to_string();
    world.configure(&[("BREAKER_OVERRIDES", &overrides)]);
    world.receiver.answer([500u16; 2]);
    for n in 0..2 {
        let body = json!({ "webhook_url": format!("{bad}/{n}"), "payload": 1 }).to_string();
        assert_eq!(world.post("/webhooks", body).await.0, 202);
    }
    world.step(QueueName::Delivery).await;
    let (_, listed) = world.get("/circuit-breakers?state=open").await;
    assert_eq!(listed["circuit_breakers"][0]["destination"], json!(bad));
    world.enqueue("good", "1").await;
    world.step(QueueName::Delivery).await;
    assert_eq!(world.status("good").await["status"], "delivered");
    let (_, closed) = world.operate("/circuit-breakers/reset", json!({ "destination": bad })).await;
    assert_eq!((&closed["destination"], &closed["state"]), (&json!(bad), &json!("closed")));
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn four_hundreds_and_throttling_never_open_it() {
    for code in [404u16, 410, 429, 408, 302] {
        let world = World::new().await;
        world.receiver.always(code);
        for n in 0..10 {
            world.enqueue(&format!("w-{n}"), "1").await;
        }
        world.step(QueueName::Delivery).await;
        assert_eq!(breaker(&world).await, Value::Null, "{code}");
        world.leaves([if matches!(code, 429 | 408) { QueueName::Retry } else { QueueName::DeadLetter }]);
    }
}

#[tokio::test]
async fn a_parked_delivery_expires_at_its_deadline() {
    let world = World::new().await;
    tripped(&world).await;
    let expires_at = world.clock.now().after(Duration::from_secs(30));
    let body = json!({ "webhook_url": world.receiver.url("/"), "payload": 1, "reference_id": "late", "expires_at": expires_at.to_string() });
    world.post("/webhooks", body.to_string()).await;
    world.step(QueueName::Delivery).await;
    assert_eq!(next_attempt(&world.status("late").await), expires_at);
    world.settle().await;
    let dead = world.queues.all(QueueName::DeadLetter);
    assert!(dead.iter().any(|message| message.body.contains("\"id\":\"late\"")
        && message.attributes.contains(&("ERROR_CODE", "expired".to_owned()))));
    assert_eq!(world.status("late").await["status"], "failed");
    world.leaves([QueueName::DeadLetter]);
}

#[tokio::test]
async fn one_destination_in_trouble_costs_the_others_nothing() {
    let world = World::new().await;
    tripped(&world).await;
    let other = tests::receiver::Receiver::start().await;
    let body = json!({ "webhook_url": other.url("/"), "payload": 1, "reference_id": "other" });
    world.post("/webhooks", body.to_string()).await;
    world.enqueue("waits", "1").await;
    assert_eq!(world.step(QueueName::Delivery).await, (2, 0));
    assert_eq!(other.arrivals().len(), 1);
    assert_eq!(world.status("waits").await["status"], "pending");
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn without_redis_it_reads_as_closed_and_works_again_later() {
    let mut world = World::new().await;
    tripped(&world).await;
    world.redis.stop();
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    assert_eq!(world.receiver.arrivals().len(), 6, "deliveries go on");
    world.redis.resume();
    world.settle().await;
    assert_eq!(world.status("a").await["status"], "delivered");
    tripped_again(&world).await;
    world.leaves([QueueName::Retry]);
}

async fn tripped_again(world: &World) {
    world.receiver.answer([500u16; 5]);
    for n in 0..5 {
        world.enqueue(&format!("again-{n}"), "1").await;
    }
    world.step(QueueName::Delivery).await;
    assert_eq!(breaker(world).await["state"], "open");
}

#[tokio::test]
async fn an_operator_can_close_it_by_hand() {
    let world = World::new().await;
    tripped(&world).await;
    let origin = world.receiver.origin();
    let (code, answer) =
        world.operate("/circuit-breakers/reset", json!({ "destination": format!("{origin}/any") })).await;
    assert_eq!((code, &answer["state"], &answer["destination"]), (200, &json!("closed"), &json!(origin)));
    world.enqueue("a", "1").await;
    world.step(QueueName::Delivery).await;
    assert_eq!(world.status("a").await["status"], "delivered");
    for body in [
        json!({}),
        json!({ "destination": "nonsense" }),
        json!({ "destination": 1 }),
        json!([]),
        json!({ "destination": origin, "x": 1 }),
    ] {
        assert_eq!(world.operate("/circuit-breakers/reset", body).await.0, 422);
    }
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn breakers_are_listed_by_state() {
    let world = World::new().await;
    tripped(&world).await;
    let count = async |query: &str| {
        let (code, answer) = world.get(&format!("/circuit-breakers{query}")).await;
        (code, answer["circuit_breakers"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(count("?state=open").await, (200, 1));
    assert_eq!(count("?state=half_open").await, (200, 0));
    assert_eq!(count("?state=broken").await.0, 422);
    assert_eq!(count("?states=open").await.0, 422);
    world.leaves([QueueName::Retry]);
}

#[tokio::test]
async fn a_flaky_but_necessary_receiver_may_have_a_higher_threshold() {
    let mut world = World::new().await;
    let overrides = json!({ world.receiver.origin(): { "failure_threshold": 50 } }).to_string();
    world.configure(&[("BREAKER_OVERRIDES", &overrides)]);
    world.receiver.always(Reply::from(500));
    for n in 0..10 {
        world.enqueue(&format!("w-{n}"), "1").await;
    }
    world.step(QueueName::Delivery).await;
    assert_eq!(breaker(&world).await["state"], "closed");
    assert_eq!(breaker(&world).await["failures"], 10);
    world.leaves([QueueName::Retry]);
}
