//! `status`: what became of a delivery, and of those that changed last.

use std::time::Duration;

use domain::identity;
use domain::time::Millis;
use serde::Deserialize;

use crate::api::{Answer, Api, read, segment};
use crate::connection::{Connection, TenantArgument};
use crate::delivery::Shown;
use crate::failure::Failure;
use crate::follow::{self, Followed};
use crate::input;
use crate::output::Output;
use crate::table::{Cell, Table};
use crate::text::when;

/// Shows one delivery, or the direct webhooks that changed last
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook status order-17-paid
  steadhook status order-17-paid.ep_2Nq8vYtR0aKcWm5XbZdL7e --tenant acme
  steadhook status --status failed --limit 20")]
pub(crate) struct Arguments {
    /// Id of a direct webhook, or of a delivery to an endpoint. Without it, direct webhooks are listed
    id: Option<String>,
    #[command(flatten)]
    tenant: TenantArgument,
    /// List only those with this status
    #[arg(long, value_name = "STATUS", value_parser = ["pending", "retrying", "delivered", "failed"], conflicts_with = "id")]
    status: Option<String>,
    /// List so many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    limit: u32,
    /// Follow the delivery to its end. One that was given up is exit code 1
    #[arg(long, requires = "id")]
    wait: bool,
    /// How long to follow it
    #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "10m", requires = "wait")]
    timeout: Duration,
}

#[derive(Deserialize)]
struct Listed {
    webhook_id: String,
    status: String,
    webhook_url: String,
    attempts: u64,
    last_status_code: Option<u16>,
    updated_at: String,
    error: Option<String>,
}

/// Shows it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    let Some(id) = &arguments.id else {
        let api = Api::of(connection).await?;
        let items = api.list("/webhook-statuses", &[("status", arguments.status)], "webhooks", arguments.limit).await?;
        let listed: Vec<Listed> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
        output.show_list(&items, |now| table(&listed, now));
        return Ok(());
    };
    let path = path_of(id, &arguments.tenant, connection)?;
    let api = Api::of(connection).await?;
    if arguments.wait {
        let Followed { last, end } = follow::delivery(&api, &path, arguments.timeout, false).await;
        if let Some(last) = &last {
            show(output, last)?;
        }
        return end;
    }
    show(output, &api.get(&path, &[]).await?)
}

fn show(output: Output, answer: &Answer) -> Result<(), Failure> {
    let shown = Shown::read(answer)?;
    output.show(answer, |now| shown.told(now));
    Ok(())
}

/// A delivery to an endpoint belongs to an event of a tenant; any other id is that of a direct webhook.
fn path_of(id: &str, tenant: &TenantArgument, connection: &Connection) -> Result<String, Failure> {
    let Some((event, rest)) = id.split_once(".").filter(|_| identity::is_delivery_id(id)) else {
        return Ok(format!("/webhook-statuses/{}", segment(id)));
    };
    let (endpoint, life) = rest.split_once('.').map_or((rest, None), |(endpoint, life)| (endpoint, Some(life)));
    let life = life.map(|life| format!("?life={}", segment(life))).unwrap_or_default();
    let tenant = tenant.path(connection)?;
    Ok(format!("{tenant}/events/{}/deliveries/{}{life}", segment(event), segment(endpoint)))
}

fn table(listed: &[Listed], now: Millis) -> String {
    if listed.is_empty() {
        return "No direct webhooks. Send one with `steadhook send --to URL PAYLOAD`.\n".to_owned();
    }
    let mut table = Table::new(["ID", "STATUS", "ATTEMPTS", "ANSWER", "CHANGED", "TO", "WHY"]);
    for one in listed {
        table.row([
            (&*one.webhook_id).into(),
            Cell::word(&one.status),
            one.attempts.to_string().into(),
            one.last_status_code.map(|code| code.to_string()).unwrap_or_default().into(),
            when(&one.updated_at, now).into(),
            (&*one.webhook_url).into(),
            one.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.lines()
}
