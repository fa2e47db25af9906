//! `POST /tenants/{tenant}/events/{event}/deliveries/{endpoint}/resend`: an event is sent to an
//! endpoint again, whatever became of it before, as a new life of its delivery.

use std::sync::Arc;

use adapters::aws::sqs::{Outgoing, QueueName, retry_group};
use adapters::http::answer::Problem;
use adapters::random;
use adapters::redis::marks;
use adapters::registry::{CardFound, EndpointKey, RegistryError};
use adapters::telemetry::chain;
use domain::endpoint::Card;
use domain::event::Event;
use domain::identity::event_record_id;
use domain::message::Message;
use domain::subscription::Subscription;
use domain::time::Millis;
use futures_util::future::join3;
use lambda_http::Body;
use serde_json::{Value, json};

use crate::Operate;
use crate::event_path::delivery_names;
use crate::history;
use crate::request;

/// The random characters of a life's name.
const LIFE_RANDOM: usize = 22;

impl Operate {
    /// Sends it again.
    pub(crate) async fn resend(
        &self,
        tenant: &str,
        event: &str,
        endpoint: &str,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Value, Problem> {
        let [tenant, event, endpoint] = delivery_names(tenant, event, endpoint)?;
        request::empty(body)?;
        if self.history_life.is_none() {
            let why = "This stack keeps no history (HistoryDays is 0), so there is nothing to send again.";
            return Err(Problem::conflict(why));
        }
        self.refuse_erasing(&tenant).await?;
        let (card, event) = self.to_send(&tenant, &event, &endpoint).await?;
        let life = random::alphanumeric(LIFE_RANDOM).map_err(|error| {
            tracing::error!(error = %chain(&error), "a resend has no name");
            Problem::unavailable("It was not sent again. Try again.")
        })?;
        let life = format!("r{life}");
        let message = Subscription::of(&card).life(&event, &life, self.clock.now());
        self.queue_life(&message).await?;
        let delivery_id = &message.delivery.id;
        tracing::warn!(
            webhook_id = %delivery_id,
            %tenant,
            correlation_id = %event.correlation_id,
            request = %correlation_id,
            "delivery sent again by hand"
        );
        let status_url = format!("/tenants/{tenant}/events/{}/deliveries/{endpoint}?life={life}", event.id);
        Ok(json!({
            "delivery_id": delivery_id,
            "life": life,
            "event_id": event.id,
            "endpoint_id": endpoint,
            "webhook_id": event.webhook_id(),
            "status_url": status_url,
        }))
    }

    /// The endpoint and the event, if it can be sent.
    async fn to_send(&self, tenant: &str, event: &str, endpoint: &str) -> Result<(Arc<Card>, Event), Problem> {
        // A tenant learns nothing of another's events and endpoints.
        let unknown = || Problem::not_found("There is no such event or endpoint, or the event is no longer kept.");
        let key = EndpointKey { tenant: tenant.to_owned(), endpoint: endpoint.to_owned() };
        let id = event_record_id(tenant, event);
        let (found, kept, erased) = join3(
            self.registry.card(&key),
            self.kept_event(tenant, event),
            marks::erased_at(&id).run(self.redis.as_ref()),
        )
        .await;
        let found = found.map_err(|error| registry_away(&error))?;
        let kept = kept.map_err(|error| history::unreadable(&error))?;
        let card = match found {
            CardFound::Card(card) => card,
            CardFound::Gone | CardFound::Erased | CardFound::Missing => return Err(unknown()),
            CardFound::Unreadable => {
                return Err(Problem::unavailable("The endpoint cannot be read now, so nothing was sent."));
            }
        };
        let kept = kept.ok_or_else(unknown)?;
        // Without Redis, whoever is to send it asks for the mark.
        let erased: Option<Millis> = erased.ok().flatten();
        match kept.event() {
            Some(event) if erased.is_none_or(|erased| event.accepted_at > erased) => Ok((card, event)),
            Some(_) | None => {
                Err(Problem::conflict("The payload of this event was erased, so it cannot be sent again."))
            }
        }
    }

    /// Gives the delivery to the queue of what is sent again.
    async fn queue_life(&self, message: &Message) -> Result<(), Problem> {
        let away = || Problem::unavailable("The queue did not confirm the delivery. It may be sent all the same.");
        let delivery_id = &message.delivery.id;
        let body = message.encode().map_err(|error| {
            tracing::error!(webhook_id = %delivery_id, error = %chain(&error), "a resend cannot be written as a message");
            away()
        })?;
        let messages = vec![Outgoing::new(body, retry_group(&message.delivery), 0)];
        match self.queue.send(QueueName::Retry, messages).await.into_iter().next() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                tracing::error!(webhook_id = %delivery_id, code = error.code(), error = %chain(&error), "a resend is not queued");
                Err(away())
            }
            None => Err(away()),
        }
    }
}

fn registry_away(error: &RegistryError) -> Problem {
    tracing::error!(code = error.code(), error = %chain(error), "the registry cannot be read");
    Problem::unavailable("The endpoint cannot be read now, so nothing was sent.")
}
