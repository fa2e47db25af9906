//! One contract for the table of history and for its model.

use adapters::aws::history::HistoryTable;
use adapters::history::{Direction, History, Part, RowKey};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use domain::history::{EventPlace, Row};
use domain::time::Millis;
use tests::history_model::HistoryModel;
use tests::stack::Stack;

const NOW: Millis = Millis(1_700_000_000_000);
const LATER: Millis = Millis(1_700_000_100_000);

fn row(partition: &str, place: &str, body: &str) -> Row {
    Row { partition: partition.into(), place: place.into(), body: body.into(), kept_until: LATER, by_event: None }
}

fn places(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.place.as_str()).collect()
}

/// Reads a part to its end, and says how many reads that took.
async fn walk(history: &impl History, part: Part) -> (Vec<Row>, usize) {
    let (mut rows, mut reads, mut part) = (Vec::new(), 0, part);
    loop {
        let slice = history.part(&part, NOW).await.unwrap();
        rows.extend(slice.rows);
        reads += 1;
        match (slice.next, part.direction) {
            (None, _) => return (rows, reads),
            (next, Direction::Forwards) => part.after = next,
            (next, Direction::Backwards) => part.before = next,
        }
    }
}

async fn keeps_the_contract(history: &impl History) {
    // Sixty rows are written in three calls, and writing them twice changes nothing.
    let many: Vec<Row> = (0..60).map(|i| row("many", &format!("{i:03}"), "{}")).collect();
    assert_eq!(history.write(many.clone()).await, []);
    assert_eq!(history.write(many.clone()).await, []);
    assert_eq!(history.write(Vec::new()).await, []);
    let whole = Part::of("many".into());
    assert_eq!(walk(history, whole.clone()).await.0, many);

    // Pages are in order, both ways, with ends that are left out.
    let part = Part { limit: 7, ..whole.clone() };
    let (rows, reads) = walk(history, part.clone()).await;
    assert_eq!((rows, reads >= 9), (many.clone(), true));
    let backwards = Part { direction: Direction::Backwards, ..part.clone() };
    let mut back = walk(history, backwards).await.0;
    back.reverse();
    assert_eq!(back, many);
    for (after, before, wanted) in [
        (Some("010"), Some("013"), vec!["011", "012"]),
        (Some("057"), None, vec!["058", "059"]),
        (None, Some("002"), vec!["000", "001"]),
        (Some("0105"), Some("0115"), vec!["011"]),
        (Some("013"), Some("010"), vec![]),
        (Some("013"), Some("013"), vec![]),
    ] {
        let (after, before) = (after.map(str::to_owned), before.map(str::to_owned));
        for direction in [Direction::Forwards, Direction::Backwards] {
            let part = Part { after: after.clone(), before: before.clone(), direction, ..whole.clone() };
            let mut found = walk(history, part).await.0;
            if direction == Direction::Backwards {
                found.reverse();
            }
            assert_eq!(places(&found), wanted, "{after:?} {before:?}");
        }
    }

    // One row twice in one write is written once.
    assert_eq!(history.write(vec![row("twice", "a", "1"), row("twice", "a", "1")]).await, []);
    assert_eq!(walk(history, Part::of("twice".into())).await.0, [row("twice", "a", "1")]);

    // What has ended counts as absent.
    let ended = Row { kept_until: Millis(NOW.0 - 1000), ..row("ended", "a", "{}") };
    history.write(vec![ended.clone(), row("ended", "b", "{}")]).await;
    assert_eq!(places(&walk(history, Part::of("ended".into())).await.0), ["b"]);
    let keys = ["a", "b", "c"].map(|place| RowKey { partition: "ended".into(), place: place.into() });
    let found = history.rows(&keys, NOW).await.unwrap();
    assert_eq!(found, [None, Some(row("ended", "b", "{}")), None]);

    // A row is added once, and replaced only by who knows what it says.
    assert!(history.add(&row("one", "a", "1")).await.unwrap());
    assert!(!history.add(&row("one", "a", "2")).await.unwrap());
    assert!(!history.replace("2", &row("one", "a", "3")).await.unwrap());
    assert!(history.replace("1", &row("one", "a", "3")).await.unwrap());
    assert!(!history.replace("1", &row("one", "b", "3")).await.unwrap());
    assert_eq!(walk(history, Part::of("one".into())).await.0, [row("one", "a", "3")]);

    // More rows are read by key than one call takes.
    let hundreds: Vec<Row> = (0..230).map(|i| row("hundreds", &format!("{i:03}"), "{}")).collect();
    history.write(hundreds.clone()).await;
    let keys: Vec<RowKey> =
        hundreds.iter().map(|row| RowKey { partition: row.partition.clone(), place: row.place.clone() }).collect();
    let found = history.rows(&keys, NOW).await.unwrap();
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), hundreds);
    history.delete(&keys).await.unwrap();
    history.delete(&keys).await.unwrap();
    assert_eq!(walk(history, Part::of("hundreds".into())).await.0, []);

    // Large rows: a part is cut short, and goes on.
    let large: Vec<Row> = (0..8).map(|i| row("large", &i.to_string(), &"x".repeat(300_000))).collect();
    assert_eq!(history.write(large.clone()).await, []);
    let (found, reads) = walk(history, Part::of("large".into())).await;
    assert!(found == large && reads > 1, "{reads}");
    let keys = large.iter().map(|row| RowKey { partition: row.partition.clone(), place: row.place.clone() });
    assert_eq!(history.rows(&keys.collect::<Vec<_>>(), NOW).await.unwrap().into_iter().flatten().count(), 8);

    // Rows are counted up to a limit, and in few reads; what has ended does not count.
    let count = async |partition: &str, limit| {
        let count = history.count(partition, limit, NOW).await.unwrap();
        (count.rows, count.is_more)
    };
    assert_eq!(count("many", 1000).await, (60, false));
    assert_eq!(count("many", 7).await, (7, true));
    assert_eq!(count("large", 1000).await, (8, false));
    assert_eq!((count("ended", 9).await, count("none", 9).await), ((1, false), (0, false)));
    let larger: Vec<Row> = (0..30).map(|i| row("larger", &format!("{i:02}"), &"x".repeat(300_000))).collect();
    assert_eq!(history.write(larger).await, []);
    let (rows, is_more) = count("larger", 1000).await;
    assert!((4..30).contains(&rows) && is_more, "{rows}");

    // The index has what says so.
    let indexed = |place: &str, event: &str| Row {
        by_event: Some(EventPlace { event: event.into(), place: format!("e{place}") }),
        ..row("indexed", place, place)
    };
    let rows: Vec<Row> = (0..9).map(|i| indexed(&i.to_string(), if i < 5 { "x" } else { "y" })).collect();
    history.write(rows.clone()).await;
    let of = |event: &str| Part { by_event: true, limit: 2, ..Part::of(event.into()) };
    assert_eq!(walk(history, of("x")).await.0, rows[..5]);
    let part = Part { after: Some("e5".into()), before: Some("e8".into()), ..of("y") };
    assert_eq!(walk(history, part).await.0, rows[6..8]);
    assert_eq!(walk(history, of("z")).await.0, []);

    // A row that the table cannot take is given back, and the others are there.
    let refused = history.write(vec![row("too", "a", &"x".repeat(500_000)), row("small", "b", "{}")]).await;
    assert!(places(&refused).contains(&"a"), "{:?}", places(&refused));
}

#[tokio::test]
async fn the_model_keeps_the_contract() {
    keeps_the_contract(&HistoryModel::default()).await;
}

#[tokio::test]
async fn the_table_keeps_the_contract() {
    let stack = Stack::running();
    let name = format!("history-contract-{}", fastrand::u64(..));
    let client = stack.dynamodb();
    let attribute = |name: &str| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let index = GlobalSecondaryIndex::builder()
        .index_name("by_event")
        .key_schema(key("event", KeyType::Hash))
        .key_schema(key("event_place", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::All).build());
    client
        .create_table()
        .table_name(&name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(["pk", "sk", "event", "event_place"].map(attribute).to_vec()))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(index.build().unwrap())
        .send()
        .await
        .unwrap();
    keeps_the_contract(&HistoryTable::new(&stack.account(), name.clone())).await;
    client.delete_table().table_name(name).send().await.unwrap();
}
