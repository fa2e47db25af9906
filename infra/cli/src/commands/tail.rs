//! `tail`: deliveries as they finish.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Api, read};
use crate::connection::{Connection, TenantArgument};
use crate::delivery::Life;
use crate::failure::Failure;
use crate::output::{Output, json};
use crate::table::{Cell, Table};
use crate::text::DIM;

/// The time between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// The most that one look sees.
const PAGE: u32 = 200;

/// Follows deliveries as they finish
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The operator sees those of the whole stack, or of one tenant. With --endpoint, it follows the
deliveries to one endpoint, which a tenant's token may do as well. It ends with Ctrl-C.

Examples:
  steadhook tail
  steadhook tail --tenant acme --failed
  steadhook tail -n 50 --no-follow --output json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    tenant: TenantArgument,
    /// Only deliveries to this endpoint, its id or uid: of the 200 events that it got last
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Only deliveries that were given up
    #[arg(long)]
    failed: bool,
    /// Begin with so many that have finished already
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=200))]
    last: u16,
    /// End after these
    #[arg(long)]
    no_follow: bool,
}

/// A delivery that finished.
#[derive(Deserialize)]
struct Finished {
    delivery_id: String,
    ended_at: String,
    result: String,
    tenant: Option<String>,
    endpoint_id: Option<String>,
    event_type: Option<String>,
    destination: Option<String>,
    attempts: u64,
    status_code: Option<u16>,
    duration_ms: Option<u64>,
}

/// Follows them.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    let tenant = arguments.tenant.find(connection)?;
    let of_tenant = arguments.endpoint.is_some().then(|| arguments.tenant.path(connection)).transpose()?;
    let api = Api::of(connection).await?;
    let of_endpoint = match (&of_tenant, &arguments.endpoint) {
        (Some(tenant), Some(endpoint)) => Some(format!("{}/deliveries", api.endpoint(tenant, endpoint).await?)),
        (_, _) => None,
    };
    let (mut seen, mut first): (HashSet<Key>, bool) = (HashSet::new(), true);
    loop {
        let look = match &of_endpoint {
            Some(path) => of_one_endpoint(&api, path).await,
            None => of_all(&api).await,
        };
        match look {
            Ok(mut found) => {
                // What is not on this page any more does not come back.
                let keys: HashSet<Key> = found.iter().map(|(one, _)| one.key()).collect();
                let missed = !first && keys.len() >= PAGE as usize && seen.is_disjoint(&keys);
                found.retain(|(one, _)| !seen.contains(&one.key()) && arguments.wants(one, tenant.as_deref()));
                if first {
                    found.truncate(arguments.last.into());
                }
                found.reverse();
                show(output, &found, first, missed);
                (seen, first) = (keys, false);
            }
            Err(Failure::Unreachable(why)) if !first => anstream::eprintln!("{DIM}waiting for an answer: {why}{DIM:#}"),
            Err(failure) => return Err(failure),
        }
        if arguments.no_follow {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What tells a delivery that finished from all others: it may be sent again and finish again.
type Key = (String, String);

fn show(output: Output, found: &[(Finished, Box<RawValue>)], first: bool, missed: bool) {
    if missed {
        anstream::eprintln!("{DIM}more than {PAGE} have finished since: some are not shown{DIM:#}");
    }
    if output == Output::Json {
        found.iter().for_each(|(_, item)| json(item.get()));
        return;
    }
    // Titles with room, so that the lines of later looks stand below those of earlier ones.
    let titles = ["ENDED", "RESULT           ", "ATTEMPTS", "ANSWER", "TOOK    ", "TYPE            ", "DELIVERY"];
    let mut table = Table::new(titles);
    found.iter().for_each(|(one, _)| table.row(one.row()));
    anstream::print!("{}", if first { table.lines() } else { table.lines_below() });
}

/// What one look sees, newest first.
type Look = Vec<(Finished, Box<RawValue>)>;

async fn of_all(api: &Api) -> Result<Look, Failure> {
    #[derive(Deserialize)]
    struct Page {
        deliveries: Vec<Box<RawValue>>,
    }
    let answer = api.get("/deliveries/recent", &[("limit", Some(PAGE.to_string()))]).await?;
    let page: Page = answer.read()?;
    page.deliveries.into_iter().map(|item| Ok((read(item.get())?, item))).collect()
}

async fn of_one_endpoint(api: &Api, path: &str) -> Result<Look, Failure> {
    let mut found = Vec::new();
    for item in api.list(path, &[], "deliveries", PAGE).await? {
        if let Some(one) = finished(read(item.get())?) {
            found.push((one, item));
        }
    }
    found.sort_by(|(one, _), (other, _)| other.ended_at.cmp(&one.ended_at));
    Ok(found)
}

impl Arguments {
    fn wants(&self, one: &Finished, tenant: Option<&str>) -> bool {
        // The deliveries of an endpoint are those of its tenant, and do not say so.
        let of_tenant = self.endpoint.is_some() || tenant.is_none_or(|tenant| one.tenant.as_deref() == Some(tenant));
        of_tenant && !(self.failed && one.result == "delivered")
    }
}

/// A delivery to an endpoint that has ended, or nothing.
fn finished(life: Life) -> Option<Finished> {
    let status_code = life.last_status_code();
    Some(Finished {
        ended_at: life.ended_at?,
        result: life.result.unwrap_or(life.status),
        tenant: None,
        endpoint_id: None,
        event_type: life.event_type,
        destination: None,
        attempts: life.attempt_count,
        status_code,
        duration_ms: life.attempts.last().map(|last| last.duration_ms),
        delivery_id: life.delivery_id,
    })
}

impl Finished {
    fn key(&self) -> Key {
        (self.delivery_id.clone(), self.ended_at.clone())
    }

    fn row(&self) -> [Cell; 7] {
        let to = self.endpoint_id.as_ref().or(self.destination.as_ref());
        [
            // RFC 3339: the time of the day, in UTC.
            self.ended_at.get(11..19).unwrap_or(&self.ended_at).into(),
            Cell::word(&self.result),
            self.attempts.to_string().into(),
            self.status_code.map(|code| code.to_string()).unwrap_or_default().into(),
            self.duration_ms.map(|ms| format!("{ms} ms")).unwrap_or_default().into(),
            self.event_type.as_deref().unwrap_or_default().into(),
            match (to, &self.tenant) {
                (Some(to), Some(tenant)) if self.endpoint_id.is_some() => {
                    format!("{}  {tenant}/{to}", self.delivery_id)
                }
                (Some(to), _) => format!("{}  {to}", self.delivery_id),
                (None, _) => self.delivery_id.clone(),
            }
            .into(),
        ]
    }
}
