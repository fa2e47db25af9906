//! What the local DynamoDB never does: leave items out of an answer, and let transactions
//! meet each other.

use std::collections::BTreeMap;

use adapters::aws::registry::RegistryTable;
use adapters::registry::{CardFound, Cards as _, EndpointKey, Registry as _, Written};
use domain::endpoint::{Card, EndpointState};
use domain::time::Millis;
use serde_json::{Value, json};
use tests::receiver::{Receiver, Reply};

fn card() -> Card {
    Card {
        tenant: "acme".into(),
        id: format!("ep_{}", "a".repeat(22)),
        uid: Some("u".into()),
        url: "https://a.example/".into(),
        description: String::new(),
        event_types: Vec::new(),
        filter: None,
        headers: BTreeMap::new(),
        secrets: Vec::new(),
        retry_schedule: Default::default(),
        rate: None,
        state: EndpointState::Enabled,
        state_reason: None,
        state_since: Millis(1),
        disabled_by: None,
        owed_dropped_before: None,
        metadata: BTreeMap::new(),
        created_at: Millis(1),
        updated_at: Millis(1),
        version: 1,
        change_id: String::new(),
    }
}

async fn scripted(replies: impl IntoIterator<Item = Reply>) -> (Receiver, RegistryTable) {
    let service = Receiver::start().await;
    let account = service.account();
    service.answer(replies);
    (service, RegistryTable::new(&account, "t".into()))
}

fn reply(status: u16, body: &Value) -> Reply {
    let headers = vec![("content-type", "application/x-amz-json-1.0".to_owned())];
    Reply { headers, body: body.to_string(), ..status.into() }
}

fn canceled(reasons: &Value) -> Reply {
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    reply(400, &json!({ "__type": kind, "Message": "canceled", "CancellationReasons": reasons }))
}

fn item() -> Value {
    let text = serde_json::to_string(&card()).unwrap();
    let sk = format!("E#{}", card().id);
    json!({ "pk": { "S": "T#acme" }, "sk": { "S": sk }, "card": { "S": text }, "version": { "N": "1" } })
}

fn key() -> EndpointKey {
    EndpointKey { tenant: "acme".into(), endpoint: card().id }
}

#[tokio::test]
async fn what_an_answer_leaves_out_is_asked_for_again() {
    let left = json!({ "t": { "Keys": [{ "pk": { "S": "T#acme" }, "sk": { "S": format!("E#{}", card().id) } }] } });
    let none = || reply(200, &json!({ "Responses": {}, "UnprocessedKeys": left }));
    let found = reply(200, &json!({ "Responses": { "t": [item()] }, "UnprocessedKeys": {} }));
    let (service, table) = scripted([none(), none(), found]).await;
    assert_eq!(table.cards(&[key()], false).await.unwrap(), [CardFound::Card(card().into())]);
    assert_eq!(service.count(), 3);

    // A card that was only left out is not missing.
    let (service, table) = scripted((0..9).map(|_| none())).await;
    assert_eq!(table.cards(&[key()], false).await.unwrap_err().code(), "registry_read");
    assert_eq!(service.count(), 5);
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_tried_again() {
    let none = json!({ "Code": "None" });
    let conflict = || canceled(&json!([none, none, { "Code": "TransactionConflict" }, none]));
    let (service, table) = scripted([conflict(), conflict(), reply(200, &json!({}))]).await;
    assert_eq!(table.create(&card(), 9).await.unwrap(), Written::Done);
    assert_eq!(service.count(), 3);
    let (service, table) = scripted((0..20).map(|_| conflict())).await;
    assert_eq!(table.create(&card(), 9).await.unwrap_err().code(), "registry_write");
    assert_eq!(service.count(), 10);
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_done() {
    let (none, failed) = (json!({ "Code": "None" }), "ConditionalCheckFailed");
    let uid = |endpoint: &str| json!({ "pk": { "S": "T#acme" }, "sk": { "S": "U#u" }, "endpoint": { "S": endpoint } });
    // It was carried out, and came a second time.
    let full = canceled(&json!([{ "Code": failed, "Item": item() }, none, { "Code": failed }, none]));
    let (_, table) = scripted([full]).await;
    assert_eq!(table.create(&card(), 1).await.unwrap(), Written::Done);
    let own = canceled(&json!([none, { "Code": failed, "Item": uid(&card().id) }, none, none]));
    let (_, table) = scripted([own]).await;
    assert_eq!(table.create(&card(), 1).await.unwrap(), Written::Done);

    // Who has the uid is read where the answer does not tell it.
    let untold = || canceled(&json!([none, { "Code": failed }, none, none]));
    let (_, table) = scripted([untold(), reply(200, &json!({ "Item": uid("ep_other") }))]).await;
    assert_eq!(table.create(&card(), 1).await.unwrap(), Written::UidTaken("ep_other".into()));
    let (_, table) = scripted([untold(), reply(200, &json!({}))]).await;
    assert_eq!(table.create(&card(), 1).await.unwrap(), Written::Changed, "it was given back meanwhile");
}
