//! Who asks, and whether the gateway knows.

use adapters::http::entry;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The schedule of the stack.
    Schedule,
    /// Somebody whose signature or token the gateway has checked.
    Signed,
    /// Anybody.
    Anybody,
}

impl Caller {
    /// The gateway names the caller of a route that asks for a signature or a token. On any
    /// other route it checks none.
    pub(crate) fn of(request: &Request) -> Self {
        if entry::bearer(request).is_some() {
            return Self::Signed;
        }
        match request.request_context_ref() {
            Some(RequestContext::PassThrough) if entry::is_schedule(request) => Self::Schedule,
            Some(RequestContext::ApiGatewayV2(context))
                if context.authorizer.as_ref().is_some_and(|authorizer| authorizer.iam.is_some()) =>
            {
                Self::Signed
            }
            Some(_) | None => Self::Anybody,
        }
    }
}
