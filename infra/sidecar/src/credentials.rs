//! The credentials of the role that the sidecar runs under, which AWS gives to a
//! container (ECS, EKS Pod Identity) or to an instance (EC2). They expire. The clients
//! ask again before they do.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Asks the container's endpoint if `AWS_CONTAINER_CREDENTIALS_FULL_URI` or
/// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` names one, and the instance's otherwise.
/// Nothing is asked before the first call of AWS.
pub(crate) fn of_the_role() -> SharedCredentialsProvider {
    let container = EcsCredentialsProvider::builder().build();
    let instance = ImdsCredentialsProvider::builder().build();
    SharedCredentialsProvider::new(
        CredentialsProviderChain::first_try("container", container).or_else("instance", instance),
    )
}
