//! The catalogue of event types: `GET /event-types`, and `GET`, `PUT` and `DELETE
//! /event-types/{name}`.

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::http::query::QueryString;
use adapters::registry::Catalogued;
use domain::cursor;
use domain::event_type::{Definition, EventType, MAX_DEFINITION};
use domain::event_type_request;
use domain::names::is_event_type;
use lambda_http::Body;
use lambda_http::http::header::{HeaderValue, LOCATION};
use lambda_http::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Endpoints;
use crate::problems::away;
use crate::read::{CURSOR, MAX_PAGE, PAGE};

/// The list that cursors belong to.
const SCOPE: [&str; 1] = ["event-types"];

/// An event type as answers show it: example and schema as they were given.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawValue>,
    deprecated: bool,
    created_at: String,
    updated_at: String,
}

/// A page of the catalogue.
#[derive(Serialize)]
struct Page<'a> {
    event_types: Vec<View<'a>>,
    next_cursor: Option<String>,
}

fn view(event_type: &EventType) -> View<'_> {
    let EventType { name, definition, created_at, updated_at } = event_type;
    let Definition { description, example, schema, deprecated } = definition;
    View {
        name,
        description,
        example: example.as_ref().and_then(|example| example.raw()),
        schema: schema.as_ref().and_then(|schema| schema.raw()),
        deprecated: *deprecated,
        created_at: created_at.to_string(),
        updated_at: updated_at.to_string(),
    }
}

fn unknown() -> Problem {
    Problem::not_found("There is no event type of this name in the catalogue.")
}

impl Endpoints {
    /// A page of the catalogue.
    pub(crate) async fn event_types(&self, query: &str, correlation_id: &str) -> Result<Response<String>, Problem> {
        let mut query = QueryString::of(query);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let read = |text: &str| cursor::read(&SCOPE, text).filter(|after| is_event_type(after));
        let after = query.optional("cursor", read, CURSOR);
        query.finish()?;
        let page = self.registry.list_event_types(after.as_deref(), limit).await.map_err(away)?;
        let event_types = page.event_types.iter().map(view).collect();
        let next_cursor = page.next.map(|after| cursor::after(&SCOPE, &after));
        Ok(answer::json(StatusCode::OK, &Page { event_types, next_cursor }, correlation_id))
    }

    /// One event type.
    pub(crate) async fn event_type(&self, name: &str, correlation_id: &str) -> Result<Response<String>, Problem> {
        let event_type = self.registry.event_type(name).await.map_err(away)?.ok_or_else(unknown)?;
        Ok(answer::json(StatusCode::OK, &view(&event_type), correlation_id))
    }

    /// Makes an event type, or replaces all of it.
    pub(crate) async fn put_event_type(
        &self,
        name: &str,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let raw = body::json(body.as_ref())?;
        let bytes = raw.get().len();
        if bytes > MAX_DEFINITION {
            return Err(Problem::too_large(format!(
                "The event type has {bytes} bytes; at most {MAX_DEFINITION} are kept."
            )));
        }
        let definition = event_type_request::definition(raw).map_err(Problem::invalid)?;
        let put = self.registry.put_event_type(name, &definition, self.clock.now()).await.map_err(away)?;
        tracing::info!(event_type = name, is_new = put.is_new, correlation_id, "event type written");
        Ok(written(&put, correlation_id))
    }

    /// Deletes an event type. Endpoints that want it stay as they are.
    pub(crate) async fn delete_event_type(
        &self,
        name: &str,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        if !self.registry.delete_event_type(name).await.map_err(away)? {
            return Err(unknown());
        }
        tracing::warn!(event_type = name, correlation_id, "event type deleted");
        Ok(answer::no_content(correlation_id))
    }
}

fn written(put: &Catalogued, correlation_id: &str) -> Response<String> {
    let status = if put.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = answer::json(status, &view(&put.event_type), correlation_id);
    if put.is_new
        && let Ok(location) = HeaderValue::try_from(format!("/event-types/{}", put.event_type.name))
    {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
