//! Signing secrets and sensitive headers: how they are rotated, and where they are not seen.

use std::time::Duration;

use domain::endpoint::Card;
use domain::time::Millis;
use serde_json::{Value, json};
use tests::endpoints_world::{Answer, EndpointsWorld};
use tests::logs::Logs;
use tests::world::BEGINNING;

const URL: &str = "https://a.example/hook";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The first seed of RFC 8032 §7.1, and its public key.
const PRIVATE: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

async fn card(world: &EndpointsWorld, path: &str) -> Card {
    use adapters::registry::{CardFound, Cards as _, EndpointKey};
    let endpoint = path.rsplit('/').next().unwrap().to_owned();
    let key = EndpointKey { tenant: "acme".into(), endpoint };
    match world.registry.cards(&[key], true).await.unwrap().remove(0) {
        CardFound::Card(card) => card.as_ref().clone(),
        other @ (CardFound::Gone | CardFound::Erased | CardFound::Missing | CardFound::Unreadable) => {
            panic!("{other:?}")
        }
    }
}

/// How many secrets sign now.
async fn signatures(world: &EndpointsWorld, path: &str) -> usize {
    let opened = card(world, path).await.open(&EndpointsWorld::master_keys(), world.clock.now()).unwrap();
    opened.signer.sign("id", 1, b"body").split(' ').count()
}

fn secrets(answer: &Answer) -> &Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["secrets"].as_array().unwrap()
}

fn at(seconds: u64) -> Value {
    json!(Millis(BEGINNING.0 + seconds * 1000).to_string())
}

#[tokio::test]
async fn a_secret_is_made_or_given_and_shown_again() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL })).await;
    let (other, _) = world.create(json!({ "url": URL })).await;
    assert_ne!(made.body["secret"], other.body["secret"]);
    let shown = world.get(&format!("{path}/secret")).await;
    assert_eq!(secrets(&shown)[0]["secret"], made.body["secret"]);
    assert!(made.body.get("public_key").is_none());

    let (given, path) = world.create(json!({ "url": URL, "secret": PRIVATE })).await;
    assert_eq!((given.body["secret"].as_str(), given.body["public_key"].as_str()), (Some(PRIVATE), Some(PUBLIC)));
    let shown = world.get(&format!("{path}/secret")).await;
    assert_eq!(secrets(&shown)[0]["public_key"], PUBLIC);
    let (given, _) = world.create(json!({ "url": URL, "secret": SECRET })).await;
    assert_eq!(given.body["secret"], SECRET);
}

#[tokio::test]
async fn older_secrets_sign_until_their_overlap_ends() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": URL })).await;
    let rotate = format!("{path}/rotate-secret");
    let first = world.ask("POST", &rotate, json!({ "overlap_s": 7200 })).await;
    assert_eq!(secrets(&first).len(), 2);
    assert_eq!((&secrets(&first)[1]["secret"], &secrets(&first)[1]["expires_at"]), (&made.body["secret"], &at(7200)));
    assert!(secrets(&first)[0].get("expires_at").is_none());
    assert_eq!(signatures(&world, &path).await, 2);

    // A longer overlap keeps no secret longer, and a shorter one ends it sooner.
    world.clock.advance(Duration::from_secs(100));
    let second = world.ask("POST", &rotate, json!({ "secret": PRIVATE })).await;
    let ends: Vec<&Value> = secrets(&second).iter().skip(1).map(|secret| &secret["expires_at"]).collect();
    assert_eq!(ends, [&at(100 + 86_400), &at(7200)]);
    assert_eq!(secrets(&second)[0]["public_key"], PUBLIC);
    assert_eq!((&second.body["secret"], &second.body["public_key"]), (&json!(PRIVATE), &json!(PUBLIC)));
    let third = world.ask("POST", &rotate, json!({ "overlap_s": 1200 })).await;
    let ends: Vec<&Value> = secrets(&third).iter().skip(1).map(|secret| &secret["expires_at"]).collect();
    assert_eq!(ends, [&at(1300), &at(1300), &at(1300)]);
    assert_eq!(secrets(&world.get(&format!("{path}/secret")).await), secrets(&third));
    assert_eq!(signatures(&world, &path).await, 4);

    world.clock.advance(Duration::from_secs(1200));
    assert_eq!(signatures(&world, &path).await, 1);
    assert_eq!(secrets(&world.get(&format!("{path}/secret")).await).len(), 1);
    assert_eq!(card(&world, &path).await.secrets.len(), 4);
    assert_eq!(world.ask("PATCH", &path, json!({ "description": "x" })).await.status, 200);
    assert_eq!(card(&world, &path).await.secrets.len(), 1, "what has ended is dropped by any change");
}

#[tokio::test]
async fn five_secrets_sign_at_a_time_and_none_twice() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL, "secret": SECRET })).await;
    let rotate = format!("{path}/rotate-secret");
    let twice = world.ask("POST", &rotate, json!({ "secret": SECRET })).await;
    assert_eq!((twice.status, twice.pointers()), (422, vec!["/secret"]));
    for wanted in 2..=5 {
        assert_eq!(secrets(&world.ask("POST", &rotate, "{}").await).len(), wanted);
    }
    let before = world.registry.all();
    let refused = world.ask("POST", &rotate, "{}").await;
    assert_eq!(refused.status, 409);
    assert!(refused.body["detail"].as_str().unwrap().contains(at(86_400).as_str().unwrap()), "{refused:?}");
    assert_eq!(world.registry.all(), before);
    world.clock.advance(Duration::from_secs(86_400));
    assert_eq!(secrets(&world.ask("POST", &rotate, "{}").await).len(), 2);
}

