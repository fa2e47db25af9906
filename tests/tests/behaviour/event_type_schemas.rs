//! The schemas of event types, as a process that accepts events keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use adapters::event_schemas::EventSchemas;
use adapters::registry::{Catalogued, EventTypePage, EventTypes, RegistryError};
use async_trait::async_trait;
use domain::event_type::{Definition, EventType};
use domain::event_type_request;
use domain::json_schema::JsonSchema;
use domain::time::Millis;
use serde_json::value::RawValue;
use tests::logs::Logs;
use tests::registry_model::RegistryModel;
use tests::world::BEGINNING;

const NUMBER: &str = r#"{"schema":{"type":"number"}}"#;

fn after(seconds: u64) -> Millis {
    BEGINNING.after(Duration::from_secs(seconds))
}

async fn put(registry: &RegistryModel, name: &str, definition: &str) {
    let definition = event_type_request::definition(serde_json::from_str(definition).unwrap()).unwrap();
    registry.put_event_type(name, &definition, BEGINNING).await.unwrap();
}

async fn asked(schemas: &EventSchemas, names: &[&str], at: Millis) -> BTreeMap<String, Arc<JsonSchema>> {
    let names: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    schemas.schemas(names, at).await
}

/// Whether these are the names that have schemas.
async fn known(schemas: &EventSchemas, names: &[&str], at: Millis, wanted: &[&str]) -> bool {
    asked(schemas, names, at).await.keys().map(String::as_str).eq(wanted.iter().copied())
}

fn takes(schema: &JsonSchema, payload: &str) -> bool {
    schema.check("/payload", serde_json::from_str::<&RawValue>(payload).unwrap()).is_empty()
}

#[tokio::test]
async fn schemas_are_read_at_once_and_kept_for_half_a_minute() {
    let registry = RegistryModel::default();
    put(&registry, "number", NUMBER).await;
    put(&registry, "bare", "{}").await;
    let schemas = EventSchemas::new(Arc::new(registry.clone()));
    let all = ["number", "bare", "nowhere"];
    let first = asked(&schemas, &all, BEGINNING).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["number"]);
    assert!(takes(&first["number"], "1") && !takes(&first["number"], "\"x\""));
    assert_eq!(registry.reads(), 1);

    put(&registry, "number", r#"{"schema":{"type":"string"}}"#).await;
    put(&registry, "nowhere", NUMBER).await;
    assert!(known(&schemas, &all, after(29), &["number"]).await);
    assert!(known(&schemas, &[], after(29), &[]).await);
    assert_eq!(registry.reads(), 1, "what is not there is kept as well");
    let later = asked(&schemas, &all, after(30)).await;
    assert_eq!((registry.reads(), later.len()), (2, 2));
    assert!(takes(&later["number"], "\"x\""));
    assert_eq!(asked(&schemas, &["number", "new"], after(31)).await.len(), 1);
    assert_eq!(registry.reads(), 3);

    // What did not change is not compiled again; what was deleted is gone.
    registry.delete_event_type("nowhere").await.unwrap();
    let last = asked(&schemas, &all, after(100)).await;
    assert!(Arc::ptr_eq(&last["number"], &later["number"]) && last.len() == 1);
}

#[tokio::test]
async fn while_the_registry_is_away_what_was_read_serves_for_a_quarter_of_an_hour() {
    let registry = RegistryModel::default();
    put(&registry, "number", NUMBER).await;
    put(&registry, "late", NUMBER).await;
    let schemas = EventSchemas::new(Arc::new(registry.clone()));
    assert!(known(&schemas, &["number"], BEGINNING, &["number"]).await);
    registry.be_away(true);
    let logs = Logs::kept();
    assert!(known(&schemas, &["number"], after(40), &["number"]).await);
    assert_eq!(logs.text(), "", "nobody misses anything");
    assert!(known(&schemas, &["number", "late", "later"], after(899), &["number"]).await);
    let said = logs.text();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("event_types=2") && said.contains("accepted unchecked"), "{said}");
    assert!(known(&schemas, &["number"], after(902), &[]).await);

    // It is left alone for two seconds.
    let reads = registry.reads();
    registry.be_away(false);
    assert!(known(&schemas, &["number"], after(903), &[]).await);
    assert_eq!(registry.reads(), reads);
    assert!(known(&schemas, &["number", "late"], after(904), &["late", "number"]).await);
}

