//! `dead-letters`: what was given up.

use domain::time::Millis;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Api, read, segment};
use crate::connection::Connection;
use crate::delivery::{self, Attempt};
use crate::failure::Failure;
use crate::input::Period;
use crate::output::Output;
use crate::table::{Cell, Details, Table};
use crate::text::{clean_lines, when, when_in_full};

/// Lists, shows and deletes what was given up
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`steadhook redrive` sends it again.

Examples:
  steadhook dead-letters list --reason retries_exhausted --since 1d
  steadhook dead-letters show order-17-paid")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists dead letters, newest first
    List {
        /// Only those that were given up for this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Only those to this receiver: the origin of its URL
        #[arg(long, value_name = "ORIGIN")]
        destination: Option<String>,
        #[command(flatten)]
        period: Period,
        /// List so many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Shows a dead letter, its payload and its attempts
    Show {
        /// Id of the dead letter
        id: String,
    },
    /// Deletes a dead letter for ever
    Delete {
        /// Id of the dead letter
        id: String,
    },
}

#[derive(Deserialize)]
struct DeadLetter {
    webhook_id: String,
    reason: String,
    attempts: u64,
    error: String,
    failed_at: String,
    redriven_at: Option<String>,
    webhook_url: Option<String>,
    last_status_code: Option<u16>,
    tenant: Option<String>,
    event_id: Option<String>,
    endpoint_id: Option<String>,
    event_type: Option<String>,
    correlation_id: Option<String>,
    payload: Option<Box<RawValue>>,
    body: Option<String>,
    #[serde(default)]
    history: Vec<Attempt>,
    #[serde(default)]
    history_count: u64,
}

/// Does it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List { reason, destination, period, limit } => {
            let query = [&period.query()[..], &[("reason", reason), ("destination", destination)]].concat();
            let items = Api::of(connection).await?.list("/dead-letters", &query, "dead_letters", limit).await?;
            let listed: Vec<DeadLetter> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
            output.show_list(&items, |now| table(&listed, now));
        }
        Action::Show { id } => {
            let answer = Api::of(connection).await?.get(&format!("/dead-letters/{}", segment(&id)), &[]).await?;
            let letter: DeadLetter = answer.read()?;
            output.show(&answer, |now| letter.told(now));
        }
        Action::Delete { id } => {
            let answer = Api::of(connection).await?.delete(&format!("/dead-letters/{}", segment(&id))).await?;
            output.show(&answer, |_| "Deleted.\n".to_owned());
        }
    }
    Ok(())
}

fn table(listed: &[DeadLetter], now: Millis) -> String {
    if listed.is_empty() {
        return "No dead letters.\n".to_owned();
    }
    let mut table = Table::new(["ID", "REASON", "ATTEMPTS", "GIVEN UP", "REDRIVEN", "TO", "WHY"]);
    for one in listed {
        table.row([
            (&*one.webhook_id).into(),
            Cell::word(&one.reason),
            one.attempts.to_string().into(),
            when(&one.failed_at, now).into(),
            one.redriven_at.as_deref().map(|at| when(at, now)).unwrap_or_default().into(),
            one.webhook_url.as_deref().unwrap_or_default().into(),
            (&*one.error).into(),
        ]);
    }
    table.lines()
}

impl DeadLetter {
    fn told(&self, now: Millis) -> String {
        let mut details = Details::default();
        details.text("dead letter", &self.webhook_id);
        details.word("reason", &self.reason);
        details.text("error", &self.error);
        details.text("attempts", &self.attempts.to_string());
        details.optional("answer", self.last_status_code.map(|code| code.to_string()).as_deref());
        details.styled("given up", when_in_full(&self.failed_at, now));
        if let Some(at) = &self.redriven_at {
            details.styled("redriven", when_in_full(at, now));
        }
        details.optional("to", self.webhook_url.as_deref());
        details.optional("tenant", self.tenant.as_deref());
        details.optional("event", self.event_id.as_deref());
        details.optional("endpoint", self.endpoint_id.as_deref());
        details.optional("type", self.event_type.as_deref());
        details.optional("correlation_id", self.correlation_id.as_deref());
        let mut text = details.lines() + &delivery::payload(self.payload.as_deref().map(RawValue::get));
        if let Some(body) = &self.body {
            text.push_str(&format!("\n{}\n", clean_lines(body)));
        }
        text + &delivery::attempts(&self.history, self.history_count, now)
    }
}
