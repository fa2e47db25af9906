//! `send`: an event for the endpoints of a tenant, or a webhook for one URL.

use std::time::Duration;

use domain::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::api::{Api, segment};
use crate::clock;
use crate::connection::{Connection, TenantArgument};
use crate::failure::Failure;
use crate::follow;
use crate::input;
use crate::output::Output;
use crate::table::Details;

/// Sends an event to the endpoints of a tenant, or a webhook to one URL
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --to, the payload goes to that URL as a direct webhook. Without it, it is an event of a tenant
and goes to every endpoint that wants its type.

Examples:
  steadhook send --tenant acme --type order.paid '{\"order\": 17}'
  steadhook send --tenant acme --type order.paid --id order-17-paid @event.json --wait
  generate-report | steadhook send --to https://example.com/reports -")]
pub(crate) struct Arguments {
    /// The payload: JSON, @file, or - for standard input. It arrives byte for byte
    payload: String,
    #[command(flatten)]
    tenant: TenantArgument,
    /// The event type, such as order.paid
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "to")]
    event_type: Option<String>,
    /// Where to send a direct webhook
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// Your id of it. Sending the same again is safe: it is accepted once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// A header for the receiver of a direct webhook; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = input::header, requires = "to")]
    headers: Vec<(String, String)>,
    /// When to give up, from now. The default is a day for a webhook; for an event, each endpoint's schedule decides
    #[arg(long, value_name = "DURATION", value_parser = input::duration)]
    expires_in: Option<Duration>,
    /// Follow it until every delivery has ended. One that was given up is exit code 1
    #[arg(long)]
    wait: bool,
    /// How long to follow it. The delivery goes on after that
    #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "10m", requires = "wait")]
    timeout: Duration,
}

#[derive(Serialize)]
struct NewWebhook<'a> {
    webhook_url: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<std::collections::BTreeMap<&'a str, &'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct NewEvent<'a> {
    event_type: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Accepted {
    event_id: Option<String>,
    webhook_id: String,
    duplicate: bool,
    correlation_id: String,
}

/// Sends it.
///
/// # Errors
/// Why it was not accepted, or with `--wait` not delivered.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    let payload = input::json(&arguments.payload)?;
    let expires_at = arguments.expires_in.map(|life| clock::now().after(life)).as_ref().map(Millis::to_string);
    let (path, body) = match &arguments.to {
        Some(url) => {
            let headers = arguments.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let webhook = NewWebhook {
                webhook_url: url.as_str(),
                payload: &payload,
                reference_id: arguments.id.as_deref(),
                event_type: arguments.event_type.as_deref(),
                headers: Some(headers).filter(|_| !arguments.headers.is_empty()),
                expires_at,
            };
            ("/webhooks".to_owned(), serde_json::to_string(&webhook))
        }
        None => {
            let event_type = arguments.event_type.as_deref().unwrap_or_default();
            let event = NewEvent { event_type, payload: &payload, event_id: arguments.id.as_deref(), expires_at };
            (format!("{}/events", arguments.tenant.path(connection)?), serde_json::to_string(&event))
        }
    };
    let body = body.map_err(|error| Failure::Usage(format!("the request cannot be written: {error}")))?;
    let api = Api::of(connection).await?;
    let answer = api.post(&path, body).await?;
    let accepted: Accepted = answer.read()?;
    if !(arguments.wait && output == Output::Json) {
        output.show(&answer, |_| accepted.told());
    }
    if !arguments.wait {
        return Ok(());
    }
    match &accepted.event_id {
        Some(event) => follow::event(&api, output, &format!("{path}/{}", segment(event)), arguments.timeout).await,
        None => {
            let path = format!("/webhook-statuses/{}", segment(&accepted.webhook_id));
            follow::delivery(&api, output, &path, arguments.timeout).await
        }
    }
}

impl Accepted {
    fn told(&self) -> String {
        let mut details = Details::default();
        details.word(if self.event_id.is_some() { "event" } else { "webhook" }, "accepted");
        details.text("id", self.event_id.as_ref().unwrap_or(&self.webhook_id));
        if self.duplicate {
            details.text("duplicate", "yes: it was accepted before, and is not sent again");
        }
        details.text("correlation_id", &self.correlation_id);
        details.lines()
    }
}
