//! The catalogue of event types: one partition of the registry's table, an item for each name.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::ReturnValue;
use domain::event_type::{Definition, EventType};
use domain::time::Millis;

use super::RegistryTable;
use super::items::{self, CATALOGUE, CREATED_AT, DEFINITION, UPDATED_AT};
use super::reading::Found;
use crate::BoxError;
use crate::aws::attributes::{Item, number, number_in, text, text_in};
use crate::registry::{Catalogued, EventTypePage, EventTypes, MAX_CARDS, RegistryError};
use crate::telemetry::chain;

/// The event type of an item, or a line in the log. Others in the same answer are read all the
/// same.
fn readable(item: &Item) -> Option<EventType> {
    let read = items::event_type_in(item);
    let name = || text_in(item, items::SK);
    read.inspect_err(|error| {
        tracing::error!(event_type = name(), code = error.code(), error = %chain(error), "an event type cannot be read");
    })
    .ok()
}

fn unwritten(error: impl Into<BoxError>) -> RegistryError {
    RegistryError::Write(error.into())
}

#[async_trait]
impl EventTypes for RegistryTable {
    async fn event_types(&self, names: &[String]) -> Result<Vec<Option<EventType>>, RegistryError> {
        let mut found = Found::new();
        for part in names.chunks(MAX_CARDS) {
            let keys = part.iter().map(|name| items::event_type_key(name)).collect();
            found.extend(self.table.batch(keys, false).await?);
        }
        let of = |name: &String| readable(found.get(&items::name_of(&items::event_type_key(name)))?);
        Ok(names.iter().map(of).collect())
    }

    async fn event_type(&self, name: &str) -> Result<Option<EventType>, RegistryError> {
        let item = self.table.get(items::event_type_key(name)).await?;
        item.as_ref().map(items::event_type_in).transpose()
    }

    async fn list_event_types(&self, after: Option<&str>, limit: usize) -> Result<EventTypePage, RegistryError> {
        let answer = self.table.page(CATALOGUE, "", after.map(items::event_type_key), limit).await?;
        let here = || answer.items().iter().take(limit);
        let goes_on = answer.last_evaluated_key().is_some() || answer.items().len() > limit;
        let next = here().next_back().filter(|_| goes_on).map(|item| text_in(item, items::SK));
        Ok(EventTypePage { event_types: here().filter_map(readable).collect(), next })
    }

    async fn put_event_type(
        &self,
        name: &str,
        definition: &Definition,
        now: Millis,
    ) -> Result<Catalogued, RegistryError> {
        let update = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(items::event_type_key(name)))
            .update_expression(
                "SET #definition = :definition, #updated = :now, #created = if_not_exists(#created, :now)",
            )
            .expression_attribute_names("#definition", DEFINITION)
            .expression_attribute_names("#updated", UPDATED_AT)
            .expression_attribute_names("#created", CREATED_AT)
            .expression_attribute_values(":definition", text(&items::of_definition(definition)?))
            .expression_attribute_values(":now", number(now.0))
            .return_values(ReturnValue::AllOld);
        let answer = update.send().await.map_err(unwritten)?;
        let before = answer.attributes().filter(|item| !item.is_empty());
        let created_at = before.and_then(|item| number_in(item, CREATED_AT)).map_or(now, Millis);
        let (name, definition) = (name.to_owned(), definition.clone());
        let event_type = EventType { name, definition, created_at, updated_at: now };
        Ok(Catalogued { event_type, is_new: before.is_none() })
    }

    async fn delete_event_type(&self, name: &str) -> Result<bool, RegistryError> {
        let key = Some(items::event_type_key(name));
        let delete = self.table.client.delete_item().table_name(&self.table.name).set_key(key);
        let gone = delete.return_values(ReturnValue::AllOld).send().await.map_err(unwritten)?;
        Ok(gone.attributes().is_some_and(|item| !item.is_empty()))
    }
}
