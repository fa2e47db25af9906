//! One contract for the table of dead letters and for its model.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::dynamodb::Table;
use adapters::dead_letter_store::{DeadLetterStore, Filed, Reserved};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use domain::dead_letter::{DeadLetter, Filter};
use domain::delivery::EndpointTarget;
use domain::place::Place;
use domain::reason::Reason;
use domain::time::Millis;
use domain::work::Work;
use tests::endpoints::endpoint_id;
use tests::stack::Stack;
use tests::store_model::StoreModel;

fn letter(id: &str, hash: &str, accepted_at: u64, hop: u32) -> DeadLetter {
    DeadLetter {
        webhook_id: id.into(),
        body_hash: hash.into(),
        accepted_at: Millis(accepted_at),
        hop,
        reason: Some(Reason::Gone),
        failed_at: Millis(1_700_000_000_000),
        headers: BTreeMap::from([("x".into(), "é\"".into())]),
        ..DeadLetter::default()
    }
}

async fn only_what_is_newer_is_written(store: &impl DeadLetterStore) {
    let file = async |letter: DeadLetter| store.file(&letter).await.unwrap();
    assert_eq!(file(letter("a", "h", 5, 1)).await, Filed::Written);
    assert_eq!(file(letter("a", "h", 5, 1)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 5, 0)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 4, 9)).await, Filed::Known);
    assert_eq!(file(letter("a", "h", 5, 2)).await, Filed::Written);
    assert_eq!(file(letter("a", "h", 6, 0)).await, Filed::Written);
    assert_eq!(file(letter("a", "other", 9, 9)).await, Filed::Foreign);
    assert_eq!(file(letter("a", "other", 9, 9).apart()).await, Filed::Written);
    assert_eq!(file(letter("a", "other", 9, 9).apart()).await, Filed::Known);
    assert_eq!(file(letter("b", "", 0, 0)).await, Filed::Written);
    assert_eq!(file(letter("b", "", 0, 0)).await, Filed::Known);
}

/// Dead letters of three days in two months, two destinations and two reasons, with
/// ties; lists of them in pages.
async fn lists_are_newest_first_and_exact(store: &impl DeadLetterStore) {
    const DAY_MS: u64 = 86_400_000;
    // 2023-12-01T00:00:00Z
    let december = 1_701_388_800_000;
    let now = Millis(december + 2 * DAY_MS);
    let mut all = Vec::new();
    for i in 0..40u64 {
        let letter = DeadLetter {
            failed_at: Millis(december - DAY_MS + i / 3 * (DAY_MS / 8)),
            destination: if i % 4 == 0 { "https://b.example".into() } else { "https://a.example".into() },
            reason: Some(if i % 5 == 0 { Reason::Malformed } else { Reason::Expired }),
            ..letter(&format!("list-{i:02}"), "h", 1, 1)
        };
        assert_eq!(store.file(&letter).await.unwrap(), Filed::Written);
        all.push(letter);
    }
    let reserved = store.reserve("list-07", "t", now, now.after(Duration::from_secs(60))).await.unwrap();
    let Reserved::Granted(seven) = reserved else { panic!("{reserved:?}") };
    store.redriven(&seven, now).await.unwrap();
    all.sort_by_key(|letter| std::cmp::Reverse((letter.failed_at, letter.webhook_id.clone())));

    let since = Millis(december - DAY_MS / 2);
    let until = Millis(december + DAY_MS / 4);
    type Wanted<'a> = Box<dyn Fn(&DeadLetter) -> bool + 'a>;
    let cases: Vec<(Filter, Wanted<'_>)> = vec![
        (Filter::default(), Box::new(|_| true)),
        (
            Filter { reason: Some(Reason::Malformed), ..Filter::default() },
            Box::new(|l| l.reason == Some(Reason::Malformed)),
        ),
        (
            Filter { destination: Some("https://b.example".into()), ..Filter::default() },
            Box::new(|l| l.destination == "https://b.example"),
        ),
        (
            Filter { since: Some(since), until: Some(until), ..Filter::default() },
            Box::new(move |l| l.failed_at >= since && l.failed_at < until),
        ),
        (
            Filter { redrivable: true, destination: Some("https://a.example".into()), ..Filter::default() },
            Box::new(|l| {
                l.reason != Some(Reason::Malformed) && l.destination == "https://a.example" && l.webhook_id != "list-07"
            }),
        ),
        (Filter { since: Some(until), until: Some(since), ..Filter::default() }, Box::new(|_| false)),
        (Filter { until: Some(Millis(1)), ..Filter::default() }, Box::new(|_| false)),
        (Filter { destination: Some("https://c.example".into()), ..Filter::default() }, Box::new(|_| false)),
    ];
    for (filter, wanted) in cases {
        let wanted: Vec<&str> = all.iter().filter(|l| wanted(l)).map(|l| l.webhook_id.as_str()).collect();
        for limit in [1, 7, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = store.list(&filter, after.as_ref(), limit, now).await.unwrap();
                assert!(page.letters.len() <= limit);
                found.extend(page.letters.into_iter().map(|l| l.webhook_id).filter(|id| id.starts_with("list-")));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted, "{filter:?} by {limit}");
        }
    }
}

