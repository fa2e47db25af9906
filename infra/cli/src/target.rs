//! Where the API of a stack is: what its CloudFormation outputs say.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_types::SdkConfig;
use url::Url;

use crate::failure::Failure;

/// A stack as CloudFormation describes it.
#[derive(Debug)]
pub(crate) struct Described {
    /// Such as `UPDATE_COMPLETE`.
    pub(crate) status: String,
    /// Its outputs by name.
    pub(crate) outputs: BTreeMap<String, String>,
}

/// Asks CloudFormation for a stack.
///
/// # Errors
/// When there is none of this name, or CloudFormation does not answer.
pub(crate) async fn describe(aws: &SdkConfig, name: &str) -> Result<Described, Failure> {
    let client = aws_sdk_cloudformation::Client::new(aws);
    let answer =
        client.describe_stacks().stack_name(name).send().await.map_err(|error| match error.as_service_error() {
            Some(refusal) => Failure::Refused(format!(
                "the stack {name:?} cannot be described: {}
  Check the name, the region and the account (`aws sts get-caller-identity`).",
                refusal.message().unwrap_or("no reason is given")
            )),
            None => Failure::Unreachable(format!("CloudFormation cannot be asked: {}", DisplayErrorContext(&error))),
        })?;
    let found = answer.stacks.into_iter().flatten().next();
    let stack = found.ok_or_else(|| Failure::Refused(format!("there is no stack {name:?} in this region")))?;
    let status = stack.stack_status.map(|status| status.as_str().to_owned()).unwrap_or_default();
    let outputs = stack.outputs.unwrap_or_default();
    let outputs = outputs.into_iter().filter_map(|output| Some((output.output_key?, output.output_value?)));
    Ok(Described { status, outputs: outputs.collect() })
}

/// The URL of the API of a stack.
///
/// # Errors
/// When it is no stack of Steadhook.
pub(crate) fn api_url(aws: &SdkConfig, name: &str, stack: &Described) -> Result<Url, Failure> {
    let output = |output: &str| {
        let none = || Failure::Refused(format!("the stack {name:?} has no output {output}: it is none of Steadhook's"));
        stack.outputs.get(output).ok_or_else(none)
    };
    let url = match aws.endpoint_url().map(Url::parse) {
        // A local AWS serves its APIs itself.
        Some(Ok(local)) => local.join(&format!("/_aws/execute-api/{}/$default", output("ApiId")?)),
        _ => Url::parse(output("ApiUrl")?),
    };
    url.map_err(|error| Failure::Refused(format!("the stack {name:?} names no URL: {error}")))
}
