//! What is read of tenants.

use std::collections::BTreeMap;

use adapters::http::answer::{self, Problem};
use adapters::http::query::QueryString;
use domain::cursor;
use domain::endpoint::EndpointState;
use domain::names::is_tenant_or_operator;
use lambda_http::http::{Response, StatusCode};
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::Endpoints;
use crate::problems::away;
use crate::read::{CURSOR, MAX_PAGE, PAGE};

impl Endpoints {
    /// A page of the tenants.
    pub(crate) async fn tenants(&self, query: &str, correlation_id: &str) -> Result<Response<String>, Problem> {
        let mut query = QueryString::of(query);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let read = |text: &str| cursor::read(&["tenants"], text).filter(|after| is_tenant_or_operator(after));
        let after = query.optional("cursor", read, CURSOR);
        query.finish()?;
        let page = self.registry.tenants(after.as_deref(), limit).await.map_err(away)?;
        let tenants: Vec<Value> = page.tenants.iter().map(|tenant| json!({ "tenant": tenant })).collect();
        let next = page.next.map(|after| cursor::after(&["tenants"], &after));
        Ok(answer::json(StatusCode::OK, &json!({ "tenants": tenants, "next_cursor": next }), correlation_id))
    }

    /// Refuses changes of a tenant that is being erased.
    pub(crate) async fn refuse_erasing(&self, tenant: &str) -> Result<(), Problem> {
        let known = self.registry.tenant(tenant).await.map_err(away)?;
        if known.is_some_and(|known| known.is_erasing) {
            return Err(Problem::conflict("The tenant is being erased. Try again when that is done."));
        }
        Ok(())
    }

    /// One tenant.
    pub(crate) async fn tenant(&self, tenant: &str, correlation_id: &str) -> Result<Response<String>, Problem> {
        let unknown =
            || Problem::not_found("There is no tenant of this name. A tenant exists once it has an endpoint.");
        let known = self.registry.tenant(tenant).await.map_err(away)?.ok_or_else(unknown)?;
        let by_state: BTreeMap<&str, u64> =
            EndpointState::iter().map(|state| (state.as_str(), known.in_state(state))).collect();
        let mut body = json!({
            "tenant": tenant,
            "endpoints": known.endpoints,
            "by_state": by_state,
            "owed": self.owed_by_held(tenant, &known).await,
            "revision": known.revision,
        });
        if let Some(before) = known.erased_before {
            body["erasing"] = json!({ "before": before.to_string(), "done": !known.is_erasing });
        }
        Ok(answer::json(StatusCode::OK, &body, correlation_id))
    }
}
