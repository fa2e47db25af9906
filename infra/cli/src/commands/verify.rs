//! `verify`: whether a captured webhook is signed with a secret, and if not, why.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use domain::time::Millis;
use serde_json::json;

use crate::capture::{Checked, Checker, Webhook};
use crate::clock;
use crate::failure::Failure;
use crate::input;
use crate::output::Output;
use crate::table::Details;
use crate::text::{BAD, GOOD, clean, relative};

/// Checks a captured webhook against a secret
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The webhook is a captured HTTP request, or a body with its three headers. The body must be what
arrived, byte for byte: JSON that was read and written again has other bytes.

Examples:
  steadhook verify --secret whsec_… --request captured.http
  steadhook verify --secret whsec_… --any-age --request yesterday.http
  steadhook verify --secret whsec_… --header 'webhook-id: msg_1' \\
      --header 'webhook-timestamp: 1777636800' --header 'webhook-signature: v1,…' @body.json")]
pub(crate) struct Arguments {
    /// The body: itself, @file, or - for standard input
    #[arg(required_unless_present = "request")]
    body: Option<String>,
    /// A header of the webhook; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = input::header)]
    headers: Vec<(String, String)>,
    /// A file with the whole request: its headers, an empty line, the body. - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "headers"])]
    request: Option<PathBuf>,
    /// The secret, whsec_… or whsk_…, or the public key, whpk_…; may be repeated
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "STEADHOOK_SECRETS",
        hide_env_values = true,
        value_delimiter = ' ',
        required = true
    )]
    secrets: Vec<String>,
    /// How old it may be
    #[arg(long, value_name = "DURATION", value_parser = input::duration, default_value = "5m", conflicts_with = "any_age")]
    tolerance: Duration,
    /// It may have any age, such as one that was captured yesterday
    #[arg(long)]
    any_age: bool,
}

/// Checks it.
///
/// # Errors
/// That it is not valid.
pub(crate) fn run(output: Output, arguments: &Arguments) -> Result<(), Failure> {
    let checker = Checker::new(&arguments.secrets)?;
    if checker.is_empty() {
        return Err(Failure::Usage("no secret: use --secret, or set STEADHOOK_SECRETS".to_owned()));
    }
    let webhook = match &arguments.request {
        Some(path) => {
            let bytes = if path.as_os_str() == "-" { input::bytes("-")? } else { input::file(path)? };
            Webhook::captured(&bytes)?
        }
        None => Webhook {
            headers: arguments.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
            body: input::bytes(arguments.body.as_deref().unwrap_or_default())?,
        },
    };
    let now = clock::now();
    let tolerance = Some(arguments.tolerance).filter(|_| !arguments.any_age);
    let checked = checker.check(&webhook, now, tolerance);
    match output {
        Output::Json => {
            crate::output::json(&json!({ "valid": checked.is_ok(), "why": checked.as_ref().err() }).to_string());
        }
        Output::Text => anstream::print!("{}", told(&webhook, &checked, now)),
    }
    checked.map(drop).map_err(|_| Failure::Refused("the webhook is not valid".to_owned()))
}

fn told(webhook: &Webhook, checked: &Checked, now: Millis) -> String {
    let mut details = Details::default();
    match checked {
        Ok(secret) => details.styled("signature", format!("{GOOD}valid{GOOD:#}, by secret {}", secret + 1)),
        Err(why) => details.styled("signature", format!("{BAD}invalid{BAD:#}: {}", clean(why))),
    }
    details.optional("webhook-id", webhook.header("webhook-id"));
    if let Some(at) = webhook.timestamp() {
        details.text("sent", &format!("{at} ({})", relative(at, now)));
    }
    details.text("body", &format!("{} bytes", webhook.body.len()));
    details.lines()
}
