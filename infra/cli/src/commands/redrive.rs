//! `redrive`: dead letters are sent again, with the same id and a new budget.

use std::io::{BufRead as _, IsTerminal as _};

use domain::time::Millis;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, segment};
use crate::clock;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::input;
use crate::output::Output;
use crate::text::{clean, count_of};

/// The most that one call sends.
const MOST: u32 = 1000;

/// Sends dead letters again, with the same webhook-id and a new budget
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Name them by id, or all that match a filter. A filter first counts what it matches, and asks before
it sends.

Examples:
  steadhook redrive order-17-paid
  steadhook redrive --destination https://example.com --since 6h --dry-run
  steadhook redrive --reason retries_exhausted --since 1d --per-second 20 --yes")]
pub(crate) struct Arguments {
    /// Ids of dead letters
    #[arg(required_unless_present_any = ["reason", "destination", "since", "until"])]
    ids: Vec<String>,
    /// All that were given up for this reason
    #[arg(long, value_name = "REASON", conflicts_with = "ids")]
    reason: Option<String>,
    /// All to this receiver: the origin of its URL
    #[arg(long, value_name = "ORIGIN", conflicts_with = "ids")]
    destination: Option<String>,
    /// All that were given up since this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = input::past, conflicts_with = "ids")]
    since: Option<Millis>,
    /// All that were given up before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = input::past, conflicts_with = "ids")]
    until: Option<Millis>,
    /// Spread the deliveries over time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "ids")]
    per_second: Option<u32>,
    /// Only count what the filter matches, up to 1000
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Deserialize)]
struct Redriven {
    matched: u64,
    redriven: u64,
    complete: bool,
}

/// Sends them.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    let api = Api::of(connection).await?;
    if !arguments.ids.is_empty() {
        return by_id(&api, output, &arguments.ids).await;
    }
    let mut body = json!({ "dry_run": true, "limit": MOST, "filter": arguments.filter() });
    let answer = api.post("/dead-letters/redrive", body.to_string()).await?;
    let counted: Redriven = answer.read()?;
    let found = format!("{}{}", if counted.complete { "" } else { "at least " }, letters(counted.matched));
    if arguments.dry_run || counted.matched == 0 {
        output.show(&answer, |_| format!("{found} found.\n"));
        return Ok(());
    }
    if !arguments.yes && !agreed(&format!("Send {found} again?"))? {
        return Err(Failure::Refused("nothing was sent".to_owned()));
    }
    // What is given up again while this goes on is not sent a second time. The server's clock says what that is.
    if arguments.until.is_none() {
        let asked_at = answer.date.as_deref().and_then(clock::of_http_date).unwrap_or_else(clock::now);
        body["filter"]["until"] = json!(asked_at.to_string());
    }
    body["dry_run"] = json!(false);
    if let Some(rate) = arguments.per_second {
        body["per_second"] = json!(rate);
    }
    let (sent, end) = all_of(&api, &body, arguments.per_second).await;
    match output {
        Output::Json => crate::output::json(&json!({ "redriven": sent, "complete": end.is_ok() }).to_string()),
        Output::Text => anstream::println!("{} sent again.", letters(sent)),
    }
    end
}

/// Sends all that match, a thousand in a call. Says how many there were.
async fn all_of(api: &Api, body: &Value, per_second: Option<u32>) -> (u64, Result<(), Failure>) {
    let mut sent = 0;
    loop {
        let answer = api.post("/dead-letters/redrive", body.to_string()).await;
        let redriven: Redriven = match answer.and_then(|answer| answer.read()) {
            Ok(redriven) => redriven,
            Err(failure) => return (sent, Err(failure)),
        };
        sent += redriven.redriven;
        if redriven.complete {
            return (sent, Ok(()));
        }
        // A call that sends nothing will not send more now.
        if redriven.redriven == 0 {
            return (
                sent,
                Err(Failure::Unreachable("others match and cannot be sent now; try again later".to_owned())),
            );
        }
        // The next thousand waits until this one is under way.
        if let Some(rate) = per_second {
            tokio::time::sleep(std::time::Duration::from_secs(redriven.redriven.div_ceil(u64::from(rate)))).await;
        }
    }
}

async fn by_id(api: &Api, output: Output, ids: &[String]) -> Result<(), Failure> {
    let (mut refused, mut unreachable) = (0, 0);
    for id in ids {
        match api.post(&format!("/dead-letters/{}/redrive", segment(id)), String::new()).await {
            Ok(answer) => output.show(&answer, |_| format!("{} is sent again.\n", clean(id))),
            Err(failure) if ids.len() == 1 => return Err(failure),
            Err(failure) => {
                anstream::eprintln!("{}: {failure}", clean(id));
                if matches!(failure, Failure::Unreachable(_)) { unreachable += 1 } else { refused += 1 }
            }
        }
    }
    let told = format!(
        "{} of {} were not sent again",
        refused + unreachable,
        letters(ids.len().try_into().unwrap_or(u64::MAX))
    );
    match (refused, unreachable) {
        (0, 0) => Ok(()),
        (_, 0) => Err(Failure::Refused(told)),
        (_, _) => Err(Failure::Unreachable(told)),
    }
}

impl Arguments {
    fn filter(&self) -> Value {
        let mut filter = serde_json::Map::new();
        for (name, value) in [
            ("reason", self.reason.clone()),
            ("destination", self.destination.clone()),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ] {
            if let Some(value) = value {
                filter.insert(name.to_owned(), json!(value));
            }
        }
        Value::Object(filter)
    }
}

fn letters(count: u64) -> String {
    count_of(count, "dead letter", "dead letters")
}

/// Asks on the terminal. Without one, nobody can agree.
fn agreed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{question} There is no terminal to ask on: use --yes or --dry-run")));
    }
    anstream::eprint!("{question} [y/N] ");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("no answer could be read: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