#[tokio::test]
async fn a_stored_secret_that_was_changed_is_told_and_rotated_away() {
    let world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    let (_, other) = world.create(json!({ "url": URL })).await;
    let mut swapped = card(&world, &path).await;
    swapped.secrets[0].sealed = card(&world, &other).await.secrets[0].sealed.clone();
    world.registry.overwrite(&swapped);
    assert_eq!(world.get(&format!("{path}/secret")).await.status, 503);
    let rotated = world.ask("POST", &format!("{path}/rotate-secret"), "").await;
    assert_eq!(secrets(&rotated).len(), 1);
    assert_eq!(signatures(&world, &path).await, 1);
}

#[tokio::test]
async fn with_another_master_key_secrets_stay_closed() {
    let mut world = EndpointsWorld::new().await;
    let (_, path) = world.create(json!({ "url": URL })).await;
    world.configure(&[("MASTER_KEYS", &tests::endpoints_world::master_key(2))]).await;
    assert_eq!(world.get(&format!("{path}/secret")).await.status, 503);
    let before = world.registry.all();
    assert_eq!(world.ask("POST", &format!("{path}/rotate-secret"), "").await.status, 503);
    assert_eq!(world.registry.all(), before, "the other key may still come");
}

#[tokio::test]
async fn a_sensitive_header_is_shown_to_nobody_and_does_not_follow_to_a_new_origin() {
    let world = EndpointsWorld::new().await;
    let headers = json!({ "Authorization": { "value": "Bearer canary", "sensitive": true }, "x-team": "blue" });
    let (made, path) = world.create(json!({ "url": URL, "headers": headers })).await;
    let shown = json!({ "authorization": { "sensitive": true }, "x-team": "blue" });
    assert_eq!(made.body["headers"], shown);
    let opened = async || {
        let card = card(&world, &path).await;
        card.open(&EndpointsWorld::master_keys(), world.clock.now()).unwrap().headers
    };
    // What was read can be written back.
    let patched = world.ask("PATCH", &path, json!({ "headers": shown, "url": "https://a.example/new" })).await;
    assert_eq!(patched.body["headers"], shown);
    assert_eq!(opened().await["authorization"], "Bearer canary");
    let uncovered = world.ask("PATCH", &path, json!({ "headers": { "authorization": { "sensitive": false } } })).await;
    assert_eq!((uncovered.status, uncovered.pointers()), (422, vec!["/headers/authorization"]));
    let moved = world.ask("PATCH", &path, json!({ "headers": shown, "url": "https://b.example/" })).await;
    assert_eq!(moved.body["headers"], json!({ "x-team": "blue" }));
    assert!(!opened().await.contains_key("authorization"));
}

#[tokio::test]
async fn no_log_no_other_answer_and_no_stored_text_shows_a_secret() {
    let logs = Logs::kept();
    let world = EndpointsWorld::new().await;
    let canaries = [SECRET, PRIVATE, "Bearer-canary-1", "Bearer-canary-2"];
    let header = |value: &str| json!({ "x-key": { "value": value, "sensitive": true } });
    let (_, path) =
        world.create(json!({ "url": URL, "uid": "one", "secret": SECRET, "headers": header("Bearer-canary-1") })).await;
    let rotate = format!("{path}/rotate-secret");
    world.ask("POST", &rotate, json!({ "secret": PRIVATE })).await;
    world.get(&format!("{path}/secret")).await;
    let answers = [
        world.ask("PATCH", &path, json!({ "headers": header("Bearer-canary-2") })).await,
        world.get(&path).await,
        world.get("/tenants/acme/endpoints").await,
        world.get("/tenants/acme/endpoints?uid=one").await,
        // Faults, conflicts and failures.
        world.ask("POST", &rotate, json!({ "secret": format!("{SECRET}x") })).await,
        world.ask("POST", &rotate, json!({ "secret": SECRET })).await,
        world.ask("PATCH", &path, json!({ "secret": SECRET, "headers": { "Host": "Bearer-canary-1" } })).await,
        world.ask("POST", "/tenants/acme/endpoints", json!({ "url": URL, "uid": "one", "secret": SECRET })).await,
        world.ask("POST", &format!("{path}/test"), "").await,
        world.ask("POST", "/reseal", "").await,
        {
            world.registry.be_away(true);
            let answer = world.ask("POST", "/tenants/acme/endpoints", json!({ "url": URL, "secret": SECRET })).await;
            world.registry.be_away(false);
            answer
        },
        world.ask("DELETE", &path, "").await,
    ];
    let said = format!(
        "{answers:?}\n{}\n{:?}",
        world.registry.all(),
        world.queues.all(adapters::aws::sqs::QueueName::Delivery)
    );
    let logged = logs.text();
    assert!(logged.contains("endpoint created") && logged.contains("the registry does not answer"), "{logged}");
    for canary in canaries {
        let core = canary.split_once('_').map_or(canary, |(_, core)| core);
        assert!(!said.contains(core), "{canary}: {said}");
        assert!(!logged.contains(core), "{canary}: {logged}");
    }
}
