//! `console`: a one-time link to the console, opened.

use std::io::IsTerminal as _;
use std::time::Duration;

use domain::names::is_tenant;
use domain::scope::Scope;
use serde::Deserialize;
use serde_json::json;

use crate::api::Api;
use crate::connection::{Connection, tenant_of_token};
use crate::failure::Failure;
use crate::input;
use crate::output::Output;

/// Opens the console, or the portal of a tenant
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The link works once, within a minute. On a terminal it is opened in the browser.

Examples:
  steadhook console
  steadhook console --tenant acme --read-only --print")]
pub(crate) struct Arguments {
    /// The portal of this tenant. Without it, the console of the operator, or of whom a token is for
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<String>,
    /// It only shows
    #[arg(long)]
    read_only: bool,
    /// How long the session lasts, up to 12h
    #[arg(long = "for", value_name = "DURATION", value_parser = input::duration)]
    life: Option<Duration>,
    /// Print the link, and do not open it
    #[arg(long)]
    print: bool,
}

#[derive(Deserialize)]
struct Link {
    path: String,
}

/// Makes the link.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    // STEADHOOK_TENANT is not asked: whoever works for a tenant also looks at the whole.
    let scope = match arguments.tenant.or_else(|| tenant_of_token(connection)) {
        Some(tenant) if !is_tenant(&tenant) => {
            return Err(Failure::Usage(format!("{tenant:?} is no name of a tenant")));
        }
        tenant => tenant.map_or(Scope::Operator, Scope::Tenant),
    };
    let mut body = json!({ "scope": scope, "read_only": arguments.read_only });
    if let Some(life) = arguments.life {
        body["ttl_s"] = json!(life.as_secs());
    }
    let api = Api::of(connection).await?;
    let answer = api.post("/tokens/links", body.to_string()).await?;
    let link: Link = answer.read()?;
    let url = api.url(&link.path);
    match output {
        Output::Json => {
            let mut fields: serde_json::Map<String, serde_json::Value> = answer.read()?;
            fields.insert("url".to_owned(), json!(url));
            crate::output::json(&serde_json::Value::Object(fields).to_string());
        }
        Output::Text => anstream::println!("{url}"),
    }
    if output == Output::Text && !arguments.print && std::io::stdout().is_terminal() {
        // Without a browser, the link that was printed is enough.
        drop(open::that_detached(&url));
    }
    Ok(())
}