async fn one_of_two_redrives_wins(store: &impl DeadLetterStore) {
    let (now, minute) = (Millis(1_700_000_000_000), Duration::from_secs(60));
    let by = async |token: &str, now: Millis| store.reserve("again", token, now, now.after(minute)).await.unwrap();
    let reserve = async |now: Millis| by(&format!("{:x}", fastrand::u64(..)), now).await;
    assert!(matches!(reserve(now).await, Reserved::Missing));
    assert!(store.get("again").await.unwrap().is_none());
    assert!(!store.delete("again").await.unwrap());
    store.file(&letter("again", "h", 5, 1)).await.unwrap();

    let Reserved::Granted(first) = by("mine", now).await else { panic!("not granted") };
    assert!(matches!(by("mine", now).await, Reserved::Granted(_)), "a request that is repeated is granted again");
    assert_eq!(first.headers["x"], "é\"");
    assert!(matches!(reserve(now.after(minute / 2)).await, Reserved::Taken));
    assert!(matches!(reserve(now.after(minute)).await, Reserved::Granted(_)), "a lost reservation ends");
    store.release(&first).await.unwrap();
    assert!(matches!(reserve(now.after(minute)).await, Reserved::Granted(_)), "one that is given back is free");
    store.redriven(&first, now).await.unwrap();
    assert!(matches!(reserve(now.after(10 * minute)).await, Reserved::Redriven(_)), "it was sent");
    assert_eq!(store.get("again").await.unwrap().unwrap().redriven_at, Some(now));

    // It failed again: a newer letter, which an older redrive says nothing about.
    assert_eq!(store.file(&letter("again", "h", 5, 2)).await.unwrap(), Filed::Written);
    store.redriven(&first, now).await.unwrap();
    store.release(&first).await.unwrap();
    assert_eq!(store.get("again").await.unwrap().unwrap().redriven_at, None);
    assert!(matches!(reserve(now).await, Reserved::Granted(_)));
    assert!(store.delete("again").await.unwrap());
    store.redriven(&first, now).await.unwrap();
    assert!(store.get("again").await.unwrap().is_none(), "a note does not bring back what was deleted");
}

/// A body that was redriven gives way to another body under its id. One that was not does
/// not, while somebody sends it again neither.
async fn what_was_redriven_gives_way(store: &impl DeadLetterStore) {
    let now = Millis(1_700_000_000_000);
    let until = now.after(Duration::from_secs(60));
    let monday = || letter("daily", "monday", 5, 1);
    let file = async |letter: &DeadLetter| store.file(letter).await.unwrap();
    let there = async || store.get("daily").await.unwrap().unwrap();
    let tuesday = letter("daily", "tuesday", 9, 0);
    assert_eq!(file(&monday()).await, Filed::Written);
    assert_eq!(file(&tuesday).await, Filed::Foreign, "nobody redrove it");
    assert!(matches!(store.reserve("daily", "t", now, until).await.unwrap(), Reserved::Granted(_)));
    assert_eq!(file(&tuesday).await, Filed::Foreign, "it is being redriven");
    store.redriven(&monday(), now).await.unwrap();
    for older in [letter("daily", "sunday", 4, 9), letter("daily", "sunday", 5, 9)] {
        assert_eq!(file(&older).await, Filed::Foreign, "it was not accepted later");
    }
    assert_eq!(file(&monday()).await, Filed::Known);
    assert_eq!(there().await.redriven_at, Some(now), "neither took the note away");
    assert_eq!(file(&tuesday).await, Filed::Written);
    let kept = there().await;
    assert_eq!((kept.letter.body_hash.as_str(), kept.redriven_at), ("tuesday", None));

    // What is said of Monday's says nothing of Tuesday's.
    store.redriven(&monday(), now).await.unwrap();
    assert_eq!(there().await.redriven_at, None);
    assert_eq!(file(&letter("daily", "monday", 5, 2)).await, Filed::Foreign, "its redrive failed");
    assert!(
        matches!(store.reserve("daily", "u", now, until).await.unwrap(), Reserved::Granted(_)),
        "no reservation is left"
    );
    store.redriven(&tuesday, now).await.unwrap();
    // Its redrive failed: it is needed again.
    assert_eq!(file(&letter("daily", "tuesday", 9, 1)).await, Filed::Written);
    assert_eq!(file(&letter("daily", "wednesday", 10, 0)).await, Filed::Foreign);
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    let model = StoreModel::default();
    only_what_is_newer_is_written(&model).await;
    what_was_redriven_gives_way(&model).await;
    one_of_two_redrives_wins(&model).await;
    lists_are_newest_first_and_exact(&model).await;
    model.ping().await.unwrap();
}

