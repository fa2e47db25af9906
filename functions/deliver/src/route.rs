//! Where a delivery goes: to the URL in its message, or to an endpoint as its card says.

use std::sync::Arc;

use adapters::receiver_client::{EndpointCall, ReadUrl, ReceiverCall};
use adapters::registry::EndpointKey;
use domain::delivery::{Delivery, EndpointTarget};
use domain::next_step::Retries;
use domain::rate::Rate;
use domain::retry::RetryPolicy;

use crate::cards::OpenCard;

/// Where a delivery goes.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// To the URL in its message.
    Direct,
    /// To an endpoint.
    Endpoint(Arc<OpenCard>),
}

/// The key of an endpoint's card.
pub(crate) fn key_of(target: &EndpointTarget) -> EndpointKey {
    EndpointKey { tenant: target.tenant.clone(), endpoint: target.endpoint.clone() }
}

impl Route {
    /// What is sent, to a URL that was read already if it could be.
    pub(crate) fn call<'a>(&'a self, delivery: &'a Delivery, read_url: Option<&'a ReadUrl>) -> ReceiverCall<'a> {
        let direct = ReceiverCall { read_url, ..ReceiverCall::direct(delivery) };
        match self {
            Self::Direct => direct,
            Self::Endpoint(card) => ReceiverCall {
                url: &card.url,
                headers: &card.opened.headers,
                endpoint: Some(EndpointCall { signer: &card.opened.signer, confidential: &card.opened.confidential }),
                ..direct
            },
        }
    }

    /// How many calls a second its endpoint takes.
    pub(crate) fn rate(&self) -> Option<Rate> {
        match self {
            Self::Direct => None,
            Self::Endpoint(card) => card.rate,
        }
    }

    /// The version of its endpoint's card.
    pub(crate) fn version(&self) -> Option<u64> {
        match self {
            Self::Direct => None,
            Self::Endpoint(card) => Some(card.version),
        }
    }

    /// When a failed call is repeated.
    pub(crate) fn retries<'a>(&'a self, delivery: &Delivery, policy: &'a RetryPolicy) -> Retries<'a> {
        match self {
            Self::Endpoint(_) if delivery.is_test() => Retries::Never,
            Self::Endpoint(card) => Retries::Schedule(&card.schedule),
            Self::Direct => Retries::Policy(policy),
        }
    }
}
