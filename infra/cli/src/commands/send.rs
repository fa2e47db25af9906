//! `send`: an event for the endpoints of a tenant, or a webhook for one URL.

use std::time::Duration;

use domain::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::api::{Answer, Api, segment};
use crate::clock;
use crate::connection::{Connection, TenantArgument};
use crate::delivery::{self, Shown};
use crate::failure::Failure;
use crate::follow::{self, Event, Followed};
use crate::input;
use crate::output::{Output, array, json};
use crate::table::Details;
use crate::text::count_of;

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
    /// Your id of it; without one, one is made. Sending the same again is safe: it is accepted once
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
    reference_id: &'a str,
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
    event_id: &'a str,
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
    // With an id, an answer that is lost does not lead to two webhooks.
    let id = arguments.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let expires_at = arguments.expires_in.map(|life| clock::now().after(life)).as_ref().map(Millis::to_string);
    let (path, body) = match &arguments.to {
        Some(url) => {
            let headers = arguments.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let webhook = NewWebhook {
                webhook_url: url.as_str(),
                payload: &payload,
                reference_id: &id,
                event_type: arguments.event_type.as_deref(),
                headers: Some(headers).filter(|_| !arguments.headers.is_empty()),
                expires_at,
            };
            ("/webhooks".to_owned(), serde_json::to_string(&webhook))
        }
        None => {
            let event_type = arguments.event_type.as_deref().unwrap_or_default();
            let event = NewEvent { event_type, payload: &payload, event_id: &id, expires_at };
            (format!("{}/events", arguments.tenant.path(connection)?), serde_json::to_string(&event))
        }
    };
    let body = body.map_err(|error| Failure::Usage(format!("the request cannot be written: {error}")))?;
    let api = Api::of(connection).await?;
    let answer = api.post(&path, body).await.map_err(|failure| match failure {
        Failure::Unreachable(why) => {
            Failure::Unreachable(format!("{why}\n  It may have been accepted. To try again, add --id {id}"))
        }
        refused @ (Failure::Refused(_) | Failure::Usage(_)) => refused,
    })?;
    let accepted: Accepted = answer.read()?;
    if !arguments.wait {
        output.show(&answer, |_| accepted.told());
        return Ok(());
    }
    if output == Output::Text {
        output.show(&answer, |_| accepted.told());
    }
    match &accepted.event_id {
        Some(event) => {
            let followed = follow::event(&api, &format!("{path}/{}", segment(event)), arguments.timeout).await;
            show_event(output, &answer, followed)
        }
        None => {
            let path = format!("/webhook-statuses/{}", segment(&accepted.webhook_id));
            let Followed { last, end } = follow::delivery(&api, &path, arguments.timeout, true).await;
            let delivery = last.as_ref().map_or("null", |last| last.body.trim_end());
            match (output, &last) {
                (Output::Json, _) => {
                    json(&format!("{{\"accepted\": {},\n \"delivery\": {delivery}}}", answer.body.trim_end()))
                }
                (Output::Text, Some(last)) => {
                    let shown = Shown::read(last)?;
                    output.show(last, |now| format!("\n{}", shown.told(now)));
                }
                (Output::Text, None) => {}
            }
            end
        }
    }
}

/// Shows an event that was followed, and says how it ended.
fn show_event(output: Output, accepted: &Answer, followed: Followed<Event>) -> Result<(), Failure> {
    let Followed { last, end } = followed;
    match (output, &last) {
        (Output::Json, last) => {
            let deliveries = last.as_ref().map_or_else(|| "null".to_owned(), |event| array(&event.items));
            let owed = last.as_ref().map(|event| event.owed).unwrap_or_default();
            let accepted = accepted.body.trim_end();
            json(&format!("{{\"accepted\": {accepted},\n \"owed\": {owed},\n \"deliveries\": {deliveries}}}"));
        }
        (Output::Text, Some(event)) => {
            let now = clock::now();
            let mut text = String::from("\n");
            if !event.lives.is_empty() {
                text.push_str(&delivery::table_by_endpoint(&event.lives, now));
            }
            match event.owed {
                0 if event.lives.is_empty() => text.push_str("No endpoint of the tenant wants it.\n"),
                0 => {}
                owed => {
                    let kept = count_of(owed, "delivery is", "deliveries are");
                    text.push_str(&format!("{kept} kept for endpoints that are paused or disabled.\n"));
                }
            }
            anstream::print!("{text}");
        }
        (Output::Text, None) => {}
    }
    end
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
