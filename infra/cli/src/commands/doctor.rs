//! `doctor`: what is wrong with a stack, in one page, with the next step for each fault.

mod aws;
mod checkup;
mod health;

use domain::time::Millis;

use self::checkup::{Checkup, Finding};
use crate::api::{Answer, Api};
use crate::clock;
use crate::connection::{Connection, Place, tenant_of_token};
use crate::failure::Failure;
use crate::output::Output;
use crate::text::span;

/// Says what is wrong with a stack, and the next step for each fault
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It looks at region, credentials, stack, API, clock, health, queues, tables and alarms. Queues,
tables and alarms are asked directly, for which it needs the name of the stack (--stack) and
credentials that may read them. It changes nothing.

Examples:
  steadhook --stack hooks-prod doctor
  steadhook doctor --output json")]
pub(crate) struct Arguments {}

/// How far this clock and the server's may be apart. Signatures are refused beyond 5 minutes.
const CLOCK_MS: u64 = 60_000;

/// Looks at everything that can be looked at.
///
/// # Errors
/// That something is wrong.
pub(crate) async fn run(connection: &Connection, output: Output, Arguments {}: Arguments) -> Result<(), Failure> {
    let place = connection.place()?;
    let mut checkup = Checkup::new(output);
    if connection.stack().is_none() && connection.token().is_some() {
        checkup.note(Finding::skipped(
            "aws",
            "a token is used. With --stack and credentials of AWS, more can be looked at",
        ));
    } else {
        aws::look(connection, &mut checkup).await;
    }
    let named = match place {
        Place::Url(url) => url.to_string(),
        Place::Stack(name) => format!("of the stack {name}"),
    };
    let trouble = match Api::of(connection).await {
        Ok(api) => look_at_api(&api, &named, tenant_of_token(connection).as_deref(), &mut checkup).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = &trouble {
        let next = match failure {
            Failure::Usage(_) => "Configure what is missing, and try again",
            Failure::Refused(_) | Failure::Unreachable(_) => {
                "Check the URL, the network between here and there, and that the stack runs"
            }
        };
        checkup.note(Finding::bad("api", failure.to_string(), next));
    }
    checkup.end(trouble)
}

/// Looks at the API as its caller sees it.
///
/// # Errors
/// Why it could not be asked.
async fn look_at_api(api: &Api, named: &str, tenant: Option<&str>, checkup: &mut Checkup) -> Result<(), Failure> {
    // A route that nobody may call without credentials, unlike that of health.
    let path = tenant.map_or_else(|| "/webhook-statuses".to_owned(), |tenant| format!("/tenants/{tenant}/endpoints"));
    let answer = api.call_any(http::Method::GET, &path, &[("limit", Some("1".to_owned()))], None).await?;
    if answer.is_success() {
        checkup.note(Finding::good("api", named));
    } else {
        let next = "Check the URL, the credentials and their permission `execute-api:Invoke`";
        checkup.note(Finding::bad("api", answer.failure().to_string(), next));
    }
    checkup.note(clock_of(&answer, clock::now()));
    if tenant.is_some() {
        checkup.note(Finding::skipped("health", "a tenant's token does not show it"));
        return Ok(());
    }
    let answer = api.call_any(http::Method::GET, "/health", &[], None).await?;
    if health::is_health(&answer.body) {
        health::look(&answer.body, checkup);
    } else {
        let next = "The function `health` does not answer. See its log. Runbook: Complete failure";
        checkup.note(Finding::bad("health", answer.failure().to_string(), next));
    }
    Ok(())
}

/// Whether this machine's clock is that of the server.
fn clock_of(answer: &Answer, now: Millis) -> Finding {
    let Some(theirs) = answer.date.as_deref().and_then(clock::of_http_date) else {
        return Finding::skipped("clock", "the answer has no date");
    };
    let off = theirs.until(now).max(now.until(theirs));
    if off.as_millis() > u128::from(CLOCK_MS) {
        let way = if theirs < now { "ahead of" } else { "behind" };
        let told = format!("this machine is {} {way} the API", span(off));
        return Finding::bad("clock", told, "Set the clock (NTP). Signatures are refused when it is 5 minutes off");
    }
    Finding::good("clock", "agrees with the API")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told() {
        let answer =
            |date: &str| Answer { status: 200, date: Some(date.to_owned()), location: None, body: String::new() };
        let now = Millis(784_111_777_000);
        let told = |date: &str| clock_of(&answer(date), now).told().to_owned();
        assert_eq!(told("Sun, 06 Nov 1994 08:49:37 GMT"), "agrees with the API");
        assert_eq!(told("Sun, 06 Nov 1994 08:59:37 GMT"), "this machine is 10 min behind the API");
        assert_eq!(told("Sun, 06 Nov 1994 06:49:37 GMT"), "this machine is 2 h ahead of the API");
        assert_eq!(told("soon"), "the answer has no date");
    }
}
