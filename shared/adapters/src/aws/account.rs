//! What every AWS client needs: region, credentials, endpoint and short timeouts.
//! Lambda hands all of it over in the environment, so the SDK's search for it
//! (files, metadata services, SSO) is left out: it costs start-up time and size.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_types::SdkConfig;

use super::http_client::http_client;
use crate::clock::Clock;

/// How long a connection to AWS may take to be made.
const CONNECT: Duration = Duration::from_secs(1);

/// Where and as whom AWS is called.
#[derive(Clone)]
pub struct Account {
    /// The region's name.
    pub region: String,
    /// Who is calling.
    pub credentials: SharedCredentialsProvider,
    /// Another endpoint than the region's, for a local AWS.
    pub endpoint: Option<String>,
    /// Another one for DynamoDB alone.
    pub dynamodb_endpoint: Option<String>,
    /// Tells how long its clients were idle.
    pub clock: Clock,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("dynamodb_endpoint", &self.dynamodb_endpoint)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// What all clients share: two tries, within a time that leaves an invocation room
    /// to report.
    fn shared(&self) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(4))
            .build();
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(self.credentials.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts)
            .http_client(http_client(CONNECT, &self.clock));
        config.set_endpoint_url(self.endpoint.clone());
        config.build()
    }

    /// A client for SQS.
    pub(super) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.shared())
    }

    /// A client for DynamoDB.
    pub(super) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = self.shared().into_builder();
        if self.dynamodb_endpoint.is_some() {
            config.set_endpoint_url(self.dynamodb_endpoint.clone());
        }
        aws_sdk_dynamodb::Client::new(&config.build())
    }

    /// A client for EventBridge.
    pub(super) fn event_bridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.shared())
    }

    /// A client for Secrets Manager.
    pub(super) fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.shared())
    }
}
