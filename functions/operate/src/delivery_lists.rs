//! `GET /tenants/{tenant}/events/{event}/deliveries` and
//! `GET /tenants/{tenant}/endpoints/{endpoint}/deliveries`: what became of deliveries.

use std::sync::LazyLock;

use adapters::history::Part;
use adapters::http::answer::Problem;
use adapters::http::query::QueryString;
use adapters::redis::waiting;
use domain::fault::listed;
use domain::history::delivery::{DeliveryEnd, EndedDelivery};
use domain::history::names;
use domain::history::page::merged;
use domain::place::Place;
use domain::reason::Reason;
use domain::schedule::LONGEST_LIFE;
use domain::time::Millis;
use futures_util::future::join;
use serde_json::{Value, json};
use strum::VariantNames as _;

use crate::Operate;
use crate::event_path::{endpoint_names, event_names};
use crate::history::{self, Scope};
use crate::lives::{self, LifeName};
use crate::request::{MAX_PAGE, PAGE};
use crate::statuses::unreadable;

/// Deliveries of a shard that are looked at for a filter.
const FILTERED: usize = 500;
/// Pages of the list of what waits that one call may find to be wrong, and repairs.
const REPAIRS: usize = 4;
/// The longest cursor's name.
const MAX_NAME: usize = 192;
/// What a result is, for a person.
static RESULTS: LazyLock<String> =
    LazyLock::new(|| format!("must be waiting, delivered, failed, or a reason: {}", listed(Reason::VARIANTS)));

/// Which deliveries are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResultFilter {
    /// Those that ended so.
    Ended(DeliveryEnd),
    /// Those that were given up.
    Failed,
    /// Those that are unfinished.
    Waiting,
}

impl ResultFilter {
    fn of(name: &str) -> Option<Self> {
        match name {
            "waiting" => Some(Self::Waiting),
            "failed" => Some(Self::Failed),
            "delivered" => Some(Self::Ended(DeliveryEnd::Delivered)),
            reason => reason.parse::<Reason>().ok().map(|reason| Self::Ended(DeliveryEnd::GivenUp(reason))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ended(end) => end.as_str(),
            Self::Failed => "failed",
            Self::Waiting => "waiting",
        }
    }

    fn has(self, end: &EndedDelivery) -> bool {
        match self {
            Self::Ended(wanted) => end.result == wanted,
            Self::Failed => !end.is_delivered(),
            Self::Waiting => false,
        }
    }
}

impl Operate {
    /// A page of the deliveries of an event that ended, by endpoint.
    pub(crate) async fn deliveries_of_event(&self, tenant: &str, event: &str, query: &str) -> Result<Value, Problem> {
        let (tenant, event) = event_names(tenant, event)?;
        let mut query = QueryString::of(query);
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let scope = Scope::new(["deliveries of event", &tenant, &event]);
        let is_name = |name: &str| name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        let after = scope.read(&mut query, |name| is_name(name).then(|| name.to_owned()));
        query.finish()?;
        let part = Part { by_event: true, after, limit, ..Part::of(names::event(&tenant, &event)) };
        let slice = self.history.part(&part, self.clock.now()).await.map_err(|error| history::unreadable(&error))?;
        if slice.rows.is_empty() && part.after.is_none() {
            // An event that nobody knows is not the same as one without deliveries.
            self.event(&tenant, &event).await?;
        }
        let ends = slice.rows.iter().filter_map(history::read::<EndedDelivery>);
        let shown: Vec<Value> = ends.filter_map(|end| Some(lives::ended(end.target.as_ref()?, &end))).collect();
        Ok(json!({ "deliveries": shown, "next_cursor": slice.next.map(|next| scope.cursor(&next)) }))
    }

