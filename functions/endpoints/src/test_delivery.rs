//! `POST /tenants/{tenant}/endpoints/{endpoint}/test`: one delivery at once, which is never
//! retried.

use std::collections::BTreeMap;
use std::time::Duration;

use adapters::aws::sqs::{Outgoing, QueueName, SendError};
use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::random;
use adapters::registry::EndpointKey;
use adapters::telemetry::chain;
use bytes::Bytes;
use domain::delivery::{Delivery, EndpointTarget};
use domain::destination::Destination;
use domain::endpoint::Card;
use domain::endpoint_request::{self, Test};
use domain::fault::Fault;
use domain::identity::{body_hash, delivery_id, event_webhook_id};
use domain::message::Message;
use domain::names::ENDPOINT_ID_RANDOM;
use domain::time::Millis;
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};
use serde_json::json;
use url::Url;

use crate::Endpoints;
use crate::problems::unsealed;

/// How long a test may wait for its call. Nobody looks at a later one.
const DEADLINE: Duration = Duration::from_secs(3600);

impl Endpoints {
    /// Sends a test to an endpoint.
    pub(crate) async fn test(
        &self,
        key: &EndpointKey,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let raw = body::json(if body.is_empty() { b"{}" } else { body.as_ref() })?;
        let test = endpoint_request::test(raw).map_err(Problem::invalid)?;
        let bytes = test.payload.map_or(0, str::len);
        let most = self.rules.max_payload_bytes;
        if bytes > most {
            return Err(Problem::too_large(format!("The payload has {bytes} bytes; at most {most} are taken.")));
        }
        let card = self.card(key).await?;
        let random = random::alphanumeric(ENDPOINT_ID_RANDOM).map_err(|error| unsealed(error.into()))?;
        let event_id = format!("test_{random}");
        let delivery = delivery(&card, &test, &event_id, correlation_id, self.clock.now());
        self.queue_test(delivery.clone(), &key.tenant).await?;
        tracing::info!(webhook_id = %delivery.id, tenant = %key.tenant, correlation_id, "test accepted");
        let status_url = format!("/tenants/{}/events/{event_id}/deliveries/{}", key.tenant, key.endpoint);
        let body = json!({
            "delivery_id": delivery.id,
            "event_id": event_id,
            "webhook_id": event_webhook_id(&key.tenant, &event_id),
            "status_url": status_url,
        });
        Ok(answer::json(StatusCode::ACCEPTED, &body, correlation_id))
    }

    /// Gives the delivery to its queue, where tenants are equals.
    async fn queue_test(&self, delivery: Delivery, tenant: &str) -> Result<(), Problem> {
        let id = delivery.id.clone();
        let refused = || Problem::invalid(Fault::at("", "the queue does not take this test"));
        let failed = |error: &SendError| {
            tracing::error!(webhook_id = %id, code = error.code(), error = %chain(error), "a test is not queued");
        };
        let message = Message { delivery, ..Message::default() };
        let body = message.encode().map_err(|error| {
            failed(&SendError::refused(error));
            refused()
        })?;
        let messages = vec![Outgoing::new(body, tenant.to_owned(), 0)];
        match self.queue.send(QueueName::Delivery, messages).await.into_iter().next() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                failed(&error);
                Err(match error {
                    SendError::Refused(_) => refused(),
                    SendError::Unavailable(_) => Problem::unavailable("The queue did not confirm the test."),
                })
            }
            None => Err(Problem::unavailable("The test was not queued.")),
        }
    }
}

/// The test as a delivery.
fn delivery(card: &Card, test: &Test<'_>, event_id: &str, correlation_id: &str, now: Millis) -> Delivery {
    let usual = || json!({ "type": test.event_type, "endpoint_id": card.id, "sent_at": now.to_string() }).to_string();
    let payload = test.payload.map_or_else(usual, str::to_owned);
    let origin = Url::parse(&card.url).map(|url| Destination::of(&url).as_str().to_owned()).unwrap_or_default();
    Delivery {
        id: delivery_id(event_id, &card.id, None),
        body_hash: body_hash("", &payload, &BTreeMap::new(), Some(&test.event_type), None),
        endpoint: Some(EndpointTarget {
            tenant: card.tenant.clone(),
            endpoint: card.id.clone(),
            event_id: event_id.to_owned(),
            life: None,
            origin,
            is_test: true,
        }),
        payload: Bytes::from(payload),
        event_type: Some(test.event_type.clone()),
        correlation_id: correlation_id.to_owned(),
        accepted_at: now,
        deadline: now.after(DEADLINE),
        ..Delivery::default()
    }
}
