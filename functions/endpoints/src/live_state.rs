//! Tells Redis of a change of an endpoint, so that it counts at once. Consumers see a card
//! within 30 s, so a Redis that is away only makes the change slower.

use std::time::Duration;

use adapters::redis::query::{QueryError, Trip};
use adapters::redis::{breakers, live_states};
use adapters::telemetry::chain;
use domain::endpoint::{Card, EndpointState};

use crate::Endpoints;

/// How long the state is kept, at least. It counts for 20 minutes; what is kept beside it, such
/// as the last success, is shown for longer.
const LIFE: Duration = Duration::from_secs(10 * 86_400);

impl Endpoints {
    /// Tells Redis of another state or URL, in one round trip. An endpoint that is enabled or
    /// moves begins anew: its breaker is closed, and it is not failing.
    ///
    /// Whoever asks for the state that it has is heard, too: Redis may not have been told before.
    pub(crate) async fn tell_change(&self, before: &Card, card: &Card, is_asked: bool) {
        let (has_moved, is_other) = (before.url != card.url, before.state != card.state);
        if !has_moved && !is_other && !is_asked {
            return;
        }
        let fresh_start = has_moved || card.state == EndpointState::Enabled;
        if let Err(error) = self.write_state(card, fresh_start).await {
            tracing::error!(
                tenant = %card.tenant, endpoint_id = %card.id, code = error.code(), error = %chain(&error),
                "a change of an endpoint counts later: Redis does not have it"
            );
        }
    }

    async fn write_state(&self, card: &Card, fresh_start: bool) -> Result<(), QueryError> {
        let mut trip = Trip::default();
        let state = trip.add(live_states::set_state(&card.id, card.version, card.state, fresh_start, LIFE));
        let reset = fresh_start.then(|| trip.add(breakers::reset(&card.id)));
        let mut replies = trip.run(self.redis.as_ref()).await?;
        state.take(&mut replies)?;
        reset.map_or(Ok(()), |reset| reset.take(&mut replies))?;
        Ok(())
    }
}
