//! After a change of the master key, every value is sealed with the newest one.

use adapters::registry::{CardFound, CardLists as _, Cards as _, EndpointKey, Registry as _};
use domain::endpoint::Card;
use domain::seal::MasterKeys;
use serde_json::json;
use tests::endpoints_world::{EndpointsWorld, master_key};

fn keys(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| master_key(*byte)).collect::<Vec<_>>().join(" ")
}

async fn cards(world: &EndpointsWorld, tenant: &str) -> Vec<Card> {
    world.registry.list(tenant, None, 10_000).await.unwrap().cards
}

#[tokio::test]
async fn a_walk_goes_on_from_call_to_call_until_all_cards_are_sealed_anew() {
    let mut world = EndpointsWorld::new().await;
    for tenant in ["acme", "b", "c"] {
        for n in 0..220 {
            let body = json!({ "url": "https://a.example/", "uid": format!("u{n}"),
                "headers": { "x-key": { "value": "v", "sensitive": true } } });
            let path = format!("/tenants/{tenant}/endpoints");
            assert_eq!(world.ask("POST", &path, body).await.status, 201);
        }
    }
    let revisions = async |world: &EndpointsWorld| {
        let mut all = Vec::new();
        for tenant in ["acme", "b", "c"] {
            all.push(world.registry.tenant(tenant).await.unwrap().unwrap());
        }
        all
    };
    let before = revisions(&world).await;
    let none = json!({ "resealed": 0, "refused": 0, "complete": false });
    assert_eq!(world.get("/reseal").await.body, none);

    world.configure(&[("MASTER_KEYS", &keys(&[2, 1]))]).await;
    // One card is overtaken by a change, and one is of a master key that nobody has.
    world.registry.overtake(1);
    let mut lost = cards(&world, "b").await.remove(7);
    lost.secrets[0].sealed = serde_json::from_value(json!("00000000.AAAA")).unwrap();
    world.registry.overwrite(&lost);

    let first = world.ask("POST", "/reseal", "").await;
    assert_eq!((first.status, &first.body["complete"]), (202, &json!(false)));
    let so_far = first.body["resealed"].as_u64().unwrap();
    assert!((500..600).contains(&so_far), "{so_far}");
    assert_eq!(world.get("/reseal").await.body, first.body);
    let last = world.ask("POST", "/reseal", "").await.body;
    assert_eq!((&last["resealed"], &last["refused"], &last["complete"]), (&json!(659), &json!(1), &json!(true)));
    assert_eq!(world.get("/reseal").await.body, last);
    assert_eq!(revisions(&world).await, before, "nothing changed for fan-out");

    let newest = MasterKeys::parse(&master_key(2)).unwrap();
    for card in [cards(&world, "acme").await, cards(&world, "b").await, cards(&world, "c").await].concat() {
        assert_eq!(card.open(&newest, world.clock.now()).is_ok(), card.id != lost.id, "{}", card.id);
    }
    // With the next key it begins anew, and the older keys are not asked for again.
    world.configure(&[("MASTER_KEYS", &keys(&[3, 2]))]).await;
    assert_eq!(world.get("/reseal").await.body, none);
    world.ask("POST", "/reseal", "").await;
    assert_eq!(world.ask("POST", "/reseal", "").await.body["resealed"], 659);
}

#[tokio::test]
async fn a_complete_one_begins_anew_and_changes_nothing() {
    let world = EndpointsWorld::new().await;
    let (made, path) = world.create(json!({ "url": "https://a.example/" })).await;
    for _ in 0..2 {
        let answer = world.ask("POST", "/reseal", "").await.body;
        assert_eq!((&answer["resealed"], &answer["complete"]), (&json!(0), &json!(true)));
    }
    assert_eq!(world.get(&path).await.header("etag"), made.header("etag"));
    let key = EndpointKey { tenant: "acme".into(), endpoint: made.body["id"].as_str().unwrap().into() };
    assert!(matches!(world.registry.cards(&[key], true).await.unwrap()[0], CardFound::Card(_)));
}
