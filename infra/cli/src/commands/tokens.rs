//! `tokens`: for callers without credentials of AWS.

use std::time::Duration;

use domain::scope::Scope;
use domain::time::Millis;
use serde::Deserialize;
use serde_json::json;

use crate::api::{Api, read, segment};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::input;
use crate::output::Output;
use crate::table::{Details, Table};
use crate::text::{BOLD, clean, when, when_in_full};

/// Makes, lists and revokes tokens, for callers without credentials of AWS
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  steadhook tokens create --scope tenant:acme --for 30d --description 'Shop backend'
  steadhook tokens list --scope tenant:acme
  steadhook tokens revoke tok_2Nq8vYtR0aKcWm5XbZdL7e")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a token, and shows it this once
    Create {
        /// What it may act on: operator, or tenant:NAME
        #[arg(long, value_name = "SCOPE")]
        scope: Scope,
        /// How long it is good: up to a year
        #[arg(long = "for", value_name = "DURATION", value_parser = input::duration)]
        life: Duration,
        /// It may only read
        #[arg(long)]
        read_only: bool,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Lists tokens that have not ended
    List {
        /// Only those of this scope
        #[arg(long, value_name = "SCOPE")]
        scope: Option<Scope>,
        /// List so many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Revokes a token, within 30 s
    Revoke {
        /// Id of the token
        token: String,
    },
    /// Ends all tokens of a scope, within 30 s
    EndAll {
        /// The scope: operator, or tenant:NAME
        #[arg(long, value_name = "SCOPE")]
        scope: Scope,
    },
}

#[derive(Deserialize)]
struct Token {
    id: String,
    scope: String,
    kind: String,
    read_only: bool,
    description: String,
    created_at: String,
    expires_at: String,
    token: Option<String>,
}

/// Does it.
///
/// # Errors
/// What the API says.
pub(crate) async fn run(connection: &Connection, output: Output, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Create { scope, life, read_only, description } => {
            let body =
                json!({ "scope": scope, "ttl_s": life.as_secs(), "read_only": read_only, "description": description });
            let answer = Api::of(connection).await?.post("/tokens", body.to_string()).await?;
            let token: Token = answer.read()?;
            output.show(&answer, |now| token.told(now));
        }
        Action::List { scope, limit } => {
            let query = [("scope", scope.map(|scope| scope.to_string()))];
            let items = Api::of(connection).await?.list("/tokens", &query, "tokens", limit).await?;
            let listed: Vec<Token> = items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
            output.show_list(&items, |now| table(&listed, now));
        }
        Action::Revoke { token } => {
            let answer = Api::of(connection).await?.delete(&format!("/tokens/{}", segment(&token))).await?;
            output.show(&answer, |_| "Revoked. It is refused within 30 s.\n".to_owned());
        }
        Action::EndAll { scope } => {
            let body = json!({ "scope": scope }).to_string();
            let answer = Api::of(connection).await?.post("/tokens/epochs", body).await?;
            output.show(&answer, |_| format!("All tokens of {scope} end within 30 s.\n"));
        }
    }
    Ok(())
}

fn access(read_only: bool) -> &'static str {
    if read_only { "read only" } else { "full" }
}

fn table(listed: &[Token], now: Millis) -> String {
    if listed.is_empty() {
        return "No tokens.\n".to_owned();
    }
    let mut table = Table::new(["ID", "SCOPE", "KIND", "ACCESS", "MADE", "ENDS", "DESCRIPTION"]);
    for one in listed {
        let (made, ends) = (when(&one.created_at, now), when(&one.expires_at, now));
        let [id, scope, kind] = [&one.id, &one.scope, &one.kind].map(Into::into);
        table.row([id, scope, kind, access(one.read_only).into(), made.into(), ends.into(), (&one.description).into()]);
    }
    table.lines()
}

impl Token {
    fn told(&self, now: Millis) -> String {
        let mut details = Details::default();
        details.text("id", &self.id);
        details.text("scope", &self.scope);
        details.text("access", access(self.read_only));
        details.text("description", &self.description);
        details.styled("ends", when_in_full(&self.expires_at, now));
        if let Some(token) = &self.token {
            details.styled("token", format!("{BOLD}{}{BOLD:#}", clean(token)));
        }
        details.lines()
            + "It is shown only now. Callers send it as `Authorization: Bearer`; this command reads STEADHOOK_TOKEN.\n"
    }
}
