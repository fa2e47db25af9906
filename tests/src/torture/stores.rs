//! What the tables hold.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::dead_letter::DeadLetter;
use domain::endpoint::Card;
use domain::history::delivery::EndedDelivery;
use serde_json::Value;

use crate::torture::Field;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A text of an item; empty when it is missing.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// A number of an item; 0 when it is missing.
pub(crate) fn number(item: &Item, name: &str) -> u64 {
    item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default()
}

/// Everything that a table has. It is read past the proxy.
pub(crate) async fn scanned(field: &Field, table: &str) -> Vec<Item> {
    let client = field.stack().dynamodb();
    let mut items = Vec::new();
    let mut from: Option<Item> = None;
    loop {
        let scan = client.scan().table_name(field.stack().get(table)).set_exclusive_start_key(from);
        let page = scan.send().await.unwrap();
        items.extend(page.items().iter().cloned());
        from = page.last_evaluated_key().cloned();
        if from.is_none() {
            return items;
        }
    }
}

/// The dead letters of direct webhooks and of messages that could not be read, and those of
/// events and of deliveries to endpoints.
pub(crate) async fn dead_letters(field: &Field) -> (Vec<Value>, Vec<DeadLetter>) {
    let (mut direct, mut of_tenants) = (Vec::new(), Vec::new());
    for item in scanned(field, "DEAD_LETTER_TABLE").await {
        match text(&item, "record") {
            "" => of_tenants.push(serde_json::from_str(text(&item, "record2")).unwrap()),
            record => direct.push(serde_json::from_str(record).unwrap()),
        }
    }
    (direct, of_tenants)
}

/// The ends of deliveries that these items of history tell of: direct webhooks if they begin
/// with `D#`, and deliveries to endpoints if they begin with `L#`.
pub(crate) fn ends(items: &[Item], begin: &str) -> Vec<EndedDelivery> {
    let of_kind = items.iter().filter(|item| text(item, "pk").starts_with(begin));
    of_kind.map(|item| serde_json::from_str(text(item, "body")).unwrap()).collect()
}

/// The items of the registry that are cards, each with its card.
pub(crate) fn cards(items: Vec<Item>) -> Vec<(Item, Card)> {
    let cards = items.into_iter().filter(|item| text(item, "sk").starts_with("E#") && !text(item, "card").is_empty());
    cards.map(|item| (item.clone(), serde_json::from_str(text(&item, "card")).unwrap())).collect()
}
