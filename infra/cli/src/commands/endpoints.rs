//! `endpoints`: the receivers of a tenant.

use std::collections::BTreeMap;

use domain::schedule::RetrySchedule;
use domain::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::api::{Answer, Api, read};
use crate::connection::{Connection, TenantArgument};
use crate::delivery::{self, Life};
use crate::failure::Failure;
use crate::input::{self, Period};
use crate::output::Output;
use crate::table::{Cell, Details, Table};
use crate::text::{BOLD, clean, span, style_of, when, when_in_full};

/// Registers, changes, pauses and tests the endpoints of a tenant
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook endpoints create https://example.com/hooks --tenant acme --types 'order.*'
  steadhook endpoints list --tenant acme
  steadhook endpoints update ep_2Nq8vYtR0aKcWm5XbZdL7e --tenant acme --rate 20
  steadhook endpoints pause ep_2Nq8vYtR0aKcWm5XbZdL7e --tenant acme")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// One endpoint.
#[derive(Debug, clap::Args)]
struct Endpoint {
    /// Id or uid of the endpoint
    endpoint: String,
    #[command(flatten)]
    tenant: TenantArgument,
}

/// What can be set of an endpoint.
#[derive(Debug, clap::Args)]
struct Settings {
    /// Event types that it gets, such as order.paid or order.*; all if there are none
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    types: Option<Vec<String>>,
    /// Only events that match this filter: JSON in the syntax of EventBridge, @file, or -
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Your own id of it
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// Most deliveries in a second
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,
    /// Waits between attempts, such as 5s,5m,1h
    #[arg(long, value_name = "DURATIONS", value_parser = schedule)]
    schedule: Option<RetrySchedule>,
    /// A header for the receiver; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = input::header)]
    headers: Vec<(String, String)>,
    /// A header that is never shown again; its value may be @file; may be repeated
    #[arg(long = "sensitive-header", value_name = "NAME: VALUE", value_parser = input::header)]
    sensitive_headers: Vec<(String, String)>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the endpoints of a tenant
    List {
        #[command(flatten)]
        tenant: TenantArgument,
        /// Find the one with this uid
        #[arg(long, value_name = "UID")]
        uid: Option<String>,
        /// List so many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Shows an endpoint and how it is doing
    Show(Endpoint),
    /// Registers an endpoint and shows its secret
    Create {
        /// Where to deliver
        #[arg(value_name = "URL")]
        to: String,
        #[command(flatten)]
        tenant: TenantArgument,
        #[command(flatten)]
        settings: Settings,
        /// Its signing secret, whsec_… or whsk_…; - reads it from standard input. Without it, one is made
        #[arg(long, value_name = "SECRET")]
        secret: Option<String>,
    },
    /// Changes an endpoint
    Update {
        #[command(flatten)]
        endpoint: Endpoint,
        /// Where to deliver
        #[arg(long, value_name = "URL")]
        to: Option<String>,
        #[command(flatten)]
        settings: Settings,
        /// Sets a field back, such as filter or rate
        #[arg(long, value_name = "FIELD", value_parser = ["types", "filter", "description", "uid", "rate", "schedule", "headers"])]
        clear: Vec<String>,
    },
    /// Stops deliveries to an endpoint, which keeps what it is owed
    Pause(Endpoint),
    /// Enables an endpoint that is paused or disabled, and sends what it is owed
    Resume {
        #[command(flatten)]
        endpoint: Endpoint,
        /// Give up what it is owed
        #[arg(long)]
        drop_owed: bool,
    },
    /// Deletes an endpoint
    Delete(Endpoint),
    /// Sends one test delivery, which is never retried
    Test {
        #[command(flatten)]
        endpoint: Endpoint,
        /// The event type
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// The payload: JSON, @file, or -
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
    },
    /// Shows the signing secrets of an endpoint
    Secret(Endpoint),
    /// Makes a new signing secret. The older ones sign as well for a day
    RotateSecret {
        #[command(flatten)]
        endpoint: Endpoint,
        /// How long the older ones sign
        #[arg(long, value_name = "DURATION", value_parser = input::duration)]
        overlap: Option<std::time::Duration>,
    },
    /// Lists the deliveries to an endpoint, newest first
    Deliveries {
        #[command(flatten)]
        endpoint: Endpoint,
        /// Only those with this result: waiting, delivered, failed, or a reason
        #[arg(long, value_name = "RESULT")]
        result: Option<String>,
        #[command(flatten)]
        period: Period,
        /// List so many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// Reads a rate. What is no number of deliveries would set it back.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "a rate is a number above 0".to_owned())
}

/// Reads `5s,5m,1h` as a retry schedule.
fn schedule(text: &str) -> Result<RetrySchedule, String> {
    let waits = text.split(',').filter(|wait| !wait.is_empty()).map(|wait| {
        let wait = input::duration(wait.trim())?;
        u32::try_from(wait.as_secs()).map_err(|_| format!("{wait:?} is too long"))
    });
    RetrySchedule::new(waits.collect::<Result<_, _>>()?).map_err(|why| format!("a schedule {why}"))
}

/// The fields of a request. What was given as JSON is sent byte for byte.
type Body = BTreeMap<&'static str, Box<RawValue>>;

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Failure> {
    to_raw_value(value).map_err(|error| Failure::Usage(format!("the request cannot be written: {error}")))
}

fn written(body: &Body) -> Result<String, Failure> {
    Ok(raw(body)?.get().to_owned())
}

impl Settings {
    /// The fields of a request that these settings give.
    fn fields(&self) -> Result<Body, Failure> {
        let mut fields = Body::new();
        let mut set = |name: &'static str, value: Option<Value>| {
            value.map(|value| raw(&value).map(|value| fields.insert(name, value)).map(drop)).transpose()
        };
        set("event_types", self.types.as_ref().map(|types| json!(types)))?;
        set("description", self.description.as_ref().map(|text| json!(text)))?;
        set("uid", self.uid.as_ref().map(|uid| json!(uid)))?;
        set("rate_per_s", self.rate.map(|rate| json!(rate)))?;
        set("retry_schedule_s", self.schedule.as_ref().map(|schedule| json!(schedule)))?;
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            headers.insert(name.clone(), json!(value));
        }
        for (name, value) in &self.sensitive_headers {
            let value = if value.starts_with('@') { text(input::bytes(value)?)? } else { value.clone() };
            headers.insert(name.clone(), json!({ "value": value, "sensitive": true }));
        }
        set("headers", Some(headers).filter(|headers| !headers.is_empty()).map(Value::Object))?;
        if let Some(filter) = &self.filter {
            fields.insert("filter", input::json(filter)?);
        }
        Ok(fields)
    }
}