    /// A page of the deliveries of an endpoint: those that ended, by acceptance and newest
    /// first, or those that wait.
    pub(crate) async fn deliveries_of_endpoint(
        &self,
        tenant: &str,
        endpoint: &str,
        query: &str,
    ) -> Result<Value, Problem> {
        let (tenant, endpoint) = endpoint_names(tenant, endpoint)?;
        let mut query = QueryString::of(query);
        let wanted = query.optional("result", ResultFilter::of, &RESULTS);
        let (since, until) = (query.time("since"), query.time("until"));
        let limit = query.number("limit", PAGE, 1..=MAX_PAGE);
        let result = wanted.map(ResultFilter::name).unwrap_or_default();
        let scope = Scope::new(["deliveries of endpoint", &tenant, &endpoint, result]).within(since, until);
        if wanted == Some(ResultFilter::Waiting) {
            let after = scope.read(&mut query, Place::from_sortable);
            query.finish()?;
            self.must_know(&tenant, &endpoint).await?;
            let is_inside = |accepted_at: Millis| {
                since.is_none_or(|since| accepted_at >= since) && until.is_none_or(|until| accepted_at < until)
            };
            return self.waiting(&tenant, &endpoint, &scope, after.as_ref(), limit, is_inside).await;
        }
        let whole = self.window(since, until, LONGEST_LIFE + names::DAY);
        let goes_on = scope.read(&mut query, |place| whole.from(place));
        query.finish()?;

        let window = goes_on.unwrap_or(whole);
        let days = window.days(1);
        let shards = days.iter().flat_map(|day| {
            (0..names::SHARDS).map(|shard| names::deliveries(&tenant, &endpoint, &names::day(*day), shard))
        });
        // Events are spread evenly: half of a page from each shard nearly always fills it.
        let looked_at = if wanted.is_some() { FILTERED } else { limit.div_ceil(2) + 10 };
        let (known, runs) = join(self.must_know(&tenant, &endpoint), self.runs(shards, &window, looked_at)).await;
        known?;
        let runs = runs?;
        let page = merged(runs, limit, |row| {
            let end: EndedDelivery = history::read(row)?;
            let is_wanted = wanted.is_none_or(|wanted| wanted.has(&end));
            end.target.as_ref().filter(|_| is_wanted).map(|target| lives::ended(target, &end))
        });
        let next = page.next.or_else(|| window.next(&days));
        Ok(json!({ "deliveries": page.items, "next_cursor": next.map(|place| scope.cursor(&place)) }))
    }

    /// A page of the deliveries that wait, by their next attempt.
    async fn waiting(
        &self,
        tenant: &str,
        endpoint: &str,
        scope: &Scope,
        after: Option<&Place>,
        limit: usize,
        is_inside: impl Fn(Millis) -> bool,
    ) -> Result<Value, Problem> {
        let now = self.clock.now();
        let (mut page, mut shown) = (self.page_of_waiting(endpoint, after, limit).await?, Vec::new());
        for _ in 1..REPAIRS {
            let Some(next) = page.next.clone().filter(|_| page.deliveries.is_empty()) else { break };
            page = self.page_of_waiting(endpoint, Some(&next), limit).await?;
        }
        for (place, stored) in &page.deliveries {
            let details = &stored.record.details;
            // An endpoint belongs to one tenant. Another one learns nothing of its deliveries,
            // and gets no place among them.
            if details.tenant.as_deref() != Some(tenant) {
                return Ok(json!({ "deliveries": [], "next_cursor": null }));
            }
            if is_inside(details.accepted_at) {
                shown.extend(LifeName::of_id(tenant, &place.id).map(|name| lives::recorded(&name, stored, now)));
            }
        }
        if page.deliveries.is_empty() && page.next.is_some() {
            return Err(Problem::unavailable("The list of what waits is being repaired. Try again."));
        }
        let next = page.next;
        Ok(json!({ "deliveries": shown, "next_cursor": next.map(|place| scope.cursor(&place.sortable())) }))
    }

    async fn page_of_waiting(
        &self,
        endpoint: &str,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<waiting::Page, Problem> {
        waiting::read(self.redis.as_ref(), endpoint, after, limit).await.map_err(|error| unreadable(&error))
    }
}
