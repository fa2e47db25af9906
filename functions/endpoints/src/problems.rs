//! What callers are told when something is not done. Internals go to the log.

use adapters::http::answer::Problem;
use adapters::registry::RegistryError;
use adapters::telemetry::chain;
use domain::endpoint::{Card, MAX_CARD};
use domain::seal::OpenError;

use crate::sealing::SealError;

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn away(error: RegistryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(&error), "the registry does not answer");
    Problem::unavailable("The registry did not answer. A change may have been made; read before you try again.")
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unsealed(error: SealError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(&error), "a value is not sealed");
    Problem::unavailable("A secret cannot be sealed now. Nothing was changed.")
}

/// A value of this card does not open.
pub(crate) fn closed(card: &Card, error: OpenError) -> Problem {
    tracing::error!(tenant = %card.tenant, endpoint_id = %card.id, error = %error, "a sealed value does not open");
    match error {
        OpenError::UnknownKey => Problem::unavailable("The secret is sealed with a master key that is not known yet."),
        OpenError::Refused => Problem::unavailable("The stored secret was changed and does not open. Rotate it."),
    }
}

pub(crate) fn unknown() -> Problem {
    Problem::not_found("The tenant has no endpoint with this id.")
}

pub(crate) fn overtaken() -> Problem {
    Problem::unavailable("Other changes of the endpoint came first, again and again. Nothing was changed.")
}

pub(crate) fn uid_taken(endpoint: &str) -> Problem {
    Problem::conflict(format!("The uid belongs to the endpoint {endpoint}.")).with_endpoint(endpoint)
}

pub(crate) fn too_many(most: u64) -> Problem {
    Problem::conflict(format!("The tenant has {most} endpoints, which is the most that it may have."))
}

/// Whether a card is small enough for the registry.
pub(crate) fn fits(card: &Card) -> Result<(), Problem> {
    let bytes = serde_json::to_vec(card).map_or(usize::MAX, |json| json.len());
    if bytes <= MAX_CARD {
        return Ok(());
    }
    let detail = format!("The endpoint would have {bytes} bytes; at most {MAX_CARD} are kept.");
    Err(Problem::too_large(detail))
}