/// A secret that was read from elsewhere, without the line break at its end.
fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes).map_err(|_| Failure::Usage("it is no text".to_owned()))?;
    Ok(text.trim().to_owned())
}

/// The name of a field in the API.
fn field(option: &str) -> Option<&'static str> {
    let fields = [
        ("types", "event_types"),
        ("filter", "filter"),
        ("description", "description"),
        ("uid", "uid"),
        ("rate", "rate_per_s"),
        ("schedule", "retry_schedule_s"),
        ("headers", "headers"),
    ];
    fields.into_iter().find(|(name, _)| *name == option).map(|(_, field)| field)
}

impl Endpoint {
    /// A client, and the path of the endpoint.
    async fn find(&self, connection: &Connection) -> Result<(Api, String), Failure> {
        let tenant = self.tenant.path(connection)?;
        let api = Api::of(connection).await?;
        let path = api.endpoint(&tenant, &self.endpoint).await?;
        Ok((api, path))
    }
}

/// Does it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List { tenant, uid, limit } => {
            let path = format!("{}/endpoints", tenant.path(connection)?);
            let items = Api::of(connection).await?.list(&path, &[("uid", uid)], "endpoints", limit).await?;
            let listed: Vec<Fields> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
            output.show_list(&items, |now| table(&listed, now));
            Ok(())
        }
        Action::Show(endpoint) => {
            let (api, path) = endpoint.find(connection).await?;
            show(output, &api.get(&path, &[]).await?)
        }
        Action::Create { to, tenant, settings, secret } => {
            let path = format!("{}/endpoints", tenant.path(connection)?);
            let mut body = settings.fields()?;
            body.insert("url", raw(&to)?);
            if let Some(secret) = secret {
                body.insert("secret", raw(&text(input::bytes(&secret)?)?)?);
            }
            show(output, &Api::of(connection).await?.post(&path, written(&body)?).await?)
        }
        Action::Update { endpoint, to, settings, clear } => {
            let mut body = settings.fields()?;
            if let Some(url) = to {
                body.insert("url", raw(&url)?);
            }
            for field in clear.iter().filter_map(|option| field(option)) {
                body.insert(field, raw(&Value::Null)?);
            }
            if body.is_empty() {
                return Err(Failure::Usage("what is to change? See `steadhook endpoints update --help`".to_owned()));
            }
            patch(connection, output, &endpoint, written(&body)?).await
        }
        Action::Pause(endpoint) => patch(connection, output, &endpoint, json!({ "state": "paused" }).to_string()).await,
        Action::Resume { endpoint, drop_owed } => {
            let body = if drop_owed {
                json!({ "state": "enabled", "catch_up": false })
            } else {
                json!({ "state": "enabled" })
            };
            patch(connection, output, &endpoint, body.to_string()).await
        }
        Action::Delete(endpoint) => {
            let (api, path) = endpoint.find(connection).await?;
            let answer = api.delete(&path).await?;
            output.show(&answer, |_| "Deleted. Deliveries to it that are under way become dead letters.\n".to_owned());
            Ok(())
        }
        Action::Test { endpoint, event_type, payload } => {
            test(connection, output, &endpoint, event_type, payload).await
        }
        Action::Secret(endpoint) => {
            let (api, path) = endpoint.find(connection).await?;
            secrets(output, &api.get(&format!("{path}/secret"), &[]).await?)
        }
        Action::RotateSecret { endpoint, overlap } => {
            let (api, path) = endpoint.find(connection).await?;
            let body = overlap.map_or_else(|| json!({}), |overlap| json!({ "overlap_s": overlap.as_secs() }));
            secrets(output, &api.post(&format!("{path}/rotate-secret"), body.to_string()).await?)
        }
        Action::Deliveries { endpoint, result, period, limit } => {
            let (api, path) = endpoint.find(connection).await?;
            let query = [&period.query()[..], &[("result", result)]].concat();
            let items = api.list(&format!("{path}/deliveries"), &query, "deliveries", limit).await?;
            let lives: Vec<Life> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
            output.show_list(&items, |now| match lives.len() {
                0 => "No deliveries.\n".to_owned(),
                _ => delivery::table_by_event(&lives, now),
            });
            Ok(())
        }
    }
}