/// Items as version 0.1 wrote them, with a dead letter that was redriven, and one that was
/// filed apart.
async fn items_of_0_1_are_read(client: &aws_sdk_dynamodb::Client, name: &str, table: &Table) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: u64| AttributeValue::N(number.to_string());
    for (id, reused) in [("old", ""), ("reused-0123456789abcdef0123456789abcdef", r#""reused_id":"old","#)] {
        let record = format!(
            r#"{{"webhook_id":"{id}",{reused}"reason":"gone","error":"HTTP 410","failed_at":1700000000000,"attempts":1,"last_status_code":410,"error_class":"client_error","correlation_id":"c","webhook_url":"https://a.example/hook","destination":"https://a.example","body_hash":"{id}","accepted_at":7,"hop":0,"history":{{"count":1,"attempts":[{{"at":1,"code":410,"class":"client_error","ms":3,"error":"HTTP 410"}}]}},"payload":{{"n":1.50}}}}"#
        );
        let item = [
            ("id", text(id)),
            ("record", text(&record)),
            ("body_hash", text(id)),
            ("accepted_at", number(7)),
            ("hop", number(0)),
            ("failed_at", number(1_700_000_000_000)),
            ("expires_at", number(1_702_592_000)),
            ("month", text("2023-11")),
            ("place", text(&Place { at: Millis(1_700_000_000_000), id: id.to_owned() }.sortable())),
            ("attempts", number(1)),
            ("redriven_at", number(1_700_000_000_001)),
        ];
        let item = item.map(|(name, value)| (name.to_owned(), value)).into();
        client.put_item().table_name(name).set_item(Some(item)).send().await.unwrap();
        let kept = table.get(id).await.unwrap().unwrap();
        assert_eq!(kept.redriven_at, Some(Millis(1_700_000_000_001)));
        let Some(Work::Delivery(message)) = kept.letter.redriven(Millis(9), Millis(10)) else { panic!("no delivery") };
        assert_eq!((message.delivery.id.as_str(), &message.delivery.payload[..]), ("old", &b"{\"n\":1.50}"[..]));
    }
    assert_eq!(table.file(&letter("old", "new", 8, 0)).await.unwrap(), Filed::Written);
}

fn keys(hash: &str, range: &str) -> Vec<KeySchemaElement> {
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    vec![key(hash, KeyType::Hash), key(range, KeyType::Range)]
}

/// 0.1 reads the attribute `record`, and would send such a letter to an empty URL.
async fn letters_of_endpoints_are_out_of_reach_of_0_1(client: &aws_sdk_dynamodb::Client, name: &str, table: &Table) {
    let endpoint = EndpointTarget { tenant: "acme".into(), endpoint: endpoint_id(1), ..EndpointTarget::default() };
    let id = format!("e.{}", endpoint.endpoint);
    let filed = DeadLetter { endpoint: Some(endpoint.clone()), ..letter(&id, "h", 1, 1) };
    assert_eq!(table.file(&filed).await.unwrap(), Filed::Written);
    let get = client.get_item().table_name(name).key("id", AttributeValue::S(id.clone())).send().await.unwrap();
    let item = get.item().unwrap();
    assert!(item.contains_key("record2") && !item.contains_key("record"), "{item:?}");
    assert_eq!(table.get(&id).await.unwrap().unwrap().letter.endpoint, Some(endpoint));
    assert!(table.delete(&id).await.unwrap());
}

#[tokio::test]
async fn the_real_table_keeps_the_contract() {
    let stack = Stack::running();
    let client = stack.dynamodb();
    let name = format!("contract-{}", fastrand::u64(..));
    let mut create = client.create_table().table_name(&name).key_schema(keys("id", "id").remove(0));
    for attribute in ["id", "month", "destination", "place"] {
        let definition = AttributeDefinition::builder().attribute_name(attribute);
        create = create.attribute_definitions(definition.attribute_type(ScalarAttributeType::S).build().unwrap());
    }
    for (index, hash) in [("by_month", "month"), ("by_destination", "destination")] {
        let projection = Projection::builder().projection_type(ProjectionType::All).build();
        let index = GlobalSecondaryIndex::builder().index_name(index).set_key_schema(Some(keys(hash, "place")));
        create = create.global_secondary_indexes(index.projection(projection).build().unwrap());
    }
    create.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    let table = Table::new(&stack.account(), name.clone(), 2_592_000);
    only_what_is_newer_is_written(&table).await;
    let items = client.scan().table_name(&name).send().await.unwrap();
    for item in items.items() {
        assert_eq!(item["expires_at"].as_n().unwrap(), "1702592000");
        let record: DeadLetter = serde_json::from_str(item["record"].as_s().unwrap()).unwrap();
        assert_eq!((&record.webhook_id, record.headers["x"].as_str()), (item["id"].as_s().unwrap(), "é\""));
    }
    what_was_redriven_gives_way(&table).await;
    one_of_two_redrives_wins(&table).await;
    items_of_0_1_are_read(&client, &name, &table).await;
    letters_of_endpoints_are_out_of_reach_of_0_1(&client, &name, &table).await;
    lists_are_newest_first_and_exact(&table).await;
    table.ping().await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_not_there_keeps_the_letter_in_its_queue() {
    let table = Table::new(&Stack::running().account(), "nowhere".into(), 1);
    assert!(table.file(&letter("a", "h", 1, 1)).await.is_err());
    assert!(table.ping().await.is_err());
}
