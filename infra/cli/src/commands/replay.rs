//! `replay`: an endpoint gets again what failed, or for the first time what is missing.

use std::time::Duration;

use domain::time::Millis;
use serde::Deserialize;
use serde_json::json;

use crate::api::{Answer, Api, segment};
use crate::connection::{Connection, TenantArgument};
use crate::failure::Failure;
use crate::follow::{self, Followed};
use crate::input;
use crate::output::Output;
use crate::table::Details;
use crate::text::{clean, when_in_full};

/// Sends an endpoint again what failed, or what it never got
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook replay start shop --tenant acme --since 6h --wait
  steadhook replay start shop --tenant acme --what missing --since 7d --dry-run
  steadhook replay stop rp_XbZdL7e2Nq8vYtR0aKcWm5 --tenant acme")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Starts a replay
    Start {
        /// Id or uid of the endpoint
        endpoint: String,
        #[command(flatten)]
        tenant: TenantArgument,
        /// Deliveries that failed, or that were never made
        #[arg(long, value_name = "WHAT", value_parser = ["failed", "missing"], default_value = "failed")]
        what: String,
        /// Only of events since this time, or so long ago
        #[arg(long, value_name = "TIME", value_parser = input::past)]
        since: Millis,
        /// Only of events before this time, or so long ago
        #[arg(long, value_name = "TIME", value_parser = input::past)]
        until: Option<Millis>,
        /// Only of events of these types
        #[arg(long, value_name = "TYPES", value_delimiter = ',')]
        types: Vec<String>,
        /// Most deliveries in a second
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=500))]
        per_second: Option<u32>,
        /// Only count
        #[arg(long)]
        dry_run: bool,
        /// Follow it to its end
        #[arg(long)]
        wait: bool,
        /// How long to follow it
        #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "1h", requires = "wait")]
        timeout: Duration,
    },
    /// Shows how far a replay is
    Show {
        /// Id of the replay
        replay: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
    /// Stops a replay
    Stop {
        /// Id of the replay
        replay: String,
        #[command(flatten)]
        tenant: TenantArgument,
    },
}

#[derive(Deserialize)]
struct Replay {
    replay_id: String,
    endpoint_id: String,
    what: String,
    since: String,
    until: String,
    event_types: Vec<String>,
    per_second: u64,
    dry_run: bool,
    state: String,
    examined: u64,
    matched: u64,
    queued: u64,
    unsendable: u64,
    updated_at: String,
}

/// Does it.
///
/// # Errors
/// What the API says, or that a replay that is followed failed.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Start { endpoint, tenant, what, since, until, types, per_second, dry_run, wait, timeout } => {
            let tenant = tenant.path(connection)?;
            let mut body = json!({ "what": what, "since": since.to_string(), "dry_run": dry_run });
            if let Some(until) = until {
                body["until"] = json!(until.to_string());
            }
            if !types.is_empty() {
                body["event_types"] = json!(types);
            }
            if let Some(rate) = per_second {
                body["per_second"] = json!(rate);
            }
            let api = Api::of(connection).await?;
            let path = format!("{}/replays", api.endpoint(&tenant, &endpoint).await?);
            let answer = api.post(&path, body.to_string()).await?;
            if !wait {
                return show(output, &answer);
            }
            let replay: Replay = answer.read()?;
            follow(&api, output, &format!("{tenant}/replays/{}", segment(&replay.replay_id)), timeout).await
        }
        Action::Show { replay, tenant } => {
            let path = format!("{}/replays/{}", tenant.path(connection)?, segment(&replay));
            show(output, &Api::of(connection).await?.get(&path, &[]).await?)
        }
        Action::Stop { replay, tenant } => {
            let path = format!("{}/replays/{}", tenant.path(connection)?, segment(&replay));
            show(output, &Api::of(connection).await?.delete(&path).await?)
        }
    }
}

async fn follow(api: &Api, output: Output, path: &str, timeout: Duration) -> Result<(), Failure> {
    let mut stopped = None;
    let Followed { last, end } = follow::until(api, path, timeout, true, |answer| {
        let replay: Replay = answer.read()?;
        if !matches!(replay.state.as_str(), "running" | "done") {
            stopped = Some(Failure::Refused(format!("the replay is {}", clean(&replay.state))));
        }
        let told =
            format!("{}: {} looked at, {} of {} sent", replay.state, replay.examined, replay.queued, replay.matched);
        Ok((replay.state != "running", told))
    })
    .await;
    if let Some(last) = &last {
        show(output, last)?;
    }
    end.and_then(|()| stopped.map_or(Ok(()), Err))
}

fn show(output: Output, answer: &Answer) -> Result<(), Failure> {
    let replay: Replay = answer.read()?;
    output.show(answer, |now| {
        let mut details = Details::default();
        details.text("replay", &replay.replay_id);
        details.word("state", &replay.state);
        details.text("endpoint", &replay.endpoint_id);
        details.text("what", &replay.what);
        details.text("types", &replay.event_types.join(", "));
        details.styled("since", when_in_full(&replay.since, now));
        details.styled("until", when_in_full(&replay.until, now));
        details.text("looked at", &replay.examined.to_string());
        details.text("wanted", &replay.matched.to_string());
        let sent = format!("{}, {} a second", replay.queued, replay.per_second);
        details.text("sent", if replay.dry_run { "nothing: it only counts" } else { &sent });
        if replay.unsendable > 0 {
            details.text("cannot be sent", &format!("{}: erased, no longer kept, or expired", replay.unsendable));
        }
        details.styled("changed", when_in_full(&replay.updated_at, now));
        details.lines()
    });
    Ok(())
}
