//! What every receiver protocol offers: one attempt at one delivery.

use async_trait::async_trait;
use domain::delivery::Delivery;
use domain::outcome::Attempted;

/// Makes attempts. A trait because the simulation scripts its receivers in
/// virtual time; everything else runs the real one.
#[async_trait]
pub trait ReceiverClient: Send + Sync {
    /// Posts one webhook and waits for its answer. Failure is a value.
    async fn post(&self, delivery: &Delivery) -> Attempted;
}