#[tokio::test]
async fn a_schema_that_does_not_compile_counts_as_none() {
    let registry = RegistryModel::default();
    put(&registry, "number", NUMBER).await;
    registry.overwrite_event_type("canary", r#"{"schema":"{\"type\":\"canary-value\"}"}"#);
    registry.overwrite_event_type("broken", r#"{"schema":"{"}"#);
    registry.overwrite_event_type("unreadable", "{");
    let schemas = EventSchemas::new(Arc::new(registry));
    let logs = Logs::kept();
    assert!(known(&schemas, &["number", "canary", "broken", "unreadable"], BEGINNING, &["number"]).await);
    let said = logs.text();
    assert_eq!(said.matches("does not compile").count(), 2, "{said}");
    assert!(said.contains("canary") && !said.contains("canary-value"), "{said}");
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_nothing_that_was_asked_for_is_missing() {
    let registry = RegistryModel::default();
    // Each counts as 4 MiB when it is compiled.
    let large = |n: usize| format!(r#"{{"schema":{{"const":{n},"description":"{}"}}}}"#, "x".repeat(65_000));
    let names: Vec<String> = (0..12).map(|n| format!("large-{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        put(&registry, name, &large(n)).await;
    }
    let schemas = EventSchemas::new(Arc::new(registry.clone()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = asked(&schemas, &names, BEGINNING).await;
    assert!(all.len() == 12 && all.values().enumerate().all(|(n, schema)| takes(schema, &n.to_string())));
    // The last ones are kept, and the first ones are read again.
    assert_eq!(asked(&schemas, &names[6..], BEGINNING).await.len(), 6);
    assert_eq!(registry.reads(), 1);
    assert_eq!(asked(&schemas, &names[..2], BEGINNING).await.len(), 2);
    assert_eq!(registry.reads(), 2);

    let many: Vec<String> = (0..3_000).map(|n| format!("none-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(known(&schemas, &many, BEGINNING, &[]).await);
    assert!(known(&schemas, &many[2_999..], BEGINNING, &[]).await);
    assert_eq!(registry.reads(), 3);
    assert!(known(&schemas, &["none-0"], BEGINNING, &[]).await);
    assert_eq!(registry.reads(), 4, "by their number");
}

/// A catalogue that never answers.
struct Silent;

#[async_trait]
impl EventTypes for Silent {
    async fn event_types(&self, _: &[String]) -> Result<Vec<Option<EventType>>, RegistryError> {
        std::future::pending().await
    }

    async fn event_type(&self, _: &str) -> Result<Option<EventType>, RegistryError> {
        std::future::pending().await
    }

    async fn list_event_types(&self, _: Option<&str>, _: usize) -> Result<EventTypePage, RegistryError> {
        std::future::pending().await
    }

    async fn put_event_type(&self, _: &str, _: &Definition, _: Millis) -> Result<Catalogued, RegistryError> {
        std::future::pending().await
    }

    async fn delete_event_type(&self, _: &str) -> Result<bool, RegistryError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_registry_that_does_not_answer_holds_up_one_request_and_not_the_next() {
    let schemas = EventSchemas::new(Arc::new(Silent));
    let logs = Logs::kept();
    assert!(known(&schemas, &["a"], BEGINNING, &[]).await);
    assert!(logs.text().contains("no answer in time"), "{}", logs.text());
    assert!(known(&schemas, &["a"], BEGINNING, &[]).await);
    assert_eq!(logs.text().matches("no answer in time").count(), 1, "{}", logs.text());
}