async fn patch(connection: &Connection, output: Output, endpoint: &Endpoint, body: String) -> Result<(), Failure> {
    let (api, path) = endpoint.find(connection).await?;
    show(output, &api.call(http::Method::PATCH, &path, &[], Some(body)).await?)
}

async fn test(
    connection: &Connection,
    output: Output,
    endpoint: &Endpoint,
    event_type: Option<String>,
    payload: Option<String>,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Test {
        #[serde(skip_serializing_if = "Option::is_none")]
        event_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Queued {
        delivery_id: String,
    }
    let payload = payload.as_deref().map(input::json).transpose()?;
    let body = raw(&Test { event_type, payload })?.get().to_owned();
    let tenant = endpoint.tenant.named(connection)?;
    let (api, path) = endpoint.find(connection).await?;
    let answer = api.post(&format!("{path}/test"), body).await?;
    let queued: Queued = answer.read()?;
    output.show(&answer, |_| {
        let mut details = Details::default();
        details.word("test", "accepted");
        details.text("id", &queued.delivery_id);
        details.text("look", &format!("steadhook status {} --tenant {tenant} --wait", queued.delivery_id));
        details.lines()
    });
    Ok(())
}

#[derive(Deserialize)]
struct Health {
    breaker: String,
    host_breaker: String,
    failures: u64,
    waiting: u64,
    last_success_at: Option<String>,
    last_failure_at: Option<String>,
    failing_since: Option<String>,
    last_duration_ms: Option<u64>,
    retry_at: Option<String>,
    blocked_until: Option<String>,
    advised_until: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    id: String,
    tenant: String,
    url: String,
    description: String,
    event_types: Vec<String>,
    uid: Option<String>,
    filter: Option<Box<RawValue>>,
    rate_per_s: Option<f64>,
    retry_schedule_s: RetrySchedule,
    headers: Map<String, Value>,
    state: String,
    state_reason: Option<String>,
    state_since: String,
    created_at: String,
    updated_at: String,
    secret: Option<String>,
    public_key: Option<String>,
    health: Option<Health>,
    owed: Option<Owed>,
    catch_up: Option<CatchUp>,
}

#[derive(Deserialize)]
struct Owed {
    deliveries: u64,
    is_more: bool,
}

#[derive(Deserialize)]
struct CatchUp {
    state: String,
}

fn table(listed: &[Fields], now: Millis) -> String {
    if listed.is_empty() {
        return "No endpoints. Register one with `steadhook endpoints create URL --tenant TENANT`.\n".to_owned();
    }
    let mut table = Table::new(["ENDPOINT", "STATE", "SINCE", "TYPES", "URL", "DESCRIPTION"]);
    for one in listed {
        table.row([
            (&*one.id).into(),
            Cell::word(&one.state),
            when(&one.state_since, now).into(),
            if one.event_types.is_empty() { "all".into() } else { one.event_types.join(",").into() },
            (&*one.url).into(),
            (&*one.description).into(),
        ]);
    }
    table.lines()
}

fn show(output: Output, answer: &Answer) -> Result<(), Failure> {
    let fields: Fields = answer.read()?;
    output.show(answer, |now| fields.told(now));
    Ok(())
}

impl Fields {
    fn told(&self, now: Millis) -> String {
        let mut details = Details::default();
        details.text("endpoint", &self.id);
        details.text("url", &self.url);
        details.text("tenant", &self.tenant);
        details.optional("uid", self.uid.as_deref());
        details.text("description", &self.description);
        details.word("state", &self.state);
        details.optional("why", self.state_reason.as_deref());
        details.styled("since", when_in_full(&self.state_since, now));
        details
            .text("types", &if self.event_types.is_empty() { "all".to_owned() } else { self.event_types.join(", ") });
        details.optional("filter", self.filter.as_deref().map(RawValue::get));
        details.optional("rate", self.rate_per_s.map(|rate| format!("{rate}/s")).as_deref());
        let waits = self.retry_schedule_s.waits_s().iter();
        let waits: Vec<String> = waits.map(|wait| span(std::time::Duration::from_secs(u64::from(*wait)))).collect();
        details.text("retries after", &if waits.is_empty() { "none".to_owned() } else { waits.join(", ") });
        let names: Vec<&str> = self.headers.keys().map(String::as_str).collect();
        details.text("headers", &names.join(", "));
        details.styled("created", when_in_full(&self.created_at, now));
        details.styled("changed", when_in_full(&self.updated_at, now));
        if let Some(health) = &self.health {
            health.tell(&mut details, now);
        }
        if let Some(owed) = &self.owed {
            let more = if owed.is_more { " or more" } else { "" };
            details.text("owed", &format!("{}{more} deliveries", owed.deliveries));
        }
        // What is not under way is not worth a line.
        if let Some(catch_up) = self.catch_up.as_ref().filter(|catch_up| catch_up.state != "none") {
            details.word("catch-up", &catch_up.state);
        }
        if let Some(secret) = &self.secret {
            details.styled("secret", format!("{BOLD}{}{BOLD:#}", clean(secret)));
        }
        details.optional("public key", self.public_key.as_deref());
        details.lines()
    }
}

impl Health {
    fn tell(&self, details: &mut Details, now: Millis) {
        let word = |word: &str| {
            let style = style_of(word);
            format!("{style}{}{style:#}", clean(word))
        };
        details.styled("breaker", format!("{}, of the host {}", word(&self.breaker), word(&self.host_breaker)));
        details.text("failures", &format!("{} since the last success", self.failures));
        details.text("waiting", &self.waiting.to_string());
        for (label, time) in [
            ("last success", &self.last_success_at),
            ("last failure", &self.last_failure_at),
            ("failing since", &self.failing_since),
            ("next probe", &self.retry_at),
            ("blocked until", &self.blocked_until),
            ("rate holds until", &self.advised_until),
        ] {
            if let Some(time) = time {
                details.styled(label, when_in_full(time, now));
            }
        }
        details.optional("last took", self.last_duration_ms.map(|ms| format!("{ms} ms")).as_deref());
    }
}

fn secrets(output: Output, answer: &Answer) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Secrets {
        secrets: Vec<Secret>,
    }
    #[derive(Deserialize)]
    struct Secret {
        secret: String,
        public_key: Option<String>,
        created_at: String,
        expires_at: Option<String>,
    }
    let Secrets { secrets } = answer.read()?;
    output.show(answer, |now| {
        let mut table = Table::new(["SECRET", "MADE", "SIGNS UNTIL", "PUBLIC KEY"]);
        for one in &secrets {
            let until = one.expires_at.as_deref().map_or_else(|| "replaced".to_owned(), |at| when(at, now));
            let public = one.public_key.as_deref().unwrap_or_default().into();
            table.row([(&*one.secret).into(), when(&one.created_at, now).into(), until.into(), public]);
        }
        table.lines()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_written_as_durations() {
        assert_eq!(schedule("5s,5m, 1h").unwrap().waits_s(), [5, 300, 3600]);
        assert_eq!(schedule("").unwrap().waits_s(), [0u32; 0]);
        for bad in ["5", "2d", "0s", "soon"] {
            assert!(schedule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_above_zero() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
