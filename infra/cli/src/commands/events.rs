//! `events`: what was told, and what became of it.

use domain::time::Millis;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Api, read, segment};
use crate::connection::{Connection, TenantArgument};
use crate::delivery::{self, Life, Shown};
use crate::failure::Failure;
use crate::input::Period;
use crate::output::Output;
use crate::table::{Cell, Details, Table};
use crate::text::{when, when_in_full};

/// Lists events, shows what became of them, sends deliveries again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook events list --tenant acme --type order.paid --since 1d
  steadhook events show order-17-paid --tenant acme
  steadhook events resend order-17-paid ep_2Nq8vYtR0aKcWm5XbZdL7e --tenant acme")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the events of a tenant, newest first
    List {
        #[command(flatten)]
        tenant: TenantArgument,
        /// Only events of this type
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        #[command(flatten)]
        period: Period,
        /// List so many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Shows an event, its payload and its deliveries
    Show {
        /// Id of the event
        event: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
    /// Shows one delivery of an event with all attempts
    Delivery {
        /// Id of the event
        event: String,
        /// Id or uid of the endpoint
        endpoint: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
    /// Sends one delivery of an event again
    Resend {
        /// Id of the event
        event: String,
        /// Id or uid of the endpoint
        endpoint: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
    /// Erases the payload of an event for ever
    Erase {
        /// Id of the event
        event: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
}

#[derive(Deserialize)]
struct Listed {
    event_id: String,
    event_type: String,
    accepted_at: String,
    webhook_id: String,
}

#[derive(Deserialize)]
struct Event {
    event_id: String,
    webhook_id: String,
    event_type: String,
    tenant: String,
    accepted_at: String,
    correlation_id: String,
    status: Option<String>,
    matched: Option<u64>,
    queued: Option<u64>,
    owed: Option<u64>,
    error: Option<String>,
    next_attempt_at: Option<String>,
    expires_at: Option<String>,
    erased_at: Option<String>,
    payload: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Resent {
    delivery_id: String,
}

/// Does it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List { tenant, event_type, period, limit } => {
            let path = format!("{}/events", tenant.path(connection)?);
            let query = [&period.query()[..], &[("event_type", event_type)]].concat();
            let items = Api::of(connection).await?.list(&path, &query, "events", limit).await?;
            let listed: Vec<Listed> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
            output.show_list(&items, |now| table(&listed, now));
        }
        Action::Show { event, tenant } => {
            let path = format!("{}/events/{}", tenant.path(connection)?, segment(&event));
            let api = Api::of(connection).await?;
            let answer = api.get(&path, &[]).await?;
            let event: Event = answer.read()?;
            if output == Output::Json {
                output.show(&answer, |_| String::new());
                return Ok(());
            }
            let lives = api.list(&format!("{path}/deliveries"), &[], "deliveries", 200).await?;
            let lives: Vec<Life> = lives.iter().map(|life| read(life.get())).collect::<Result<_, _>>()?;
            output.show(&answer, |now| event.told(&lives, now));
        }
        Action::Delivery { event, endpoint, tenant } => {
            let (api, path) = delivery_path(connection, &tenant, &event, &endpoint).await?;
            let answer = api.get(&path, &[]).await?;
            let shown = Shown::read(&answer)?;
            output.show(&answer, |now| shown.told(now));
        }
        Action::Resend { event, endpoint, tenant } => {
            let (api, path) = delivery_path(connection, &tenant, &event, &endpoint).await?;
            let answer = api.post(&format!("{path}/resend"), String::new()).await?;
            let resent: Resent = answer.read()?;
            output.show(&answer, |_| {
                let mut details = Details::default();
                details.word("delivery", "accepted");
                details.text("id", &resent.delivery_id);
                details.lines()
            });
        }
        Action::Erase { event, tenant } => {
            let path = format!("{}/events/{}/payload", tenant.path(connection)?, segment(&event));
            let answer = Api::of(connection).await?.delete(&path).await?;
            output.show(&answer, |_| "The payload is being erased.\n".to_owned());
        }
    }
    Ok(())
}

/// A client, and the path of a delivery.
async fn delivery_path(
    connection: &Connection,
    tenant: &TenantArgument,
    event: &str,
    endpoint: &str,
) -> Result<(Api, String), Failure> {
    let tenant = tenant.path(connection)?;
    let api = Api::of(connection).await?;
    let endpoint = api.endpoint_id(&tenant, endpoint).await?;
    let path = format!("{tenant}/events/{}/deliveries/{}", segment(event), segment(&endpoint));
    Ok((api, path))
}

fn table(listed: &[Listed], now: Millis) -> String {
    if listed.is_empty() {
        return "No events. Send one with `steadhook send --tenant TENANT --type TYPE PAYLOAD`.\n".to_owned();
    }
    let mut table = Table::new(["EVENT", "TYPE", "ACCEPTED", "WEBHOOK-ID"]);
    for one in listed {
        let accepted: Cell = when(&one.accepted_at, now).into();
        table.row([(&*one.event_id).into(), (&*one.event_type).into(), accepted, (&*one.webhook_id).into()]);
    }
    table.lines()
}

impl Event {
    fn told(&self, lives: &[Life], now: Millis) -> String {
        let mut details = Details::default();
        details.text("event", &self.event_id);
        details.text("type", &self.event_type);
        details.text("tenant", &self.tenant);
        if let Some(status) = &self.status {
            details.word("status", status);
        }
        for (label, count) in [("matched", self.matched), ("queued", self.queued), ("owed", self.owed)] {
            details.optional(label, count.map(|count| count.to_string()).as_deref());
        }
        details.optional("error", self.error.as_deref());
        details.styled("accepted", when_in_full(&self.accepted_at, now));
        let times =
            [("goes on", &self.next_attempt_at), ("expires", &self.expires_at), ("payload erased", &self.erased_at)];
        for (label, time) in times {
            if let Some(time) = time {
                details.styled(label, when_in_full(time, now));
            }
        }
        details.text("webhook-id", &self.webhook_id);
        details.text("correlation_id", &self.correlation_id);
        let mut text = details.lines() + &delivery::payload(self.payload.as_deref().map(RawValue::get));
        if !lives.is_empty() {
            text.push('\n');
            text.push_str(&delivery::table_by_endpoint(lives, now));
        }
        text
    }
}
