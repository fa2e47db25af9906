//! A bus of EventBridge.

use async_trait::async_trait;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use super::account::Account;
use crate::notify_bus::{Announcement, Bus, BusError};

/// The source of our events, by which rules find them.
const SOURCE: &str = "steadhook";

/// The real bus.
#[derive(Clone, Debug)]
pub struct EventBus {
    client: aws_sdk_eventbridge::Client,
    name: String,
}

impl EventBus {
    /// The bus `name`.
    pub fn new(account: &Account, name: String) -> Self {
        Self { client: account.event_bridge(), name }
    }
}

#[async_trait]
impl Bus for EventBus {
    async fn announce(&self, announcement: &Announcement) -> Result<(), BusError> {
        let Announcement { event_type, payload, at } = announcement;
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(event_type)
            .detail(payload)
            .time(DateTime::from_millis(i64::try_from(at.0).unwrap_or(i64::MAX)))
            .build();
        let answer = self.client.put_events().entries(entry).send().await.map_err(BusError::because)?;
        // A call succeeds although its entries fail.
        if answer.failed_entry_count() == 0 {
            return Ok(());
        }
        let failed = answer.entries().iter().find_map(|entry| Some((entry.error_code()?, entry.error_message())));
        let (code, message) = failed.unwrap_or(("an entry failed", None));
        Err(BusError::because(format!("{code} {}", message.unwrap_or_default())))
    }
}
