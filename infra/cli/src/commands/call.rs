//! `call`: any route of the API.

use http::Method;

use crate::api::Api;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::input;
use crate::output::json;

/// Calls any route of the API and prints the answer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook call GET /health
  steadhook call POST '/webhook-cleanup?dry_run=true'
  steadhook call PUT /event-types/order.paid '{\"description\": \"An order was paid\"}'")]
pub(crate) struct Arguments {
    /// GET, POST, PUT, PATCH or DELETE
    method: Method,
    /// The path, with its query
    path: String,
    /// The body: JSON, @file, or -
    body: Option<String>,
}

/// Calls it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, arguments: Arguments) -> Result<(), Failure> {
    if !arguments.path.starts_with('/') {
        return Err(Failure::Usage("a path begins with /".to_owned()));
    }
    let body = arguments.body.as_deref().map(input::json).transpose()?.map(|json| json.get().to_owned());
    let answer = Api::of(connection).await?.call_any(arguments.method, &arguments.path, &[], body).await?;
    if !answer.is_success() {
        return Err(answer.failure());
    }
    if answer.status != 204 {
        json(answer.body.trim_end());
    }
    Ok(())
}
